"""recipes/soft_tokens.py: LLaRA's curriculum and CoLLM's two steps on a tiny model; saved, loaded, resumed, scored."""

import importlib.util
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from llmrec import metrics
from llmrec.artifacts.new_items import add_items
from llmrec.artifacts.run_folder import load_artifact
from llmrec.config import load_config
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import sampled_rows
from llmrec.data.folder import load_data, save_data
from llmrec.data.interactions import Histories
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.tasks import load_any_task
from llmrec.recommender import Recommender
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.recommenders.requests import Requests
from llmrec.resources import resource_path
from llmrec.training.checkpoints import read_log
from llmrec.training.item_features import soft_features
from tests.apps.calling import assert_one_sentence, call


def load_recipe():
    spec = importlib.util.spec_from_file_location("soft_tokens_recipe", resource_path("recipes") / "soft_tokens.py")
    recipe = importlib.util.module_from_spec(spec)
    sys.modules["soft_tokens_recipe"] = recipe  # pydantic looks its annotations up there
    spec.loader.exec_module(recipe)
    return recipe


RECIPE = load_recipe()


TASK = Path(tempfile.mkdtemp()) / "last.yaml"
TASK.write_text("{kind: clicks, name: last, version: 1, split: last, max_history: 3}")


def overrides(data, model, output, *more):
    """A small float32 run without dropout."""
    return [
        f"data={data}", f"output={output}", f"backbone.name={model}", "backbone.dtype=float32", "prompt.max_history=3",
        "prompt.name=click/titles", "lora.rank=4", "lora.dropout=0", "soft.collaborative_dim=8",
        "soft.adapter.hidden_dim=16", "soft.adapter.dropout=0", f"clicks.task={TASK}", "clicks.max_train_examples=200",
        "clicks.max_valid_examples=20", "clicks.max_test_examples=40", "training.batch_size=8", "training.adapter_lr=0.01",
        "training.max_steps=24",
        "training.evaluate_every=12", "training.log_every=1", "soft_training.batch_size=8", "soft_training.max_steps=8",
        "soft_training.evaluate_every=8", "soft_training.log_every=1", *more,
    ]  # fmt: skip


NEXT_ITEM = (
    "objective=next_item", "prompt.name=next_item/instruction", "validation.max_users=4", "validation.num_beams=5",
    "next_item.num_candidates=5", "next_item.max_test_users=6", "training.batch_size=4",
)  # fmt: skip


def run_here(settings, *, fresh=False):
    RECIPE.main(load_config(RECIPE.SoftTokensRecipe, None, settings), fresh=fresh)


@pytest.fixture(scope="module")
def two_step_run(few_users, tiny_model, tmp_path_factory):
    """CoLLM: the language model on words, then the adapter alone."""
    run = tmp_path_factory.mktemp("two_step") / "run"
    run_here(overrides(few_users, tiny_model, run))
    return run


@pytest.fixture(scope="module")
def clicks(few_users):
    """The recipe's own rows of these settings."""
    config = load_config(RECIPE.SoftTokensRecipe, None, overrides(few_users, "none", "none"))
    return RECIPE.read_events(config, load_data(few_users)).clicks


def losses_of(folder):
    return [record["loss"] for record in read_log(folder / "training_log.jsonl") if "loss" in record]


def test_the_loss_of_the_first_step_falls(two_step_run):
    losses = losses_of(two_step_run / "words")
    assert len(losses) == 24 and np.mean(losses[-8:]) < np.mean(losses[:8])


def test_the_second_step_moves_the_adapter_and_nothing_else(two_step_run):
    words = load_file(two_step_run / "words" / "trained.safetensors")
    soft = load_file(two_step_run / "soft" / "trained.safetensors")
    assert words and all("lora_" in name for name in words)
    assert soft and all(".adapter." in name for name in soft)
    lora = load_file(two_step_run / "model" / "adapter" / "adapter_model.safetensors")
    last_words = sorted(np.abs(tensor).sum() for tensor in words.values())
    assert last_words == pytest.approx(sorted(np.abs(tensor).sum() for tensor in lora.values()))
    saved = load_file(two_step_run / "model" / "vector_tokens" / "soft.safetensors")
    for name, tensor in soft.items():
        np.testing.assert_array_equal(saved[name.split(".adapter.")[1]], tensor)


