"""What a checkpoint may hold."""

import pytest
import torch

from llmrec.errors import ArtifactError
from llmrec.training.checkpoints import last_complete_checkpoint, read_log
from llmrec.training.trainer import Objective
from tests.tiny import tiny_backbone


def test_a_checkpoint_holds_the_trained_parameters_and_refuses_foreign_ones():
    from llmrec.backbones.adapters import add_lora

    backbone = tiny_backbone("llama")
    add_lora(backbone, rank=2, alpha=2, dropout=0.0)
    objective = Objective(backbone, lambda backbone, batch: (torch.zeros(()), 1))
    state = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    assert state and all("lora_" in name for name in state)
    objective.load_state_dict({name: tensor + 1 for name, tensor in state.items()})
    assert all(torch.equal(objective.state_dict()[name], tensor + 1) for name, tensor in state.items())
    with pytest.raises(ArtifactError, match="train different parts"):
        objective.load_state_dict({"backbone.other": torch.zeros(1)})


def test_a_log_with_half_a_last_line_is_read_up_to_there(tmp_path):
    log = tmp_path / "training_log.jsonl"
    log.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert read_log(log) == [{"step": 1, "loss": 2.5}]


def test_no_checkpoints_means_starting_at_the_beginning(tmp_path):
    assert last_complete_checkpoint(tmp_path / "checkpoints") is None
