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

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from pydantic import Field

from llmrec.artifacts.run_folder import MODEL_FOLDER, save_artifact
from llmrec.backbones.adapters import TrainablePart, trainable_parts
from llmrec.backbones.causal_lm import Backbone, SoftmaxScope
from llmrec.backbones.trained_parts import PartSettings, train_parts
from llmrec.baselines.click_means import CLICK_MEANS, mean_scores
from llmrec.config import Seed, Settings
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import ClickExamples, ClickSplit, liked_events
from llmrec.data.click_sources import ClickExampleSettings, make_click_examples
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.candidates import hit_among, sampled_lists
from llmrec.evaluation.clicks import ctr_report
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import ranking_validation
from llmrec.files import write_json
from llmrec.items.forms import ItemTokens
from llmrec.metrics import ctr_metrics
from llmrec.nn.adapters.semantic import AdapterKind
from llmrec.nn.losses import token_loss
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.click_examples import ClickPromptExamples
from llmrec.prompting.collators import LastItemExamples
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import make_collator
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.item_tokens import SOFT, item_prompt_sequences, item_tokens_for
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.pointwise import liked_logits
from llmrec.training.backbones import (
    BackboneSettings,
    check_can_be_saved,
    check_positions,
    checked_packing,
    make_backbone,
    settle_dtype,
)
from llmrec.training.command import begin_run, data_facts, print_parts, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.cost import Estimate, Estimates
from llmrec.training.curriculum import Curriculum
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import AdapterSettings, SoftTokenSettings, make_soft_tokens, soft_features
from llmrec.training.objectives import item_loss_of
from llmrec.training.ranking_trainer import NDCG, Batch, ComputeLoss, Criterion, Objective, TrainingExamples
from llmrec.training.steps import (
    Schedule,
    Step,
    StepName,
    StepSettings,
    move_only,
    read_finished,
    steps_of,
    write_finished,
)
from llmrec.training.trainer import train

AUC = Criterion("auc", greater_is_better=True)
RESULTS = "results.json"
WORDS, HYBRID = ("text",), ("text", SOFT)  # item forms in the prompt


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(Settings):
    """How items are written."""

    answer: Literal["text", "soft"] = "text"  # of the next item: its title, or by inner product with its soft tokens
    max_title_tokens: int = Field(32, ge=2)


class PromptSettings(Settings):
    """How the model is asked."""

    name: str = "click/chat"  # a shipped prompt, or the path of one: of the task click where objective=pointwise
    max_history: int = Field(10, ge=1)  # items
    history_step: int = Field(1, ge=1)  # items that a full history drops at once (objective=next_item)
    max_tokens: int = Field(512, ge=1)


class NextItemSettings(Settings):
    """How objective=next_item is trained and monitored."""

    softmax_scope: SoftmaxScope | None = None  # None: vocabulary for titles, level for soft answers
    task: str = "leave_one_out"
    max_users: int = Field(500, ge=1)  # of a validation
    num_beams: int = Field(20, ge=1)
    num_candidates: int = Field(20, ge=2)  # of LLaRA's hit ratio in results.json: the target and all others sampled
    max_test_users: int = Field(1000, ge=0)  # who are asked for it


class ProjectionSettings(AdapterSettings):
    """The semantic adapter."""

    kind: AdapterKind = "mlp"


class SoftSettings(SoftTokenSettings):
    """What soft tokens are made of."""

    features: tuple[str, ...] = ("collaborative",)
    adapter: ProjectionSettings = ProjectionSettings()


class CurriculumSettings(Settings):
    """schedule=curriculum."""

    until: float = Field(1.0, gt=0, le=1)  # the share of the training after which every example has its soft tokens


class SoftTokensRecipe(PartSettings):
    """All settings of this recipe; `lora` is among `PartSettings`."""

    data: str
    output: str
    objective: Literal["pointwise", "next_item"] = "pointwise"
    schedule: Schedule = "two_step"
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftSettings = SoftSettings()
    prompt: PromptSettings = PromptSettings()
    clicks: ClickExampleSettings = ClickExampleSettings()  # of objective=pointwise
    next_item: NextItemSettings = NextItemSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    training: StepSettings = StepSettings()
    soft_training: StepSettings = StepSettings()  # of the second of two steps
    seed: Seed = 0


