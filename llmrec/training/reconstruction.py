"""How well soft tokens make a language model say the texts of items it was not trained on, in nats per token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from torch.nn.functional import cross_entropy

from llmrec.backbones.causal_lm import Backbone
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.config import Settings
from llmrec.data.interactions import Interactions
from llmrec.items.forms import soft_sequences
from llmrec.metrics import bootstrap_interval
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.prompting.generated_text_examples import GeneratedTextExamples
from llmrec.prompting.packing import Collate
from llmrec.recommenders.item_tokens import SOFT
from llmrec.training.item_features import check_collaborative_dim


class ReconstructionSettings(Settings):
    """What the soft tokens are trained to make the language model say."""

    max_text_tokens: int = Field(96, ge=1)
    held_out: float = Field(
        0.1, gt=0, lt=1
    )  # share of the items with a text that choose the checkpoint and are reported
    contrast_weight: float = Field(
        0.0, ge=0
    )  # of EM3's content-id contrast; an item's vector of ids is its low-rank EASE-R embedding
    contrast_dim: int = Field(64, ge=1)
    temperature: float = Field(0.1, gt=0)


@dataclass(frozen=True)
class Texts:
    """What is said of whom: texts by item, items to train on and items held out, and how examples are made of them."""

    rows: Callable[..., GeneratedTextExamples]  # (items, shown=..., alone=...) -> rows
    trained: np.ndarray  # int (number of them,)
    held_out: np.ndarray


def divide_texts(
    backbone: Backbone, texts: Sequence[str | None], *, held_out: float, max_text_tokens: int, seed: int
) -> Texts:
    """Items with a text, a share of them held out by the seed. The backbone has its soft tokens."""
    per_item = backbone.vector_tokens[SOFT].num_query_tokens
    prompt_sequences = soft_sequences(len(texts), per_item, backbone.first_vector_id(SOFT))
    known = np.random.default_rng(seed).permutation(np.flatnonzero([text is not None for text in texts]))
    num_held_out = max(2, round(len(known) * held_out))

    def rows(items: np.ndarray, *, shown: np.ndarray | None = None, alone: bool = False) -> GeneratedTextExamples:
        tokenizer, before = backbone.tokenizer, None if alone else prompt_sequences
        return GeneratedTextExamples(tokenizer, before, texts, items, max_text_tokens=max_text_tokens, shown=shown)

    return Texts(rows, known[num_held_out:], known[:num_held_out])


@torch.no_grad()
def text_costs(
    backbone: Backbone, rows: GeneratedTextExamples, collate: Collate, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """-log p of each row's text, and its tokens: float64 (M,), int64 (M,)."""
    backbone.eval()
    costs, lengths = np.zeros(len(rows)), np.array(rows.lengths)
    order = np.argsort(lengths, kind="stable")
    for places in np.split(order, range(batch_size, len(order), batch_size)):
        batch = {
            name: tensor.to(backbone.device) for name, tensor in collate([rows[int(row)] for row in places]).items()
        }
        hidden, targets = backbone.labelled_states(batch)  # row by row
        each = cross_entropy(backbone.logits(hidden), targets, reduction="none").double().cpu()
        costs[places] = [float(part.sum()) for part in each.split(lengths[places].tolist())]
    return costs, lengths


def held_out_costs(backbone: Backbone, texts: Texts, collate: Collate, batch_size: int) -> dict[str, Any]:
    """What held-out texts cost after their own items' features, after those of another item each, and alone, in nats per token;
    `gain` is shuffled less true with its interval over items."""
    held_out = texts.held_out
    asked = {
        "true_features": texts.rows(held_out),
        "shuffled_features": texts.rows(held_out, shown=np.roll(held_out, 1)),
        "no_soft_tokens": texts.rows(held_out, alone=True),
    }
    costs = {name: text_costs(backbone, rows, collate, batch_size) for name, rows in asked.items()}
    found: dict[str, Any] = {name: float(cost.sum() / lengths.sum()) for name, (cost, lengths) in costs.items()}
    by_item = [cost / lengths for cost, lengths in costs.values()]
    low, high = bootstrap_interval((by_item[1] - by_item[0])[:, None])
    gain = {"value": float(np.mean(by_item[1] - by_item[0])), "low": float(low[0]), "high": float(high[0])}
    words = ", ".join(f"{value:.3f} with {name.replace('_', ' ')}" for name, value in found.items())
    Console().print(f"held-out texts, nats per token: {words}; shuffling costs {gain['low']:.3f} to {gain['high']:.3f}")
    return {**found, "gain": gain, "held_out_items": len(held_out), "training_items": len(texts.trained)}


@torch.no_grad()
def soft_vectors(soft: SoftTokens) -> np.ndarray:
    """float32 (num_items, D): the mean of each item's soft tokens, what CTR models read."""
    was_training = soft.training
    vectors = soft.eval().table().mean(dim=1).cpu().numpy()
    soft.train(was_training)
    return vectors


def id_vectors(events: Interactions, dim: int, backbone: Backbone, *, seed: int) -> torch.Tensor:
    """float32 (num_items, D): low-rank EASE-R embeddings brought to the model's width by a fixed random map, so that a contrast with
    them trains nothing but the adapter."""
    check_collaborative_dim("reconstruction.contrast_dim", dim, events.num_items)
    factors = torch.from_numpy(collaborative_embeddings("ease_r", events, dim)[0])
    generator = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(backbone.dim, factors.shape[1], generator=generator)).Q.T  # (dim, D)
    return (factors @ turned).to(backbone.device)
