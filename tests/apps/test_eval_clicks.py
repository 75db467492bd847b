"""`llmrec eval` of clicks: CTR models next to the means of items and users, and what has nothing to say of clicks."""

import json
import shutil

import numpy as np
import pytest

from llmrec import metrics
from llmrec.baselines.click_means import mean_scores
from llmrec.ctr.grid import Variant, run_ctr_grid
from llmrec.ctr.model import CARD, CtrModel, CtrSettings
from llmrec.data.folder import load_data
from llmrec.evaluation.saved import load_results
from llmrec.evaluation.tasks import load_any_task
from tests.apps.calling import assert_one_sentence, call


@pytest.fixture(scope="module")
def table(few_users, tmp_path_factory):
    """A finished table of CTR models: ids alone, one model, two seeds; the model of the first is kept."""
    folder, data = tmp_path_factory.mktemp("ctr") / "ctr", load_data(few_users)
    run_ctr_grid(
        load_any_task("clicks").make(data), data.catalog.num_items, {"ids": Variant(True)}, models=["dnn"], seeds=[3, 4],
        settings=CtrSettings(epochs=1), folder=folder, facts={"data": str(few_users)},
    )  # fmt: skip
    return folder


def test_a_ctr_model_has_its_figures_next_to_the_means(table, few_users, capsys):
    data, task = load_data(few_users), load_any_task("clicks")
    split = task.make(data)
    model, card = CtrModel.load(table / "models" / "ids" / "dnn")
    assert (card["variant"], card["model"], card["seed"]) == ("ids", "dnn", 3)
    asked = split.test
    for flags in ([], ["--task", "clicks", "--data", few_users]):
        found = call(capsys, "eval", table / "models" / "ids" / "dnn", *flags, "--json").json
        figures = metrics.ctr_metrics(asked.labels, model.score_rows(asked), asked.users)
        assert {name: result["value"] for name, result in found["metrics"].items()} == pytest.approx(figures)
        assert found["metrics"]["auc"]["low"] < figures["auc"] < found["metrics"]["auc"]["high"]
        by_item = mean_scores("item_mean", split.train, asked, data.catalog.num_items)
        assert found["baselines"]["item_mean"]["metrics"]["auc"]["value"] == metrics.auc(asked.labels, by_item)
        assert found["protocol"]["num_rows"] == len(asked) and found["protocol"]["task"]["kind"] == "clicks"
    difference = next(d for d in found["differences"] if (d["second"], d["metric"]) == ("user_item_mean", "gauc"))
    resampled = [
        metrics.gauc_resamples(asked.labels, scores, asked.users)
        for scores in (
            model.score_rows(asked),
            mean_scores("user_item_mean", split.train, asked, data.catalog.num_items),
        )
    ]
    assert difference["low"] == pytest.approx(np.nanquantile(resampled[0] - resampled[1], 0.025))


def test_the_table_has_intervals_and_differences_without_opinions(table, tmp_path, capsys):
    shown = call(
        capsys, "eval", table / "models" / "ids" / "dnn", "--subset", "valid", "--out", tmp_path / "clicks.json"
    )
    assert shown.status == 0 and "GAUC" in shown.out and "item mean" in shown.out
    assert "user and item mean" in shown.out and " in AUC" in shown.out and "95 % interval" in shown.out
    kept = json.loads((tmp_path / "clicks.json").read_text())["evaluations"]
    assert [each["protocol"]["subset"] for each in kept] == ["valid"] * 3


def test_click_models_are_compared_seeds_together_and_with_what_was_saved(table, tmp_path, capsys):
    model = table / "models" / "ids" / "dnn"
    for name, change in (("seed3", {}), ("seed4", {"seed": 4}), ("other", {"variant": "other"})):
        shutil.copytree(model, tmp_path / name)
        card = json.loads((tmp_path / name / CARD).read_text())
        (tmp_path / name / CARD).write_text(json.dumps(card | {"card": card["card"] | change}))
    alone = call(capsys, "eval", model, "--out", tmp_path / "saved.json", "--json").json
    assert load_results(tmp_path / "saved.json")[1].protocol["recommender"]["name"] == "item_mean"
    seeds = f"{tmp_path / 'seed3'},{tmp_path / 'seed4'}"
    found = call(capsys, "compare", seeds, tmp_path / "saved.json", "--json").json
    assert [each["name"] for each in found["results"]] == [
        f"{tmp_path / 'seed3'} (2 seeds)",
        str(tmp_path / "saved.json"),
    ]
    assert found["results"][0]["metrics"]["auc"]["seeds"] == [alone["metrics"]["auc"]["value"]] * 2
    assert [(each["metric"], each["value"], each["p"]) for each in found["pairs"]] == [("auc", 0, 1), ("gauc", 0, 1)]
    shown = call(capsys, "compare", tmp_path / "seed3", model)
    assert "no verdict on fewer than 30 users in AUC, +.0000" in shown.out and not list(
        tmp_path.glob("*/.evaluation-*")
    )
    called = call(capsys, "compare", f"{tmp_path / 'seed3'},{tmp_path / 'other'}", model)
    assert_one_sentence(called, "are no seeds of one configuration: they differ in variant")


