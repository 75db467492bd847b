"""Which items may be recommended: columns of the catalogue, stock, exclusions, candidate lists.

| asked for | meaning |
|---|---|
| `genres=Comedy|Drama` | the column, or one entry of a list column, is one of these; upper and lower case are one |
| `genres!=Horror` | none of these; items without a value pass |
| `year>=1990`, `>`, `<=`, `<` | the value, or one of a list, is such a number; values that are no numbers never are |

A value that itself holds "|" is given as a `Condition`. Several conditions hold together.

What comes with one request, up to SHORT_LIST exclusions or candidates, takes as many steps as it names items. What recurs
(conditions, stock, longer lists) takes as many as the catalogue has items, once: it is kept as a filter.

Letters: N items, C items that are left, S items of a short list, E entries of a column (of all lists together), V different
values of a column.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.arguments import checked_collection, checked_ids
from llmrec.data.catalog import Catalog, nearest_words
from llmrec.data.column_values import NUMBER, ColumnValues
from llmrec.errors import RequestError
from llmrec.files import content_hash
from llmrec.recommenders.requests import SHORT_LIST

OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}
_TRUE = ("true", "yes", "1")
_KEPT_FILTERS = 32  # each keeps 4 bytes per item that is left
_KEPT_LISTS = 16  # each keeps 4 bytes per item, SHORT_LIST items at most
_KEPT_COLUMNS = 4  # each keeps 4 bytes per entry and its different values


class NothingLeft(RequestError):
    """Rules that are right and leave no item."""


@dataclass(frozen=True)
class Condition:
    """A rule about one column. operator: one of OPERATORS; values: one of them must match; comparisons take one number."""

    column: str
    operator: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        is_texts = isinstance(self.values, tuple) and all(isinstance(value, str) for value in self.values)
        if not isinstance(self.column, str) or self.operator not in OPERATORS or not is_texts or not self.values:
            raise RequestError(
                f"a condition takes a column, one of {' '.join(OPERATORS)}, and a tuple of texts, as in "
                f"Condition('genres', '=', ('Comedy',)), but these are {self.column!r}, {self.operator!r}, {self.values!r}."
            )
        if self.operator in _COMPARE and (len(self.values) > 1 or not re.match(NUMBER, self.values[0])):
            raise RequestError(
                f"'{self.operator}' compares with one number, but '{str(self)[:80]}' gives '{'|'.join(self.values)[:40]}'."
            )

    @classmethod
    def parse(cls, text: str) -> Condition:
        """`genres=Comedy|Drama`, `year>=1990`. Raises RequestError for what is no condition."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate, which Arrow refuses, matches nothing
        operator = re.search("|".join(OPERATORS), text)
        column = "" if operator is None else text[: operator.start()].strip()
        values = (
            [] if operator is None else [part.strip() for part in text[operator.end() :].split("|") if part.strip()]
        )
        if not column or not values:
            raise RequestError(
                f"a filter should read like genres=Comedy|Drama, genres!=Horror or year>=1990, but it is '{text[:80]}'."
            )
        return cls(column, operator[0], tuple(values))

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{'|'.join(self.values)}"


@dataclass(frozen=True, eq=False)
class Choice:
    """What rules leave: `items` without `excluded`.

    items: int32, ascending, read-only; None for all. excluded: int32 (S,), ascending, each one of `items`: a short list that
    came with a request. num_left: C, at least 1.
    """

    items: np.ndarray | None
    excluded: np.ndarray
    num_left: int


