"""How many messages of a conversation are read exactly right: eval/phrasings, by the rules, by a language model, by both.

    python benchmarks/phrasings.py --films DATA --reader rules
    python benchmarks/phrasings.py --films DATA --half open --show

DATA: a folder that `llmrec data prepare` made of MovieLens-100K. A message is right where the state after it and the action are those
of its line, in their order where order matters; eval/phrasings/README.md says what counts. Of the closed half only counts are printed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import harness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from rich.console import Console
from rich.table import Table

from llmrec.conversation.asks import ReadByModel
from llmrec.conversation.changes import changed
from llmrec.conversation.edits import Wishes
from llmrec.conversation.facets import Facets
from llmrec.conversation.mentions import looked_up
from llmrec.conversation.reader import NoRules, Reader
from llmrec.conversation.state import ChatState
from llmrec.data.catalog import Catalog
from llmrec.data.folder import load_data
from llmrec.data.title_search import TitleSearch
from llmrec.files import read_json, write_json
from llmrec.recommenders.rules import Condition

FOLDER = harness.ROOT / "eval" / "phrasings"
HALVES, READERS = ("open", "closed"), ("rules", "model", "both")
MARKS = ("two changes", "refers back")
_LISTS = ("liked", "disliked", "seen", "shown")


class ReadsByModel(Protocol):
    """A language model that reads a message."""

    def read(self, ask: ReadByModel) -> Wishes: ...


@dataclass(frozen=True)
class Line:
    """One message with the state it should give. action: as the line writes it, "explain 3" with its number."""

    catalogue: str
    message: str
    before: ChatState
    after: ChatState | None
    action: str
    marks: tuple[str, ...]


class Titles:
    """The items of one catalogue by the titles of the lines."""

    def __init__(self, catalog: Catalog) -> None:
        self._items: dict[str, list[str]] = {}
        years = catalog.table["year"].to_pylist() if "year" in catalog.fields else [None] * catalog.num_items
        for item_id, title, year in zip(catalog.item_ids, catalog.titles, years, strict=True):
            for name in (title, f"{title} ({year})"):
                self._items.setdefault(name, []).append(item_id)

    def state(self, written: dict) -> ChatState:
        """A line's state with item ids instead of titles."""
        ids = {name: [self._item(title) for title in written.get(name, ())] for name in _LISTS}
        return ChatState.from_json({**written, **ids})

    def _item(self, title: str) -> str:
        found = self._items.get(title, [])
        assert len(found) == 1, (title, found)
        return found[0]


def products() -> Catalog:
    """The invented shop; a product may be in several categories."""
    table = csv.read_csv(FOLDER / "products.csv", convert_options=csv.ConvertOptions(column_types=dict.fromkeys(
        ("item_id", "title", "brand", "category", "colour", "price", "released"), pa.string()
    )))  # fmt: skip
    place = table.column_names.index("category")
    return Catalog(table.set_column(place, "category", pc.split_pattern(table["category"], "|")))


def lines(half: str, titles: dict[str, Titles]) -> list[Line]:
    """The lines of one half."""
    found = []
    for text in (FOLDER / f"{half}.jsonl").read_text(encoding="utf-8").splitlines():
        read = json.loads(text)
        states = titles[read["catalogue"]]
        after = states.state(read["after"]) if "after" in read else None
        found.append(
            Line(
                read["catalogue"],
                read["message"],
                states.state(read["before"]),
                after,
                read["action"],
                tuple(read["marks"]),
            )
        )
    return found


def canonical(state: ChatState, facets: Facets) -> dict:
    """A state as it is compared: `liked` in order, the rest without; bounds of whole numbers with >= and <=; without `shown`."""
    conditions = [_canonical(one, facets) for one in state.where]
    return {
        "liked": list(state.liked),
        **{name: sorted(getattr(state, name)) for name in ("disliked", "seen", "without")},
        "where": sorted(conditions, key=str),
        "prefer": sorted(map(str, state.prefer)),
        "surprise": state.surprise,
        "count": state.count,
    }


def _canonical(condition: Condition, facets: Facets) -> tuple:
    operator, values = condition.operator, condition.values
    if operator in ("=", "!="):
        return (condition.column, operator, tuple(sorted(values)))
    number = float(values[0])
    if facets.is_whole(condition.column) and operator in (">", "<"):
        number, operator = (math.floor(number) + 1, ">=") if operator == ">" else (math.ceil(number) - 1, "<=")
    return (condition.column, operator, round(number, 6))


class Asked:
    """One catalogue's reader as conversations have it, with the state that it makes of a message."""

    def __init__(self, catalog: Catalog, which: str, model: ReadsByModel | None = None) -> None:
        self.facets = Facets(catalog)
        self.reader = Reader(catalog, asks_model=which != "rules", by_rules=NoRules() if which == "model" else None)
        self.model = model

    def after(self, message: str, before: ChatState) -> tuple[ChatState, str]:
        """The state after a message, and the action as lines write it."""
        reading = self.reader.read(message, before)
        answer: Wishes | None = None
        while True:
            try:
                ask = reading.send(answer) if answer is not None else next(reading)
            except StopIteration as done:
                wishes: Wishes = done.value
                break
            assert isinstance(ask, ReadByModel) and self.model is not None, ask
            answer = self.model.read(ask)
        wishes, _, _ = looked_up(self.reader, wishes)
        action = f"explain {wishes.number}" if wishes.action == "explain" else wishes.action
        if wishes.action == "reset":
            return ChatState(), action
        return changed(before, wishes.edits, self.facets)[0], action

    def is_right(self, line: Line) -> bool:
        """Whether state and action are the line's; of `undo` the action alone is compared."""
        state, action = self.after(line.message, line.before)
        same = line.after is None or canonical(state, self.facets) == canonical(line.after, self.facets)
        return same and action == line.action


