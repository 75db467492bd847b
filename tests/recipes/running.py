"""Runs a recipe as a user does, in a process of its own or in this one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from llmrec.config import load_config
from llmrec.resources import resource_path


def settings(data: Path, model: str, output: Path, *more: str) -> list[str]:
    """Overrides for a small float32 run of next_item without dropout."""
    return [
        f"data={data}", f"output={output}", f"backbone.name={model}", "backbone.dtype=float32", "items.form=unique_id",
        "items.start=random",
        "prompt.max_history=20", "lora.rank=4", "lora.dropout=0", "training.batch_size=4", "training.max_steps=12",
        "training.evaluate_every=4", "training.log_every=1", "validation.max_users=40", *more,
    ]  # fmt: skip


def load_recipe(name: str) -> ModuleType:
    """recipes/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, resource_path("recipes") / f"{name}.py")
    recipe = importlib.util.module_from_spec(spec)
    sys.modules[name] = recipe  # pydantic looks its annotations up there
    spec.loader.exec_module(recipe)
    return recipe


def run_here(overrides: list[str], *, fresh: bool = False) -> None:
    """recipes/next_item.py in this process."""
    recipe = load_recipe("next_item")
    recipe.main(load_config(recipe.NextItem, None, overrides), fresh=fresh)


def launch(overrides: list[str], *, processes: int = 1) -> subprocess.Popen:
    """`accelerate launch recipes/next_item.py`, as its own process group."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "ACCELERATE_USE_CPU": "true",
    }
    # accelerate starts several processes under the name multi_gpu; with ACCELERATE_USE_CPU they talk over gloo
    how = ["--cpu"] if processes == 1 else ["--multi_gpu", "--num_machines", "1"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "--num_processes", str(processes)]
    return subprocess.Popen(
        [*command, str(resource_path("recipes") / "next_item.py"), *overrides],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
