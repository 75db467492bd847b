"""Features of new items and of other images, from what a run says its features were made from. Nothing is trained.

| feature | a new item's |
|---|---|
| text | its own texts by the run's encoder; of TF-IDF those words alone that the run has kept |
| image | its own image by the run's encoder, where it has one |
| collaborative | absent: nobody has met the item yet |
| any other name | given as a matrix |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.backbones.causal_lm import IMAGES
from llmrec.data.catalog import Catalog
from llmrec.data.features import Features
from llmrec.data.images import ImageError, read_image
from llmrec.encoders.image import encode_images
from llmrec.encoders.item_features import IMAGE, TEXT, ImageSource, TextSource, encoded_texts
from llmrec.encoders.tf_idf import TF_IDF, TfIdf
from llmrec.errors import ArtifactError, DataError
from llmrec.nn.soft_tokens import SoftTokens
from llmrec.recommenders.generative import GenerativeRecommender, OneTokenRecommender
from llmrec.recommenders.grounding import GroundedRecommender
from llmrec.recommenders.item_tokens import SOFT
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.recommenders.requests import Ranker

Sources = Mapping[str, dict[str, Any]]


def replace_image(model: LanguageModel, item: int, image: Path) -> None:
    """Gives one item another image, in memory: its soft tokens, and where answers are soft its row, follow at once.

    Prompts that were read before are forgotten: the ids of soft tokens stay, what they stand for does not.

    Raises:
        ArtifactError: the run has no soft tokens, or they are not made of images.
        DataError: the file is no image, or has too many pixels. ModelError: the run's image encoder cannot be used.
    """
    if model.served_by is not None:
        raise ArtifactError(
            'another image changes soft tokens, of which engine="vllm" has a copy. Replace images with engine="torch".'
        )
    soft = soft_tokens_of_images(model)
    source = ImageSource(**soft.sources[IMAGE])
    try:
        read_image(image, source.max_pixels)
    except ImageError as error:
        raise DataError(f"the image '{image}' cannot be used: {error}. Name another file.") from error
    vectors, _ = encode_images([image], source.encoder, on_broken="fail", max_pixels=source.max_pixels)  # (1, D)
    old_width = soft.features_of(slice(0, 1))[IMAGE].shape[1]
    _check_width(IMAGE, vectors, old_width, source.encoder)
    soft.replace(item, {IMAGE: torch.from_numpy(vectors[0])})
    if model.prompt_cache is not None:
        model.prompt_cache.clear()


def language_model_of(ranker: Ranker) -> LanguageModel:
    """The model that ranks. Raises ArtifactError where it is none."""
    if not isinstance(ranker, GenerativeRecommender | OneTokenRecommender | PointwiseRecommender | GroundedRecommender):
        raise ArtifactError(f"'{ranker.name}' is no language model, so its items have no soft tokens.")
    return ranker.model


def soft_tokens_of_images(model: LanguageModel) -> SoftTokens:
    """The run's soft tokens. Raises ArtifactError where there are none, or images reach the model in another way as well."""
    tokens = model.backbone.vector_tokens
    if IMAGES in tokens:
        raise ArtifactError(
            "prompts of this run hold images as vision tokens of the model's own, which are made when it is trained; only images "
            "among the features of soft tokens can be replaced."
        )
    if SOFT not in tokens:
        raise ArtifactError(
            "this run has no soft tokens, so no image is read. Train one with items.form=soft and soft.features=[text,image]."
        )
    soft = tokens[SOFT]
    if IMAGE not in soft.names:
        raise ArtifactError(
            f"the soft tokens of this run are made of {', '.join(soft.names)}, so no image is read. Train with image among "
            "soft.features."
        )
    return soft


def own_matrices(sources: Sources) -> list[str]:
    """The features that came as matrices."""
    return [name for name, source in sources.items() if "matrix" in source]


