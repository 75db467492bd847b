"""Examples for reconstruction: an item's vector tokens, and after them a text about it that they should make the model say.

Letters: N items, M examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from llmrec.errors import DataError, ModelError
from llmrec.items.forms import NO_TARGET, ItemSequences
from llmrec.items.plain_text import one_line, plain_ids
from llmrec.prompting.encoder import start_ids


class GeneratedTextExamples:
    """A start token, the item as the prompt writes it, the text, an end token; the text and the end are the targets.

    Each text is tokenised once, as plain words. `shown` says which item stands before each text; None: its own.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_sequences: ItemSequences | None,
        texts: Sequence[str | None],
        items: np.ndarray,
        *,
        max_text_tokens: int,
        shown: np.ndarray | None = None,
    ) -> None:
        """texts: N, of the items asked for none is None. items: int (M,), whose examples these are. prompt_sequences: None for the
        text alone. shown: int (M,). Texts beyond max_text_tokens are cut, and then have no end.

        Raises ModelError for a tokenizer without an end token, DataError where no example is left.
        """
        if tokenizer.eos_token_id is None:
            raise ModelError("a text ends with the tokenizer's EOS, but this tokenizer has none. Choose another model.")
        if not len(items):
            raise DataError("no item of this part of the data has a text. Write more: `llmrec enrich DATA`.")
        self.items = np.asarray(items, dtype=np.int64)
        self._shown = self.items if shown is None else np.asarray(shown, dtype=np.int64)
        self._prompt_sequences = prompt_sequences
        self._start = start_ids(tokenizer, always=True)
        rows, was_cut = plain_ids([one_line(texts[item] or "") for item in self.items], tokenizer, max_text_tokens)
        end = [tokenizer.eos_token_id]
        self._texts = [row if cut else [*row, *end] for row, cut in zip(rows, was_cut, strict=True)]
        assert all(rows), "every text has words"

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(text) for text in self._texts]

    @property
    def users(self) -> np.ndarray:
        """int64 (M,): examples belong to nobody else."""
        return np.arange(len(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """input_ids: int32 (T,); labels: int64 (T,), the text's tokens and nothing else."""
        prompt_form = [] if self._prompt_sequences is None else self._prompt_sequences[self._shown[row]].tolist()
        before = [*self._start, *prompt_form]
        input_ids = np.array([*before, *self._texts[row]], dtype=np.int32)
        labels = input_ids.astype(np.int64)
        labels[: len(before)] = NO_TARGET
        return {"input_ids": input_ids, "labels": labels}
