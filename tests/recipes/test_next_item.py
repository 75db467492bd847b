"""The recipe as users run it: resumed, spread over processes, finished, refused."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.data.folder import load_data
from llmrec.data.prepare import prepare
from llmrec.errors import ConfigError, DataError
from llmrec.evaluation.runner import evaluate
from llmrec.evaluation.tasks import load_task
from llmrec.items.semantic_ids import SemanticIDs
from llmrec.nn.item_table import ItemTable
from llmrec.recommenders.generative import recommender_of
from llmrec.training.checkpoints import last_complete_checkpoint, read_log
from tests.recipes.running import launch, run_here, settings

pytestmark = pytest.mark.slow


def weights(run):
    """Every trained tensor of a finished run."""
    table = load_file(run / "model" / "item_table.safetensors")
    return {**table, **load_file(run / "model" / "adapter" / "adapter_model.safetensors")}


@pytest.fixture(scope="module")
def unbroken(few_users, tiny_model, tmp_path_factory):
    """A finished run that nothing disturbed."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    process = launch(settings(few_users, tiny_model, run))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return run


def test_killed_run_resumes_to_the_weights_of_an_unbroken_run(unbroken, few_users, tiny_model, tmp_path):
    run = tmp_path / "run"
    process = launch(settings(few_users, tiny_model, run))
    log = run / "training_log.jsonl"
    deadline = time.monotonic() + 240
    while not any(record["step"] >= 6 and "loss" in record for record in read_log(log)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run / "model").exists()
    half_written = run / "checkpoints" / "checkpoint-99"
    shutil.copytree(run / "checkpoints" / "checkpoint-4", half_written)
    (half_written / "model.safetensors").write_bytes(b"cut short")
    assert last_complete_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-4"

    resumed = launch(settings(few_users, tiny_model, run))
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert "checkpoint-99' is half-written" in output
    expected, found = weights(unbroken), weights(run)
    assert expected.keys() == found.keys()
    for name in expected:
        assert (expected[name] == found[name]).all(), name
    steps = [record["step"] for record in read_log(log) if "loss" in record]
    assert steps == list(range(1, 13)), "each step stands in the log once"


