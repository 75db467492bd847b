"""What a baseline is: a recommender that is made of settings and learns from interactions alone."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from pydantic import ValidationError

from llmrec.config import Settings
from llmrec.data.interactions import Interactions
from llmrec.data.splits import Instances, Split
from llmrec.errors import ConfigError, ModelError
from llmrec.recommenders.requests import DenseRecommender

Arrays = dict[str, np.ndarray]  # by name


def sparse_arrays(name: str, matrix: sp.csr_array) -> Arrays:
    """A sparse matrix as arrays, for `sparse_of`."""
    return {f"{name}.values": matrix.data, f"{name}.columns": matrix.indices, f"{name}.starts": matrix.indptr}


def sparse_of(name: str, arrays: Arrays, shape: tuple[int, int]) -> sp.csr_array:
    """The matrix of `sparse_arrays`. Raises KeyError where it is not there, ValueError where it is none of this shape."""
    found = sp.csr_array(tuple(arrays[f"{name}.{part}"] for part in ("values", "columns", "starts")), shape=shape)
    found.check_format()
    return found


def counts_in(arrays: Arrays, num_items: int) -> np.ndarray:
    """The array `counts`. Raises KeyError where there is none, ValueError where it is not of all items."""
    if arrays["counts"].shape != (num_items,):
        raise ValueError(f"counts of {arrays['counts'].shape} for {num_items} items")
    return arrays["counts"]


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
    by_events: ClassVar[bool] = True  # whether it knows items by their training events alone
    fit_cpu_minutes: float | None = None  # process time of `fitted` or `fitted_on`, over all threads

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

    def arrays(self) -> Arrays:
        """What it has learned, for `with_arrays` of one of the same settings. Raises ModelError for a baseline that cannot be kept."""
        raise ModelError(f"'{self.name}' cannot be kept in a folder by itself.")

    def with_arrays(self, arrays: Arrays, num_items: int) -> Self:
        """What `arrays` gave, taken up in place of `fit`; returns itself. Raises KeyError or ValueError for what it did not give."""
        raise ModelError(f"'{self.name}' cannot be kept in a folder by itself.")

    def fitted(self, interactions: Interactions) -> Self:
        """`fit`, and how long it took: see fit_cpu_minutes."""
        began = time.process_time()
        self.fit(interactions)
        self.fit_cpu_minutes = (time.process_time() - began) / 60
        return self


class TrainedBaseline(Baseline):
    """Learns epoch by epoch, for as long as a validation says; then, if asked to, anew from more events for just so long.

    epochs_chosen: how many the validation of `fit` chose, which may be a fraction; None before it. is_refit: whether what stands now
    is what `refit` made.
    """

    epochs_chosen: float | None = None
    is_refit: bool = False

    @property
    def card(self) -> dict:
        """All settings, and once it is fitted the number of epochs."""
        known = self.epochs_chosen is not None
        chosen = {"epochs_chosen": self.epochs_chosen, "refit": self.is_refit} if known else {}
        return {**super().card, **chosen}

    @abstractmethod
    def fit(self, interactions: Interactions, *, valid: Instances | None = None, folder: Path | None = None) -> Self:
        """Learn from these events; the best state by validation is kept, and `epochs_chosen` known. Returns itself.

        valid: what validation asks, none of whose targets is among the events. None: the last event of each user with three events or
        more is held back for it, and so not learned from. folder: where the training is kept meanwhile, so that a killed one goes on;
        None: nowhere.
        """

    @abstractmethod
    def refit(self, interactions: Interactions, *, folder: Path | None = None) -> Self:
        """Learn anew from these events, from the same seed and for `epochs_chosen` epochs, with no validation. Returns itself.

        So the events that chose the epochs may be learned from in the end. Raises ConfigError where `fit` has not chosen yet.
        """


def fitted_on(
    baseline: Baseline, split: Split, fit: str, *, refit: bool = False, folder: Path | None = None
) -> Baseline:
    """The baseline, fitted on a split's events.

    fit: "train" or "train+valid", as in `Split.fitted`. One that is trained is validated on the split's validation instances where
    they are not among the events: with "train", and with "train+valid" and `refit`, which trains on "train" first and then anew on
    both for as many epochs as validation chose. "train+valid" without `refit` holds events back of its own. folder: see
    `TrainedBaseline.fit`; a refit is kept in FOLDER-refit. Raises ConfigError for `refit` with "train".
    """
    if refit and fit == "train":
        raise ConfigError(
            "a refit learns from the validation events, too, but only 'train' may be learned from. Set fit to train+valid, by "
            "--fit train+valid or in the task."
        )
    began = time.process_time()
    if not isinstance(baseline, TrainedBaseline):
        baseline.fit(split.fitted(fit))
    elif fit == "train":
        baseline.fit(split.train, valid=split.valid, folder=folder)
    elif not refit:
        baseline.fit(split.train_valid, folder=folder)
    else:
        beside = None if folder is None else folder.with_name(f"{folder.name}-refit")
        baseline.fit(split.train, valid=split.valid, folder=folder).refit(split.train_valid, folder=beside)
    baseline.fit_cpu_minutes = (time.process_time() - began) / 60
    return baseline
