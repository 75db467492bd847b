"""Fine-tunes a language model that reads items as their title and soft tokens made of collaborative vectors: LLaRA and CoLLM.

    accelerate launch recipes/soft_tokens.py --config recipes/configs/soft_tokens/collm.yaml data=DATA output=RUN [key=value ...]

objective=pointwise asks whether a user would like one item (CoLLM), next_item which item comes next (LLaRA). schedule says when soft
tokens come: two_step (the language model on words alone, then the adapter with it frozen), curriculum (rows in words give way to rows
with soft tokens), joint (soft tokens from the start), words (never: the baseline).

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
from safetensors.torch import load_file, save_file

from llmrec import metrics
from llmrec.backbones.adapters import TrainablePart, trainable_parts, trained_state
from llmrec.backbones.causal_lm import Backbone, ScoreRule
from llmrec.backbones.trained_parts import PartSettings, train_parts
from llmrec.config import Settings
from llmrec.data.click_files import read_click_split
from llmrec.data.click_rows import ClickRows, ClickSplit, click_rows, drawn_rows, liked_events
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.engines.trie import TokenTrie
from llmrec.engines.trie_loss import TrieLoss
from llmrec.errors import ConfigError
from llmrec.evaluation.candidates import hit_among
from llmrec.evaluation.clicks import click_report
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.files import atomic_file, write_json
from llmrec.nn.losses import token_loss
from llmrec.nn.semantic_adapter import AdapterKind
from llmrec.nn.soft_tokens import SoftItemTable
from llmrec.prompting.collators import AnswerRows
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.packing import make_collator
from llmrec.prompting.pointwise import ClickPromptRows
from llmrec.prompting.templates import load_prompt
from llmrec.recommenders.artifact import MODEL_FOLDER, save_artifact
from llmrec.recommenders.item_writing import SOFT, item_mentions, item_tokens_for
from llmrec.recommenders.language_model import LanguageModel, recommender_of
from llmrec.recommenders.pointwise import PointwiseRecommender, liked_logits
from llmrec.training.backbones import BackboneSettings, check_positions, checked_packing, make_backbone, settle_dtype
from llmrec.training.click_through import trivial_scores
from llmrec.training.command import begin_run, print_parts, recipe_main, refuse_sharded, settle_run_folder
from llmrec.training.curriculum import Curriculum
from llmrec.training.estimate import Estimate
from llmrec.training.soft_tokens import AdapterSettings, SoftTokenSettings, make_soft_tokens, soft_features
from llmrec.training.trainer import (
    NDCG,
    Batch,
    ComputeLoss,
    Criterion,
    Objective,
    TrainingRows,
    TrainingSettings,
    train,
)

AUC = Criterion("auc", greater_is_better=True)
RESULTS = "results.json"
StepName = Literal["words", "soft", "joint"]
WORDS, HYBRID = ("text",), ("text", SOFT)  # how prompts mention items


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(Settings):
    """How items are written."""

    answer: Literal["text", "soft"] = "text"  # of the next item: its title, or by inner product with its soft tokens
    max_title_tokens: int = 32


class PromptSettings(Settings):
    """How the model is asked."""

    name: str = "click/chat"  # a shipped prompt, or the path of one: of the task click where objective=pointwise
    max_history: int = Field(10, ge=1)  # items
    max_tokens: int = 512


class ClickSettings(Settings):
    """Whose rows objective=pointwise trains on and is measured by; see `llmrec.data.click_rows`."""

    folder: str | None = (
        None  # train, valid and test rows of a published split (llmrec.data.click_files); None: made here
    )
    split: Literal["time", "last"] = "time"
    valid: float = 0.1
    test: float = 0.1
    positive_from: float = 4.0
    negative_below: float = 3.0
    max_train_rows: int | None = Field(None, ge=2)  # drawn by seed; None: all
    max_valid_rows: int = Field(2000, ge=2)
    max_test_rows: int | None = Field(None, ge=2)


class NextItemSettings(Settings):
    """How objective=next_item is trained and watched."""

    rule: ScoreRule | None = None  # None: full for titles, level for soft answers
    task: str = "leave_one_out"
    max_users: int = Field(500, ge=1)  # of a validation
    num_beams: int = Field(20, ge=1)
    num_candidates: int = Field(20, ge=2)  # of LLaRA's hit ratio in results.json: the target and so many less one drawn
    max_test_users: int = Field(1000, ge=0)  # who are asked for it


class ProjectionSettings(AdapterSettings):
    """The semantic adapter."""

    kind: AdapterKind = "mlp"


class SoftSettings(SoftTokenSettings):
    """What soft tokens are made of."""

    features: tuple[str, ...] = ("collaborative",)
    adapter: ProjectionSettings = ProjectionSettings()


class StepSettings(TrainingSettings):
    """How long and how fast one step of the training is."""

    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(16, ge=1)


class CurriculumSettings(Settings):
    """schedule=curriculum."""

    until: float = Field(1.0, gt=0, le=1)  # the share of the training after which every row has its soft tokens


class SoftTokensRecipe(PartSettings):
    """All settings of this recipe; `lora` is among `PartSettings`."""

    data: str
    output: str
    objective: Literal["pointwise", "next_item"] = "pointwise"
    schedule: Literal["two_step", "curriculum", "joint", "words"] = "two_step"
    backbone: BackboneSettings = BackboneSettings()
    items: ItemSettings = ItemSettings()
    soft: SoftSettings = SoftSettings()
    prompt: PromptSettings = PromptSettings()
    clicks: ClickSettings = ClickSettings()
    next_item: NextItemSettings = NextItemSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    training: StepSettings = StepSettings()
    soft_training: StepSettings = StepSettings()  # of the second of two steps
    seed: int = Field(0, ge=0)


# -- data -----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Events:
    """What may be learned from and what is asked. train: events; collaborative vectors are fitted on them alone.

    split: of the next item; clicks: of pointwise rows, as many as the settings want, and counted all training rows of theirs.
    """

    train: Interactions
    split: Split | None = None
    clicks: ClickSplit | None = None
    counted: ClickRows | None = None

    @property
    def card(self) -> dict:
        """The split's."""
        return (self.clicks or self.split).card


