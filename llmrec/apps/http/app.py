"""The FastAPI app: routes, errors, and what stands before them. No CORS: browsers of other pages may not read answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from llmrec.apps.http import admin, chat_completions, documentation, health, routes
from llmrec.apps.http.errors import add_error_handlers
from llmrec.apps.http.limits import Guard
from llmrec.apps.http.metrics import Counting
from llmrec.apps.http.service import Service
from llmrec.version import __version__

ROUTERS = (routes.router, chat_completions.router, health.router, admin.router, documentation.router)


def make_app(service: Service, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """lifespan: loads the model and frees it."""
    app = FastAPI(
        title="llmrec", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    add_error_handlers(app)
    app.add_middleware(Guard, limits=service.settings.limits, api_key=service.api_key)
    app.add_middleware(Counting, metrics=service.metrics, routes=[route.path for route in app.routes])
    return app
