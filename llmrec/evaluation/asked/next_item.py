"""The next item of a whole catalogue by a language model as it is: titles decoded under the trie, or written freely and looked up."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.folder import Data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.answers import TitleReader, shares_of
from llmrec.evaluation.asked.local import load_untrained, prompt_for, untrained_model
from llmrec.evaluation.asked.settings import AskedSettings
from llmrec.evaluation.progress import batches
from llmrec.prompting.encoder import Shot
from llmrec.recommenders.generative import GenerativeRecommender
from llmrec.recommenders.grounding import GroundedRecommender
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.requests import Requests
from llmrec.text_models.open_model import check_server

PROMPTS = ("next_item/chat", "next_item/instruction")
BEAMS = 20
_WRITTEN_AT_ONCE = 32


class AskedNextItem(GenerativeRecommender):
    """Constrained beam search over the titles of an untrained model; a score is the log-probability of the title's words."""

    def __init__(self, model: LanguageModel, card: dict[str, Any]) -> None:
        super().__init__(model, num_beams=BEAMS)
        self._asked = card

    @property
    def card(self) -> dict:
        """Facts for the report."""
        return {**super().card, **self._asked}


def open_asked_next_item(settings: AskedSettings, data: Data, split: Split) -> AskedNextItem:
    """The model that the settings name, ready for `evaluate`. Raises ConfigError for another provider than transformers, which decodes
    under a trie, for a prompt of another task, and where no users are left for examples."""
    check_server(settings)
    if settings.provider != "transformers":
        raise ConfigError(
            "the next item of a whole catalogue is decoded under the trie of its titles, which needs the model itself, but the "
            f"provider is {settings.provider}. Take provider transformers, or a task that gives candidates or clicks."
        )
    backbone = load_untrained(settings)
    prompt = prompt_for(settings, "next_item", PROMPTS, is_chat=backbone.tokenizer.chat_template is not None)
    users = shot_users(split, settings.shots, settings.seed)
    shots = title_shots(users, split, data.catalog)
    card = {
        "provider": "transformers",
        "max_title_tokens": settings.max_title_tokens,
        "shots": len(shots),
        **({"shots_seed": settings.seed, "examples": [{"user": int(user)} for user in users]} if shots else {}),
    }
    return AskedNextItem(untrained_model(backbone, data.catalog, prompt, settings, shots, scope="vocabulary"), card)


def shot_users(split: Split, k: int, seed: int) -> np.ndarray:
    """k users of at least two training events who are never asked, by seed: int64 (k,). ConfigError where there are fewer."""
    asked = np.union1d(split.valid.users, split.test.users)
    able = np.setdiff1d(np.flatnonzero(split.train.lengths >= 2), asked)
    if len(able) < k:
        raise ConfigError(
            f"{k} examples should be of users who are not asked, but {len(able)} of this split are not. Take shots={len(able)}, or a "
            "task whose test users are others than those it trains on, such as recbench/next_item."
        )
    return np.random.default_rng(seed).permutation(able)[:k]


def title_shots(users: np.ndarray, split: Split, catalog: Catalog) -> list[Shot]:
    """Each user's training events but the last as the history, and the title of the last as the answer."""
    shots = []
    for user in users.tolist():
        events = split.train.histories[user]
        title = catalog.text(int(events[-1]), "title") or catalog.item_id(int(events[-1]))
        shots.append(Shot(events[:-1], None, title))
    return shots


def validity_of_free_text(ranker: AskedNextItem, requests: Requests) -> dict[str, Any]:
    """What the model writes greedily after the same prompts without any constraint: how many texts are a title of the catalogue, one of
    the user's history, or none; JSON values of `shares_of`. Beside it, constrained decoding gives items alone."""
    writer = GroundedRecommender(ranker.model, num_beams=1)
    titles = [
        ranker.model.backbone.tokenizer.decode(ranker.model.item_tokens.prompt_sequences[item])
        for item in range(ranker.num_items)
    ]  # as prompts show them, cut ones included
    reader = TitleReader(titles)
    statuses: list[str] = []
    for rows in batches(len(requests), _WRITTEN_AT_ONCE, "writing titles"):
        for row, ids in zip(rows.tolist(), writer.write(requests.take(rows)), strict=True):
            text = ranker.model.backbone.tokenizer.decode(ids, skip_special_tokens=True)
            statuses += reader.statuses([text], seen=requests.histories[row])
    return shares_of(statuses)
