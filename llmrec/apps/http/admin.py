"""Routes that change the model in service; the guard lets nobody here without an API key."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from fastapi import APIRouter

from llmrec.apps.http.schemas import AddedAnswer, ErrorAnswer, NewItemsBody, ReloadAnswer, ReloadBody
from llmrec.apps.http.service import Served
from llmrec.data.catalog import Catalog
from llmrec.errors import DataError, RequestError

router = APIRouter(responses={status: {"model": ErrorAnswer} for status in (400, 401, 403, 413, 422, 429, 503, 504)})


@router.post("/admin/reload", summary="Serve another run, or the same one read anew")
async def reload(body: ReloadBody, service: Served) -> ReloadAnswer:
    """The old model answers until the new one is loaded; no request is lost."""
    folder = None if body.run is None else _run_folder(service.settings.runs_folder, body.run)
    started = time.monotonic()
    model = await service.holder.reload(folder)
    num_items, seconds = model.recommender.catalog.num_items, round(time.monotonic() - started, 3)
    return ReloadAnswer(model=service.holder.name, num_items=num_items, seconds=seconds)


@router.post("/v1/items", summary="New items, without training")
async def add_items(body: NewItemsBody, service: Served) -> AddedAnswer:
    """As `llmrec add-items`: runs with one token per item refuse. They are recommended once this is answered."""
    service.check_length(body.items, "max_new_items", "'items'")
    added = await service.holder.add_items(_catalog(body), _features(body))
    return AddedAnswer(
        model=service.holder.name,
        added=added.num_new,
        num_items=added.num_items,
        run=None if service.settings.keep_items is None else str(added.folder),
        codes=None if added.codes is None else added.codes.tolist(),
        missing_columns=added.missing_columns,
        unused_columns=added.unused_columns,
        without=added.without,
    )


def _run_folder(runs_folder: Path | None, name: str) -> Path:
    """The folder of a run under `runs_folder`, links followed. Raises RequestError for anything outside."""
    if runs_folder is None:
        raise RequestError(
            "this server was started without --runs-folder, so it loads the run in service anew and no other."
        )
    root = runs_folder.resolve()
    try:
        folder = (root / name).resolve()
        is_there = folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a circle of links
        folder, is_there = root, False
    if not is_there or folder == root or not folder.is_relative_to(root):
        raise RequestError("the runs folder holds no run of this name. Name a folder in it.")
    return folder


def _catalog(body: NewItemsBody) -> Catalog:
    try:
        return Catalog.from_rows(body.items)
    except (TypeError, ValueError, OverflowError) as error:  # values that no column can hold together
        raise DataError(f"the items make no table: {str(error).splitlines()[0][:200]}.") from error


def _features(body: NewItemsBody) -> dict[str, np.ndarray]:
    found = {}
    for name, rows in body.features.items():
        if len(rows) != len(body.items) or len({len(row) for row in rows}) != 1:
            raise DataError(
                f"the vectors '{name[:60]}' should be one row for each of the {len(body.items)} items, all of one width."
            )
        found[name] = np.array(rows, dtype=np.float32)
    return found
