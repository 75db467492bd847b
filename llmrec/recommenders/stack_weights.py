"""How much each part of a stack counts for a user and an item, and how that is learned from validation.

Letters: U requests, I items, C candidates of a request, P parts, A features of a history, B features of an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from llmrec.errors import ArtifactError
from llmrec.metrics import ndcg, ranks_from_scores

FORMS = ("constant", "history", "item", "both")  # what weights may depend on
KNEES = (1.0, 3.0, 10.0)  # standard deviations from which tails are pressed
_FIXED = 5.0  # standard deviations, whose score is the same for every knee
_LONGEST = 50  # events of a history; longer ones weigh as this one does
_CENTRE = 2.0  # of log(1 + length) and log(count): about the middle of most data, so that features are small numbers
_WIDTH = 0.1  # of the sigmoid that stands for "is above", in units of scores
_RIDGE = 0.1  # a penalty on the squares, against weights that run away on a few users
_STEPS = 40  # of L-BFGS


@dataclass(frozen=True, eq=False)
class StackWeights:
    """w_p(u, i) = exp(f(u)' theta_p g(i)), over their sum among the parts that know item i.

    f = (1, log(1 + events of the history)) and g = (1, log(training events of the item)), centred; 0 training events weigh as 1, so
    that nothing is learned about items without events, which may be common among targets just because of how the data were cut.
    names: of the P parts; theta: float64 (P, A, B), with one feature where `form` says that weights do not depend on that side;
    knee: see `pressed`; facts: how they were found, JSON values.
    """

    names: tuple[str, ...]
    form: str
    theta: np.ndarray
    knee: float = KNEES[0]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def equal(cls, names: Sequence[str]) -> Self:
        """All parts count the same."""
        return cls(tuple(names), "constant", np.zeros((len(names), 1, 1)))

    def part(self, place: int, lengths: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Weights of one part, not yet over their sum: lengths int (U,), counts int (I,) -> float32 (U, I) or what broadcasts to it."""
        f, g = history_features(lengths, self.form), item_features(counts, self.form)
        if g.shape[1] == 1:
            return np.exp(f @ self.theta[place] @ g[:1].T).astype(np.float32)
        kinds, which = np.unique(g, axis=0, return_inverse=True)  # a few hundred counts stand for all items
        return np.exp(f @ self.theta[place] @ kinds.T).astype(np.float32)[:, which.reshape(-1)]

    def shares(self, length: int, count: int) -> dict[str, float]:
        """What each part counts for a history of so many events and an item of so many, where all know it; their sum is 1."""
        f = history_features(np.array([length]), self.form)[0]
        g = item_features(np.array([count]), self.form)[0]
        shares = softmax(f @ self.theta @ g)
        return {name: round(float(share), 4) for name, share in zip(self.names, shares, strict=True)}

    @property
    def card(self) -> dict[str, Any]:
        """What the weights depend on, the shares of a short and a long history and of a rare and a common item, and `facts`."""
        shares = {
            f"history {length}, item {count}": self.shares(length, count) for length in (3, 30) for count in (3, 30)
        }
        return {"weights_depend_on": self.form, "knee": self.knee, "shares": shares, **self.facts}

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        values = {"names": list(self.names), "form": self.form, "theta": self.theta.tolist(), "knee": self.knee}
        return {**values, "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Raises ArtifactError for what `to_json` did not write."""
        try:
            names, form, knee = tuple(values["names"]), values["form"], float(values["knee"])
            theta, facts = np.array(values["theta"], dtype=np.float64), dict(values["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the weights of a stack are damaged ({error!r}); stack its parts again.") from error
        fits = form in FORMS and theta.shape == _shape(len(names), form)
        if not fits or not np.isfinite(theta).all() or not 0 < knee < np.inf:
            raise ArtifactError("the weights of a stack are damaged; stack its parts again.")
        return cls(names, form, theta, knee, facts)


def pressed(z: np.ndarray, knee: float) -> np.ndarray:
    """sign(z) log(1 + |z| / knee), times what makes 5 standard deviations the same for every knee: any shape, its dtype kept.

    About proportional to z within the knee, logarithmic beyond it. On Amazon Beauty validation chooses 10 (NDCG@10 .0789 of three parts
    with constant weights, .0775 for 1); on MovieLens-100K a chain and EASE-R have .0964 with 3 and .0939 with 1.
    """
    scale = np.log1p(_FIXED) / np.log1p(_FIXED / knee)
    return np.copysign(np.log1p(np.abs(z) / z.dtype.type(knee)), z) * z.dtype.type(scale)


def history_features(lengths: np.ndarray, form: str) -> np.ndarray:
    """f: int (U,) -> float64 (U, A)."""
    ones = np.ones(len(lengths))
    if form not in ("history", "both"):
        return ones[:, None]
    return np.stack([ones, np.log1p(np.minimum(lengths, _LONGEST)) - _CENTRE], axis=-1)


def item_features(counts: np.ndarray, form: str) -> np.ndarray:
    """g: int (...,) -> float64 (..., B)."""
    ones = np.ones(counts.shape)
    if form not in ("item", "both"):
        return ones[..., None]
    return np.stack([ones, np.log(np.maximum(counts, 1)) - _CENTRE], axis=-1)


def _shape(num_parts: int, form: str) -> tuple[int, int, int]:
    return num_parts, 1 + (form in ("history", "both")), 1 + (form in ("item", "both"))


@dataclass(frozen=True, eq=False)
class Shortlists:
    """Of each validation user the target and the items it competes with.

    z: standardised scores, float32 (U, C, P); real: bool (U, C), false for padding; known: whether a part knows the item, bool
    (U, C, P); counts: training events of the items, int (U, C); lengths: events of the histories, int (U,); near: bool (U,), whether
    the target is among the best items of a part. The target is the first.
    """

    z: np.ndarray
    real: np.ndarray
    known: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    near: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def pressed(self, knee: float) -> Shortlists:
        """The same with tails pressed together."""
        return replace(self, z=pressed(self.z, knee))

    def take(self, rows: np.ndarray) -> Shortlists:
        """Those of the given users."""
        return Shortlists(*(getattr(self, each.name)[rows] for each in fields(self)))

    @classmethod
    def joined(cls, parts: Iterable[Shortlists]) -> Shortlists:
        """All of them, one after another."""
        parts = list(parts)
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def learned(names: Sequence[str], form: str, lists: Shortlists) -> StackWeights:
    """The weights with the greatest smooth NDCG of the targets among their shortlists, by L-BFGS from equal weights. Deterministic.

    A rank is one more than the items above; here an item that scores d more than the target counts sigmoid(d / width) of being above,
    so that the gain 1 / log2(1 + rank) has a gradient: Qin, Liu, Li, "A general approximation framework for direct optimization of
    information retrieval measures", Information Retrieval 13 (2010). lists: with pressed z. A softmax over the candidates was tried
    first: most users' targets are out of reach of every part, and their loss is nearly all that it looks at.
    Users whose target no part has near the top teach nothing: no weights would bring it there.
    """
    shape, lists = _shape(len(names), form), lists.take(np.flatnonzero(lists.near))
    f = history_features(lists.lengths, form).astype(np.float32)
    g = item_features(lists.counts, form).astype(np.float32)
    found = minimize(
        _loss,
        np.zeros(np.prod(shape)),
        args=(shape, f, g, lists),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS},
    )
    return StackWeights(tuple(names), form, found.x.reshape(shape))


def _mixed(theta: np.ndarray, f: np.ndarray, g: np.ndarray, lists: Shortlists) -> tuple[np.ndarray, np.ndarray]:
    """Shares v, float32 (U, C, P), and scores (U, C)."""
    of_user = np.einsum("ua,pab->ubp", f, theta.astype(np.float32))  # (U, B, P)
    logits = g @ of_user if g.shape[2] > 1 else of_user
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True)) * lists.known
    shares = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return shares, (shares * lists.z).sum(axis=-1)


