"""The checkpoint that vLLM serves: made once beside the run, made anew when the run changes, nothing of others touched."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrec.artifacts.run_folder import load_artifact, read_manifest
from llmrec.artifacts.served_checkpoint import check_exportable, served_checkpoint
from llmrec.errors import ConfigError, LlmrecError


@pytest.fixture
def model_folder(tiny_run, tmp_path):
    return shutil.copytree(tiny_run / "model", tmp_path / "run" / "model")


def test_it_is_made_once_and_made_anew_when_the_weights_change(model_folder):
    model = load_artifact(model_folder, dtype=torch.float32)
    made = served_checkpoint(model_folder, model)
    assert made == model_folder.parent / "model-exported"
    first = load_file(made / "model.safetensors")["lm_head.weight"]
    written = (made / "model.safetensors").stat().st_mtime_ns
    assert served_checkpoint(model_folder, model) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == written
    table = load_file(model_folder / "item_table.safetensors")
    save_file({name: value + 1 for name, value in table.items()}, model_folder / "item_table.safetensors")
    manifest = json.loads((model_folder / "manifest.json").read_text())
    del manifest["weights"]  # as in runs before there were checksums
    (model_folder / "manifest.json").write_text(json.dumps(manifest))
    again = load_artifact(model_folder, dtype=torch.float32)
    assert served_checkpoint(model_folder, again) == made
    last = load_file(made / "model.safetensors")["lm_head.weight"]
    words = again.backbone.base_vocab_size
    assert torch.equal(last[:words], first[:words]) and not torch.equal(last[words:], first[words:])
    assert sorted(path.name for path in model_folder.parent.iterdir()) == ["model", "model-exported"]


def test_what_somebody_else_put_there_is_left_alone(model_folder):
    theirs = model_folder.parent / "model-exported"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")
    with pytest.raises(LlmrecError, match="holds something else"):
        served_checkpoint(model_folder, load_artifact(model_folder, dtype=torch.float32))
    assert [path.name for path in theirs.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_beside_a_run_that_cannot_be_written_the_cache_holds_it(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    model = load_artifact(model_folder, dtype=torch.float32)
    model_folder.parent.chmod(0o555)
    try:
        made = served_checkpoint(model_folder, model)
        assert made.is_relative_to(tmp_path / "cache") and served_checkpoint(model_folder, model) == made
    finally:
        model_folder.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantize": "nf4"}, "was trained on nf4 weights"),
        ({"adapters": {"prefix": {"num_tokens": 3}}}, "layer adapters or a prefix"),
        ({"adapters": {"layer_adapter": {"hidden_dim": 4, "after": ["mlp"]}}}, "layer adapters or a prefix"),
        ({"prompt_forms": ["text", "image"]}, "shows the model images"),
    ],
)
def test_a_run_without_a_plain_checkpoint_is_refused_in_a_sentence_that_names_the_torch_engine(tiny_run, changes, said):
    manifest = read_manifest(tiny_run)
    check_exportable(manifest)
    with pytest.raises(ConfigError, match=f'{said}.*engine="torch"'):
        check_exportable({**manifest, **changes})
