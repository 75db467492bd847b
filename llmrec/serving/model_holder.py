"""The model in service, and how another one takes its place without losing a request.

The new one is loaded while the old one answers. Requests that come from then on go to the new one; the old one answers what it has
taken and is freed. A model that fails is loaded again from its folder, while requests are refused.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from llmrec.artifacts.new_items import Added, add_items
from llmrec.data.catalog import Catalog
from llmrec.serving.errors import BusyError, NotReadyError
from llmrec.serving.served_model import Load, OnCall, ServedModel, run_name
from llmrec.serving.settings import ServingSettings

logger = logging.getLogger(__name__)
_LONGEST_PAUSE = 60.0  # seconds between attempts to load a failed model again
_LOOK_SECONDS = 0.5
_IDLE = 2.0  # seconds without an answer after which readiness is a matter of asking
_PROBE_SECONDS = 10.0


class ModelHolder:
    """Holds the model in service. Everything runs on the event loop but loading, adding and answering."""

    def __init__(
        self, load: Load, settings: ServingSettings, on_call: OnCall = lambda num_requests, seconds: None
    ) -> None:
        self._load, self._settings, self._on_call = load, settings, on_call
        self._model: ServedModel | None = None
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._temporary: Path | None = None  # where runs with added items lie that nobody wants to keep
        self.num_loads = 0

    async def start(self, folder: Path) -> None:
        """Loads the first model. Raises what loading raises."""
        async with self._changing:
            self._swap(await self._loaded(folder))
        self._watch = asyncio.get_running_loop().create_task(self._watched())

    @property
    def model(self) -> ServedModel:
        """The model in service. Raises NotReadyError where there is none."""
        if self._model is None:
            raise NotReadyError("the model is still being loaded. Try again in a moment.")
        if self._model.failed:
            raise NotReadyError("the model has failed and is being loaded again. Try again in a moment.")
        return self._model

    @contextmanager
    def in_use(self) -> Iterator[ServedModel]:
        """The model in service, which inside is not freed though another one may replace it."""
        with self.model.in_use() as model:
            yield model

    @property
    def num_waiting(self) -> int:
        """Requests in the queue of the model in service."""
        return 0 if self._model is None else len(self._model.batcher)

    @property
    def name(self) -> str:
        """What the model in service is called."""
        return self._settings.name or run_name(self.model.folder)

    async def check_ready(self) -> None:
        """Raises NotReadyError where no model answers: one that has not for a while is asked."""
        with self.in_use() as model:
            if time.monotonic() - model.answered_at < _IDLE:
                return
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await model.ask(model.probe())
            except BusyError:
                pass  # it works: the queue would not move else, and requests run into their time limit
            except TimeoutError:
                raise NotReadyError(f"the model has given no answer for {_PROBE_SECONDS:.0f} seconds.") from None

    async def reload(self, folder: Path | None) -> ServedModel:
        """Loads a run folder, or the one in service anew, and puts it into service.

        Raises what loading raises: the old one then stays.
        """
        async with self._change():
            model = await self._loaded(folder or self._model.folder)
            self._swap(model)
            return model

    async def add_items(self, new: Catalog, features: Mapping[str, np.ndarray]) -> Added:
        """Puts the run in service with new items into service; see `artifacts.new_items.add_items`, which says what it raises."""
        async with self._change():
            target = self._folder_for_added()
            try:
                added = await asyncio.to_thread(add_items, self.model.folder, new, features=features, out=target)
                self._swap(await self._loaded(target))
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
            return added

    async def close(self) -> None:
        """Answers what was taken, then frees everything."""
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*self._retiring, *([] if self._model is None else [self._model.close()]))
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _change(self) -> asyncio.Lock:
        if self._changing.locked():
            raise BusyError("the model is being replaced already. Try again when that is done.", 5)
        return self._changing

    async def _loaded(self, folder: Path) -> ServedModel:
        model = await ServedModel.loaded(folder, self._load, self._settings.batch, self._on_call)
        self.num_loads += 1
        return model

    def _swap(self, model: ServedModel) -> None:
        old, self._model = self._model, model
        if old is not None:
            task = asyncio.get_running_loop().create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, old: ServedModel) -> None:
        await old.close()
        is_used = self._model is not None and self._model.folder == old.folder
        if self._temporary is not None and old.folder.is_relative_to(self._temporary) and not is_used:
            shutil.rmtree(old.folder, ignore_errors=True)

    async def _watched(self) -> None:
        """Looks whether the model still answers, and loads one that does not again."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            model = self._model
            is_stuck = model.batcher.busy_seconds > self._settings.stuck_seconds
            if not model.failed and (is_stuck or not model.recommender.is_alive):
                logger.error("the model has %s", "been stuck in one call" if is_stuck else "lost its engine")
                model.fail()
            if model.failed:
                await self._recovered(model)

    async def _recovered(self, failed: ServedModel) -> None:
        pause = self._settings.recovery_seconds
        while True:
            async with self._changing:
                if failed is not self._model:  # somebody has loaded another
                    return
                try:
                    self._swap(await self._loaded(failed.folder))
                    logger.warning("the failed model has been loaded again")
                    return
                except Exception:
                    logger.exception("the failed model could not be loaded again; next attempt in %.0f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _folder_for_added(self) -> Path:
        """A folder that is not there yet."""
        around = self._settings.keep_items
        if around is None:
            self._temporary = self._temporary or Path(tempfile.mkdtemp(prefix="llmrec-served-"))
            around = self._temporary
        name, number = re.sub(r"-added-\d+$", "", run_name(self._model.folder)) + "-added", 1
        while (around / f"{name}-{number}").exists():
            number += 1
        return around / f"{name}-{number}"
