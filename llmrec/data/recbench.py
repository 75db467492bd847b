"""RecBench's rules (NeurIPS 2025, Datasets and Benchmarks) for any interactions: whose rows are asked, and whose are learned from.

Letters: E events, U users, N rows.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit, part_counts
from llmrec.data.interactions import Interactions, gather_rows
from llmrec.data.splits import Split, of_users
from llmrec.errors import ConfigError, DataError
from llmrec.files import content_hash

NUM_POSITIVES = 2  # a user's last so many liked items are asked
NUM_SAMPLED = 2  # and as many that the user never touched, where no dislikes are known
MAX_NEGATIVES = 10  # of a user's own dislikes


def recbench_clicks(
    interactions: Interactions,
    *,
    test_rows: int = 20_000,
    train_rows: int = 100_000,
    valid: float = 0.1,
    max_history: int = 20,
    positive_from: float = 4.0,
    negative_below: float = 3.0,
    seed: int = 0,
) -> ClickSplit:
    """Pairwise click-through: a user's last two liked items are asked, and the history is what was liked before them.

    With ratings (explicit): liked from `positive_from` on, disliked below `negative_below`, between dropped; a user's dislikes are
    asked too, at most 10, sampled, whenever they happened. Without (implicit): every event is liked, and two items are asked that the
    user never touched, sampled uniformly. Users with more than two likes (and, explicit, a dislike) are shuffled by `seed`; whole users
    are asked until there are `test_rows` rows or more, others are learned from until there are `train_rows` (or nobody is left), and of
    those users the share `valid` validates.

    `answered` and `liked` are 0: nothing is known of a user but the history. `events` are all likes but each user's last two.
    An example's history and liked items never change with what lies after the last event that is asked of its user.

    Raises:
        ConfigError: thresholds that cannot be.
        DataError: no dislikes in the ratings, nobody with enough likes, or too few users for both parts.
    """
    if negative_below > positive_from:
        raise ConfigError(
            f"negative_below should not exceed positive_from, but they are {negative_below}, {positive_from}."
        )
    ratings = interactions.ratings
    is_liked = np.ones(interactions.num_events, bool) if ratings is None else ratings >= positive_from
    liked = _only(interactions, is_liked)
    disliked = None if ratings is None else _only(interactions, ratings < negative_below)
    able = _able(interactions, liked, disliked, negative_below)
    rng = np.random.default_rng(seed)
    users = rng.permutation(able)
    num_negatives = (
        np.full(len(users), NUM_SAMPLED) if disliked is None else np.minimum(disliked.lengths[users], MAX_NEGATIVES)
    )
    num_test, num_learned = _shares(num_negatives + NUM_POSITIVES, test_rows, train_rows, interactions.num_users)
    users, num_negatives = users[: num_test + num_learned], num_negatives[: num_test + num_learned]
    rows = _rows(interactions, liked, disliked, users, num_negatives, max_history, rng)
    validating = rng.permutation(users[num_test:])[: int(valid * num_learned)]
    if not len(validating):
        raise DataError(
            f"{valid:g} of {num_learned} users to learn from is nobody to validate by. Use more data, or a larger share."
        )
    is_test, is_valid = np.isin(rows.users, users[:num_test]), np.isin(rows.users, validating)
    parts = {"train": rows.take(~is_test & ~is_valid), "valid": rows.take(is_valid), "test": rows.take(is_test)}
    labels = f"rating >= {positive_from:g} liked, < {negative_below:g} disliked (at most {MAX_NEGATIVES} sampled), between dropped"
    if disliked is None:
        labels = f"events liked, for each user {NUM_SAMPLED} items that they never touch"
    card = {
        "labels": labels,
        "history": f"last {max_history} of all liked items but the last {NUM_POSITIVES}, which are asked",
        "split": "recbench",
        "shares": {"test_rows": test_rows, "train_rows": train_rows, "valid_users": valid},
        "seed": seed,
        "content": ", ".join(content_hash(part.users, part.items, part.labels) for part in parts.values()),
        "parts": part_counts(parts, interactions.num_items),
    }
    return ClickSplit(**parts, card=card, events=liked.head(NUM_POSITIVES))


def recbench_users(
    interactions: Interactions,
    *,
    test_users: int = 5_000,
    train_users: int = 40_000,
    valid: float = 0.1,
    max_events: int = 20,
    seed: int = 0,
) -> Split:
    """Listwise next item: of the shuffled users with two events or more, the first `test_users` are asked, the next `train_users` (or
    all that are left) are learned from, and of those the share `valid` validates. Of each user the last `max_events` count, and
    the last of them is the target. Raises DataError for too few users.
    """
    able = np.random.default_rng(seed).permutation(np.flatnonzero(interactions.lengths >= 2))
    learned = able[test_users : test_users + train_users]
    num_valid = int(valid * len(learned))
    if not num_valid or num_valid == len(learned):
        raise DataError(
            f"{test_users:,} users are to be asked and others to be learned from, of whom {valid:g} validate, but only {len(able):,} "
            f"of the {interactions.num_users:,} users have 2 events or more. Use more data, or lower split.test_users."
        )
    return of_users(
        interactions,
        learned[num_valid:],
        learned[:num_valid],
        able[:test_users],
        name="recbench_users",
        settings={"test_users": test_users, "train_users": train_users, "valid_share": valid, "seed": seed},
        max_events=max_events,
    )


def _only(interactions: Interactions, chosen: np.ndarray) -> Interactions:
    """The chosen events, bool (E,), users numbered as before."""
    until = np.concatenate([[0], np.cumsum(chosen)])
    times = None if interactions.times is None else interactions.times[chosen]
    return Interactions(until[interactions.indptr], interactions.items[chosen], interactions.num_items, times)


def _able(
    interactions: Interactions, liked: Interactions, disliked: Interactions | None, negative_below: float
) -> np.ndarray:
    """The users who can be asked: int64 (N,)."""
    has_history = liked.lengths > NUM_POSITIVES
    if disliked is None:
        users = np.repeat(np.arange(interactions.num_users), interactions.lengths)
        touched = np.unique(users * np.int64(interactions.num_items) + interactions.items) // interactions.num_items
        num_touched = np.bincount(touched, minlength=interactions.num_users)
        has_negatives = interactions.num_items - num_touched >= NUM_SAMPLED
        lacking = f"has touched nearly all of the {interactions.num_items} items, so that none is left as a negative"
    else:
        if not disliked.num_events:
            raise DataError(
                f"the ratings have no negatives: none lies below {negative_below:g}. Prepare the data with all ratings "
                "(no rating threshold), or raise split.negative_below."
            )
        has_negatives = disliked.lengths > 0
        lacking = f"has a rating below {negative_below:g}"
    if not has_history.any():
        raise DataError(
            f"RecBench's rule asks about a user's last {NUM_POSITIVES} liked items and needs one before them, but none of the "
            f"{interactions.num_users} users likes more than {NUM_POSITIVES}. Use more data, or another threshold."
        )
    able = np.flatnonzero(has_history & has_negatives)
    if not len(able):
        who = "every" if disliked is None else "no"
        raise DataError(
            f"{who} user with more than {NUM_POSITIVES} liked items {lacking}. Use more data, or other thresholds."
        )
    return able


def _shares(rows: np.ndarray, test_rows: int, train_rows: int, num_users: int) -> tuple[int, int]:
    """How many of the users are asked, and how many after them are learned from; rows: int64 (N,) of each user."""
    until = np.cumsum(rows)
    num_test = int(np.searchsorted(until, test_rows)) + 1
    if num_test >= len(rows):
        raise DataError(
            f"{test_rows:,} rows are to be asked and those of others to be learned from, but the {len(rows):,} of {num_users:,} users "
            f"who can be asked have {until[-1]:,} rows in all. Use more data, or lower split.test_rows (and split.train_rows)."
        )
    num_learned = int(np.searchsorted(until[num_test:] - until[num_test - 1], train_rows)) + 1
    return num_test, min(num_learned, len(rows) - num_test)


def _rows(
    interactions: Interactions,
    liked: Interactions,
    disliked: Interactions | None,
    users: np.ndarray,
    num_negatives: np.ndarray,
    max_history: int,
    rng: np.random.Generator,
) -> ClickExamples:
    """User after user: the liked items that are asked, then the negatives."""
    ends, times = liked.indptr[users + 1], liked.times
    positives = ends[:, None] - NUM_POSITIVES + np.arange(NUM_POSITIVES)  # (U, 2) events of `liked`
    if disliked is None:
        sampled = untouched_items(interactions, users, NUM_SAMPLED, rng).ravel()
        moments = None if times is None else times[positives].ravel()
    else:
        _, all_of_user = gather_rows(disliked.indptr[users], disliked.lengths[users])
        of_user = np.repeat(np.arange(len(users)), disliked.lengths[users])
        order = np.lexsort((rng.random(len(all_of_user)), of_user))
        place = np.arange(len(order)) - np.repeat(
            np.cumsum(disliked.lengths[users]) - disliked.lengths[users], disliked.lengths[users]
        )
        events = all_of_user[order][place < num_negatives[of_user]]
        sampled = disliked.items[events]
        moments = None if times is None else disliked.times[events]
    owner = np.concatenate(
        [np.repeat(np.arange(len(users)), NUM_POSITIVES), np.repeat(np.arange(len(users)), num_negatives)]
    )
    order = np.argsort(owner, kind="stable")
    items = np.concatenate([liked.items[positives].ravel(), sampled])[order].astype(np.int32)
    labels = (np.arange(len(owner)) < positives.size)[order]
    when = None if times is None else np.concatenate([times[positives].ravel(), moments])[order]
    places = ends[:, None] - NUM_POSITIVES - max_history + np.arange(max_history)
    padded = np.append(liked.items, PADDING).astype(np.int32)
    histories = padded[np.where(places >= liked.indptr[users][:, None], places, -1)][owner[order]]
    zeros = np.zeros(len(items), np.int32)
    return ClickExamples(users[owner[order]].astype(np.int32), items, labels, histories, zeros, zeros.copy(), when)


def untouched_items(interactions: Interactions, users: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """For each of `users`, int64 (N,), so many different items that the user never touches, uniformly: int32 (N, number).

    Every user must have that many left.
    """
    num_items = np.int64(interactions.num_items)
    owners = np.repeat(np.arange(interactions.num_users), interactions.lengths)
    taken = np.unique(owners * num_items + interactions.items)
    sampled = np.empty((len(users), number), np.int64)
    for column in range(number):
        open_rows = np.arange(len(users))
        while len(open_rows):
            sampled[open_rows, column] = items = rng.integers(num_items, size=len(open_rows))
            keys = users[open_rows] * num_items + items
            found = taken[np.minimum(np.searchsorted(taken, keys), len(taken) - 1)] == keys
            again = found | (sampled[open_rows, :column] == items[:, None]).any(axis=1)
            open_rows = open_rows[again]
    return sampled.astype(np.int32)
