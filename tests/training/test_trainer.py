"""The order of rows, and what a checkpoint may hold."""

import numpy as np
import pytest
import torch

from llmrec.errors import ArtifactError
from llmrec.training.checkpoints import last_complete_checkpoint, read_log
from llmrec.training.trainer import LengthSampler, Objective
from tests.tiny import tiny_backbone

LENGTHS = np.random.default_rng(0).integers(2, 60, 500).tolist()


def test_every_row_comes_once_an_epoch_in_an_order_that_the_epoch_decides():
    sampler = LengthSampler(8, LENGTHS, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(500))
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first and sorted(second) == list(range(500))
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_rows_of_a_batch_have_like_length():
    def padding(order):
        batches = [[LENGTHS[row] for row in order[start : start + 8]] for start in range(0, 496, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(list(LengthSampler(8, LENGTHS, seed=0))) < 0.3 * padding(list(range(500)))


def test_batches_of_long_and_short_rows_are_mixed():
    order = list(LengthSampler(8, LENGTHS, seed=0))
    means = [np.mean([LENGTHS[row] for row in order[start : start + 8]]) for start in range(0, 496, 8)]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.5, "a batch's length says little of the next one's"


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
