"""Parts of what is asked that are reported beside the whole: cold targets, rare ones, new users, the values of a catalogue column, ...

A task names them: `slices: [cold_target, {rare_target: 10}, user_activity, {column: genres}]`. The target is the item that is asked
about: a ranking's target, a click row's item.

| slice | what is in it |
|---|---|
| cold_target | the target has no training event |
| rare_target: n | the target has fewer than n of them |
| long_tail | the target is none of the most popular items that together hold 80 % of the training events |
| repeated_target, new_target | the target lies in the shown history, or does not |
| cold_user | nothing of the user is learned from |
| user_activity | three slices, by thirds of what the users had done before; equally active users stay together |
| column: NAME | one slice for each of the 20 values of a catalogue column that most targets have, and one for targets with none of
them; a target with several values is in several |

Letters: N questions, I items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from llmrec.config import Settings
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit
from llmrec.data.folder import Data
from llmrec.data.interactions import Histories
from llmrec.data.splits import Instances, Split

MOST_VALUES = 20  # of a column
HEAD_SHARE = 0.8  # of the training events, held by the most popular items


class RareTarget(Settings):
    """The target has fewer training events than this."""

    rare_target: int = Field(ge=1)


class OfColumn(Settings):
    """One slice a value of this catalogue column."""

    column: str


Named = Literal[
    "cold_target", "long_tail", "repeated_target", "new_target", "cold_user", "user_activity"
]  # fmt: skip
Slice = Annotated[Named | RareTarget | OfColumn, Field(union_mode="smart")]
# What every evaluation of the next item has: a repeated target that is filtered out can be hit by nobody.
ALWAYS: tuple[Slice, ...] = ("cold_target", "repeated_target", "new_target")


def instance_masks(
    slices: Sequence[Slice], data: Data, split: Split, fit: str, instances: Instances
) -> dict[str, np.ndarray]:
    """The slices of a ranking's test instances: name -> bool (N,). Raises DataError for a column that the catalogue lacks."""
    fitted = split.fitted(fit)
    return slice_masks(
        slices,
        data.catalog,
        counts=fitted.counts(),
        is_new_user=fitted.lengths[instances.users] == 0,
        items=instances.targets,
        histories=instances.histories,
        activity=instances.histories.lengths,
    )


def row_masks(slices: Sequence[Slice], data: Data, split: ClickSplit, rows: ClickExamples) -> dict[str, np.ndarray]:
    """The slices of click rows: name -> bool (N,). An item's training events are those of the split, or its liked training rows where
    they are more; a user is new who has no training row; what a user had done before are the likes that the row shows or counts, or
    the user's events of the split where they are more. Raises DataError for a column that the catalogue lacks."""
    liked = np.bincount(split.train.items[split.train.labels], minlength=data.catalog.num_items)
    counts = np.maximum(split.events.counts(), liked)
    shown = rows.histories != PADDING
    of_users = np.zeros(max(split.events.num_users, int(rows.users.max(initial=-1)) + 1), np.int64)
    of_users[: split.events.num_users] = split.events.lengths
    activity = np.maximum(np.maximum(shown.sum(axis=1), rows.liked), of_users[rows.users])
    indptr = np.concatenate([[0], np.cumsum(shown.sum(axis=1))])
    return slice_masks(
        slices,
        data.catalog,
        counts=counts,
        is_new_user=~np.isin(rows.users, split.train.users),
        items=rows.items,
        histories=Histories(indptr, rows.histories[shown]),
        activity=activity,
    )


def slice_masks(
    slices: Sequence[Slice],
    catalog: Catalog,
    *,
    counts: np.ndarray,
    is_new_user: np.ndarray,
    items: np.ndarray,
    histories: Histories,
    activity: np.ndarray,
) -> dict[str, np.ndarray]:
    """Which questions each slice has: name -> bool (N,), in the order of `slices`; those of a column are named COLUMN=VALUE.

    counts: int64 (I,) training events of each item; is_new_user: bool (N,); items: int (N,) the targets; histories: N rows, as shown;
    activity: int (N,), how much the user had done before.
    """
    masks: dict[str, np.ndarray] = {}
    for each in slices:
        if isinstance(each, OfColumn):
            masks |= _of_column(catalog, each.column, items)
        elif isinstance(each, RareTarget):
            masks[f"rare_target<{each.rare_target}"] = counts[items] < each.rare_target
        elif each == "cold_target":
            masks[each] = counts[items] == 0
        elif each == "long_tail":
            masks[each] = ~_is_popular(counts)[items]
        elif each == "cold_user":
            masks[each] = is_new_user
        elif each == "user_activity":
            masks |= _by_activity(activity)
        else:
            repeated = repeated_targets(items, histories)
            masks[each] = repeated if each == "repeated_target" else ~repeated
    return masks


def repeated_targets(items: np.ndarray, histories: Histories) -> np.ndarray:
    """Whether each target lies in the history beside it: bool (N,). With seen items filtered nobody can hit such a target."""
    rows = np.repeat(np.arange(len(items)), histories.lengths)
    found = np.zeros(len(items), dtype=bool)
    found[rows[histories.items == items[rows]]] = True
    return found


def _is_popular(counts: np.ndarray) -> np.ndarray:
    """The fewest items, the most popular first, that hold HEAD_SHARE of the events: bool (I,). Of equals those of the lower number."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    found = np.zeros(len(counts), dtype=bool)
    found[order] = before < HEAD_SHARE * counts.sum()
    return found


def _by_activity(activity: np.ndarray) -> dict[str, np.ndarray]:
    """A value belongs to the third in which the middle of those who have it lies."""
    values, which, numbers = np.unique(activity, return_inverse=True, return_counts=True)
    middle = (np.cumsum(numbers) - numbers / 2) / max(1, len(activity))
    third = np.minimum((3 * middle).astype(int), 2)
    masks = {}
    for number in np.unique(third):
        of_third = values[third == number]
        span = f"{of_third[0]}" if len(of_third) == 1 else f"{of_third[0]} to {of_third[-1]}"
        masks[f"user_activity={span}"] = third[which] == number
    return masks


def _of_column(catalog: Catalog, column: str, items: np.ndarray) -> dict[str, np.ndarray]:
    asked, question = np.unique(items, return_inverse=True)
    values = [set(catalog.values(int(item), column)) for item in asked]
    per_item = np.bincount(question, minlength=len(asked))
    frequent = Counter()
    for of_item, number in zip(values, per_item, strict=True):
        frequent.update(dict.fromkeys(of_item, int(number)))
    # of equally frequent values the first by the alphabet, so that the slices are the same whatever the order of the questions
    chosen = sorted(frequent, key=lambda value: (-frequent[value], value))[:MOST_VALUES]
    masks = {
        f"{column}={value}": np.array([value in of_item for of_item in values], bool)[question] for value in chosen
    }
    rest = np.array([not of_item & set(chosen) for of_item in values], bool)[question]
    if rest.any():
        masks[f"{column}: other"] = rest
    return masks
