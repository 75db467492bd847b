"""recipes/sequential.py as users run it: a run that recommends, resumed, refitted, estimated, refused."""

import json

import pytest
from safetensors.numpy import load_file

from llmrec.artifacts.sequential_run import load_sequential
from llmrec.config import load_config
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.cost import measure_cost, training_cost
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.recommenders.requests import Requests
from llmrec.sequential.learning import Objective
from llmrec.training.checkpoints import read_log
from tests.recipes.running import load_recipe

pytestmark = pytest.mark.slow

SMALL = ["dim=16", "num_layers=1", "max_length=20", "batch_size=64", "epochs=3", "validate_every=1", "lr=5e-3", "average=0.9",
         "precision=float32"]  # fmt: skip


TRIED, AN_EPOCH = 12, 12  # steps: of the estimate, and of an epoch of 80 users


def train(data, output, *more, fresh=False, dry_run=False):
    recipe = load_recipe("sequential")
    config = load_config(recipe.Sequential, None, [f"data={data}", f"output={output}", *SMALL, *more])
    return recipe.main(config, fresh=fresh, dry_run=dry_run)


def weights(run):
    return load_file(run / "model" / "network.safetensors")


def assert_equal_weights(one, other):
    assert weights(one).keys() == weights(other).keys()
    for name, expected in weights(one).items():
        assert (weights(other)[name] == expected).all(), name


@pytest.fixture(scope="module")
def run(few_users, tmp_path_factory):
    """Trained on 80 users of MovieLens, with titles and genres by TF-IDF."""
    folder = tmp_path_factory.mktemp("sequential") / "run"
    train(few_users, folder)
    return folder


@pytest.fixture
def killed(monkeypatch):
    """Kills the training before the step of this number, counted over the whole process."""

    def before(number):
        call, steps = Objective.__call__, []

        def counted(*arguments):
            steps.append(None)
            if len(steps) == number:
                raise KeyboardInterrupt
            return call(*arguments)

        monkeypatch.setattr(Objective, "__call__", counted)
        return steps

    return before


def test_a_run_holds_the_model_of_its_best_validation_and_what_it_cost(run, few_users):
    data, task, kept = load_data(few_users), load_task("leave_one_out"), load_sequential(run)
    split = task.make(data)
    log = read_log(run / "training_log.jsonl")
    best = max(record["eval_ndcg@10"] for record in log)
    found = evaluate(kept.recommender, data, task, "valid", split=split)
    assert found.metrics["ndcg@10"]["value"] == pytest.approx(best, abs=1e-6)
    assert [record["epoch"] for record in log] == [1, 2, 3] and log[0]["loss"] > log[-1]["loss"]
    assert kept.recommender.card["loss"] == "full" and kept.recommender.card["features"] == ["text"]
    cost = training_cost(run)
    assert cost.training_cpu_minutes == pytest.approx(log[-1]["cpu_seconds"] / 60, rel=0.05)
    trained = sum(weight.numel() for weight in kept.recommender.network.parameters())
    asked = Requests.from_instances(split.test)
    assert cost.trained_parameters == trained == measure_cost(kept.recommender, asked, seconds=0.1).all_parameters


def test_a_finished_run_is_left_as_it_is_and_other_settings_are_refused(run, few_users, capsys):
    train(few_users, run)
    assert "is finished and left as it is" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="dim was 16, is 8"):
        train(few_users, run, "dim=8")


def test_a_killed_run_goes_on_to_the_weights_of_an_unbroken_one(run, few_users, tmp_path, killed):
    killed(TRIED + 3 * AN_EPOCH - 1)
    with pytest.raises(KeyboardInterrupt):
        train(few_users, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    train(few_users, tmp_path / "run")
    assert_equal_weights(run, tmp_path / "run")
    steps = [record["step"] for record in read_log(tmp_path / "run" / "training_log.jsonl")]
    assert steps == [record["step"] for record in read_log(run / "training_log.jsonl")]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_refit_learns_from_validation_too_for_the_chosen_epochs_and_survives_being_killed(
    few_users, tmp_path, killed
):
    train(few_users, tmp_path / "whole", "refit=true")
    steps = killed(TRIED + 3 * AN_EPOCH + 2)  # in the refit's first epoch
    with pytest.raises(KeyboardInterrupt):
        train(few_users, tmp_path / "run", "refit=true")
    train(few_users, tmp_path / "run", "refit=true")
    assert_equal_weights(tmp_path / "whole", tmp_path / "run")
    chosen = json.loads((tmp_path / "run" / "chosen.json").read_text())["epochs"]
    assert len(steps) == TRIED + 3 * AN_EPOCH + 2 + TRIED + round(AN_EPOCH * chosen)
    manifest = json.loads((tmp_path / "run" / "model" / "manifest.json").read_text())
    assert manifest["protocol"]["fit"] == "train+valid" and manifest["protocol"]["epochs"] == chosen
    data = load_data(few_users)
    split = load_task("leave_one_out").make(data)
    seen = weights(tmp_path / "run")["seen"]
    assert (seen == (split.train_valid.counts() > 0)).all() and (seen != (split.train.counts() > 0)).any()


def test_another_seed_is_another_model_and_features_are_chosen_by_name(run, few_users, tmp_path):
    train(few_users, tmp_path / "run", "seed=1", "items.features=[collaborative,text]", "items.collaborative_dim=8")
    card = load_sequential(tmp_path / "run").recommender.card
    assert card["features"] == ["collaborative", "text"] and card["seed"] == 1
    train(few_users, tmp_path / "ids", "items.features=[]", "id_start=normal", "epochs=1")
    recommender = load_sequential(tmp_path / "ids").recommender
    assert recommender.card["features"] == []
    unseen = ~recommender.network.seen.numpy()
    assert unseen.any() and not recommender.item_vectors()[unseen].any()


def test_a_dry_run_says_what_the_training_takes_and_leaves_no_model(few_users, tmp_path, capsys):
    expected = train(few_users, tmp_path / "run", dry_run=True)
    assert expected.num_steps == 3 * AN_EPOCH and expected.num_validations == 3 and expected.seconds > 0
    assert "estimate: " in capsys.readouterr().out and not (tmp_path / "run" / "model").exists()


def test_what_cannot_be_trained_is_refused_in_words(few_users, tmp_path):
    with pytest.raises(ConfigError, match="without ids"):
        train(few_users, tmp_path / "run", "use_ids=false", "items.features=[]")
    with pytest.raises(ConfigError, match="multiple of num_heads"):
        train(few_users, tmp_path / "run", "dim=15")
    with pytest.raises(DataError, match="no features 'vectors'"):
        train(few_users, tmp_path / "run", "items.features=[vectors]")
    assert not (tmp_path / "run" / "config.yaml").exists()
