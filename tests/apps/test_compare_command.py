"""`llmrec compare`: saved results and runs in pairs, corrected for their number, and what is not compared."""

import json

import pytest

from llmrec.evaluation.saved import load_results
from llmrec.evaluation.significance import paired_differences
from tests.apps.calling import assert_one_sentence, call


@pytest.fixture(scope="module")
def saved(few_users, tmp_path_factory):
    """Results of four baselines on 80 users, one of them with seen items kept."""
    from llmrec.apps.cli import main

    folder = tmp_path_factory.mktemp("saved")
    for name, baseline, *flags in (
        ("ease", "ease_r", "--exclude-seen"), ("markov", "markov", "--exclude-seen"), ("popularity", "popularity", "--exclude-seen"),
        ("kept", "popularity", "--include-seen"),
    ):  # fmt: skip
        try:
            main(
                [
                    "eval",
                    "--baseline",
                    baseline,
                    "--data",
                    str(few_users),
                    *flags,
                    "--out",
                    str(folder / f"{name}.json"),
                ]
            )
        except SystemExit as end:
            assert not end.code
    return folder


def test_every_pair_is_tested_and_corrected(saved, tmp_path, capsys):
    files = [saved / f"{name}.json" for name in ("ease", "markov", "popularity")]
    found = call(capsys, "compare", *files, "--json", "--out", tmp_path / "found.json").json
    assert json.loads((tmp_path / "found.json").read_text()) == found
    pairs = [(each["first"], each["second"], each["metric"]) for each in found["pairs"]]
    names = [str(path) for path in files]
    expected = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    assert pairs == [(*pair, metric) for pair in expected for metric in ("ndcg@10", "recall@10")]
    ease, markov = (load_results(path)[0] for path in files[:2])
    (alone,) = paired_differences(ease, markov, ["ndcg@10"])
    first = found["pairs"][0]
    shown = [first[name] for name in ("value", "low", "high", "p")]
    assert shown == pytest.approx([alone.value, alone.low, alone.high, alone.p])
    assert first["num_tests"] == 3 and first["adjusted_p"] >= first["p"]
    assert [each["model"] for each in found["results"]] == ["EASE-R", "first-order Markov chain", "popularity"]

    shown = call(capsys, "compare", *files, "--metric", "mrr@20")
    assert "MRR@20" in shown.out and "NDCG" not in shown.out and "the same 80 users for all" in shown.out
    assert "Corrected for 3 comparisons by Holm's method" in shown.out


def test_a_run_is_asked_what_the_saved_result_was_asked(saved, tiny_run, few_users, capsys):
    shown = call(capsys, "compare", tiny_run, saved / "popularity.json", "--json")
    found = shown.json
    alone = call(capsys, "eval", tiny_run, "--json").json
    assert found["results"][0]["metrics"]["ndcg@10"] == alone["metrics"]["ndcg@10"]
    assert found["protocol"]["num_users"] == 80 and found["pairs"][0]["num_tests"] == 1
    assert not list(tiny_run.glob(".evaluation-*"))


def test_two_protocols_are_refused_with_what_differs(saved, tiny_run, capsys):
    called = call(capsys, "compare", saved / "popularity.json", saved / "kept.json")
    assert_one_sentence(called, "cannot be compared: they differ in exclude_seen (True and False)")
    assert "kept.json" in called.err
    called = call(capsys, "compare", tiny_run, saved / "kept.json", "--max-users", 40)
    assert called.status == 2 and "num_users (40 and 80)" in called.err


def test_under_thirty_users_there_is_no_verdict(tiny_run, tiny_code_run, capsys):
    shown = call(capsys, "compare", tiny_run, tiny_code_run, "--max-users", 20)
    assert shown.status == 0 and "no verdict on fewer than 30 users in NDCG@10" in shown.out
    assert "With 20 test users there is no verdict" in shown.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["EASE"], "two or more"),
        (["EASE", "EASE"], "named twice"),
        (["EASE", "nowhere"], "there is no folder 'nowhere'"),
        (["EASE,MARKOV", "EASE"], "seeds are saved together"),
        (["EASE", "MARKOV", "--metric", "auc"], "no paired difference of auc (there are: recall@"),
        (["EASE", "MARKOV", "--metric", "coverage@10"], "no paired difference of coverage@10"),
        (["EASE", "MARKOV", "--out", "x.html"], "a .json file"),
        (["RUN", "EASE", "--task", "clicks"], "says of none whether it is liked"),
        (["RUN", "EASE", "--subset", "dev"], "'dev'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(saved, tiny_run, capsys, arguments, sentence):
    places = {"EASE": saved / "ease.json", "MARKOV": saved / "markov.json", "RUN": tiny_run}
    places["EASE,MARKOV"] = f"{saved / 'ease.json'},{saved / 'markov.json'}"
    assert_one_sentence(call(capsys, "compare", *(places.get(each, each) for each in arguments)), sentence)
