"""A column of the catalogue as the different values that it holds.

Letters: N items, E entries of a column (of all lists together), V different values.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from llmrec.errors import RequestError

NUMBER = r"^\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*$"  # one way to match: a long text that fails does so at once


class ColumnValues:
    """A column as numbers of its different values, made once: filters then compare V values, not N texts.

    codes: int32 (E,), the value of each entry, V where there is none. rows: int64 (N + 1,), the entries of item n are
    codes[rows[n]:rows[n + 1]], for a list column; None where entries are items.
    """

    def __init__(self, name: str, column: pa.ChunkedArray) -> None:
        self.name = name
        whole = column.combine_chunks()
        if isinstance(whole, pa.ChunkedArray):  # no rows at all, or more than one buffer holds
            whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
        self.rows = None
        if types.is_list(whole.type):
            lengths = pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False)
            self.rows = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
            whole = whole.flatten()
        coded = whole.dictionary_encode()
        self.values: pa.StringArray = coded.dictionary  # (V,)
        self.codes = pc.fill_null(coded.indices, len(self.values)).to_numpy(zero_copy_only=False)

    @cached_property
    def folded(self) -> pa.StringArray:
        """The values without case and outer spaces: (V,)."""
        return pc.utf8_trim_whitespace(pc.utf8_lower(self.values))

    @cached_property
    def numbers(self) -> np.ndarray:
        """The values as numbers, NaN where they are none: float64 (V,). Raises RequestError where none is."""
        is_number = pc.match_substring_regex(self.values, NUMBER)
        texts = pc.utf8_trim_whitespace(pc.if_else(is_number, self.values, None))
        numbers = pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
        if len(numbers) == 0 or np.isnan(numbers).all():
            example = f", but words such as '{self.values[0].as_py()[:40]}'" if len(self.values) else ""
            raise RequestError(f"the column '{self.name}' holds no numbers{example}; compare it with = or !=.")
        return numbers

    def any_of(self, matches: np.ndarray) -> np.ndarray:
        """Whether an entry of each item has a value that matches. bool (V,) -> bool (N,)."""
        hit = np.append(matches, False)[self.codes]  # (E,)
        if self.rows is None:
            return hit
        before = np.concatenate([[0], np.cumsum(hit, dtype=np.int32)])  # (E + 1,)
        return before[self.rows[1:]] > before[self.rows[:-1]]
