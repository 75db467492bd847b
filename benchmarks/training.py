"""LoRA training: packed examples against the padded batch of transformers' Trainer, on the same weights, loss and gradient equal.

    python benchmarks/training.py --shape smollm2-135m --threads 1 --json

Examples are prompts as next_item/instruction writes them: 17 tokens, 5 per history item, 11 tokens, an answer of 4 codes of 256; random
ids. LoRA of rank 16 in every linear layer is what is trained; item embeddings stay as they are in all ways, which spares the peers a
gradient the size of the vocabulary. A step is a forward and a backward pass over all examples, 8 per batch.

At the top: 16 examples of different users, in random order; history lengths are the 16-quantiles of Amazon Beauty's (5-core).
`branch`: all targets of one user, 10 or 50, each after its own history.

| way | what it is |
|---|---|
| padded_all_logits | the default: a padded batch, transformers' own loss over logits at every position |
| grouped_all_logits | the same with batches of like length (group_by_length) |
| padded | padded, logits only where a target is predicted |
| segments | examples one after the other, attention per segment, nothing shared |
| branches | what examples begin with alike is read once; under `branch` all examples of the user in one batch |
| ours | branches as `llmrec train` runs them: frozen weights as oneDNN reads them where that pays (`packed`; backbones.frozen_linear) |
| ours_level | the same under the scope `level`, softmax over the codes of the level: another loss, so not among the compared |

With --device cuda times are the wall's (`clock`), packed examples go through flex attention, and no goal is judged.

activation_bytes: storages that autograd keeps for the backward pass, each once, parameters left out; the largest batch of a step.
Identical: the loss to 1e-5 and the norm of the gradient to 1e-4, relative, and the gradients themselves to 1e-3 of their largest entry;
on a GPU, whose kernels add in other orders, ten times as far apart.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from harness import (
    Timing,
    clock_of,
    finisher,
    gemm_peak,
    goal,
    main,
    measure,
    on_gpu,
    parser,
    ratios,
    require_identical,
)
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from llmrec.backbones.adapters import add_lora, lora_parameters
from llmrec.backbones.causal_lm import Backbone, LayerCount, SoftmaxScope
from llmrec.backbones.export import plain_model
from llmrec.backbones.frozen_linear import FrozenLinear, frozen_weights_packed
from llmrec.backbones.load import ModelSource
from llmrec.backbones.packed_linear import can_pack
from llmrec.items.forms import NO_TARGET
from llmrec.nn.item_table import ItemTable
from llmrec.prompting.collators import Collator
from llmrec.prompting.packing import PackingCollator

LEVELS, CODES = 4, 256
SHAPES = {  # width, inner width, layers, heads, key-value heads
    "2x256": (256, 768, 2, 4, 4),
    "4x384": (384, 1024, 4, 6, 6),
    "smollm2-135m": (576, 1536, 30, 9, 3),
}
LORA = {"rank": 16, "alpha": 32.0, "dropout": 0.0}
BEAUTY_HISTORIES = [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 11, 15, 23, 46]
NUM_HEAD, NUM_TAIL, BATCH = 17, 11, 8
DEFAULT = "padded_all_logits"

Row = dict[str, np.ndarray]
Batch = dict[str, Tensor]
Models = tuple[Backbone, nn.Module, Backbone]  # ours, the peer, ours to be packed


def flags() -> argparse.ArgumentParser:
    """--shape and what all benches have."""
    result = parser(__doc__, quick={"shape": "2x256", "vocab": 2048, "rounds": 1, "targets": [10]}, rounds=5)
    result.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    result.add_argument("--targets", type=int, nargs="+", default=[10, 50], help="targets of the one user")
    result.add_argument("--layers", type=int, help="fewer layers than the shape has")
    result.add_argument("--vocab", type=int, default=49_152, help="words of the vocabulary; item tokens come on top")
    result.add_argument("--device", default="cpu", help="cuda for a GPU")
    result.add_argument("--seed", type=int, default=0)
    return result


# ------------------------------------------------------------------------------------------------------------- models


def make_models(options: argparse.Namespace) -> Models:
    """Ours, transformers' own model of the same weights with PEFT's own LoRA, and ours again on its parameters, to be packed."""
    width, inner, layers, heads, kv_heads = SHAPES[options.shape]
    layers = options.layers or layers
    config = LlamaConfig(
        vocab_size=options.vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=64, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    torch.manual_seed(options.seed)
    source = ModelSource(options.shape, "scratch", "", "random")
    model = LlamaForCausalLM(config).to(options.device)
    backbone = Backbone(model, None, source=source, layers=LayerCount(layers, layers))
    levels = np.repeat(np.arange(LEVELS), CODES)
    backbone.add_item_table(ItemTable(levels, width, norm=backbone.embedding_norm, seed=options.seed))
    backbone.item_table.requires_grad_(False)
    plain = plain_model(backbone)
    add_lora(backbone, **LORA)
    for matrix in lora_parameters(backbone):
        nn.init.normal_(matrix, std=0.02)  # B starts at zero, which would hide the gradient of A
    peer = get_peft_model(
        plain, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for own, other in zip(lora_parameters(backbone), peer_lora(peer), strict=True):
        assert own.shape == other.shape, (own.shape, other.shape)
        other.data.copy_(own.data)
    faster = copy.deepcopy(backbone, {id(part): part for part in [*backbone.parameters(), *backbone.buffers()]})
    return backbone.train(), peer.train(), faster.train()


def peer_lora(peer: nn.Module) -> list[nn.Parameter]:
    """The peer's LoRA matrices, in the model's order."""
    return [parameter for name, parameter in peer.named_parameters() if "lora_" in name]


# --------------------------------------------------------------------------------------------------------------- rows


def make_rows(histories: Sequence[np.ndarray], answers: np.ndarray, rng: np.random.Generator) -> list[Row]:
    """An example for each history, int (H, LEVELS) codes of its items, with its answer's, int (N, LEVELS). One instruction for all."""
    head, line, tail = (rng.integers(3, 500, count) for count in (NUM_HEAD, 1, NUM_TAIL))
    rows = []
    for history, answer in zip(histories, answers, strict=True):
        lines = np.concatenate([history, np.broadcast_to(line, (len(history), 1))], axis=1).ravel()
        ids = np.concatenate([head, lines, tail, answer]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < len(ids) - LEVELS, NO_TARGET, ids).astype(np.int64)
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def rows_of_many_users(vocab: int, seed: int) -> list[Row]:
    """Examples of unrelated histories in random order."""
    rng = np.random.default_rng(seed)
    histories = [random_items(length, vocab, rng) for length in rng.permutation(BEAUTY_HISTORIES)]
    return make_rows(histories, random_items(len(histories), vocab, rng), rng)


