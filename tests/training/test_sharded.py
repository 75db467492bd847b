"""Sharded training: FSDP2 in two processes gives what whole copies give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.numpy import load_file
from torch import nn

from llmrec.artifacts.run_folder import load_artifact
from llmrec.errors import ConfigError
from llmrec.resources import resource_path
from llmrec.training.checkpoints import last_complete_checkpoint, read_log
from llmrec.training.sharded import make_plain, make_shardable, whole_outside_layers
from tests.recipes.running import settings


def train(few_users: Path, model: str, run: Path, *, sharded: bool) -> str:
    """The recipe in two processes on the CPU; returns what they printed."""
    overrides = settings(
        few_users, model, run, "training.batch_size=2", "items.start=collaborative", "items.collaborative_dim=16",
        "validation.max_users=80",
    )  # fmt: skip
    recipes = resource_path("recipes")
    how = ["--config_file", str(recipes / "configs" / "accelerate" / f"{'fsdp2' if sharded else 'multi_gpu'}.yaml")]
    through = [str(Path(__file__).parents[1] / "recipes" / "fsdp_on_processor.py")] if sharded else []
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *how, "--num_processes", "2", *through,
         str(recipes / "next_item.py"), *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(run: Path) -> dict:
    """Every trained tensor of a finished run."""
    adapter = load_file(run / "model" / "adapter" / "adapter_model.safetensors")
    return {**load_file(run / "model" / "item_table.safetensors"), **adapter}


@pytest.mark.slow
def test_fsdp_gives_the_losses_rankings_and_artifact_of_whole_copies_and_resumes(few_users, tiny_model, tmp_path):
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    train(few_users, tiny_model, whole, sharded=False)
    said = train(few_users, tiny_model, sharded, sharded=True)
    assert "units: ['', 'backbone.causal_lm.model.layers.0', 'backbone.causal_lm.model.layers.1']" in said
    for name in ("loss", "grad_norm", "eval_ndcg@10"):
        expected, found = (
            [record[name] for record in read_log(run / "training_log.jsonl") if name in record]
            for run in (whole, sharded)
        )
        assert len(found) in (3, 12) and found == pytest.approx(expected, rel=1e-3), name
    expected, found = weights(whole), weights(sharded)
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in expected.items()}
    for name in expected:
        assert found[name] == pytest.approx(expected[name], abs=1e-4), name
    assert load_artifact(sharded).backbone.item_table.log_scale.ndim == 0

    again = tmp_path / "again"
    shutil.copytree(sharded, again, ignore=shutil.ignore_patterns("model", "checkpoint-12"))
    assert last_complete_checkpoint(again / "checkpoints") is not None
    train(few_users, tiny_model, again, sharded=True)
    losses = [
        [(record["step"], record["loss"]) for record in read_log(run / "training_log.jsonl") if "loss" in record]
        for run in (sharded, again)
    ]
    assert losses[0] == losses[1], "each step once, and the steps after the checkpoint as if nothing had happened"
    resumed = weights(again)
    assert all((resumed[name] == found[name]).all() for name in found)


def test_a_model_that_is_whole_stays_the_very_same():
    model = nn.Linear(2, 2)
    before = list(model.parameters())
    with whole_outside_layers(model):
        make_plain(model, frozenset())
    assert all(now is then for now, then in zip(model.parameters(), before, strict=True))


def test_parameters_that_were_given_a_dimension_lose_it_again_and_tied_ones_stay_one():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor([2.0]))
    model.inner = nn.Module()
    model.inner.scale = model.scale
    make_plain(model, frozenset({"scale"}))
    assert model.scale.shape == () and model.scale is model.inner.scale and model.scale.requires_grad


def test_scalars_get_a_dimension_only_where_they_are_to_be_sliced_and_the_first_fsdp_is_refused():
    def accelerator(kind: DistributedType, version: int = 2) -> SimpleNamespace:
        return SimpleNamespace(
            distributed_type=kind, state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=version))
        )

    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(2.0))
    scale = model.scale
    assert make_shardable(model, accelerator(DistributedType.MULTI_GPU)) == frozenset() and scale.shape == ()
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        make_shardable(model, accelerator(DistributedType.FSDP, version=1))
    assert make_shardable(model, accelerator(DistributedType.DEEPSPEED)) == {"scale"}
    assert model.scale is scale and scale.shape == (1,), "the optimiser's own parameter, in place"
    make_plain(model, frozenset({"scale"}))
    assert model.scale.shape == () and float(model.scale.detach()) == 2.0
