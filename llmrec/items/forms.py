"""Item forms: how an item stands in the token stream, as the sequence of token ids the model reads and writes for it.

Ids below V, the number of rows of the backbone's own embedding, are words of its vocabulary; V + r is row r of the
ItemTable; ids from V + R on are vector tokens, which stand for vectors that are made elsewhere (llmrec.nn.splice).

| form | an item in the prompt (`ItemSequences`) | an item as the answer (`ItemTokens`) | embeddings of the ItemTable |
|---|---|---|---|
| text | the tokens of its title | the same, then an end token | none |
| unique_id | one token | that token | one per item, trained |
| semantic_id | one code token per level | the same | one per code of every level's codebook, trained |
| soft | num_query_tokens vector tokens made of its features | one token | one per item, made of its features |
| image | its image's vision tokens between the model's own words for an image | never | none |

Letters: N items, R rows of the ItemTable, S vector tokens, L_max tokens of the longest item, V rows of the base embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from llmrec.errors import ModelError
from llmrec.items.plain_text import Tokenizer, one_line, plain_ids
from llmrec.items.semantic_ids import SemanticIDs

Form = Literal["text", "unique_id", "semantic_id", "soft"]  # of answers, and in prompts
PromptForm = Literal["text", "unique_id", "semantic_id", "soft", "image"]
FORMS: tuple[Form, ...] = get_args(Form)
ONE_TOKEN_FORMS = ("unique_id", "soft")  # answers of one token, whose softmax is the exact ranking
NO_TARGET = -100  # the label of a token that is not to be predicted, as in transformers


@dataclass(frozen=True, eq=False)
class ItemSequences:
    """A sequence of token ids for every item: its form in the prompt, or a part of that.

    sequences: int32 (N, L_max), padded with -1. lengths: int32 (N,); a part may be empty (no image), a whole one is not.
    """

    sequences: np.ndarray
    lengths: np.ndarray

    def __post_init__(self) -> None:
        used = np.arange(self.sequences.shape[1]) < self.lengths[:, None]  # (N, L_max)
        assert self.sequences.dtype == np.int32 and self.lengths.dtype == np.int32, "sequences and lengths are int32"
        assert (self.sequences[used] >= 0).all() and (self.sequences[~used] == -1).all(), "padding, and only it, is -1"

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.sequences)

    @property
    def max_length(self) -> int:
        """L_max: tokens of the longest item."""
        return self.sequences.shape[1]

    def __getitem__(self, item: int) -> np.ndarray:
        """The whole sequence of one item: int32 (length,)."""
        return self.sequences[item, : self.lengths[item]]

    def flatten(self, items: np.ndarray) -> np.ndarray:
        """The sequences of many items one after another: int (H,) -> int32 (sum of their lengths,)."""
        rows = self.sequences[items]  # (H, L_max)
        return rows[np.arange(self.max_length) < self.lengths[items][:, None]]


@dataclass(frozen=True, eq=False)
class ItemTokens(ItemSequences):
    """The sequences that are answers, each of vocabulary words or of the ItemTable's rows.

    form: one of FORMS. base_vocab_size: V. sequences: each id in [0, V + R).
    row_strings: R strings, the spelling of each row of the ItemTable (empty for text).
    row_levels: int32 (R,), the position in an item's sequence at which the row is used.
    end_token: the vocabulary id that closes every sequence of the text form; None for forms that need none.
    """

    form: str
    base_vocab_size: int
    row_strings: list[str]
    row_levels: np.ndarray
    end_token: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.num_items == 0 or self.lengths.min() >= 1, "every item has at least one token"
        limit = self.base_vocab_size + self.num_rows
        assert self.form in FORMS, self.form
        assert self.sequences.size == 0 or self.sequences.max() < limit, f"token ids lie in [0, {limit})"
        assert len(self.row_levels) == self.num_rows, (len(self.row_levels), self.num_rows)

    @property
    def num_rows(self) -> int:
        """R: rows the ItemTable needs."""
        return len(self.row_strings)

    @cached_property
    def prompt_sequences(self) -> ItemSequences:
        """The sequences as they stand inside a sentence: without the end token of the text form."""
        if self.end_token is None:
            return self
        sequences = np.where(self.sequences == self.end_token, -1, self.sequences)[:, : max(1, self.max_length - 1)]
        return ItemSequences(sequences, self.lengths - 1)


def joined(parts: Sequence[ItemSequences]) -> ItemSequences:
    """One form in the prompt of several: an item's sequences in the first part, the second, ... side by side."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.sum([part.lengths for part in parts], axis=0, dtype=np.int32)
    joined = np.concatenate([part.sequences for part in parts], axis=1)  # (N, sum of L_max), padding in between
    order = np.argsort(joined < 0, axis=1, kind="stable")
    return ItemSequences(np.take_along_axis(joined, order, axis=1)[:, : int(lengths.max(initial=1))], lengths)


