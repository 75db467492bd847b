"""The API key: where it comes from, and which routes ask for it."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from fastapi.responses import JSONResponse

from llmrec.apps.http.errors import error_response
from llmrec.errors import ConfigError

VARIABLE = "LLMREC_API_KEY"
OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json")  # what supervisors ask, and what is no secret


def read_api_key(file: Path | None) -> str | None:
    """The key in a file, else in the environment variable; None where there is neither.

    Raises ConfigError for a file that is empty or cannot be read.
    """
    if file is None:
        return os.environ.get(VARIABLE) or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the API key in '{file}': {error}.") from error
    if not key or "\n" in key:
        raise ConfigError(f"'{file}' should hold one line, the API key.")
    return key


def refusal(key: str | None, method: str, path: str, authorization: bytes | None) -> JSONResponse | None:
    """Why a request may not pass, None where it may: 403 for what changes the model where there is no key, 401 for a wrong key."""
    changes_the_model = path.startswith("/admin/") or (path == "/v1/items" and method == "POST")
    if key is None:
        if not changes_the_model:
            return None
        message = f"what changes the model needs an API key, and this server was started without one: --api-key-file or {VARIABLE}."
        return error_response(403, "no_api_key", message)
    if path in OPEN:
        return None
    scheme, _, given = (authorization or b"").partition(b" ")
    if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), key.encode()):
        return None
    message = "the API key is missing or wrong. Send it as the header 'Authorization: Bearer KEY'."
    return error_response(401, "wrong_api_key", message, headers={"WWW-Authenticate": "Bearer"})
