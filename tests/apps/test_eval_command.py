import json
import shutil

import numpy as np
import pytest

from llmrec.baselines.by_name import STANDARD
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.evaluation.runner import evaluate, fit_baseline
from llmrec.evaluation.significance import paired_differences
from llmrec.evaluation.tasks import load_task
from llmrec.recommender import Recommender
from tests.apps.calling import assert_one_sentence, call, call_alone
from tests.recipes.running import run_here, settings


def test_a_baseline_filters_seen_items_as_the_task_says_unless_told_otherwise(few_users, capsys):
    data = load_data(few_users)
    for flags, overrides in (
        ([], []),
        (
            ["--task", "leave_one_out_unfiltered", "--exclude-seen"],
            ["name=leave_one_out_unfiltered", "exclude_seen=true"],
        ),
        (["--fit", "train+valid", "--include-seen"], ["exclude_seen=false", "fit=train+valid"]),
    ):
        task = load_task("leave_one_out", overrides)
        expected = evaluate(fit_baseline("popularity", task.make(data), task.fit), data, task)
        found = call(capsys, "eval", "--baseline", "popularity", "--data", few_users, *flags, "--json").json
        assert found["metrics"] == expected.metrics
        assert found["protocol"]["exclude_seen"] is task.exclude_seen and found["protocol"]["fit"] == task.fit
    assert set(found["metrics"]["recall@10"]) == {"value", "low", "high"}


def test_a_baseline_takes_settings_and_what_changes_nothing_is_said(few_users, capsys):
    called = call(
        capsys, "eval", "--baseline", "sasrec", "--baseline-setting", "dim=8", "--baseline-setting", "epochs=1",
        "--baseline-setting", "seed=5", "--data", few_users, "--json",
    )  # fmt: skip
    settings = called.json["protocol"]["recommender"]
    assert (settings["name"], settings["dim"], settings["epochs"], settings["seed"]) == ("sasrec", 8, 1, 5)
    assert "warning" not in called.err
    called = call(capsys, "eval", "--baseline", "markov", "--device", "cuda", "--data", few_users, "--json")
    assert called.status == 0 and "--device changes nothing here" in called.err


def test_a_run_is_measured_as_the_task_says_on_the_data_its_settings_name(tiny_run, few_users, capsys):
    data = load_data(few_users)
    ranker = Recommender.from_pretrained(tiny_run).ranker
    for flags, overrides in (([], []), (["--include-seen"], ["exclude_seen=false"])):
        expected = evaluate(ranker, data, load_task("leave_one_out", overrides))
        found = call(capsys, "eval", tiny_run, *flags, "--json").json
        assert found["metrics"] == expected.metrics
        assert found["protocol"] == json.loads(json.dumps(expected.protocol))


def test_a_run_is_compared_with_the_baselines(tiny_run, capsys):
    found = call(capsys, "eval", tiny_run, "--with-baselines", "--json").json
    names = [kind.name for kind in STANDARD]
    assert list(found["baselines"]) == names
    assert {d["second"] for d in found["differences"]} == {
        *names,
        "llm",
    }  # the hybrid is compared with the run too
    weights = found["hybrid"]["protocol"]["recommender"]["validation_ndcg@10"]
    assert float(max(weights, key=weights.get)) == found["hybrid"]["protocol"]["recommender"]["weight"]
    easy = found["baselines"]["ease_r"]
    assert easy["protocol"]["exclude_seen"] is found["protocol"]["exclude_seen"] is True
    d = next(
        d for d in found["differences"] if (d["first"], d["second"], d["metric"]) == ("llm", "ease_r", "recall@10")
    )
    assert d["value"] == pytest.approx(found["metrics"]["recall@10"]["value"] - easy["metrics"]["recall@10"]["value"])
    shown = call(capsys, "eval", tiny_run, "--with-baselines")
    assert "LoRA" in shown.out and "popularity" in shown.out and "interval" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines() if line.startswith(("│", "┃")))
    cost = shown.out.split("cost, on cpu")[1].split("\n\n")[0]
    assert "…" not in cost and "low-rank EASE-R" in cost and "parameters" in cost and "train" in cost  # whole words


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """A log that was concatenated twice: every event once more, so that the last item always repeats the one before it."""
    folder, rng = tmp_path_factory.mktemp("doubled"), np.random.default_rng(0)
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{n},Title {n}\n" for n in range(12)))
    log = "".join(f"{u},{i},{t}\n" for u in range(20) for t, i in enumerate(rng.permutation(12)[:6]))
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + log + log)
    prepare(folder / "items.csv", folder / "events.csv", folder / "data")
    return folder / "data"


