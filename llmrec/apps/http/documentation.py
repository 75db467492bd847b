"""The page of all routes: made here, with no script and nothing from elsewhere, because a server may have no network."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f4f4f4;padding:.7rem;overflow:auto}table{border-collapse:collapse}"
    "td{border-top:1px solid #ddd;padding:.2rem .8rem .2rem 0;vertical-align:top}"
)
_ABOUT = (
    '<h1>llmrec</h1><p>Errors are <code>{"error": {"message": "a sentence", "type": "a word"}}</code>. '
    "The same for programs: <a href=/openapi.json>/openapi.json</a>.</p>"
)


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """Every route with what it takes and an example to copy."""
    base, schema = str(request.base_url).rstrip("/"), request.app.openapi()
    parts = [
        _route(base, path, method, route, schema)
        for path, methods in schema["paths"].items()
        for method, route in methods.items()
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>llmrec</title><style>{_STYLE}</style>"
    policy = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(
        f"<!doctype html><html lang=en><head>{head}</head><body>{_ABOUT}{''.join(parts)}</body></html>", headers=policy
    )


def _route(base: str, path: str, method: str, route: dict[str, Any], schema: dict[str, Any]) -> str:
    """One route in HTML."""
    model = _body(route, schema)
    fields = [(name, field.get("description", "")) for name, field in model.get("properties", {}).items()]
    fields += [(parameter["name"], parameter.get("description", "")) for parameter in route.get("parameters", [])]
    rows = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(said)}</td></tr>" for name, said in fields)
    calls = [_curl(base, path, method, example) for example in model.get("examples", [None])]
    examples = "".join(f"<pre>{escape(call)}</pre>" for call in calls)
    return (
        f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(route.get('summary', ''))}. {escape(route.get('description', ''))}</p>"
        f"<table>{rows}</table>{examples}"
    )


def _body(route: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a route's body; {} where it has none."""
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = content.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"][name] if name else {}


def _curl(base: str, path: str, method: str, example: dict[str, Any] | None) -> str:
    if example is None:
        return f"curl '{base}{path}{'?q=star+wars' if path.endswith('search') else ''}'"
    body = json.dumps(example).replace("'", "'\\''")
    return f"curl {base}{path} -H 'Content-Type: application/json' -d '{body}'"
