"""Fine-tunes a language model to say whether a user would like one item: RecBench's pairwise click-through, TALLRec.

    accelerate launch recipes/clicks.py --config recipes/configs/clicks/recbench.yaml data=DATA output=RUN [key=value ...]

items.prompt_form says how items stand in the prompt: text, unique_id, semantic_id, soft (what the semantic adapter makes of their
features), image, or several one after another, such as [text, soft].

Reads a prepared data folder (`llmrec data prepare`) and the rows of a click task (clicks.task). Writes the run folder: config.yaml,
inputs.json, training_log.jsonl, checkpoints/, and model/ with the best weights, ready for `llmrec score` and `llmrec eval RUN --task`,
and results.json. Started again it goes on from the last complete checkpoint; a finished run is left as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from pydantic import Field, field_validator

from llmrec.artifacts.run_folder import MODEL_FOLDER, save_artifact
from llmrec.backbones.causal_lm import IMAGES, Backbone
from llmrec.backbones.trained_parts import PartSettings, TrainedPart, train_parts
from llmrec.config import Seed
from llmrec.data.click_examples import PADDING, ClickExamples, ClickSplit, joined, liked_events
from llmrec.data.folder import Data, load_data
from llmrec.evaluation.click_rows import ClickSettings, click_rows
from llmrec.evaluation.clicks import click_results, click_validation
from llmrec.files import write_json
from llmrec.items.codes_folder import find_codes
from llmrec.items.forms import Form, PromptForm
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.click_examples import ClickPromptExamples
from llmrec.prompting.packing import make_collator
from llmrec.recommenders.item_tokens import SOFT, item_tokens_for
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.training.backbones import (
    BackboneSettings,
    check_can_be_saved,
    make_backbone,
    settle_backbone,
    settle_packing,
    usual_parts,
)
from llmrec.training.command import begin_run, data_facts, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import ImageSettings, SoftTokenSettings, add_images, add_soft_tokens
from llmrec.training.item_tables import ItemTableSettings, make_item_table, place_unseen
from llmrec.training.objectives import Batch, Objective, ScopeSettings, click_loss_of
from llmrec.training.prompts import PromptSettings, check_prompt, prompt_encoder
from llmrec.training.ranking_trainer import AUC
from llmrec.training.settings import TrainingSettings
from llmrec.training.trainer import REFIT, refit, train

RESULTS = "results.json"


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(ItemTableSettings):
    """How items stand in the prompt."""

    prompt_form: tuple[PromptForm, ...] = Field(("text",), min_length=1)  # one after another
    semantic_ids: str | None = None  # a folder `llmrec tokenize` wrote; None: the only ones in the data folder

    @field_validator("prompt_form")
    @classmethod
    def _has_one_kind_of_item_tokens(cls, forms: tuple[PromptForm, ...]) -> tuple[PromptForm, ...]:
        if {"unique_id", "semantic_id"} <= set(forms):
            raise ValueError("items have tokens of one kind, unique_id or semantic_id; name one of the two")
        return forms

    @property
    def form(self) -> Form:
        """The form whose tokens have an embedding of their own; text where none has."""
        return next((form for form in self.prompt_form if form in ("unique_id", "semantic_id")), "text")


class Click(PartSettings):
    """All settings of this recipe; those of the parts that can be trained (lora, layer_adapter, ...) are `PartSettings`."""

    data: str
    output: str
    clicks: ClickSettings = ClickSettings()
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftTokenSettings = SoftTokenSettings()  # where items.prompt_form says soft
    images: ImageSettings = ImageSettings()
    prompt: PromptSettings = PromptSettings(name="click/chat", max_history=20)
    train: tuple[TrainedPart, ...] = ()  # (): lora (from scratch: full) and what the forms of the items bring along
    training: TrainingSettings = TrainingSettings(epochs=1.0, batch_size=32)
    refit: bool = False  # then train anew, on train+valid, for the steps that validation found best
    seed: Seed = 0


# -- data -----------------------------------------------------------------------------------------------------------------------
def known_items(rows: ClickExamples, num_items: int) -> np.ndarray:
    """bool (num_items,): the items that stand in the rows' prompts."""
    known = np.zeros(num_items, bool)
    known[rows.items] = True
    known[rows.histories[rows.histories != PADDING]] = True
    return known


