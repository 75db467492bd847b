"""Grounding: the model writes a title freely, and the items are ranked by how near their titles lie to what it wrote.

BIGRec (Bao et al. 2023, arXiv 2308.08434): step 1, the tuned model generates a text; step 2, the text and every title become
the last hidden state of the untuned model at their last token, and the items are ranked by Euclidean distance. The untuned
model, because after a title the tuned one only knows that the answer ends. The paper's re-weighting by popularity is left out.

Letters: U requests, I items, B texts of a batch, T tokens, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.backbones.adapters import is_added, without_adapters
from llmrec.engines.torch.engine import TorchEngine
from llmrec.errors import ConfigError, ModelError
from llmrec.files import atomic_file, cache_dir, content_hash
from llmrec.prompting.encoder import start_ids
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import DenseRecommender, Requests

if TYPE_CHECKING:
    from transformers import GenerationConfig

ITEMS_AT_ONCE = 65_536  # titles compared with at a time


class GroundedRecommender(DenseRecommender):
    """Free text grounded to the nearest titles; a score is minus the distance, so that nearer is higher.

    Every item of the catalogue has a distance, so filters, seen items and lists of any length are exact. Needs a run of the text
    form: its answers are words, which a run of item tokens was never trained to write.
    """

    def __init__(self, model: LanguageModel, *, num_beams: int = 4, name: str = "llm"):
        """num_beams: beams of the free generation, 1 for greedy; the best text alone is grounded, as in the paper."""
        if model.encoder.prompt.answers is not None:
            raise ConfigError(
                "grounding reads a title the model has written, but this run answers Yes or No. Leave decoding at 'trie'."
            )
        if model.item_tokens.form != "text":
            raise ConfigError(
                f"grounding reads a title the model has written, but this run's items are of the form "
                f"'{model.item_tokens.form}'. Leave decoding at 'trie', or train with items.form=text."
            )
        if model.backbone.vector_tokens.num_tokens:
            raise ConfigError(
                "grounding lets the model write after words alone, but prompts of this run hold vectors in place of some "
                f"({', '.join(model.backbone.vector_tokens.sources)}). Leave decoding at 'trie'."
            )
        self.model = model
        self.engine = TorchEngine(model.backbone, model.prompt_cache)
        self.name = name
        self.num_beams = num_beams
        self.num_items = model.item_tokens.num_items
        self._titles: np.ndarray | None = None

    @property
    def card(self) -> dict:
        """Facts for the report."""
        return {**self.model.card, "decoding": "grounding", "num_beams": self.num_beams}

    def scores(self, requests: Requests) -> np.ndarray:
        """Minus the distance of what the model writes to every title: float32 (U, I)."""
        written, titles = self._vectors(self.write(requests)), self.title_vectors  # (U, D), (I, D)
        scores = np.empty((len(written), len(titles)), np.float32)
        for start in range(0, len(titles), ITEMS_AT_ONCE):
            near = titles[start : start + ITEMS_AT_ONCE]
            scores[:, start : start + ITEMS_AT_ONCE] = -_distances(written, near)
        return scores

    @torch.no_grad()
    def write(self, requests: Requests) -> list[np.ndarray]:
        """What the model writes for each request, tokens before the end token: U arrays int64 (T,), each maybe empty."""
        from transformers import GenerationConfig

        model = self.model
        backbone, end = model.backbone.eval(), model.item_tokens.end_token
        prompts = model.prompts(requests)
        config = GenerationConfig(
            do_sample=False,
            num_beams=self.num_beams,
            max_new_tokens=model.item_tokens.max_length,
            eos_token_id=end,
            pad_token_id=end,
        )
        texts: list[np.ndarray] = [np.zeros(0, np.int64)] * len(requests)
        for rows in self.engine.batches(prompts, positions_a_prompt=self.num_beams * model.item_tokens.max_length):
            ids, mask = _padded([prompts[row] for row in rows], end, backbone.device, left=True)
            is_bf16 = backbone.dtype == torch.bfloat16
            with _only(backbone.causal_lm, config), torch.autocast(ids.device.type, torch.bfloat16, enabled=is_bf16):
                out = backbone.causal_lm.generate(ids, attention_mask=mask, generation_config=config)
            for row, answer in zip(rows, out[:, ids.shape[1] :].cpu().numpy(), strict=True):
                texts[row] = answer[: np.argmax(np.append(answer, end) == end)]
        return texts

    @property
    def title_vectors(self) -> np.ndarray:
        """One vector per title, float32 (I, D): computed once for a catalogue and a model, kept under the cache folder."""
        if self._titles is None:
            tokens = self.model.item_tokens
            key = content_hash(tokens.sequences, tokens.lengths, *_fingerprint(self.model.backbone.causal_lm))
            path = cache_dir() / "grounding" / f"{key}.safetensors"
            self._titles = _cached(path, self.num_items)
            if self._titles is None:
                self._titles = self._vectors([tokens.prompt_sequences[item] for item in range(self.num_items)])
                with atomic_file(path) as temporary:
                    save_file({"vectors": self._titles}, temporary)
        return self._titles

    @torch.no_grad()
    def _vectors(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """The untuned model's last hidden state at each text's last token: float32 (len(texts), D).

        A start token of the prompt's own stands before every text, so that the empty one has a vector too. Equal texts are
        read once.
        """
        backbone = self.model.backbone.eval()
        (start,) = start_ids(backbone.tokenizer, always=True)
        whole = [np.concatenate([[start], text]).astype(np.int64) for text in texts]
        places: dict[bytes, list[int]] = {}
        for place, text in enumerate(whole):
            places.setdefault(text.tobytes(), []).append(place)
        unique, same = [np.frombuffer(text, np.int64) for text in places], list(places.values())
        vectors = np.empty((len(texts), backbone.dim), np.float32)
        for rows in self.engine.batches(unique):
            ids, mask = _padded([unique[row] for row in rows], start, backbone.device, left=False)
            with without_adapters(backbone):
                hidden = backbone.hidden_states(ids, attention_mask=mask)  # (B, T, D)
            last = hidden[torch.arange(len(rows), device=ids.device), mask.sum(dim=1) - 1]
            for row, vector in zip(rows, last.float().cpu().numpy(), strict=True):
                vectors[same[row]] = vector
        if not np.isfinite(vectors).all():
            raise ModelError("the model's hidden states hold NaN or infinity, so no title can be the nearest.")
        return vectors


def _distances(written: np.ndarray, titles: np.ndarray) -> np.ndarray:
    """Euclidean distances, float64 (U, I): in float32 the difference of two large squares would blur the nearest titles."""
    written, titles = written.astype(np.float64), titles.astype(np.float64)
    squared = (written**2).sum(axis=1, keepdims=True) - 2 * written @ titles.T + (titles**2).sum(axis=1)
    return np.sqrt(np.maximum(squared, 0))


def _padded(
    texts: list[np.ndarray], pad: int, device: torch.device, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, int64 (B, T); on the left where the model goes on writing after them."""
    lengths = torch.tensor([len(text) for text in texts])
    width = int(lengths.max())
    ids = torch.full((len(texts), width), pad, dtype=torch.int64)
    first = width - lengths if left else torch.zeros_like(lengths)
    for row, text in enumerate(texts):
        ids[row, first[row] : first[row] + len(text)] = torch.as_tensor(text.astype(np.int64))
    places = torch.arange(width)
    mask = (places >= first[:, None]) & (places < (first + lengths)[:, None])
    return ids.to(device), mask.long().to(device)


@contextlib.contextmanager
def _only(causal_lm: torch.nn.Module, config: GenerationConfig) -> Iterator[None]:
    """Generation with `config` and nothing else: transformers fills what it leaves unset from the model's own defaults,
    which in instruct models sample and penalise repetition."""
    own, causal_lm.generation_config = causal_lm.generation_config, config
    try:
        yield
    finally:
        causal_lm.generation_config = own


def _fingerprint(causal_lm: torch.nn.Module) -> Iterator[str | np.ndarray]:
    """What tells one model's untuned weights from another's: a few values of every matrix."""
    for name, parameter in causal_lm.named_parameters():
        if not is_added(name):
            flat = parameter.detach().flatten()
            yield name
            yield flat[:: max(1, len(flat) // 64)].float().cpu().numpy()


def _cached(path: Path, num_titles: int) -> np.ndarray | None:
    try:
        vectors = load_file(path)["vectors"]
    except (OSError, SafetensorError, KeyError):
        return None
    return vectors if len(vectors) == num_titles else None