def rows_of_one_user(num_targets: int, vocab: int, seed: int) -> list[Row]:
    """Every event of one user but the first as the target of the events before it, oldest first."""
    rng = np.random.default_rng(seed)
    items = random_items(num_targets + 1, vocab, rng)
    return make_rows([items[:cut] for cut in range(1, num_targets + 1)], items[1:], rng)


def random_items(count: int, vocab: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens of random items, int (count, LEVELS)."""
    return vocab + np.arange(LEVELS) * CODES + rng.integers(0, CODES, (count, LEVELS))


def batches_of(
    rows: Sequence[Row], collate: Callable[[Sequence[Row]], Batch], size: int, device: torch.device
) -> list[Batch]:
    """`rows` in batches, in the order they have, on the device."""
    batches = [collate(rows[start : start + size]) for start in range(0, len(rows), size)]
    return [{name: values.to(device) for name, values in batch.items()} for batch in batches]


# --------------------------------------------------------------------------------------------------------------- ways


@dataclass(frozen=True)
class Way:
    """One way to take a step over all examples. loss: the part of a batch in the mean loss over all targets."""

    batches: list[Batch]
    loss: Callable[[Batch], Tensor]

    def step(self) -> float:
        """Forward and backward over all batches; the mean loss."""
        total = 0.0
        for batch in self.batches:
            loss = self.loss(batch)
            loss.backward()
            total += loss.item()
        return total

    def gradient(self, parameters: Sequence[nn.Parameter]) -> tuple[float, Tensor]:
        """The mean loss and its gradient, flat."""
        for parameter in parameters:
            parameter.grad = None
        loss = self.step()
        return loss, torch.cat([parameter.grad.flatten() for parameter in parameters])

    def activation_bytes(self, models: Sequence[nn.Module]) -> int:
        """What autograd keeps of the largest batch: each storage once, the models' parameters and buffers left out."""
        known = {p.untyped_storage().data_ptr() for model in models for p in [*model.parameters(), *model.buffers()]}
        largest = 0
        for batch in self.batches:
            kept: dict[int, int] = {}  # address of a storage -> bytes; while the graph lives, no address is given twice

            def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in known:
                    kept[storage.data_ptr()] = storage.nbytes()
                return tensor.detach()  # the tensor itself would hold the graph that holds it, for good

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = self.loss(batch)
            largest = max(largest, sum(kept.values()))
            del loss
        return largest


def make_ways(models: Models, rows: list[Row], *, one_user: bool) -> dict[str, Way]:
    """Name -> way over the same examples. one_user: its branches are packed in one row, the other ways read them in random order."""
    backbone, peer, faster = models
    num_targets = LEVELS * len(rows)
    by_length = sorted(rows, key=lambda row: len(row["input_ids"]))
    mixed = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]

    def own(batch: Batch, model: Backbone = backbone, scope: SoftmaxScope = "vocabulary") -> Tensor:
        return model.next_token_loss(batch, scope=scope)[0] / num_targets

    def theirs(batch: Batch) -> Tensor:  # as their Trainer calls it
        return peer(**batch, num_items_in_batch=num_targets).loss

    def batches(rows: list[Row], collate: Callable[[Sequence[Row]], Batch], size: int = BATCH) -> list[Batch]:
        return batches_of(rows, collate, size, backbone.device)

    padded, segments = batches(mixed, Collator(0)), batches(mixed, PackingCollator(share_prefixes=False))
    shared = batches(rows, PackingCollator(), len(rows)) if one_user else batches(mixed, PackingCollator())
    ways = {
        DEFAULT: Way(padded, theirs),
        "padded": Way(padded, own),
        "segments": Way(segments, own),
        "branches": Way(shared, own),
        "ours": Way(shared, partial(own, model=faster)),
    }
    if one_user:
        return ways
    return ways | {
        "grouped_all_logits": Way(batches(by_length, Collator(0)), theirs),
        "ours_level": Way(shared, partial(own, model=faster, scope="level")),
    }


