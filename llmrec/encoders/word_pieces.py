"""The word pieces of items' titles, as small models read them: the tokenizer of a text encoder or language model, and no more of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.backbones.model_files import loading
from llmrec.encoders.text import CHARACTERS_A_TOKEN, DEFAULT_ENCODER, find_encoder
from llmrec.nn.item_inputs import ItemPieces

MAX_PIECES = 32


def word_pieces(texts: Sequence[str], model: str = DEFAULT_ENCODER, *, max_pieces: int = MAX_PIECES) -> ItemPieces:
    """The first `max_pieces` pieces of each text, numbered from 1 in the order of the tokenizer's vocabulary.

    model: as for `encode_texts`. Pieces that no text has get no number, so that a catalogue pays only for its own words.
    Raises ModelError where there is no such model, or it has no tokenizer.
    """
    from transformers import AutoTokenizer  # here: most that import this module cut nothing

    source = find_encoder(model)
    with loading(f"a tokenizer in '{model}'"):
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.loading)
    lists = [_pieces_of(tokenizer, text, max_pieces) for text in texts]
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *lists]))
    rows = np.zeros((len(lists), max((len(pieces) for pieces in lists), default=0) or 1), np.int32)
    for row, pieces in zip(rows, lists, strict=True):
        row[: len(pieces)] = np.searchsorted(known, pieces) + 1
    return ItemPieces(rows, len(known))


def _pieces_of(tokenizer: Any, text: str, most: int) -> np.ndarray:
    """int64 (at most `most`,); a special token's name in a text is words like any other."""
    cut = text[: CHARACTERS_A_TOKEN * most]  # a million characters take seconds only to be cut
    found = tokenizer(cut, add_special_tokens=False, split_special_tokens=True, truncation=True, max_length=most)
    return np.asarray(found["input_ids"], np.int64)