def test_a_model_that_was_trained_on_asked_rows_is_refused(table, tmp_path, capsys):
    shutil.copytree(table / "models" / "ids" / "dnn", tmp_path / "model")
    (tmp_path / "mine.yaml").write_text("{kind: clicks, name: mine, version: 1, split: {policy: time, test: 0.2}}")
    called = call(capsys, "eval", tmp_path / "model", "--task", tmp_path / "mine.yaml")
    assert_one_sentence(called, "was trained on other examples than the task divides (shares")


def test_a_ctr_model_is_trained_and_measured_in_one_command_with_seeds_tuning_and_cost(few_users, tmp_path, capsys):
    out = tmp_path / "din.json"
    called = call(
        capsys, "eval", "--baseline", "din", "--baseline-setting", "epochs=1", "--seeds", "1,2", "--tune", "2",
        "--data", few_users, "--task", "clicks", "--out", out, "--json",
    )  # fmt: skip
    found = called.json
    card, auc = found["protocol"]["recommender"], found["metrics"]["auc"]
    assert card["name"] == "din" and card["seeds"] == [1, 2] and len(auc["seeds"]) == 2
    assert auc["value"] == pytest.approx(np.mean(auc["seeds"])) and auc["std"] == pytest.approx(
        np.std(auc["seeds"], ddof=1)
    )
    assert card["tuned"]["num_trials"] == 2 and "2 settings tried" in called.err
    assert found["cost"]["training_cpu_minutes"] > 0 and found["cost"]["latency_ms_single_median"] > 0
    kept = json.loads(out.read_text())["evaluations"]
    assert [each["name"] for each in kept] == ["DIN (id)", "item mean", "user and item mean"]


def test_popularity_of_clicks_is_the_share_of_training_events(few_users, capsys):
    data = load_data(few_users)
    split = load_any_task("clicks").make(data)
    found = call(
        capsys, "eval", "--baseline", "popularity", "--data", few_users, "--task", "clicks", "--no-cost", "--json"
    ).json
    expected = metrics.auc(split.test.labels, split.events.counts()[split.test.items].astype(float))
    assert found["metrics"]["auc"]["value"] == pytest.approx(expected) and "cost" not in found


@pytest.mark.slow
def test_a_language_model_as_it_is_answers_clicks_with_examples(few_users, tiny_model, capsys):
    found = call(
        capsys, "eval", "--model", tiny_model, "--shots", "0", "--model-setting", "max_title_tokens=8", "--data", few_users,
        "--task", "clicks", "--no-cost", "--json",
    ).json  # fmt: skip
    card = found["protocol"]["recommender"]
    assert card["shots"] == 0 and card["scored_by"] == "probability of the two answer words"
    assert 0 <= found["metrics"]["auc"]["value"] <= 1 and set(found["baselines"]) == {"item_mean", "user_item_mean"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN", "--task", "clicks"], "says of none whether it is liked"),
        (["MODEL", "--with-baselines"], "leave out --with-baselines"),
        (["MODEL", "MODEL"], "should have different seeds, but they have 3, 3"),
        (["MODEL", "--include-seen"], "--include-seen"),
        (["MODEL", "--out", "page.pdf"], ".html, .json, .md, .tex"),
        (["MODEL", "--subset", "dev"], "'dev'"),
        (["--baseline", "markov", "--data", "DATA", "--task", "clicks"], "no baseline of clicks 'markov'"),
        (["--baseline", "item_mean", "--seeds", "1", "--data", "DATA", "--task", "clicks"], "'item_mean' counts"),
        (["--baseline", "markov", "--tune", "3", "--data", "DATA", "--task", "clicks"], "markov"),
        (["--baseline", "din", "--against", "MODEL", "--data", "DATA", "--task", "clicks"], "there is no run"),
        (["--baseline", "din", "--seeds", "1,x", "--data", "DATA", "--task", "clicks"], "'1,x'"),
        (["--shots", "3", "--baseline", "din", "--data", "DATA", "--task", "clicks"], "--shots is of a language model"),
        (
            ["--model", "nobody/nothing", "--base-url", "http://127.0.0.1:1/v1", "--data", "DATA", "--task", "clicks"],
            "openai",
        ),
    ],
)
def test_what_cannot_be_asked_about_clicks_is_one_sentence(table, tiny_run, few_users, capsys, arguments, sentence):
    places = {"RUN": tiny_run, "MODEL": table / "models" / "ids" / "dnn", "DATA": few_users}
    assert_one_sentence(call(capsys, "eval", *(places.get(word, word) for word in arguments)), sentence)