def test_results_come_with_those_of_means_and_with_intervals(two_step_run):
    results = json.loads((two_step_run / "results.json").read_text())
    assert results["test_rows"] == 40
    for who in ("model", "item_mean", "user_item_mean"):
        auc = results[who]["auc"]
        assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1


def test_llmrec_eval_asks_a_pointwise_run_about_every_row_of_a_click_task(two_step_run, few_users, tmp_path, capsys):
    task = tmp_path / "mine.yaml"
    task.write_text("{kind: clicks, name: mine, version: 1, split: last, max_history: 3, interval: {resamples: 50}}")
    found = call(capsys, "eval", two_step_run, "--task", task, "--json").json
    rows = load_any_task(task).make(load_data(few_users)).test
    scores = recommender_of(load_artifact(two_step_run)).score_rows(rows)
    assert found["metrics"]["gauc"]["value"] == pytest.approx(metrics.gauc(rows.labels, scores, rows.users))
    assert set(found["baselines"]) == {"item_mean", "user_item_mean"}
    assert_one_sentence(
        call(capsys, "eval", two_step_run, "--task", "clicks"), "was trained on other examples than the task"
    )


def test_a_dry_run_of_two_steps_gives_both_the_sum_of_seconds_and_the_highest_peak(few_users, tiny_model, tmp_path):
    settings = overrides(few_users, tiny_model, tmp_path / "run")
    found = RECIPE.main(load_config(RECIPE.SoftTokensRecipe, None, settings), fresh=True, dry_run=True).to_json()
    assert [step["num_steps"] for step in found["steps"].values()] == [24, 8] and list(found["steps"]) == [
        "words",
        "soft",
    ]
    assert found["seconds"] == sum(step["seconds"] for step in found["steps"].values()) > 0
    assert found["peak"] == max(step["peak"] for step in found["steps"].values())


