"""Which events a model may learn from and which it is asked for: leave-one-out, one global cut in time, whole users.

The training events of a user are the oldest ones, and a target is never among the events trained on for it.
Letters: N test instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.interactions import Histories, Interactions, gather_rows
from llmrec.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Instances:
    """N questions "what comes next?" with their answers.

    users: int32 (N,); histories: N rows, every one non-empty, oldest first; targets: int32 (N,) dense items;
    times: int64 (N,) of the targets, or None.
    """

    users: np.ndarray
    histories: Histories
    targets: np.ndarray
    times: np.ndarray | None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Instances:
        """The given ones, in the given order."""
        times = None if self.times is None else self.times[rows]
        return Instances(self.users[rows], self.histories.take(rows), self.targets[rows], times)


@dataclass(frozen=True, eq=False)
class Split:
    """What to fit on and what to ask. `train` and `train_valid` keep the numbering of users; rows may be empty."""

    name: str
    train: Interactions
    train_valid: Interactions
    valid: Instances
    test: Instances
    card: dict

    def fitted(self, fit: str) -> Interactions:
        """The events a model may learn from: fit "train" or "train+valid". Raises ConfigError for another word."""
        if fit not in ("train", "train+valid"):
            raise ConfigError(f"fit should be 'train' or 'train+valid', but it is '{fit}'.")
        return self.train if fit == "train" else self.train_valid


def _instances(interactions: Interactions, users: np.ndarray, lengths: np.ndarray) -> Instances:
    """One test instance per user: the first `lengths` events are the history, the event after them the target."""
    starts = interactions.indptr[users]
    indptr, positions = gather_rows(starts, lengths)
    targets = starts + lengths
    return Instances(
        users.astype(np.int32),
        Histories(indptr, interactions.items[positions]),
        interactions.items[targets],
        None if interactions.times is None else interactions.times[targets],
    )


def _finish(
    name: str,
    settings: dict,
    train: Interactions,
    train_valid: Interactions,
    valid: Instances,
    test: Instances,
    left_out: dict,
) -> Split:
    """Put the parts together with a card that says how many of everything there are, cold users and items included."""
    card = {
        "policy": name,
        **settings,
        "num_users": train.num_users,
        "num_items": train.num_items,
        "events": {"train": train.num_events, "train+valid": train_valid.num_events},
        "instances": {"valid": len(valid), "test": len(test)},
        "left_out": left_out,
    }
    for fit, fitted in (("train", train), ("train+valid", train_valid)):
        item_is_cold, user_is_cold = fitted.counts() == 0, fitted.lengths == 0
        card[f"cold, fit={fit}"] = {
            "items": int(item_is_cold.sum()),
            "valid_targets": int(item_is_cold[valid.targets].sum()),
            "test_targets": int(item_is_cold[test.targets].sum()),
            "valid_users": int(user_is_cold[valid.users].sum()),
            "test_users": int(user_is_cold[test.users].sum()),
        }
    return Split(name, train, train_valid, valid, test, card)


def leave_one_out(interactions: Interactions) -> Split:
    """The last event of each user is the test target, the last but one the validation target.

    Users with fewer than 3 events are trained on with all they have and are never asked.
    Raises DataError when no user has 3 events.
    """
    lengths = interactions.lengths
    asked = lengths >= 3
    users = np.flatnonzero(asked)
    if not len(users):
        raise DataError(
            f"leave-one-out needs users with 3 events or more, but none of the {interactions.num_users} users has. "
            "Use more data, or a threshold that keeps more of it."
        )
    return _finish(
        "leave_one_out",
        {},
        interactions.first(np.where(asked, lengths - 2, lengths)),
        interactions.first(np.where(asked, lengths - 1, lengths)),
        _instances(interactions, users, lengths[users] - 2),
        _instances(interactions, users, lengths[users] - 1),
        {"users_with_under_3_events": int((~asked).sum())},
    )


def temporal(interactions: Interactions, test_quantile: float = 0.9, valid_quantile: float = 0.8) -> Split:
    """One cut in time for everybody: fit on what happened up to it, ask for each user's first event after it.

    The cuts are the event times at the two quantiles. Validation: history and `train` up to the first cut, target the
    first event after it and not after the second cut (a later one would show validation the test period). Test: the
    same with the second cut and `train_valid`. Users without an event before the cut are left out and counted.
    Raises DataError without times, or when no user can be asked; ConfigError for quantiles out of order.
    """
    if interactions.times is None:
        raise DataError(
            "a temporal split needs a time for every event, but these data have only an order. "
            "Prepare them from a file with a timestamp column, or use leave_one_out."
        )
    if not 0 < valid_quantile < test_quantile < 1:
        raise ConfigError(
            "a temporal split needs 0 < valid_quantile < test_quantile < 1, "
            f"but they are {valid_quantile} and {test_quantile}."
        )
    if not interactions.num_events:
        raise DataError("a temporal split needs events, but these data have none.")
    quantiles = np.quantile(interactions.times, [valid_quantile, test_quantile], method="lower")
    valid_cut, test_cut = (int(cut) for cut in quantiles)
    lengths = interactions.lengths
    seen = {cut: _events_up_to(interactions, cut) for cut in (valid_cut, test_cut)}
    parts, left_out = [], {}
    for name, cut, end in (("valid", valid_cut, seen[test_cut]), ("test", test_cut, lengths)):
        has_target = seen[cut] < end
        users = np.flatnonzero(has_target & (seen[cut] > 0))
        if not len(users):
            raise DataError(
                f"no user has an event both before and after the {name} cut in time ({cut}), so there is nothing to "
                "ask. Use other quantiles, or leave_one_out."
            )
        parts.append(_instances(interactions, users, seen[cut][users]))
        left_out[f"{name}_users_without_history"] = int((has_target & (seen[cut] == 0)).sum())
    return _finish(
        "temporal",
        {
            "valid_quantile": valid_quantile,
            "test_quantile": test_quantile,
            "valid_cut": valid_cut,
            "test_cut": test_cut,
        },
        interactions.first(seen[valid_cut]),
        interactions.first(seen[test_cut]),
        parts[0],
        parts[1],
        left_out,
    )


def _events_up_to(interactions: Interactions, cut: int) -> np.ndarray:
    """Events of each user at or before `cut`: int64 (U,). They are the user's oldest, because times never fall."""
    before = np.zeros(interactions.num_events + 1, np.int64)
    np.cumsum(interactions.times <= cut, out=before[1:])
    return before[interactions.indptr[1:]] - before[interactions.indptr[:-1]]


