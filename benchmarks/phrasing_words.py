"""Which value of a catalogue words speak of that no rule lists: eval/phrasings/words.jsonl.

    python benchmarks/phrasing_words.py --films DATA

DATA: a folder that `llmrec data prepare` made of MovieLens-100K. Every second line (the first, the third, ...) is for choosing when a
value stands out; the others are held out. `nearest value` is the sentence encoder alone, `language model` the log-probability alone,
each with the bar that is best on the lines for choosing; `their sum` is what `--wishes both` asks; `rules` and `both` read the message.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from phrasings import FOLDER, Asked, model_readers, products
from rich.console import Console
from rich.table import Table

from llmrec.conversation.state import ChatState
from llmrec.conversation.wish_values import NEARNESS, STANDS_OUT
from llmrec.data.folder import load_data

START = "something "  # of every message


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="the data folder of MovieLens-100K")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="the language model")
    options = parser.parse_args(arguments)
    lines = [json.loads(line) for line in (FOLDER / "words.jsonl").read_text(encoding="utf-8").splitlines()]
    catalogs = {"films": load_data(options.films).catalog, "products": products()}
    make = model_readers("both", options.model)
    models = {name: make(catalog) for name, catalog in catalogs.items()}
    scored = [models[line["catalogue"]].scores(line["message"].removeprefix(START)) for line in lines]
    table = Table(
        "lines held out",
        "right",
        "wrong value",
        "nothing said of a value",
        "of",
        "best value right, all lines with one",
    )
    for name, nearness, log_prob, bar in (
        ("nearest value", 1.0, 0.0, None),
        ("language model", 0.0, 1.0, None),
        ("their sum", NEARNESS, 1.0, STANDS_OUT),
    ):
        sums = [log_prob * of_model + nearness * near for _, of_model, near in scored]
        best = [leans[int(one.argmax())].value for (leans, _, _), one in zip(scored, sums, strict=True)]
        top = np.array([one.max() for one in sums])
        bar = _bar(lines, best, top) if bar is None else bar
        said = [[value] if score > bar else [] for value, score in zip(best, top, strict=True)]
        first = [value in line["values"] for value, line in zip(best, lines, strict=True) if line["values"]]
        table.add_row(name, *_counts(lines, said), f"{sum(first)} of {len(first)}")
    for which in ("rules", "both"):
        asked = {name: Asked(one, which, models[name] if which == "both" else None) for name, one in catalogs.items()}
        table.add_row(
            which, *_counts(lines, [_values(asked[line["catalogue"]], line["message"]) for line in lines]), ""
        )
    Console(width=120).print(table)
    return 0


def _values(asked: Asked, message: str) -> list[str]:
    state, _ = asked.after(message, ChatState())
    return [one.value for one in state.prefer] + [value for one in state.where for value in one.values]


def _is_right(line: dict, said: list[str]) -> bool:
    return set(said) <= set(line["values"]) and bool(said) == bool(line["values"])


def _bar(lines: list[dict], best: list[str], top: np.ndarray) -> float:
    """The score above which a value is said, best on every second line."""
    places = range(0, len(lines), 2)

    def right(bar: float) -> int:
        return sum(_is_right(lines[place], [best[place]] if top[place] > bar else []) for place in places)

    return max(np.unique(top).tolist(), key=right)


def _counts(lines: list[dict], said: list[list[str]]) -> list[str]:
    held = range(1, len(lines), 2)
    right = [_is_right(lines[place], said[place]) for place in held]
    wrong = [bool(said[place]) and not is_right for place, is_right in zip(held, right, strict=True)]
    silent = [not said[place] and not is_right for place, is_right in zip(held, right, strict=True)]
    return [str(sum(right)), str(sum(wrong)), str(sum(silent)), str(len(right))]


if __name__ == "__main__":
    sys.exit(main())
