"""What `llmrec eval` is asked for: its arguments as one value, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmrec.apps.options import as_overrides, open_run
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.evaluation.asked.settings import AskedSettings
    from llmrec.recommenders.requests import Ranker

SUFFIXES = (".html", ".json", ".md", ".tex")  # of a report


@dataclass(frozen=True)
class Decoder:
    """How the model of a run is opened; None: as it was trained, or the default of `open_run`."""

    num_beams: int | None = None
    decoding: str = "trie"
    softmax_scope: str | None = None
    engine: str = "torch"
    device: str | None = None

    def open(self, run: Path) -> Ranker:
        """The run's model, loaded."""
        return open_run(
            run, num_beams=self.num_beams, device=self.device, engine=self.engine, decoding=self.decoding,
            softmax_scope=self.softmax_scope,
        ).ranker  # fmt: skip

    @property
    def given(self) -> list[str]:
        """The options that differ from their defaults, as they are typed."""
        chosen = {
            "--num-beams": self.num_beams,
            "--softmax-scope": self.softmax_scope,
            "--device": self.device,
            "--decoding": None if self.decoding == "trie" else self.decoding,
            "--engine": None if self.engine == "torch" else self.engine,
        }
        return [name for name, value in chosen.items() if value is not None]


@dataclass(frozen=True)
class Baselines:
    """A baseline by its name and how it is fitted. seeds: () for the settings' own; tune: settings tried by validation, 0 for none."""

    name: str | None = None
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    tune: int = 0
    refit: bool = False

    @property
    def given(self) -> list[str]:
        """The options that say how, as they are typed."""
        chosen = {
            "--baseline-setting": self.settings,
            "--seeds": self.seeds,
            "--tune": self.tune,
            "--refit": self.refit,
        }
        return [name for name, value in chosen.items() if value]


@dataclass(frozen=True)
class Untrained:
    """A language model as it is, spelt as for `llmrec enrich`."""

    model: str | None = None
    provider: str = "transformers"
    base_url: str | None = None
    shots: int = 0
    settings: tuple[str, ...] = ()

    @property
    def given(self) -> list[str]:
        """The options that say who runs it and how it is asked, as they are typed."""
        chosen = {
            "--provider": self.provider if self.provider != "transformers" else None,
            "--base-url": self.base_url,
            "--shots": self.shots,
            "--model-setting": self.settings,
        }
        return [name for name, value in chosen.items() if value]

    def checked(self) -> AskedSettings:
        """Its settings. Raises ConfigError for one that is unknown or out of range."""
        from llmrec.config import load_config
        from llmrec.evaluation.asked.settings import AskedSettings

        given = {"model": self.model, "provider": self.provider, "base_url": self.base_url, "shots": self.shots}
        return load_config(AskedSettings, None, [*as_overrides(given), *self.settings])


@dataclass(frozen=True)
class Asked:
    """The arguments. runs, baseline or untrained, one of the three; task: a name or a file; fit, exclude_seen: None where the task
    says; cost_seconds: how long the cost of answers is measured, 0 for not at all; free_users: how many
    users a language model as it is also answers freely."""

    runs: tuple[Path, ...] = ()
    baseline: Baselines = Baselines()
    untrained: Untrained = Untrained()
    against: tuple[Path, ...] = ()
    data: Path | None = None
    task: str = "leave_one_out"
    subset: str = "test"
    fit: str | None = None
    exclude_seen: bool | None = None
    with_baselines: bool = False
    both_ties: bool = False
    max_users: int | None = None
    cost_seconds: float = 0.0
    free_users: int = 0
    out: Path | None = None
    as_json: bool = False
    decoder: Decoder = Decoder()

    def check(self) -> None:
        """Raises ConfigError where arguments contradict each other, whatever the task is."""
        if sum((bool(self.runs), self.baseline.name is not None, self.untrained.model is not None)) != 1:
            raise ConfigError(
                "eval measures a run, a baseline or a language model as it is: give the folder of a RUN, --baseline NAME or "
                "--model NAME, one of them."
            )
        if self.both_ties and self.baseline.name is None:
            raise ConfigError(
                "--both-ties fits a baseline under both orders, but a run has learned from one, and the other would ask it about "
                "events that it was trained on. Prepare a second data folder with --ties shuffle, train a run on it, and evaluate "
                "each on its own."
            )
        for named, given, what in (
            (self.baseline.name, self.baseline.given, "a baseline, but none is named. Add --baseline NAME"),
            (
                self.untrained.model,
                self.untrained.given,
                "a language model as it is, but none is named. Add --model NAME",
            ),
        ):
            if named is None and given:
                raise ConfigError(f"{given[0]} is of {what}, or leave it out.")
        if self.out is not None and self.out.suffix not in SUFFIXES:
            raise ConfigError(f"a report is a file that ends in {', '.join(SUFFIXES)}, but --out is '{self.out}'.")

    @property
    def data_folder(self) -> Path:
        """Where no run names one. Raises ConfigError where none is given."""
        if self.data is None:
            what = (
                "a baseline needs the data to learn from"
                if self.baseline.name
                else "a model needs data to be asked about"
            )
            raise ConfigError(f"{what}: --data DIR.")
        return self.data

    def warn_of_unused(self) -> None:
        """Says which options of a run's model were given where there is no run."""
        if self.decoder.given and not self.runs:
            names = " and ".join(self.decoder.given)
            what = "a baseline has no language model" if self.baseline.name else "they are of a run"
            typer.echo(f"warning: {names} changes nothing here: {what}.", err=True)


def seeds_in(text: str | None) -> tuple[int, ...]:
    """ "0,1,2" as numbers. Raises ConfigError for what are no different numbers from 0 on."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) < 2**32 for part in parts) or len({int(part) for part in parts}) < len(
        parts
    ):
        raise ConfigError(f"--seeds should be different whole numbers from 0 on, such as 0,1,2, but is '{text}'.")
    return tuple(int(part) for part in parts)
