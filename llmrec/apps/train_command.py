"""`llmrec train`: a shipped recipe under `accelerate launch`, with the very line printed first."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.shipped_recipes import config_names, launch_names, nearest_sentence, recipe_names
from llmrec.errors import ConfigError
from llmrec.processes import end_with_parent, with_parent
from llmrec.resources import resource_path


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name that `llmrec recipes` lists.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value...", help="Settings on top of the config's.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="YAML file of settings, or the name of a shipped config of the recipe.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes to train in: one per accelerator, or several on the CPU.", min=1),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="How processes share the work: multi_gpu, fsdp2, deepspeed_zero2 or deepspeed_zero3, or a configuration that "
            "`accelerate config` wrote.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, deleting what the run folder holds.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how long it would take and what memory it needs, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = False,
) -> None:
    """Train by a recipe. An interrupted run goes on where it stopped; a finished one is left as it is.

    Whatever ends this command ends the training, which goes on when it is started again. One run folder has one training at a time.
    Prints the `accelerate launch` line that it runs: for several machines start from that line.

    \b
    Example:
      llmrec train next_item --config demo data=data/mine output=runs/mine lora.rank=16
      llmrec train next_item --dry-run --config demo data=data/mine output=runs/mine
      llmrec train next_item --launch fsdp2 --processes 8 data=data/mine output=runs/mine
    """
    if as_json and not dry_run:
        raise ConfigError("--json prints the estimate of a dry run: give --dry-run too.")
    arguments = [str(_recipe_path(recipe))]
    if config is not None:
        arguments += ["--config", str(_config_path(recipe, config))]
    chosen = {"--fresh": fresh, "--dry-run": dry_run, "--json": as_json}
    arguments += [option for option, given in chosen.items() if given]
    arguments += overrides or []
    options, environment = _launch_options(processes or 1) if launch is None else (_options_of(launch, processes), {})
    shown = [f"{name}={value}" for name, value in environment.items()]
    typer.echo(" ".join([*shown, shlex.join(["accelerate", "launch", *options, *arguments])]), err=True)
    end_with_parent()
    os.environ.update(with_parent() | environment)  # the trainer ends with this process
    status = _launch([*options, *arguments])
    if status:
        raise typer.Exit(status)


def _recipe_path(name: str) -> Path:
    known = recipe_names()
    if name not in known:
        raise ConfigError(f"there is no recipe '{name}' {nearest_sentence(name, known)}")
    return _short(resource_path("recipes") / f"{name}.py")


def _config_path(recipe: str, named: str) -> Path:
    """A shipped config by its name; anything that looks like a file as it is (the recipe says what is wrong with it)."""
    known = config_names(recipe)
    if named in known:
        return _short(resource_path("recipes") / "configs" / recipe / f"{named}.yaml")
    if Path(named).suffix in (".yaml", ".yml") or Path(named).is_file():
        return Path(named)
    raise ConfigError(f"there is no config '{named}' of the recipe '{recipe}' {nearest_sentence(named, known)}")


def _options_of(launch: str, processes: int | None) -> list[str]:
    """Options of `accelerate launch` for a configuration of its own, shipped or a file, after a look at whether it can work here."""
    import importlib.util

    import torch
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    from llmrec.yaml_text import read_yaml

    if launch in launch_names():
        path = _short(resource_path("recipes") / "configs" / "accelerate" / f"{launch}.yaml")
    elif Path(launch).is_file():
        path = Path(launch)
    else:
        raise ConfigError(f"there is no launch configuration '{launch}' {nearest_sentence(launch, launch_names())}")
    read_yaml(path, f"the launch configuration '{path}'")  # accelerate reads it without limits
    try:
        kind = load_config_from_file(str(path)).distributed_type
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"expected a configuration that `accelerate config` writes in '{path}': {first}") from error
    needs_cards = (DistributedType.MULTI_GPU, DistributedType.FSDP, DistributedType.DEEPSPEED)
    if kind in needs_cards and not torch.cuda.is_available():
        raise ConfigError(
            f"the launch configuration '{launch}' needs CUDA devices and there are none here, where accelerate would start whole "
            "copies on the CPU instead, without a word. Leave --launch out; --processes alone does that."
        )
    if kind == DistributedType.DEEPSPEED and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"the launch configuration '{launch}' needs DeepSpeed, which is not installed; run `pip install deepspeed`."
        )
    number = processes or (torch.cuda.device_count() if launch in launch_names() else None)
    return ["--config_file", str(path), *(["--num_processes", str(number)] if number else [])]


def _short(path: Path) -> Path:
    """The path as someone in this folder would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _launch_options(processes: int) -> tuple[list[str], dict[str, str]]:
    """Options of `accelerate launch`, all that it would else warn of guessing, and environment variables."""
    import torch

    threads = torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else torch.get_num_threads() // processes
    options = ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no",
               "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(max(threads, 1))]  # fmt: skip
    if processes > 1:
        # accelerate starts several processes under the name multi_gpu; with ACCELERATE_USE_CPU they talk over gloo
        on_processor = {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"}
        return ["--multi_gpu", "--main_process_port", "0", *options], on_processor
    return options if torch.cuda.is_available() else ["--cpu", *options], {}


def _launch(arguments: list[str]) -> int:
    """What `accelerate launch` does, in this process, so that the recipe's own exit status is not lost: 0 for success."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    except ChildFailedError as failed:
        return failed.get_first_failure()[1].exitcode
    return 0