def read_events(config: SoftTokensRecipe, data: Data) -> Events:
    """The rows or cases of the objective, and the training events among them."""
    if config.objective == "next_item":
        split = load_task(config.next_item.task).split.make(data.interactions)
        return Events(split.train, split=split)
    wanted, num_items = config.clicks, data.catalog.num_items
    if wanted.folder is not None:
        clicks = read_click_split(wanted.folder, num_items, max_history=config.prompt.max_history)
    else:
        clicks = click_rows(
            data.interactions, split=wanted.split, valid=wanted.valid, test=wanted.test, seed=config.seed,
            max_history=config.prompt.max_history, positive_from=wanted.positive_from, negative_below=wanted.negative_below,
        )  # fmt: skip
    likes = liked_events(clicks.train, num_items)
    parts = {
        name: drawn_rows(getattr(clicks, name), most, config.seed)
        for name, most in (
            ("train", wanted.max_train_rows),
            ("valid", wanted.max_valid_rows),
            ("test", wanted.max_test_rows),
        )
    }
    return Events(likes, clicks=replace(clicks, **parts), counted=clicks.train)


# -- model ----------------------------------------------------------------------------------------------------------------------
def make_model(config: SoftTokensRecipe, data: Data, events: Events, backbone: Backbone) -> LanguageModel:
    """The backbone with soft tokens (unless schedule=words), trained parts and prompt."""
    check_positions(backbone, config.prompt.max_tokens)
    prompt = load_prompt(config.prompt.name)
    if (prompt.answers is not None) != (config.objective == "pointwise"):
        wants = (
            "of the task click, such as click/chat"
            if config.objective == "pointwise"
            else "such as next_item/instruction"
        )
        raise ConfigError(
            f"objective={config.objective} needs a prompt {wants}, but prompt.name is {config.prompt.name}."
        )
    answer = config.items.answer if config.objective == "next_item" else "text"
    has_soft = config.schedule != "words"
    if answer == SOFT and not has_soft:
        raise ConfigError("schedule=words makes no soft tokens, so items.answer cannot be soft; set items.answer=text.")
    if has_soft:
        features = soft_features(config.soft, data, events.train)
        backbone.add_vectors(SOFT, make_soft_tokens(config.soft, features, backbone, seed=config.seed))
    lengths = {"max_title_tokens": config.items.max_title_tokens}
    tokens = item_tokens_for(answer, backbone, data.catalog, None, **lengths)
    if answer == SOFT:
        backbone.add_item_table(SoftItemTable(backbone.vector_tokens[SOFT], norm=backbone.embedding_norm))
    names = ["lora" if config.backbone.scratch is None else "whole"]
    names += ["semantic_adapter"] if has_soft else []
    names += ["item_table"] if answer == SOFT else []
    train_parts(backbone, names, config, seed=config.seed)
    forms = HYBRID if has_soft else WORDS
    encoder = PromptEncoder(
        prompt, backbone.tokenizer, tokens, data.catalog,
        max_history=config.prompt.max_history, max_tokens=config.prompt.max_tokens,
        mentions=item_mentions(forms, tokens, backbone, data.catalog, **lengths),
    )  # fmt: skip
    rule = config.next_item.rule or ("level" if answer == SOFT else "full")
    return LanguageModel(backbone, tokens, encoder, data.catalog, rule, forms)


