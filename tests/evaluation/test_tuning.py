"""Tuning with a budget: what is drawn, what is best, what a killed search keeps, and that the test is never looked at."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from llmrec import metrics
from llmrec.baselines import item_knn
from llmrec.baselines.by_name import NAMES, make_baseline
from llmrec.baselines.click_means import CLICK_BASELINES, make_click_baseline
from llmrec.baselines.item_knn import ItemKnn
from llmrec.ctr.from_task import CTR_NAMES, ctr_settings, train_ctr_from_task
from llmrec.data.catalog import Catalog
from llmrec.data.click_examples import click_examples
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.interactions import Interactions
from llmrec.data.splits import leave_one_out
from llmrec.errors import ConfigError, ModelError
from llmrec.evaluation import tuning
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.search_spaces import SPACES
from llmrec.evaluation.tasks import load_any_task
from llmrec.evaluation.tuning import settings_model, tuned_baseline

N = 20
QUICK_CTR = ["epochs=2", "hidden=[8]", "dim=4", "batch_size=256"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    num_users, length = 60, 10
    items = np.concatenate([(rng.permutation(N)[:length] // 2 * 2 + user % 2) % N for user in range(num_users)])
    ratings = np.where(rng.random(len(items)) < 0.6, 5.0, 1.0).astype(np.float32)
    times = np.tile(np.arange(length), num_users)
    catalog = Catalog.from_rows([{"item_id": str(item), "title": f"t{item}"} for item in range(N)])
    events = Interactions(np.arange(0, num_users * length + 1, length), items.astype(np.int32), N, times, ratings)
    return Data(catalog, events, Features(N), [str(user) for user in range(num_users)])


@pytest.fixture(scope="module")
def task():
    return load_any_task("leave_one_out")


@pytest.fixture
def fits(monkeypatch):
    """How often item-kNN was really fitted."""
    done, fit = [], ItemKnn.fit
    monkeypatch.setattr(ItemKnn, "fit", lambda self, events: done.append(self.settings) or fit(self, events))
    return done


def tune(data, task, name="item_knn", **more):
    return tuned_baseline(name, leave_one_out(data.interactions), task, data, **more)


def test_every_space_is_of_settings_that_its_model_has_and_holds_values_that_fit():
    assert set(SPACES) == {*NAMES, *CLICK_BASELINES, *CTR_NAMES}
    for name, space in SPACES.items():
        model = settings_model(name)
        for key, values in space.items():
            for value in values:
                model.model_validate({key: value})
            assert model.model_fields[key].default in values, f"{name} does not try the default of {key}"


def test_the_defaults_come_first_no_setting_comes_twice_and_the_best_of_validation_is_chosen(data, task, capsys):
    tuned = tune(data, task, trials=6, seed=1)
    settings = [trial.settings for trial in tuned.trials]
    assert settings[0] == {} and len({json.dumps(each, sort_keys=True) for each in settings}) == 6
    assert tuned.best.value == max(trial.value for trial in tuned.trials)
    split = leave_one_out(data.interactions)
    again = evaluate(make_baseline("item_knn", tuned.overrides).fit(split.train), data, task, "valid", split=split)
    assert again.metrics["ndcg@10"]["value"] == pytest.approx(tuned.best.value)
    assert tuned.sentence.startswith("item_knn: 6 settings tried, 0.0 CPU minutes, best ")
    assert f"(validation NDCG@10 {tuned.best.value:.4f})" in tuned.sentence
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and lines[0].startswith("[1/6] item_knn, the defaults: validation NDCG@10 ")
    json.dumps(tuned.card)
    assert tuned.card["num_trials"] == 6 and "cpu_minutes" not in json.dumps(tuned.card)
    assert (
        tuned.cost["cpu_minutes"] == pytest.approx(sum(tuned.cost["of_trials"])) and len(tuned.cost["of_trials"]) == 6
    )


def test_a_seed_repeats_its_search_and_another_one_searches_elsewhere(data, task):
    settings = [[trial.settings for trial in tune(data, task, trials=5, seed=seed).trials] for seed in (3, 3, 4)]
    assert settings[0] == settings[1] != settings[2]


def test_a_budget_beyond_the_space_tries_all_of_it_once(data, task, monkeypatch):
    monkeypatch.setitem(SPACES, "item_knn", {"recency": (0.6, 1.0), "weights": ("tf_idf", "cosine")})
    tuned = tune(data, task, trials=50)
    assert sorted(map(str, (trial.settings for trial in tuned.trials))) == sorted(
        map(str, ({}, {"recency": 1.0}, {"weights": "cosine"}, {"recency": 1.0, "weights": "cosine"}))
    )
    assert len(tune(data, task, "popularity").trials) == 1  # there is nothing to search


def test_what_is_given_is_not_searched(data, task):
    tuned = tune(data, task, trials=6, given=["recency=0.5"])
    assert all("recency" not in trial.settings for trial in tuned.trials) and tuned.overrides[0] == "recency=0.5"


def test_finished_trials_are_not_computed_again_and_others_are(data, task, tmp_path, fits):
    whole = tune(data, task, trials=6, folder=tmp_path)
    assert len(fits) == 6
    for path in sorted(tmp_path.iterdir())[:2]:
        path.unlink()  # as if it had been killed before them
    fits.clear()
    again = tune(data, task, trials=6, folder=tmp_path)
    assert len(fits) == 2 and [t.value for t in again.trials] == [t.value for t in whole.trials]
    fits.clear()
    assert len(tune(data, task, trials=8, folder=tmp_path).trials) == 8 and len(fits) == 2  # a larger budget goes on
    fits.clear()
    tune(data, task.model_copy(update={"exclude_seen": False}), trials=6, folder=tmp_path)
    assert len(fits) == 6  # another task


def test_the_test_targets_change_no_trial(data, task):
    split = leave_one_out(data.interactions)
    other = replace(split, test=replace(split.test, targets=(split.test.targets + 1) % N))
    found = [tuned_baseline("item_knn", each, task, data, trials=4) for each in (split, other)]
    assert [trial.value for trial in found[0].trials] == [trial.value for trial in found[1].trials]


def test_a_setting_that_fails_is_told_and_the_others_are_chosen_from(data, task, monkeypatch, capsys):
    check = item_knn._check_memory
    monkeypatch.setattr(item_knn, "_check_memory", lambda *sizes: (_ for _ in ()).throw(ModelError("too large.")))
    with pytest.raises(ModelError, match="no setting of item_knn that was tried can be used; the first: too large"):
        tune(data, task, trials=3)
    tried = []

    def once(*sizes):
        tried.append(sizes)
        if len(tried) == 1:
            raise ModelError("too large.")
        return check(*sizes)

    monkeypatch.setattr(item_knn, "_check_memory", once)
    tuned = tune(data, task, trials=3)
    assert tuned.trials[0].value is None and tuned.trials[0].failure == "too large." and tuned.best in tuned.trials[1:]
    assert "[1/3] item_knn, the defaults: too large." in capsys.readouterr().err


def test_a_ctr_model_is_tuned_by_the_auc_of_validation_and_its_test_changes_nothing(data, tmp_path):
    clicks, split = load_any_task("clicks"), click_examples(data.interactions)
    given = [*QUICK_CTR, "refit=true"]
    tuned = tuned_baseline("din", split, clicks, data, trials=3, given=given, folder=tmp_path)
    assert tuned.metric == "AUC" and len(tuned.trials) == 3
    settings = ctr_settings("din", [each for each in tuned.overrides if each != "refit=true"])
    model = train_ctr_from_task(data, split, settings)
    assert metrics.auc(split.valid.labels, model.score_rows(split.valid)) == pytest.approx(tuned.best.value)
    flipped = replace(split, test=replace(split.test, labels=~split.test.labels))
    assert tuned_baseline("din", flipped, clicks, data, trials=3, given=given).trials[2].value == tuned.trials[2].value
    assert all(path.suffix == ".json" for path in tmp_path.iterdir())  # no training is left
    shutil.rmtree(tmp_path)


def test_means_of_clicks_are_tuned_too_and_popularity_has_nothing_to_tune(data):
    clicks, split = load_any_task("clicks"), click_examples(data.interactions)
    tuned = tuned_baseline("user_item_mean", split, clicks, data, trials=20)
    assert len(tuned.trials) == 16  # all there are
    fitted = make_click_baseline("user_item_mean", tuned.overrides).fit(split)
    assert metrics.auc(split.valid.labels, fitted.score_rows(split.valid)) == tuned.best.value
    assert len(tuned_baseline("popularity", split, clicks, data).trials) == 1


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("deepfm", {}, "nothing to tune of 'deepfm'"),
        ("item_knn", {"trials": 0}, "1 or more, but it is 0"),
        ("item_knn", {"given": ["depth=3"]}, "unknown setting 'depth'"),
    ],
)
def test_names_budgets_and_settings_that_cannot_be_are_refused_in_words(data, task, name, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tune(data, task, name, **more)


def test_a_ranking_model_is_not_asked_about_clicks(data):
    with pytest.raises(ConfigError, match="'item_knn' answers no clicks"):
        tuned_baseline("item_knn", click_examples(data.interactions), load_any_task("clicks"), data)
    assert tuning.TRIALS == 8
