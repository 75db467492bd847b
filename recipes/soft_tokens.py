"""Fine-tunes a language model that reads items as their title and soft tokens made of collaborative vectors: LLaRA and CoLLM.

    accelerate launch recipes/soft_tokens.py --config recipes/configs/soft_tokens/collm.yaml data=DATA output=RUN [key=value ...]

objective=pointwise asks whether a user would like one item (CoLLM), next_item which item comes next (LLaRA). schedule says when soft
tokens come: two_step (the language model on words alone, then the adapter with it frozen), curriculum (examples in words give way to
examples with soft tokens), joint (soft tokens from the start), words (never: the baseline).

Reads a prepared data folder (`llmrec data prepare`). Writes the run folder: config.yaml, a folder for each step of the training
(words/, soft/, joint/: training_log.jsonl, checkpoints/), model/ with the best weights, ready for `llmrec score` and `llmrec
recommend`, and results.json. Started again it goes on where it was; a finished run is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from llmrec.artifacts.run_folder import MODEL_FOLDER, save_artifact
from llmrec.backbones.adapters import TrainablePart, trainable_parts
from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.trained_parts import PartSettings, train_parts
from llmrec.config import CONFIG, Seed
from llmrec.data.click_examples import ClickExamples, ClickSplit, liked_events
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.candidates import HitRatioSettings, check_candidates, hit_among
from llmrec.evaluation.click_rows import ClickSettings, click_rows
from llmrec.evaluation.clicks import click_results, click_validation
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import Validation, ValidationSettings, ranking_validation
from llmrec.files import write_json
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.click_examples import ClickPromptExamples
from llmrec.prompting.collators import LastItemExamples
from llmrec.prompting.packing import make_collator
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.item_tokens import SOFT, item_tokens_for
from llmrec.recommenders.language_model import LanguageModel
from llmrec.training.backbones import BackboneSettings, check_can_be_saved, settle_backbone, settle_packing, usual_parts
from llmrec.training.command import begin_run, data_facts, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.cost import Estimate, Estimates
from llmrec.training.curriculum import Curriculum, CurriculumSettings
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import AdapterSettings, SoftTokenSettings, add_soft_tokens
from llmrec.training.objectives import Batch, ComputeLoss, Objective, ScopeSettings, click_loss_of, item_loss_of
from llmrec.training.prompts import PromptSettings, TitleSettings, check_prompt, prompt_encoder
from llmrec.training.ranking_trainer import AUC, NDCG, TrainingExamples
from llmrec.training.settings import TrainingSettings
from llmrec.training.steps import Schedule, Step, StepName, move_only, read_finished, steps_of, write_finished
from llmrec.training.trainer import train

RESULTS = "results.json"
WORDS, HYBRID = ("text",), ("text", SOFT)  # item forms in the prompt


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(TitleSettings):
    """How items are written."""

    form: Literal["text", "soft"] = "text"  # of the next item: its title, or by inner product with its soft tokens


class SoftTokensRecipe(PartSettings):
    """All settings of this recipe; `lora` is among `PartSettings`."""

    data: str
    output: str
    objective: Literal["pointwise", "next_item"] = "pointwise"
    schedule: Schedule = "two_step"
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftTokenSettings = SoftTokenSettings(features=("collaborative",), adapter=AdapterSettings(kind="mlp"))
    # of the task click where objective=pointwise; history_step is for objective=next_item
    prompt: PromptSettings = PromptSettings(name="click/chat", max_history=10, max_tokens=512)
    clicks: ClickSettings = ClickSettings()  # of objective=pointwise
    loss: ScopeSettings = ScopeSettings()  # of objective=next_item
    validation: ValidationSettings = ValidationSettings(max_users=500)  # of objective=next_item
    next_item: HitRatioSettings = HitRatioSettings()  # of objective=next_item
    curriculum: CurriculumSettings = CurriculumSettings()
    training: TrainingSettings = TrainingSettings(epochs=1.0, batch_size=16)
    soft_training: TrainingSettings = TrainingSettings(epochs=1.0, batch_size=16)  # of the second of two steps
    seed: Seed = 0


# -- data -----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Events:
    """What may be learned from and what is asked: the next item, or clicks."""

    train: Interactions  # collaborative vectors are fitted to these alone
    split: Split | None = None  # of the next item
    clicks: ClickSplit | None = None  # as many labelled examples as the settings want
    counted: ClickExamples | None = None  # all their training examples


def read_events(config: SoftTokensRecipe, data: Data) -> Events:
    """The examples or test instances of the objective, and the training events among them."""
    if config.objective == "next_item":
        split = load_task(config.validation.task).make(data)
        check_candidates(config.next_item, split.test, data.catalog.num_items, seed=config.seed)
        return Events(split.train, split=split)
    whole, sampled = click_rows(config.clicks, data, seed=config.seed)
    return Events(liked_events(whole.train, data.catalog.num_items), clicks=sampled, counted=whole.train)


# -- model ----------------------------------------------------------------------------------------------------------------------
def make_model(config: SoftTokensRecipe, data: Data, events: Events, backbone: Backbone) -> LanguageModel:
    """The backbone with soft tokens (unless schedule=words), trained parts and prompt."""
    check_prompt(config.prompt, backbone, objective=config.objective)
    form = config.items.form if config.objective == "next_item" else "text"
    forms = WORDS if config.schedule == "words" else HYBRID
    if form == SOFT and SOFT not in forms:
        raise ConfigError("schedule=words makes no soft tokens, so items.form cannot be soft; set items.form=text.")
    if SOFT in forms:
        add_soft_tokens(config.soft, data, events.train, backbone, seed=config.seed)
    tokens = item_tokens_for(form, backbone, data.catalog, None, max_title_tokens=config.items.max_title_tokens)
    if form == SOFT:
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens[SOFT], norm=backbone.embedding_norm))
    train_parts(backbone, usual_parts(config.backbone, form, forms), config, seed=config.seed)
    check_can_be_saved(backbone)
    encoder = prompt_encoder(config.prompt, config.items, backbone, data.catalog, tokens, forms)
    return LanguageModel(backbone, tokens, encoder, data.catalog, config.loss.scope_of(form), forms)


def in_words(model: LanguageModel, config: SoftTokensRecipe) -> LanguageModel:
    """The same model, whose prompts hold items as titles alone."""
    encoder = prompt_encoder(config.prompt, config.items, model.backbone, model.catalog, model.item_tokens, WORDS)
    return replace(model, encoder=encoder, prompt_forms=WORDS)


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(
    config: SoftTokensRecipe, model: LanguageModel, events: Events, curriculum: Curriculum | None
) -> ComputeLoss:
    """-log p(answer): of the right one of two words, or of the next item; summed over the examples of a batch."""
    words = model.encoder.answer_words
    loss = item_loss_of(model, config.loss.seen(events.train)) if words is None else click_loss_of(words)

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        batch = batch if curriculum is None else curriculum(batch)
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        return loss(backbone, hidden, targets), len(targets)

    return compute_loss


# -- train ----------------------------------------------------------------------------------------------------------------------
def train_step(
    config: SoftTokensRecipe, step: Step, model: LanguageModel, events: Events, data: Data,
    parts: list[TrainablePart], *, dry_run: bool,
) -> Estimate | None:  # fmt: skip
    """Trains one step, or reads what it came to where it is finished, and leaves the best weights in place."""
    folder, backbone = Path(config.output) / step.name, model.backbone
    move_only(parts, step.trains)
    if read_finished(folder, backbone):
        return None
    curriculum, settings = None, settle_packing(step.settings, backbone)
    if config.schedule == "curriculum":
        curriculum = Curriculum(backbone.vector_ids(SOFT), seed=config.seed, until=config.curriculum.until)
        settings = settings.model_copy(update={"packing": "none"})
    model = in_words(model, config) if step.name == "words" else model
    monitor, num_instances = validation(config, model, events, data)
    trainer = train(
        Objective(backbone, objective(config, model, events, curriculum)), training_examples(model, events),
        make_collator(settings.packing, backbone.tokenizer.pad_token_id),
        monitor, settings, folder, seed=config.seed, num_instances=num_instances, dry_run=dry_run,
        criterion=AUC if events.clicks is not None else NDCG, callbacks=[] if curriculum is None else [curriculum],
    )  # fmt: skip
    if not dry_run:
        write_finished(folder, backbone)
    return trainer.estimate


def training_examples(model: LanguageModel, events: Events) -> TrainingExamples:
    """Questions with their answer words, or histories with the titles that followed."""
    if events.clicks is not None:
        return ClickPromptExamples(model.encoder, events.clicks.train)
    return LastItemExamples(model.encoder, events.train.histories)


# -- evaluate -------------------------------------------------------------------------------------------------------------------
def validation(config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data) -> Validation:
    """What is measured at each validation, and on how many instances."""
    recommender = recommender_of(model, num_beams=config.validation.num_beams)
    if events.clicks is not None:
        return click_validation(recommender, events.clicks.valid)
    task = load_task(config.validation.task)
    return ranking_validation(recommender, data, task, events.split, max_users=config.validation.max_users)


def test_results(config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data) -> dict:
    """Of clicks AUC and GAUC, of the next item the hit ratio among sampled candidates (whole-catalogue figures: `llmrec eval`)."""
    recommender = recommender_of(model, num_beams=config.validation.num_beams)
    if events.clicks is not None:
        return click_results(recommender, events.clicks.test, events.counted, data.catalog.num_items)
    asked = {"max_instances": config.next_item.max_test_users, "seed": config.seed}
    return hit_among(recommender, events.split.test, config.next_item.num_candidates, **asked)


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: SoftTokensRecipe, *, fresh: bool, dry_run: bool = False) -> Estimate | Estimates | None:
    """Data, model, the steps of the training, test, artifact. A dry run ends with the estimate of its step, or of each of two."""
    refuse_sharded("recipes/soft_tokens.py")
    output = Path(config.output)
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    if config.objective == "next_item":
        loss = config.loss.settled(config.items.form, goes_on=not fresh and (output / CONFIG).exists())
        config = config.model_copy(update={"loss": loss})
    set_seed(config.seed)
    data = load_data(config.data)
    events = read_events(config, data)
    config, backbone = settle_backbone(config)
    model = make_model(config, data, events, backbone)
    num_rows = len(training_examples(model, events))
    inputs = training_inputs(
        data, events.train, backbone, features=() if config.schedule == "words" else config.soft.features,
        encoder=model.encoder, clicks=events.clicks,
    )  # fmt: skip
    begin_run(config, output, num_rows=num_rows, inputs=inputs, fresh=fresh, parts=(*get_args(StepName), RESULTS))
    parts = trainable_parts(backbone, adapter_lr=0, embedding_lr=0, weight_decay=0)
    steps = steps_of(config.schedule, config.training, config.soft_training)
    estimated = {step.name: train_step(config, step, model, events, data, parts, dry_run=dry_run) for step in steps}
    if dry_run:
        return Estimates(estimated) if len(estimated) > 1 else estimated.popitem()[1]
    move_only(parts, lambda part: True)  # what was trained is what is saved
    if PartialState().is_main_process:
        results = test_results(config, model, events, data)
        write_json(output / RESULTS, results)
        save_artifact(
            output / MODEL_FOLDER, model, semantic_ids=None, max_title_tokens=config.items.max_title_tokens,
            protocol=data_facts(data, (events.clicks or events.split).card, seed=config.seed)
            | {"objective": config.objective, "schedule": config.schedule, "test": results},
        )  # fmt: skip
        print(f"test: {results}; the model is in {output / MODEL_FOLDER}")
    return None


if __name__ == "__main__":
    recipe_main(SoftTokensRecipe, main, __doc__)