def by_user(interactions: Interactions, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Split:
    """Whole users are held out: nothing of theirs is trained on, their last event is the target, all before it the history.

    `valid` and `test` are the shares of the users with 2 events or more, sampled by `seed`. `train_valid` adds all events
    of the validation users. Raises ConfigError for shares that leave nobody to train on, DataError for too few users.
    """
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise ConfigError(
            f"shares of users should be above 0 and sum to less than 1, but are valid {valid}, test {test}."
        )
    lengths = interactions.lengths
    able = np.flatnonzero(lengths >= 2)
    num_valid, num_test = (max(1, round(share * len(able))) for share in (valid, test))
    if num_valid + num_test >= len(able):
        raise DataError(
            f"a split by user needs at least 3 users with 2 events or more, but only {len(able)} of the "
            f"{interactions.num_users} users can be sampled from. Use more data, or leave_one_out."
        )
    sampled = np.random.default_rng(seed).permutation(able)
    valid_users, test_users = np.sort(sampled[:num_valid]), np.sort(sampled[num_valid : num_valid + num_test])
    return of_users(
        interactions,
        np.setdiff1d(np.arange(interactions.num_users), sampled[: num_valid + num_test]),
        valid_users,
        test_users,
        name="by_user",
        settings={"valid_share": valid, "test_share": test, "seed": seed},
        left_out={"users_with_under_2_events": int((lengths < 2).sum())},
    )


def of_users(
    interactions: Interactions,
    train: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    *,
    name: str,
    settings: dict,
    max_events: int | None = None,
    left_out: dict | None = None,
) -> Split:
    """Whole users: `train` are learned from, the last event of `valid` and `test` is asked, all before it the history; all int (N,), in
    any order, nobody twice. `train_valid` adds all events of the validation users; those of others are in no part.

    max_events: of each user only the last so many count, the target among them. Those asked need 2 events.
    """
    if max_events is not None:
        kept = np.minimum(interactions.lengths, max_events)
        indptr, positions = gather_rows(interactions.indptr[1:] - kept, kept)
        optional = [None if part is None else part[positions] for part in (interactions.times, interactions.ratings)]
        interactions = Interactions(indptr, interactions.items[positions], interactions.num_items, *optional)
        settings = settings | {"max_events": max_events}
    lengths = interactions.lengths
    valid, test = np.sort(valid), np.sort(test)
    train_lengths = np.zeros_like(lengths)
    train_lengths[train] = lengths[train]
    train_valid_lengths = train_lengths.copy()
    train_valid_lengths[valid] = lengths[valid]
    return _finish(
        name,
        settings,
        interactions.first(train_lengths),
        interactions.first(train_valid_lengths),
        _instances(interactions, valid, lengths[valid] - 1),
        _instances(interactions, test, lengths[test] - 1),
        left_out or {},
    )


def limited(split: Split, max_train_users: int, seed: int) -> Split:
    """The same questions, but the events of at most so many users are learned from, sampled by seed of those who have training events;
    `train_valid` also keeps users who have none before it."""
    has_events = split.train.lengths > 0
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(has_events))[:max_train_users]
    kept = ~has_events
    kept[chosen] = True
    train, train_valid = (part.first(np.where(kept, part.lengths, 0)) for part in (split.train, split.train_valid))
    settings = {key: value for key, value in split.card.items() if key != "policy"}
    settings["max_train_users"] = {"users": max_train_users, "seed": seed}
    return _finish(split.name, settings, train, train_valid, split.valid, split.test, split.card["left_out"])
