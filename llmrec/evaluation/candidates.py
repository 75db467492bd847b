"""The target among a few drawn items: LLaRA's hit ratio.

A list of drawn items is easier than a catalogue, and another draw is another list, so this stands beside the figures over the whole
catalogue, never in their place.
"""

from __future__ import annotations

import numpy as np

from llmrec import metrics
from llmrec.data.splits import Cases
from llmrec.errors import ConfigError
from llmrec.evaluation.progress import batches
from llmrec.recommenders.requests import Ranker, Requests

BATCH = 32


def sampled_candidates(
    cases: Cases, num_items: int, num_candidates: int, seed: int, *, setting: str = "num_candidates"
) -> tuple[np.ndarray, np.ndarray]:
    """int64 (C, K): the target first, then items drawn without repetition from those that are neither it nor in the history; and
    which cases these are, int64 (C,): without those of users who have had so many items that too few are left.

    Raises ConfigError, which names the `setting`, where too few are left for all users.
    """
    rng = np.random.default_rng(seed)
    candidates, rows, most = [], [], 0
    for row in range(len(cases)):
        others = np.setdiff1d(np.arange(num_items), np.append(cases.histories[row], cases.targets[row]))
        most = max(most, len(others))
        if len(others) >= num_candidates - 1:
            rows.append(row)
            candidates.append([cases.targets[row], *rng.choice(others, num_candidates - 1, replace=False)])
    if len(cases) and not rows:
        raise ConfigError(
            f"a list of {num_candidates} candidates needs {num_candidates - 1} items that a user has not had, but of {num_items} no "
            f"user has more than {most} left; set {setting}={most + 1} or less."
        )
    return np.array(candidates, np.int64).reshape(-1, num_candidates), np.array(rows, np.int64)


def drawn_lists(
    cases: Cases, num_items: int, num_candidates: int, *, max_cases: int, seed: int, setting: str = "num_candidates"
) -> tuple[Cases, np.ndarray, int]:
    """`max_cases` drawn cases (all where there are fewer), the candidates of each, and how many of them were left out because their
    users have too few items left. Raises ConfigError as `sampled_candidates`."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[:max_cases])
    times = None if cases.times is None else cases.times[chosen]
    cases = Cases(cases.users[chosen], cases.histories.take(chosen), cases.targets[chosen], times)
    candidates, rows = sampled_candidates(cases, num_items, num_candidates, seed, setting=setting)
    times = None if times is None else times[rows]
    kept = Cases(cases.users[rows], cases.histories.take(rows), cases.targets[rows], times)
    return kept, candidates, len(cases) - len(rows)


def hit_among(
    recommender: Ranker, cases: Cases, num_candidates: int, *, max_cases: int, seed: int
) -> dict[str, float | int | None]:
    """Hit ratio at 1 among drawn candidates, ties counted by expectation, with its interval over cases, for `max_cases` drawn cases;
    None where there are none. left_out: cases whose users have had so many items that no such list can be drawn."""
    cases, candidates, left_out = drawn_lists(
        cases, recommender.num_items, num_candidates, max_cases=max_cases, seed=seed
    )
    if not len(cases):
        return {
            "cases": 0,
            "left_out": left_out,
            "candidates": num_candidates,
            "hit@1": None,
            "low": None,
            "high": None,
        }
    requests = Requests.from_cases(cases)
    hits = []
    for rows in batches(len(cases), BATCH, "ranking candidates"):
        scores = recommender.score(requests.take(rows), candidates[rows])
        hits.append(metrics.recall(*metrics.ranks_from_scores(scores, np.zeros(len(rows), np.int64)), 1))
    hit = np.concatenate(hits)
    low, high = metrics.bootstrap_interval(hit[:, None])
    return {
        "cases": len(hit),
        "left_out": left_out,
        "candidates": num_candidates,
        "hit@1": float(hit.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
    }
