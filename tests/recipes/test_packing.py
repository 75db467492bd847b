"""The recipe on packed rows: the losses of padded batches, and settings that cannot be packed."""

import json
import shutil

import pytest
import yaml

from llmrec.artifacts.run_folder import load_artifact
from llmrec.errors import ConfigError, ModelError
from llmrec.prompting import packing
from llmrec.prompting.collators import Collator
from llmrec.recommenders.generative import recommender_of
from llmrec.training.checkpoints import read_log
from tests.recipes.running import run_here, settings

pytestmark = pytest.mark.slow
ANSWERS = ("prompt.targets=last_item", "prompt.name=next_item/instruction")
SHORT = ("training.max_steps=4", "validation.max_users=4", "validation.num_beams=10")


def losses(run):
    """The training loss of every step."""
    return [record["loss"] for record in read_log(run / "training_log.jsonl") if "loss" in record]


@pytest.mark.parametrize("rows", [(), ANSWERS])
def test_segments_give_the_losses_of_padded_batches(rows, few_users, tiny_model, tmp_path):
    for name in ("none", "segments"):
        run_here(settings(few_users, tiny_model, tmp_path / name, *SHORT, *rows, f"training.packing={name}"))
    assert len(losses(tmp_path / "none")) == 4
    assert losses(tmp_path / "segments") == pytest.approx(losses(tmp_path / "none"), rel=1e-4)


def test_branches_give_the_losses_of_the_same_rows_padded(few_users, tiny_model, tmp_path, monkeypatch):
    more = (*SHORT, *ANSWERS, "training.packing=branches", "training.gradient_accumulation=2")
    run_here(settings(few_users, tiny_model, tmp_path / "packed", *more))
    monkeypatch.setattr(packing, "make_collator", lambda packing, pad_token_id: Collator(pad_token_id))
    run_here(settings(few_users, tiny_model, tmp_path / "padded", *more))
    assert losses(tmp_path / "packed") == pytest.approx(losses(tmp_path / "padded"), rel=1e-4)


def test_left_to_itself_a_run_packs_segments_and_says_so_in_its_settings(tiny_run):
    assert "packing: segments" in (tiny_run / "config.yaml").read_text()


def test_a_model_that_cannot_be_packed_is_padded_aloud_or_refused(few_users, tiny_model, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "sliding_window": 4}))
    with pytest.raises(ModelError, match=r"set training\.packing=none"):
        run_here(settings(few_users, str(model), tmp_path / "asked", *SHORT, "training.packing=segments"))
    run_here(settings(few_users, str(model), tmp_path / "auto", *SHORT))
    assert "batches are padded, not packed: LlamaForCausalLM does not compute" in capsys.readouterr().out
    assert "packing: none" in (tmp_path / "auto" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.packing=branches", r"set training\.packing=segments"),
        ("training.packing=dense", "'training.packing'"),
        ("loss.softmax_scope=tree", "'loss.softmax_scope'"),
    ],
)
def test_a_setting_that_cannot_be_packed_is_refused(few_users, tiny_model, tmp_path, setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run_here(settings(few_users, tiny_model, tmp_path / "run", setting))


def test_titles_have_no_levels(few_users, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=r"Take loss\.softmax_scope=trie"):
        run_here(settings(few_users, tiny_model, tmp_path / "run", "items.form=text", "loss.softmax_scope=level"))


@pytest.mark.parametrize("form", ["unique_id", "text"])
def test_a_run_trained_by_the_rule_trie_is_decoded_by_it(form, few_users, tiny_model, tmp_path):
    run_here(settings(few_users, tiny_model, tmp_path / "run", *SHORT, f"items.form={form}", "loss.softmax_scope=trie"))
    assert all(loss > 0 for loss in losses(tmp_path / "run"))
    model = load_artifact(tmp_path / "run" / "model")
    assert model.softmax_scope == "trie"
    assert recommender_of(model).num_items == model.item_tokens.num_items


def test_the_rule_trie_trains_semantic_ids_packed_by_branches(tiny_code_run, few_users, tiny_model, tmp_path):
    codes = yaml.safe_load((tiny_code_run / "config.yaml").read_text())["items"]["semantic_ids"]
    more = (*SHORT, *ANSWERS, "items.form=semantic_id", f"items.semantic_ids={codes}", "training.packing=branches")
    for scope in ("trie", "level"):
        run_here(settings(few_users, tiny_model, tmp_path / scope, *more, f"loss.softmax_scope={scope}"))
    assert json.loads((tmp_path / "trie" / "model" / "manifest.json").read_text())["softmax_scope"] == "trie"
    assert losses(tmp_path / "trie")[0] < losses(tmp_path / "level")[0], "fewer tokens compete"