# ------------------------------------------------------------------------------------------------------- measurements


def compare(models: Models, rows: list[Row], rounds: int, peak: float, *, one_user: bool) -> dict:
    """Equality first, then memory and time of every way over the examples `rows`, of one user or of many. peak: FLOP/s."""
    backbone, peer, _ = models
    device = str(backbone.device)
    clock, slack = clock_of(device), 10 if on_gpu(device) else 1
    ways = make_ways(models, rows, one_user=one_user)
    own, other = lora_parameters(backbone), peer_lora(peer)
    wanted_loss, wanted = ways[DEFAULT].gradient(other)
    for name in ways.keys() - {DEFAULT, "ours_level"}:
        loss, found = ways[name].gradient(other if name == "grouped_all_logits" else own)
        require_identical(
            abs(loss / wanted_loss - 1) < slack * 1e-5, f"the loss of {name} is {loss}, that of the peer {wanted_loss}"
        )
        norms = float(found.norm()), float(wanted.norm())
        require_identical(
            abs(norms[0] / norms[1] - 1) < slack * 1e-4, f"the gradient's norm under {name} and of the peer: {norms}"
        )
        apart = float((found - wanted).abs().max() / wanted.abs().max())
        require_identical(
            apart < slack * 1e-3, f"an entry of the gradient under {name} is {apart:.1e} of the largest one away"
        )
    memory = {name: way.activation_bytes(models) for name, way in ways.items()}
    steps = {name: way.step for name, way in ways.items()}
    timings = measure(
        steps, rounds, warmup=int(on_gpu(device)), finish=finisher(device)
    )  # on a CPU the passes above warmed up
    num_tokens = sum(len(row["input_ids"]) for row in rows)
    num_read = {name: sum(batch["input_ids"].numel() for batch in way.batches) for name, way in ways.items()}
    return {
        "rows": len(rows),
        "tokens": num_tokens,
        "positions": num_read,
        "loss": wanted_loss,
        "gradient_norm": float(wanted.norm()),
        "identical": True,
        "clock": clock,
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "tokens_per_s": {name: num_tokens / seconds_of(timing, clock) for name, timing in timings.items()},
        "activation_bytes": memory,
        "ratio": ratios(timings, clock=clock),
        "memory_ratio": {name: memory[name] / memory["ours"] for name in ways if name != "ours"},
        "lower_bound": lower_bound(
            backbone, num_read["ours"], LEVELS * len(rows), seconds_of(timings["ours"], clock), peak
        ),
    }


