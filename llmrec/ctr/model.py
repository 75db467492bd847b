"""A CTR model that serves: item inputs, network, settings; scores rows; one folder of safetensors and JSON.

Nothing here knows a language model: features are frozen matrices that came with the model. Letters as in `llmrec.nn.ctr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.config import Settings
from llmrec.data.click_examples import PADDING, ClickExamples
from llmrec.errors import ArtifactError, DataError, LlmrecError, ModelError
from llmrec.files import atomic_folder, read_json, write_json
from llmrec.nn.ctr import ModelKind, make_ctr_net
from llmrec.nn.item_inputs import IDS, PIECES, ItemInputs, ItemMatrices, ItemPieces

FORMAT_VERSION = 1
CARD, WEIGHTS = "click_model.json", "click_model.safetensors"
NUM_CONTEXT = 2
SCORED_AT_ONCE = 4096  # rows


class CtrSettings(Settings):
    """One CTR model and its training. The defaults are those of all but gdcn on MovieLens-100K with ids alone: on
    validation no other width, depth, dropout, decay or lr that was tried is more than .001 of AUC better."""

    model: ModelKind = "din"
    dim: int = Field(16, ge=2, multiple_of=2)  # E, the width of a field (autoint has two heads)
    hidden: tuple[int, ...] = Field((32,), min_length=1)
    num_layers: int = Field(2, ge=1)  # cross layers of dcn_v2 and gdcn, attention layers of autoint
    dropout: float = Field(0.2, ge=0, lt=1)
    id_dropout: float = Field(0.05, ge=0, lt=1)  # share of items whose id is hidden in training
    # Length that feature vectors are scaled to. Validation AUC of 1, 3, 8 and about 20 on MovieLens-100K, text vectors, dnn:
    # with ids .814, .812, .809, .809; alone .794, .802, .803, .809 (long vectors are learned by heart, like ids).
    feature_length: float = Field(3.0, gt=0)
    context: bool = True  # read how many items the user rated before, and what share of them was liked
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)  # AdamW's, of everything but the embeddings
    embedding_decay: float = Field(0.0, ge=0)  # AdamW's, of the embeddings of items and word pieces
    batch_size: int = Field(1024, ge=1)
    epochs: int = Field(40, ge=1)
    evaluations: int = Field(2, ge=1)  # validations per epoch
    patience: int = Field(4, ge=1)  # validations without a better one before training stops
    monitor: Literal["auc", "gauc"] = "auc"  # of the validation examples: what is better


class CtrModel(nn.Module):
    """Item inputs, a network over them, and the context of a row: a `ClickScorer`.

    card: what its numbers depend on, JSON values; training fills it in, `save` keeps it. fit_cpu_minutes: process time of the training,
    where it was measured.
    """

    def __init__(
        self,
        num_items: int,
        widths: Mapping[str, int],
        use_ids: bool,
        settings: CtrSettings,
        pieces: tuple[int, int] | None = None,
    ) -> None:
        """widths: D_f of each matrix by name; pieces: how many different word pieces there are, and the most of an item. Weights are
        initialised from torch's global random generator."""
        super().__init__()
        self.settings = settings
        self.card: dict[str, Any] = {}
        self.fit_cpu_minutes: float | None = None
        self.inputs = ItemInputs(
            num_items,
            settings.dim,
            widths,
            use_ids=use_ids,
            pieces=pieces,
            id_dropout=settings.id_dropout,
            feature_length=settings.feature_length,
        )
        self.net = make_ctr_net(
            settings.model,
            self.inputs.num_fields,
            settings.dim,
            NUM_CONTEXT if settings.context else 0,
            hidden=settings.hidden,
            dropout=settings.dropout,
            num_layers=settings.num_layers,
        )

    @classmethod
    def make(
        cls,
        num_items: int,
        item_inputs: ItemMatrices,
        use_ids: bool,
        settings: CtrSettings,
        pieces: ItemPieces | None = None,
    ) -> CtrModel:
        """A model with its matrices. Raises DataError for inputs that are not of these items, or for no input at all."""
        if not use_ids and not item_inputs and pieces is None:
            raise DataError(
                "a CTR model needs item ids, word pieces or at least one matrix of item features, got none of them."
            )
        for name, (matrix, present) in item_inputs.items():
            _check_matrix(name, matrix, present, num_items)
        _check_pieces(pieces, num_items)
        widths = {name: matrix.shape[1] for name, (matrix, _) in item_inputs.items()}
        sizes = None if pieces is None else (pieces.num_pieces, pieces.rows.shape[1])
        model = cls(num_items, widths, use_ids, settings, sizes)
        for name, (matrix, present) in item_inputs.items():
            model.inputs.frozen(name).fit(matrix, present)
        if pieces is not None:
            model.inputs.pieces.fit(pieces)
        return model

    @property
    def name(self) -> str:
        """What JSON calls it."""
        return self.settings.model

    def replace_features(self, name: str, matrix: np.ndarray, present: np.ndarray) -> None:
        """Serve other vectors instead of those it was trained on: float32 (N, D_f), bool (N,)."""
        _check_matrix(name, matrix, present, self.inputs.num_items)
        if name not in self.inputs.features:
            raise DataError(f"this CTR model reads no features '{name}' (it reads: {', '.join(self.inputs.names)}).")
        self.inputs.frozen(name).replace(matrix, present)

    def forward(self, items: torch.Tensor, histories: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """items int64 (B,), histories int64 (B, H) padded with PADDING, context float32 (B, C) -> logits float32 (B,)."""
        mask = histories != PADDING
        vectors = self.inputs(torch.cat([items[:, None], torch.where(mask, histories, items[:, None])], dim=1))
        return self.net(vectors[:, 0], vectors[:, 1:], mask, context)

    def tensors(self, rows: ClickExamples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """items, histories, context of rows, as `forward` takes them."""
        context = context_of(rows) if self.settings.context else np.zeros((len(rows), 0), np.float32)
        return (
            torch.from_numpy(rows.items.astype(np.int64)),
            torch.from_numpy(rows.histories.astype(np.int64)),
            torch.from_numpy(context),
        )

    @torch.inference_mode()
    def score_rows(self, rows: ClickExamples) -> np.ndarray:
        """P(liked) of each row: float32 (N,) in [0, 1]. Labels are not read. Raises ModelError where one is NaN."""
        was_training = self.training
        self.eval()
        tensors = self.tensors(rows)
        parts = [
            torch.sigmoid(self(*(tensor[start : start + SCORED_AT_ONCE] for tensor in tensors)))
            for start in range(0, len(rows), SCORED_AT_ONCE)
        ]
        self.train(was_training)
        scores = torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)
        if np.isnan(scores).any():
            raise ModelError(
                f"the CTR model gave NaN (first in row {np.argmax(np.isnan(scores))}). "
                "Its training diverged: train it again with a lower lr."
            )
        return scores

    def save(self, folder: str | Path, facts: Mapping[str, Any]) -> None:
        """Write the folder, replacing an older model there. facts: JSON values that stand on its card beside those of its training."""
        with atomic_folder(folder, known_by=CARD) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, temporary / WEIGHTS)
            pieces = self.inputs.pieces
            described = {
                "format_version": FORMAT_VERSION,
                "settings": self.settings.model_dump(mode="json"),
                "num_items": self.inputs.num_items,
                "use_ids": self.inputs.use_ids,
                "features": self.inputs.features,
                "pieces": None if pieces is None else [len(pieces.rows) - 1, pieces.pieces.shape[1]],
                "card": {**self.card, **facts},
            }
            write_json(temporary / CARD, described)

    @classmethod
    def load(cls, folder: str | Path) -> tuple[CtrModel, dict]:
        """The model and its card, ready to score. Raises ArtifactError where the folder is none, damaged, or of another format."""
        facts = read_json(Path(folder) / CARD, "card of a CTR model", ArtifactError)
        if facts.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"'{folder}' has the format version {facts.get('format_version')}, but this llmrec reads {FORMAT_VERSION}."
            )
        try:
            settings = CtrSettings.model_validate(facts["settings"])
            with torch.random.fork_rng(devices=[]):  # the random weights are overwritten at once
                pieces = facts.get("pieces")  # a model of before December 2026 has none
                model = cls(facts["num_items"], facts["features"], facts["use_ids"], settings, pieces and tuple(pieces))
            model.load_state_dict(load_file(Path(folder) / WEIGHTS))
        except LlmrecError:
            raise
        except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ArtifactError(
                f"the CTR model in '{folder}' is damaged or was changed by hand ({first}); train it again."
            ) from error
        model.card = facts["card"]
        return model.eval(), facts["card"]