def soft_sequences(num_items: int, num_query_tokens: int, first_id: int) -> ItemSequences:
    """Item i is the vector tokens first_id + i * num_query_tokens, ..., as `SoftTokens` numbers them."""
    ids = first_id + np.arange(num_items * num_query_tokens, dtype=np.int32)
    return ItemSequences(ids.reshape(num_items, num_query_tokens), np.full(num_items, num_query_tokens, dtype=np.int32))


def image_sequences(
    offsets: np.ndarray, first_id: int, opening: Sequence[int], closing: Sequence[int]
) -> ItemSequences:
    """Item i is the vector tokens first_id + offsets[i] ... first_id + offsets[i + 1] - 1 between words; empty without an image.

    offsets: int64 (N + 1,), of `ImageTokens`. opening, closing: word ids, of `llmrec.backbones.image_families.image_words`.
    """
    counts = np.diff(offsets)
    lengths = np.where(counts > 0, counts + len(opening) + len(closing), 0)
    sequences = np.full((len(counts), int(lengths.max(initial=1))), -1, dtype=np.int32)
    for item in np.flatnonzero(counts):
        vectors = range(first_id + int(offsets[item]), first_id + int(offsets[item + 1]))
        sequences[item, : lengths[item]] = [*opening, *vectors, *closing]
    return ItemSequences(sequences, lengths.astype(np.int32))


def or_else(first: ItemSequences, fallback: ItemSequences) -> ItemSequences:
    """The first form of an item in the prompt, and the other where that is empty: an image, else the title."""
    is_empty = first.lengths == 0
    lengths = np.where(is_empty, fallback.lengths, 0).astype(np.int32)
    return joined([first, ItemSequences(np.where(is_empty[:, None], fallback.sequences, -1), lengths)])


def unique_id_tokens(num_items: int, base_vocab_size: int, *, form: str = "unique_id") -> ItemTokens:
    """One token per item: item i is row i of the ItemTable, spelled <item_i>. form: "soft" where features make the embeddings."""
    return ItemTokens(
        form=form,
        base_vocab_size=base_vocab_size,
        sequences=base_vocab_size + np.arange(num_items, dtype=np.int32)[:, None],
        lengths=np.ones(num_items, dtype=np.int32),
        row_strings=[f"<item_{item}>" for item in range(num_items)],
        row_levels=np.zeros(num_items, dtype=np.int32),
    )


def semantic_id_tokens(semantic_ids: SemanticIDs, base_vocab_size: int) -> ItemTokens:
    """L code tokens per item; every code of every level has a row, used by an item today or not, level after level."""
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
    tokenizer: Tokenizer,
    base_vocab_size: int,
    *,
    item_ids: Sequence[str],
    max_tokens: int = 32,
) -> ItemTokens:
    """The title's tokens and an end token (the tokenizer's EOS), so that no title is a prefix of another.

    max_tokens: tokens per item at most, the end token included; longer titles are cut, and one warning counts them.
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