def seconds_of(timing: Timing, clock: str) -> float:
    """The median by the clock."""
    return timing.median_wall if clock == "wall" else timing.median


def best_rate(device: torch.device) -> float:
    """FLOP/s of a square product there, packed where that can be: the better of both."""
    peak = gemm_peak(device=str(device))
    if can_pack(device):
        square, rows = FrozenLinear(nn.Linear(2048, 2048).requires_grad_(False)), torch.randn(2048, 2048)
        packed = measure({"packed": lambda: square(rows)}, rounds=3)["packed"]
        peak = max(peak, 2 * 2048**3 / min(packed.process))
    return peak


def lower_bound(
    backbone: Backbone, num_positions: int, num_targets: int, seconds: float, peak: float
) -> dict[str, float]:
    """The products alone at the best rate seen here: forward, and backward to the inputs, of the frozen matrices; the head's rows."""
    body = [p.numel() for name, p in backbone.body.named_parameters() if "proj.base_layer" in name]
    products = 4 * (sum(body) * num_positions + backbone.num_tokens * backbone.dim * num_targets) / peak
    return {"products_s": products, "over_lower_bound": seconds / products}


def run(options: argparse.Namespace) -> dict:
    """The result that is printed."""
    models, peak = make_models(options), best_rate(torch.device(options.device))
    with frozen_weights_packed(models[2]):
        is_packed = any(isinstance(module, FrozenLinear) for module in models[2].modules())
        result = compare(models, rows_of_many_users(options.vocab, options.seed), options.rounds, peak, one_user=False)
        branch = {
            str(count): compare(
                models, rows_of_one_user(count, options.vocab, options.seed), options.rounds, peak, one_user=True
            )
            for count in options.targets
        }
    goals = [
        goal("LoRA training, tokens/s over the padded default", result["ratio"][DEFAULT], 2.3, "x", at_least=True),
        goal("LoRA training, activation memory of the padded default", result["memory_ratio"][DEFAULT], 3.3, "x", at_least=True),
    ]  # fmt: skip
    for count, limit in (("10", 3), ("50", 6)):
        if count in branch:
            what = f"branch packing, {count} targets per user, over padded samples with logits at answers only"
            goals.append(goal(what, branch[count]["ratio"]["padded"], limit, "x", at_least=True))
    result = {"shape": options.shape, "packed": is_packed, **result, "branch": branch}
    return result if on_gpu(options.device) else result | {"goals": goals}


if __name__ == "__main__":
    main(flags(), run)
