"""What routes work with: the model in service, and the threads beside it that look titles up and write texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from llmrec.apps.http.metrics import Metrics
from llmrec.errors import RequestError
from llmrec.serving.model_holder import ModelHolder
from llmrec.serving.served_model import Load, ServedModel
from llmrec.serving.settings import ServingSettings
from llmrec.serving.threads import BoundedThread
from llmrec.text_models.settings import TextModelSettings

_NAMES_AT_ONCE = 1_000  # names looked at on the event loop; more, and titles, have a thread


@dataclass(eq=False)
class Service:
    """One server's parts. language_model: who writes explanations; None for the one the run was trained from."""

    load: Load
    settings: ServingSettings
    language_model: TextModelSettings | None = None
    api_key: str | None = None
    holder: ModelHolder = field(init=False)
    metrics: Metrics = field(init=False)
    titles: BoundedThread = field(init=False)
    writing: BoundedThread = field(init=False)

    def __post_init__(self) -> None:
        self.holder = ModelHolder(
            self.load, self.settings, lambda number, seconds: self.metrics.on_call(number, seconds)
        )
        self.metrics = Metrics(lambda: self.holder.num_waiting, lambda: self.holder.num_loads)
        self.titles = BoundedThread("titles", self.settings.batch.queue)
        self.writing = BoundedThread("the language model", self.settings.limits.writings)

    async def ids(self, model: ServedModel, names: Sequence[str], what: str) -> tuple[str, ...]:
        """The item ids of names, ids or titles. Raises UnknownItemError, and BusyError where too many look titles up."""
        if len(names) <= _NAMES_AT_ONCE and model.names.all_ids(names):
            return tuple(names)
        return tuple(await self.titles.run(model.names.ids, names, what, self.settings.limits.max_titles))

    def check_length(self, value: Sequence[object] | None, limit: str, what: str) -> None:
        """Raises RequestError where `value` is longer than the limit of that name."""
        most = getattr(self.settings.limits, limit)
        if value is not None and len(value) > most:
            raise RequestError(f"{what} may have {most:,} at most, but there are {len(value):,}. Send fewer.")

    async def close(self) -> None:
        """Answers what was taken, then frees everything."""
        await self.holder.close()
        self.titles.close()
        self.writing.close()


def service_of(request: Request) -> Service:
    """The service of the app that a request came to."""
    return request.app.state.service


Served = Annotated[Service, Depends(service_of)]
