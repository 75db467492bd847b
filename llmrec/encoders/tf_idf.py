"""Texts to vectors by their words alone: TF-IDF, then a truncated singular value decomposition (latent semantic analysis).

No model is needed, and the words of a catalogue are read in seconds. Weights: Salton and Buckley (1988), with 1 + ln(count) of a word
in a text and ln((1 + N) / (1 + N_w)) + 1 of a word that N_w of N texts have. Vectors: Deerwester et al. (1990). The decomposition:
subspace iteration from a random start (Halko, Martinsson, Tropp, 2011), which holds nothing as long as the texts are many.

Letters: N texts, W words, D width, K columns of the iteration.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.errors import ArtifactError, DataError
from llmrec.files import atomic_folder, cache_dir, content_hash, put_back, read_json, write_json

if TYPE_CHECKING:
    import scipy.sparse as sp  # brought in by what counts words: who answers with a language model never does

TF_IDF = "tf_idf"  # its name among text encoders
DIM = 384
MAX_WORDS = 100_000  # those that most texts have
FORMAT_VERSION = 1
_DESCRIPTION, _TENSORS = "tf_idf.json", "tf_idf.safetensors"
_WORD = re.compile(r"\w+")
_ITERATIONS, _MORE_COLUMNS = 8, 40  # beyond D, so that the last of the D directions are found as well as the first
_TEXTS_AT_ONCE = 1 << 16
_LEAST = 1e-8  # of the largest squared singular value: directions below it are rounding


class TfIdf:
    """Words with their weights and their places in D directions, fitted to some texts; others may be encoded later.

    words: W different ones, sorted; idf: float32 (W,); components: float32 (W, D), columns of length 1. A vector is the text's TF-IDF
    row, of length 1, times the components: its length, at most 1, is how much of the row the D directions hold. Words that were not
    among the texts of the fit are left out; a text of such words only is a row of zeros, and `knows` says so.
    """

    def __init__(self, words: Sequence[str], idf: np.ndarray, components: np.ndarray) -> None:
        self.words, self.idf, self.components = list(words), idf, components
        self._places = {word: place for place, word in enumerate(self.words)}

    @property
    def dim(self) -> int:
        """D."""
        return self.components.shape[1]

    @classmethod
    def fit(cls, texts: Sequence[str], dim: int = DIM, seed: int = 0) -> Self:
        """Words and directions of these texts: all of a catalogue's, or those of items with training events where the caller says so.

        dim: at most, fewer where the texts have fewer directions. The same texts and seed give the same vectors; the sign of a
        direction is that which makes its largest entry positive. Raises DataError where no text has a word.
        """
        lists = [found for text in texts if (found := _words(text))]
        common = Counter(word for found in lists for word in set(found))
        if not common:
            raise DataError(f"TF-IDF needs texts with words, but none of {len(texts)} has one.")
        kept = sorted(common.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_WORDS]
        words = sorted(word for word, _ in kept)
        num_texts = np.array([common[word] for word in words])
        idf = np.log((1 + len(lists)) / (1 + num_texts)) + 1
        fitted = cls(words, idf.astype(np.float32), np.zeros((len(words), 0), np.float32))
        fitted.components = _directions(fitted.rows(texts), dim, seed).astype(np.float32)
        return fitted

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """TF-IDF itself: float32 (N, W), rows of length 1, empty for texts of unknown words only."""
        import scipy.sparse as sp

        counts = [
            Counter(place for word in _words(text) if (place := self._places.get(word)) is not None) for text in texts
        ]
        places = np.fromiter((place for count in counts for place in count), np.int32)
        times = np.fromiter((number for count in counts for number in count.values()), np.float32)
        ends = np.cumsum([0, *map(len, counts)])
        weights = (1 + np.log(times)) * self.idf[places]
        squares = np.add.reduceat(np.append(weights**2, 0), ends[:-1]) if len(counts) else weights
        lengths = np.sqrt(squares)[np.repeat(np.arange(len(counts)), np.diff(ends))]
        return sp.csr_array(((weights / lengths).astype(np.float32), places, ends), (len(texts), len(self.words)))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, D)."""
        return np.ascontiguousarray(self.rows(texts) @ self.components, np.float32)

    def knows(self, texts: Sequence[str]) -> np.ndarray:
        """Which texts have a word that the fit has seen: bool (N,)."""
        return np.array([any(word in self._places for word in _words(text)) for text in texts], bool)

    def save(self, folder: str | Path) -> None:
        """Writes the folder, whole or not at all; an older one there is replaced. LlmrecError where it cannot be written."""
        with atomic_folder(folder, known_by=_DESCRIPTION) as temporary:
            save_file({"idf": self.idf, "components": self.components}, temporary / _TENSORS)
            write_json(temporary / _DESCRIPTION, {"format_version": FORMAT_VERSION, "words": self.words})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote. Raises ArtifactError for a folder that is not whole or of another format."""
        folder = put_back(folder)
        description = read_json(folder / _DESCRIPTION, "words of TF-IDF", ArtifactError)
        words = description.get("words")
        try:
            tensors = load_file(folder / _TENSORS)
            idf, components = tensors["idf"], tensors["components"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ArtifactError(f"the TF-IDF in '{folder}' is not whole ({error}); put the original back.") from error
        is_ours = description.get("format_version") == FORMAT_VERSION and isinstance(words, list)
        if (
            not is_ours
            or not all(isinstance(word, str) for word in words)
            or idf.shape != (len(words),)
            or idf.dtype != np.float32
            or components.dtype != np.float32
            or components.ndim != 2
            or len(components) != len(words)
        ):
            raise ArtifactError(
                f"the TF-IDF in '{folder}' is not of format version {FORMAT_VERSION}, or its words and weights do not belong together; "
                "put the original back."
            )
        return cls(words, idf, components)


def fitted_tf_idf(texts: Sequence[str]) -> TfIdf:
    """`TfIdf.fit` of these texts, kept under the cache folder by them; a broken one there is fitted again."""
    folder = _cached(texts)
    if folder.is_dir():
        try:
            return TfIdf.load(folder)
        except ArtifactError:
            pass  # as good as none
    fitted = TfIdf.fit(texts)
    fitted.save(folder)
    return fitted


def is_fitted(texts: Sequence[str]) -> bool:
    """Whether `fitted_tf_idf` would find these texts' words on disk."""
    return (_cached(texts) / _DESCRIPTION).is_file()


