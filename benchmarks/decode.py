"""Beam search over a catalogue: our engine and transformers' `generate`, same weights, same items, same scores.

    python benchmarks/decode.py --shape smollm2-135m --prompt 128 --beams 20 --batch 1 --items 12101 --threads 1 --json

Weights are random, items have 4 random codes of 256, prompts are random words: none of it changes how long decoding takes.
Both sides are checked to find the same items in the same order with the same scores before anything is timed.

`over_prefill` is a whole request over reading its prompt alone. It has two lower bounds. `rows` counts token rows at the prompt's
price, nothing for scoring: T for the prompt and K for each of the answer's tokens but the last; under the scope `trie`, where a beam
with one item left needs no reading, as many as ours read (`passes`). `products` is measured: the matrix products of the layers
alone, in passes of as many rows as ours, over those of the prompt's pass; this is what the CPU leaves possible, for a
product of few rows waits for its weights. --returning N asks again for a user whose prompt was answered before and has grown
by N tokens: ours reads only those.

`requests_per_s` are the requests of a batch over the median time it takes, by `clock`: process time, and on a GPU the wall's.

Letters: B requests, K beams, T prompt tokens, L codes of an item.
"""

from __future__ import annotations

import argparse
import statistics

import harness
import numpy as np

SHAPES = {
    "smollm2-135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
    },
    "4x384": {
        "hidden_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "intermediate_size": 1024,
    },
}
VOCABULARY = {"smollm2-135m": 49_152, "4x384": 1_000}  # the small shape stands for a model trained on item tokens alone
LEVELS, CODES = 4, 256
COMMON, EQUAL_ERROR, CHECKED = 0.85, 1.25, 4  # in bfloat16: see require_same; requests compared, for one is too few
TIE = 1e-4  # scores this close are equal
PEERS = {"hf": "plain", "hf_prefill_once": "prefill_once", "hf_hash_mask": "hash_mask"}


def flags() -> argparse.ArgumentParser:
    """The harness's flags and those of this bench."""
    result = harness.parser(__doc__, quick={"shape": "4x384", "prompt": 64, "rounds": 2, "batch": 1})
    result.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    result.add_argument(
        "--softmax-scope", choices=("vocabulary", "level", "trie"), default="vocabulary", help="the softmax scope"
    )
    result.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    result.add_argument("--beams", type=int, default=20)
    result.add_argument("--batch", type=int, default=1, help="requests at a time")
    result.add_argument("--items", type=int, default=12_101)
    result.add_argument(
        "--vocab",
        type=int,
        help="words of the vocabulary, item tokens come on top; by default 49,152, and 1,000 for 4x384",
    )
    result.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    result.add_argument("--device", default="cpu", help="cuda for a GPU")
    result.add_argument(
        "--returning", type=int, default=0, metavar="N", help="the last N prompt tokens are new, the rest known"
    )
    result.add_argument("--no-pack", action="store_true", help="leave our linear layers as transformers has them")
    result.add_argument("--peers", nargs="*", choices=PEERS, default=["hf", "hf_prefill_once"])
    return result


def make_items(num_items: int, vocab: int, seed: int = 0):
    """Items with different random codes: ItemTokens."""
    from llmrec.items.forms import semantic_id_tokens
    from llmrec.items.semantic_ids import SemanticIDs

    picked = np.random.default_rng(seed).choice(CODES**LEVELS, num_items, replace=False)
    codes = np.stack(np.unravel_index(picked, (CODES,) * LEVELS), axis=1)
    return semantic_id_tokens(SemanticIDs(codes.astype(np.int32), (CODES,) * LEVELS), vocab)


