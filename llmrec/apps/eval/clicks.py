"""`llmrec eval` of clicks: a CTR model, or a pointwise run of a language model, next to the means of items and users."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.apps.eval.asked import Asked
from llmrec.apps.output import print_json
from llmrec.artifacts.run_folder import read_manifest
from llmrec.ctr.model import CARD, CtrModel
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError
from llmrec.evaluation.clicks import click_means, click_protocol, evaluate_clicks
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.results import ClickEvaluation
from llmrec.evaluation.runs import trained_on
from llmrec.evaluation.tasks import load_any_task
from llmrec.evaluation.verdicts import contests, label, notes, shared_metrics, verdicts
from llmrec.files import write_json
from llmrec.recommenders.pointwise import PointwiseRecommender

# What a task and a run must agree on, so that no asked row was trained on.
_PROTOCOL = ("split", "shares", "labels", "train_until", "valid_until")


def evaluate_clicks_of(asked: Asked) -> None:
    """Scores every click example of the subset once; prints a table or one JSON object, and writes that to `out`.

    Raises ConfigError where the run answers no clicks, or was trained on other examples than the task's.
    """
    if (
        len(asked.runs) != 1 or asked.against or asked.with_baselines or asked.max_users or asked.exclude_seen is not None
        or asked.fit or asked.both_ties
    ):  # fmt: skip
        raise ConfigError(
            f"the task '{asked.task}' asks one run about clicks, always next to means of items and users: leave out --baseline, "
            "--against, --both-ties, --with-baselines, --max-users, --fit, --exclude-seen and --include-seen, and name one RUN."
        )
    run, task, subset, out = asked.runs[0], load_any_task(asked.task), asked.subset, asked.out
    if subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{subset}'.")
    if out is not None and out.suffix != ".json":
        raise ConfigError(f"a report of clicks is a .json file, but --out is '{out}'.")
    is_ctr_model = (run / CARD).is_file()
    if is_ctr_model:
        model, card = CtrModel.load(run)
        folder = asked.data or Path(card["data"])
    else:
        trained = read_manifest(run)["protocol"]
        if trained.get("objective") != "pointwise":
            raise ConfigError(
                f"'{run}' ranks items and says of none whether it is liked, so the task '{task.name}' has nothing to ask it. Name a "
                "CTR model, a run of soft_tokens with objective=pointwise, or a task of another kind."
            )
        card, folder = trained, asked.data or trained_on(run)
    loaded = load_data(folder)
    split = task.make(loaded)
    _check_rows(run, card.get("split") or {}, split)
    if is_ctr_model:
        rows = getattr(split, subset)
        name, scores = card["model"], model.score_rows(rows)
        if model.inputs.num_items != loaded.catalog.num_items:
            raise ConfigError(
                f"'{run}' knows {model.inputs.num_items} items, but '{folder}' has {loaded.catalog.num_items}. Name its own folder."
            )
    else:
        ranker = asked.decoder.open(run)
        assert isinstance(ranker, PointwiseRecommender), type(ranker)
        rows = getattr(split, subset)
        name, card, scores = ranker.name, ranker.card, ranker.score_rows(rows)
    protocol = click_protocol(loaded, task, split, subset, rows)
    evaluation = evaluate_clicks(name, card, scores, rows, protocol, task)
    means = click_means(split, rows, protocol, task, loaded.catalog.num_items)
    value = _as_json(evaluation, means)
    if asked.as_json:
        print_json(value)
    else:
        _print_table(evaluation, means)
    if out is not None:
        write_json(out, value)


def _check_rows(run: Path, trained: dict, split: ClickSplit) -> None:
    different = [key for key in _PROTOCOL if trained.get(key) != split.card.get(key)]
    if different:
        shown = "; ".join(f"{key} {trained.get(key)} and {split.card.get(key)}" for key in different[:2])
        raise ConfigError(
            f"'{run}' was trained on other examples than the task divides ({shown}), so that it may have learned the answers. Name the "
            "data folder and a task of the run's own protocol."
        )


def _as_json(evaluation: ClickEvaluation, means: list[ClickEvaluation]) -> dict:
    pairs = contests([evaluation, *means], shared_metrics([evaluation, *means]))
    return {
        **evaluation.to_json(),
        "baselines": {each.protocol["recommender"]["name"]: each.to_json() for each in means},
        "notes": notes(evaluation),
        "differences": [difference.to_json() for pair in pairs for difference in pair],
    }


def _print_table(evaluation: ClickEvaluation, means: list[ClickEvaluation]) -> None:
    console, protocol = Console(highlight=False), evaluation.protocol
    caption = (
        f"{protocol['task']['name']}, {protocol['num_rows']:,} {protocol['subset']} examples of {protocol['num_users']:,} users "
        f"(GAUC: of {protocol['gauc_users']:,} who have both answers); {100 * protocol['interval']['level']:g} % intervals over users"
    )
    table = Table(caption=Text(caption), caption_justify="left")
    table.add_column("")
    for metric in evaluation.metrics:
        table.add_column(label(metric), justify="right")
    for each in (evaluation, *means):
        cells = []
        for result in each.metrics.values():
            value = "none" if result["value"] is None else f"{result['value']:.4f}"
            cells.append(value if result["low"] is None else f"{value}\n{result['low']:.4f}-{result['high']:.4f}")
        table.add_row(Text(name_in_words(each.protocol["recommender"])), *cells)
    console.print(table)
    for line in (*notes(evaluation), *verdicts([evaluation, *means])):
        console.print(line, markup=False, soft_wrap=True)