def in_words(model: LanguageModel, config: SoftTokensRecipe) -> LanguageModel:
    """The same model, whose prompts mention items by their titles alone."""
    titles = item_mentions(
        WORDS, model.item_tokens, model.backbone, model.catalog, max_title_tokens=config.items.max_title_tokens
    )
    old = model.encoder
    encoder = PromptEncoder(
        old.prompt, old.tokenizer, old.item_tokens, model.catalog,
        max_history=old.max_history, max_tokens=old.max_tokens, mentions=titles,
    )  # fmt: skip
    return replace(model, encoder=encoder, mention_forms=WORDS)


# -- objective ------------------------------------------------------------------------------------------------------------------
def objective(model: LanguageModel, curriculum: Curriculum | None) -> ComputeLoss:
    """-log p(answer): of the right one of two words, or of the next item; summed over the rows of a batch."""
    words = model.encoder.answer_words
    rule = model.score_rule
    trie_loss = TrieLoss(model.item_tokens, TokenTrie.from_item_tokens(model.item_tokens)) if rule == "trie" else None

    def compute_loss(backbone: Backbone, batch: Batch) -> tuple[torch.Tensor, int]:
        batch = batch if curriculum is None else curriculum(batch)
        hidden, targets = backbone.labelled_states(batch)  # (N, D), (N,)
        if words is not None:  # the softmax over two words is a sigmoid, so this is binary cross-entropy
            logits = liked_logits(backbone, hidden, words)
            return token_loss(logits, (targets != words.liked).long()), len(targets)
        if trie_loss is not None:
            return trie_loss(backbone, hidden, targets), len(targets)
        return backbone.loss(hidden, targets, rule=rule), len(targets)

    return compute_loss


# -- train ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """One part of the training, with a folder of its own in the run."""

    name: StepName
    settings: TrainingSettings

    def trains(self, part: TrainablePart) -> bool:
        """Of two steps the first moves everything but the adapter, the second the adapter alone."""
        is_adapter = part.name.startswith("semantic adapter")
        return {"words": not is_adapter, "soft": is_adapter, "joint": True}[self.name]


def steps_of(config: SoftTokensRecipe) -> list[Step]:
    """What the schedule consists of."""
    words, soft = Step("words", config.training), Step("soft", config.soft_training)
    joint = Step("joint", config.training)
    return {"two_step": [words, soft], "words": [words], "joint": [joint], "curriculum": [joint]}[config.schedule]


def train_step(
    config: SoftTokensRecipe, step: Step, model: LanguageModel, events: Events, data: Data,
    parts: list[TrainablePart], *, dry_run: bool,
) -> Estimate | None:  # fmt: skip
    """Trains one step, or reads what it came to where it is finished, and leaves the best weights in place."""
    folder, backbone = Path(config.output) / step.name, model.backbone
    for part in parts:
        for parameter in part.parameters:
            parameter.requires_grad_(step.trains(part))
    finished = folder / "trained.safetensors"
    if finished.exists():
        backbone.load_state_dict(load_file(finished, device=str(backbone.device)), strict=False)
        PartialState().print(f"the step '{step.name}' is finished")
        return None
    curriculum, packing = None, checked_packing(step.settings.packing, backbone)
    if config.schedule == "curriculum":
        first = backbone.first_vector_id(SOFT)
        soft_ids = range(first, first + backbone.vector_tokens[SOFT].num_tokens)
        curriculum, packing = Curriculum(soft_ids, seed=config.seed, until=config.curriculum.until), "none"
    settings = step.settings.model_copy(update={"packing": packing})
    model = in_words(model, config) if step.name == "words" else model
    rows = training_rows(model, events)
    own = trainable_parts(
        backbone, adapter_lr=settings.adapter_lr, row_lr=settings.row_lr, weight_decay=settings.weight_decay
    )
    print_parts(backbone, own, num_rows=len(rows))
    watch, num_cases = validation(config, model, events, data)
    trainer = train(
        Objective(backbone, objective(model, curriculum)), own, rows, make_collator(packing, backbone.tokenizer.pad_token_id),
        watch, settings, folder, seed=config.seed, num_cases=num_cases, dry_run=dry_run,
        criterion=AUC if events.clicks is not None else NDCG, callbacks=[] if curriculum is None else [curriculum],
    )  # fmt: skip
    if not dry_run and trainer.is_world_process_zero():
        with atomic_file(finished) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in trained_state(backbone).items()}, temporary)
    PartialState().wait_for_everyone()
    return trainer.estimate