def make_backbone(shape: str, item_tokens, vocab: int, dtype: str, device: str):
    """A random Llama of the shape with an item table."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from llmrec.backbones.causal_lm import Backbone, LayerCount
    from llmrec.backbones.load import ModelSource
    from llmrec.nn.item_table import ItemTable

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=vocab, max_position_embeddings=8192, initializer_range=0.05, **SHAPES[shape])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(device, getattr(torch, dtype))
    layers = config.num_hidden_layers
    backbone = Backbone(
        model.eval(), None, source=ModelSource(shape, "folder", "", "random"), layers=LayerCount(layers, layers)
    )
    backbone.add_item_table(ItemTable(item_tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    return backbone.eval()


def require_same(ours, theirs, peer: str, exact_scores) -> tuple[float, int]:
    """The same items in the same order, scores to TIE. ours, theirs: items (B, K), scores (B, K).

    Returns the share of common items, and the number of ranks where the two have another item: with thousands of beams some have
    scores that are equal to TIE, and whichever comes first is right (see is_tied).

    exact_scores: None in float32. In bfloat16 a beam is won or lost by rounding (two runs of `generate`, with and without its
    cache handed over, differ as well): there it gives items (B, K) the scores that float32 gives them. 85 % of the items have to be
    common in the mean, and our scores in the mean no farther from float32's than EQUAL_ERROR times the peer's are.
    """
    common = [
        len(set(mine) & set(other)) / len(mine) for mine, other in zip(*map(_lists, (ours[0], theirs[0])), strict=True)
    ]
    ours, theirs = ([np.asarray(_lists(values)) for values in found] for found in (ours, theirs))
    share, others = float(np.mean(common)), int((ours[0] != theirs[0]).sum())
    if exact_scores is None:
        largest = np.abs(ours[1] - theirs[1]).max()
        harness.require_identical(largest <= TIE, f"scores of {peer} differ by {largest:.2g}")
        same = all(is_tied(*row) for row in zip(*ours, *theirs, strict=True))
        harness.require_identical(same, f"{peer} returns other items or another order")
        return share, others
    harness.require_identical(share >= COMMON, f"only {share:.0%} of the items of {peer} are ours")
    mine, other = (float(np.abs(scores - exact_scores(items)).mean()) for items, scores in (ours, theirs))
    harness.require_identical(
        mine <= EQUAL_ERROR * other, f"our scores are {mine:.2g} from float32's, those of {peer} {other:.2g}"
    )
    return share, others


def is_tied(items, scores, other_items, other_scores) -> bool:
    """Whether two lists (K,) hold the same items in the same order, but for those whose scores are equal to TIE: such a pair may have
    changed ranks, and an item that one list lacks ties with the other's last."""
    rank_of = {item: rank for rank, item in enumerate(other_items.tolist())}
    own = set(items.tolist())
    apart = [
        score - other_scores[rank_of.get(item, -1)] for item, score in zip(items.tolist(), scores.tolist(), strict=True)
    ]
    apart += [other_scores[rank] - scores[-1] for item, rank in rank_of.items() if item not in own]
    return max(map(abs, apart)) <= TIE


def float32_scores(options: argparse.Namespace, items, vocab: int, prompts: list[np.ndarray]):
    """A function that gives items (B, K) the scores of the same weights in float32; None where the run is in float32."""
    if options.dtype == "float32":
        return None
    from llmrec.engines.torch.likelihood import score_candidates
    from llmrec.engines.trie import TokenTrie

    twin = make_backbone(options.shape, items, vocab, options.dtype, options.device).float()
    trie = TokenTrie.from_item_tokens(items, options.device)
    return lambda found: score_candidates(
        twin, items, prompts, found, softmax_scope=options.softmax_scope, trie=trie
    ).numpy()


def _lists(values) -> list:
    return values if isinstance(values, list) else values.tolist()


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    import torch
    from decode_peers import Generate

    from llmrec.backbones.export import plain_model
    from llmrec.backbones.packed_linear import can_pack
    from llmrec.backbones.serving import pack

    vocab = options.vocab or VOCABULARY[options.shape]
    items = make_items(options.items, vocab)
    backbone = make_backbone(options.shape, items, vocab, options.dtype, options.device)
    peers = Generate(plain_model(backbone), items, options.beams, options.softmax_scope)
    if not options.no_pack:
        pack(backbone)
    num_checked = max(options.batch, 1 if options.dtype == "float32" else CHECKED)
    checked = list(np.random.default_rng(1).integers(3, vocab, (num_checked, options.prompt)))
    prompts = checked[: options.batch]
    checked_ids = torch.from_numpy(np.stack(checked)).to(options.device)
    ids = checked_ids[: options.batch]
    search, ours = make_requests(options, backbone, items, prompts)

    @torch.no_grad()
    def prefill():
        last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
        backbone.hidden_states(ids, read_at=last)  # as a request reads it

    found, exact = search(checked), float32_scores(options, items, vocab, checked)
    same = {peer: require_same(found, getattr(peers, PEERS[peer])(checked_ids), peer, exact) for peer in options.peers}
    passes = rows_of_passes(backbone, ours)
    if exact is None and not harness.on_gpu(options.device):  # few enough beams for no ties: every rank the same
        moved = [peer for peer, (_, others) in same.items() if others]
        harness.require_identical(not moved, f"{' and '.join(moved)} return another order")
    products = layer_products(backbone)
    functions = {"ours": ours, "prefill": prefill}
    functions |= {
        "products": lambda: (products(passes[0], options.batch), [products(rows, rows) for rows in passes[1:]]),
        "prefill_products": lambda: products(ids.numel(), options.batch),
    }
    functions |= {peer: (lambda name=peer: getattr(peers, PEERS[name])(ids)) for peer in options.peers}
    timings = harness.measure(functions, options.rounds, finish=harness.finisher(options.device))
    facts = {
        "vocab": vocab,
        "packed": not options.no_pack and can_pack(backbone.device),
        "common_items": {peer: share for peer, (share, _) in same.items()},
        "other_ranks": {peer: others for peer, (_, others) in same.items()},
        "passes": passes,
    }
    return facts | summary(options, timings, passes)