def test_repeated_targets_are_counted_and_said_to_be_out_of_reach(doubled, capsys):
    of_markov = ["eval", "--baseline", "markov", "--data", doubled]
    found = call(capsys, *of_markov, "--exclude-seen", "--json").json
    assert found["slices"]["repeated_target"]["num_users"] == 20 and found["slices"]["new_target"]["num_users"] == 0
    assert "20 of 20 test instances (100 %)" in found["notes"][0] and "--include-seen" in found["notes"][0]
    shown = call(capsys, *of_markov, "--exclude-seen")
    assert found["notes"][0] in shown.out
    found = call(capsys, *of_markov, "--include-seen", "--json").json
    assert found["notes"] == [] and found["metrics"]["recall@1"]["value"] == 1


@pytest.fixture(scope="module")
def other_seed(few_users, tiny_model, tmp_path_factory):
    """`tiny_run` with another seed."""
    run = tmp_path_factory.mktemp("other_seed") / "run"
    run_here(settings(few_users, tiny_model, run, "training.max_steps=4", "seed=1"))
    return run


def test_runs_of_several_seeds_are_one_row_with_mean_spread_and_each(tiny_run, other_seed, capsys):
    found = call(capsys, "eval", tiny_run, other_seed, "--with-baselines", "--json").json
    alone = [call(capsys, "eval", run, "--json").json["metrics"] for run in (tiny_run, other_seed)]
    for name, result in found["metrics"].items():
        assert result["seeds"] == [metrics[name]["value"] for metrics in alone]
        assert result["value"] == pytest.approx(np.mean(result["seeds"]))
        assert result["std"] == pytest.approx(np.std(result["seeds"], ddof=1))
    assert found["protocol"]["recommender"]["seeds"] == found["hybrid"]["protocol"]["recommender"]["seeds"] == [0, 1]
    assert len(found["hybrid"]["metrics"]["mrr@10"]["seeds"]) == 2
    assert all(len(difference["seeds"]) == 2 for difference in found["differences"])
    shown = call(capsys, "eval", tiny_run, other_seed)
    assert "seed 0" in shown.out and "seed 1" in shown.out and "std" in shown.out


def test_two_runs_are_tested_on_the_same_users(tiny_run, other_seed, few_users, capsys, tmp_path):
    found = call(capsys, "eval", tiny_run, "--against", other_seed, "--json").json
    data, task = load_data(few_users), load_task("leave_one_out")
    first, second = (evaluate(Recommender.from_pretrained(run).ranker, data, task) for run in (tiny_run, other_seed))
    assert [difference["metric"] for difference in found["paired"]] == list(first.per_user)
    for difference, expected in zip(
        found["paired"], paired_differences(first, second, list(first.per_user)), strict=True
    ):
        assert (difference["value"], difference["low"]) == (expected.value, expected.low)
        assert (difference["first"], difference["second"]) == (str(tiny_run), str(other_seed))
    out = tmp_path / "report.json"
    shown = call(capsys, "eval", tiny_run, "--against", other_seed, "--out", out)
    assert "A − B" in shown.out and "the interval holds 0" in " ".join(shown.out.split())
    assert {pair["second"] for pair in json.loads(out.read_text())["differences"]} == {str(other_seed)}


def test_runs_that_cannot_be_put_together_are_refused(tiny_run, other_seed, tiny_code_run, tmp_path, capsys):
    assert_one_sentence(call(capsys, "eval", tiny_run, tiny_run), "should have different seeds, but they have 0, 0")
    called = call(capsys, "eval", tiny_run, tiny_code_run)
    assert_one_sentence(called, "items.form, items.semantic_ids, loss.negatives, prompt.name, prompt.targets and more")
    assert "--against" in called.err
    shutil.copytree(other_seed, tmp_path / "run")
    manifest = tmp_path / "run" / "model" / "manifest.json"
    card = json.loads(manifest.read_text())
    card["protocol"] |= {"content_hash": "0" * 16, "fit": "train+valid"}
    manifest.write_text(json.dumps(card))
    called = call(capsys, "eval", tiny_run, "--against", tmp_path / "run")
    assert_one_sentence(
        called, "cannot be paired, because they were trained on different data: they differ in events, training"
    )
    called = call(capsys, "eval", "--baseline", "markov", "--data", tmp_path, "--against", tiny_run)
    assert_one_sentence(called, "a paired test of two runs")


def test_generated_lists_are_measured_too(tiny_code_run, capsys):
    found = call(
        capsys, "eval", tiny_code_run, "--max-users", "3", "--subset", "valid", "--num-beams", "20", "--json"
    ).json
    assert found["protocol"]["num_users"] == 3 and found["protocol"]["subset"] == "valid"


def test_a_run_is_asked_among_sampled_candidates(tiny_run, capsys):
    found = call(capsys, "eval", tiny_run, "--task", "sampled_candidates", "--with-baselines", "--json").json
    assert found["protocol"]["task"]["kind"] == "candidates" and found["metrics"]["hit@1"]["value"] > 0
    assert (
        list(found["baselines"]) == [kind.name for kind in STANDARD]
        and found["hybrid"]["metrics"]["hit@10"]["value"] > 0.3
    )


