"""Examples of several sources as one example set: how often each source's examples come in an epoch, decided by seed and epoch
alone.

`times` is how often an epoch holds each example of a source: 1 once, 3 three times, 0.25 a quarter of them, 1.5 all of them and a half
of them again. A part is sampled anew for each epoch, without replacement: the four quarters of four epochs are all the
examples, up to rounding. An example set that depends on seed and epoch alone is the same in every process and in a run that was killed
and goes on, whatever loads it. A source's sample does not depend on the others, so adding one leaves the rest as it was.

Letters: M examples of the mixture, T tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from llmrec.errors import ConfigError, DataError
from llmrec.items.forms import NO_TARGET

NUM_TRIED = 48  # examples of a source that are made to learn how long its examples are


class Rows(Protocol):
    """Examples for a collator. lengths: in any unit of the source's own. users: ascending, whose each is."""

    lengths: Sequence[int]
    users: Sequence[int] | np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


@dataclass(frozen=True)
class Source:
    """Examples under a name, and how often an epoch holds each of them."""

    name: str
    rows: Rows
    times: float = 1.0


@dataclass(frozen=True)
class Share:
    """What a source is of an epoch. rows: of the source; rows_an_epoch: of the mixture; targets_an_epoch: tokens that are trained on,
    estimated from some examples."""

    name: str
    rows: int
    times: float
    rows_an_epoch: int
    targets_an_epoch: float


class Mixture:
    """The examples of several sources as one, source after source; a sampler puts them into order.

    Sources with times=0 are left out and may be empty. Raises ConfigError for a negative `times` and for two sources of one name,
    DataError for a source that should have examples and has none.
    """

    def __init__(self, sources: Sequence[Source], *, seed: int) -> None:
        names = [source.name for source in sources]
        for source in sources:
            if not np.isfinite(source.times) or source.times < 0:
                raise ConfigError(
                    f"the examples of '{source.name}' should come 0 times or more, but came {source.times}."
                )
            if names.count(source.name) > 1:
                raise ConfigError(f"the source '{source.name}' stands twice in one mixture. Give each its own name.")
            if source.times > 0 and not len(source.rows):
                raise DataError(f"the source '{source.name}' of the mixture has no examples. Leave it out.")
        self.sources = [source for source in sources if source.times > 0]
        self.seed = seed
        self._tried = [_try(source.rows) for source in self.sources]
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Makes the examples those of an epoch. How many there are of each source, and in which order of sources, stays."""
        chosen = [_chosen(source, self.seed, epoch) for source in self.sources]
        none = [np.zeros(0, np.int64)]
        self._source_of = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])  # (M,)
        self._row_of = np.concatenate([*none, *chosen])  # (M,), examples of each one's source
        lengths = [tried.tokens[rows] for tried, rows in zip(self._tried, chosen, strict=True)]
        self.lengths: list[int] = np.concatenate([*none, *lengths]).tolist()

    @property
    def users(self) -> np.ndarray:
        """int64 (M,), ascending: whose each is. Each source has users of its own: examples of two sources begin
        differently, so a batch of one user's examples shares nothing between them."""
        users, first = [np.zeros(0, np.int64)], 0
        for position, source in enumerate(self.sources):
            of_source = np.asarray(source.rows.users, dtype=np.int64)
            users.append(first + of_source[self._row_of[self._source_of == position]])
            first += int(of_source[-1]) + 1
        return np.concatenate(users)

    def __len__(self) -> int:
        return len(self._row_of)

    def __getitem__(self, row: int) -> Any:
        """The example as its source makes it."""
        return self.sources[self._source_of[row]].rows[int(self._row_of[row])]

    def shares(self) -> list[Share]:
        """What each source is of an epoch, in the order given; those left out are not in it."""
        counts = np.bincount(self._source_of, minlength=len(self.sources)).tolist()
        return [
            Share(source.name, len(source.rows), source.times, count, count * tried.targets)
            for source, count, tried in zip(self.sources, counts, self._tried, strict=True)
        ]


def share_lines(shares: Sequence[Share]) -> list[str]:
    """The shares as a table of text, one line per source below a line of headings. Shares of targets are those of the loss's terms."""
    rows = sum(share.rows_an_epoch for share in shares)
    targets = sum(share.targets_an_epoch for share in shares)
    table = [("examples of", "examples", "times", "per epoch", "of examples", "of targets")]
    for share in shares:
        table.append(
            (
                share.name,
                f"{share.rows:,}",
                f"{share.times:g}",
                f"{share.rows_an_epoch:,}",
                f"{share.rows_an_epoch / rows:.1%}",
                f"{share.targets_an_epoch / targets:.1%}",
            )
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in table
    ]


def _chosen(source: Source, seed: int, epoch: int) -> np.ndarray:
    """The source's examples of an epoch, ascending, so that a user's stay side by side: int64 (examples per epoch,).

    Whole times are all examples; for the part that is left, epochs walk on through one shuffle of the examples after another.
    """
    whole, part = divmod(source.times, 1)
    count = len(source.rows)
    num_sampled = round(part * count)
    start = epoch * num_sampled
    shuffles = [
        np.random.default_rng([seed, zlib.crc32(source.name.encode()), number]).permutation(count)
        for number in range(start // count, -(-(start + num_sampled) // count))
    ]
    sampled = np.concatenate([np.zeros(0, np.int64), *shuffles])[start % count :][:num_sampled]
    return np.sort(np.concatenate([np.tile(np.arange(count), int(whole)), sampled]))


@dataclass(frozen=True, eq=False)
class _Tried:
    """tokens: int64 (examples of the source,), estimated; targets: of an example, on average over those tried."""

    tokens: np.ndarray
    targets: float


def _try(rows: Rows) -> _Tried:
    """Makes some examples, short to long, and fits a straight line from the source's own lengths to tokens: sources count in
    units of their own (items, characters), and a batch's examples should be of like length whatever source they are of."""
    lengths = np.asarray(rows.lengths, dtype=np.float64)
    positions = np.unique(np.linspace(0, len(lengths) - 1, NUM_TRIED).round().astype(int))
    tried = np.argsort(lengths, kind="stable")[positions]
    made = [rows[int(row)] for row in tried]
    tokens = np.array([len(row["input_ids"]) for row in made], dtype=np.float64)
    slope, start = 0.0, float(tokens.mean())
    if np.ptp(lengths[tried]) > 0:
        slope, start = np.polyfit(lengths[tried], tokens, 1)
    estimated = np.maximum(np.round(start + slope * lengths), 1).astype(np.int64)
    return _Tried(estimated, float(np.mean([(row["labels"] != NO_TARGET).sum() for row in made])))