def test_two_processes_give_the_losses_of_one(unbroken, few_users, tiny_model, tmp_path):
    process = launch(settings(few_users, tiny_model, tmp_path / "run", "training.batch_size=2"), processes=2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    one = [record["loss"] for record in read_log(unbroken / "training_log.jsonl") if "loss" in record]
    two = [record["loss"] for record in read_log(tmp_path / "run" / "training_log.jsonl") if "loss" in record]
    assert len(one) == len(two) == 12
    assert two == pytest.approx(one, rel=1e-4)


def test_accumulated_micro_batches_give_the_losses_of_one_batch(unbroken, few_users, tiny_model, tmp_path):
    run_here(
        settings(few_users, tiny_model, tmp_path / "run", "training.batch_size=1", "training.gradient_accumulation=4")
    )
    one = [record["loss"] for record in read_log(unbroken / "training_log.jsonl") if "loss" in record]
    four = [record["loss"] for record in read_log(tmp_path / "run" / "training_log.jsonl") if "loss" in record]
    assert four == pytest.approx(one, rel=1e-4)


def test_a_finished_run_is_left_as_it_is(unbroken, few_users, tiny_model, capsys):
    before = (unbroken / "model" / "manifest.json").stat().st_mtime_ns
    run_here(settings(few_users, tiny_model, unbroken))
    assert "finished and left as it is" in capsys.readouterr().out
    assert (unbroken / "model" / "manifest.json").stat().st_mtime_ns == before


def test_a_run_folder_with_other_settings_is_refused(unbroken, few_users, tiny_model):
    with pytest.raises(ConfigError, match=r"lora.rank was 4, is 8"):
        run_here(settings(few_users, tiny_model, unbroken, "lora.rank=8"))


def test_a_folder_with_other_files_is_refused(few_users, tiny_model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        run_here(settings(few_users, tiny_model, tmp_path), fresh=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.batch_size=0", "'training.batch_size' .* greater than or equal to 1"),
        ("items.dropout=1", "'items.dropout' .* less than 1"),
        ("prompt.max_tokens=100000", "has only 2048 positions"),
        ("prompt.history_step=21", "1 to max_history=20; it is 21"),
        ("training.max_steps=0", "'training.max_steps' .* -1 to go by training.epochs"),
        ("seed=4294967296", "'seed' .* less than or equal to 4294967295"),
        ("training.log_every=1000000000000", "'training.log_every' .* below 4294967296"),
        ("alignment.tasks={title_to_item: -1}", "'alignment.tasks' .* title_to_item so often"),
        ("backbone.scratch={hidden_size: 100, num_heads: 8}", "even multiple of num_heads"),
        (
            "items.start=collaborative",
            r"items.collaborative_dim is 2000, but 1682 items .* items.collaborative_dim=1682 or less",
        ),
        ("training.trackers=[abacus]", "the tracker 'abacus' is not installed"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_training(few_users, tiny_model, tmp_path, setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run_here(settings(few_users, tiny_model, tmp_path / "run", "items.collaborative_dim=2000", setting))


def test_semantic_ids_of_another_catalogue_are_refused(few_users, tiny_model, tmp_path):
    num_items = load_data(few_users).catalog.num_items
    row = np.arange(num_items, dtype=np.int32)[:, None]
    SemanticIDs(row, (num_items,), card={"catalog_hash": "another"}).save(tmp_path / "codes")
    with pytest.raises(ConfigError, match="made for another catalogue"):
        run_here(
            settings(
                few_users,
                tiny_model,
                tmp_path / "run",
                "items.form=semantic_id",
                f"items.semantic_ids={tmp_path}/codes",
            )
        )


def test_data_without_a_target_to_train_on_is_refused(few_users, tiny_model, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{n},{n}\n" for n in range(4)))
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,0\nu,1\nu,2\nv,1\nv,2\nv,3\n")
    prepare(tmp_path / "items.csv", tmp_path / "events.csv", tmp_path / "data")
    with pytest.raises(DataError, match="nothing to train on"):
        run_here(settings(tmp_path / "data", tiny_model, tmp_path / "run", "prompt.targets=last_item"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Prepares 12 or more items, in their order or backwards, and users who go from each to the next, into one folder."""
    folder = tmp_path_factory.mktemp("chain")

    def made(num_items=12, *, backwards=False):
        order = range(num_items)[:: -1 if backwards else 1]
        items = "".join(f"i{item},Film {item}\n" for item in order)
        (folder / "items.csv").write_text(f"item_id,title\n{items}")
        events = "".join(f"u{user},i{(user + step) % 12}\n" for user in range(12) for step in range(6))
        (folder / "events.csv").write_text(f"user_id,item_id\n{events}")
        shutil.rmtree(folder / "data", ignore_errors=True)
        prepare(folder / "items.csv", folder / "events.csv", folder / "data")
        return folder / "data"

    return made


def test_a_training_does_not_go_on_over_data_that_were_prepared_again(chain, tiny_model, tmp_path):
    run, more = tmp_path / "run", ("training.max_steps=2", "training.evaluate_every=1", "items.place_unseen=false")
    run_here(settings(chain(), tiny_model, run, *more))
    shutil.rmtree(run / "model")  # as if it had been killed just before
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for data in (chain(backwards=True), chain(14)):
        with pytest.raises(
            ConfigError, match=r"changed since \(.*items and events.*\): was the data folder prepared again"
        ):
            run_here(settings(data, tiny_model, run, *more))
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    run_here(settings(chain(), tiny_model, run, *more))
    assert (run / "model" / "manifest.json").exists(), "restored, it goes on"


def test_a_run_begun_before_there_were_negatives_to_choose_goes_on_with_all(unbroken, few_users, tiny_model, tmp_path):
    config = (unbroken / "config.yaml").read_text()
    assert "\n  negatives: seen\n" in config and read_manifest(unbroken)["protocol"]["negatives"] == "seen"
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    shutil.rmtree(run / "model")
    (run / "config.yaml").write_text(config.replace("\n  negatives: seen\n", "\n"))
    with pytest.raises(ConfigError, match=r"loss\.negatives was 'auto', is 'seen'"):
        run_here(settings(few_users, tiny_model, run, "loss.negatives=seen"))
    run_here(settings(few_users, tiny_model, run))
    assert "\n  negatives: all\n" in (run / "config.yaml").read_text()
    assert read_manifest(run)["protocol"]["negatives"] == "all"


def test_an_item_without_training_events_keeps_the_embedding_it_began_with(few_users, tiny_model, tmp_path):
    data, more = load_data(few_users), ("training.weight_decay=0", "items.place_unseen=false", "training.max_steps=2")
    seen = load_task("leave_one_out").make(data).train.counts() > 0
    for negatives in ("seen", "all"):
        run = tmp_path / negatives
        run_here(settings(few_users, tiny_model, run, *more, "validation.max_users=2", f"loss.negatives={negatives}"))
        table = load_artifact(run).backbone.item_table
        norm = load_artifact(run).backbone.embedding_norm
        began = ItemTable(np.zeros(len(seen), int), table.weight.shape[1], norm=norm, seed=0).weight
        moved = (table.weight != began).any(dim=1).numpy()
        assert moved[seen].all() and (moved[~seen] == (negatives == "all")).all()


def test_loss_falls_on_real_rows(unbroken):
    losses = [record["loss"] for record in read_log(unbroken / "training_log.jsonl") if "loss" in record]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_decoder_trained_from_scratch_is_saved_whole_and_says_what_it_is(few_users, tiny_model, tmp_path):
    scratch = "backbone.scratch={hidden_size: 16, num_layers: 1, num_heads: 2, dropout: 0.1}"
    run_here(
        settings(few_users, tiny_model, tmp_path / "run", scratch, "training.max_steps=4", "items.place_unseen=false")
    )
    model = load_artifact(tmp_path / "run")
    assert model.card["backbone"]["source"] == "scratch" and model.card["backbone"]["name"] == "random llama"
    assert model.backbone.dim == 16
    best = [record for record in read_log(tmp_path / "run" / "training_log.jsonl") if "eval_ndcg@10" in record]
    data, task = load_data(few_users), load_task("leave_one_out")
    again = evaluate(recommender_of(model), data, task, "valid", max_instances=40)
    assert again.metrics["ndcg@10"]["value"] == pytest.approx(best[-1]["eval_ndcg@10"], abs=1e-6)


@pytest.mark.slow
def test_a_refit_learns_from_the_validation_targets_too_for_the_steps_that_they_chose(few_users, tiny_model, tmp_path):
    run = tmp_path / "run"
    more = (
        "refit=true",
        "training.max_steps=4",
        "training.evaluate_every=2",
        "items.place_unseen=false",
        "validation.max_users=8",
    )
    run_here(settings(few_users, tiny_model, run, *more))
    card = read_manifest(run)["protocol"]
    assert card["fit"] == "train+valid"
    again = [record for record in read_log(run / "refit" / "training_log.jsonl") if "loss" in record]
    first = [record for record in read_log(run / "training_log.jsonl") if "loss" in record]
    assert [record["step"] for record in again] == list(range(1, card["best_step"] + 1))
    assert again[0]["loss"] != first[0]["loss"], "other rows"
    assert again[-1]["learning_rate"] == pytest.approx(first[card["best_step"] - 1]["learning_rate"])
