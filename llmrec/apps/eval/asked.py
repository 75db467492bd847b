"""What `llmrec eval` is asked for: its arguments as one value, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.grouped import given_options
from llmrec.apps.options import BaseUrl, Decoder, Provider, as_overrides
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.evaluation.asked.settings import AskedSettings

SUFFIXES = (".html", ".json", ".md", ".tex")  # of a report


@dataclass(frozen=True)
class Questions:
    """Whom what is asked, of `llmrec eval` and `llmrec compare`."""

    data: Annotated[
        Path | None, typer.Option(help="A prepared data folder; by default the one the first run was trained on.")
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            help="A name that `llmrec tasks` lists, or a YAML file. Default: the one a run's clicks were trained by, or clicks, or "
            "leave_one_out; of compare, that of the first saved result."
        ),
    ] = None
    subset: Annotated[str, typer.Option(help="test or valid.")] = "test"
    max_users: Annotated[int | None, typer.Option(help="Only the first so many users.", min=1)] = None


@dataclass(frozen=True)
class Baselines:
    """A baseline by its name and how it is fitted. seeds: as typed, None for the settings' own; tune: settings tried by validation."""

    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a run, of the next item: popularity, markov (first-order chain), ease_r, low_rank_ease_r, item_knn, ials, "
            "text_neighbours, "
            "sasrec, gru4rec or bert4rec. Of clicks: item_mean, user_item_mean, popularity, dnn, dcn_v2, din, autoint or gdcn.",
        ),
    ] = None
    baseline_setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="One of the baseline's settings, such as dim=64 or inputs=id,text. Repeat it for more.",
        ),
    ] = None
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Seeds of a baseline that is trained, such as 0,1,2: their mean, spread, and each."
        ),
    ] = None
    tune: Annotated[
        int,
        typer.Option(help="Choose the baseline's settings by validation, of so many that are tried at random.", min=0),
    ] = 0
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Train the baseline anew on train+valid, for as many epochs as validation chose. For a run: refit=true when it is "
            "trained.",
        ),
    ] = False

    @property
    def settings(self) -> tuple[str, ...]:
        """Each as KEY=VALUE."""
        return tuple(self.baseline_setting or ())

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its seeds; () for the settings' own. Raises ConfigError for what are no different numbers from 0 on."""
        return seeds_in(self.seeds)


@dataclass(frozen=True)
class Untrained:
    """A language model as it is, spelt as for `llmrec enrich`. free_users: how many users it also answers freely."""

    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Instead of a run, a language model that was never trained here: zero-shot, or --shots.",
        ),
    ] = None
    provider: Provider = "transformers"
    base_url: BaseUrl = None
    shots: Annotated[int, typer.Option(help="Solved examples that --model reads before each question.", min=0)] = 0
    model_setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="How else --model is asked, such as prompt=click/chat or max_history=10. Repeat it for more.",
        ),
    ] = None
    free_users: Annotated[
        int,
        typer.Option(
            help="With --model: how many users it also answers freely (valid, repeated or none), and chooses for from the same "
            "candidates in three orders.",
            min=0,
        ),
    ] = 100

    def checked(self) -> AskedSettings:
        """Its settings. Raises ConfigError for one that is unknown or out of range."""
        from llmrec.config import load_config
        from llmrec.evaluation.asked.settings import AskedSettings

        given = {"model": self.model, "provider": self.provider, "base_url": self.base_url, "shots": self.shots}
        return load_config(AskedSettings, None, [*as_overrides(given), *(self.model_setting or ())])


@dataclass(frozen=True)
class Asked:
    """The arguments. runs, baseline or untrained, one of the three; task: a name or a file; fit, exclude_seen: None where the task
    says; cost_seconds: how long the cost of answers is measured, 0 for not at all."""

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
    out: Path | None = None
    as_json: bool = False
    decoder: Decoder = field(default_factory=Decoder)

    def check(self) -> None:
        """Raises ConfigError where arguments contradict each other, whatever the task is."""
        if sum((bool(self.runs), self.baseline.baseline is not None, self.untrained.model is not None)) != 1:
            raise ConfigError(
                "eval measures a run, a baseline or a language model as it is: give the folder of a RUN, --baseline NAME or "
                "--model NAME, one of them."
            )
        if self.both_ties and self.baseline.baseline is None:
            raise ConfigError(
                "--both-ties fits a baseline under both orders, but a run has learned from one, and the other would ask it about "
                "events that it was trained on. Prepare a second data folder with --ties shuffle, train a run on it, and evaluate "
                "each on its own."
            )
        for named, given, what in (
            (
                self.baseline.baseline,
                given_options(self.baseline),
                "a baseline, but none is named. Add --baseline NAME",
            ),
            (
                self.untrained.model,
                given_options(self.untrained),
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
                if self.baseline.baseline
                else "a model needs data to be asked about"
            )
            raise ConfigError(f"{what}: --data DIR.")
        return self.data

    def warn_of_unused(self) -> None:
        """Says which options of a run's model were given where there is no run."""
        if given_options(self.decoder) and not self.runs:
            names = " and ".join(given_options(self.decoder))
            what = "a baseline has no language model" if self.baseline.baseline else "they are of a run"
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
