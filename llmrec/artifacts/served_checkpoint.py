"""The plain checkpoint of a run that vLLM serves: made once, kept beside the run, made anew when the run changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrec.artifacts.export import export_run
from llmrec.backbones.export import CARD
from llmrec.backbones.model_files import weight_checksums
from llmrec.errors import ConfigError, LlmrecError
from llmrec.files import cache_dir, check_writable, content_hash, read_json
from llmrec.processes import in_turn
from llmrec.recommenders.language_model import LanguageModel

_FORMAT = "2"  # raised when `export_run` writes something else of the same run


def check_exportable(manifest: dict[str, Any]) -> None:
    """Raises ConfigError for a run that has no plain checkpoint."""
    adapters, reason = manifest["adapters"], None
    if manifest["quantize"] is not None:
        reason = f"was trained on {manifest['quantize']} weights, and merging into those would round"
    elif adapters.get("layer_adapter") or adapters.get("prefix"):
        reason = "has layer adapters or a prefix, which act inside the layers"
    elif "image" in manifest["prompt_forms"]:
        reason = "shows the model images, whose vectors a plain checkpoint makes from pixels"
    if reason is not None:
        raise ConfigError(
            f'engine="vllm" serves a plain checkpoint, but this run {reason}. Serve it with engine="torch".'
        )


def served_checkpoint(folder: Path, model: LanguageModel) -> Path:
    """The checkpoint of the run in the model folder `folder`, of which `model` was loaded in float32.

    It lies beside the folder, or where that cannot be written under the cache folder.

    Raises:
        LlmrecError: neither can be written, or something else lies there.
        ModelError: `export_run` refuses the model.
    """
    digest = _digest(folder)
    beside = folder.absolute().with_name(f"{folder.absolute().name}-exported")
    kept = cache_dir() / "exported" / digest
    with in_turn(folder):  # the workers of a job open one run at the same time
        for place in (beside, kept):
            if (place / CARD).is_file() and read_json(place / CARD, "note of an export").get("digest") == digest:
                return place
        try:
            check_writable(beside)
            place = beside
        except LlmrecError:
            place = kept
        return export_run(model, place, card={"digest": digest})


def _digest(folder: Path) -> str:
    """Of everything that the checkpoint depends on: what the run says of itself, its backbone's revision included, and its weights."""
    manifest = read_json(folder / "manifest.json", "manifest of a run")
    return content_hash(_FORMAT, json.dumps(manifest, sort_keys=True), json.dumps(weight_checksums(folder)))
