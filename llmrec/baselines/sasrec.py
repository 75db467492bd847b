"""SASRec as a recommender: causal self-attention, asked for the next item at every position."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from llmrec.baselines.sequence_baseline import SequenceBaseline, SequenceSettings, check_heads
from llmrec.nn.item_inputs import ItemInputs, ItemMatrices
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import BLOCKS, SelfAttention, SequenceNetwork


class SasRecSettings(SequenceSettings):
    """The network and its training."""

    layers: Literal["sasrec", "ligr"] = "sasrec"
    num_heads: int = Field(1, ge=1)


class SasRecRecommender(SequenceBaseline):
    """Trained to tell the next item among all items at every position.

    Kang and McAuley, ICDM 2018, sample one negative instead of the softmax; Klenitskiy and Vasilev, "Turning dross into gold loss: is
    BERT4Rec really better than SASRec?", RecSys 2023, show what the softmax is worth.
    """

    name, shown_name = "sasrec", "SASRec"
    Settings = SasRecSettings

    def __init__(self, *, item_inputs: ItemMatrices | None = None, **settings: object) -> None:
        """item_inputs: see `SequenceBaseline`."""
        super().__init__(item_inputs=item_inputs, **settings)
        check_heads(self.shown_name, self.settings.dim, self.settings.num_heads)

    def _network(self, inputs: ItemInputs) -> SequenceNetwork:
        settings = self.settings
        return SelfAttention(
            inputs,
            BLOCKS[settings.layers],
            max_length=settings.max_length,
            num_layers=settings.num_layers,
            num_heads=settings.num_heads,
            dropout=settings.dropout,
        )

    def _questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        packed, targets = windows.in_and_out()
        return packed, torch.arange(len(targets)), targets

    def _asked(self, histories: list[np.ndarray]) -> Packed:
        return Packed.of([history[-self.settings.max_length :] for history in histories])