# -- model ----------------------------------------------------------------------------------------------------------------------
def make_model(
    config: Click, data: Data, rows: ClickExamples, backbone: Backbone, codes: SemanticIDs | None
) -> LanguageModel:
    """The backbone with item tokens, trained parts and prompt. rows: those that features may be learned from."""
    items = config.items
    check_prompt(config.prompt, backbone, objective="pointwise")
    liked = liked_events(rows, data.catalog.num_items)
    if SOFT in items.prompt_form:
        add_soft_tokens(config.soft, data, liked, backbone, seed=config.seed)
    if IMAGES in items.prompt_form:
        add_images(config.images, data, backbone)
    tokens = item_tokens_for(items.form, backbone, data.catalog, codes, max_title_tokens=items.max_title_tokens)
    if tokens.num_rows:
        backbone.add_item_table(make_item_table(items, data, liked, backbone, tokens, seed=config.seed))
    train_parts(backbone, config.train, config, seed=config.seed)
    if tokens.num_rows:
        backbone.item_table.log_scale.requires_grad_(False)  # of answers, which are words here
    check_can_be_saved(backbone)
    encoder = prompt_encoder(config.prompt, items, backbone, data.catalog, tokens, items.prompt_form)
    return LanguageModel(
        backbone, tokens, encoder, data.catalog, ScopeSettings().scope_of(items.form), items.prompt_form
    )


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(model: LanguageModel) -> Objective:
    """Binary cross-entropy on P(liked), the softmax over the two answer words, summed over the examples of a batch."""
    click_loss = click_loss_of(model.encoder.answer_words)

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        return click_loss(backbone, hidden, targets), len(targets)

    return Objective(model.backbone, compute_loss)


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: Click, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """Data, model, training, test, artifact. A dry run ends with the estimate of what the training would take."""
    refuse_sharded("recipes/clicks.py")
    output, seed = Path(config.output), config.seed
    parts = config.train or usual_parts(config.backbone, config.items.form, config.items.prompt_form)
    config = config.model_copy(update={"train": parts})
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    set_seed(seed)
    data = load_data(config.data)
    whole, rows = click_rows(config.clicks, data, seed=seed)
    codes = find_codes(config.items.semantic_ids, data) if config.items.form == "semantic_id" else None

    config, backbone = settle_backbone(config)
    model = make_model(config, data, rows.train, backbone, codes)
    config = config.model_copy(update={"training": settle_packing(config.training, backbone)})
    collate = make_collator(config.training.packing, backbone.tokenizer.pad_token_id)
    begin_run(
        config, output, num_rows=len(rows.train), inputs=inputs_of(config, data, rows, model), fresh=fresh,
        parts=(RESULTS, REFIT),
    )  # fmt: skip

    validate, num_instances = click_validation(PointwiseRecommender(model), rows.valid)
    trainer = train(
        objective(model), ClickPromptExamples(model.encoder, rows.train), collate, validate, config.training, output,
        seed=seed, num_instances=num_instances, dry_run=dry_run, criterion=AUC,
    )  # fmt: skip
    if dry_run:
        return trainer.estimate
    state, learned, fit = trainer.state, rows.train, "train"
    if config.refit:
        learned, fit = joined([rows.train, rows.valid]), "train+valid"
        del trainer, validate, model, backbone  # there is one model at a time
        set_seed(seed)
        model = make_model(config, data, learned, make_backbone(config.backbone, seed=seed), codes)
        examples = ClickPromptExamples(model.encoder, learned)
        refit(objective(model), examples, collate, config.training, output / REFIT, seed=seed, chosen=state)

    if PartialState().is_main_process:
        placed = (
            place_unseen(model, data, known_items(learned, data.catalog.num_items)) if config.items.place_unseen else 0
        )
        results = click_results(PointwiseRecommender(model), rows.test, learned, data.catalog.num_items)
        facts = data_facts(data, whole.card, seed=seed, fit=fit) | {
            "objective": "pointwise", "rows_learned_from": len(learned), "steps": state.global_step,
            "best_step": state.best_global_step, "best_valid_auc": state.best_metric, "unseen_items_placed": placed,
            "test": results,
        }  # fmt: skip
        titles = {"max_title_tokens": config.items.max_title_tokens}
        save_artifact(output / MODEL_FOLDER, model, semantic_ids=codes, **titles, protocol=facts)
        write_json(output / RESULTS, results)
        print(f"best validation AUC {state.best_metric:.4f}; test: {results}; the model is in {output / MODEL_FOLDER}")
    return None


def inputs_of(config: Click, data: Data, rows: ClickSplit, model: LanguageModel) -> dict[str, str]:
    """What this training is begun on: it goes on over nothing else."""
    forms = config.items.prompt_form
    features = (*(config.soft.features if SOFT in forms else ()), *([IMAGES] if IMAGES in forms else ()))
    liked = liked_events(rows.train, data.catalog.num_items)
    return training_inputs(data, liked, model.backbone, features=features, encoder=model.encoder, clicks=rows)


if __name__ == "__main__":
    recipe_main(Click, main, __doc__)
