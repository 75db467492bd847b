"""How the time of a request grows: with the catalogue, the history, the beams, the batch, and the rules it comes with.

    python benchmarks/growth.py --shape 4x384 --threads 1 --json

One thing grows at a time; the others stay at --items 12,101, --history 32, --beams 20, --batch 1. Items have 4 random codes
of 256, a history of H items is a prompt of 4 H tokens, every item of it is excluded (seen). `points` holds seconds per request.

Rules are asked of a `Recommender` over a million items, item ids in, titles out: nothing, the seen items alone, and, with the seen,
items ids that must not come out or to choose from, other ones in every call, or a filter that leaves a tenth of the catalogue and
recurs. What the filter takes the first time falls into the warm-up.

`identical`: before anything is timed, a search with as many beams as items gives all of a small catalogue in the order of the
items' likelihoods, which are computed without a search (the tests hold both against plain forward passes).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import harness
import numpy as np
import pyarrow as pa
from decode import LEVELS, SHAPES, VOCABULARY, make_backbone, make_items

if TYPE_CHECKING:  # torch is loaded once the flags are read
    from llmrec.items.forms import ItemTokens

AXES = {
    "catalogue_size": (10_000, 100_000, 1_000_000, 10_000_000),
    "history": (4, 16, 64, 256),
    "beams": (5, 20, 50, 100),
    "batch": (1, 4, 16, 64),
}
RULED_ITEMS, QUICK_RULED_ITEMS = 1_000_000, 20_000
EXCLUDED, CANDIDATES = 200, 100
QUICK = {"catalogue_size": (1_000, 100_000), "history": (4, 16), "beams": (5, 20), "batch": (1, 4)}
CHECKED_ITEMS = 200


def flags() -> argparse.ArgumentParser:
    """The harness's flags and those of this bench."""
    result = harness.parser(__doc__, quick={"rounds": 2})
    result.add_argument("--shape", choices=SHAPES, default="4x384")
    result.add_argument(
        "--softmax-scope", choices=("vocabulary", "level", "trie"), default="level", help="the softmax scope"
    )
    result.add_argument("--items", type=int, default=12_101)
    result.add_argument("--history", type=int, default=32, help="items")
    result.add_argument("--beams", type=int, default=20)
    result.add_argument("--batch", type=int, default=1, help="requests at a time")
    result.add_argument("--device", default="cpu")
    return result


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    import torch

    from llmrec.backbones.serving import pack

    vocab = VOCABULARY[options.shape]
    smallest = make_items(CHECKED_ITEMS, vocab)
    backbone = pack(make_backbone(options.shape, smallest, vocab, "float32", options.device))
    check(backbone, smallest, options.softmax_scope)
    finish = torch.cuda.synchronize if options.device.startswith("cuda") else None
    points, seconds = {}, {}
    for axis, sizes in {**(QUICK if options.quick else AXES), "rules": ()}.items():
        name = "items" if axis == "catalogue_size" else axis
        requests = {
            str(size): request(backbone, argparse.Namespace(**{**vars(options), name: size}), vocab) for size in sizes
        } or ruled_requests(backbone, options, vocab)
        timings = harness.measure(requests, options.rounds, finish=finish)
        batch = {size: int(size) if axis == "batch" else 1 if axis == "rules" else options.batch for size in requests}
        points[axis] = {
            size: (timing.median_wall if finish else timing.median) / batch[size] for size, timing in timings.items()
        }
        seconds |= {f"{axis} {size}": timing.to_json() for size, timing in timings.items()}
    return {"softmax_scope": options.softmax_scope, "identical": True, "points": points, "seconds": seconds}


def request(backbone, sizes: argparse.Namespace, vocab: int):
    """A call that answers one batch of the given sizes."""
    from llmrec.data.interactions import Histories
    from llmrec.engines.allowed_items import AllowedItems
    from llmrec.engines.torch.beam_search import beam_search
    from llmrec.engines.trie import TokenTrie

    items = make_items(sizes.items, vocab)
    trie = TokenTrie.from_item_tokens(items, backbone.device)
    rng = np.random.default_rng(1)
    histories = [rng.choice(items.num_items, sizes.history, replace=False) for _ in range(sizes.batch)]
    prompts = [items.flatten(history) for history in histories]
    seen = Histories.from_lists([history.tolist() for history in histories])

    def answer():
        return beam_search(
            backbone,
            trie,
            prompts,
            sizes.beams,
            num_beams=sizes.beams,
            allowed_items=AllowedItems(trie, len(prompts), None, seen),
            softmax_scope=sizes.softmax_scope,
        )

    return answer


@dataclass(frozen=True)
class CodesAlone:
    """Prompts that are the codes of the history."""

    items: ItemTokens

    def encode(self, history: np.ndarray, instruction: str | None) -> np.ndarray:
        """int32 (T,)."""
        return self.items.flatten(history)


def ruled_requests(backbone, options: argparse.Namespace, vocab: int) -> dict[str, Callable]:
    """A call for each kind of rule, in words, that answers one request under it."""
    from llmrec.data.catalog import Catalog
    from llmrec.recommender import Recommender
    from llmrec.recommenders.generative import GenerativeRecommender
    from llmrec.recommenders.language_model import LanguageModel

    num_items = QUICK_RULED_ITEMS if options.quick else RULED_ITEMS
    items = make_items(num_items, vocab)
    ids = [f"B{item:09d}" for item in range(num_items)]
    categories = [str(item % 10) for item in range(num_items)]
    catalog = Catalog(pa.table({"item_id": ids, "title": ids, "category": categories}))
    model = LanguageModel(backbone, items, CodesAlone(items), catalog, options.softmax_scope)
    recommender = Recommender(GenerativeRecommender(model, num_beams=options.beams), catalog)
    rng = np.random.default_rng(1)

    def some(number: int) -> list[str]:
        return [ids[item] for item in rng.integers(0, num_items, number)]

    history = some(options.history)
    recommend = functools.partial(recommender.recommend, history, options.beams)
    return {
        "no rule": lambda: recommend(exclude_seen=False),
        "seen items": recommend,
        f"{EXCLUDED} excluded": lambda: recommend(exclude=some(EXCLUDED)),
        f"{CANDIDATES} candidates": lambda: recommend(candidates=some(CANDIDATES)),
        "a category": lambda: recommend(where="category=3"),
    }


def check(backbone, items, scope: str) -> None:
    """With as many beams as items the search is the order of all likelihoods."""
    from llmrec.engines.torch.beam_search import beam_search
    from llmrec.engines.torch.likelihood import score_candidates
    from llmrec.engines.trie import TokenTrie

    prompt = items.flatten(np.arange(5))
    everything = np.arange(items.num_items)[None]
    scores = score_candidates(backbone, items, [prompt], everything, softmax_scope=scope)[0]
    trie = TokenTrie.from_item_tokens(items, backbone.device)
    found, best = beam_search(backbone, trie, [prompt], items.num_items, softmax_scope=scope)
    harness.require_identical(sorted(found[0].tolist()) == list(range(items.num_items)), "an item is missing")
    difference = float((best[0] - scores[found[0].long()]).abs().max())
    harness.require_identical(difference < 1e-3, f"likelihoods differ by {difference:.2g}")
    assert items.max_length == LEVELS


def main() -> None:
    """Command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