def _loss(
    flat: np.ndarray, shape: tuple[int, int, int], f: np.ndarray, g: np.ndarray, lists: Shortlists
) -> tuple[float, np.ndarray]:
    """Minus the summed gains with the penalty, and its gradient by every theta."""
    shares, scores = _mixed(flat.reshape(shape), f, g, lists)
    above = expit((scores - scores[:, :1]) / _WIDTH) * lists.real
    above[:, 0] = 0
    rank = 1 + above.sum(axis=1)
    gain = 1 / np.log2(1 + rank)
    by_rank = gain**2 / ((1 + rank) * np.log(2))  # of the loss, per rank
    by_score = above * (1 - above) / _WIDTH * by_rank[:, None]
    by_score[:, 0] = -by_score.sum(axis=1)
    by_logit = (
        shares * (lists.z - scores[..., None]) * by_score[..., None]
    )  # of v = softmax: dv_p / dlogit_p = v_p (1 - v_p)
    by_theta = np.einsum("ua,ucb,ucp->pab", f, g, by_logit, optimize=True)
    loss = -float(gain.sum()) + _RIDGE * float((flat**2).sum())
    return loss, by_theta.ravel().astype(np.float64) + 2 * _RIDGE * flat


def gains_of(weights: StackWeights, lists: Shortlists) -> np.ndarray:
    """NDCG@10 of each user's target among its shortlist, with pressed z: float64 (U,)."""
    f = history_features(lists.lengths, weights.form).astype(np.float32)
    g = item_features(lists.counts, weights.form).astype(np.float32)
    _, scores = _mixed(weights.theta, f, g, lists)
    return ndcg(*ranks_from_scores(scores, np.zeros(len(lists), np.int64), lists.real), 10)


