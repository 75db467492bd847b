"""Settings of the networks of item sequences and of their training: one class a network, the only place of a default."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from llmrec.config import Seed, Settings
from llmrec.errors import ConfigError
from llmrec.nn.precision import multiplies_bfloat16

FULL_SOFTMAX = 50_000  # items, see `SequenceSettings.loss`


class SequenceSettings(Settings):
    """What the networks share: widths, the objective, its training."""

    shown_name: ClassVar[str]  # of the network, in sentences

    dim: int = Field(64, ge=1)
    max_length: int = Field(50, ge=2)  # items, the latest
    num_layers: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    # softmax over the items of the training events, or over the target and sampled ones of them; auto: sampled beyond 50,000 items
    loss: Literal["auto", "full", "sampled"] = "full"
    num_negatives: int = Field(1024, ge=1)  # of the sampled softmax, drawn anew for every step
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)  # windows of max_length items
    epochs: int = Field(200, ge=1)  # at most
    validate_every: int = Field(2, ge=1)  # epochs
    patience: int = Field(4, ge=1)  # validations without a better one
    monitor: Literal["ndcg@10", "loss"] = "ndcg@10"  # what validation chooses the epochs by
    use_ids: bool = True
    id_start: Literal["normal", "zero"] = (
        "normal"  # of trained embeddings; zero beside features, which then lead at first
    )
    id_dropout: float = Field(
        0.0, ge=0, lt=1
    )  # of whole trained embeddings in training, so that features learn to do without
    average: float = Field(
        0.0, ge=0, lt=1
    )  # decay a step of averaged weights, which are the result; 0: the weights themselves
    clip: float | None = Field(None, gt=0)  # the largest norm of a step's gradients
    # of training's products over all items; bfloat16: their factors rounded; auto: that where the processor has instructions for it
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    seed: Seed = 0

    def settled(self, num_items: int) -> Self:
        """The settings with a choice in place of each "auto". num_items: of the training events."""
        loss, precision = self.loss, self.precision
        if loss == "auto":
            loss = "sampled" if num_items > FULL_SOFTMAX else "full"
        if precision == "auto":
            precision = "bfloat16" if multiplies_bfloat16() else "float32"
        return self.model_copy(update={"loss": loss, "precision": precision})


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

    layers: Literal["sasrec", "pre_norm", "ligr"] = "sasrec"
    scale_items: bool = False  # where they are read, by the root of the width


class SequentialSettings(SasRecSettings):
    """The defaults of `llmrec train sequential`, chosen on the validation of Amazon Beauty with features of texts."""

    shown_name = "the sequential model"

    dim: int = Field(128, ge=1)
    layers: Literal["sasrec", "pre_norm", "ligr"] = "pre_norm"
    num_heads: int = Field(2, ge=1)
    scale_items: bool = True
    loss: Literal["auto", "full", "sampled"] = "auto"
    epochs: int = Field(100, ge=1)
    id_start: Literal["normal", "zero"] = "zero"
    id_dropout: float = Field(0.2, ge=0, lt=1)
    average: float = Field(0.998, ge=0, lt=1)
    clip: float | None = Field(5.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


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
