"""Trains a network of item sequences (the SASRec family), no language model: what an item is comes from its words and its events.

    accelerate launch recipes/sequential.py --config recipes/configs/sequential/amazon_beauty.yaml data=DATA output=RUN [key=value ...]

An item is the sum of a trained embedding and of a linear map of each of its features (items.features): `text` by TF-IDF
(items.text.encoder=tf_idf, the default, which needs no model), by a sentence encoder or by a language model's states; `image`;
`collaborative`; or matrices of the data folder (`llmrec features`). Items without training events are what their features say.

Reads a prepared data folder (`llmrec data prepare`). Writes the run folder: config.yaml (every setting as resolved), inputs.json,
training_log.jsonl, checkpoints/, estimate.json, and, when training has ended, model/ with the best weights, ready for
`llmrec recommend`, `llmrec add-items` and `llmrec eval`. Started again it goes on from the last validation; a finished run is left as
it is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import numpy as np
from accelerate import PartialState
from pydantic import Field

from llmrec.artifacts.run_folder import MODEL_FOLDER
from llmrec.artifacts.sequential_run import SequentialRun, save_sequential
from llmrec.config import Settings
from llmrec.data.folder import Data, load_data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Split
from llmrec.encoders.item_features import TEXT, TextSource, fit_words
from llmrec.encoders.tf_idf import TF_IDF, TfIdf
from llmrec.errors import ArtifactError
from llmrec.evaluation.tasks import load_task
from llmrec.evaluation.validation import ranking_validation
from llmrec.files import read_json, write_json
from llmrec.fit import steps_an_epoch
from llmrec.nn.item_inputs import ItemMatrices
from llmrec.sequential.learning import Learner, Validation, check_inputs
from llmrec.sequential.settings import SequentialSettings
from llmrec.training.checkpoints import CHECKPOINTS, LOG
from llmrec.training.command import begin_run, data_facts, recipe_main, settle_run_folder
from llmrec.training.cost import Estimate
from llmrec.training.estimate import say
from llmrec.training.inputs import training_inputs
from llmrec.training.item_features import FeatureSettings, feature_sources, features_of
from llmrec.training.sequential import TrainingLog, estimate_training, write_cost

CHOSEN, AGAIN = "chosen.json", "checkpoints-refit"
TRIED = 512  # validation instances that an estimate asks


# -- settings: the only place of a default --------------------------------------------------------------------------------------
class ItemSettings(FeatureSettings):
    """What an item is beside its trained embedding."""

    text: TextSource = TextSource(encoder=TF_IDF)


class ValidationSettings(Settings):
    """How epochs are chosen: by NDCG@10, as the task asks it."""

    task: str = "leave_one_out"
    max_users: int = Field(30_000, ge=1)


class Sequential(SequentialSettings):
    """All settings of this recipe; those of the network and of its training are `SequentialSettings`."""

    data: str
    output: str
    items: ItemSettings = ItemSettings()
    validation: ValidationSettings = ValidationSettings()
    monitor: Literal["ndcg@10"] = "ndcg@10"
    refit: bool = False  # then train anew, on train+valid, for the epochs that validation found best


# -- items ----------------------------------------------------------------------------------------------------------------------
def item_inputs(config: Sequential, data: Data, train: Interactions, words: TfIdf | None) -> ItemMatrices:
    """The matrices of the items' features by name, and which items have each."""
    if not config.items.features:
        return {}
    features = features_of(config.items, data, train, seed=config.seed, prefix="items.", tf_idf=words)
    return {name: (features[name], features.present[name]) for name in features}


def network_settings(config: Sequential) -> SequentialSettings:
    """Those of the network and of its training."""
    return SequentialSettings(**{name: getattr(config, name) for name in SequentialSettings.model_fields})


# -- validation -----------------------------------------------------------------------------------------------------------------
def validations_of(config: Sequential, data: Data, split: Split) -> tuple[Validation, Validation, float]:
    """recall@10 and ndcg@10 of the task's validation instances; the same of a few of them, and of what share of all."""
    task = load_task(config.validation.task)

    def of(max_users: int) -> Validation:
        return lambda recommender: ranking_validation(recommender, data, task, split, max_users=max_users)[0]

    asked = min(config.validation.max_users, len(split.valid))
    return of(asked), of(min(TRIED, asked)), min(TRIED, asked) / asked


# -- train, refit, save ---------------------------------------------------------------------------------------------------------
def main(config: Sequential, *, fresh: bool, dry_run: bool = False) -> Estimate | None:
    """Data, items, network, training, artifact. A dry run ends with the estimate of what the training would take."""
    output, state = Path(config.output), PartialState()
    if (config := settle_run_folder(config, output, fresh=fresh)) is None:
        return None
    data = load_data(config.data)
    split = load_task(config.validation.task).make(data)
    num_seen = np.count_nonzero(split.train.counts())
    if config.loss == "auto" and (config := config.settled(num_seen)).loss == "sampled":
        state.print(
            f"{num_seen:,} items: the softmax runs over {config.num_negatives:,} sampled ones; loss=full: over all"
        )
    config = config.settled(num_seen)
    words = fit_words(config.items.text, data.catalog) if TEXT in config.items.features else None
    learner = Learner(network_settings(config), split.train, item_inputs(config, data, split.train, words))
    check_inputs(learner.settings, learner.features)
    inputs = training_inputs(data, split.train, None, features=config.items.features)
    begin_run(
        config, output, num_rows=len(learner.windows()), inputs=inputs, fresh=fresh, parts=(CHOSEN, AGAIN)
    )  # fmt: skip
    validation, few, share = validations_of(config, data, split)
    expected = estimate_training(learner, few, share)
    say(expected)
    if dry_run:
        return expected

    an_epoch = steps_an_epoch(len(learner.windows()), config.batch_size)
    log = TrainingLog(output / LOG, expected, an_epoch, config.monitor)
    if (output / CHOSEN).exists():  # killed in its refit
        chosen = read_json(output / CHOSEN, "epochs that validation chose", ArtifactError)
    else:
        learned = learner.learn(validation, folder=output / CHECKPOINTS, report=log)
        best = max(line[config.monitor] for line in learned.validations)
        chosen = {"epochs": learned.epochs, "best_valid_ndcg@10": best, "cpu_seconds": log.cpu_seconds}
        recommender = learned.recommender
    if config.refit:
        if state.is_main_process:
            write_json(output / CHOSEN, chosen)
        state.print(f"anew on train+valid, for the {chosen['epochs']:.3g} epochs that validation chose")
        began, events = time.process_time(), split.train_valid
        learner = Learner(learner.settings, events, item_inputs(config, data, events, words))
        recommender = learner.relearn(chosen["epochs"], folder=output / AGAIN)
        chosen["cpu_seconds"] += time.process_time() - began
    if state.is_main_process:
        write_cost(output, expected, chosen.pop("cpu_seconds"))
        facts = data_facts(data, split.card, seed=config.seed, fit="train+valid" if config.refit else "train")
        run = SequentialRun(
            recommender, data.catalog, feature_sources(config.items), {} if words is None else {TEXT: words}
        )
        save_sequential(output / MODEL_FOLDER, run, facts | chosen)
        state.print(
            f"best validation NDCG@10 {chosen['best_valid_ndcg@10']:.4f}; the model is in {output / MODEL_FOLDER}"
        )
    return None


if __name__ == "__main__":
    recipe_main(Sequential, main, __doc__)
