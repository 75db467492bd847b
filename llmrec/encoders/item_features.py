"""The features of items by name: encoded texts and images, what the caller computed, matrices of the data folder.

N items, F features, D_f the width of one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from llmrec.config import Settings
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.folder import Data
from llmrec.data.images import MAX_PIXELS, PIXEL_LIMIT, image_paths
from llmrec.encoders.image import DEFAULT_IMAGE_ENCODER, encode_images
from llmrec.encoders.text import DEFAULT_ENCODER, MAX_TOKENS, encode_texts
from llmrec.encoders.tf_idf import TF_IDF, TfIdf, fitted_tf_idf
from llmrec.errors import DataError

TEXT, IMAGE = "text", "image"
# What is made from something else and never read from DATA/features; "collaborative" would leak the events of the test.
COMPUTED = {
    TEXT: "encoded from the catalogue's texts",
    IMAGE: "encoded from the catalogue's images",
    "collaborative": "fitted to the events that a split allows, by whoever asks for it",
    "generated_texts": "encoded from the texts of `llmrec enrich`",
}
OnMissing = Literal["learned", "fail"]
logger = logging.getLogger(__name__)


class TextSource(Settings):
    """What makes the feature "text"."""

    encoder: str = DEFAULT_ENCODER  # see `encode_texts`; tf_idf: the items' own words, no model
    fields: list[str] | None = None  # columns of the catalogue; by default all that hold words
    max_tokens: int = Field(MAX_TOKENS, ge=1)  # tf_idf reads all words


class ImageSource(Settings):
    """What makes the feature "image"."""

    encoder: str = DEFAULT_IMAGE_ENCODER  # see `encode_images`
    on_broken: Literal["skip", "fail"] = "skip"  # files that are missing, damaged or no images
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=PIXEL_LIMIT)


def item_features(
    names: Sequence[str],
    data: Data,
    *,
    text: TextSource | None = None,
    image: ImageSource | None = None,
    extra: Features | None = None,
    tf_idf: TfIdf | None = None,
) -> Features:
    """The features `names` of a data folder's items, in this order; see `catalog_features`.

    extra: features that the caller computed, such as "collaborative" from the training events of a split, or encoded "generated_texts";
    they go before those of the same name in the data folder. A matrix in the data folder is found by its name, but not under the
    names in COMPUTED: a "collaborative" that lies there would have seen the events of the test.
    """
    known = Features(data.catalog.num_items)
    for name in (name for name in data.features if name not in COMPUTED):
        known.add(name, data.features[name], data.features.present[name])
    for name in extra or ():
        known.add(name, extra[name], extra.present[name])
    return catalog_features(names, data.catalog, known, folder=data.folder, text=text, image=image, tf_idf=tf_idf)


def catalog_features(
    names: Sequence[str],
    catalog: Catalog,
    known: Features,
    *,
    folder: Path | None = None,
    text: TextSource | None = None,
    image: ImageSource | None = None,
    tf_idf: TfIdf | None = None,
) -> Features:
    """Each of `names` at its own width, with the items that have it.

    names: features of `known`; else "text", the texts of the catalogue by `text`'s encoder (an item without a word is absent), or
    "image", its images in `folder` by `image`'s.
    tf_idf: where `text`'s encoder is "tf_idf", the one that was fitted before (`fit_words`); None fits one to all of the catalogue's
    texts. An item that shares no word with those of the fit is absent.
    Raises DataError for a name that is neither, with those there are, or that no item has; for fields that are not there and for
    images as `encode_images` says. ModelError for an encoder that cannot be used.
    """
    text, image = text or TextSource(), image or ImageSource()
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated or not names:
        raise DataError(
            f"features should be named once each, but '{repeated}' is named twice."
            if repeated
            else "name a feature or more."
        )
    found = Features(catalog.num_items)
    for name in names:
        if name in known:
            found.add(name, known[name], known.present[name])
        elif name == TEXT:
            found.add(name, *encoded_texts(catalog.texts(text.fields), text, tf_idf))
        elif name == IMAGE:
            if folder is None:
                raise DataError(
                    "the features 'image' need the data folder that the images lie in, but it is not known here."
                )
            found.add(name, *_encoded_images(catalog, folder, image))
        else:
            raise DataError(_unknown(name, known))
        if not found.present[name].any():
            raise DataError(f"none of the {catalog.num_items} items has the features '{name}'. Leave them out.")
    return found


def fit_words(text: TextSource, catalog: Catalog, is_seen: np.ndarray | None = None) -> TfIdf | None:
    """TF-IDF as `text` says, for who keeps it to encode items that come later; None where its encoder is another.

    is_seen: bool (N,), the items whose texts it is fitted to, such as those with training events; None for all.
    """
    if text.encoder != TF_IDF:
        return None
    texts = catalog.texts(text.fields)
    return fitted_tf_idf(texts if is_seen is None else [texts[item] for item in np.flatnonzero(is_seen)])


def encoded_texts(texts: list[str], text: TextSource, tf_idf: TfIdf | None) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (N, D) and which texts have one, bool (N,). tf_idf: see `catalog_features`."""
    if text.encoder == TF_IDF:
        made = tf_idf or fitted_tf_idf(texts)
        return made.encode(texts), made.knows(texts)
    present = np.array([bool(words.strip()) for words in texts], bool)
    return encode_texts(texts, text.encoder, max_tokens=text.max_tokens), present


def items_without_features(features: Features, catalog: Catalog, on_missing: OnMissing = "learned") -> np.ndarray:
    """Which items have none of the features: bool (N,).

    on_missing: "learned" counts and names them in a warning (an adapter gives them tokens of their own), "fail" raises DataError.
    """
    missing = ~np.logical_or.reduce([features.present[name] for name in features])
    if missing.any():
        first = ", ".join(f"'{catalog.item_id(int(item))}'" for item in np.flatnonzero(missing)[:3])
        sentence = (
            f"{missing.sum()} of {catalog.num_items} items have none of the features {', '.join(features)}: {first}"
        )
        sentence += ", ..." if missing.sum() > 3 else ""
        if on_missing == "fail":
            raise DataError(
                f"{sentence}. Add a feature that they have, remove them, or let them be learned: on_missing 'learned'."
            )
        logger.warning("%s. They share what is learned for items without features.", sentence)
    return missing


def _encoded_images(catalog: Catalog, folder: Path, image: ImageSource) -> tuple[np.ndarray, np.ndarray]:
    return encode_images(
        image_paths(catalog, folder),
        image.encoder,
        item_ids=catalog.item_ids,
        on_broken=image.on_broken,
        max_pixels=image.max_pixels,
    )


def _unknown(name: str, known: Features) -> str:
    there = ", ".join(dict.fromkeys([TEXT, IMAGE, *known]))
    if name in COMPUTED:
        return f"the features '{name}' are not known here: they are {COMPUTED[name]} (there are: {there})."
    return f"there are no features '{name}' (there are: {there}). Add your own with: llmrec features DATA --add {name}=FILE"
