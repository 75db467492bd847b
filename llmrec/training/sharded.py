"""Sharded models: what FSDP2 and DeepSpeed ask of ours that transformers' Trainer does not do for them.

Both refuse parameters without a dimension. Both put a parameter together while the module that owns it is called; ranking reads the
item table, and under FSDP2 the vocabulary, outside of such a call, and saving reads everything, so there it is done by hand. Nothing
here changes a model that is not sharded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.integrations import is_deepspeed_zero3_enabled

from llmrec.errors import ConfigError


def make_shardable(model: nn.Module, accelerator: Accelerator) -> frozenset[str]:
    """Before training: gives parameters of no dimension one, in place, where they are to be sharded. Returns their names.

    Raises:
        ConfigError: accelerate was told to use the first FSDP, which flattens frozen and trained parameters into one.
    """
    kind = accelerator.distributed_type
    if kind not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return frozenset()
    if kind == DistributedType.FSDP and accelerator.state.fsdp_plugin.fsdp_version != 2:
        raise ConfigError(
            "expected fsdp_version: 2 in the configuration given to accelerate, but it asks for the first FSDP, which cannot mix "
            "frozen and trained parameters; take the configuration that `llmrec train --launch fsdp2` uses."
        )
    scalars = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 0}
    for parameter in scalars.values():
        parameter.data = parameter.data.reshape(1)
    return frozenset(scalars)


@contextlib.contextmanager
def whole_outside_layers(model: nn.Module) -> Iterator[None]:
    """Inside, the trained embeddings and, under FSDP2, all that no transformer layer owns are whole in every process; the rest comes
    together module by module as it is called. All processes enter together.
    """
    if isinstance(model, FSDPModule):
        model.unshard()
        try:
            yield
        finally:
            model.reshard()
    elif is_deepspeed_zero3_enabled():
        import deepspeed

        with deepspeed.zero.GatheredParameters([p for name, p in model.named_parameters() if "item_table" in name]):
            yield
    else:
        yield


def make_plain(model: nn.Module, scalars: frozenset[str]) -> None:
    """After training: parameters as they were before `make_shardable`, whole, for saving; those that were sharded now lie on the
    CPU, and the model is not run again. All processes call it together.
    """
    plain: dict[nn.Parameter, nn.Parameter] = {}  # a tied parameter stays one parameter
    for name, parameter in model.named_parameters():
        whole = _whole(parameter)
        if name in scalars:
            whole = whole.reshape(())
        if whole is not parameter:
            plain[parameter] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter in plain:
                setattr(module, name, plain[parameter])


def _whole(parameter: nn.Parameter) -> torch.Tensor:
    if isinstance(parameter, DTensor):
        return parameter.full_tensor().detach().cpu()
    if is_deepspeed_zero3_enabled():
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().cpu().clone()
    return parameter