class ItemRules:
    """Turns rules about one catalogue into items. Of one filter the same array object comes back every time, so that whoever
    prepares something from an array (prefix sums over a trie, say) can keep it by identity."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._filters: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lists: OrderedDict[str, np.ndarray] = OrderedDict()
        self._columns: OrderedDict[str, ColumnValues] = OrderedDict()
        self._digests: OrderedDict[int, tuple[Collection[str], str]] = OrderedDict()

    def choice(
        self,
        *,
        where: str | Condition | Sequence[str | Condition] = (),
        in_stock: str | Collection[str] | None = None,
        exclude: Collection[str] = (),
        candidates: Collection[str] | None = None,
    ) -> Choice:
        """The items that all rules leave.

        Args:
            where: conditions, as texts or `Condition`s; one text is one condition.
            in_stock: the item ids in stock (ids the catalogue lacks are passed over), or the name of a column whose
                values true, yes and 1 say so. Of the same tuple or frozenset the ids are read only once; a list may have
                changed and is read again: 30 ms for 500,000 ids.
            exclude: item ids that must not come out.
            candidates: item ids to choose from; None for all.

        Raises RequestError for an unknown column, value or id (the nearest are named), NothingLeft when nothing is left.
        """
        checked_collection(exclude, "the excluded items")
        if in_stock is not None and not isinstance(in_stock, str):
            checked_collection(in_stock, "the items in stock")
        if candidates is not None and not len(checked_collection(candidates, "the candidates")):
            raise RequestError("the list of candidates is empty. Leave it out to choose from the whole catalogue.")
        conditions = conditions_of(where)
        few_excluded = len(exclude) <= SHORT_LIST
        few_listed = candidates is not None and len(candidates) <= SHORT_LIST
        items = self._filter(conditions, in_stock, () if few_excluded else exclude, None if few_listed else candidates)
        if few_listed:
            listed = self._short_list(candidates, "the candidates")
            items = listed if items is None else _read_only(listed[is_among(listed, items)])
        excluded = self._short_list(exclude if few_excluded else (), "the excluded items")
        if items is not None:
            excluded = excluded[is_among(excluded, items)]
        if few_listed:
            items, excluded = _read_only(items[~is_among(items, excluded)]), excluded[:0]
        num_left = (self.catalog.num_items if items is None else len(items)) - len(excluded)
        if not num_left:
            raise NothingLeft(_nothing_left(conditions, in_stock, exclude, candidates, self.catalog.num_items))
        return Choice(items, excluded, num_left)

    def _filter(
        self,
        conditions: list[Condition],
        in_stock: str | Collection[str] | None,
        exclude: Collection[str],
        candidates: Collection[str] | None,
    ) -> np.ndarray | None:
        """What rules over the whole catalogue leave: int32, ascending, the latest few kept. None where there are no rules."""
        if not conditions and in_stock is None and not len(exclude) and candidates is None:
            return None
        key = content_hash(repr(conditions), *(self._digest(ids) for ids in (in_stock, exclude, candidates)))
        if key not in self._filters:
            allowed = np.ones(self.catalog.num_items, dtype=bool)  # (N,)
            for condition in conditions:
                allowed &= self._holds(condition)
            if in_stock is not None:
                allowed &= self._stocked(in_stock)
            if candidates is not None:
                listed = np.zeros_like(allowed)
                listed[self._index(candidates, "the candidates")] = True
                allowed &= listed
            allowed[self._index(exclude, "the excluded items")] = False
            _keep(self._filters, key, _read_only(np.flatnonzero(allowed).astype(np.int32)), _KEPT_FILTERS)
        self._filters.move_to_end(key)
        return self._filters[key]

    def _short_list(self, ids: Collection[str], what: str) -> np.ndarray:
        """The items of a request's own list: int32 (S,), ascending, each once."""
        if not len(ids):
            return np.zeros(0, np.int32)
        key = self._digest(ids)
        if key not in self._lists:
            _keep(self._lists, key, _read_only(np.unique(self._index(ids, what))), _KEPT_LISTS)
        self._lists.move_to_end(key)
        return self._lists[key]

    def _index(self, ids: Collection[str], what: str) -> np.ndarray:
        return self.catalog.index(checked_ids(ids, what))

    def _holds(self, condition: Condition) -> np.ndarray:
        """bool (N,)."""
        column = self._column(condition.column)
        if condition.operator in _COMPARE:
            with np.errstate(invalid="ignore"):  # NaN, no number, compares as False
                return column.any_of(_COMPARE[condition.operator](column.numbers, float(condition.values[0])))
        matches = np.zeros(len(column.values), dtype=bool)  # (V,)
        for value in condition.values:
            found = pc.equal(column.folded, value.lower()).to_numpy(zero_copy_only=False)
            if not found.any():
                raise RequestError(_unknown_value(condition.column, value, column.values))
            matches |= found
        return ~column.any_of(matches) if condition.operator == "!=" else column.any_of(matches)

    def _digest(self, ids: str | Collection[str] | None) -> str:
        """What tells one list of ids from another without keeping it alive."""
        if ids is None or isinstance(ids, str):
            return "no rule" if ids is None else f"column {ids}"
        if id(ids) in self._digests:
            return self._digests[id(ids)][1]
        try:
            digest = content_hash("\0".join(sorted(ids) if isinstance(ids, set | frozenset) else ids))
        except TypeError:  # an id that is no text, which is said in words
            digest = ""
            checked_ids(ids, "the ids of a rule")
        # It cannot change, and is held, so that its address stays its own; of a short one the ids are as soon read.
        if isinstance(ids, tuple | frozenset) and len(ids) > SHORT_LIST:
            _keep(self._digests, id(ids), (ids, digest), _KEPT_FILTERS)
        return digest

    def _stocked(self, in_stock: str | Collection[str]) -> np.ndarray:
        """bool (N,)."""
        if isinstance(in_stock, str):
            column = self._column(in_stock)
            return column.any_of(pc.is_in(column.folded, pa.array(_TRUE)).to_numpy(zero_copy_only=False))
        known = pa.array(checked_ids(in_stock, "the items in stock"), pa.string())
        return pc.is_in(self.catalog.table["item_id"], known).to_numpy()

    def _column(self, name: str) -> ColumnValues:
        names = self.catalog.table.column_names
        if name not in names:
            folded = [known for known in names if known.lower() == name.lower()]
            if len(folded) != 1:
                nearest = ", ".join(f"'{known}'" for known in nearest_words(name, names))
                raise RequestError(
                    f"the catalogue has no column '{name[:60]}' to filter by. The nearest are: {nearest}."
                )
            (name,) = folded
        if name not in self._columns:
            _keep(self._columns, name, ColumnValues(name, self.catalog.table[name]), _KEPT_COLUMNS)
        self._columns.move_to_end(name)
        return self._columns[name]


