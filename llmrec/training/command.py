"""What every recipe's command line does: read settings, settle the run folder, say what is trained, fail in one sentence."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from transformers.utils.logging import disable_progress_bar

from llmrec.artifacts.run_folder import MANIFEST, MODEL_FOLDER
from llmrec.config import CONFIG, Settings, load_config, save_config
from llmrec.data.folder import Data
from llmrec.errors import ConfigError, DataError, LlmrecError, sentence_of_place
from llmrec.files import check_writable, put_back, remove_folder, sweep, unfinished, write_json
from llmrec.processes import end_with_parent, only_one
from llmrec.terminal import printable, say_warnings_in_sentences
from llmrec.training.checkpoints import CHECKPOINTS, LOG
from llmrec.training.cost import FILE, Estimate, Estimates
from llmrec.training.inputs import INPUTS, check_inputs

SettingsT = TypeVar("SettingsT", bound=Settings)


def recipe_main(settings: type[SettingsT], main: Callable[..., Estimate | Estimates | None], doc: str | None) -> None:
    """Parses `--config FILE [--fresh] [--dry-run [--json]] key=value ...` and runs `main(config, fresh=..., dry_run=...)`.

    A dry run writes to a folder that is gone afterwards. A mistake of the user's exits with 2.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file with the settings that differ from the defaults")
    parser.add_argument(
        "--fresh", action="store_true", help="start over, deleting what the run folder holds of this run"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say how long the training would take and what memory it needs, and stop"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: print the estimate as one JSON object")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that override the file's, such as lora.rank=8"
    )
    arguments = parser.parse_args()
    if arguments.json and not arguments.dry_run:
        parser.error("--json prints the estimate of a dry run: give --dry-run too")
    end_with_parent()
    say_warnings_in_sentences()
    try:
        # First of all: asked without `cpu`, each of several processes on the CPU would believe itself alone.
        PartialState(cpu=not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"))
        if not sys.stderr.isatty():
            disable_progress_bar()  # transformers draws them whoever reads
        config = load_config(settings, arguments.config, arguments.overrides)
        if arguments.dry_run:
            _dry_run(config, main, as_json=arguments.json)
        else:
            is_first = PartialState().is_main_process  # who alone writes
            with only_one(Path(config.output)) if is_first else contextlib.nullcontext():
                main(config, fresh=arguments.fresh)
    except LlmrecError as error:
        print(f"llmrec: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if (sentence := sentence_of_place(error)) is None:
            raise
        print(f"llmrec: {printable(sentence)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _dry_run(config: Settings, main: Callable[..., Estimate | Estimates | None], *, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        expected = main(config.model_copy(update={"output": folder}), fresh=True, dry_run=True)
    if as_json and PartialState().is_main_process:
        print(json.dumps(expected.to_json() if expected else None))


def settle_run_folder(config: SettingsT, folder: Path, *, fresh: bool) -> SettingsT | None:
    """Whether to start, resume or leave a run: returns the settings to train with, or None when the run is finished.

    A folder that holds a run with other settings is an error, so that no run is a mixture of two. Nothing is written or removed yet:
    that is `begin_run`, once the settings have turned out to make a training.

    Raises:
        ConfigError: the folder holds something else, or a run with other settings.
        LlmrecError: it cannot be written.
    """
    known = folder / CONFIG
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"expected a folder to write the run to, but '{folder}' is a file; choose another.")
    check_writable(folder)
    if folder.exists() and not known.exists() and set(folder.iterdir()) - {folder / INPUTS, *unfinished(folder)}:
        raise ConfigError(
            f"expected a new output folder or a run of llmrec, but '{folder}' holds other files; choose another."
        )
    if fresh or not known.exists():
        return config
    started_with = load_config(type(config), known)
    _check_same(config, started_with, folder)
    if (put_back(folder / MODEL_FOLDER) / MANIFEST).exists():
        sweep(folder)
        PartialState().print(f"the run in '{folder}' is finished and left as it is; --fresh starts over")
        return None
    return started_with.model_copy(update={"output": str(folder)})  # what was "auto" stays as it was settled then


def begin_run(
    config: Settings, folder: Path, *, num_rows: int, inputs: Mapping[str, str], fresh: bool, parts: Sequence[str] = ()
) -> None:
    """The last thing before training: settings as settled go into the folder, so that a resumed run does not choose anew, with a
    record of what is trained on, and a fresh start removes what the run before it left there.

    num_rows: training examples; inputs: see `training_inputs`; parts: files and folders that the recipe writes next to those of every
    training.

    Raises:
        DataError: there are no training examples.
        ConfigError: the run that is to go on was begun on something else.
    """
    if not num_rows:
        raise DataError(
            "there is nothing to train on: no user has a target among the training events. Use more data, or set "
            "prompt.targets=all_positions."
        )
    inputs = {"number of training examples": num_rows, **inputs}
    if not fresh and (folder / CONFIG).exists():
        check_inputs(inputs, folder)
    state = PartialState()
    state.wait_for_everyone()  # everybody has looked before anything is written
    if state.is_main_process:
        old = [folder / name for name in (MODEL_FOLDER, CHECKPOINTS, LOG, FILE, *parts)] if fresh else []
        sweep(folder)  # a model that was half written is as large as one
        for path in old:
            remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
        write_json(folder / INPUTS, inputs)
        save_config(config, folder / CONFIG)  # last: a run that was only half removed is still the old one
    state.wait_for_everyone()  # who looks for checkpoints now finds the folder as it is to be


def refuse_sharded(recipe: str) -> None:
    """Raises ConfigError where the model's weights are sharded: `recipe` reads the whole model again after it was trained."""
    if parse_flag_from_env("ACCELERATE_USE_FSDP") or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError(
            f"{recipe} needs the whole model in each process after training, so it cannot be launched with FSDP or DeepSpeed; use "
            "--launch multi_gpu, or one process."
        )


def data_facts(data: Data, split_card: dict[str, Any], *, seed: int, fit: str = "train") -> dict[str, Any]:
    """What every number of a model depends on, whatever recipe made it: JSON values for its protocol card.

    fit: the parts of the split that it learned from, "train" or "train+valid".
    """
    known = {name: data.card.get(name) for name in ("content_hash", "ties")}
    return {"data": data.card.get("name"), **known, "split": split_card, "fit": fit, "seed": seed}


def _check_same(now: Settings, then: Settings, folder: Path) -> None:
    different = [
        f"{key} was {a!r}, is {b!r}"
        for key, a, b in _differences(then.model_dump(), now.model_dump())
        if key != "output" and b != "auto"  # "auto" was settled when the run began
    ]
    if different:
        raise ConfigError(
            f"'{folder}' holds a run with other settings ({'; '.join(different[:3])}). "
            "Give the settings it was started with, another output, or --fresh to start over."
        )


def _differences(then: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found = []
    for key in then.keys() | now.keys():
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append((prefix + key, a, b))
    return sorted(found, key=lambda difference: difference[0])
