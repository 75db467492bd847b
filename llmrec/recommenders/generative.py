"""Recommenders that are a language model: items are decoded token by token, or, one token per item, scored all at once."""

from __future__ import annotations

import numpy as np
import torch

from llmrec.data.interactions import Histories
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.beams import Trace
from llmrec.engines.torch.retrieval import best_of_chunks
from llmrec.engines.trie import TokenTrie
from llmrec.items.forms import ONE_TOKEN_FORMS
from llmrec.recommenders.language_model import LanguageModel
from llmrec.recommenders.pointwise import PointwiseRecommender
from llmrec.recommenders.requests import (
    SHORT_LIST,
    DenseRecommender,
    Ranking,
    Requests,
    candidate_mask,
    checked_candidates,
    distinct_rules,
    rule_masks,
)

BITMAPS_KEPT = 32  # filters whose bitmaps a recommender keeps: 4 bytes per item each


class GenerativeRecommender:
    """Items are written token by token under the catalogue's trie: beam search, so only real items come out."""

    def __init__(self, model: LanguageModel, *, num_beams: int = 20, name: str = "llm"):
        self.model = model
        self.name = name
        self.num_beams = num_beams
        self.num_items = model.item_tokens.num_items
        self.trie = TokenTrie.from_item_tokens(model.item_tokens, model.engine.device)
        self._bitmaps: list[tuple[np.ndarray, ItemBitmap]] = []  # the latest last

    @property
    def card(self) -> dict:
        """Facts for the report."""
        return {**self.model.card, "decoding": "beam search", "num_beams": self.num_beams}

    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """The best k items of each request; scores are log-probabilities. See `Ranker.rank`."""
        return self._searched(requests, k, exclude_seen, candidates)

    def traced(self, requests: Requests, k: int, *, exclude_seen: bool) -> tuple[Ranking, Trace]:
        """The ranking of one request, and what the search saw: see `grow_beams`."""
        assert len(requests) == 1, len(requests)
        trace: Trace = []
        return self._searched(requests, k, exclude_seen, None, trace), trace

    def _searched(
        self, requests: Requests, k: int, exclude_seen: bool, candidates: np.ndarray | None, trace: Trace | None = None
    ) -> Ranking:
        model = self.model
        prompts = model.prompts(requests)
        items = np.full((len(requests), k), -1, dtype=np.int32)
        scores = np.full((len(requests), k), -np.inf, dtype=np.float32)
        beams = max(self.num_beams, k)
        listed, bitmap = self._rules(requests.choices(candidates))
        for rows in model.engine.batches(prompts, positions_a_prompt=beams * (model.item_tokens.max_length - 1)):
            items[rows], scores[rows] = model.engine.beam_search(
                self.trie,
                [prompts[row] for row in rows],
                k,
                num_beams=beams,
                allowed_items=self._open_items(
                    requests.take(rows), exclude_seen, [listed[row] for row in rows], bitmap, rows
                ),
                softmax_scope=model.softmax_scope,
                trace=trace,
            )
        return Ranking(items, scores)

    def _rules(self, choices: list[np.ndarray | None]) -> tuple[list[np.ndarray | None], ItemBitmap | None]:
        """The requests' short lists, None for those without, and everything longer as one bitmap with a row per rule."""
        is_short = [choice is not None and len(choice) <= SHORT_LIST for choice in choices]
        checked = {id(choice): choice for choice, short in zip(choices, is_short, strict=True) if short}
        checked = {key: checked_candidates(choice, self.num_items) for key, choice in checked.items()}
        listed = [checked.get(id(choice)) for choice in choices]
        rules, rows = distinct_rules(
            [None if short else choice for choice, short in zip(choices, is_short, strict=True)]
        )
        if all(rule is None for rule in rules):
            return listed, None
        device = self.trie.items.device
        everything = torch.arange(self.num_items + 1, dtype=torch.int32, device=device)[None]
        sums = [everything if rule is None else self._bitmap(rule).before for rule in rules]
        return listed, ItemBitmap(sums[0] if len(sums) == 1 else torch.cat(sums), torch.from_numpy(rows).to(device))

    def _open_items(
        self,
        requests: Requests,
        exclude_seen: bool,
        listed: list[np.ndarray | None],
        bitmap: ItemBitmap | None,
        rows: np.ndarray,
    ) -> AllowedItems:
        """What `rows` of a batch, which are `requests`, may receive; `bitmap` is that of the whole batch."""
        if bitmap is not None:  # one rule for all is read without an index
            bitmap = ItemBitmap(bitmap.before, bitmap.rows[torch.from_numpy(rows)] if len(bitmap.before) > 1 else None)
        has_list = np.array([items is not None for items in listed])
        lists = Histories.from_lists([[] if items is None else items for items in listed]) if has_list.any() else None
        closed = requests.closed(exclude_seen=exclude_seen)
        return AllowedItems(self.trie, len(requests), bitmap, closed, lists, None if has_list.all() else has_list)

    def _bitmap(self, candidates: np.ndarray) -> ItemBitmap:
        """What `candidates` allow, in the trie's order; the latest few are kept."""
        for known, bitmap in reversed(self._bitmaps):
            if known is candidates and not candidates.flags.writeable:
                return bitmap
        for known, bitmap in reversed(self._bitmaps):
            if np.array_equal(known, candidates):
                return bitmap
        bitmap = ItemBitmap.of(self.trie, candidate_mask(candidates, self.num_items)[None])
        kept = np.array(candidates) if candidates.flags.writeable else candidates
        self._bitmaps = [*self._bitmaps[1 - BITMAPS_KEPT :], (kept, bitmap)]
        return bitmap

    def score(self, requests: Requests, candidates: np.ndarray) -> np.ndarray:
        """Log-probabilities of the candidates, int32 (U, C) or (C,) -> float32 (U, C)."""
        model = self.model
        prompts = model.prompts(requests)
        wanted = np.broadcast_to(np.asarray(candidates, dtype=np.int64), (len(requests), np.shape(candidates)[-1]))
        scores = np.empty(wanted.shape, dtype=np.float32)
        for rows in model.engine.batches(prompts, positions_a_prompt=wanted.shape[1] * model.item_tokens.max_length):
            scores[rows] = model.engine.score_candidates(
                self.trie,
                model.item_tokens,
                [prompts[row] for row in rows],
                wanted[rows],
                softmax_scope=model.softmax_scope,
            )
        return scores


