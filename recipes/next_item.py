"""Fine-tunes a language model to name the next item of a user's history.

    accelerate launch recipes/next_item.py --config recipes/configs/next_item/demo.yaml data=DATA output=RUN [key=value ...]

Reads a prepared data folder (`llmrec data prepare`). Writes the run folder: config.yaml (every setting as resolved),
inputs.json (digests of what it was begun on: it goes on over nothing else),
training_log.jsonl, checkpoints/, and, when training has ended, model/ with the best weights, ready for `llmrec recommend` and
`llmrec eval`. Started again it goes on from the last complete checkpoint; a finished run is left as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from pydantic import Field, field_validator
from torch.nn.functional import dropout

from llmrec.artifacts.run_folder import MODEL_FOLDER, save_artifact
from llmrec.backbones.adapters import trainable_parts
from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.trained_parts import PartSettings, TrainedPart, train_parts
from llmrec.backbones.vision_language import encode_vision_tokens
from llmrec.baselines.item_embeddings import collaborative_embeddings
from llmrec.config import Seed, Settings
from llmrec.data.folder import Data, load_data
from llmrec.data.images import image_paths
from llmrec.data.splits import Split
from llmrec.encoders.text import encode_texts
from llmrec.enrich.alignment_texts import alignment_texts
from llmrec.enrich.generated_texts import load_generated_texts
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import ranking_validation
from llmrec.items.codes_folder import find_codes
from llmrec.items.forms import ItemTokens
from llmrec.items.row_features import nearest_seen, row_features
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.item_table import ItemTable
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.alignment import alignment_examples, find_task
from llmrec.prompting.collators import AllPositionExamples, LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.mixture import Mixture, Source, share_lines
from llmrec.prompting.packing import make_collator
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.item_tokens import item_prompt_sequences, item_tokens_for, soft_prompt_ids
from llmrec.recommenders.language_model import LanguageModel
from llmrec.training.backbones import (
    BackboneSettings,
    check_can_be_saved,
    check_positions,
    checked_packing,
    make_backbone,
    settle_dtype,
)
from llmrec.training.command import begin_run, data_facts, print_parts, recipe_main, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import (
    SoftTokenSettings,
    check_collaborative_dim,
    make_soft_prompt,
    make_soft_tokens,
    soft_features,
)
from llmrec.training.objectives import item_loss_of
from llmrec.training.ranking_trainer import Batch, ComputeLoss, Objective, TrainingExamples, TrainingSettings
from llmrec.training.trainer import train

if TYPE_CHECKING:
    from transformers import TrainerState


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(Settings):
    """How items stand in the token stream."""

    form: Literal["text", "unique_id", "semantic_id", "soft"] = "semantic_id"  # of the answer; soft: by inner product
    # item forms in the prompt, one after another; (): as answered. image: the vision tokens of a vision-language model
    prompt_form: tuple[Literal["text", "unique_id", "semantic_id", "soft", "image"], ...] = ()
    semantic_ids: str | None = None  # a folder `llmrec tokenize` wrote; None: the only ones in the data folder
    start: Literal["text", "collaborative", "random"] = "text"  # what item embeddings are initialised from
    collaborative_dim: int = Field(256, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)  # of item embeddings as inputs
    max_title_tokens: int = Field(32, ge=2)
    # unique ids: items without a training event get the mean embedding of their nearest trained items by text
    place_unseen: bool = True

    @property
    def prompt_forms(self) -> tuple[str, ...]:
        """The item forms in the prompt; items with soft answers stand there as their soft tokens."""
        return self.prompt_form or (("soft",) if self.form == "soft" else ())


class ImageSettings(Settings):
    """How images stand in prompts, where items.prompt_form says image."""

    max_tokens: int = Field(64, ge=1)  # vision tokens of an image at most: its resolution is capped by them
    on_broken: Literal["skip", "fail"] = "skip"


class PromptSettings(Settings):
    """How the model is asked."""

    name: str = "next_item/bare"  # a shipped prompt, or the path of one
    targets: Literal["all_positions", "last_item"] = (
        "all_positions"  # all_positions: every history item is a target (bare prompts only); last_item: one target per example
    )
    max_history: int = Field(50, ge=1)  # items
    history_step: int = Field(
        1, ge=1
    )  # items that a full history drops at once: so many events share its beginning, read once
    max_tokens: int = Field(1024, ge=1)


class LossSettings(Settings):
    """What is minimised; decoding scores items in the same softmax scope."""

    softmax_scope: SoftmaxScope | None = None  # None: level, or vocabulary for the text form
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    hidden_dropout: float = Field(0.0, ge=0, lt=1)  # of the hidden states the head reads


class AlignmentSettings(Settings):
    """Training examples that tie items to their words, next to those of the next item; llmrec.prompting.alignment lists the tasks."""

    tasks: dict[str, float] = Field({})  # task -> how often an epoch holds each of its examples; empty: no alignment
    next_item: float = Field(1.0, gt=0)  # the same of the next item's examples
    description: tuple[str, ...] = ()  # columns of the catalogue that describe an item
    generated_texts: str | None = None  # or texts that `llmrec enrich` wrote about the items
    queries: str | None = None  # texts of `llmrec enrich`: what somebody who wants the item would ask for
    preferences: str | None = None  # texts of `llmrec enrich` about the users
    max_answer_tokens: int = Field(64, ge=2)  # of an answer in words

    @field_validator("tasks")
    @classmethod
    def _exist(cls, tasks: dict[str, float]) -> dict[str, float]:
        for name, times in tasks.items():
            find_task(name)
            if times < 0:
                raise ValueError(f"an epoch holds the examples of {name} so often, which cannot be less than 0")
        return tasks


class ValidationSettings(Settings):
    """How checkpoints are chosen."""

    task: str = "leave_one_out"
    max_users: int = Field(1000, ge=1)
    num_beams: int = Field(20, ge=1)


class NextItem(PartSettings):
    """All settings of this recipe; those of the parts that can be trained (lora, layer_adapter, ...) are `PartSettings`."""

    data: str
    output: str
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftTokenSettings = SoftTokenSettings()  # where items.form or items.prompt_form says soft
    images: ImageSettings = ImageSettings()
    prompt: PromptSettings = PromptSettings()
    train: tuple[TrainedPart, ...] = ()  # (): lora (from scratch: full) and what the form of the items brings along
    loss: LossSettings = LossSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    seed: Seed = 0


# -- model ----------------------------------------------------------------------------------------------------------------------
def settle_parts(config: NextItem) -> NextItem:
    """The settings with the list of trained parts, where none was given."""
    if config.train:
        return config
    forms = {config.items.form, *config.items.prompt_forms}
    parts = ["lora" if config.backbone.scratch is None else "full"]
    parts += ["semantic_adapter"] if "soft" in forms else []
    parts += ["item_table"] if config.items.form != "text" else []
    return config.model_copy(update={"train": tuple(parts)})


def settle_packing(config: NextItem, backbone: Backbone) -> NextItem:
    """The settings with a way to batch instead of "auto". Raises ConfigError or ModelError for one that cannot work."""
    if config.training.packing == "branches" and config.prompt.targets == "all_positions":
        raise ConfigError(
            "training.packing=branches joins the last-item examples of a user, but with prompt.targets=all_positions one example "
            "has all targets of a user already; set training.packing=segments."
        )
    packing = checked_packing(config.training.packing, backbone)
    return config.model_copy(update={"training": config.training.model_copy(update={"packing": packing})})


def make_model(
    config: NextItem, data: Data, split: Split, backbone: Backbone, codes: SemanticIDs | None
) -> LanguageModel:
    """The backbone with item tokens, trained parts and prompt."""
    check_positions(backbone, config.prompt.max_tokens)
    if config.items.form == "soft" or "soft" in config.items.prompt_form:
        features = soft_features(config.soft, data, split.train, seed=config.seed)
        backbone.add_vectors("soft", make_soft_tokens(config.soft, features, backbone, seed=config.seed))
    if "image" in config.items.prompt_form:
        paths = image_paths(data.catalog, data.folder)
        images = encode_vision_tokens(backbone, paths, item_ids=data.catalog.item_ids, **config.images.model_dump())
        backbone.add_vectors("image", images)
    lengths = {"max_title_tokens": config.items.max_title_tokens}
    tokens = item_tokens_for(config.items.form, backbone, data.catalog, codes, **lengths)
    if config.items.form == "soft":
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens["soft"], norm=backbone.embedding_norm))
    elif tokens.num_rows:
        backbone.add_item_table(trained_rows(config, data, split, backbone, tokens))
    if "soft_prompt" in config.train:
        backbone.add_vectors("soft_prompt", make_soft_prompt(config.soft_prompt, backbone, seed=config.seed))
    train_parts(backbone, config.train, config, seed=config.seed)
    check_can_be_saved(backbone)
    encoder = PromptEncoder(
        load_prompt(config.prompt.name), backbone.tokenizer, tokens, data.catalog,
        max_history=config.prompt.max_history, history_step=config.prompt.history_step, max_tokens=config.prompt.max_tokens,
        prompt_sequences=item_prompt_sequences(config.items.prompt_forms, tokens, backbone, data.catalog, **lengths),
        soft_prompt=soft_prompt_ids(backbone),
    )  # fmt: skip
    scope = config.loss.softmax_scope or ("vocabulary" if config.items.form == "text" else "level")
    return LanguageModel(backbone, tokens, encoder, data.catalog, scope, config.items.prompt_forms)


def trained_rows(config: NextItem, data: Data, split: Split, backbone: Backbone, tokens: ItemTokens) -> ItemTable:
    """The item table at its start: random, or from features of the items that are written with each token."""
    norm = backbone.embedding_norm
    table = ItemTable(tokens.row_levels, backbone.dim, norm=norm, dropout=config.items.dropout, seed=config.seed)
    if config.items.start != "random":
        table.initialise(row_features(tokens, start_features(config, data, split)), norm=norm, seed=config.seed)
    return table


def start_features(config: NextItem, data: Data, split: Split) -> np.ndarray:
    """float32 (num_items, F): item texts through a sentence encoder, or low-rank EASE-R embeddings of the training events."""
    if config.items.start == "text":
        return encode_texts(data.catalog.texts())
    dim = config.items.collaborative_dim
    check_collaborative_dim("items.collaborative_dim", dim, data.catalog.num_items)
    return collaborative_embeddings("ease_r", split.train, dim)[0]


def place_unseen(model: LanguageModel, data: Data, split: Split) -> int:
    """After training: embeddings of items without training events, from trained ones of items with similar texts. Returns how many."""
    seen = split.train.counts() > 0
    if model.item_tokens.form != "unique_id" or seen.all():
        return 0
    unseen, neighbours = nearest_seen(encode_texts(data.catalog.texts(["title"])), seen)
    model.backbone.item_table.place(unseen, neighbours)
    return len(unseen)


# -- examples -------------------------------------------------------------------------------------------------------------------
def training_examples(config: NextItem, data: Data, split: Split, encoder: PromptEncoder) -> TrainingExamples:
    """The next item's examples, mixed with those of alignment tasks."""
    make_rows = AllPositionExamples if config.prompt.targets == "all_positions" else LastItemExamples
    rows = make_rows(encoder, split.train.histories)
    wanted = config.alignment
    if not wanted.tasks:
        return rows
    named = wanted.model_dump(include={"description", "generated_texts", "queries", "preferences"})
    texts = alignment_texts(data, split, **named)
    sources = [Source("next_item", rows, wanted.next_item)]
    for name, times in wanted.tasks.items():
        if times:
            aligned = alignment_examples(
                name, texts, split.train.histories, data.catalog, encoder, max_answer_tokens=wanted.max_answer_tokens
            )
            sources.append(Source(name, aligned, times))
    mixture = Mixture(sources, seed=config.seed)
    PartialState().print("\n".join(share_lines(mixture.shares())))
    return mixture


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(config: NextItem, model: LanguageModel) -> ComputeLoss:
    """-log p(next item | history), summed over the targets of a batch."""
    smoothing = config.loss.label_smoothing
    item_loss = item_loss_of(model, label_smoothing=smoothing)

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        hidden = dropout(hidden, config.loss.hidden_dropout, backbone.training)
        if not config.alignment.tasks:
            return item_loss(backbone, hidden, targets), len(targets)
        # Answers in words compete with all that the model can say; items only with what the decoder has them compete with.
        is_word = targets < backbone.base_vocab_size
        words = backbone.loss(hidden[is_word], targets[is_word], scope="vocabulary", label_smoothing=smoothing)
        return words + item_loss(backbone, hidden[~is_word], targets[~is_word]), len(targets)

    return compute_loss