def training_rows(model: LanguageModel, events: Events) -> TrainingRows:
    """Questions with their answer words, or histories with the titles that followed."""
    if events.clicks is not None:
        return ClickPromptRows(model.encoder, events.clicks.train)
    return AnswerRows(model.encoder, events.train.histories)


# -- evaluate -------------------------------------------------------------------------------------------------------------------
def validation(
    config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data
) -> tuple[Callable[..., dict[str, float]], int]:
    """What is measured at each validation, and on how many cases."""
    recommender = recommender_of(model, num_beams=config.next_item.num_beams)
    if events.clicks is not None:
        return lambda max_cases=None: click_figures(recommender, events.clicks.valid, max_cases), len(
            events.clicks.valid
        )
    task = load_task(config.next_item.task).model_copy(update={"metrics": ("recall", "ndcg"), "ks": (10,)})
    num_cases = min(config.next_item.max_users, len(events.split.valid))

    def rank_validation(max_cases: int = num_cases) -> dict[str, float]:
        result = evaluate(recommender, data, task, "valid", split=events.split, max_cases=max_cases)
        return {name: metric["value"] for name, metric in result.metrics.items()}

    return rank_validation, num_cases


def click_figures(recommender: PointwiseRecommender, rows: ClickRows, most: int | None) -> dict[str, float]:
    """auc and logloss of the model's probabilities, of the first `most` rows."""
    rows = rows.take(np.arange(len(rows))[:most])
    scores = recommender.score_rows(rows)
    return {"auc": metrics.auc(rows.labels, scores), "logloss": metrics.logloss(rows.labels, scores)}


def test_results(config: SoftTokensRecipe, model: LanguageModel, events: Events, data: Data) -> dict:
    """Of clicks AUC and GAUC with their intervals over users, beside counters of the training rows; of the next item the hit ratio
    among drawn candidates (whole-catalogue figures: `llmrec eval`)."""
    recommender = recommender_of(model, num_beams=config.next_item.num_beams)
    if events.clicks is None:
        return hit_among(
            recommender, events.split.test, config.next_item.num_candidates,
            max_cases=config.next_item.max_test_users, seed=config.seed,
        )  # fmt: skip
    test = events.clicks.test
    scores = {"model": recommender.score_rows(test)}
    for kind in ("item_mean", "user_item_mean"):
        scores[kind] = trivial_scores(kind, events.counted, test, data.catalog.num_items)
    return {"test_rows": len(test), **{name: click_report(test, values) for name, values in scores.items()}}


# -- run ------------------------------------------------------------------------------------------------------------------------
def main(config: SoftTokensRecipe, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """Data, model, the steps of the training, test, artifact. A dry run ends with the estimate of its last step."""
    refuse_sharded("recipes/soft_tokens.py")
    output = Path(config.output)
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    set_seed(config.seed)
    data = load_data(config.data)
    events = read_events(config, data)
    backbone_settings = settle_dtype(config.backbone, seed=config.seed)
    config = config.model_copy(update={"backbone": backbone_settings})
    model = make_model(config, data, events, make_backbone(config.backbone, seed=config.seed))
    num_rows = len(training_rows(model, events))
    begin_run(config, output, num_rows=num_rows, fresh=fresh, parts=(*get_args(StepName), RESULTS))
    parts = trainable_parts(model.backbone, adapter_lr=0, row_lr=0, weight_decay=0)
    estimated = None
    for step in steps_of(config):
        estimated = train_step(config, step, model, events, data, parts, dry_run=dry_run) or estimated
    if dry_run:
        return estimated
    for parameter in (parameter for part in parts for parameter in part.parameters):
        parameter.requires_grad_(True)  # what was trained is what is saved
    if PartialState().is_main_process:
        results = test_results(config, model, events, data)
        write_json(output / RESULTS, results)
        save_artifact(
            output / MODEL_FOLDER, model, semantic_ids=None, max_title_tokens=config.items.max_title_tokens,
            protocol=protocol_card(config, data, events) | {"test": results},
        )  # fmt: skip
        print(f"test: {results}; the model is in {output / MODEL_FOLDER}")
    return None


def protocol_card(config: SoftTokensRecipe, data: Data, events: Events) -> dict:
    """What every number of this model depends on."""
    return {
        "data": data.card.get("name"),
        "content_hash": data.card.get("content_hash"),
        "ties": data.card.get("ties"),
        "split": events.card,
        "fit": "train",
        "objective": config.objective,
        "schedule": config.schedule,
        "seed": config.seed,
    }


if __name__ == "__main__":
    recipe_main(SoftTokensRecipe, main, __doc__)
