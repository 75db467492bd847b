"""What a training was begun on, by content: a run that went on over something else would be a mixture of two, and nobody would see it.

RUN/inputs.json holds a digest of each thing that enters the training, and the number of training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.backbones.causal_lm import Backbone
from llmrec.data.click_examples import ClickSplit
from llmrec.data.folder import Data
from llmrec.data.images import PIXEL_LIMIT, ImageError, image_paths, read_content
from llmrec.data.interactions import Interactions
from llmrec.encoders.item_features import COMPUTED, IMAGE
from llmrec.errors import ConfigError
from llmrec.files import content_hash, read_json
from llmrec.prompting.encoder import PromptEncoder

INPUTS = "inputs.json"


def training_inputs(
    data: Data,
    train: Interactions,
    backbone: Backbone | None,
    *,
    features: Sequence[str] = (),
    encoder: PromptEncoder | None = None,
    texts: Mapping[str, Sequence[str | None]] | None = None,
    clicks: ClickSplit | None = None,
) -> dict[str, str]:
    """A digest of each thing that enters a training, by a name that a person knows.

    train: the events learned from, which a task chose. backbone: None of a run without a language model. features: names among which
    those of matrices and of images are looked at; what is computed from texts or events follows from the data. encoder: how prompts and
    items are written, semantic ids among it. texts: what `llmrec enrich` wrote, by name. clicks: the labelled examples of pointwise
    prompts.
    """
    found = {
        "items and events": data.content_hash(),
        "training events": content_hash(train.indptr, train.items),
    }
    if backbone is not None:
        found["language model"] = backbone.source.identity
    if encoder is not None:
        tokens = encoder.item_tokens
        found["prompt"] = encoder.prompt.hash
        found["item tokens"] = content_hash(tokens.sequences, tokens.lengths)
    for name in features:
        if name == IMAGE:
            found["images"] = _images_hash(data)
        elif name not in COMPUTED:
            found[f"features '{name}'"] = content_hash(data.features[name], data.features.present[name])
    for name, written in (texts or {}).items():
        found[f"generated texts '{name}'"] = content_hash(*(b"" if text is None else text for text in written))
    if clicks is not None:
        parts = (clicks.train, clicks.valid, clicks.test)
        found["click rows"] = content_hash(*(a for rows in parts for a in (rows.users, rows.items, rows.labels)))
    return found


def check_inputs(now: Mapping[str, Any], folder: Path) -> None:
    """Raises ConfigError where the run in `folder` was begun on something else, or keeps no record of what it was begun on."""
    path = folder / INPUTS
    if not path.exists():
        raise ConfigError(
            f"the run in '{folder}' has no {INPUTS}, so whether its data are still those it was begun on cannot be seen; "
            "start over with --fresh, or name another output."
        )
    then = read_json(path, "record of what a run was begun on", ConfigError)
    if different := [name for name in dict.fromkeys([*then, *now]) if then.get(name) != now.get(name)]:
        raise ConfigError(
            f"what the run in '{folder}' was begun on has changed since ({', '.join(different)}): was the data folder prepared again? "
            "Restore what it was begun on, start over with --fresh, or name another output."
        )


def _images_hash(data: Data) -> str:
    """Of the files themselves; one that is missing or no image counts as none."""
    assert data.folder is not None, "images lie in a data folder"
    return content_hash(*(_image_hash(path) for path in image_paths(data.catalog, data.folder)))


def _image_hash(path: Path | None) -> str:
    try:
        return "" if path is None else content_hash(read_content(path, PIXEL_LIMIT))
    except ImageError:
        return ""
