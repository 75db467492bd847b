"""Making a stack: runs and baselines as parts, weights learned on validation, one run folder. Fitted baselines are kept on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from llmrec.artifacts.run_folder import MODEL_FOLDER, find_model, read_manifest
from llmrec.artifacts.stacked_run import PARTS, StackedRun, part_of_run, save_stacked
from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import baseline_type, make_baseline
from llmrec.baselines.ease_r import EaseR
from llmrec.baselines.kept import BASELINE, load_baseline, save_baseline
from llmrec.config import CONFIG, Seed, Settings, load_config, save_config
from llmrec.data.folder import Data, load_data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.cost import ESTIMATE, training_cost
from llmrec.evaluation.progress import batches
from llmrec.evaluation.runs import check_belongs, trained_on
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_json
from llmrec.recommenders.requests import Ranker
from llmrec.recommenders.stack_weights import StackWeights
from llmrec.recommenders.stacked import Part, Stacked


class StackSettings(Settings):
    """What a stack is made of, and how its weights are learned."""

    data: str
    output: str
    task: str = "leave_one_out"
    fit: str = "train"
    runs: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    ease_r_neighbours: int = Field(200, ge=1)  # weights that EASE-R keeps of each item
    weights_of: str | None = None  # a stack of the same parts, whose weights are taken
    max_users: int = Field(50_000, ge=5)  # validation users that weights are learned from, the first ones
    folds: int = Field(5, ge=2)  # of cross-fitting
    seed: Seed = 0


def stack_settings(
    runs: Sequence[Path],
    baselines: Sequence[str],
    *,
    data: Path | None,
    output: Path,
    weights_of: Path | None,
    **more: Any,
) -> StackSettings:
    """Settings that fit together; what a stack of other weights says is taken from it.

    Raises ConfigError for runs that learned from different events, or from validation without `weights_of`; no part; no data folder.
    """
    fits = {str(run): read_manifest(run)["protocol"].get("fit") for run in runs}
    if len(set(fits.values())) > 1:
        raise ConfigError(f"the parts of a stack learn from the same events, but these runs differ: {fits}.")
    if weights_of is not None:
        of = load_config(StackSettings, weights_of / CONFIG)
        if len(of.runs) != len(runs) or baselines:
            raise ConfigError(
                f"'{weights_of}' is a stack of {len(of.runs)} runs and {', '.join(of.baselines) or 'no baselines'}: name as many "
                "runs, in that order, and no baselines: they are the same."
            )
        baselines, data = of.baselines, data or Path(of.data)
        more |= {"task": of.task, "ease_r_neighbours": of.ease_r_neighbours}
    if not runs and not baselines:
        raise ConfigError("a stack needs parts: name runs, or --baselines ease_r,markov,text_neighbours, or both.")
    for name in baselines:
        if baseline_type(name).arrays is Baseline.arrays:
            raise ConfigError(
                f"'{name}' cannot be kept as a part; those that can: popularity, markov, ease_r, item_knn, text_neighbours, and runs "
                "of any recipe that ranks items."
            )
    if data is None and not runs:
        raise ConfigError("baselines need the data to learn from: --data DIR.")
    fit = next(iter(fits.values()), "train" if weights_of is None else "train+valid")
    if fit == "train+valid" and weights_of is None:
        raise ConfigError(
            "these runs have learned from the validation users' targets, so weights cannot be learned on them. Stack the runs that "
            "learned from train alone first, then these with --weights-of that stack."
        )
    return StackSettings(
        data=str(data or trained_on(runs[0])), output=str(output), fit=fit, runs=tuple(map(str, runs)),
        baselines=tuple(baselines), weights_of=None if weights_of is None else str(weights_of), **more,
    )  # fmt: skip


def build_stack(
    settings: StackSettings, open_run: Callable[[Path], Ranker], say: Callable[[str], None] = lambda line: None
) -> Stacked:
    """The stack, saved in the run folder; baselines that an earlier, killed attempt has fitted there are not fitted again.

    open_run: the ranker of a run folder; say: what is done, for people. Raises ConfigError for another stack in the folder, and for
    runs of other data; what the baselines raise.
    """
    output = Path(settings.output)
    _check_same(settings, output)
    data, task = load_data(settings.data), load_task(settings.task)
    split = task.make(data)
    names = _names(settings)
    for run in settings.runs:
        check_belongs(read_manifest(run), data, split)
    output.mkdir(parents=True, exist_ok=True)
    save_config(settings, output / CONFIG)
    folders = dict(zip(names, map(find_model, settings.runs), strict=False))
    parts = [part_of_run(name, folder, open_run(folder)) for name, folder in folders.items()]
    for name in names[len(parts) :]:
        folders[name] = output / PARTS / name
        baseline = _fitted(name, folders[name], settings, data, split, say)
        parts.append(Part(name, baseline, baseline.by_events))
    weights = _weights_of(settings, names)
    stack = Stacked(parts, split.fitted(settings.fit).counts(), weights)
    began = time.process_time()
    if weights is None:
        asked = split.valid.take(np.arange(min(settings.max_users, len(split.valid))))
        stack.fit_weights(
            asked, exclude_seen=task.exclude_seen, folds=settings.folds, seed=settings.seed, batches=batches
        )
    minutes = (time.process_time() - began) / 60
    known = {name: data.card.get(name) for name in ("content_hash", "ties")}
    facts = {"data": data.card.get("name"), **known, "split": split.card, "fit": settings.fit, "seed": settings.seed}
    save_stacked(output / MODEL_FOLDER, StackedRun(stack, data.catalog), folders, facts)
    _write_cost(settings, parts, output, minutes)
    shutil.rmtree(output / PARTS, ignore_errors=True)
    return stack


def _check_same(settings: StackSettings, output: Path) -> None:
    """Raises ConfigError where the folder holds another stack, or a run."""
    if not (output / CONFIG).is_file():
        return
    then = load_config(StackSettings, output / CONFIG)
    different = [key for key, value in settings if getattr(then, key) != value and key != "output"]
    if different:
        raise ConfigError(
            f"'{output}' holds a stack with other settings ({', '.join(different)}). Give those, or another --out."
        )


def _names(settings: StackSettings) -> list[str]:
    """Of runs what their folders are called, or what they are in the stack whose weights are taken; of baselines their names."""
    of_runs = [Path(run).resolve().name for run in settings.runs]
    if settings.weights_of is not None:
        of_runs = list(read_manifest(settings.weights_of)["parts"])[: len(of_runs)]
    names = [*of_runs, *settings.baselines]
    if len(set(names)) < len(names):
        raise ConfigError(f"the parts of a stack need different names, but they are {', '.join(names)}. Rename a run.")
    return names


def _weights_of(settings: StackSettings, names: Sequence[str]) -> StackWeights | None:
    if settings.weights_of is None:
        return None
    weights = StackWeights.from_json(read_manifest(settings.weights_of)["stack_weights"])
    assert weights.names == tuple(names), f"weights of {weights.names} for {names}"
    return replace(weights, facts={**weights.facts, "weights_of": settings.weights_of})


def _fitted(
    name: str, folder: Path, settings: StackSettings, data: Data, split: Split, say: Callable[[str], None]
) -> Baseline:
    """The baseline, from its folder where it lies there."""
    if (folder / BASELINE).is_file():
        say(f"{name}: fitted before")
        return load_baseline(folder)
    say(f"fitting {name} ...")
    baseline = make_baseline(name, (), data.catalog).fitted(split.fitted(settings.fit))
    if isinstance(baseline, EaseR):
        baseline = baseline.thinned(settings.ease_r_neighbours)
    save_baseline(folder, baseline)
    return baseline


def _write_cost(settings: StackSettings, parts: Sequence[Part], output: Path, of_weights: float) -> None:
    """CPU minutes of all parts and of the weights, for `training_cost`, where all are known."""
    of_runs = [training_cost(Path(run)).training_cpu_minutes for run in settings.runs]
    of_baselines = [part.ranker.fit_cpu_minutes for part in parts if isinstance(part.ranker, Baseline)]
    minutes = dict(zip((part.name for part in parts), [*of_runs, *of_baselines], strict=True)) | {"weights": of_weights}
    if None not in minutes.values():
        measured = {"cpu_seconds": 60 * sum(minutes.values()), "cpu_minutes": minutes}
        write_json(output / ESTIMATE, {"measured": measured})
