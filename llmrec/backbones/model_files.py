"""Model and run folders as anybody may have made them: checked before anything is built, and what libraries raise as sentences."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from llmrec.errors import ArtifactError, LlmrecError, ModelError
from llmrec.files import read_json

MAX_LAYERS = 1000  # the deepest models have some hundred
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "depth", "depths", "num_encoder_layers", "num_decoder_layers")
_MEND = "Its config.json and its weights do not belong together, or a file is missing; download the model again."


@contextlib.contextmanager
def loading(expected: str, advice: str = "", error: type[LlmrecError] = ModelError) -> Iterator[None]:
    """Turns whatever a library raises on a model's or run's files into an `error` of one sentence. Call nothing in it but loading.

    expected: what the files should be, such as "a language model in 'x'"; advice: what to do, a sentence.
    """
    try:
        yield
    except LlmrecError:
        raise
    # Everything: a file with other numbers in it fails wherever in transformers, PEFT or torch those happen to be used.
    except Exception as problem:
        raise error(f"expected {expected}; loading it failed: {first_line(problem)}. {advice}".rstrip()) from problem


def first_line(problem: BaseException) -> str:
    """What an exception says, as a part of a sentence."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    if isinstance(problem, KeyError):
        return f"{lines[0]} is missing" if lines else "a key is missing"
    said = " ".join(lines[:2]) if lines and lines[0].endswith(":") else lines[0] if lines else ""
    return (said[:300] or type(problem).__name__).rstrip(".")


def check_vocabulary(tokenizer: Any, num_embeddings: int, name: str) -> None:
    """Raises ModelError where the tokenizer gives ids that the model has no embedding for; more embeddings than tokens are common."""
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= num_embeddings:
        raise ModelError(
            f"the tokenizer of '{name}' gives token ids up to {highest}, but the model has {num_embeddings} embeddings, so the last "
            "tokens stand for nothing. They do not belong together, or tokens were added and the model was not resized: call "
            "model.resize_token_embeddings(len(tokenizer)), and save both again."
        )


def check_size(auto_class: Any, config: Any, path: str, name: str) -> None:
    """Raises ModelError where the configuration in a folder asks for a larger model than the folder has weights for.

    transformers makes room for everything that the configuration says before it looks for the weights. path: a folder, or a name on
    the hub, of which no file may be here yet.
    """
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        for key in _LAYERS:
            depth = getattr(part, key, None)
            depths = depth if isinstance(depth, list | tuple) else [depth]
            if any(isinstance(number, int | float) and not 0 <= number <= MAX_LAYERS for number in depths):
                raise ModelError(f"the config.json of '{name}' says {key} {depth}, which no model has. {_MEND}")
    files = [path for path in Path(path).glob("*") if path.suffix in (".safetensors", ".bin")]
    if not files:
        return
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in auto_class.from_config(config).parameters())
    if getattr(config, "quantization_config", None) is not None or any(file.suffix == ".bin" for file in files):
        there = 4 * sum(file.stat().st_size for file in files)  # two numbers a byte, and some room
    else:
        there = 2 * sum(math.prod(shape) for file in files for shape in shapes_in(file).values())
    if wanted > there:
        raise ModelError(
            f"the config.json of '{name}' asks for {wanted:,} weights, which are far more than its files hold. {_MEND}"
        )


def check_complete(found: Mapping[str, Any], name: str, *, unused: str = "") -> None:
    """Raises ModelError where weights of the model are in no file, or in another shape: transformers makes them up at random.

    found: what it reports, asked to go on over other shapes; unused: a word in the names of weights that nobody reads.
    """
    lacking = sorted(key for key in found["missing_keys"] if not unused or unused not in key)
    if lacking:
        raise ModelError(
            f"'{name}' lacks {len(lacking)} weights of its own model (the first is {lacking[0]}), which would be random. {_MEND}"
        )
    if found["mismatched_keys"]:
        key, there, wanted = sorted(found["mismatched_keys"], key=str)[0]
        raise ModelError(
            f"'{name}' has {key} of the shape {tuple(there)}, but its config.json asks for {tuple(wanted)}. {_MEND}"
        )


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, from its header. Raises what safetensors does; call it inside `loading`."""
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def check_lora_files(folder: Path, name: str, exclude: str | None) -> None:
    """Refuses a LoRA folder that asks for more than the weights in it, or for anything that `add_lora` never writes.

    PEFT builds what adapter_config.json says before it looks at the weights, and its patterns are regular expressions.
    name: the language model's; exclude: the pattern of modules that get no LoRA in this model. Raises ArtifactError.
    """
    from peft import LoraConfig

    for file in ("adapter_config.json", "adapter_model.safetensors"):
        # without them PEFT would take a pickle, or ask the hub for a model of the folder's name
        if not (folder / file).is_file():
            raise ArtifactError(f"expected a LoRA adapter for {name} in '{folder}', but {file} is missing.")
    path = folder / "adapter_config.json"
    settings = read_json(path, "settings of a LoRA adapter", ArtifactError)
    with loading(f"a LoRA adapter for {name} in '{folder}'", error=ArtifactError):
        shapes = shapes_in(folder / "adapter_model.safetensors")
    largest = max((max(shape, default=0) for shape in shapes.values()), default=0)
    rank, alpha, targets = settings.get("r"), settings.get("lora_alpha"), settings.get("target_modules")
    whole = isinstance(rank, int) and not isinstance(rank, bool) and 1 <= rank <= largest
    whole &= isinstance(alpha, int | float) and abs(alpha) < 1e6
    whole &= isinstance(settings.get("lora_dropout"), int | float) and 0 <= settings["lora_dropout"] < 1
    whole &= isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    whole &= settings.get("exclude_modules") in (None, exclude)
    # fan_in_fan_out: PEFT sets it itself, for GPT-2
    ours = {"r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_dora", "fan_in_fan_out"}
    ours |= {"task_type", "inference_mode", "base_model_name_or_path", "peft_version", "revision"}
    defaults = LoraConfig().to_dict()
    others = [key for key in settings if key not in ours and key in defaults and settings[key] != defaults[key]]
    if not whole or others:
        wrong = f"sets {', '.join(sorted(others)[:3])}" if others else f"has r {str(rank)[:20]} or another number"
        raise ArtifactError(
            f"'{path}' {wrong} that does not belong to the adapter with it; put the original back, or train again."
        )


def weight_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file in the folder and those below, by its path from there."""
    return {name: _sha256(folder / name) for name in sorted(_weight_files(folder))}


def check_weights(folder: Path, checksums: Mapping[str, str]) -> None:
    """Raises ArtifactError where a file of weights is not the one that was written, is missing or was added."""
    for name in sorted(_weight_files(folder) ^ set(checksums)):
        what = "is missing" if name in checksums else "was not written with it"
        raise ArtifactError(
            f"the run in '{folder}' is damaged or was changed: '{name}' {what}. Copy all of it again from where it was trained."
        )
    for name, digest in checksums.items():
        if _sha256(folder / name) != digest:
            raise ArtifactError(
                f"the run in '{folder}' is damaged or was changed: '{name}' does not hold the bytes that were written. Copy it again "
                "from where it was trained, or train again."
            )


def _weight_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors") if path.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
