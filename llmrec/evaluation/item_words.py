"""Vectors of items from the catalogue's own words: what lists are held to be diverse in where nobody gives other vectors.

No model and nothing to download: TF-IDF of the words of all text columns (titles, categories, brands, ...), hashed to a fixed width.

Letters: I items, D width.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

from llmrec.data.catalog import Catalog

WIDTH = 256
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """values: float (I, D), zeros for an item without a vector; made_from: what they are, for the protocol."""

    values: np.ndarray
    made_from: str


def word_vectors(catalog: Catalog) -> ItemVectors:
    """TF-IDF of the words of `catalog.texts()`: float32 (I, D); zeros for an item whose words all items share.

    A word in n of I items weighs log(I / n), however often an item repeats it. Each word adds its weight to one of D places with a
    sign, both by its CRC-32, so that cosines are those of the words up to about 1 / sqrt(D) a pair (Weinberger et al., "Feature hashing
    for large scale multitask learning", ICML 2009).
    """
    words = [sorted(set(_WORD.findall(text.lower()))) for text in catalog.texts()]
    lengths = np.array([len(own) for own in words], dtype=np.int64)
    flat = np.array([zlib.crc32(word.encode()) for own in words for word in own], dtype=np.int64)
    _, word, counts = np.unique(flat, return_inverse=True, return_counts=True)
    weights = np.log(catalog.num_items / counts)[word]
    signs = np.where(flat >> 16 & 1, 1.0, -1.0)
    values = np.zeros((catalog.num_items, WIDTH), np.float32)
    np.add.at(values, (np.repeat(np.arange(catalog.num_items), lengths), flat % WIDTH), weights * signs)
    fields = ", ".join(catalog.word_fields)
    return ItemVectors(values, f"TF-IDF of the words of {fields}, hashed to {WIDTH} numbers")
