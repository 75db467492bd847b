"""How the time of a request grows: with the catalogue, the history, the beams and the batch.

    python benchmarks/growth.py --shape 4x384 --threads 1 --json

One thing grows at a time; the others stay at --items 12,101, --history 32, --beams 20, --batch 1. Items have 4 random codes
of 256, a history of H items is a prompt of 4 H tokens, every item of it is closed (seen). `points` holds seconds a request.
`identical`: before anything is timed, a search with as many beams as items gives all of a small catalogue in the order of the
items' likelihoods, which are computed without a search (the tests hold both against plain forward passes).
"""

from __future__ import annotations

import argparse

import harness
import numpy as np
from decode import LEVELS, SHAPES, VOCABULARY, make_backbone, make_items

AXES = {
    "catalogue_size": (10_000, 100_000, 1_000_000, 10_000_000),
    "history": (4, 16, 64, 256),
    "beams": (5, 20, 50, 100),
    "batch": (1, 4, 16, 64),
}
QUICK = {"catalogue_size": (1_000, 100_000), "history": (4, 16), "beams": (5, 20), "batch": (1, 4)}
CHECKED_ITEMS = 200


def flags() -> argparse.ArgumentParser:
    """The harness's flags and those of this bench."""
    result = harness.parser(__doc__, quick={"rounds": 2})
    result.add_argument("--shape", choices=SHAPES, default="4x384")
    result.add_argument("--rule", choices=("full", "level", "trie"), default="level", help="the score rule")
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
    check(backbone, smallest, options.rule)
    finish = torch.cuda.synchronize if options.device.startswith("cuda") else None
    points, seconds = {}, {}
    for axis, sizes in (QUICK if options.quick else AXES).items():
        name = "items" if axis == "catalogue_size" else axis
        requests = {
            str(size): request(backbone, argparse.Namespace(**{**vars(options), name: size}), vocab) for size in sizes
        }
        timings = harness.measure(requests, options.rounds, finish=finish)
        batch = {size: int(size) if axis == "batch" else options.batch for size in requests}
        points[axis] = {
            size: (timing.median_wall if finish else timing.median) / batch[size] for size, timing in timings.items()
        }
        seconds |= {f"{axis} {size}": timing.to_json() for size, timing in timings.items()}
    return {"score_rule": options.rule, "identical": True, "points": points, "seconds": seconds}


def request(backbone, sizes: argparse.Namespace, vocab: int):
    """A call that answers one batch of the given sizes."""
    from llmrec.data.interactions import Histories
    from llmrec.engines.beam_search import beam_search
    from llmrec.engines.open_items import OpenItems
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
            open_items=OpenItems(trie, len(prompts), None, seen),
            score_rule=sizes.rule,
        )

    return answer


def check(backbone, items, rule: str) -> None:
    """With as many beams as items the search is the order of all likelihoods."""
    from llmrec.engines.beam_search import beam_search
    from llmrec.engines.likelihood import score_candidates
    from llmrec.engines.trie import TokenTrie

    prompt = items.flatten(np.arange(5))
    everything = np.arange(items.num_items)[None]
    scores = score_candidates(backbone, items, [prompt], everything, score_rule=rule)[0]
    trie = TokenTrie.from_item_tokens(items, backbone.device)
    found, best = beam_search(backbone, trie, [prompt], items.num_items, score_rule=rule)
    harness.require_identical(sorted(found[0].tolist()) == list(range(items.num_items)), "an item is missing")
    difference = float((best[0] - scores[found[0].long()]).abs().max())
    harness.require_identical(difference < 1e-3, f"likelihoods differ by {difference:.2g}")
    assert items.max_length == LEVELS


def main() -> None:
    """Command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
