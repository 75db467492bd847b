"""CoLLM's published MovieLens-1M click split as a data folder and the click examples of a given split, for recipes/soft_tokens.py.

    python benchmarks/collm_split.py SOURCE DATA

SOURCE holds items.jsonl.gz (item_id, title) and train, valid, test.jsonl.gz (user, item, label, timestamp, his). Writes the data folder
DATA, whose events are the liked training examples, and DATA_clicks next to it (train, valid, test.parquet). In `his` a leading
0 is padding.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import PADDING, ClickExamples, liked_events
from llmrec.data.click_files import PARTS, write_click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data, save_data


def read_rows(path: Path) -> list[dict]:
    """The objects of a gzipped file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def click_examples_of(rows: list[dict], dense: dict[int, int]) -> ClickExamples:
    """Click examples with items numbered as the catalogue has them."""
    histories = [[dense[item] for item in row["his"] if item != 0] for row in rows]
    width = max(len(history) for history in histories)
    padded = np.full((len(rows), width), PADDING, dtype=np.int32)
    for row, history in enumerate(histories):
        padded[row, width - len(history) :] = history
    users, items = (
        np.array(values, dtype=np.int32) for values in zip(*((r["user"], dense[r["item"]]) for r in rows), strict=True)
    )
    labels, times = np.array([bool(r["label"]) for r in rows]), np.array([r["timestamp"] for r in rows], dtype=np.int64)
    zeros = np.zeros(len(rows), np.int32)
    return ClickExamples(users, items, labels, padded, zeros, zeros, times)


def main() -> None:
    """Reads SOURCE, writes DATA and DATA_clicks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    items = read_rows(options.source / "items.jsonl.gz")
    dense = {int(item["item_id"]): index for index, item in enumerate(items)}
    catalog = Catalog.from_rows([{"item_id": str(item["item_id"]), "title": item["title"]} for item in items])
    parts = {name: click_examples_of(read_rows(options.source / f"{name}.jsonl.gz"), dense) for name in PARTS}
    events = liked_events(parts["train"], len(items))
    data = Data(
        catalog, events, Features(len(items)), [str(user) for user in range(events.num_users)], {"name": "collm-ml1m"}
    )
    data.card["content_hash"] = data.content_hash()
    options.data.mkdir(parents=True)
    save_data(data, options.data)
    for name, rows in parts.items():
        write_click_examples(options.data.parent / f"{options.data.name}_clicks" / f"{name}.parquet", rows)
        print(f"{name}: {len(rows):,} rows of {len(np.unique(rows.users)):,} users, {rows.labels.mean():.3f} liked")


if __name__ == "__main__":
    main()
