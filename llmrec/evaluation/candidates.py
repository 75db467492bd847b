"""The target among a few sampled items: LLaRA's hit ratio.

A list of sampled items is easier than a catalogue, and another sample is another list, so this is reported next to the figures over
the whole catalogue, never instead of them.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from llmrec import metrics
from llmrec.config import Settings
from llmrec.data.splits import Instances, Split
from llmrec.errors import ConfigError
from llmrec.evaluation.progress import batches
from llmrec.evaluation.tasks import CandidatesTask
from llmrec.recommenders.requests import Ranker, Requests

BATCH = 32


class HitRatioSettings(Settings):
    """LLaRA's hit ratio in results.json."""

    num_candidates: int = Field(20, ge=2)  # of the hit ratio: the target and all others sampled
    max_test_users: int = Field(1000, ge=0)  # who are asked for it


def check_candidates(settings: HitRatioSettings, instances: Instances, num_items: int, *, seed: int) -> None:
    """Before a training that ends with the hit ratio: says how many users it will leave out.

    Raises ConfigError where no user has enough items left.
    """
    from accelerate import PartialState  # brings torch, which no other evaluation needs

    wanted, setting = settings.num_candidates, "next_item.num_candidates"
    asked = {"max_instances": settings.max_test_users, "seed": seed, "setting": setting}
    *_, left_out = sampled_lists(instances, num_items, wanted, **asked)
    if left_out:
        PartialState().print(
            f"{left_out} test users have had so many items that no {wanted} candidates can be sampled for them; the "
            f"hit ratio among candidates leaves them out (a smaller {setting} keeps them)"
        )


def sampled_candidates(
    instances: Instances,
    num_items: int,
    num_candidates: int,
    seed: int,
    *,
    counts: np.ndarray | None = None,
    setting: str = "num_candidates",
) -> tuple[np.ndarray, np.ndarray]:
    """int64 (C, K): the target first, then items sampled without replacement from those that are neither it nor in the history; and
    which instances these are, int64 (C,): without those of users who have had so many items that too few are left.

    counts: int (num_items,), each next item is sampled with a probability like its count, and never where that is 0; None: all alike.
    Raises ConfigError, which names the `setting`, where too few are left for all users.
    """
    rng = np.random.default_rng(seed)
    candidates, rows, most = [], [], 0
    for row in range(len(instances)):
        own = np.append(instances.histories[row], instances.targets[row])
        if counts is None:
            others = np.setdiff1d(np.arange(num_items), own)
        else:
            others = _by_chance(counts, own, rng)
        most = max(most, len(others))
        if len(others) >= num_candidates - 1:
            rows.append(row)
            chosen = (
                rng.choice(others, num_candidates - 1, replace=False)
                if counts is None
                else others[: num_candidates - 1]
            )
            candidates.append([instances.targets[row], *chosen])
    if len(instances) and not rows:
        raise ConfigError(
            f"a list of {num_candidates} candidates needs {num_candidates - 1} items that a user has not had, but of {num_items} no "
            f"user has more than {most} left; set {setting}={most + 1} or less."
        )
    return np.array(candidates, np.int64).reshape(-1, num_candidates), np.array(rows, np.int64)


def _by_chance(counts: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The items that have a count and are not the user's own, each next one with a probability like its count among those left.

    An exponential variable over the count is the moment at which an item comes (Efraimidis and Spirakis 2006).
    """
    weights = counts.astype(np.float64)
    weights[own] = 0
    able = np.flatnonzero(weights)
    return able[np.argsort(rng.standard_exponential(len(able)) / weights[able])]


def task_candidates(task: CandidatesTask, split: Split, instances: Instances) -> tuple[np.ndarray, np.ndarray]:
    """What a task ranks: the candidates, int64 (C, K), the target first or, with `task.shuffle`, in an order of chance; and which
    instances these are, int64 (C,). Another `task.seed` is another sample and another order. Raises ConfigError as
    `sampled_candidates`."""
    fitted = split.fitted(task.fit)
    counts = fitted.counts() if task.negatives == "popularity" else None
    candidates, rows = sampled_candidates(instances, fitted.num_items, task.num_candidates, task.seed, counts=counts)
    if task.shuffle:
        candidates = np.random.default_rng(task.seed).permuted(candidates, axis=1)
    return candidates, rows


def sampled_lists(
    instances: Instances,
    num_items: int,
    num_candidates: int,
    *,
    max_instances: int,
    seed: int,
    setting: str = "num_candidates",
) -> tuple[Instances, np.ndarray, int]:
    """`max_instances` sampled instances (all where there are fewer), the candidates of each, and how many were left out because their
    users have too few items left. Raises ConfigError as `sampled_candidates`."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(instances))[:max_instances])
    instances = instances.take(chosen)
    candidates, rows = sampled_candidates(instances, num_items, num_candidates, seed, setting=setting)
    return instances.take(rows), candidates, len(instances) - len(rows)


def hit_among(
    recommender: Ranker, instances: Instances, num_candidates: int, *, max_instances: int, seed: int
) -> dict[str, float | int | None]:
    """Hit ratio at 1 among sampled candidates, ties by expectation, with its interval over instances; None where there are none.

    max_instances: sampled of all; left_out: those whose users have had so many items that no such list can be sampled.
    """
    instances, candidates, left_out = sampled_lists(
        instances, recommender.num_items, num_candidates, max_instances=max_instances, seed=seed
    )
    if not len(instances):
        return {
            "instances": 0,
            "left_out": left_out,
            "candidates": num_candidates,
            "hit@1": None,
            "low": None,
            "high": None,
        }
    requests = Requests.from_instances(instances)
    hits = []
    for rows in batches(len(instances), BATCH, "ranking candidates"):
        scores = recommender.score(requests.take(rows), candidates[rows])
        hits.append(metrics.recall(*metrics.ranks_from_scores(scores, np.zeros(len(rows), np.int64)), 1))
    hit = np.concatenate(hits)
    low, high = metrics.bootstrap_interval(hit[:, None])
    return {
        "instances": len(hit),
        "left_out": left_out,
        "candidates": num_candidates,
        "hit@1": float(hit.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
    }