def test_a_finished_run_and_a_finished_step_are_left_as_they_are(two_step_run, few_users, tiny_model, tmp_path, capsys):
    run_here(overrides(few_users, tiny_model, two_step_run))
    assert "finished and left as it is" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_killed_in_its_second_step_goes_on_there(two_step_run, few_users, tiny_model, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(two_step_run, run)
    for part in ("model", "soft"):
        shutil.rmtree(run / part)
    (run / "results.json").unlink()
    first_step = (run / "words" / "trained.safetensors").read_bytes()
    run_here(overrides(few_users, tiny_model, run))
    assert "the step 'words' is finished" in capsys.readouterr().out
    assert (run / "words" / "trained.safetensors").read_bytes() == first_step
    before, after = (load_file(each / "soft" / "trained.safetensors") for each in (two_step_run, run))
    for name, tensor in before.items():
        np.testing.assert_allclose(after[name], tensor, atol=1e-6)


@pytest.mark.slow
def test_a_loaded_run_scores_as_the_trained_one_alone_and_in_a_batch(two_step_run, few_users, clicks):
    model = load_artifact(two_step_run)
    assert model.prompt_forms == ("text", "soft")
    recommender = recommender_of(model)
    assert isinstance(recommender, PointwiseRecommender)
    test = clicks.test
    together = recommender.score_rows(test)
    assert ((together > 0) & (together < 1)).all() and len(np.unique(together)) > 10
    results = json.loads((two_step_run / "results.json").read_text())
    assert metrics.auc(test.labels, together) == pytest.approx(results["model"]["auc"]["value"], abs=1e-6)
    alone = [recommender.score_rows(test.take(np.array([row])))[0] for row in range(6)]
    np.testing.assert_allclose(alone, together[:6], atol=1e-5)


@pytest.mark.slow
def test_candidates_are_scored_together_as_alone_and_ranked_by_it(two_step_run, few_users):
    recommender = Recommender.from_pretrained(two_step_run)
    ids = load_data(few_users).catalog.item_ids
    history, asked = [ids[3], ids[9]], [ids[place] for place in (5, 1, 40, 7)]
    scores = recommender.score(history, asked)
    np.testing.assert_allclose(scores, [recommender.score(history, [one])[0] for one in asked], atol=1e-5)
    best = recommender.recommend(history, 2, candidates=asked)
    assert [item.item_id for item in best] == [asked[place] for place in np.argsort(scores)[::-1][:2]]
    with pytest.raises(ConfigError, match="answers Yes or No"):
        Recommender.from_pretrained(two_step_run, decoding="grounding")


def test_in_words_a_prompt_holds_no_soft_token_and_with_them_the_same_words(two_step_run):
    model = load_artifact(two_step_run)
    config = load_config(RECIPE.SoftTokensRecipe, None, overrides("d", "m", "o"))
    words = RECIPE.in_words(model, config)
    hybrid_ids = model.encoder.encode([3, 5], candidate=7)
    first = model.backbone.first_vector_id("soft")
    assert [i for i in hybrid_ids if i >= first] == [first + 7]  # click/titles: the candidate alone
    np.testing.assert_array_equal(words.encoder.encode([3, 5], candidate=7), hybrid_ids[hybrid_ids < first])


def test_collaborative_vectors_never_see_a_row_of_validation_or_test(few_users):
    data = load_data(few_users)
    all_rows = ("clicks.max_train_examples=null", "clicks.max_valid_examples=100000", "clicks.max_test_examples=null")
    config = load_config(RECIPE.SoftTokensRecipe, None, overrides(few_users, "none", "none", *all_rows))
    events = RECIPE.read_events(config, data)
    assert events.train.num_events == events.counted.labels.sum()
    held_out = {
        pair
        for rows in (events.clicks.valid, events.clicks.test)
        for pair in zip(rows.users.tolist(), rows.items.tolist(), strict=True)
    }
    of_event = np.repeat(np.arange(data.interactions.num_users), data.interactions.lengths).tolist()
    pairs = list(zip(of_event, data.interactions.items.tolist(), strict=True))
    ratings = data.interactions.ratings.copy()
    places = np.array([place for place, pair in enumerate(pairs) if pair in held_out])
    ratings[places] = np.where(ratings[places] >= 4, 1.0, 5.0)  # whoever was liked is disliked, and the other way round
    other = replace(data, interactions=replace(data.interactions, ratings=ratings))
    changed = RECIPE.read_events(config, other)
    assert changed.clicks.test.labels.sum() == (~events.clicks.test.labels).sum()
    before, after = (
        soft_features(config.soft, *pair, seed=0) for pair in ((data, events.train), (other, changed.train))
    )
    np.testing.assert_array_equal(after["collaborative"], before["collaborative"])
    assert (before.present["collaborative"] == (events.train.counts() > 0)).all()


@pytest.mark.slow
def test_a_curriculum_trains_titles_and_soft_tokens_and_a_resumed_one_repeats_it(few_users, tiny_model, tmp_path):
    more = (*NEXT_ITEM, "schedule=curriculum", "training.max_steps=8", "training.evaluate_every=4")
    run_here(overrides(few_users, tiny_model, tmp_path / "whole", *more))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for part in ("model", "joint/trained.safetensors", "joint/checkpoints/checkpoint-8"):
        path = tmp_path / "killed" / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_here(overrides(few_users, tiny_model, tmp_path / "killed", *more))
    whole, killed = (losses_of(tmp_path / name / "joint") for name in ("whole", "killed"))
    assert len(whole) == len(killed) == 8
    np.testing.assert_allclose(whole, killed, rtol=1e-4)
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert results["instances"] == 6 and 0 <= results["low"] <= results["hit@1"] <= results["high"] <= 1
    model = load_artifact(tmp_path / "whole")
    ranking = recommender_of(model, num_beams=5).rank(Requests(Histories.from_lists([[3, 5]])), 3, exclude_seen=True)
    assert (ranking.items >= 0).all()


@pytest.mark.slow
def test_answers_may_be_soft_tokens_and_words_alone_are_a_baseline(few_users, tiny_model, tmp_path):
    more = (*NEXT_ITEM, "schedule=joint", "items.form=soft", "training.max_steps=2", "training.evaluate_every=2")
    run_here(overrides(few_users, tiny_model, tmp_path / "soft", *more))
    model = load_artifact(tmp_path / "soft")
    assert model.card["form"] == "soft" and model.card["prompt_forms"] == ["text", "soft"]
    more = ("schedule=words", "training.max_steps=2", "training.evaluate_every=2")
    run_here(overrides(few_users, tiny_model, tmp_path / "words", *more))
    model = load_artifact(tmp_path / "words")
    assert model.card["prompt_forms"] == ["text"] and not model.backbone.vector_tokens.num_tokens


@pytest.mark.slow
def test_a_fresh_start_with_another_schedule_leaves_nothing_of_the_old_one(
    two_step_run, few_users, tiny_model, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(two_step_run, run)
    before = sorted(path for path in run.rglob("*"))
    more = ("schedule=joint", "training.max_steps=1", "training.evaluate_every=1")
    with pytest.raises(DataError, match="no features 'stars'"):
        run_here(overrides(few_users, tiny_model, run, *more, "soft.features=[stars]"), fresh=True)
    assert sorted(path for path in run.rglob("*")) == before, "what cannot start removes nothing"
    run_here(overrides(few_users, tiny_model, run, *more), fresh=True)
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml",
        "inputs.json",
        "joint",
        "model",
        "results.json",
    ]
    assert len(losses_of(run / "joint")) == 1


def test_a_run_does_not_go_on_to_its_second_step_over_other_data(two_step_run, few_users, tiny_model, tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(two_step_run, run)
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "soft")
    known = load_data(few_users)
    ratings = known.interactions.ratings[::-1].copy()
    data.mkdir()
    save_data(replace(known, interactions=replace(known.interactions, ratings=ratings)), data)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace(f"data: {few_users}", f"data: {data}")
    )  # the same folder, as it were
    with pytest.raises(ConfigError, match=r"changed since \(items and events, training events, click rows\)"):
        run_here(overrides(data, tiny_model, run))
    assert not (run / "soft").exists()


