"""Settings of the networks of item sequences and of their training: one class a network, the only place of a default."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llmrec.config import Seed, Settings
from llmrec.errors import ConfigError


class SequenceSettings(Settings):
    """What the networks share: widths, the objective, its training."""

    shown_name: ClassVar[str]  # of the network, in sentences

    dim: int = Field(64, ge=1)
    max_length: int = Field(50, ge=2)  # items, the latest
    num_layers: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    loss: Literal["full", "sampled"] = "full"  # softmax over all items, or over the target and sampled ones
    num_negatives: int = Field(1024, ge=1)  # of the sampled softmax, drawn anew for every step
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)  # windows of max_length items
    epochs: int = Field(200, ge=1)  # at most
    validate_every: int = Field(2, ge=1)  # epochs
    patience: int = Field(4, ge=1)  # validations without a better one
    monitor: Literal["ndcg@10", "loss"] = "ndcg@10"  # what validation chooses the epochs by
    use_ids: bool = True
    seed: Seed = 0


class AttentionSettings(SequenceSettings):
    """Of a network of self-attention."""

    num_heads: int = Field(1, ge=1)

    def check_heads(self) -> None:
        """Raises ConfigError where the width does not split into heads."""
        if self.dim % self.num_heads:
            raise ConfigError(
                f"{self.shown_name}'s dim ({self.dim}) should be a multiple of num_heads ({self.num_heads})."
            )


class SasRecSettings(AttentionSettings):
    """SASRec: causal self-attention, asked for the next item at every position."""

    shown_name = "SASRec"

    layers: Literal["sasrec", "ligr"] = "sasrec"


class Bert4RecSettings(AttentionSettings):
    """BERT4Rec: self-attention both ways, asked for items that are hidden."""

    shown_name = "BERT4Rec"

    num_heads: int = Field(4, ge=1)
    mask_probability: float = Field(0.2, gt=0, lt=1)  # of each item of a window to be hidden and asked for
    validate_every: int = Field(5, ge=1)  # epochs; it learns from a fifth of the positions, and slowly


class Gru4RecSettings(SequenceSettings):
    """GRU4Rec: a recurrent network, asked for the next item at every position."""

    shown_name = "GRU4Rec"

    num_layers: int = Field(1, ge=1)
    hidden_dim: int = Field(128, ge=1)  # of the recurrent units
