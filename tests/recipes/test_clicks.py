"""recipes/clicks.py: whether a user would like one item, in each of the four item forms; saved, loaded, scored, refitted."""

import importlib.machinery
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec import metrics
from llmrec.apps.shipped_recipes import recipe_names
from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.config import load_config
from llmrec.data.click_examples import PADDING
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError
from llmrec.evaluation.tasks import load_any_task
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.prompting.click_examples import ClickPromptExamples
from llmrec.prompting.packing import PackingCollator
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.training.checkpoints import read_log
from tests.apps.calling import call
from tests.recipes.running import load_recipe

RECIPE = load_recipe("clicks")
FORMS = (("text",), ("unique_id",), ("semantic_id",), ("soft",), ("text", "soft"))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """MovieLens rows with short histories."""
    path = tmp_path_factory.mktemp("task") / "few.yaml"
    path.write_text("{kind: clicks, name: few, version: 1, split: last, max_history: 3, interval: {resamples: 50}}")
    return path


@pytest.fixture(scope="module")
def codes(few_users, tmp_path_factory):
    """Random semantic ids of all films."""
    places = np.random.default_rng(0).permutation(16**3)[: load_data(few_users).catalog.num_items]
    folder = tmp_path_factory.mktemp("codes") / "random"
    SemanticIDs(np.stack([places // 256, places // 16 % 16, places % 16], axis=1).astype(np.int32), (16, 16, 16)).save(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def train(few_users, tiny_model, task, codes, tmp_path_factory):
    """Runs the recipe for a moment; the run's folder."""

    def trained(*more):
        run = tmp_path_factory.mktemp("click") / "run"
        RECIPE.main(
            load_config(RECIPE.Click, None, settings(few_users, tiny_model, run, task, codes, *more)), fresh=False
        )
        return run

    return trained


def settings(data, model, run, task, codes, *more):
    """A small float32 run without dropout."""
    return [
        f"data={data}", f"output={run}", f"backbone.name={model}", "backbone.dtype=float32", f"clicks.task={task}",
        "clicks.max_train_examples=200", "clicks.max_valid_examples=20", "clicks.max_test_examples=40",
        f"items.semantic_ids={codes}", "items.start=random", "items.place_unseen=false", "soft.features=[collaborative]",
        "soft.collaborative_dim=8", "soft.adapter.hidden_dim=16", "soft.adapter.dropout=0", "lora.rank=4", "lora.dropout=0",
        "prompt.name=click/instruction", "training.batch_size=8", "training.adapter_lr=0.01", "training.max_steps=6",
        "training.evaluate_every=3", "training.log_every=1", "training.packing=branches", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(train):
    """A finished run in each form of the items."""
    return {forms: train(f"items.prompt_form=[{','.join(forms)}]") for forms in FORMS}


@pytest.fixture(scope="module")
def rows(few_users, task):
    """The task's own rows."""
    return load_any_task(task).make(load_data(few_users))


@pytest.mark.parametrize("forms", FORMS, ids="+".join)
def test_each_item_form_is_trained_saved_and_scored_alike_by_the_artifact(runs, forms):
    run = runs[forms]
    model = load_artifact(run)
    recommender = recommender_of(model)
    assert isinstance(recommender, PointwiseRecommender) and model.prompt_forms == forms
    results = json.loads((run / "results.json").read_text())
    assert 0 <= results["model"]["auc"]["value"] <= 1 and results["test_rows"] == 40
    losses = [record["loss"] for record in read_log(run / "training_log.jsonl") if "loss" in record]
    assert len(losses) == 6 and np.isfinite(losses).all()


def test_the_artifact_scores_the_test_rows_as_the_trained_model_did(runs, rows, few_users, task, codes):
    config = load_config(RECIPE.Click, None, settings(few_users, "none", "none", task, codes))
    _, sampled = RECIPE.click_rows(config.clicks, load_data(few_users), seed=0)
    for run in runs.values():
        scores = recommender_of(load_artifact(run)).score_rows(sampled.test)
        results = json.loads((run / "results.json").read_text())
        assert metrics.auc(sampled.test.labels, scores) == pytest.approx(results["model"]["auc"]["value"], abs=1e-6)


def test_llmrec_eval_measures_a_click_run_by_its_task(runs, rows, task, capsys):
    run = runs["unique_id",]
    found = call(capsys, "eval", run, "--task", task, "--json").json
    scores = recommender_of(load_artifact(run)).score_rows(rows.test)
    assert found["metrics"]["auc"]["value"] == pytest.approx(metrics.auc(rows.test.labels, scores), abs=1e-4)


@pytest.mark.parametrize("forms", FORMS, ids="+".join)
def test_neither_the_label_nor_a_later_event_changes_a_prompt_or_its_score(runs, rows, few_users, task, forms):
    """Leakage: whatever happens from the asked moment on is unknown to what is computed for it."""
    data = load_data(few_users)
    events = data.interactions
    users = np.repeat(np.arange(events.num_users), events.lengths)
    some = np.flatnonzero((rows.train.histories != PADDING).sum(axis=1) == 3)[:200]
    row = int(some[np.random.default_rng(0).integers(len(some))])
    user, moment = rows.train.users[row], rows.train.times[row]
    later = (users == user) & (events.times >= moment)
    ratings = events.ratings.copy()
    ratings[later] = np.where(ratings[later] >= 4, 1.0, 5.0)  # who was liked is disliked, and the other way round
    changed = load_any_task(task).make(replace(data, interactions=replace(events, ratings=ratings)))
    found = [
        (part, place)
        for part in (changed.train, changed.valid, changed.test)
        for place in np.flatnonzero(
            (part.users == user) & (part.items == rows.train.items[row]) & (part.times == moment)
        )
    ]
    assert len(found) == 1
    part, place = found[0]
    assert part.labels[place] != rows.train.labels[row], "the answer is the other one"
    recommender = recommender_of(load_artifact(runs[forms]))
    before, after = (each.take(np.array([at])) for each, at in ((rows.train, row), (part, place)))
    prompts = [ClickPromptExamples(recommender.model.encoder, each)[0]["input_ids"][:-1] for each in (before, after)]
    np.testing.assert_array_equal(*prompts)
    assert recommender.score_rows(before)[0] == recommender.score_rows(after)[0]
    assert recommender.score_rows(replace(before, labels=~before.labels))[0] == recommender.score_rows(before)[0]


def test_rows_of_one_user_share_their_history(runs, rows):
    encoder = load_artifact(runs["text",]).encoder
    user = np.bincount(rows.test.users).argmax()
    alike = rows.test.take(np.flatnonzero(rows.test.users == user)[:1].repeat(4))
    alike = replace(alike, items=np.array([1, 2, 3, 4], np.int32))
    examples = [ClickPromptExamples(encoder, alike)[row] for row in range(4)]
    together, apart = (PackingCollator(share, multiple=1)(examples)["input_ids"].shape[1] for share in (True, False))
    shared = len(examples[0]["input_ids"]) - 60  # the history and the words around it, by byte
    assert apart - together >= 3 * min(shared, 100)


@pytest.mark.slow
def test_a_refit_takes_the_steps_that_validation_chose_and_learns_from_its_rows_too(train, tmp_path):
    run = train("items.prompt_form=[unique_id]", "refit=true")
    card = read_manifest(run)["protocol"]
    assert card["fit"] == "train+valid" and card["rows_learned_from"] == 220
    again = [record for record in read_log(run / "refit" / "training_log.jsonl") if "loss" in record]
    first = [record for record in read_log(run / "training_log.jsonl") if "loss" in record]
    assert [record["step"] for record in again] == list(range(1, card["best_step"] + 1))
    rates = [record["learning_rate"] for record in first]
    assert [record["learning_rate"] for record in again] == pytest.approx(rates[: len(again)])


def test_what_cannot_be_asked_is_said_in_one_sentence(train, few_users, tiny_model, task, codes, tmp_path):
    def refused(*more, match):
        with pytest.raises(ConfigError, match=match):
            train(*more)

    refused("items.prompt_form=[unique_id,semantic_id]", match="unique_id or semantic_id; name one")
    refused("prompt.name=next_item/instruction", match="needs a prompt of the task click")
    refused("clicks.task=leave_one_out", match="should be of the kind 'clicks'")
    refused("clicks.task=clicka", match="there is no task 'clicka'")


def test_no_recipe_is_called_as_a_package_that_its_process_would_import_instead():
    outside = [path for path in sys.path if Path(path).name != "recipes"]
    for name in recipe_names():
        assert importlib.machinery.PathFinder.find_spec(name, outside) is None, name