def make_requests(options: argparse.Namespace, backbone, items, prompts: list[np.ndarray]):
    """Two functions: the search for given prompts, and the request that is timed. Of a returning user the history is known."""
    from llmrec.engines.torch.beam_search import beam_search
    from llmrec.engines.torch.prompt_cache import PromptCache
    from llmrec.engines.trie import TokenTrie

    trie = TokenTrie.from_item_tokens(items, options.device)
    cache = PromptCache(1 << 30) if options.returning else None
    rng = np.random.default_rng(2)

    def search(asked):
        return beam_search(
            backbone,
            trie,
            asked,
            options.beams,
            num_beams=options.beams,
            softmax_scope=options.softmax_scope,
            prompt_cache=cache,
        )

    if not options.returning:
        return search, lambda: search(prompts)
    histories = [prompt[: -options.returning] for prompt in prompts]
    search(histories)

    def ours():
        news = rng.integers(3, backbone.base_vocab_size, (len(prompts), options.returning))  # other news each time
        return search([np.concatenate(pair) for pair in zip(histories, news, strict=True)])

    return search, ours


def summary(options: argparse.Namespace, timings: dict, passes: list[int]) -> dict:
    """Times, rates, ratios and lower bounds, once outputs were found to be identical."""
    clock = harness.clock_of(options.device)
    medians = {name: statistics.median(getattr(timings[name], clock)) for name in ("ours", *options.peers)}
    read = options.returning or options.prompt
    rows = sum(passes) if options.softmax_scope == "trie" else options.batch * (read + options.beams * (LEVELS - 1))
    return {
        "softmax_scope": options.softmax_scope,
        "identical": True,
        "clock": clock,
        "requests_per_s": {name: options.batch / median for name, median in medians.items()},
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "ratio": {name: value for name, value in harness.ratios(timings, clock=clock).items() if name in options.peers},
        "over_prefill": harness.ratios(timings, ours="prefill", clock=clock)["ours"],
        "lower_bound": {
            "rows": rows / (options.batch * options.prompt),
            "products": harness.ratios(timings, ours="prefill_products", clock=clock)["products"],
        },
    }


def rows_of_passes(backbone, request) -> list[int]:
    """Token rows, padding included, of every pass through the model that one call of `request` makes."""
    counted, read = [], backbone.hidden_states
    backbone.hidden_states = lambda ids, **rest: counted.append(ids.numel()) or read(ids, **rest)
    request()
    del backbone.hidden_states
    return counted


def layer_products(backbone):
    """A function of a number of rows, and of those that the last layer ends with: the layers' matrix products and nothing else."""
    import torch

    from llmrec.backbones.packed_linear import PackedLinear

    def linears_of(module) -> list:
        return [each for each in module.modules() if isinstance(each, (torch.nn.Linear, PackedLinear))]

    linears, last = linears_of(backbone.body), backbone.last_layer
    ends = [] if last is None else [each for each in linears_of(last) if each is not last.qkv_proj]

    inputs = {}

    @torch.no_grad()
    def products(rows: int, last_rows: int) -> None:
        for linear in linears:
            shape = (last_rows if any(linear is end for end in ends) else rows, linear.in_features)
            if shape not in inputs:  # in the round that is not counted
                inputs[shape] = torch.randn(shape).to(backbone.device, backbone.dtype)
            linear(inputs[shape])

    return products


def main() -> None:
    """Command line."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
