"""What a catalogue can say of its titles: columns of a few values to choose from, and columns of numbers to compare.

Letters: N items.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from llmrec.data.catalog import Catalog
from llmrec.data.column_values import NUMBER, ColumnValues
from llmrec.recommenders.rules import Condition

MAX_VALUES = 5_000  # a column of more different values is no choice that people make by naming one
MAX_VALUE_CHARACTERS = 60  # longer texts are descriptions
_FEWEST_ITEMS_A_VALUE = 1.5  # on average: a column of names that each item has for itself tells no group of items


class Facets:
    """The columns of one catalogue that wishes can be about. choices: column -> its values, the most frequent first."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.choices: dict[str, tuple[str, ...]] = {}
        self._numbers: dict[str, np.ndarray] = {}
        for name in catalog.fields:
            if name in ("title", "image"):
                continue
            column = ColumnValues(name, catalog.table[name])
            if column.rows is None and _are_numbers(column):
                self._numbers[name] = np.append(column.numbers, np.nan)[column.codes]
            elif values := _choices(column, catalog.num_items):
                self.choices[name] = values

    @property
    def number_columns(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return tuple(self._numbers)

    def numbers(self, column: str) -> np.ndarray:
        """float64 (N,), NaN where the catalogue says nothing."""
        return self._numbers[column]

    def is_whole(self, column: str) -> bool:
        """Whether all numbers of a column are whole."""
        return column in self._whole

    def number_of(self, column: str, item_id: str) -> float | None:
        """An item's number, None where it has none."""
        number = float(self._numbers[column][int(self.catalog.index([item_id])[0])])
        return None if np.isnan(number) else number

    def spelt(self, condition: Condition) -> Condition:
        """The condition with column and values as the catalogue writes them, where it has them but for upper and lower case."""
        names = {name.casefold(): name for name in (*self.choices, *self._numbers)}
        column = names.get(condition.column.casefold(), condition.column)
        values = {value.casefold(): value for value in self.choices.get(column, ())}
        return Condition(column, condition.operator, tuple(values.get(one.casefold(), one) for one in condition.values))

    @cached_property
    def _whole(self) -> frozenset[str]:
        return frozenset(
            name for name, numbers in self._numbers.items() if (numbers[~np.isnan(numbers)] % 1 == 0).all()
        )


def _are_numbers(column: ColumnValues) -> bool:
    """Whether the different values are numbers, all but a twentieth, and at least two of them."""
    is_number = pc.match_substring_regex(column.values, NUMBER)
    count = pc.sum(is_number).as_py() or 0
    return count >= 2 and count >= 0.95 * len(column.values)


def _choices(column: ColumnValues, num_items: int) -> tuple[str, ...]:
    values = column.values.to_pylist() if len(column.values) <= MAX_VALUES else []
    if not values or len(values) * _FEWEST_ITEMS_A_VALUE > num_items:
        return ()
    if max(map(len, values)) > MAX_VALUE_CHARACTERS:
        return ()
    counts = np.bincount(column.codes, minlength=len(values) + 1)[: len(values)]
    return tuple(values[place] for place in np.argsort(-counts, kind="stable") if values[place].strip())
