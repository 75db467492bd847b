"""The index behind constrained decoding: time to build it, bytes it takes, time to find the children of 20 beams.

    python benchmarks/trie.py --items 1000000 --levels 4 --codebook 256 --beams 20 --threads 1 --json

| name | what it is |
|---|---|
| ours | `llmrec.engines.trie.TokenTrie`: one sort, nodes are ranges of ranks |
| dict | nested Python dicts, one an inner node: what a `prefix_allowed_tokens_fn` usually walks |
| hash | one Python dict from each prefix, written as a string, to its next codes (the way of MiniOneRec's logits processor) |
| compare | no index: every beam x code is compared with every item (the way of GRID's prefix check); timed on a sample of them |
| static | STATIC's CSR index, its own code: --static FOLDER, a clone of github.com/youtube/static-constraint-decoding |

Every way gives the same children for a sample of prefixes of every length, or the bench fails. Items come in random order;
STATIC, which wants them sorted, gets them sorted and its clock starts after that. A step of `dict` and `hash` ends with
Python lists, ours and STATIC's with tensors. Letters: N items, L levels, K beams, d depth.
"""

from __future__ import annotations

import argparse
import gc
from functools import partial
from pathlib import Path

import harness
import numpy as np
import torch
from torch import Tensor
from trie_peers import Compare, Dicts, Hashed, Static, load_static

from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ItemTokens, semantic_id_tokens
from llmrec.items.semantic_ids import SemanticIDs

CALLS = 100  # steps that share one reading of the clocks
SAMPLE = 200  # prefixes of each length whose children are compared
COMPARED = 32  # beam x code pairs of `compare` that are timed


class Ours:
    """The product's trie."""

    def __init__(self, item_tokens: ItemTokens, codebook: int) -> None:
        self.codebook = codebook
        self.trie = TokenTrie.from_item_tokens(item_tokens)
        self.nbytes = self.trie.nbytes

    def prepare(self, prefixes: np.ndarray) -> Tensor:
        """What a beam search holds for its beams: prefixes (K, d) -> states int64 (K,)."""
        states = torch.full((len(prefixes),), self.trie.root)
        for depth, codes in enumerate(prefixes.T):
            states = self.trie.child(states, depth, torch.from_numpy(codes) + depth * self.codebook)
        return states

    def step(self, states: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Tokens and states of the children: int64 (K, W) each."""
        return self.trie.children(states, depth)

    def children(self, prefixes: np.ndarray) -> list[set[int]]:
        """The codes that may follow each prefix."""
        depth = prefixes.shape[1]
        tokens, _ = self.step(self.prepare(prefixes), depth)
        return [set((row[row >= 0] - depth * self.codebook).tolist()) for row in tokens]


def make_codes(num_items: int, levels: int, codebook: int) -> np.ndarray:
    """Different random codes in random order: int32 (N, L)."""
    picked = np.random.default_rng(0).choice(codebook**levels, num_items, replace=False)
    return np.stack(np.unravel_index(picked, (codebook,) * levels), axis=1).astype(np.int32)


def check(indexes: dict[str, object], codes: np.ndarray) -> None:
    """Raises NotIdentical unless all find the same children for a sample of prefixes of every length."""
    sampled = np.random.default_rng(1).choice(len(codes), min(SAMPLE, len(codes)), replace=False)
    for depth in range(codes.shape[1]):
        prefixes = codes[sampled, :depth]
        wanted = indexes["ours"].children(prefixes)
        for name, index in indexes.items():
            num_checked = 1 if name == "compare" else len(prefixes)
            same = index.children(prefixes[:num_checked]) == wanted[:num_checked]
            harness.require_identical(same, f"children of prefixes of {depth} codes by '{name}'")


def flags() -> argparse.ArgumentParser:
    """--items, --levels, --codebook, --beams, --static and those of every bench."""
    parser = harness.parser(__doc__, quick={"items": 20_000, "rounds": 3})
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--codebook", type=int, default=256, help="codes of a level")
    parser.add_argument("--beams", type=int, default=20)
    parser.add_argument("--static", type=Path, help="a clone of STATIC; without it the result says 'absent'")
    return parser


def run(options: argparse.Namespace) -> dict:
    """See the harness."""
    torch.set_num_threads(options.threads)
    codes = make_codes(options.items, options.levels, options.codebook)
    sizes = (options.codebook,) * options.levels
    item_tokens, rows = semantic_id_tokens(SemanticIDs(codes, sizes), 0), codes.tolist()
    builders = {
        "ours": lambda: Ours(item_tokens, options.codebook),
        "dict": lambda: Dicts(rows),
        "hash": lambda: Hashed(rows),
    }
    static = load_static(options.static)
    if static:
        ordered = codes[np.lexsort(codes.T[::-1])]
        builders["static"] = lambda: Static(static, ordered, options.codebook)
    gc.freeze()  # the peers make a million objects; collections they set off should not also scan the input's lists
    indexes = {name: build() for name, build in builders.items()}
    indexes["compare"] = Compare(codes, options.codebook)
    check(indexes, codes)
    num_bytes = {name: indexes[name].nbytes for name in builders}
    steps = time_steps(indexes, codes, options)
    indexes.clear()
    builds = harness.measure(builders, options.rounds)
    gc.unfreeze()
    slowest = max(steps["ours"])
    ratio = harness.ratios(builds)
    return {
        "identical": True,
        "build_seconds": builds["ours"].median,
        "bytes": num_bytes["ours"],
        "step_milliseconds": steps["ours"],
        "seconds": {name: timing.to_json() for name, timing in builds.items()},
        "ratio": ratio,
        "peers_bytes": num_bytes,
        "peers_step_milliseconds": steps,
        "notes": {"compare": f"a step compares {COMPARED} pairs of beam and code, scaled to all beams x codes"},
        "absent": {} if static else {"static": "git clone https://github.com/youtube/static-constraint-decoding; --static FOLDER"},
        "lower_bound": {"copy_codes_seconds": harness.measure({"copy": codes.copy}, options.rounds)["copy"].median},
        "goals": [
            harness.goal("trie of 1,000,000 items: build", builds["ours"].median, 0.15, "s"),
            harness.goal("trie of 1,000,000 items: size", num_bytes["ours"] / 2**20, 8, "MiB"),
            harness.goal("trie of 1,000,000 items: slowest step of 20 beams", slowest, 0.1, "ms"),
            harness.goal("trie of 1,000,000 items: build, vs a dict trie", ratio["dict"], 30, "x", at_least=True),
        ],
    }  # fmt: skip


def time_steps(indexes: dict[str, object], codes: np.ndarray, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds per step, name -> one for each depth; beams follow random items."""
    sampled = np.random.default_rng(2).choice(len(codes), options.beams)
    steps = {name: [] for name in indexes}
    for depth in range(options.levels):
        ready = {name: index.prepare(codes[sampled, :depth]) for name, index in indexes.items()}
        num_pairs, ready["compare"] = len(ready["compare"]), ready["compare"][:COMPARED]
        calls = {name: partial(index.step, ready[name], depth) for name, index in indexes.items()}
        slow = harness.measure({"compare": calls.pop("compare")}, min(3, options.rounds))["compare"]
        timings = harness.measure(calls, options.rounds, calls=CALLS)
        timings["compare"] = slow.scaled(num_pairs / COMPARED)
        for name, timing in timings.items():
            steps[name].append(1000 * timing.median)
    return steps


def main() -> None:
    """The command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
