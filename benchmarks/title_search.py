"""The search for titles over a large catalogue of invented ones: time of the index, its memory, and time to find what people type.

The words are made of syllables and are as unequally frequent as words are; titles have one to six. There is no peer: the result is the
time that a person waits in the search box of the web page, or at the completion of the terminal.

    python benchmarks/title_search.py --items 1000000

| query | what is typed |
|---|---|
| exact, dated | a whole title, without and with its year |
| begun | a title without its last letters |
| two letters, three letters | the beginning of a word that very many titles have |
| slips | a title with two wrong letters |
| nothing | two words that no title has |
| longest | 200 characters of several titles |
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa

from llmrec.data.catalog import Catalog
from llmrec.data.title_search import TitleSearch
from llmrec.memory import kilobytes

SYLLABLES = [
    "ka",
    "ro",
    "mi",
    "ten",
    "sol",
    "bar",
    "lu",
    "ne",
    "vi",
    "dor",
    "ash",
    "el",
    "qui",
    "mar",
    "ste",
    "fo",
    "gan",
    "hel",
    "ist",
    "or",
    "ux",
    "zen",
    "pra",
    "cli",
    "wo",
    "dra",
]
WORDS = 120_000
CHECKED = 200  # titles that must find their own item


def flags() -> argparse.ArgumentParser:
    """The flags of this bench."""
    parser = harness.parser(__doc__, quick={"items": 5_000})
    parser.add_argument("--items", type=int, default=1_000_000)
    return parser


def run(options: argparse.Namespace) -> dict:
    """Milliseconds of each query, the slowest of several of its kind."""
    rng = np.random.default_rng(0)
    catalog = _catalog(options.items, rng)
    before, began = _mib(), time.process_time()
    search = TitleSearch(catalog)
    seconds, mib = time.process_time() - began, _mib() - before
    own = [item in search.find(catalog.title(item)).items for item in rng.integers(0, options.items, CHECKED)]
    harness.require_identical(all(own), "a title and the item it finds")
    queries = {kind: [query(catalog, rng) for _ in range(5)] for kind, query in _QUERIES.items()}
    slowest = {kind: max(_milliseconds(search, text) for text in texts) for kind, texts in queries.items()}
    return {
        "items": options.items,
        "index_cpu_seconds": round(seconds, 1),
        "index_mib": round(mib),
        "milliseconds": slowest,
    }


def _catalog(num_items: int, rng: np.random.Generator) -> Catalog:
    words = np.array(sorted({"".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(WORDS)}))
    frequency = 1 / (np.arange(len(words)) + 20.0)
    lengths = rng.integers(1, 7, num_items)
    picked = words[rng.permutation(len(words))[rng.choice(len(words), lengths.sum(), p=frequency / frequency.sum())]]
    titles = [" ".join(part).title() for part in np.split(picked, np.cumsum(lengths)[:-1])]
    years = rng.integers(1920, 2026, num_items).astype(str)
    ids = [f"i{number}" for number in range(num_items)]
    return Catalog(pa.table({"item_id": ids, "title": titles, "year": years.tolist()}))


def _title(catalog: Catalog, rng: np.random.Generator) -> str:
    return catalog.title(int(rng.integers(0, catalog.num_items)))


def _slips(catalog: Catalog, rng: np.random.Generator) -> str:
    title = _title(catalog, rng) + " x"
    return title[:1] + title[2:-1]


_QUERIES = {
    "exact": _title,
    "dated": lambda catalog, rng: f"{_title(catalog, rng)} 1984",
    "begun": lambda catalog, rng: _title(catalog, rng)[:-2],
    "two letters": lambda catalog, rng: str(rng.choice(SYLLABLES))[:2],
    "three letters": lambda catalog, rng: str(rng.choice(SYLLABLES))[:2] + str(rng.choice(list("kmsdv"))),
    "slips": _slips,
    "nothing": lambda catalog, rng: "zzzxqj wwwq",
    "longest": lambda catalog, rng: " ".join(_title(catalog, rng) for _ in range(20))[:200],
}  # fmt: skip


def _milliseconds(search: TitleSearch, text: str) -> float:
    began = time.perf_counter()
    search.find(text)
    return round(1000 * (time.perf_counter() - began), 1)


def _mib() -> float:
    return (kilobytes(Path("/proc/self/status"), "VmRSS") or 0) / 2**20


def main() -> None:
    """Prints the table."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
