"""Popularity and a first-order Markov chain, exact in float64; and every baseline by its name. No torch, until SASRec is asked for.

Letters: U requests, I items.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self

import numpy as np
import scipy.sparse as sp

from llmrec.config import load_config
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError
from llmrec.recommenders.baseline import Baseline, DoesNotFit
from llmrec.recommenders.ease_r import EaseR, LowRankEaseR
from llmrec.recommenders.matrix_factorisation import MatrixFactorisation
from llmrec.recommenders.requests import Requests


class Popularity(Baseline):
    """score(i) = number of fitted events of i, for everybody."""

    name = "popularity"

    def fit(self, interactions: Interactions) -> Self:
        """Count the events."""
        self.num_items = interactions.num_items
        self.counts = interactions.counts().astype(np.float64)  # (I,)
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I)."""
        return np.tile(self.counts, (len(requests), 1))


class Markov(Baseline):
    """score(i) = count(last item -> i as adjacent fitted events) + 1e-6 popularity(i)."""

    name = "markov"

    def fit(self, interactions: Interactions) -> Self:
        """Count the adjacent pairs of every user."""
        self.num_items = interactions.num_items
        self.counts = interactions.counts().astype(np.float64)  # (I,)
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
        same_user = users[1:] == users[:-1]
        before, after = interactions.items[:-1][same_user], interactions.items[1:][same_user]
        shape = (self.num_items, self.num_items)
        self.follows = sp.coo_array((np.ones(len(before)), (before, after)), shape=shape).tocsr()  # sums repeated pairs
        return self

    def scores(self, requests: Requests) -> np.ndarray:
        """float64 (U, I); an empty history falls back to popularity alone."""
        histories = requests.histories
        rows = np.flatnonzero(histories.lengths > 0)
        last = histories.items[histories.indptr[rows + 1] - 1]
        shape = (len(requests), self.num_items)
        picks = sp.csr_array((np.ones(len(rows)), (rows, last)), shape=shape)
        return (picks @ self.follows).toarray() + 1e-6 * self.counts


# Those without a training loop, which stand beside a run in a table.
STANDARD: tuple[type[Baseline], ...] = (Popularity, Markov, EaseR, LowRankEaseR)
NAMES = (*(kind.name for kind in STANDARD), MatrixFactorisation.name, "sasrec")


def baseline_type(name: str) -> type[Baseline]:
    """The baseline of this name. Raises ConfigError where there is none."""
    if name == "sasrec":
        from llmrec.recommenders.sasrec import SasRecRecommender  # brings torch with it

        return SasRecRecommender
    for kind in (*STANDARD, MatrixFactorisation):
        if kind.name == name:
            return kind
    raise ConfigError(f"there is no baseline '{name}' (there are: {', '.join(NAMES)}).")


def make_baseline(name: str, overrides: Sequence[str] = ()) -> Baseline:
    """A baseline by its name, with settings such as "dim=64" in place of defaults, not yet fitted.

    Raises ConfigError for a name that there is not, and for a setting that it does not have or that does not fit.
    """
    kind = baseline_type(name)
    return kind.from_settings(load_config(kind.Settings, None, overrides))


def fit_baselines(interactions: Interactions) -> list[Baseline]:
    """STANDARD with default settings, in its order. One that does not fit into memory is left out, with a line on standard error."""
    fitted = []
    for kind in STANDARD:
        try:
            fitted.append(kind().fit(interactions))
        except DoesNotFit as problem:
            print(f"{kind.name} is left out: {problem}", file=sys.stderr)
    return fitted