def _cached(texts: Sequence[str]) -> Path:
    return cache_dir() / "features" / f"tf_idf-{FORMAT_VERSION}-{content_hash(*texts)}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _directions(rows: sp.csr_array, dim: int, seed: int) -> np.ndarray:
    """The first right singular vectors of a matrix: float64 (W, D), as many as are more than rounding."""
    import scipy.linalg

    num_words = rows.shape[1]
    columns = min(dim + _MORE_COLUMNS, num_words)
    if columns == num_words:
        basis = np.eye(num_words)
    else:
        basis = np.random.default_rng(seed).standard_normal((num_words, columns))
        for _ in range(_ITERATIONS):
            basis = scipy.linalg.qr(_times_transposed(rows, basis), mode="economic", overwrite_a=True)[0]  # (W, K)
    squares, turned = scipy.linalg.eigh(basis.T @ _times_transposed(rows, basis))  # ascending
    found = basis @ turned[:, ::-1][:, : min(dim, int((squares > _LEAST * squares[-1]).sum()))]
    largest = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    return found * np.sign(largest)


def _times_transposed(rows: sp.csr_array, basis: np.ndarray) -> np.ndarray:
    """rows' rows basis: float64 (W, K), some texts at a time."""
    total = np.zeros_like(basis)
    for start in range(0, rows.shape[0], _TEXTS_AT_ONCE):
        some = rows[start : start + _TEXTS_AT_ONCE].astype(np.float64)
        total += some.T @ (some @ basis)
    return total
