"""Results on disk with what a paired test needs: the values of every user, or the score of every row, next to the JSON file.

RESULTS.json           what people and programs read: "evaluations" with protocol, metrics, slices (`report.to_json`)
RESULTS.users.parquet  one line a user (of clicks, a row) and evaluation; runs that differ in their seed each by itself

| column | of | |
|---|---|---|
| part | both | which of the parts that the file's metadata lists |
| user | both | dense user |
| metric:NAME | a ranking | the user's value |
| item, label, score | clicks | the row |
| slice:NAME | both | whether the user or row is in the slice |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import DataError
from llmrec.evaluation.click_figures import figures_of
from llmrec.evaluation.cost import Cost
from llmrec.evaluation.results import ClickEvaluation, Evaluation, Result, ScoredRows, interval_of
from llmrec.evaluation.seeds import over_seeds
from llmrec.files import content_hash, read_json, write_arrow, write_json

_VERSION = 1
_META = b"llmrec"
_METRIC, _SLICE = "metric:", "slice:"


def users_path(path: Path) -> Path:
    """RESULTS.users.parquet of RESULTS.json."""
    return path.with_suffix(".users.parquet")


def save_results(path: Path, value: dict[str, Any], evaluations: Sequence[Result]) -> None:
    """Writes both files, each whole or not at all. value: what the JSON file holds, its "evaluations" those of `evaluations`, in order.

    The parquet file comes first and carries a digest of the JSON's numbers, so that no reader takes one for another's.
    """
    parts = [
        (number, seed, part)
        for number, evaluation in enumerate(evaluations)
        for seed, part in (enumerate(evaluation.of_seeds) if evaluation.of_seeds else [(None, evaluation)])
    ]
    facts = {
        "version": _VERSION,
        "digest": _digest([each.to_json() for each in evaluations]),
        "names": [each.given_name for each in evaluations],
        "parts": [
            {**part.to_json(), "kind": part.kind, "evaluation": number, "seed": _seed(evaluations[number], seed)}
            for number, seed, part in parts
        ],
    }
    tables = [_table_of(place, part) for place, (*_, part) in enumerate(parts)]
    table = pa.concat_tables(tables, promote_options="default")
    write_arrow(users_path(path), table.replace_schema_metadata({_META: json.dumps(facts, allow_nan=False)}))
    write_json(path, value)


def load_results(path: Path) -> list[Result]:
    """What `save_results` wrote, in its order; of several seeds their mean, made anew.

    Raises DataError where there are no values of users beside the file, or those of another file.
    """
    found = read_json(path, "results of an evaluation", DataError).get("evaluations")
    again = f"write it again: llmrec eval ... --out {path}"
    if not isinstance(found, list):
        raise DataError(f"'{path}' holds no evaluations: {again}")
    values = users_path(path)
    if not values.is_file():
        raise DataError(
            f"'{path}' has no values of users beside it ('{values.name}'), which a paired test needs: {again}"
        )
    try:
        table = pq.read_table(values)
        facts = json.loads((table.schema.metadata or {})[_META])
        if facts["version"] != _VERSION or facts["digest"] != _digest(found):
            raise DataError(f"'{values}' belongs to other results than '{path}': {again}")
        parts = [_part_of(table.filter(pa.compute.equal(table["part"], place)), part)
                 for place, part in enumerate(facts["parts"])]  # fmt: skip
        return [
            _joined(
                [
                    (part["seed"], one)
                    for part, one in zip(facts["parts"], parts, strict=True)
                    if part["evaluation"] == number
                ],
                name,
            )
            for number, name in enumerate(facts["names"])
        ]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise DataError(f"'{values}' cannot be read ({first}): {again}") from problem


def _seed(evaluation: Result, place: int | None) -> int | None:
    return None if place is None else evaluation.protocol["recommender"]["seeds"][place]


def _digest(evaluations: Sequence[dict[str, Any]]) -> str:
    return content_hash(json.dumps([[each["protocol"], each["metrics"]] for each in evaluations], sort_keys=True))


def _table_of(place: int, part: Result) -> pa.Table:
    if isinstance(part, ClickEvaluation):
        assert part.rows is not None, "only a mean over seeds has no rows"
        rows = part.rows
        columns = {
            "user": rows.users,
            "item": rows.items,
            "label": rows.labels,
            "score": rows.scores.astype(np.float64),
        }
    else:
        columns = {"user": part.users, **{_METRIC + name: values for name, values in part.per_user.items()}}
    columns |= {_SLICE + name: mask for name, mask in part.masks.items()}
    num_rows = len(columns["user"])
    return pa.table({"part": np.full(num_rows, place, np.int32), **columns})


def _part_of(table: pa.Table, facts: dict[str, Any]) -> Result:
    protocol, metrics, slices = (facts[name] for name in ("protocol", "metrics", "slices"))
    columns = {name: table[name].to_numpy() for name in table.column_names if not table[name].null_count}
    masks = {
        name.removeprefix(_SLICE): values.astype(bool) for name, values in columns.items() if name.startswith(_SLICE)
    }
    cost = Cost.from_json(facts["cost"]) if "cost" in facts else None
    common = {"kind": facts["kind"], "masks": masks, "cost": cost}
    if "score" in columns:
        rows = ScoredRows(columns["user"], columns["item"], columns["label"].astype(bool), columns["score"])
        resamples = figures_of(rows, list(metrics), interval_of(protocol)).resamples
        return replace(ClickEvaluation(protocol, metrics, resamples, slices, rows), **common)
    per_user = {name.removeprefix(_METRIC): values for name, values in columns.items() if name.startswith(_METRIC)}
    return replace(Evaluation(protocol, metrics, slices, columns["user"], per_user), **common)


def _joined(parts: list[tuple[int | None, Result]], given_name: str) -> Result:
    seeds, evaluations = zip(*parts, strict=True)
    return replace(over_seeds(evaluations, seeds), given_name=given_name)
