"""A table of CTR models: variants (what an item is to a model) x models x seeds, resumed by cell, with intervals over users.

FOLDER/cells.jsonl    one line per finished cell: key, variant, model, seed, seconds, valid, test
FOLDER/scores/KEY.npy its test scores, float32 (N,), from which intervals and paired differences are computed
FOLDER/models/VARIANT/MODEL the model of the first seed, ready to score (`llmrec eval`)
FOLDER/training-KEY   a cell that is being trained, so that a killed one goes on from its last validation

Started in several processes, all of them train every cell together, and the main one writes.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from accelerate import PartialState

from llmrec.baselines.click_means import CLICK_MEANS, mean_scores
from llmrec.ctr.model import CtrSettings
from llmrec.ctr.training import train_ctr_model
from llmrec.data.click_examples import ClickExamples, ClickSplit
from llmrec.errors import ConfigError
from llmrec.files import atomic_file, content_hash, write_text
from llmrec.metrics import ctr_metrics
from llmrec.nn.ctr import ModelKind
from llmrec.nn.item_inputs import ItemMatrices, ItemPieces

CELLS = "cells.jsonl"
COUNTS = "counts"  # stands where a trained variant names its model
VERSION = 2  # rises whenever a cell would come to other numbers


@dataclass(frozen=True, eq=False)
class Variant:
    """What an item is to the model: its trained embedding, its word pieces, frozen matrices, or any of them together."""

    use_ids: bool
    item_inputs: ItemMatrices = field(default_factory=dict)
    pieces: ItemPieces | None = None

    def digest(self) -> str:
        """16 characters that depend on everything in it."""
        parts = [part for name, pair in self.item_inputs.items() for part in (name, *pair)]
        parts += [] if self.pieces is None else [self.pieces.rows]
        return content_hash(str(self.use_ids), *parts)


def run_ctr_grid(
    split: ClickSplit,
    num_items: int,
    variants: Mapping[str, Variant],
    *,
    models: Sequence[ModelKind],
    seeds: Sequence[int],
    settings: CtrSettings,
    folder: str | Path,
    facts: Mapping[str, object] | None = None,
    fresh: bool = False,
) -> list[dict]:
    """Train and score every cell that FOLDER does not hold yet, the means of items and users first. fresh: what it holds is forgotten.

    A cell is known by a digest of examples, inputs, settings and seed: after any of them has changed it is computed anew. Progress goes
    to standard error. facts: of the data, for the cards of the models that are kept. Returns the lines of this grid, in its order.
    """
    if taken := set(CLICK_MEANS) & set(variants):
        raise ConfigError(f"the variant '{min(taken)}' is always in the table; give yours another name.")
    folder = Path(folder)
    processes = PartialState()
    if fresh and processes.is_main_process:
        (folder / CELLS).unlink(missing_ok=True)
        for half in folder.glob("training-*"):
            shutil.rmtree(half)
    with processes.main_process_first():  # it repairs what a killed run has left
        done = _read_cells(folder)
    rows = content_hash(*(part for some in (split.train, split.valid, split.test) for part in _arrays(some)))
    cells = [(variant, COUNTS, 0) for variant in CLICK_MEANS] + [
        (variant, model, seed) for seed in seeds for variant in variants for model in models
    ]  # seeds outermost: a table cut short still compares all variants
    digests = {name: variant.digest() for name, variant in variants.items()}
    lines = []
    for number, (variant, model, seed) in enumerate(cells, 1):
        of_model = "" if model == COUNTS else settings.model_copy(update={"model": model}).model_dump_json()
        key = content_hash(f"version {VERSION}", rows, variant, digests.get(variant, ""), of_model, str(seed))
        if key not in done:
            kept = folder / "models" / variant.replace("/", "_") / model if seed == seeds[0] else None
            card = {**(facts or {}), "model": model, "variant": variant, "seed": seed, "split": split.card}
            done[key] = _run_cell(split, num_items, variants, variant, model, seed, settings, folder, key, kept, card)
            test = done[key]["test"]
            if processes.is_main_process:
                print(
                    f"[{number}/{len(cells)}] {variant}, {model}, seed {seed}: test AUC {test['auc']:.4f}, "
                    f"GAUC {test['gauc']:.4f} ({done[key]['seconds']:.1f} s)",
                    file=sys.stderr,
                )
        lines.append(done[key])
    processes.wait_for_everyone()  # every cell is on disk
    return lines


def _run_cell(
    split: ClickSplit,
    num_items: int,
    variants: Mapping[str, Variant],
    variant: str,
    model: str,
    seed: int,
    settings: CtrSettings,
    folder: Path,
    key: str,
    kept: Path | None,
    card: dict,
) -> dict:
    """kept: where the model is kept, with its card; None: nowhere."""
    start = time.perf_counter()
    line = {"key": key, "variant": variant, "model": model, "seed": seed}
    is_main_process = PartialState().is_main_process
    if model == COUNTS:
        valid, test = (mean_scores(variant, split.train, rows, num_items) for rows in (split.valid, split.test))
    else:
        trained, history = train_ctr_model(
            split,
            num_items,
            variants[variant].item_inputs,
            use_ids=variants[variant].use_ids,
            pieces=variants[variant].pieces,
            settings=settings.model_copy(update={"model": model}),
            seed=seed,
            folder=folder / f"training-{key}",
        )
        valid, test = trained.score_rows(split.valid), trained.score_rows(split.test)
        if kept is not None and is_main_process:
            trained.save(kept, card)
        line |= {"validations": len(history), "parameters": sum(p.numel() for p in trained.parameters())}
    line |= {
        name: ctr_metrics(rows.labels, scores, rows.users)
        for name, rows, scores in (("valid", split.valid, valid), ("test", split.test, test))
    }
    line["seconds"] = round(time.perf_counter() - start, 2)
    if not is_main_process:
        return line
    with atomic_file(_scores(folder, key)) as temporary, temporary.open("wb") as file:
        np.save(file, test.astype(np.float32))
    with (folder / CELLS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return line


def cell_scores(folder: str | Path, line: dict) -> np.ndarray:
    """The test scores of a finished cell, as `run_ctr_grid` returns it: float32 (N,)."""
    return np.load(_scores(Path(folder), line["key"]))


def _scores(folder: Path, key: str) -> Path:
    return folder / "scores" / f"{key}.npy"


def _arrays(rows: ClickExamples) -> list[np.ndarray]:
    return [rows.users, rows.items, rows.labels, rows.histories, rows.answered, rows.liked]


def _read_cells(folder: Path) -> dict[str, dict]:
    """The finished cells by key; the half line of a killed run is cut off."""
    path = folder / CELLS
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    # until December 2026 a line called its variant "arm"
    lines = [
        {"variant" if name == "arm" else name: value for name, value in json.loads(line).items()}
        for line in whole.splitlines()
    ]
    return {line["key"]: line for line in lines if _scores(folder, line["key"]).exists()}
