"""GRU4Rec as a baseline: a recurrent network, asked for the next item at every position."""

from __future__ import annotations

from llmrec.baselines.sequence_baseline import SequenceBaseline
from llmrec.sequential.settings import Gru4RecSettings


class Gru4RecRecommender(SequenceBaseline):
    """Hidasi et al., ICLR 2016, with the softmax cross-entropy and the shared item vectors of Hidasi and Karatzoglou, CIKM 2018.

    Where they sample negatives from the batch, the softmax runs over all items, or over uniform ones with their correction.
    """

    name = "gru4rec"
    Settings = Gru4RecSettings
