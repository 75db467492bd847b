"""next_item with alignment, as users run it: one loss for words and items, resumed, refused."""

import os
import signal
import time

import pytest
from safetensors.numpy import load_file

from llmrec.artifacts.run_folder import load_artifact
from llmrec.errors import ConfigError
from llmrec.training.checkpoints import read_log
from tests.recipes.running import launch, run_here, settings

pytestmark = pytest.mark.slow

TASKS = "alignment.tasks={title_to_item: 0.5, item_to_title: 1, description_to_item: 0.2, history_to_title: 0.1}"
ALIGNED = (TASKS, "alignment.description=[genres]", "prompt.max_tokens=1500", "items.dropout=0")


def losses(run) -> list[float]:
    return [record["loss"] for record in read_log(run / "training_log.jsonl") if "loss" in record]


@pytest.fixture(scope="module")
def aligned(few_items, tiny_model, tmp_path_factory):
    """A finished run with semantic ids and alignment that nothing disturbed, and what it printed."""
    run = tmp_path_factory.mktemp("aligned") / "run"
    process = launch(settings(few_items, tiny_model, run, "items.form=semantic_id", *ALIGNED))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return run, output


def test_the_mixture_is_shown_before_training(aligned):
    _, output = aligned
    table = {
        line.split()[0]: line.split()[1:5] for line in output.splitlines() if "_to_" in line or "next_item " in line
    }
    assert table["title_to_item"][:3] == ["100", "0.5", "50"]
    assert table["item_to_title"][:3] == ["100", "1", "100"]
    assert float(table["next_item"][3].rstrip("%")) > 10


def test_items_are_decoded_by_the_rule_they_were_trained_by(aligned):
    assert load_artifact(aligned[0]).softmax_scope == "level"


def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_run(aligned, few_items, tiny_model, tmp_path):
    run = tmp_path / "run"
    overrides = settings(few_items, tiny_model, run, "items.form=semantic_id", *ALIGNED)
    process = launch(overrides)
    deadline = time.monotonic() + 240
    while not any(record["step"] >= 6 and "loss" in record for record in read_log(run / "training_log.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run / "model").exists()
    run_here(overrides)
    for name in ("item_table.safetensors", "adapter/adapter_model.safetensors"):
        expected, found = (load_file(folder / "model" / name) for folder in (aligned[0], run))
        assert expected.keys() == found.keys()
        for key in expected:
            assert (expected[key] == found[key]).all(), key


def test_padded_and_packed_batches_of_words_and_items_have_the_same_losses(aligned, few_items, tiny_model, tmp_path):
    packing = "training.packing=none"
    run_here(settings(few_items, tiny_model, tmp_path / "run", "items.form=semantic_id", packing, *ALIGNED))
    assert losses(tmp_path / "run") == pytest.approx(losses(aligned[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("form", "scope"),
    [("semantic_id", "trie"), ("semantic_id", "vocabulary"), ("unique_id", "trie"), ("soft", "level")],
)
def test_every_form_and_rule_trains_on_words_too(few_items, tiny_model, tmp_path, form, scope):
    short = ("training.max_steps=2", "training.evaluate_every=2", "validation.max_users=4", "soft.features=[text]")
    more = (f"items.form={form}", f"loss.softmax_scope={scope}", *short, *ALIGNED)
    run_here(settings(few_items, tiny_model, tmp_path / "run", *more))
    assert load_artifact(tmp_path / "run").softmax_scope == scope


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["alignment.tasks={title_to_items: 0}"], "the nearest is 'title_to_item'"),
        (["alignment.tasks={item_to_description: 1}"], "alignment.description"),
        (["alignment.tasks={title_to_item: -1}"], "which cannot be less than 0"),
        (
            ["alignment.tasks={title_to_item: 1}", "items.form=text", "loss.softmax_scope=vocabulary"],
            "in the text form",
        ),
    ],
)
def test_alignment_that_cannot_be_is_refused_before_training(few_items, tiny_model, tmp_path, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run_here(settings(few_items, tiny_model, tmp_path / "run", *more))
