"""What a baseline is: a recommender that is made of settings and learns from interactions alone."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ValidationError

from llmrec.config import Settings
from llmrec.data.interactions import Interactions
from llmrec.errors import ConfigError, ModelError
from llmrec.recommenders.requests import DenseRecommender


class DoesNotFit(ModelError):
    """A baseline that needs more memory than there is."""


class NoSettings(Settings):
    """Of a baseline that has none."""


class Baseline(DenseRecommender):
    """Made of settings by name, `EaseR(recency=1.0)`, or of a block of them, `EaseR.from_settings(settings)`; then fitted.

    name: what `baseline_type` finds it by, and tables show; Settings: the model of its settings, the only place of a default.
    What is sampled depends on a setting `seed`.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = NoSettings
    fit_cpu_minutes: float | None = None  # process time of `fitted`, over all threads

    def __init__(self, **settings: object) -> None:
        self.settings: Any = self.checked(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A baseline of these settings, not yet fitted."""
        return cls(**dict(settings))

    @classmethod
    def checked(cls, values: Mapping[str, object]) -> Settings:
        """The settings of these values. Raises ConfigError for one that is unknown or out of range."""
        try:
            return cls.Settings.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"the setting '{key}' of {cls.name} does not fit: {message} (it is {first['input']!r:.80})."
            ) from error

    @property
    def card(self) -> dict:
        """All settings."""
        return self.settings.model_dump(mode="json")

    @abstractmethod
    def fit(self, interactions: Interactions) -> Self:
        """Learn from these events; returns itself."""

    def fitted(self, interactions: Interactions) -> Self:
        """`fit`, and how long it took: see fit_cpu_minutes."""
        began = time.process_time()
        self.fit(interactions)
        self.fit_cpu_minutes = (time.process_time() - began) / 60
        return self
