"""A fitted baseline in a folder of its own: settings in JSON, what it has learned in safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.baselines.baseline import Baseline
from llmrec.baselines.by_name import baseline_type
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.files import atomic_folder, put_back, read_json, write_json

FORMAT_VERSION = 1
BASELINE = "baseline.json"
_TENSORS = "baseline.safetensors"


def save_baseline(folder: str | Path, baseline: Baseline) -> None:
    """Writes the folder, whole or not at all; an older one there is replaced.

    Raises ModelError for a baseline that cannot be kept, LlmrecError where the folder cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in baseline.arrays().items()}
    with atomic_folder(folder, known_by=BASELINE) as temporary:
        save_file(arrays, temporary / _TENSORS)
        write_json(
            temporary / BASELINE,
            {
                "format_version": FORMAT_VERSION,
                "name": baseline.name,
                "settings": baseline.settings.model_dump(mode="json"),
                "num_items": baseline.num_items,
                "fit_cpu_minutes": baseline.fit_cpu_minutes,
            },
        )


def load_baseline(folder: str | Path) -> Baseline:
    """Reads what `save_baseline` wrote. Raises ArtifactError for a folder that is not whole or of another format."""
    folder = put_back(folder)
    told = read_json(folder / BASELINE, "a kept baseline", ArtifactError)
    if told.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"expected a baseline of format version {FORMAT_VERSION} in '{folder}', found {told.get('format_version')!r:.60}; use the "
            "llmrec version that wrote it, or fit it again."
        )
    try:
        made = baseline_type(told["name"])(**told["settings"])
        arrays = load_file(folder / _TENSORS)
        made.with_arrays(arrays, told["num_items"])
        made.fit_cpu_minutes = told["fit_cpu_minutes"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, LlmrecError) as error:
        raise ArtifactError(f"the baseline in '{folder}' is damaged ({error}); fit it again.") from error
    return made