# -- data -----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Events:
    """What may be learned from and what is asked. train: events; collaborative vectors are fitted on them alone.

    split: of the next item; clicks: labelled examples, as many as the settings want; counted: all training examples of theirs.
    """

    train: Interactions
    split: Split | None = None
    clicks: ClickSplit | None = None
    counted: ClickExamples | None = None

    @property
    def card(self) -> dict:
        """The split's."""
        return (self.clicks or self.split).card


def read_events(config: SoftTokensRecipe, data: Data) -> Events:
    """The examples or test instances of the objective, and the training events among them."""
    if config.objective == "next_item":
        split, wanted = load_task(config.next_item.task).split.make(data.interactions), config.next_item
        asked = {"max_instances": wanted.max_test_users, "seed": config.seed, "setting": "next_item.num_candidates"}
        *_, left_out = sampled_lists(
            split.test, data.catalog.num_items, wanted.num_candidates, **asked
        )  # else refused after training
        if left_out:
            PartialState().print(
                f"{left_out} test users have had so many items that no {wanted.num_candidates} candidates can be sampled for them; the "
                "hit ratio among candidates leaves them out (a smaller next_item.num_candidates keeps them)"
            )
        return Events(split.train, split=split)
    whole, sampled = make_click_examples(
        config.clicks, data.interactions, max_history=config.prompt.max_history, seed=config.seed
    )
    return Events(liked_events(whole.train, data.catalog.num_items), clicks=sampled, counted=whole.train)


# -- model ----------------------------------------------------------------------------------------------------------------------
def make_model(config: SoftTokensRecipe, data: Data, events: Events, backbone: Backbone) -> LanguageModel:
    """The backbone with soft tokens (unless schedule=words), trained parts and prompt."""
    check_positions(backbone, config.prompt.max_tokens)
    prompt = load_prompt(config.prompt.name)
    if (prompt.answers is not None) != (config.objective == "pointwise"):
        wants = {"pointwise": "of the task click, such as click/chat", "next_item": "such as next_item/instruction"}
        raise ConfigError(
            f"objective={config.objective} needs a prompt {wants[config.objective]}, but prompt.name is {config.prompt.name}."
        )
    if config.objective == "pointwise" and config.prompt.history_step != 1:
        raise ConfigError(
            "prompt.history_step is for objective=next_item: click examples hold the latest prompt.max_history items, wherever they "
            "begin. Set prompt.history_step=1."
        )
    answer = config.items.answer if config.objective == "next_item" else "text"
    has_soft = config.schedule != "words"
    if answer == SOFT and not has_soft:
        raise ConfigError("schedule=words makes no soft tokens, so items.answer cannot be soft; set items.answer=text.")
    if has_soft:
        features = soft_features(config.soft, data, events.train, seed=config.seed)
        backbone.add_vectors(SOFT, make_soft_tokens(config.soft, features, backbone, seed=config.seed))
    tokens = item_tokens_for(answer, backbone, data.catalog, None, max_title_tokens=config.items.max_title_tokens)
    if answer == SOFT:
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens[SOFT], norm=backbone.embedding_norm))
    names = ["lora" if config.backbone.scratch is None else "full"]
    names += ["semantic_adapter"] if has_soft else []
    names += ["item_table"] if answer == SOFT else []
    train_parts(backbone, names, config, seed=config.seed)
    check_can_be_saved(backbone)
    forms = HYBRID if has_soft else WORDS
    encoder = encoder_of(config, backbone, data.catalog, tokens, forms)
    scope = config.next_item.softmax_scope or ("level" if answer == SOFT else "vocabulary")
    return LanguageModel(backbone, tokens, encoder, data.catalog, scope, forms)


def encoder_of(
    config: SoftTokensRecipe, backbone: Backbone, catalog: Catalog, tokens: ItemTokens, forms: tuple[str, ...]
) -> PromptEncoder:
    """Prompts with these item forms."""
    return PromptEncoder(
        load_prompt(config.prompt.name), backbone.tokenizer, tokens, catalog,
        max_history=config.prompt.max_history, history_step=config.prompt.history_step, max_tokens=config.prompt.max_tokens,
        prompt_sequences=item_prompt_sequences(forms, tokens, backbone, catalog, max_title_tokens=config.items.max_title_tokens),
    )  # fmt: skip


