"""What each user of a batch may receive: rules that hold for all, and next to them a filter per request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from llmrec.arguments import checked_collection, checked_rows
from llmrec.data.interactions import Histories
from llmrec.errors import RequestError
from llmrec.recommenders.requests import Requests
from llmrec.recommenders.rules import Choice, Condition, ItemRules, conditions_of


@dataclass(frozen=True)
class Filter:
    """What one user may receive; see `ItemRules.choice`. All four hold together."""

    where: str | Condition | Sequence[str | Condition] = ()
    in_stock: str | Collection[str] | None = None
    exclude: Collection[str] = ()
    candidates: Collection[str] | None = None

    def within(self, common: Filter) -> Filter:
        """These rules and those that hold for all users. Raises RequestError where both bring a list to choose from."""
        for what in ("in_stock", "candidates"):
            if getattr(self, what) is not None and getattr(common, what) is not None:
                raise RequestError(f"{what} is given for this user and for all users. Leave out one of the two.")
        own, shared = (checked_collection(rules.exclude, "the excluded items") for rules in (self, common))
        return Filter(
            [*conditions_of(common.where), *conditions_of(self.where)],
            common.in_stock if self.in_stock is None else self.in_stock,
            # a long list that stays the same object is read only once
            [*shared, *own] if len(shared) and len(own) else own if len(own) else shared,
            common.candidates if self.candidates is None else self.candidates,
        )


def ruled(
    rules: ItemRules, requests: Requests, common: Filter, filters: Sequence[Filter | None] | None
) -> tuple[Requests, int]:
    """The requests with what rules leave each of them, and the most items that are left to one.

    common: holds for all; filters: one per request, or None where it brings none. Raises RequestError for what is no filter, and for
    one that leaves nothing or names what the catalogue lacks: it then says of which request.
    """
    if filters is None:
        choice = rules.choice(**vars(common))
        choices, num_left = [choice] * len(requests), choice.num_left
    else:
        choices = _choices(rules, common, checked_rows(filters, "the filters"), len(requests))
        num_left = max((choice.num_left for choice in choices), default=1)
    excluded = Histories.from_lists([choice.excluded for choice in choices])
    return replace(
        requests,
        excluded=excluded if len(excluded.items) else None,
        candidates=[choice.items for choice in choices],
    ), num_left


def _choices(rules: ItemRules, common: Filter, filters: list[Filter | None], num_requests: int) -> list[Choice]:
    if len(filters) != num_requests:
        raise RequestError(
            f"filters should have one entry for each of the {num_requests} histories, not {len(filters)}."
        )
    choices = []
    for row, own in enumerate(filters):
        if own is not None and not isinstance(own, Filter):
            raise RequestError(
                f"filters should hold a Filter or None for each history, but entry {row} is {own!r:.60}."
            )
        try:
            choices.append(rules.choice(**vars(common if own is None else own.within(common))))
        except RequestError as error:
            raise RequestError(f"the filter of history {row} (counted from 0): {error}") from error
    return choices
