"""BERT4Rec as a recommender: self-attention both ways, asked for items that are hidden."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from llmrec.baselines.sequence_baseline import SequenceBaseline, SequenceSettings, check_heads
from llmrec.nn.item_inputs import ItemInputs, ItemMatrices
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import BertBlock, SelfAttention, SequenceNetwork


class Bert4RecSettings(SequenceSettings):
    """The network and its training."""

    num_heads: int = Field(4, ge=1)
    mask_probability: float = Field(0.2, gt=0, lt=1)  # of each item of a window to be hidden and asked for
    validate_every: int = Field(5, ge=1)  # epochs; it learns from a fifth of the positions, and slowly


class Bert4RecRecommender(SequenceBaseline):
    """Hidden items are told from what stands on both sides; to recommend, the hidden one stands behind the history.

    Sun et al., CIKM 2019, with the softmax over all items. In training each item is hidden with `mask_probability`, and the last one
    always, in half of the windows alone: the paper's samples that hide only the last item, which is what it will be asked.
    """

    name, shown_name = "bert4rec", "BERT4Rec"
    Settings = Bert4RecSettings

    def __init__(self, *, item_inputs: ItemMatrices | None = None, **settings: object) -> None:
        """item_inputs: see `SequenceBaseline`."""
        super().__init__(item_inputs=item_inputs, **settings)
        check_heads(self.shown_name, self.settings.dim, self.settings.num_heads)

    def _network(self, inputs: ItemInputs) -> SequenceNetwork:
        settings = self.settings
        return SelfAttention(
            inputs,
            BertBlock,
            max_length=settings.max_length + 1,  # and the hidden one
            num_layers=settings.num_layers,
            num_heads=settings.num_heads,
            dropout=settings.dropout,
            is_causal=False,
        )

    def _questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        hidden = torch.rand(len(windows.items)) < self.settings.mask_probability
        alone = torch.rand(len(windows)) < 0.5
        hidden &= ~alone.repeat_interleave(windows.lengths)
        hidden[windows.last] = True
        read = windows.items.masked_fill(hidden, self.network.mask)
        return windows.with_items(read), hidden.nonzero().squeeze(1), windows.items[hidden]

    def _asked(self, histories: list[np.ndarray]) -> Packed:
        return Packed.of([[*history[-self.settings.max_length :], self.network.mask] for history in histories])