def in_words(model: LanguageModel, config: SoftTokensRecipe) -> LanguageModel:
    """The same model, whose prompts hold items as titles alone."""
    encoder = encoder_of(config, model.backbone, model.catalog, model.item_tokens, WORDS)
    return replace(model, encoder=encoder, prompt_forms=WORDS)


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(model: LanguageModel, curriculum: Curriculum | None) -> ComputeLoss:
    """-log p(answer): of the right one of two words, or of the next item; summed over the examples of a batch."""
    words = model.encoder.answer_words
    item_loss = item_loss_of(model)

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        batch = batch if curriculum is None else curriculum(batch)
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        if words is not None:  # the softmax over two words is a sigmoid, so this is binary cross-entropy
            logits = liked_logits(backbone, hidden, words)
            return token_loss(logits, (targets != words.liked).long()), len(targets)
        return item_loss(backbone, hidden, targets), len(targets)

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
    curriculum, packing = None, checked_packing(step.settings.packing, backbone)
    if config.schedule == "curriculum":
        first = backbone.first_vector_id(SOFT)
        soft_ids = range(first, first + backbone.vector_tokens[SOFT].num_tokens)
        curriculum, packing = Curriculum(soft_ids, seed=config.seed, until=config.curriculum.until), "none"
    settings = step.settings.model_copy(update={"packing": packing})
    model = in_words(model, config) if step.name == "words" else model
    rows = training_examples(model, events)
    own = trainable_parts(
        backbone, adapter_lr=settings.adapter_lr, embedding_lr=settings.embedding_lr, weight_decay=settings.weight_decay
    )
    print_parts(backbone, own, num_rows=len(rows))
    monitor, num_instances = validation(config, model, events, data)
    trainer = train(
        Objective(backbone, objective(model, curriculum)), own, rows, make_collator(packing, backbone.tokenizer.pad_token_id),
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
def validation(
    config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data
) -> tuple[Callable[..., dict[str, float]], int]:
    """What is measured at each validation, and on how many instances."""
    recommender = recommender_of(model, num_beams=config.next_item.num_beams)
    if events.clicks is None:
        task = load_task(config.next_item.task)
        return ranking_validation(recommender, data, task, events.split, max_users=config.next_item.max_users)
    rows = events.clicks.valid

    def click_validation(max_instances: int = len(rows)) -> dict[str, float]:
        asked = rows.take(np.arange(min(max_instances, len(rows))))
        return ctr_metrics(asked.labels, recommender.score_rows(asked), asked.users)

    return click_validation, len(rows)


def test_results(config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data) -> dict:
    """Of clicks AUC and GAUC with their intervals over users, next to means of the training examples; of the next item the hit ratio
    among sampled candidates (whole-catalogue figures: `llmrec eval`)."""
    recommender = recommender_of(model, num_beams=config.next_item.num_beams)
    if events.clicks is None:
        return hit_among(
            recommender, events.split.test, config.next_item.num_candidates,
            max_instances=config.next_item.max_test_users, seed=config.seed,
        )  # fmt: skip
    test = events.clicks.test
    scores = {"model": recommender.score_rows(test)}
    for kind in CLICK_MEANS:
        scores[kind] = mean_scores(kind, events.counted, test, data.catalog.num_items)
    return {"test_rows": len(test), **{name: ctr_report(test, values) for name, values in scores.items()}}


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: SoftTokensRecipe, *, fresh: bool, dry_run: bool = False) -> Estimate | Estimates | None:
    """Data, model, the steps of the training, test, artifact. A dry run ends with the estimate of its step, or of each of two."""
    refuse_sharded("recipes/soft_tokens.py")
    output = Path(config.output)
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    set_seed(config.seed)
    data = load_data(config.data)
    events = read_events(config, data)
    config = config.model_copy(update={"backbone": settle_dtype(config.backbone, seed=config.seed)})
    model = make_model(config, data, events, make_backbone(config.backbone, seed=config.seed))
    num_rows = len(training_examples(model, events))
    inputs = training_inputs(
        data, events.train, model.backbone, features=() if config.schedule == "words" else config.soft.features,
        encoder=model.encoder, clicks=events.clicks,
    )  # fmt: skip
    begin_run(config, output, num_rows=num_rows, inputs=inputs, fresh=fresh, parts=(*get_args(StepName), RESULTS))
    parts = trainable_parts(model.backbone, adapter_lr=0, embedding_lr=0, weight_decay=0)
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
            protocol=data_facts(data, events.card, seed=config.seed)
            | {"objective": config.objective, "schedule": config.schedule, "test": results},
        )  # fmt: skip
        print(f"test: {results}; the model is in {output / MODEL_FOLDER}")
    return None


if __name__ == "__main__":
    recipe_main(SoftTokensRecipe, main, __doc__)
