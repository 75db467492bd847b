"""One loaded recommender: the thread that owns it, the batcher in front of it, the names of its items."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.recommender import Recommender
from llmrec.serving.batcher import Batcher
from llmrec.serving.errors import NotReadyError
from llmrec.serving.item_names import ItemNames
from llmrec.serving.requests import ScoreRequest, ServedRequest, answers
from llmrec.serving.settings import BatchSettings
from llmrec.serving.threads import OwnThread

logger = logging.getLogger(__name__)
Load = Callable[[Path], Recommender]
OnCall = Callable[[int, float], None]


class ModelFailedError(NotReadyError):
    """The model answers nothing any more."""

    def __init__(self) -> None:
        super().__init__("the model has failed and is being loaded again. Try again in a moment.")


class ServedModel:
    """A recommender that is loaded, asked and freed by one thread of its own, which vLLM wants and torch does not mind."""

    def __init__(self, recommender: Recommender, folder: Path, executor: OwnThread, batcher: Batcher) -> None:
        self.recommender, self.folder = recommender, folder
        self.names = ItemNames(recommender.catalog)
        self.loaded_at, self.answered_at = time.time(), time.monotonic()  # the latter when an answer last came
        self.failed = False
        self._executor, self.batcher = executor, batcher
        self._users, self._unused = 0, asyncio.Event()
        self._unused.set()

    @classmethod
    async def loaded(cls, folder: Path, load: Load, settings: BatchSettings, on_call: OnCall) -> ServedModel:
        """The model of a run folder, loaded by the thread that will own it. Raises what `load` raises."""
        executor = OwnThread("model")
        try:
            recommender = await asyncio.get_running_loop().run_in_executor(executor, load, folder)
        except BaseException:
            executor.shutdown()
            raise
        model: ServedModel
        batcher = Batcher(lambda requests: model._answers(requests), executor, settings, on_call)
        model = cls(recommender, folder, executor, batcher)
        return model

    async def ask(self, request: ServedRequest) -> Any:
        """The answer to a request. Raises BusyError, NotReadyError, and what the recommender says is wrong with the request."""
        if self.failed:
            raise ModelFailedError
        return await self.batcher.ask(request)

    @contextmanager
    def in_use(self) -> Iterator[ServedModel]:
        """Inside, the model is not freed, though it may have been replaced."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def fail(self) -> None:
        """The model answers nothing any more, and whoever waits for it is told."""
        self.failed = True
        self.batcher.abandon(ModelFailedError())

    async def close(self) -> None:
        """Answers what it has taken, then frees the model. One that has failed is freed by its thread, if that ever comes to it."""
        await self._unused.wait()
        if self.failed:
            self.batcher.abandon(ModelFailedError())
        else:
            await self.batcher.close()
        freed = asyncio.wrap_future(self._executor.submit(self._free))
        self._executor.shutdown()
        if not self.failed:
            await freed

    def probe(self) -> ScoreRequest:
        """The cheapest request there is: one item's score for a new user."""
        return ScoreRequest((), (self.recommender.catalog.item_id(0),))

    def _answers(self, requests: Sequence[ServedRequest]) -> list[Any]:
        """In the model's thread. What is wrong with one request fails that one alone; what fails the model is raised."""
        if self.failed:
            raise ModelFailedError
        try:
            found = answers(self.recommender, requests)
        except Exception as error:
            if not self._lives():
                logger.error("the model has failed", exc_info=error)
                self.failed = True
                raise ModelFailedError from error
            if len(requests) == 1:
                raise
            return [self._alone(request) for request in requests]
        self.answered_at = time.monotonic()
        return found

    def _alone(self, request: ServedRequest) -> Any:
        try:
            return self._answers([request])[0]
        except Exception as error:
            return error

    def _lives(self) -> bool:
        try:
            answers(self.recommender, [self.probe()])
        except Exception:
            return False
        return True

    def _free(self) -> None:
        self.recommender.close()
        del self.recommender
        gc.collect()


def run_name(folder: Path) -> str:
    """What a run is called: its folder, or, of the model folder in it, the folder around."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == "model" else folder.name