def folds_of(num_users: int, folds: int, seed: int) -> np.ndarray:
    """The fold of each validation user, of sizes that differ by one at most: int64 (U,), in [0, folds)."""
    return np.random.default_rng(seed).permutation(num_users) % folds


def cross_fitted(names: Sequence[str], form: str, lists: Shortlists, fold: np.ndarray) -> list[StackWeights]:
    """For each fold the weights that were learned from the users of all others. lists: with pressed z."""
    return [learned(names, form, lists.take(np.flatnonzero(fold != number))) for number in range(fold.max() + 1)]


def chosen(
    names: Sequence[str], forms: Sequence[str], knees: Sequence[float], lists: Shortlists, fold: np.ndarray
) -> tuple[StackWeights, list[StackWeights], dict[str, float]]:
    """The weights of all users, those of each fold's others, and the cross-fitted NDCG@10 among shortlists of every choice tried.

    The knee is chosen with the first form, then the form with that knee; of equal ones the first. lists: with z as it is.
    """
    tried: dict[tuple[float, str], tuple[float, list[StackWeights]]] = {}

    def best(choices: list[tuple[float, str]]) -> tuple[float, str]:
        for knee, form in choices:
            if (knee, form) not in tried:
                bent = lists.pressed(knee)
                by_fold = [replace(weights, knee=knee) for weights in cross_fitted(names, form, bent, fold)]
                gains = [gains_of(weights, bent.take(fold == number)) for number, weights in enumerate(by_fold)]
                tried[knee, form] = (float(np.concatenate(gains).mean()), by_fold)
        return max(choices, key=lambda choice: tried[choice][0])

    knee, _ = best([(knee, forms[0]) for knee in knees])
    knee, form = best([(knee, form) for form in forms])
    weights = replace(learned(names, form, lists.pressed(knee)), knee=knee)
    return (
        weights,
        tried[knee, form][1],
        {f"{form}, knee {knee:g}": found for (knee, form), (found, _) in tried.items()},
    )
