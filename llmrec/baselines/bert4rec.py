"""BERT4Rec as a baseline: self-attention both ways, asked for items that are hidden."""

from __future__ import annotations

from llmrec.baselines.sequence_baseline import SequenceBaseline
from llmrec.sequential.settings import Bert4RecSettings


class Bert4RecRecommender(SequenceBaseline):
    """Hidden items are told from what stands on both sides; to recommend, the hidden one stands behind the history.

    Sun et al., CIKM 2019, with the softmax over all items. In training each item is hidden with `mask_probability`, and the last one
    always, in half of the windows alone: the paper's samples that hide only the last item, which is what it will be asked.
    """

    name = "bert4rec"
    Settings = Bert4RecSettings
