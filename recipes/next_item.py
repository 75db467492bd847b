"""Fine-tunes a language model to name the next item of a user's history.

    accelerate launch recipes/next_item.py --config recipes/configs/next_item/demo.yaml data=DATA output=RUN [key=value ...]

Reads a prepared data folder (`llmrec data prepare`). Writes the run folder: config.yaml (every setting as resolved),
inputs.json (digests of what it was begun on: it goes on over nothing else),
training_log.jsonl, checkpoints/, and, when training has ended, model/ with the best weights, ready for `llmrec recommend` and
`llmrec eval`. Started again it goes on from the last complete checkpoint; a finished run is left as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from pydantic import Field
from torch.nn.functional import dropout

from llmrec.artifacts.run_folder import MODEL_FOLDER, save_artifact
from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.trained_parts import PartSettings, TrainedPart, train_parts
from llmrec.config import CONFIG, Seed
from llmrec.data.folder import Data, load_data
from llmrec.data.splits import Split
from llmrec.enrich.alignment import AlignmentSettings, alignment_inputs, with_alignment
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import ValidationSettings, ranking_validation
from llmrec.items.codes_folder import find_codes
from llmrec.items.forms import Form, PromptForm
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.collators import AllPositionExamples, LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import make_collator
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.item_tokens import SOFT, SOFT_PROMPT, item_tokens_for
from llmrec.recommenders.language_model import LanguageModel
from llmrec.training.backbones import (
    BackboneSettings,
    check_can_be_saved,
    check_positions,
    make_backbone,
    settle_backbone,
    settle_packing,
    usual_parts,
)
from llmrec.training.command import begin_run, data_facts, recipe_main, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import (
    ImageSettings,
    SoftTokenSettings,
    add_images,
    add_soft_tokens,
    make_soft_prompt,
)
from llmrec.training.item_tables import ItemTableSettings, make_item_table, place_unseen
from llmrec.training.objectives import Batch, ComputeLoss, Objective, ScopeSettings, item_loss_of
from llmrec.training.prompts import PromptSettings, prompt_encoder
from llmrec.training.ranking_trainer import TrainingExamples
from llmrec.training.settings import TrainingSettings
from llmrec.training.trainer import REFIT, refit, train

if TYPE_CHECKING:
    from transformers import TrainerState


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(ItemTableSettings):
    """How items stand in the token stream."""

    form: Form = "semantic_id"  # of the answer; soft: by inner product
    # item forms in the prompt, one after another; (): as answered. image: the vision tokens of a vision-language model
    prompt_form: tuple[PromptForm, ...] = ()
    semantic_ids: str | None = None  # a folder `llmrec tokenize` wrote; None: the only ones in the data folder

    @property
    def prompt_forms(self) -> tuple[str, ...]:
        """The item forms in the prompt; items with soft answers stand there as their soft tokens."""
        return self.prompt_form or ((SOFT,) if self.form == SOFT else ())


class TargetSettings(PromptSettings):
    """How the model is asked."""

    # all_positions: every history item is a target (bare prompts only); last_item: one target per example
    targets: Literal["all_positions", "last_item"] = "all_positions"


class LossSettings(ScopeSettings):
    """What is minimised; decoding scores items in the same softmax scope."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    hidden_dropout: float = Field(0.0, ge=0, lt=1)  # of the hidden states the head reads


class NextItem(PartSettings):
    """All settings of this recipe; those of the parts that can be trained (lora, layer_adapter, ...) are `PartSettings`."""

    data: str
    output: str
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftTokenSettings = SoftTokenSettings()  # where items.form or items.prompt_form says soft
    images: ImageSettings = ImageSettings()
    prompt: TargetSettings = TargetSettings()
    train: tuple[TrainedPart, ...] = ()  # (): lora (from scratch: full) and what the form of the items brings along
    loss: LossSettings = LossSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    refit: bool = False  # then train anew, on train+valid, for the steps that validation found best
    seed: Seed = 0


# -- model ----------------------------------------------------------------------------------------------------------------------
def make_model(
    config: NextItem, data: Data, split: Split, backbone: Backbone, codes: SemanticIDs | None
) -> LanguageModel:
    """The backbone with item tokens, trained parts and prompt."""
    items = config.items
    check_positions(backbone, config.prompt.max_tokens)
    if SOFT in (items.form, *items.prompt_form):
        add_soft_tokens(config.soft, data, split.train, backbone, seed=config.seed)
    if IMAGES in items.prompt_form:
        add_images(config.images, data, backbone)
    tokens = item_tokens_for(items.form, backbone, data.catalog, codes, max_title_tokens=items.max_title_tokens)
    if items.form == SOFT:
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens[SOFT], norm=backbone.embedding_norm))
    elif tokens.num_rows:
        backbone.add_item_table(make_item_table(items, data, split.train, backbone, tokens, seed=config.seed))
    if SOFT_PROMPT in config.train:
        backbone.add_vectors(SOFT_PROMPT, make_soft_prompt(config.soft_prompt, backbone, seed=config.seed))
    train_parts(backbone, config.train, config, seed=config.seed)
    check_can_be_saved(backbone)
    encoder = prompt_encoder(config.prompt, items, backbone, data.catalog, tokens, items.prompt_forms)
    return LanguageModel(backbone, tokens, encoder, data.catalog, config.loss.scope_of(items.form), items.prompt_forms)


