"""Baselines are tuned on validation with a budget that is told: random search over `search_spaces`, the defaults first.

Every trial learns from the training events or examples alone and is measured on validation; the test is not looked at. No trial is cut
short but by its model's own patience.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec import metrics
from llmrec.baselines.baseline import fitted_on
from llmrec.baselines.by_name import NAMES, baseline_type, make_baseline
from llmrec.baselines.click_means import CLICK_BASELINES, make_click_baseline
from llmrec.config import Settings
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.search_spaces import SPACES, Space
from llmrec.evaluation.tasks import ClicksTask, Task
from llmrec.files import content_hash, read_json, write_json
from llmrec.recommenders.clicks import ClickScorer

TRIALS = 8
_VERSION = 1  # rises whenever a trial would come to another value
Measure = Callable[[list[str], Path | None], float]  # settings as overrides, where a training is kept -> the metric


@dataclass(frozen=True)
class Trial:
    """One setting that was tried. settings: what differs from the defaults; value: of the metric on validation, None where it failed;
    failure: why; cpu_minutes: process time of learning and measuring, over all threads."""

    settings: dict[str, Any]
    value: float | None
    cpu_minutes: float
    failure: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a search found. given: settings that were fixed by the caller; num_users: validation instances that a value is the mean of,
    None where it is of all examples; trials: in their order, the defaults first."""

    name: str
    metric: str
    seed: int
    given: tuple[str, ...]
    num_users: int | None
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The highest value, the first of equal ones."""
        return max((trial for trial in self.trials if trial.value is not None), key=lambda trial: trial.value)

    @property
    def overrides(self) -> list[str]:
        """The best settings with the given ones, such as "recency=0.6": for `make_baseline` or `ctr_settings`."""
        return [*self.given, *_as_overrides(self.best.settings)]

    @property
    def cpu_minutes(self) -> float:
        """Of all trials together."""
        return sum(trial.cpu_minutes for trial in self.trials)

    @property
    def card(self) -> dict[str, Any]:
        """JSON values, for the card of whoever is made of it; what it cost stands in `cost`."""
        trials = [
            {name: value for name, value in asdict(trial).items() if name != "cpu_minutes"} for trial in self.trials
        ]
        found = {"metric": self.metric, "seed": self.seed, "given": list(self.given), "num_users": self.num_users}
        return {**found, "num_trials": len(trials), "best": self.best.settings, "trials": trials}

    @property
    def cost(self) -> dict[str, float | list[float]]:
        """CPU minutes of the search, and of each trial."""
        return {"cpu_minutes": self.cpu_minutes, "of_trials": [trial.cpu_minutes for trial in self.trials]}

    @property
    def sentence(self) -> str:
        """One line for people."""
        tried, best = len(self.trials), ", ".join(_as_overrides(self.best.settings)) or "the defaults"
        return (
            f"{self.name}: {tried} setting{'s' if tried > 1 else ''} tried, {self.cpu_minutes:.1f} CPU minutes, best {best} "
            f"(validation {self.metric} {self.best.value:.4f})"
        )


def tuned_baseline(
    name: str,
    split: Split | ClickSplit,
    task: Task,
    data: Data,
    *,
    trials: int = TRIALS,
    seed: int = 0,
    given: Sequence[str] = (),
    max_users: int = 5000,
    folder: Path | None = None,
) -> Tuned:
    """Tries `trials` settings of a baseline, or on a click task of a CTR model, and says which is best on validation.

    The first trial is of the defaults; the others are drawn without repetition by `seed` from the model's space, and are fewer where it
    holds fewer. What is best is known by NDCG@10 of the first `max_users` validation instances, or by the AUC of the validation
    examples. given: settings that are not searched, such as "inputs=id,text". folder: finished trials lie there and are not computed
    again, and a killed one goes on; None: nowhere. One line a trial goes to standard error.

    Raises:
        ConfigError: no such model, a setting that it does not have, or a budget below 1.
        ModelError: every trial failed; the first's sentence.
    """
    if trials < 1:
        raise ConfigError(f"a budget of trials is 1 or more, but it is {trials}.")
    if name not in SPACES:
        raise ConfigError(
            f"there is nothing to tune of '{name}' (there is of: {', '.join(n for n in SPACES if SPACES[n])})."
        )
    fixed = {override.partition("=")[0] for override in given}
    space = {key: values for key, values in SPACES[name].items() if key not in fixed}
    if isinstance(split, ClickSplit):
        assert isinstance(task, ClicksTask), task.kind
        measure, metric, num_users = _click_measure(name, split, data), "AUC", None
        rows = [(part.users, part.items, part.labels, part.histories) for part in (split.train, split.valid)]
    else:
        measure, metric = _ranking_measure(name, split, task, data, max_users), "NDCG@10"
        num_users = min(max_users, len(split.valid))
        rows = [(split.train.indptr, split.train.items, split.valid.users, split.valid.targets)]
    search = (_VERSION, name, metric, num_users, task.model_dump_json(), data.content_hash())
    of_search = content_hash(str(search), *(array for part in rows for array in part))
    found, drawn = [], _drawn(_defaults(name, space), space, trials, seed)
    for number, settings in enumerate(drawn, 1):
        overrides = [*given, *_as_overrides(settings)]
        path = folder and folder / f"{content_hash(of_search, str(sorted(overrides)))}.json"
        if path is not None and path.is_file():
            trial = Trial(**read_json(path, "a finished trial"))
        else:
            trial = _tried(measure, settings, overrides, path and path.with_suffix(""))
            if path is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(path, asdict(trial))
        found.append(trial)
        shown = trial.failure or f"validation {metric} {trial.value:.4f}"
        of = f"{number}/{len(drawn)}"
        what = ", ".join(_as_overrides(settings)) or "the defaults"
        print(f"[{of}] {name}, {what}: {shown} ({trial.cpu_minutes:.1f} CPU minutes)", file=sys.stderr)
    if all(trial.value is None for trial in found):
        raise ModelError(f"no setting of {name} that was tried can be used; the first: {found[0].failure}")
    return Tuned(name, metric, seed, tuple(given), num_users, tuple(found))


def _tried(measure: Measure, settings: dict[str, Any], overrides: list[str], training: Path | None) -> Trial:
    began, value, failure = time.process_time(), None, ""
    try:
        value = measure(overrides, training)
    except ModelError as error:  # diverged, or larger than the memory: the others may do
        failure = str(error)
    return Trial(settings, value, (time.process_time() - began) / 60, failure)


def _ranking_measure(name: str, split: Split, task: Task, data: Data, max_users: int) -> Measure:
    monitored = task.model_copy(update={"fit": "train", "metrics": ("ndcg",), "ks": (10,)})

    def measure(overrides: list[str], training: Path | None) -> float:
        fitted = fitted_on(make_baseline(name, overrides, data.catalog), split, "train", folder=training)
        found = evaluate(fitted, data, monitored, "valid", split=split, max_instances=max_users)
        return found.metrics["ndcg@10"]["value"]

    return measure


def _click_measure(name: str, split: ClickSplit, data: Data) -> Measure:
    if name in CLICK_BASELINES:

        def fitted(overrides: list[str], training: Path | None) -> ClickScorer:
            return make_click_baseline(name, overrides).fit(split)

    else:
        from llmrec.ctr.from_task import CTR_NAMES, ctr_settings, train_ctr_from_task  # brings torch with it

        if name not in CTR_NAMES:
            raise ConfigError(f"'{name}' answers no clicks (these do: {', '.join([*CLICK_BASELINES, *CTR_NAMES])}).")

        def fitted(overrides: list[str], training: Path | None) -> ClickScorer:
            # no refit, or validation would ask what was learned
            settings = ctr_settings(name, overrides).model_copy(update={"refit": False})
            return train_ctr_from_task(data, split, settings, folder=training)

    def measure(overrides: list[str], training: Path | None) -> float:
        return metrics.auc(split.valid.labels, fitted(overrides, training).score_rows(split.valid))

    return measure


def _defaults(name: str, space: Space) -> dict[str, Any]:
    """The default of every setting that is searched."""
    if not space:
        return {}
    fields = settings_model(name).model_fields
    return {key: fields[key].default for key in space}


def settings_model(name: str) -> type[Settings]:
    """The settings of what can be tuned, by its name."""
    if name in NAMES:
        return baseline_type(name).Settings
    if name in CLICK_BASELINES:
        return CLICK_BASELINES[name].Settings
    from llmrec.ctr.from_task import CtrTaskSettings

    return CtrTaskSettings


def _size(space: Space) -> int:
    return math.prod(len(values) for values in space.values())


def _drawn(defaults: Mapping[str, Any], space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    """What differs from the defaults in each trial: {} first, then others, no two alike."""
    keys, shape = list(space), [len(values) for values in space.values()]
    order = np.random.default_rng(seed).permutation(_size(space))
    drawn: list[dict[str, Any]] = [{}]
    for place in order:
        if len(drawn) == trials:
            break
        chosen = {key: space[key][int(at)] for key, at in zip(keys, np.unravel_index(place, shape), strict=True)}
        differ = {key: value for key, value in chosen.items() if value != defaults[key]}
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in differ.items()}
        if settings:
            drawn.append(settings)
    return drawn


def _as_overrides(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]