class OneTokenRecommender(DenseRecommender):
    """Answers of one token (unique ids, soft ones): the logits after the prompt score the whole catalogue, exactly, in one pass."""

    def __init__(self, model: LanguageModel, *, name: str = "llm"):
        self.model = model
        self.name = name
        self.num_items = model.item_tokens.num_items

    @property
    def card(self) -> dict:
        """Facts for the report."""
        return {**self.model.card, "decoding": "softmax over all items"}

    @torch.no_grad()
    def rank(self, requests: Requests, k: int, *, exclude_seen: bool, candidates: np.ndarray | None = None) -> Ranking:
        """As of every recommender that scores all items, but without the scores of a whole large catalogue in memory."""
        if self.model.softmax_scope == "vocabulary":  # its softmax is over the vocabulary too
            return super().rank(requests, k, exclude_seen=exclude_seen, candidates=candidates)
        engine, prompts = self.model.engine, self.model.prompts(requests)
        masks, rules = rule_masks(requests.choices(candidates), self.num_items)
        allowed = (
            masks[0] if masks is not None and len(masks) == 1 else masks
        )  # one rule for all needs no copy per request
        items = np.full((len(requests), k), -1, dtype=np.int32)
        scores = np.full((len(requests), k), -np.inf, dtype=np.float32)
        for rows in engine.batches(prompts):
            closed = requests.take(rows).closed(exclude_seen=exclude_seen)
            found = best_of_chunks(
                engine.item_logits([prompts[row] for row in rows]),
                len(rows),
                self.num_items,
                k,
                allowed=allowed,
                allowed_rows=rules[rows],
                excluded=None if closed is None else _side_by_side(closed),
                normalise=True,
            )
            items[rows], scores[rows] = found.items.cpu(), found.scores.cpu()
        return Ranking(items, scores)

    def scores(self, requests: Requests) -> np.ndarray:
        """Log-probabilities of all items, float32 (U, I)."""
        engine, prompts = self.model.engine, self.model.prompts(requests)
        out = np.empty((len(requests), self.num_items), dtype=np.float32)
        for rows in engine.batches(prompts):
            asked = [prompts[row] for row in rows]
            out[rows] = engine.item_log_probs(asked, softmax_scope=self.model.softmax_scope).numpy()
        return out


def recommender_of(
    model: LanguageModel, *, num_beams: int = 20, name: str = "llm"
) -> GenerativeRecommender | OneTokenRecommender | PointwiseRecommender:
    """The recommender that suits the model's prompt and item form."""
    if model.encoder.prompt.answers is not None:
        return PointwiseRecommender(model, name=name)
    if model.item_tokens.form in ONE_TOKEN_FORMS:
        return OneTokenRecommender(model, name=name)
    return GenerativeRecommender(model, num_beams=num_beams, name=name)


def _side_by_side(histories: Histories) -> np.ndarray:
    """The items of each row, padded with -1: int64 (B, H)."""
    lengths = histories.lengths
    table = np.full((len(histories), max(1, int(lengths.max(initial=0)))), -1, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = histories.items
    return table