# -- examples -------------------------------------------------------------------------------------------------------------------
def training_examples(config: NextItem, data: Data, split: Split, encoder: PromptEncoder) -> TrainingExamples:
    """The next item's examples, mixed with those of alignment tasks."""
    make = AllPositionExamples if config.prompt.targets == "all_positions" else LastItemExamples
    examples = make(encoder, split.train.histories)
    return with_alignment(config.alignment, examples, data, split, encoder, seed=config.seed)


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(config: NextItem, model: LanguageModel, split: Split) -> ComputeLoss:
    """-log p(next item | history), summed over the targets of a batch."""
    smoothing = config.loss.label_smoothing
    item_loss = item_loss_of(model, config.loss.seen(split.train), label_smoothing=smoothing)

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


# -- train, evaluate, save ------------------------------------------------------------------------------------------------------
def inputs_of(config: NextItem, data: Data, split: Split, model: LanguageModel) -> dict[str, str]:
    """What this training is begun on: it goes on over nothing else."""
    forms = {config.items.form, *config.items.prompt_forms}
    features = (*(config.soft.features if SOFT in forms else ()), *([IMAGES] if IMAGES in forms else ()))
    texts = alignment_inputs(config.alignment, data)
    return training_inputs(data, split.train, model.backbone, features=features, encoder=model.encoder, texts=texts)


def protocol_card(config: NextItem, data: Data, split: Split, state: TrainerState) -> dict:
    """What every number of this model depends on."""
    return {
        **data_facts(data, split.card, seed=config.seed, fit="train+valid" if config.refit else "train"),
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "best_valid_ndcg@10": state.best_metric,
        "negatives": config.loss.negatives,
    }


def main(config: NextItem, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """Data, model, objective, training, artifact. A dry run ends with the estimate of what the training would take."""
    output, seed = Path(config.output), config.seed
    parts = config.train or usual_parts(config.backbone, config.items.form, config.items.prompt_forms)
    config = config.model_copy(update={"train": parts})
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    loss = config.loss.settled(config.items.form, goes_on=not fresh and (output / CONFIG).exists())
    config = config.model_copy(update={"loss": loss})
    set_seed(seed)
    data = load_data(config.data)
    task = load_task(config.validation.task)
    split = task.make(data)
    codes = find_codes(config.items.semantic_ids, data) if config.items.form == "semantic_id" else None

    config, backbone = settle_backbone(config)
    model = make_model(config, data, split, backbone, codes)
    if config.training.packing == "branches" and config.prompt.targets == "all_positions":
        raise ConfigError(
            "training.packing=branches joins the last-item examples of a user, but with prompt.targets=all_positions one example "
            "has all targets of a user already; set training.packing=segments."
        )
    config = config.model_copy(update={"training": settle_packing(config.training, backbone)})
    examples = training_examples(config, data, split, model.encoder)
    inputs = inputs_of(config, data, split, model)
    begin_run(config, output, num_rows=len(examples), inputs=inputs, fresh=fresh, parts=(REFIT,))

    recommender = recommender_of(model, num_beams=config.validation.num_beams)
    validate, num_instances = ranking_validation(recommender, data, task, split, max_users=config.validation.max_users)
    collate = make_collator(config.training.packing, backbone.tokenizer.pad_token_id)
    trainer = train(
        Objective(backbone, objective(config, model, split)), examples, collate, validate, config.training, output, seed=seed,
        num_instances=num_instances, dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        return trainer.estimate
    state = trainer.state
    if config.refit:
        del trainer, validate, recommender, examples, model, backbone  # there is one model at a time
        split = replace(split, train=split.train_valid)
        set_seed(seed)
        model = make_model(config, data, split, make_backbone(config.backbone, seed=seed), codes)
        examples = training_examples(config, data, split, model.encoder)
        again = Objective(model.backbone, objective(config, model, split))
        refit(again, examples, collate, config.training, output / REFIT, seed=seed, chosen=state)
    if PartialState().is_main_process:
        num_placed = place_unseen(model, data, split.train.counts() > 0) if config.items.place_unseen else 0
        protocol = protocol_card(config, data, split, state) | {"unseen_items_placed": num_placed}
        titles = {"max_title_tokens": config.items.max_title_tokens}
        save_artifact(output / MODEL_FOLDER, model, semantic_ids=codes, **titles, protocol=protocol)
        print(f"best validation NDCG@10 {state.best_metric:.4f}; the model is in {output / MODEL_FOLDER}")
    return None


if __name__ == "__main__":
    recipe_main(NextItem, main, __doc__)
