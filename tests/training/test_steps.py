"""Trainings of several steps: what each moves, and that a finished one is read again."""

import pytest
import torch
from safetensors.torch import save_file

from llmrec.backbones.adapters import add_lora, trainable_parts, trained_state
from llmrec.errors import ArtifactError
from llmrec.training.settings import TrainingSettings
from llmrec.training.steps import TRAINED, move_only, read_finished, steps_of, write_finished
from tests.tiny import tiny_backbone


@pytest.mark.parametrize(
    ("schedule", "names"),
    [("two_step", ["words", "soft"]), ("curriculum", ["joint"]), ("joint", ["joint"]), ("words", ["words"])],
)
def test_only_the_second_of_two_steps_has_settings_of_its_own(schedule, names):
    first, second = TrainingSettings(max_steps=1), TrainingSettings(max_steps=2)
    steps = steps_of(schedule, first, second)
    assert [step.name for step in steps] == names
    assert [step.settings for step in steps] == [first, second][: len(names)]


def test_a_finished_step_is_read_back_and_another_parts_weights_are_left_alone(tmp_path):
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    parts = trainable_parts(backbone, adapter_lr=0, embedding_lr=0, weight_decay=0)
    assert not read_finished(tmp_path, backbone)
    lora = parts[0].parameters
    with torch.no_grad():
        lora[0].fill_(3.0)
    write_finished(tmp_path, backbone)
    embedding = backbone.causal_lm.get_input_embeddings().weight
    with torch.no_grad():
        lora[0].zero_()
        embedding.fill_(7.0)
    assert read_finished(tmp_path, backbone)
    assert (lora[0] == 3.0).all() and (embedding == 7.0).all()


@pytest.mark.parametrize(
    ("foreign", "sentence"),
    [
        (lambda state: {}, "train different parts, for example .*lora_"),
        (lambda state: state | {"other": torch.ones(1)}, "train different parts, for example other; give"),
        (lambda state: {name: torch.ones(1) for name in state}, r"of shape \(1,\), but the model's is \("),
    ],
    ids=["a part is missing", "another part", "another shape"],
)
def test_a_foreign_step_is_refused_and_nothing_of_it_is_read(tmp_path, foreign, sentence):
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    before = {name: tensor.clone() for name, tensor in trained_state(backbone).items()}
    save_file(foreign(before), tmp_path / TRAINED)
    with pytest.raises(ArtifactError, match=sentence):
        read_finished(tmp_path, backbone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained_state(backbone).items())


def test_a_step_moves_what_it_names():
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    parts = trainable_parts(backbone, adapter_lr=0, embedding_lr=0, weight_decay=0)
    move_only(parts, lambda part: False)
    assert not any(p.requires_grad for p in backbone.parameters())
    move_only(parts, lambda part: part.name == "LoRA")
    assert {id(p) for p in backbone.parameters() if p.requires_grad} == {id(p) for p in parts[0].parameters}


def test_a_cut_file_of_a_finished_step_is_a_sentence(tmp_path):
    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    write_finished(tmp_path, backbone)
    whole = (tmp_path / TRAINED).read_bytes()
    (tmp_path / TRAINED).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"cannot be read .* start over with --fresh"):
        read_finished(tmp_path, backbone)
