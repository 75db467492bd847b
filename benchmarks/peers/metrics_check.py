"""ranx's values of the metrics that benchmarks/metric_check.py gave it: numbers in, numbers out. Imports no llmrec.

    .venv-peers/bin/python benchmarks/peers/metrics_check.py FOLDER

FOLDER/lists.parquet: query, item, score, liked. FOLDER/names.json: ranx's names of metrics, such as "ndcg@10". Written is
FOLDER/values.json: name -> a value a query, in the order of the queries' numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from ranx import Qrels, Run, evaluate


def main() -> None:
    """Reads, asks ranx, writes values.json."""
    folder = Path(sys.argv[1])
    table = pd.read_parquet(folder / "lists.parquet")
    names = json.loads((folder / "names.json").read_text())
    lists: dict[str, dict[str, float]] = {}
    liked: dict[str, dict[str, int]] = {}
    for query, item, score, is_liked in table[["query", "item", "score", "liked"]].itertuples(index=False):
        lists.setdefault(f"q{query:09d}", {})[f"i{item}"] = float(score)
        if is_liked:
            liked.setdefault(f"q{query:09d}", {})[f"i{item}"] = 1
    run = Run(lists)
    evaluate(Qrels(liked), run, names, make_comparable=True)
    values = {name: [run.scores[name][query] for query in sorted(liked)] for name in names}
    (folder / "values.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main()
