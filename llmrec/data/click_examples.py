"""Examples for CTR models: one user, one candidate item, whether it was liked, and what the user had liked before.

Letters: E events, N examples, H history items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, DataError

PADDING = -1


@dataclass(frozen=True, eq=False)
class ClickExamples:
    """N questions "does this user like this item?" with their answers.

    users: int32 (N,); items: int32 (N,) the candidates; labels: bool (N,); histories: int32 (N, H) the user's last H liked items
    strictly before the example, oldest first, PADDING in front; answered, liked: int32 (N,) how many labelled events the user had
    strictly before the example, and how many of them were positive; times: int64 (N,), or None where only the order is known;
    disliked: int32 (N, Hd) as `histories`, what the user had disliked, where the examples come with it, or None.
    """

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    histories: np.ndarray
    answered: np.ndarray
    liked: np.ndarray
    times: np.ndarray | None
    disliked: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> ClickExamples:
        """The given examples, integers or bool, in the given order."""
        times = None if self.times is None else self.times[rows]
        return ClickExamples(
            self.users[rows],
            self.items[rows],
            self.labels[rows],
            self.histories[rows],
            self.answered[rows],
            self.liked[rows],
            times,
            None if self.disliked is None else self.disliked[rows],
        )


def joined(parts: Sequence[ClickExamples]) -> ClickExamples:
    """The examples of all parts, one part after another; times and dislikes where every part has them."""

    def of(name: str) -> np.ndarray | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)

    return ClickExamples(**{field.name: of(field.name) for field in fields(ClickExamples)})


@dataclass(frozen=True, eq=False)
class ClickSplit:
    """What to train on, choose on and report on. `card`: the protocol and the counts, JSON values; `events`: the likes that lie before
    what is asked, one row a user, for what learns from events (popularity, embeddings)."""

    train: ClickExamples
    valid: ClickExamples
    test: ClickExamples
    card: dict
    events: Interactions


def click_examples(
    interactions: Interactions,
    *,
    split: Literal["time", "last"] = "time",
    valid: float = 0.1,
    test: float = 0.1,
    max_history: int = 20,
    min_history: int = 1,
    positive_from: float = 4.0,
    negative_below: float = 3.0,
    seed: int = 0,
) -> ClickSplit:
    """Examples of every labelled event, split in time.

    With ratings (RecBench's explicit protocol): positive from `positive_from` on, negative below `negative_below`, what lies
    between is dropped. Without: every event is a positive, and each gets one negative of the same moment, sampled uniformly by `seed`
    from the items this user never touches, before or after (an item they come to later is no dislike).

    An example sees strictly earlier events only: of two events of one second neither is in the other's history. So nothing that happens
    later changes an example, but for the sampled negatives.

    split: "time" cuts all users at two moments, so that no future of anybody is trained on; the last `test` of the examples are asked,
    the `valid` before them choose. "last" takes the same shares of every user's own examples, at least one each where a user has
    three: more users are asked and all are known, but examples of others from after the asked moment are trained on. Events of one
    second are never divided; users who thereby have no test example are counted on the card.
    min_history: examples with fewer liked items before them are left out of all parts.

    Raises:
        ConfigError: shares or thresholds that cannot be.
        DataError: no times for "time", or a part would have no example of one class.
    """
    _check_protocol(valid, test, max_history, min_history, positive_from, negative_below)
    ratings = interactions.ratings
    positive = np.ones(interactions.num_events, bool) if ratings is None else ratings >= positive_from
    labelled = positive if ratings is None else positive | (ratings < negative_below)
    before = _first_of_moment(interactions)
    events = np.flatnonzero(labelled)
    rows = _rows_of(interactions, events, positive, labelled, before, max_history)
    if split == "time":
        part, cuts = _cut_in_time(rows, valid, test)
    else:
        part, cuts = _cut_each_user(interactions, labelled, events, before, valid, test), {}
    learned = liked_events(rows.take(part == 0), interactions.num_items, interactions.num_users)
    labels = f"rating >= {positive_from:g} liked, < {negative_below:g} disliked, between dropped"
    if ratings is None:
        rows, part = _with_negatives(interactions, rows, part, seed)
        labels = f"events liked, for each one item that its user never touches (seed {seed})"
    if split == "last":
        asked = np.unique(rows.users[part == 2])
        cuts["users_without_test_row"] = len(np.setdiff1d(rows.users, asked))
    kept = np.count_nonzero(rows.histories != PADDING, axis=1) >= min_history
    parts = {name: rows.take(kept & (part == number)) for number, name in enumerate(("train", "valid", "test"))}
    _check_classes(parts, split)
    card = {
        "labels": labels,
        "history": f"last {max_history} liked items of strictly earlier moments, at least {min_history}",
        "split": split,
        "shares": {"valid": valid, "test": test},
        **cuts,
        "rows_without_history": int((~kept).sum()),
        "parts": part_counts(parts, interactions.num_items),
    }
    return ClickSplit(**parts, card=card, events=learned)


def padded(histories: Sequence[Sequence[int]]) -> np.ndarray:
    """N lists of items as one array, PADDING in front: int32 (N, H), H of the longest list, at least 1."""
    rows = np.full((len(histories), max(1, *map(len, histories))), PADDING, np.int32)
    for row, history in zip(rows, histories, strict=True):
        if len(history):
            row[-len(history) :] = history
    return rows


def liked_events(rows: ClickExamples, num_items: int, num_users: int = 0) -> Interactions:
    """The liked examples as events, a user's oldest first. num_users: at least so many rows, for users who are in other examples."""
    liked = rows.take(np.flatnonzero(rows.labels))
    order = np.lexsort((np.zeros(len(liked)) if liked.times is None else liked.times, liked.users))
    liked = liked.take(order)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(liked.users, minlength=num_users))])
    return Interactions(indptr, liked.items, num_items, liked.times)