def is_of_images(name: str, source: Mapping[str, Any]) -> bool:
    """Whether an image encoder made the features of this name and source."""
    return name == IMAGE or "on_broken" in source  # of an ImageSource


def grown_features(
    old: Features,
    sources: Sources,
    new: Catalog,
    given: Mapping[str, np.ndarray],
    images: Sequence[Path | None] | None,
) -> tuple[Features, dict[str, int]]:
    """The features of the run's items with those of the new ones after them, and how many new ones lack each; see `new_features`."""
    added, absent = new_features({name: old[name].shape[1] for name in sources}, sources, new, given, images, {})
    grown = Features(old.num_items + new.num_items)
    for name in sources:
        vectors, present = np.concatenate([old[name], added[name]]), [old.present[name], added.present[name]]
        grown.add(name, vectors, np.concatenate(present))
    return grown, absent


def new_features(
    widths: Mapping[str, int],
    sources: Sources,
    new: Catalog,
    given: Mapping[str, np.ndarray],
    images: Sequence[Path | None] | None,
    words: Mapping[str, TfIdf],
) -> tuple[Features, dict[str, int]]:
    """The features of the new items, at the widths that the run has, and how many of them lack each that some lack.

    given: name -> (num_new, D) of `own_matrices`, no more and no less. images: the file of each new item, where they have any.
    words: by name, what the run has kept of texts by TF-IDF.

    Raises DataError for a matrix that is missing or of another width, ModelError for an encoder that cannot be used, ArtifactError
    where words are needed and were not kept.
    """
    wanted = own_matrices(sources)
    if set(wanted) != set(given):
        named = ", ".join(f"'{name}'" for name in wanted)
        came = ", ".join(f"'{name}'" for name in given) or "nothing"
        raise DataError(
            f"the items of this run are known by {', '.join(sources)}, but there are matrices for {came}. "
            + (f"Give {named}: --features NAME=FILE.npy." if wanted else "Leave --features out.")
        )
    added, absent = Features(new.num_items), {}
    for name, source in sources.items():
        vectors, present = (given[name], None) if name in given else _computed(name, source, new, images, words)
        if vectors is None:
            vectors = np.zeros((new.num_items, widths[name]), np.float32)
        added.add(name, vectors, present)
        _check_width(name, added[name], widths[name], source.get("encoder", f"matrix '{name}'"))
        absent[name] = int((~added.present[name]).sum())
    return added, {name: number for name, number in absent.items() if number}


def _computed(
    name: str, source: dict[str, Any], new: Catalog, images: Sequence[Path | None] | None, words: Mapping[str, TfIdf]
) -> tuple[np.ndarray | None, np.ndarray]:
    """float32 (num_new, D), None where no new item has any, bool (num_new,)."""
    if name == TEXT or "fields" in source:  # of a TextSource
        text = TextSource(**source)
        if name not in words:
            check_words_kept(text.encoder)
        return encoded_texts(new.texts(text.fields), text, words.get(name))
    if is_of_images(name, source) and any(images or ()):
        image = ImageSource(**source)
        return encode_images(
            images, image.encoder, item_ids=new.item_ids, on_broken=image.on_broken, max_pixels=image.max_pixels
        )
    return None, np.zeros(new.num_items, bool)


def check_words_kept(encoder: str) -> None:
    """Raises ArtifactError for TF-IDF, whose words runs of language models do not keep."""
    if encoder == TF_IDF:
        raise ArtifactError(
            "the texts of this run were encoded by TF-IDF, whose words it has not kept, so texts of new items cannot be: encode texts "
            "by another encoder and train again, or train a run of the recipe sequential, which keeps them."
        )


def _check_width(name: str, vectors: np.ndarray, width: int, maker: str) -> None:
    if vectors.shape[1] != width:
        raise DataError(
            f"the features '{name}' of this run have {width} numbers per item, but those that came have {vectors.shape[1]} (from "
            f"{maker}). Make them as those of the run were made."
        )
