"""Item forms: how an item stands in the token stream, as the sequence of token ids the model reads and writes for it.

Ids below V, the number of rows of the backbone's own embedding, are words of its vocabulary; V + r is row r of the
ItemTable.

| form | sequence of an item | rows of the ItemTable |
|---|---|---|
| text | the tokens of its title, then an end token | none |
| unique_id | one token | one an item |
| semantic_id | one code token a level | one a code of every level's codebook |
| soft (not built yet) | num_query_tokens placeholders filled by the semantic adapter | none |
| image (not built yet, input only) | the multimodal model's own image placeholders | none |

Letters: N items, R rows of the ItemTable, L_max tokens of the longest item, V rows of the base embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmrec.errors import ModelError
from llmrec.items.plain_text import one_line, plain_ids
from llmrec.items.semantic_ids import SemanticIDs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMS = ("text", "unique_id", "semantic_id")


@dataclass(frozen=True, eq=False)
class ItemTokens:
    """The token sequence of every item of the catalogue.

    form: one of FORMS. base_vocab_size: V. sequences: int32 (N, L_max), padded with -1, each id in [0, V + R).
    lengths: int32 (N,), each >= 1. row_strings: R strings, the spelling of each row of the ItemTable (empty for text).
    row_levels: int32 (R,), the position in an item's sequence at which the row is used.
    end_token: the vocabulary id that closes every sequence of the text form; None for forms that need none.
    """

    form: str
    base_vocab_size: int
    sequences: np.ndarray
    lengths: np.ndarray
    row_strings: list[str]
    row_levels: np.ndarray
    end_token: int | None = None

    def __post_init__(self) -> None:
        used = np.arange(self.sequences.shape[1]) < self.lengths[:, None]  # (N, L_max)
        ids = self.sequences[used]
        limit = self.base_vocab_size + self.num_rows
        assert self.form in FORMS, self.form
        assert self.sequences.dtype == np.int32 and self.lengths.dtype == np.int32, "sequences and lengths are int32"
        assert self.num_items == 0 or self.lengths.min() >= 1, "every item has at least one token"
        assert (self.sequences[~used] == -1).all(), "sequences are padded with -1"
        assert ids.size == 0 or (ids.min() >= 0 and ids.max() < limit), f"token ids lie in [0, {limit})"
        assert len(self.row_levels) == self.num_rows, (len(self.row_levels), self.num_rows)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.sequences)

    @property
    def num_rows(self) -> int:
        """R: rows the ItemTable needs."""
        return len(self.row_strings)

    @property
    def max_length(self) -> int:
        """L_max: tokens of the longest item."""
        return self.sequences.shape[1]

    def __getitem__(self, item: int) -> np.ndarray:
        """The whole sequence of one item: int32 (length,)."""
        return self.sequences[item, : self.lengths[item]]

    def mention(self, item: int) -> np.ndarray:
        """The sequence as it stands inside a sentence: without the end token of the text form."""
        return self.sequences[item, : self.lengths[item] - (self.end_token is not None)]

    def flatten(self, items: np.ndarray) -> np.ndarray:
        """The sequences of many items one after another: int (H,) -> int32 (sum of their lengths,)."""
        rows = self.sequences[items]  # (H, L_max)
        return rows[np.arange(self.max_length) < self.lengths[items][:, None]]


def unique_id_tokens(num_items: int, base_vocab_size: int) -> ItemTokens:
    """One token an item: item i is row i of the ItemTable, spelled <item_i>."""
    return ItemTokens(
        form="unique_id",
        base_vocab_size=base_vocab_size,
        sequences=base_vocab_size + np.arange(num_items, dtype=np.int32)[:, None],
        lengths=np.ones(num_items, dtype=np.int32),
        row_strings=[f"<item_{item}>" for item in range(num_items)],
        row_levels=np.zeros(num_items, dtype=np.int32),
    )


def semantic_id_tokens(semantic_ids: SemanticIDs, base_vocab_size: int) -> ItemTokens:
    """L code tokens an item; every code of every level has a row, used by an item today or not, level after level."""
    sizes = semantic_ids.codebook_sizes
    first_rows = np.cumsum([0, *sizes[:-1]])  # (L,)
    return ItemTokens(
        form="semantic_id",
        base_vocab_size=base_vocab_size,
        sequences=(base_vocab_size + first_rows + semantic_ids.codes).astype(np.int32),
        lengths=np.full(semantic_ids.num_items, semantic_ids.num_levels, dtype=np.int32),
        row_strings=semantic_ids.token_strings,
        row_levels=np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
    )


def text_tokens(
    titles: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    base_vocab_size: int,
    *,
    item_ids: Sequence[str],
    max_tokens: int = 32,
) -> ItemTokens:
    """The title's tokens and an end token (the tokenizer's EOS), so that no title is a prefix of another.

    max_tokens: tokens an item at most, the end token included; longer titles are cut, and one warning counts them.
    An empty title falls back to the item_id. Equal titles give equal sequences; the trie lets them share a leaf.
    Raises ModelError if the tokenizer has no EOS or max_tokens < 2.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the text form ends every title with the tokenizer's EOS, but this tokenizer has none. Use another form."
        )
    if max_tokens < 2:
        raise ModelError(f"max_tokens must leave room for a word and the end token, so at least 2; it is {max_tokens}.")
    texts = [one_line(title) or one_line(item_id) for title, item_id in zip(titles, item_ids, strict=True)]
    rows, cut = plain_ids(texts, tokenizer, max_tokens - 1)
    if any(cut):
        example = next(text for text, was_cut in zip(texts, cut, strict=True) if was_cut)
        warnings.warn(
            f"{sum(cut)} of {len(texts)} titles are longer than {max_tokens - 1} tokens and were cut, "
            f"for example {example[:60]!r}.",
            stacklevel=2,
        )
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int32)
    sequences = np.full((len(rows), int(lengths.max(initial=1))), -1, dtype=np.int32)
    for item, row in enumerate(rows):
        sequences[item, : len(row) + 1] = [*row, tokenizer.eos_token_id]
    return ItemTokens(
        form="text",
        base_vocab_size=base_vocab_size,
        sequences=sequences,
        lengths=lengths,
        row_strings=[],
        row_levels=np.zeros(0, dtype=np.int32),
        end_token=tokenizer.eos_token_id,
    )