def sampled_rows(rows: ClickExamples, most: int | None, seed: int) -> ClickExamples:
    """At most so many examples, sampled by seed, one of each class first (so that a few have both). Raises DataError for one class."""
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = rows.labels[order]
    if labels.all() or not labels.any():
        raise DataError(f"click examples should hold both classes, but {labels.sum()} of {len(labels)} are liked.")
    first = [int(labels.argmax()), int(labels.argmin())]
    return rows.take(np.concatenate([order[first], np.delete(order, first)])[:most])


def _check_protocol(
    valid: float, test: float, max_history: int, min_history: int, positive_from: float, negative_below: float
) -> None:
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise ConfigError(f"shares should be above 0 and sum to less than 1, but are valid {valid}, test {test}.")
    if negative_below > positive_from or min_history > max_history or max_history < 1:
        raise ConfigError(
            f"click examples need negative_below <= positive_from and min_history <= max_history >= 1, but these are "
            f"{negative_below}, {positive_from}, {min_history}, {max_history}."
        )


def _check_classes(parts: dict[str, ClickExamples], split: str) -> None:
    for name, rows in parts.items():
        if not rows.labels.any() or rows.labels.all():
            raise DataError(
                f"the {name} examples of a '{split}' split should hold both classes, but {rows.labels.sum()} of {len(rows)} are "
                "positive. Use more data, other shares, or another threshold."
            )


def _first_of_moment(interactions: Interactions) -> np.ndarray:
    """For each event, the position of its user's first event of the same second: int64 (E,). What lies before it is earlier."""
    if interactions.times is None:
        return np.arange(interactions.num_events)
    starts = np.zeros(interactions.num_events, bool)
    starts[1:] = np.diff(interactions.times) != 0
    starts[interactions.indptr[:-1][interactions.lengths > 0]] = True
    return np.maximum.accumulate(np.where(starts, np.arange(interactions.num_events), 0))


