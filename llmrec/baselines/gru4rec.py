"""GRU4Rec as a recommender: a recurrent network, asked for the next item at every position."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from llmrec.baselines.sequence_baseline import SequenceBaseline, SequenceSettings
from llmrec.nn.item_inputs import ItemInputs
from llmrec.nn.packed import Packed
from llmrec.nn.sequence import Recurrent, SequenceNetwork


class Gru4RecSettings(SequenceSettings):
    """The network and its training."""

    num_layers: int = Field(1, ge=1)
    hidden_dim: int = Field(128, ge=1)  # of the recurrent units


class Gru4RecRecommender(SequenceBaseline):
    """Hidasi et al., ICLR 2016, with the softmax cross-entropy and the shared item vectors of Hidasi and Karatzoglou, CIKM 2018.

    Where they sample negatives from the batch, the softmax runs over all items, or over uniform ones with their correction.
    """

    name, shown_name = "gru4rec", "GRU4Rec"
    Settings = Gru4RecSettings

    def _network(self, inputs: ItemInputs) -> SequenceNetwork:
        settings = self.settings
        return Recurrent(
            inputs, hidden_dim=settings.hidden_dim, num_layers=settings.num_layers, dropout=settings.dropout
        )

    def _questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        packed, targets = windows.in_and_out()
        return packed, torch.arange(len(targets)), targets

    def _asked(self, histories: list[np.ndarray]) -> Packed:
        return Packed.of([history[-self.settings.max_length :] for history in histories])