def wilson(right: int, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not number:
        return 0.0, 1.0
    z, share = 1.959964, right / number
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number)) / (1 + z * z / number)
    return 0.0 if not right else middle - half, 1.0 if right == number else middle + half


def groups(found: Sequence[tuple[Line, bool]]) -> list[dict]:
    """Right and all, of every line, by catalogue and by mark."""
    kinds: list[tuple[str, Callable[[Line], bool]]] = [("all", lambda line: True)]
    kinds += [(name, lambda line, name=name: line.catalogue == name) for name in ("films", "products")]
    kinds += [(mark, lambda line, mark=mark: mark in line.marks) for mark in MARKS]
    rows = []
    for name, belongs in kinds:
        right = [is_right for line, is_right in found if belongs(line)]
        low, high = wilson(sum(right), len(right))
        rows.append(
            {
                "lines": name,
                "right": int(np.sum(right)),
                "of": len(right),
                "interval_95": [round(low, 3), round(high, 3)],
            }
        )
    return rows


def measured(
    half: str,
    which: str,
    catalogs: dict[str, Catalog],
    model: Callable[[Catalog], ReadsByModel] | None = None,
    cpu_ms: list[float] | None = None,
) -> list[tuple[Line, bool]]:
    """Every line of one half, and whether it is read right. cpu_ms: is given the CPU milliseconds of each."""
    titles = {name: Titles(catalog) for name, catalog in catalogs.items()}
    asked = {name: Asked(catalog, which, model(catalog) if model else None) for name, catalog in catalogs.items()}
    found = []
    for line in lines(half, titles):
        start = time.process_time()
        found.append((line, asked[line.catalogue].is_right(line)))
        if cpu_ms is not None:
            cpu_ms.append(1000 * (time.process_time() - start))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="the data folder of MovieLens-100K")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="open")
    parser.add_argument("--reader", choices=READERS, default="rules")
    parser.add_argument(
        "--model", default="SmolLM2-135M-Instruct", help="the language model of --reader model and both"
    )
    parser.add_argument("--show", action="store_true", help="print the messages of the open half that are read wrong")
    parser.add_argument("--write", type=Path, help="a JSON file for the result, beside those of other readers")
    options = parser.parse_args(arguments)
    if options.show and options.half != "open":
        parser.error("--show prints messages, and those of the closed half are never printed. Use --half open.")
    model = None if options.reader == "rules" else model_readers(options.reader, options.model)
    catalogs = {"films": load_data(options.films).catalog, "products": products()}
    rows = []
    for half in HALVES if options.half == "both" else (options.half,):
        cpu_ms: list[float] = []
        found = measured(half, options.reader, catalogs, model, cpu_ms)
        print(f"{half} half: CPU ms a message, median {np.median(cpu_ms):.1f}, longest {max(cpu_ms):.0f}")
        rows += [{"half": half, "reader": options.reader, **row} for row in groups(found)]
        if options.show:
            _show([line for line, is_right in found if not is_right], catalogs, options.reader, model)
    _print(rows)
    if options.write is not None:
        for half in HALVES:
            if of_half := [row for row in rows if row["half"] == half]:
                written(options.write, half, options.reader, of_half)
    return 0


def written(path: Path, half: str, reader: str, rows: Sequence[dict]) -> None:
    """Writes what one reader got right of one half, and leaves what the file has of others."""
    machine = harness.machine(1)
    origin = {name: machine[name] for name in ("commit", "date", "cpu", "cores")}
    command = f"python benchmarks/phrasings.py --films DATA --half {half} --reader {reader}"
    old = read_json(path)["results"] if path.is_file() else []
    kept = [one for one in old if (one["half"], one["reader"]) != (half, reader)]
    rows = [{name: value for name, value in row.items() if name not in ("half", "reader")} for row in rows]
    results = [*kept, {"half": half, "reader": reader, "command": command, **origin, "rows": rows}]
    results.sort(key=lambda one: (HALVES.index(one["half"]), READERS.index(one["reader"])))
    write_json(path, {"results": results})


def model_readers(which: str, name: str) -> Callable[[Catalog], ReadsByModel]:
    """A catalogue's reader by a language model, which is loaded once."""
    from llmrec.conversation.wish_model import WishModel
    from llmrec.conversation.wish_values import ValueModel
    from llmrec.encoders.text import TextEncoder
    from llmrec.text_models.transformers import TransformersModel

    model = TransformersModel.load(name)
    if which == "model":
        return lambda catalog: WishModel(model, Facets(catalog), TitleSearch(catalog))
    encoder = TextEncoder()
    return lambda catalog: ValueModel(model, encoder, Facets(catalog))


def _show(
    wrong: Sequence[Line],
    catalogs: dict[str, Catalog],
    which: str,
    model: Callable[[Catalog], ReadsByModel] | None,
) -> None:
    asked = {name: Asked(catalog, which, model(catalog) if model else None) for name, catalog in catalogs.items()}
    for line in wrong:
        state, action = asked[line.catalogue].after(line.message, line.before)
        facets = asked[line.catalogue].facets
        print(f"{line.message}\n  is   {action} {_short(state, facets)}")
        print(f"  not  {line.action} {'' if line.after is None else _short(line.after, facets)}")


def _short(state: ChatState, facets: Facets) -> dict:
    return {name: value for name, value in canonical(state, facets).items() if value and value != 10}


def _print(rows: Sequence[dict]) -> None:
    table = Table("half", "reader", "lines", "right", "of", "95 %")
    for row in rows:
        low, high = row["interval_95"]
        table.add_row(
            row["half"], row["reader"], row["lines"], str(row["right"]), str(row["of"]), f"{low:.2f} to {high:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
