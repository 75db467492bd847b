"""Run folders as an evaluation meets them: their data and split, what makes them seeds of one configuration, what makes a pair."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llmrec.artifacts.run_folder import read_manifest
from llmrec.config import CONFIG
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.yaml_text import read_yaml

# Settings that runs of several seeds need not share: where they and their parts lie, and what "auto" was settled to.
_OWN = {"seed", "output", "data", "backbone.dtype", "runs", "weights_of"}


def settings_of(run: Path) -> dict:
    """The settings that the run was trained with. Raises ConfigError where it has no config.yaml that holds some."""
    path = run / CONFIG
    settings = read_yaml(path, f"the settings of the run in '{path}'") if path.is_file() else None
    if not isinstance(settings, dict):
        raise ConfigError(f"'{run}' has no config.yaml, so its settings cannot be told. Name the run's own folder.")
    return settings


def trained_on(run: Path) -> Path:
    """The data folder that the run's settings name."""
    path = run / CONFIG
    data = settings_of(run).get("data") if path.is_file() else None
    if not isinstance(data, str):
        raise ConfigError(f"'{run}' has no config.yaml that names its data folder. Name it with --data DIR.")
    return Path(data)


def seeds_of(runs: Sequence[Path]) -> list[int]:
    """The seed of each run. Raises ConfigError where two have one seed, or other settings differ."""
    settings = [settings_of(run) for run in runs]
    first = _flat(settings[0])
    for run, other in zip(runs[1:], map(_flat, settings[1:]), strict=True):
        different = sorted(
            key for key in first.keys() | other.keys() if first.get(key) != other.get(key) and key not in _OWN
        )
        if different:
            raise ConfigError(
                f"several runs in one evaluation are the seeds of one configuration, but '{runs[0]}' and '{run}' differ in "
                f"{', '.join(different[:5])}{' and more' if len(different) > 5 else ''}. To compare two configurations: "
                f"llmrec eval {runs[0]} --against {run}"
            )
    seeds = [each.get("seed") for each in settings]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"runs of one configuration should have different seeds, but they have {', '.join(map(str, seeds))}. "
            "Train them with seed=0, seed=1, ..."
        )
    return seeds


def check_pair(first: Path, second: Path) -> None:
    """Raises ConfigError where the second run knows another catalogue, other events or another split than the first."""
    ours, theirs = (read_manifest(run) for run in (first, second))
    different = [] if ours["catalog_hash"] == theirs["catalog_hash"] else ["catalogue"]
    for key, word in (("content_hash", "events"), ("split", "split"), ("fit", "training events")):
        if ours["protocol"].get(key) != theirs["protocol"].get(key):
            different.append(word)
    if different:
        raise ConfigError(
            f"'{first}' and '{second}' cannot be paired, because they were trained on different data: they differ in "
            f"{', '.join(different)}. A paired test needs two runs of one prepared data folder and one split."
        )


def check_belongs(manifest: dict, data: Data, split: Split) -> None:
    """Raises ConfigError for another catalogue or split; warns of other events, which may hold what the run has seen."""
    trained = manifest["protocol"]
    if manifest["catalog_hash"] != data.catalog.content_hash:
        raise ConfigError(
            f"the run knows a catalogue of {manifest.get('num_items')} items (content {manifest['catalog_hash']}), but "
            f"'{data.folder}' has another one ({data.catalog.num_items} items, content {data.catalog.content_hash}). "
            "Evaluate it on the data folder that it was trained on."
        )
    same_events = trained.get("content_hash") == data.card.get("content_hash")
    card = json.loads(json.dumps(split.card))
    then = trained.get("split") or {}
    if then.get("policy") != split.name or (same_events and then != card):
        raise ConfigError(
            f"the run was trained on the split '{then.get('policy')}' and the task asks about '{split.name}' with other "
            "settings or another policy, so that it may have learned the answers. Train with validation.task=TASK."
        )
    if not same_events:
        print(
            f"warning: the run was trained on other events (content {trained.get('content_hash')}) than "
            f"'{data.folder}' holds ({data.card.get('content_hash')}); it may have learned some of the answers.",
            file=sys.stderr,
        )


def _flat(settings: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted key."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
