"""Runs a recipe in accelerate's FSDP on CPUs that talk over gloo: `fsdp_on_processor.py RECIPE key=value ...`.

accelerate takes FSDP on accelerators only and trains whole copies on CPUs instead. Told here that its processes are many devices
which happen to be CPUs, it goes its usual way through `fully_shard`, sharded checkpoints and all.
"""

import runpy
import sys

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule

from llmrec.training import trainer


def say_units(model, scalars):
    """What is sharded, printed once before it is made plain again."""
    if PartialState().is_main_process:
        print("units:", [name for name, module in model.named_modules() if isinstance(module, FSDPModule)])
    make_plain(model, scalars)


torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
make_plain, trainer.make_plain = trainer.make_plain, say_units
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
