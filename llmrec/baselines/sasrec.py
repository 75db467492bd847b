"""SASRec as a baseline: `llmrec.sequential` with ids only, and the settings of the literature."""

from __future__ import annotations

from llmrec.baselines.sequence_baseline import SequenceBaseline
from llmrec.sequential.settings import SasRecSettings


class SasRecRecommender(SequenceBaseline):
    """Trained to tell the next item among all items at every position.

    Kang and McAuley, ICDM 2018, sample one negative instead of the softmax; Klenitskiy and Vasilev, "Turning dross into gold loss: is
    BERT4Rec really better than SASRec?", RecSys 2023, show what the softmax is worth.
    """

    name = "sasrec"
    Settings = SasRecSettings