def test_a_report_is_written_as_a_page_or_as_json(tiny_run, tmp_path, capsys):
    for ending in ("html", "json"):
        out = tmp_path / "reports" / f"report.{ending}"
        called = call(capsys, "eval", tiny_run, "--max-users", "20", "--out", out)
        assert called.status == 0 and f"Wrote {out}" in called.err
    assert "<html" in (tmp_path / "reports" / "report.html").read_text()
    assert json.loads((tmp_path / "reports" / "report.json").read_text())["facts"]["command"].startswith("llmrec")


@pytest.mark.slow
def test_a_terminal_without_unicode_is_no_crash(tiny_run):
    called = call_alone("eval", tiny_run, "--with-baselines", PYTHONIOENCODING="ascii")
    assert called.status == 0 and "popularity" in called.out


def test_another_catalogue_is_refused(tiny_run, bench_data, tmp_path, capsys):
    source = bench_data / "ml100k_posters"
    prepare(source / "items.jsonl.gz", source / "interactions.tsv.gz", tmp_path / "films")
    assert_one_sentence(call(capsys, "eval", tiny_run, "--data", tmp_path / "films"), "but '")


def test_another_split_is_refused_and_other_events_are_warned_of(tiny_run, few_users, tmp_path, capsys):
    (tmp_path / "new.yaml").write_text(
        "{name: later, version: 1, split: {policy: temporal}, metrics: [recall], ks: [10]}"
    )
    called = call(capsys, "eval", tiny_run, "--task", tmp_path / "new.yaml")
    assert_one_sentence(called, "trained on the split 'leave_one_out'")
    shutil.copytree(few_users, tmp_path / "data")
    card = json.loads((tmp_path / "data" / "data.json").read_text())
    (tmp_path / "data" / "data.json").write_text(json.dumps({**card, "content_hash": "0" * 16}))
    called = call(capsys, "eval", tiny_run, "--data", tmp_path / "data", "--max-users", "2", "--json")
    assert called.json["protocol"]["num_users"] == 2 and "trained on other events" in called.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "a run, a baseline or a language model"),
        (["RUN", "--baseline", "popularity"], "one of them"),
        (["--baseline", "popularity"], "--data DIR"),
        (["--baseline", "populatiry", "--data", "DATA"], "no baseline 'populatiry'"),
        (["--baseline", "markov", "--data", "DATA", "--with-baselines"], "there is none"),
        (["--baseline", "markov", "--data", "DATA", "--seeds", "0,1"], "it has no seeds"),
        (["--baseline", "din", "--data", "DATA"], "tasks of clicks, such as `--task clicks`, have others"),
        (["--baseline", "markov", "--data", "DATA", "--baseline-setting", "dim=3"], "unknown setting 'dim'"),
        (["--baseline", "ease_r", "--data", "DATA", "--baseline-setting", "recency=2"], "'recency=2'"),
        (["RUN", "--baseline-setting", "dim=3"], "--baseline NAME"),
        (["--baseline", "markov", "--data", "DATA", "--fit", "all"], "'fit'"),
        (["RUN", "--task", "leave_one_uot"], "Did you mean 'leave_one_out'?"),
        (["RUN", "--subset", "tset"], "'tset'"),
        (["RUN", "--fit", "train+valid"], "trained on 'train'"),
        (["RUN", "--data", "/nowhere"], "not a prepared data folder"),
        (["RUN", "--out", "report.pdf"], ".html, .json, .md, .tex"),
        (["RUN", "--out", "/dev/null/report.html"], "cannot write"),
        (["RUN/model"], "--data DIR"),
        (["/nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(tiny_run, few_users, capsys, arguments, sentence):
    named = [word.replace("RUN", str(tiny_run)).replace("DATA", str(few_users)) for word in arguments]
    assert_one_sentence(call(capsys, "eval", *named), sentence)


def test_a_run_of_semantic_ids_has_hits_by_codes_beside_hits_by_items(tiny_code_run, capsys):
    found = call(capsys, "eval", tiny_code_run, "--max-users", "30", "--no-cost", "--json").json["metrics"]
    assert found["code_recall@20"]["value"] >= found["recall@20"]["value"]
    assert "code_recall@10" in found and found["code_recall@1"]["low"] is not None


@pytest.mark.slow
def test_a_language_model_as_it_is_chooses_among_candidates_in_several_orders(few_users, tiny_model, capsys):
    found = call(
        capsys, "eval", "--model", tiny_model, "--data", few_users, "--task", "sampled_candidates_shuffled", "--max-users", "8",
        "--free-users", "4", "--no-cost", "--json",
    ).json  # fmt: skip
    bias = found["position_bias"]
    assert bias["instances"] == 4 and sum(bias["first_choice_by_position"]) == pytest.approx(1)
    assert found["protocol"]["candidates"].startswith("sampled") and "hit@1" in found["metrics"]