def test_sharded_training_is_refused(few_users, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=r"recipes/soft_tokens.py needs the whole model"):
        run_here(overrides(few_users, tiny_model, tmp_path / "run"))


def test_what_cannot_be_trained_says_so(few_users, tiny_model, tmp_path, clicks):
    def refused(*more, match, error=ConfigError):
        with pytest.raises(error, match=match):
            run_here(overrides(few_users, tiny_model, tmp_path / "run", *more), fresh=True)

    refused("objective=next_item", match="needs a prompt such as next_item/instruction")
    refused("prompt.name=next_item/instruction", match="of the task click")
    refused(*NEXT_ITEM, "schedule=words", "items.form=soft", match="items.form=text")
    refused("objective=next_item", "next_item.num_candidates=1680", match=r"set next_item.num_candidates=\d+ or less")
    refused("soft.collaborative_dim=1683", match=r"1682 items .* set soft.collaborative_dim=1682 or less")
    refused("prompt.max_tokens=100000", match="set prompt.max_tokens=")
    refused("prompt.history_step=2", match="for objective=next_item")
    refused("soft.features=[stars]", match="there are no features 'stars'", error=DataError)
    refused("clicks.task=collm_ml1m", match="no split 'collm_ml1m'", error=DataError)
    one_class = clicks.train.take(np.flatnonzero(clicks.train.labels))
    with pytest.raises(DataError, match="both classes"):
        sampled_rows(one_class, None, 0)


def test_a_new_item_is_scored_by_its_title_and_what_was_learned_for_items_nobody_met(two_step_run, tmp_path):
    add_items(two_step_run, Catalog.from_rows([{"item_id": "new", "title": "A new film"}]), out=tmp_path / "grown")
    model = load_artifact(tmp_path / "grown")
    assert not model.backbone.vector_tokens["soft"].present[1682].any()
    old, grown = (Recommender.from_pretrained(run) for run in (two_step_run, tmp_path / "grown"))
    history, asked = old.catalog.item_ids[3:6], old.catalog.item_ids[9:12]
    np.testing.assert_allclose(grown.score(history, asked), old.score(history, asked), atol=1e-5)
    assert 0 < grown.score(history, ["new"])[0] < 1


def test_probabilities_are_a_softmax_over_the_two_words_alone(two_step_run):
    model = load_artifact(two_step_run)
    recommender = recommender_of(model)
    prompt = model.encoder.encode([3], candidate=7)
    with torch.no_grad():
        logits = model.backbone.logits(model.backbone.hidden_states(torch.tensor(prompt[None].astype(np.int64)))[:, -1])
    _, liked, disliked = recommender.words
    expected = torch.sigmoid(logits[0, liked] - logits[0, disliked]).item()
    found = recommender.score(Requests(Histories.from_lists([[3]])), np.array([7]))
    assert found[0, 0] == pytest.approx(expected, abs=1e-5)