def context_of(rows: ClickExamples) -> np.ndarray:
    """How many labelled events the user had before, and their share of likes shrunk towards 3/4 by 20 events: float32 (N, 2).

    Shrunk that strongly because within a user the share wanders by chance: with 4 events AUC is the same and GAUC .003 lower
    (MovieLens-100K, validation).
    """
    share = (rows.liked + 15.0) / (rows.answered + 20.0)
    return np.stack([np.log1p(rows.answered) / 4 - 1, 4 * (share - 0.75)], axis=1).astype(np.float32)


def _check_pieces(pieces: ItemPieces | None, num_items: int) -> None:
    if pieces is not None and (pieces.rows.ndim != 2 or len(pieces.rows) != num_items or not pieces.rows.shape[1]):
        raise DataError(f"the word pieces of a CTR model should be ({num_items}, pieces), but are {pieces.rows.shape}.")


def _check_matrix(name: str, matrix: np.ndarray, present: np.ndarray, num_items: int) -> None:
    if (
        name in (IDS, PIECES)
        or matrix.ndim != 2
        or len(matrix) != num_items
        or present.shape != (num_items,)
        or present.dtype != bool
    ):
        raise DataError(
            f"item features of a CTR model should have a name other than '{IDS}' and '{PIECES}', numbers ({num_items}, width) and "
            f"presence bool ({num_items},), but '{name}' has {matrix.shape} and {present.dtype} {present.shape}."
        )
    if not np.isfinite(matrix[present]).all():
        raise DataError(
            f"the features '{name}' hold NaN or infinity in a present row. Compute them again, or mark it absent."
        )
