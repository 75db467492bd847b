"""The configurations of accelerate that are shipped: read by accelerate's own reader, and made into what it makes of them."""

import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from llmrec.apps.shipped_recipes import launch_names
from llmrec.resources import resource_path
from llmrec.training.objectives import Objective
from tests.tiny import FAMILIES, tiny_backbone

KINDS = {
    "multi_gpu": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def path_of(name: str) -> str:
    return str(resource_path("recipes") / "configs" / "accelerate" / f"{name}.yaml")


def launched(name: str):
    """The arguments of `accelerate launch` once it has read the file, three processes asked for on its line."""
    parser = launch_command_parser()
    asked = parser.parse_args(
        ["--config_file", path_of(name), "--num_processes", "3", "recipes/next_item.py", "data=x"]
    )
    return _validate_launch_command(asked)[0]


def test_every_shipped_configuration_is_known_here():
    assert sorted(KINDS) == launch_names()


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it_and_leaves_precision_to_the_backbone(name):
    config = load_config_from_file(path_of(name))  # refuses unknown keys of the outer level
    assert (config.distributed_type, config.mixed_precision, config.use_cpu) == (KINDS[name], "no", False)
    arguments = launched(name)
    assert arguments.num_processes == 3, "the command line wins over the file"
    kinds = (arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed)
    assert kinds == tuple(
        KINDS[name] is kind for kind in (DistributedType.MULTI_GPU, DistributedType.FSDP, DistributedType.DEEPSPEED)
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_key_is_one_that_accelerate_knows(name):
    """`load_config_from_file` takes anything inside fsdp_config and deepspeed_config: a misspelt key would have no effect."""
    config = load_config_from_file(path_of(name))
    known = vars(launch_command_parser().parse_args(["recipe.py"]))
    for key in {**config.fsdp_config, **config.deepspeed_config}:
        assert key in known, key


def test_fsdp_shards_each_parameter_by_itself_and_saves_whole_ones(monkeypatch):
    before = launched("fsdp2")
    monkeypatch.setattr("os.environ", {})
    for key, value in prepare_multi_gpu_env(before).items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert not plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing
    objective = Objective(tiny_backbone("llama"), lambda backbone, batch: (batch["x"], 1))
    plugin.set_auto_wrap_policy(objective)
    classes = {found.__name__ for found in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]}
    assert classes == {"LlamaDecoderLayer"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_to_shard_are_found_in_every_family(family):
    objective = Objective(tiny_backbone(family), lambda backbone, batch: (batch["x"], 1))
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(objective)
    layers = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert sum(isinstance(module, tuple(layers)) for module in objective.modules()) == 2, "one unit a layer"


@pytest.mark.parametrize(("name", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_gets_the_stage_and_no_offload(name, stage, monkeypatch):
    monkeypatch.setattr("accelerate.utils.dataclasses.is_deepspeed_available", lambda: True, raising=False)
    inner = load_config_from_file(path_of(name)).deepspeed_config
    plugin = DeepSpeedPlugin(
        zero_stage=inner["zero_stage"],
        gradient_accumulation_steps=inner["gradient_accumulation_steps"],
        gradient_clipping=inner["gradient_clipping"],
        offload_optimizer_device=inner["offload_optimizer_device"],
        offload_param_device=inner["offload_param_device"],
        zero3_init_flag=inner["zero3_init_flag"],
    )
    made = json.loads(json.dumps(plugin.deepspeed_config))
    assert made["zero_optimization"]["stage"] == stage
    assert made["zero_optimization"]["offload_optimizer"]["device"] == "none"
    assert made["gradient_accumulation_steps"] == made["gradient_clipping"] == "auto", "the Trainer fills them in"


@pytest.mark.parametrize("name", KINDS)
def test_the_file_says_when_to_take_it_and_how_to_start_it(name):
    text = Path(path_of(name)).read_text(encoding="utf-8")
    assert f"llmrec train next_item --launch {name} " in text and yaml.safe_load(text)