def conditions_of(where: str | Condition | Sequence[str | Condition]) -> list[Condition]:
    """The conditions, parsed. Raises RequestError for what is none."""
    asked = [where] if isinstance(where, str | Condition) else where
    if not isinstance(asked, list | tuple) or not all(isinstance(condition, str | Condition) for condition in asked):
        raise RequestError(
            f"a filter should be a text such as 'genres=Comedy', a Condition, or a list of these, but it is {where!r:.80}."
        )
    return [Condition.parse(condition) if isinstance(condition, str) else condition for condition in asked]


def is_among(wanted: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Which of the wanted items are among `items`, which ascend: int32 (S,), int32 (C,) -> bool (S,)."""
    return np.searchsorted(items, wanted, side="right") > np.searchsorted(items, wanted)


def _read_only(items: np.ndarray) -> np.ndarray:
    items.flags.writeable = False
    return items


def _keep(kept: OrderedDict, key: str, value: object, limit: int) -> None:
    kept[key] = value
    while len(kept) > limit:
        kept.popitem(last=False)


def _unknown_value(column: str, value: str, values: pa.StringArray) -> str:
    nearest = ", ".join(f"'{known[:60]}'" for known in nearest_words(value, values.to_pylist()))
    # data prepared before such columns became lists
    is_joined = any(value in known.split("|") for known in values.to_pylist() if "|" in known)
    joined = (
        " Prepare the data again: several values in one text, such as Action|Comedy, then become a list."
        if is_joined
        else ""
    )
    return f"no item has '{value[:60]}' as its {column}. The nearest values are: {nearest or 'none'}.{joined}"


def _nothing_left(
    conditions: list[Condition],
    in_stock: str | Collection[str] | None,
    exclude: Collection[str],
    candidates: Collection[str] | None,
    num_items: int,
) -> str:
    asked = [str(condition) for condition in conditions]
    asked += [] if in_stock is None else ["in stock"]
    asked += [f"{len(exclude)} excluded"] if len(exclude) else []
    asked += [] if candidates is None else [f"{len(candidates)} candidates"]
    return f"none of the {num_items} items is left by: {', '.join(asked)}. Loosen one of these rules."
