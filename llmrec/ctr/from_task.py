"""A CTR model trained straight from a click task's examples, beside a language model that learns from the same rows.

| input | what an item is |
|---|---|
| id | one trained embedding |
| text | the mean of trained embeddings of its title's word pieces |
| semantic_embedding | the frozen vector of its texts by a sentence encoder, through a trained projection |

Those of RecBench's conventional models (Liu et al., "Benchmarking LLMs in recommendation tasks", 2025); several stand side by side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from llmrec.config import Seed, load_config
from llmrec.ctr.model import CtrModel, CtrSettings
from llmrec.ctr.training import train_ctr_model
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.encoders.item_features import TEXT, item_features
from llmrec.encoders.word_pieces import word_pieces
from llmrec.errors import ConfigError
from llmrec.nn.ctr import ModelKind
from llmrec.nn.item_inputs import ItemMatrices

CtrInput = Literal["id", "text", "semantic_embedding"]
CTR_INPUTS: tuple[CtrInput, ...] = get_args(CtrInput)
CTR_NAMES: tuple[ModelKind, ...] = get_args(ModelKind)


def _listed(value: Any) -> Any:
    """`inputs=id,text`, as a command line has it."""
    return [each.strip() for each in value.split(",")] if isinstance(value, str) else value


class CtrTaskSettings(CtrSettings):
    """A CTR model that a click task trains: the model's own settings, what an item is to it, and its seed.

    On few rows and frozen vectors the model's own batches are too large and its vectors too short. Validation AUC of dnn with the
    semantic embedding alone, 8,000 rows of MicroLens (seed 0): .607 at 1024 and length 3, .646 at 256, .659 at 256 and length 10.
    """

    batch_size: int = Field(256, ge=1)
    feature_length: float = Field(10.0, gt=0)
    inputs: Annotated[tuple[CtrInput, ...], BeforeValidator(_listed), Field(min_length=1)] = ("id",)
    seed: Seed = 0
    refit: bool = False  # train anew on train and validation examples, for as many epochs as validation chose


def ctr_settings(name: str, overrides: Sequence[str] = ()) -> CtrTaskSettings:
    """The settings of the CTR model `name`, with such as "inputs=id,text" in place of defaults.

    Raises ConfigError for a name that is none of CTR_NAMES, and for a setting that there is not or that does not fit.
    """
    if name not in CTR_NAMES:
        raise ConfigError(f"there is no CTR model '{name}' (there are: {', '.join(CTR_NAMES)}).")
    settings = load_config(CtrTaskSettings, None, [f"model={name}", *overrides])
    if settings.model != name:
        raise ConfigError(
            f"the CTR model is '{name}', but a setting says model={settings.model}. Leave the setting out."
        )
    if len(set(settings.inputs)) < len(settings.inputs):
        raise ConfigError(f"inputs should be named once each, but are {', '.join(settings.inputs)}.")
    return settings


def train_ctr_from_task(
    data: Data, split: ClickSplit, settings: CtrTaskSettings, *, folder: Path | None = None
) -> CtrModel:
    """The model that the split's training examples give, ready to score the test's; its card says how it came about.

    `fit_cpu_minutes` of it are those of the training, over all threads, without the encoding of texts. folder: where the training is
    kept meanwhile, so that a killed one goes on; None: nowhere.

    Raises:
        DataError: nobody to monitor, or no item with a text where the semantic embedding is asked for.
        ModelError: no sentence encoder, or the training diverged.
    """
    inputs: ItemMatrices = {}
    if "semantic_embedding" in settings.inputs:
        encoded = item_features([TEXT], data)
        inputs = {"semantic_embedding": (encoded[TEXT], encoded.present[TEXT])}
    pieces = word_pieces(data.catalog.titles) if "text" in settings.inputs else None
    began = time.process_time()
    model, _ = train_ctr_model(
        split,
        data.catalog.num_items,
        inputs,
        use_ids="id" in settings.inputs,
        pieces=pieces,
        settings=CtrSettings.model_validate(settings.model_dump(include=set(CtrSettings.model_fields))),
        seed=settings.seed,
        refit=settings.refit,
        folder=folder,
    )
    model.fit_cpu_minutes = (time.process_time() - began) / 60
    model.card["inputs"] = list(settings.inputs)
    return model
