"""Wishes in JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from llmrec.conversation.edits import Edit, Wishes
from llmrec.errors import DataError

EDITS = {kind.__name__: kind for kind in get_args(Edit)}


def wishes_as_json(wishes: Wishes) -> dict[str, Any]:
    """JSON object: the fields of `Wishes`, of each edit the name of its kind and its fields."""
    edits = [{"edit": type(edit).__name__, **asdict(edit)} for edit in wishes.edits]
    return json.loads(json.dumps(asdict(wishes) | {"edits": edits}))


def wishes_from_json(read: dict[str, Any]) -> Wishes:
    """What `wishes_as_json` wrote. Raises DataError for anything else; columns, values and ids are not looked up."""
    fields = dict(read)
    edits = fields.pop("edits", [])
    if not isinstance(edits, list):
        raise DataError(f"edits should be a list, but it is {str(edits)[:60]!r}.")
    return replace(_read(Wishes, fields), edits=tuple(_edit(one) for one in edits))


def _edit(read: object) -> Edit:
    match read:
        case {"edit": str(name), **fields} if name in EDITS:
            return _read(EDITS[name], fields)
    raise DataError(f"an edit should be one of {', '.join(EDITS)}, with its fields, but one is {str(read)[:60]!r}.")


def _read(kind: type, fields: dict[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise DataError(f"'{place}' of {kind.__name__}: {problem['msg']}.") from error
