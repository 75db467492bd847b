"""Routes for whoever keeps the server running."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from llmrec.apps.http.metrics import CONTENT_TYPE
from llmrec.apps.http.service import Served

router = APIRouter()


@router.get("/healthz", summary="Whether the process lives")
async def health() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "alive"}


@router.get("/readyz", summary="Whether a model answers")
async def ready(service: Served) -> dict[str, str]:
    """503 while the model is loaded or has failed; a model that was idle is asked."""
    await service.holder.check_ready()
    return {"status": "ready", "model": service.holder.name}


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
async def metrics(service: Served) -> Response:
    """Requests by route and status, seconds, sizes of calls, queue."""
    return Response(service.metrics.page(), media_type=CONTENT_TYPE)
