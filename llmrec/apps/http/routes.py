"""Routes that ask the model: /v1/recommend, /v1/score, /v1/explain, /v1/items/search, /v1/models."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

from fastapi import APIRouter, Query

from llmrec.apps.http.schemas import (
    ErrorAnswer,
    ExplainBody,
    RankedItem,
    RecommendAnswer,
    RecommendBody,
    ScoreAnswer,
    ScoreBody,
    ScoredItem,
    SearchAnswer,
)
from llmrec.apps.http.service import Served, Service
from llmrec.data.title_search import MAX_QUERY_CHARACTERS
from llmrec.errors import RequestError
from llmrec.explain.evidence import title_of
from llmrec.explain.words import measured_alone
from llmrec.recommenders.diversity import parse_diversity
from llmrec.recommenders.filters import Filter
from llmrec.serving.requests import EvidenceRequest, ListRequest, ScoreRequest
from llmrec.serving.served_model import ServedModel

ERRORS = {status: {"model": ErrorAnswer} for status in (400, 401, 413, 422, 429, 503, 504)}
NO_WORDS = 'No language model was asked; {"words": true} asks one.'
router = APIRouter(prefix="/v1", responses=ERRORS)


@router.post("/recommend", summary="The best items for one user")
async def recommend(body: RecommendBody, service: Served) -> RecommendAnswer:
    """Only items of the catalogue come out, best first; fewer than k only where fewer may be recommended."""
    with service.holder.in_use() as model:
        request = await list_request(service, model, body)
        found = await model.ask(request)
        items = [
            RankedItem(item_id=item.item_id, title=item.title, score=finite(item.score), rank=rank)
            for rank, item in enumerate(found, 1)
        ]
        return RecommendAnswer(
            model=service.holder.name, history=list(request.history), recommendations=items, missing=body.k - len(items)
        )


async def list_request(service: Service, model: ServedModel, body: RecommendBody) -> ListRequest:
    """What a body asks for, names made into ids. Raises RequestError for what is too much or unknown."""
    limits = service.settings.limits
    if body.k > limits.max_k:
        raise RequestError(f"k may be {limits.max_k:,} at most, but it is {body.k}. Ask for fewer items.")
    where = [body.where] if isinstance(body.where, str) else body.where
    service.check_length(where, "max_conditions", "'where'")
    for condition in where:
        service.check_length(condition, "max_condition", "the characters of a condition")
    service.check_length(body.exclude, "max_listed", "'exclude'")
    service.check_length(body.candidates, "max_listed", "'candidates'")
    if not isinstance(body.in_stock, str):
        service.check_length(body.in_stock, "max_listed", "'in_stock'")
    check_user(service, body)
    diversity = None if body.diversity is None else parse_diversity(body.diversity)
    history = await service.ids(model, body.history, "the history")
    exclude = await service.ids(model, body.exclude, "'exclude'")
    candidates = None if body.candidates is None else await service.ids(model, body.candidates, "'candidates'")
    # lists: a long tuple would be held for one that comes again, and none does
    filter_ = Filter(where, body.in_stock, list(exclude), None if candidates is None else list(candidates))
    return ListRequest(history, body.k, body.exclude_seen, filter_, diversity, body.instruction)


def check_user(service: Service, body: RecommendBody | ScoreBody | ExplainBody) -> None:
    """Raises RequestError for a history or an instruction beyond the limits."""
    service.check_length(body.history, "max_history", "a history")
    service.check_length(body.instruction, "max_instruction", "the characters of an instruction")


@router.post("/score", summary="Scores of given items for one user")
async def score(body: ScoreBody, service: Served) -> ScoreAnswer:
    """Higher is better; of most runs the log-probability of each as the next item."""
    check_user(service, body)
    service.check_length(body.candidates, "max_scored", "'candidates'")
    with service.holder.in_use() as model:
        history = await service.ids(model, body.history, "the history")
        candidates = await service.ids(model, body.candidates, "'candidates'")
        scores = await model.ask(ScoreRequest(history, candidates, body.instruction))
        catalog = model.recommender.catalog
        items = [
            ScoredItem(item_id=item_id, title=title_of(catalog, item_id), score=finite(value))
            for item_id, value in zip(candidates, scores, strict=True)
        ]
        return ScoreAnswer(model=service.holder.name, history=list(history), scores=items)


@router.post("/explain", summary="Why an item suits a history")
async def explain(body: ExplainBody, service: Served) -> dict[str, Any]:
    """What was measured: how the score falls without each item of the history, and what they have in common; on demand, words."""
    check_user(service, body)
    with service.holder.in_use() as model:
        history = await service.ids(model, body.history, "the history")
        (item_id,) = await service.ids(model, [body.item], "'item'")
        evidence = await model.ask(EvidenceRequest(history, item_id, body.instruction))
        if body.words:
            explained = model.recommender.explain_evidence
            found = await service.writing.run(explained, history, evidence, service.language_model)
        else:
            found = measured_alone(evidence, NO_WORDS)
        return {"model": service.holder.name, "history": list(history), "item": item_id, **dataclasses.asdict(found)}


@router.get("/items/search", summary="Items by their titles")
async def search(
    q: Annotated[
        str, Query(min_length=1, max_length=MAX_QUERY_CHARACTERS, description="A title, however it is spelt.")
    ],
    service: Served,
    limit: Annotated[int, Query(ge=1, le=100, description="Items at most.")] = 10,
) -> SearchAnswer:
    """Case, accents, punctuation, articles and small slips do not matter."""
    with service.holder.in_use() as model:
        match = await service.titles.run(model.names.find, q)
        return SearchAnswer(query=q, match=match.kind, items=model.names.shown(match, limit))


@router.get("/models", summary="The model in service, as OpenAI lists models")
async def models(service: Served) -> dict[str, Any]:
    """One model."""
    with service.holder.in_use() as model:
        card = {
            "id": service.holder.name, "object": "model", "created": int(model.loaded_at), "owned_by": "llmrec",
            "num_items": model.recommender.catalog.num_items,
        }  # fmt: skip
        return {"object": "list", "data": [card]}


def finite(score: float) -> float | None:
    """The score, None where JSON has no number for it: an item that the model gives no probability."""
    return score if math.isfinite(score) else None
