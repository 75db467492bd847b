"""Baselines of clicks by their names: those that count, and CTR models, which are trained by the task's examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrec.baselines.click_means import CLICK_BASELINES, make_click_baseline
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.errors import ConfigError
from llmrec.evaluation.cost import Cost
from llmrec.recommenders.clicks import ClickScorer


def click_baselines(
    name: str, settings: Sequence[str], data: Data, split: ClickSplit, *, seeds: Sequence[int] = (), refit: bool = False
) -> list[tuple[ClickScorer, Cost]]:
    """The scorer of this name, one a seed, and what is known of its cost. settings: "key=value", such as "inputs=id,text".

    Raises ConfigError for a name that there is not, a setting that it does not have, and seeds or a refit of what only counts.
    """
    if name in CLICK_BASELINES:
        if seeds or refit:
            raise ConfigError(f"'{name}' counts: it has no seeds and no refit. Leave them out.")
        return [(make_click_baseline(name, settings).fit(split), Cost())]
    from llmrec.ctr.from_task import CTR_NAMES, ctr_settings, train_ctr_from_task  # brings torch with it

    if name not in CTR_NAMES:
        names = ", ".join((*CLICK_BASELINES, *CTR_NAMES))
        raise ConfigError(f"there is no baseline of clicks '{name}' (there are: {names}).")
    more = ["refit=true"] if refit else []
    chosen = [ctr_settings(name, [*settings, *more, *of_seed]) for of_seed in _of_seeds(seeds)]
    models: list[Any] = [train_ctr_from_task(data, split, each) for each in chosen]
    return [(model, Cost(training_cpu_minutes=model.fit_cpu_minutes)) for model in models]


def _of_seeds(seeds: Sequence[int]) -> list[list[str]]:
    return [[f"seed={seed}"] for seed in seeds] or [[]]