def inputs_of(config: NextItem, data: Data, split: Split, model: LanguageModel) -> dict[str, str]:
    """What this training is begun on: it goes on over nothing else."""
    forms, aligned = {config.items.form, *config.items.prompt_forms}, config.alignment
    features = (*(config.soft.features if "soft" in forms else ()), *(["image"] if "image" in forms else ()))
    named = {aligned.generated_texts: "items", aligned.queries: "items", aligned.preferences: "users"}
    texts = {
        name: load_generated_texts(data, name, about=about).texts
        for name, about in named.items()
        if name and aligned.tasks
    }
    return training_inputs(data, split.train, model.backbone, features=features, encoder=model.encoder, texts=texts)


def protocol_card(config: NextItem, data: Data, split: Split, state: TrainerState) -> dict:
    """What every number of this model depends on."""
    return {
        **data_facts(data, split.card, seed=config.seed),
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "best_valid_ndcg@10": state.best_metric,
    }


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: NextItem, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """Data, model, objective, training, artifact. A dry run ends with the estimate of what the training would take."""
    output = Path(config.output)
    if (config := settle_run_folder(settle_parts(config), output, fresh=fresh)) is None:
        return None
    set_seed(config.seed)
    data = load_data(config.data)
    task = load_task(config.validation.task)
    split = task.split.make(data.interactions)
    codes = find_codes(config.items.semantic_ids, data) if config.items.form == "semantic_id" else None

    config = config.model_copy(update={"backbone": settle_dtype(config.backbone, seed=config.seed)})
    model = make_model(config, data, split, make_backbone(config.backbone, seed=config.seed), codes)
    backbone = model.backbone
    config = settle_packing(config, backbone)
    rows = training_examples(config, data, split, model.encoder)
    begin_run(config, output, num_rows=len(rows), inputs=inputs_of(config, data, split, model), fresh=fresh)
    parts = trainable_parts(
        backbone,
        adapter_lr=config.training.adapter_lr,
        embedding_lr=config.training.embedding_lr,
        weight_decay=config.training.weight_decay,
    )
    print_parts(backbone, parts, num_rows=len(rows))

    recommender = recommender_of(model, num_beams=config.validation.num_beams)
    validate, num_instances = ranking_validation(recommender, data, task, split, max_users=config.validation.max_users)
    trainer = train(
        Objective(backbone, objective(config, model)), parts, rows,
        make_collator(config.training.packing, backbone.tokenizer.pad_token_id),
        validate, config.training, output, seed=config.seed, num_instances=num_instances, dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        return trainer.estimate
    if trainer.is_world_process_zero():
        num_placed = place_unseen(model, data, split) if config.items.place_unseen else 0
        protocol = protocol_card(config, data, split, trainer.state) | {"unseen_items_placed": num_placed}
        save_artifact(
            output / MODEL_FOLDER,
            model,
            semantic_ids=codes,
            max_title_tokens=config.items.max_title_tokens,
            protocol=protocol,
        )
        print(f"best validation NDCG@10 {trainer.state.best_metric:.4f}; the model is in {output / MODEL_FOLDER}")
    return None


if __name__ == "__main__":
    recipe_main(NextItem, main, __doc__)
