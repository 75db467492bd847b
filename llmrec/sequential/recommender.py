"""A learned network of item sequences with its items, as a recommender.

Letters: U requests, I items, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec.nn.item_inputs import ItemInputs, ItemMatrices
from llmrec.nn.sequence import BLOCKS, BertBlock, MaskedSelfAttention, Recurrent, SelfAttention, SequenceNetwork
from llmrec.recommenders.requests import DenseRecommender, Requests
from llmrec.sequential.settings import Bert4RecSettings, Gru4RecSettings, SasRecSettings, SequenceSettings

SCORED_AT_ONCE = 512  # requests
STRANGERS = 1024  # items that stand for the history of somebody without one


def make_network(settings: SequenceSettings, num_items: int, widths: Mapping[str, int]) -> SequenceNetwork:
    """The network of these settings with new weights, drawn from torch's random state.

    widths: D_f of each matrix of features by name; what is in them comes by `inputs.frozen(name).fit`, or with saved weights.
    """
    # Glorot's rule for the matrix of all items: scores of all items start near one another, which full softmax wants.
    std = (2 / (num_items + settings.dim)) ** 0.5
    inputs = ItemInputs(
        num_items, settings.dim, widths, use_ids=settings.use_ids, id_dropout=settings.id_dropout, std=std,
        feature_length=None, absent="zero",
    )  # fmt: skip
    if settings.use_ids and settings.id_start == "zero":
        nn.init.zeros_(inputs.fields[0].rows)
    shared: dict[str, Any] = {
        "max_length": settings.max_length, "num_layers": settings.num_layers, "dropout": settings.dropout,
    }  # fmt: skip
    if isinstance(settings, Gru4RecSettings):
        return Recurrent(inputs, hidden_dim=settings.hidden_dim, **shared)
    if isinstance(settings, Bert4RecSettings):
        return MaskedSelfAttention(
            inputs, BertBlock, num_heads=settings.num_heads, mask_probability=settings.mask_probability, **shared
        )
    assert isinstance(settings, SasRecSettings), settings
    shared |= {"num_heads": settings.num_heads, "scale_items": settings.scale_items}
    return SelfAttention(inputs, BLOCKS[settings.layers], **shared)


class SequentialRecommender(DenseRecommender):
    """Scores are inner products of a state that has read the history with every item's vector, which is also what the network reads."""

    name = "sequential"

    def __init__(self, network: SequenceNetwork, settings: SequenceSettings, facts: Mapping[str, Any]) -> None:
        """facts: what of the training the card tells beside the settings, JSON values."""
        self.network, self.settings, self.facts = network, settings, dict(facts)
        self.num_items = network.num_items

    @property
    def card(self) -> dict:
        """Settings, the names of the features, and facts of the training."""
        return {**self.settings.model_dump(mode="json"), "features": list(self.network.inputs.features), **self.facts}

    @torch.inference_mode()
    def scores(self, requests: Requests) -> np.ndarray:
        """float32 (U, I). Items of which nothing is known score like the least of the others.

        An empty history scores what histories of one item do in the mean, of STRANGERS items at most that training has met, evenly
        spread over the catalogue: items that many take next come first.
        """
        scores, vectors = np.zeros((len(requests), self.num_items), np.float32), self.network.item_vectors()
        there = np.flatnonzero(requests.histories.lengths)
        for rows in np.split(there, range(SCORED_AT_ONCE, len(there), SCORED_AT_ONCE)):
            if len(rows):
                packed = self.network.reads([requests.histories[row] for row in rows])
                states = self.network(packed, vectors)[packed.last]
                scores[rows] = (states @ vectors.T).numpy()
        if len(there) < len(requests):
            met = self.network.seen.nonzero().squeeze(1).numpy()
            packed = self.network.reads(list(met[:: len(met) // STRANGERS + 1, None]))
            mean = self.network(packed, vectors)[packed.last].mean(dim=0)
            scores[requests.histories.lengths == 0] = (vectors @ mean).numpy()
        blank = self.network.blank.numpy()
        if blank.any():
            scores[:, blank] = scores[:, ~blank].min(axis=1, keepdims=True)
        return scores

    @torch.inference_mode()
    def item_vectors(self) -> np.ndarray:
        """What the network reads and answers with: float32 (I, D)."""
        return self.network.item_vectors().numpy()

    def with_new_items(self, features: ItemMatrices, num_new: int) -> SequentialRecommender:
        """A recommender of `num_new` more items, behind the others and known by their features: float32 (M, D_f), bool (M,) each.

        Nothing is learned; the scores of the others stay. features: a matrix for each of the network's.
        """
        network = copy.deepcopy(self.network)
        network.extend(features, num_new)
        return SequentialRecommender(network, self.settings, self.facts)
