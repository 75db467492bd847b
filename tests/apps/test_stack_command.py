"""`llmrec stack`: a real run and baselines as one run that is saved, opened, asked and measured like any other."""

import json
import shutil

import numpy as np
import pytest

from llmrec.artifacts.new_items import add_items
from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.config import CONFIG
from llmrec.data.folder import load_data
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.evaluation import stacking
from llmrec.evaluation.tasks import load_task
from llmrec.files import write_json
from llmrec.recommender import Recommender
from llmrec.recommenders.requests import Requests
from llmrec.recommenders.stacked import Stacked
from tests.apps.calling import assert_one_sentence, call
from tests.artifacts import sequential_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(bench_data, tmp_path_factory):
    return sequential_runs.train(tmp_path_factory.mktemp("sequential"), bench_data)


def open_run(folder):
    return Recommender.from_pretrained(folder).ranker


@pytest.fixture(scope="module")
def stacked(real, tmp_path_factory):
    """The folder of a stack of four parts."""
    folder = tmp_path_factory.mktemp("stacks") / "stack"
    named = ["ease_r", "markov", "text_neighbours"]
    settings = stacking.stack_settings([real.folder], named, data=None, output=folder, weights_of=None, folds=2)
    stacking.build_stack(settings, open_run)
    return folder


@pytest.fixture(scope="module")
def asked(real):
    data = load_data(real.data)
    split = load_task("leave_one_out").make(data)
    return split, Requests.from_instances(split.test.take(np.arange(40)))


def test_the_stack_is_one_folder_and_says_what_its_parts_and_weights_are(stacked, real):
    files = sorted(path.name for path in (stacked / "model" / "parts").iterdir())
    assert files == ["ease_r", "markov", "run", "text_neighbours"]
    assert not (stacked / "parts").exists(), "baselines lie there only while the stack is made"
    manifest = read_manifest(stacked)
    validation = manifest["stack_weights"]["facts"]["validation"]
    assert validation["num_users"] > 300 and list(validation["ndcg@10_of_parts"]) == manifest["parts"]
    assert validation["ndcg@10"] > 0.8 * max(validation["ndcg@10_of_parts"].values())
    assert manifest["kind"] == "stacked" and manifest["protocol"]["fit"] == "train"
    assert manifest["catalog_hash"] == read_manifest(real.folder)["catalog_hash"]


def test_it_scores_as_its_parts_do_together_and_without_the_run_that_it_was_made_of(stacked, asked, real, tmp_path):
    split, requests = asked
    shutil.copytree(stacked, tmp_path / "elsewhere")
    opened = Recommender.from_pretrained(tmp_path / "elsewhere").ranker
    parts = {part.name: part for part in opened.parts}
    assert [parts[name].by_events for name in ("run", "ease_r", "markov", "text_neighbours")] == [
        False,
        True,
        True,
        False,
    ]
    run = Recommender.from_pretrained(real.folder).ranker
    assert np.array_equal(parts["run"].ranker.scores(requests), run.scores(requests))
    again = Stacked(opened.parts, split.train.counts(), opened.weights)
    assert np.array_equal(again.scores(requests), opened.scores(requests))


def test_commands_make_it_and_take_it_like_any_run(real, tmp_path, capsys):
    data = ["--data", real.data, "--max-users", "60"]
    made = call(capsys, "stack", "--baselines", "markov,text_neighbours", *data, "--out", tmp_path / "stack")
    assert made.status == 0, made.err
    assert "stack, cross-fitted" in made.out and "history 30, item 3" in made.out
    minutes = json.loads((tmp_path / "stack" / "estimate.json").read_text())["measured"]["cpu_minutes"]
    assert list(minutes) == ["markov", "text_neighbours", "weights"] and all(each > 0 for each in minutes.values())
    known = load_data(real.data).catalog.item_ids[3]
    listed = call(capsys, "recommend", tmp_path / "stack", "--history", known, "-k", "3", "--json").json
    assert len(listed["recommendations"]) == 3
    measured = call(capsys, "eval", tmp_path / "stack", "--max-users", "30", "--json", "--no-cost").json
    card = measured["protocol"]["recommender"]
    assert card["name"] == "stacked" and list(card["parts"]) == ["markov", "text_neighbours"]


def test_parts_by_events_abstain_for_items_without_events_and_words_speak(stacked, asked):
    split, _ = asked
    stack = Recommender.from_pretrained(stacked).ranker
    unseen = np.flatnonzero(split.train.counts() == 0)
    parts = {part.name: place for place, part in enumerate(stack.parts)}
    assert len(unseen) and not stack.known[parts["ease_r"], unseen].any()
    assert stack.known[parts["run"], unseen].all() and stack.known[parts["text_neighbours"], unseen].all()


