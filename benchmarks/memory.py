"""Resident memory that a million items add to a serving process: catalogue, codes, trie, whatever else grows with the items.

    python benchmarks/memory.py --json

Two runs are written as `llmrec train` writes them, alike but for their items: 1,000 of them, and --items. A fresh process each
opens one (`Recommender.from_pretrained`), answers requests by beam search, names items, and looks ids up. What the second holds
more than the first is what the items add; model, libraries and buffers stand in both. Ids look like B000000001, titles have some
40 characters, codes are 4 of 256, sampled without features.

`resident` is VmRSS of /proc/self/status, all pages of the process in memory, those of mapped files too; `anonymous` are those
without a file behind them, which cannot be shared or dropped. `peak` is VmHWM: while loading, more is held for a moment. Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa

FEW_ITEMS = 1_000
LEVELS, CODEBOOK_SIZE = 4, 256
GOAL_MIB = 200
WORDS = (
    "Silver",
    "Garden",
    "Classic",
    "Premium",
    "Organic",
    "Travel",
    "Bottle",
    "Lamp",
    "Jacket",
    "Notebook",
    "Speaker",
    "Blue",
)


def flags() -> argparse.ArgumentParser:
    """The command line."""
    result = harness.parser(__doc__, quick={"items": 50_000, "rounds": 1}, rounds=3)
    result.add_argument("--items", type=int, default=1_000_000, help="items of the large catalogue")
    return result


def write_run(
    folder: Path,
    num_items: int,
    form: str = "semantic_id",
    *,
    hidden_size: int = 32,
    num_layers: int = 1,
    num_heads: int = 2,
) -> None:
    """A run of a random model with these many items, `semantic_id` or `unique_id`."""
    from llmrec.artifacts.run_folder import save_artifact
    from llmrec.backbones.adapters import train_full_model
    from llmrec.backbones.pretrained import random_backbone
    from llmrec.data.catalog import Catalog
    from llmrec.items.semantic_ids import SemanticIDs
    from llmrec.nn.item_table import ItemTable
    from llmrec.prompting.encoder import PromptEncoder
    from llmrec.prompting.templates import load_prompt
    from llmrec.recommenders.item_tokens import item_tokens_for
    from llmrec.recommenders.language_model import LanguageModel

    rng = np.random.default_rng(0)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (num_items, 5))]
    titles = [f"{' '.join(row)} no. {item}" for item, row in enumerate(words)]
    item_ids = [f"B{item:09d}" for item in rng.permutation(num_items)]
    catalog = Catalog(pa.table({"item_id": item_ids, "title": titles}))
    rows = np.unique(rng.integers(0, CODEBOOK_SIZE**LEVELS, 2 * num_items))[:num_items]
    rows = rng.permutation(rows)
    codes = np.stack([rows // CODEBOOK_SIZE**level % CODEBOOK_SIZE for level in range(LEVELS)], axis=1)
    semantic_ids = SemanticIDs(codes.astype(np.int32), (CODEBOOK_SIZE,) * LEVELS)

    shape = {"hidden_size": hidden_size, "num_layers": num_layers, "num_heads": num_heads}
    backbone = random_backbone("SmolLM2-135M-Instruct", seed=0, dropout=0.0, **shape)
    tokens = item_tokens_for(form, backbone, catalog, semantic_ids, max_title_tokens=32)
    backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    train_full_model(backbone)
    prompt = load_prompt("next_item/instruction")
    encoder = PromptEncoder(prompt, backbone.tokenizer, tokens, catalog, max_history=20, max_tokens=512)
    model = LanguageModel(backbone, tokens, encoder, catalog, "level")
    semantic_ids = semantic_ids if form == "semantic_id" else None
    save_artifact(folder, model, semantic_ids=semantic_ids, max_title_tokens=32, protocol={})


def serve(folder: str) -> None:
    """What a serving process does, and its memory, printed as one JSON object. Called in a process of its own."""
    from llmrec.recommender import Recommender

    recommender = Recommender.from_pretrained(folder)
    loaded = _memory()
    catalog = recommender.catalog
    history = [catalog.item_id(item) for item in np.linspace(0, catalog.num_items - 1, 15).astype(int)]
    for _ in range(5):
        found = recommender.recommend(history, k=10)
        assert len(found) == 10 and len({item.title for item in found}) == 10
        assert catalog.index([item.item_id for item in found]).min() >= 0
    model = recommender.ranker.model
    held = {
        "catalogue": catalog.table.nbytes,
        "item_tokens": model.item_tokens.sequences.nbytes + model.item_tokens.lengths.nbytes,
        "trie": recommender.ranker.trie.nbytes,
    }
    print(json.dumps({"loaded": loaded, "after_requests": _memory(), "held": held}))


def _memory() -> dict[str, int]:
    """Bytes of this process: resident, the anonymous part of it, and the peak so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = {"resident": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {name: 1024 * int(fields[key].split()[0]) for name, key in names.items()}


def _served(folder: Path) -> dict:
    code = f"import memory; memory.serve({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    with tempfile.TemporaryDirectory() as temporary:
        few, many = Path(temporary) / "few", Path(temporary) / "many"
        write_run(few, FEW_ITEMS)
        write_run(many, options.items)
        rounds = [(_served(few), _served(many)) for _ in range(options.rounds)]
        on_disk = (many / "items.parquet").stat().st_size
    added = {
        moment: {
            kind: statistics.median(with_many[moment][kind] - with_few[moment][kind] for with_few, with_many in rounds)
            / 2**20
            for kind in ("resident", "anonymous", "peak")
        }
        for moment in ("loaded", "after_requests")
    }
    resident = added["after_requests"]["resident"]
    return {
        "added_mib": added,
        "bytes_an_item": resident * 2**20 / (options.items - FEW_ITEMS),
        "held_mib": {name: size / 2**20 for name, size in rounds[0][1]["held"].items()},
        "process_mib": rounds[0][1]["after_requests"]["resident"] / 2**20,
        "items_parquet_mib": on_disk / 2**20,
        "goals": [harness.goal("memory that a million items add", resident, GOAL_MIB, "MiB")],
    }


if __name__ == "__main__":
    harness.main(flags(), run)
