"""The target among a few drawn items: LLaRA's hit ratio.

A list of drawn items is easier than a catalogue, and another draw is another list, so this stands beside the figures over the whole
catalogue, never in their place.
"""

from __future__ import annotations

import numpy as np

from llmrec import metrics
from llmrec.data.splits import Cases
from llmrec.errors import ConfigError
from llmrec.evaluation.runner import batches
from llmrec.recommenders.requests import Ranker, Requests

BATCH = 32


def drawn_candidates(cases: Cases, num_items: int, num_candidates: int, seed: int) -> np.ndarray:
    """int64 (U, C): the target first, then items drawn without repetition from those that are neither it nor in the history.

    Raises ConfigError where a user has too few such items.
    """
    rng = np.random.default_rng(seed)
    candidates = np.empty((len(cases), num_candidates), dtype=np.int64)
    for row in range(len(cases)):
        others = np.setdiff1d(np.arange(num_items), np.append(cases.histories[row], cases.targets[row]))
        if len(others) < num_candidates - 1:
            raise ConfigError(
                f"a list of {num_candidates} candidates needs {num_candidates - 1} items that the user has not had, but there are "
                f"{len(others)}; ask for fewer candidates."
            )
        candidates[row] = [cases.targets[row], *rng.choice(others, num_candidates - 1, replace=False)]
    return candidates


def drawn_lists(
    cases: Cases, num_items: int, num_candidates: int, *, max_cases: int, seed: int
) -> tuple[Cases, np.ndarray]:
    """`max_cases` drawn cases (all where there are fewer), and the candidates of each. Raises ConfigError as `drawn_candidates`."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[:max_cases])
    times = None if cases.times is None else cases.times[chosen]
    cases = Cases(cases.users[chosen], cases.histories.take(chosen), cases.targets[chosen], times)
    return cases, drawn_candidates(cases, num_items, num_candidates, seed)


def hit_among(
    recommender: Ranker, cases: Cases, num_candidates: int, *, max_cases: int, seed: int
) -> dict[str, float | int | None]:
    """Hit ratio at 1 among drawn candidates, ties counted by expectation, with its interval over cases, for `max_cases` drawn cases;
    None where there are none."""
    cases, candidates = drawn_lists(cases, recommender.num_items, num_candidates, max_cases=max_cases, seed=seed)
    if not len(cases):
        return {"cases": 0, "candidates": num_candidates, "hit@1": None, "low": None, "high": None}
    requests = Requests.from_cases(cases)
    hits = []
    for rows in batches(len(cases), BATCH, "ranking candidates"):
        scores = recommender.score(requests.take(rows), candidates[rows])
        hits.append(metrics.recall(*metrics.ranks_from_scores(scores, np.zeros(len(rows), np.int64)), 1))
    hit = np.concatenate(hits)
    low, high = metrics.bootstrap_interval(hit[:, None])
    return {
        "cases": len(hit),
        "candidates": num_candidates,
        "hit@1": float(hit.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
    }