def _rows_of(
    interactions: Interactions,
    events: np.ndarray,
    positive: np.ndarray,
    labelled: np.ndarray,
    before: np.ndarray,
    max_history: int,
) -> ClickExamples:
    """One example for each of `events`, int64 (N,), reading what its user did from the first event up to `before[event]`."""
    users = np.repeat(np.arange(interactions.num_users, dtype=np.int32), interactions.lengths)[events]
    starts, ends = interactions.indptr[users], before[events]
    liked_until = np.concatenate([[0], np.cumsum(positive)])  # (E + 1,)
    labelled_until = np.concatenate([[0], np.cumsum(labelled)])
    first, last = liked_until[starts], liked_until[ends]  # indices into the positives
    positions = last[:, None] - max_history + np.arange(max_history)  # (N, H)
    liked_items = np.append(interactions.items[positive], PADDING).astype(np.int32)
    histories = liked_items[np.where(positions >= first[:, None], positions, -1)]
    return ClickExamples(
        users,
        interactions.items[events],
        positive[events],
        histories,
        (labelled_until[ends] - labelled_until[starts]).astype(np.int32),
        (last - first).astype(np.int32),
        None if interactions.times is None else interactions.times[events],
    )


def _cut_in_time(rows: ClickExamples, valid: float, test: float) -> tuple[np.ndarray, dict]:
    """0 train, 1 valid, 2 test for each row: int64 (N,), and the two moments up to which train and valid go."""
    if rows.times is None:
        raise DataError(
            "a split in time needs a time for every event, but these data have only an order. "
            "Prepare them from a file with a timestamp column, or use the split 'last'."
        )
    if not len(rows):
        raise DataError("click examples need labelled events, but these data have none.")
    cuts = np.quantile(rows.times, [1 - valid - test, 1 - test], method="lower")
    return np.searchsorted(cuts, rows.times, side="left"), {"train_until": int(cuts[0]), "valid_until": int(cuts[1])}


def _cut_each_user(
    interactions: Interactions, labelled: np.ndarray, events: np.ndarray, before: np.ndarray, valid: float, test: float
) -> np.ndarray:
    """The same by each user's own rows: an event belongs where the first event of its moment does."""
    until = np.concatenate([[0], np.cumsum(labelled)])
    starts = np.repeat(until[interactions.indptr[:-1]], interactions.lengths)[events]
    sizes = np.repeat(np.diff(until[interactions.indptr]), interactions.lengths)[events]
    share = (until[before[events]] - starts) / sizes  # of the user's examples that lie before this moment
    # However few examples a user has, of three the last is a test example and the one before it a validation example.
    is_enough = sizes >= 3
    valid_from = np.where(is_enough, np.minimum(1 - valid - test, (sizes - 2) / sizes), 1 - valid - test)
    test_from = np.where(is_enough, np.minimum(1 - test, (sizes - 1) / sizes), 1 - test)
    return (share >= valid_from).astype(np.int64) + (share >= test_from)


def _with_negatives(
    interactions: Interactions, rows: ClickExamples, part: np.ndarray, seed: int
) -> tuple[ClickExamples, np.ndarray]:
    """After all positive examples, a negative one for each whose user has not touched everything."""
    num_items = interactions.num_items
    users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
    touched = np.unique(users * np.int64(num_items) + interactions.items)
    able = np.flatnonzero(np.bincount(touched // num_items, minlength=interactions.num_users)[rows.users] < num_items)
    rng = np.random.default_rng(seed)
    sampled = rng.integers(num_items, size=len(able))
    while True:
        keys = rows.users[able] * np.int64(num_items) + sampled
        again = np.isin(keys, touched)
        if not again.any():
            break
        sampled[again] = rng.integers(num_items, size=again.sum())
    both = rows.take(np.concatenate([np.arange(len(rows)), able]))
    both.items[len(rows) :] = sampled
    both.labels[len(rows) :] = False
    return both, np.concatenate([part, part[able]])


def part_counts(parts: dict[str, ClickExamples], num_items: int) -> dict:
    """How much there is of everything, items without a training example included."""
    train = parts["train"]
    known = np.zeros(num_items, bool)
    known[train.items] = True
    counts = {}
    for name, rows in parts.items():
        users = np.unique(rows.users)
        counts[name] = {
            "rows": len(rows),
            "positive": round(float(rows.labels.mean()), 4),
            "users": len(users),
            "users_of_train": int(np.isin(users, train.users).sum()),
            "rows_of_items_without_training_row": int((~known[rows.items]).sum()),
        }
    return counts
