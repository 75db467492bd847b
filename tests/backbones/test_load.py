"""Which commit a hub name stands for, read off the files that the hub's own client leaves behind."""

from pathlib import Path

import pytest

from llmrec.artifacts.run_folder import load_artifact
from llmrec.backbones import load
from llmrec.backbones.pretrained import load_backbone
from llmrec.errors import ModelError
from tests.recipes.running import run_here, settings

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub_copy(tiny_model, tmp_path, monkeypatch) -> Path:
    """The cache of huggingface_hub with two commits of somebody/tiny, main at the second, and no hub to ask."""
    repository = tmp_path / "hub" / "models--somebody--tiny"
    for commit in (OLD, NEW):
        (repository / "snapshots" / commit).mkdir(parents=True)
        for file in Path(tiny_model).iterdir():
            blob = repository / "blobs" / f"{file.name}-{commit[:1]}"
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(file.read_bytes())
            (repository / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / blob.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    (repository / "refs" / "v1").write_text(OLD)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(load, "hub_reachable", lambda: False)
    return repository


def test_a_hub_name_becomes_the_commit_of_its_branch(hub_copy):
    found = load.resolve("somebody/tiny")
    assert (found.name, found.source, found.revision) == ("somebody/tiny", "hub", NEW)
    assert Path(found.path) == hub_copy / "snapshots" / NEW  # by name, transformers would ask the hub again and again
    assert load.resolve("somebody/tiny", revision="v1").revision == OLD
    assert load.resolve("somebody/tiny", revision=OLD).revision == OLD
    assert str(hub_copy) not in str(found.card())


def test_a_moved_branch_is_another_revision(hub_copy):
    (hub_copy / "refs" / "main").write_text(OLD)
    assert load.resolve("somebody/tiny").revision == OLD


def test_a_revision_that_is_not_here_is_refused(hub_copy):
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load.resolve("somebody/tiny", revision="v2")


def test_the_weights_loaded_are_those_of_the_commit(hub_copy):
    (hub_copy / "snapshots" / OLD / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="loading it failed"):
        load_backbone("somebody/tiny", revision="v1")
    assert load_backbone("somebody/tiny").source.revision == NEW


def test_a_name_on_the_hub_that_it_does_not_have_is_one_sentence(monkeypatch):
    def missing(*_, **__):
        raise OSError("404 Client Error.\n\nRepository Not Found for url")

    monkeypatch.setattr(load, "hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", missing)
    with pytest.raises(ModelError, match=r"called 'no/such' \(revision main\), but: 404 Client Error"):
        load.resolve("no/such")


def test_a_folder_with_an_adapter_alone_says_what_to_do(tmp_path):
    from peft import LoraConfig

    LoraConfig(base_model_name_or_path="somebody/tiny").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="holds a PEFT adapter alone; merge it into its base model"):
        load.resolve(str(tmp_path))


@pytest.mark.slow
def test_a_run_gets_the_commit_it_was_trained_on_also_when_main_has_moved(hub_copy, few_users, tmp_path):
    run_here(settings(few_users, "somebody/tiny", tmp_path / "run", "training.max_steps=1", "validation.max_users=10"))
    (hub_copy / "refs" / "main").write_text(OLD)
    assert load_artifact(tmp_path / "run").backbone.source.revision == NEW