def settings_of(real, output, **more):
    given = {"data": real.data, "output": output, "weights_of": None} | more
    return stacking.stack_settings([], ["markov", "text_neighbours"], **given)


def test_a_killed_attempt_keeps_the_baselines_that_it_fitted(real, tmp_path, monkeypatch):
    settings = settings_of(real, tmp_path / "stack", folds=2)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stacked, "fit_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            stacking.build_stack(settings, open_run)
    said = []
    stacking.build_stack(settings, open_run, said.append)
    assert said == ["markov: fitted before", "text_neighbours: fitted before"]
    with pytest.raises(ConfigError, match=r"other settings \(folds\)"):
        stacking.build_stack(settings_of(real, tmp_path / "stack", folds=3), open_run)


def test_weights_of_train_serve_parts_of_train_and_valid(real, asked, tmp_path):
    split, requests = asked
    first = stacking.build_stack(settings_of(real, tmp_path / "one", folds=2), open_run)
    settings = stacking.stack_settings([], [], data=None, output=tmp_path / "two", weights_of=tmp_path / "one")
    assert settings.fit == "train+valid" and settings.baselines == ("markov", "text_neighbours")
    second = stacking.build_stack(settings, open_run)
    assert np.array_equal(second.weights.theta, first.weights.theta)
    assert np.array_equal(second.counts, split.train_valid.counts())
    assert not np.array_equal(second.scores(requests), first.scores(requests))


def test_what_cannot_be_a_stack_is_refused_in_a_sentence(real, stacked, tmp_path, capsys):
    for arguments, words in (
        ([], "a stack needs parts"),
        (["--baselines", "markov"], "--data DIR"),
        ([real.folder, "--baselines", "nobody"], "no baseline 'nobody'"),
        ([stacked, "--baselines", "markov"], "is a stack itself"),
        ([real.folder, "--weights-of", stacked, "--baselines", "markov"], "and no baselines"),
        ([real.folder, "--baselines", "markov,markov"], "different names"),
        ([real.folder, "--baselines", "sasrec"], "cannot be kept as a part"),
    ):
        refused = call(capsys, "stack", *arguments, "--out", tmp_path / str(len(words)))
        assert_one_sentence(refused, words)
    assert not list(tmp_path.glob("*/model"))
    with pytest.raises(ArtifactError, match="is a stack of several recommenders and no language model"):
        load_artifact(stacked)
    with pytest.raises(ArtifactError, match="Add the items to the runs"):
        add_items(stacked, real.new, out=tmp_path / "grown")
    with pytest.raises(ConfigError, match="num_beams is a setting of language models"):
        Recommender.from_pretrained(stacked, num_beams=3)


def test_runs_that_learned_from_validation_need_the_weights_of_another_stack(real, tmp_path):
    shutil.copytree(real.folder, tmp_path / "refit")
    manifest = read_manifest(real.folder)
    write_json(
        tmp_path / "refit" / "model" / "manifest.json",
        manifest | {"protocol": {**manifest["protocol"], "fit": "train+valid"}},
    )
    with pytest.raises(ConfigError, match="--weights-of that stack"):
        stacking.stack_settings([tmp_path / "refit"], [], data=None, output=tmp_path, weights_of=None)
    with pytest.raises(ConfigError, match="these runs differ"):
        stacking.stack_settings([tmp_path / "refit", real.folder], [], data=None, output=tmp_path, weights_of=None)


def test_a_damaged_stack_is_refused_in_a_sentence(stacked, tmp_path):
    manifest = json.loads((stacked / "model" / "manifest.json").read_text())

    def damaged(change):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(stacked, tmp_path / "copy")
        change(tmp_path / "copy" / "model")
        with pytest.raises(LlmrecError) as told:
            Recommender.from_pretrained(tmp_path / "copy")
        return str(told.value)

    assert "is missing" in damaged(lambda model: (model / "counts.safetensors").unlink())
    assert "does not hold the bytes" in damaged(lambda model: (model / "counts.safetensors").write_bytes(b"x"))
    assert "is missing" in damaged(lambda model: shutil.rmtree(model / "parts" / "markov"))
    weights = manifest["stack_weights"] | {"theta": [[[1.0]]]}
    assert "damaged" in damaged(
        lambda model: write_json(model / "manifest.json", manifest | {"stack_weights": weights})
    )
    outside = manifest | {"parts": ["../run", *manifest["parts"][1:]]}
    assert "parts" in damaged(lambda model: write_json(model / "manifest.json", outside))
    assert (stacked / CONFIG).is_file()
