"""What `llmrec eval` is asked for: its arguments as one value, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.apps.options import open_run
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.recommenders.requests import Ranker


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
class Asked:
    """The arguments. runs or baseline, one of both; task: a name or a file; fit, exclude_seen: None where the task says."""

    runs: tuple[Path, ...]
    baseline: str | None
    baseline_settings: tuple[str, ...]
    against: tuple[Path, ...]
    data: Path | None
    task: str
    subset: str
    fit: str | None
    exclude_seen: bool | None
    with_baselines: bool
    both_ties: bool
    max_users: int | None
    out: Path | None
    as_json: bool
    decoder: Decoder

    def check(self) -> None:
        """Raises ConfigError where arguments contradict each other, whatever the task is."""
        if bool(self.runs) == (self.baseline is not None):
            raise ConfigError(
                "eval measures a run or a baseline: give the folder of a RUN or --baseline NAME, one of both."
            )
        if self.both_ties and self.runs:
            raise ConfigError(
                "--both-ties fits a baseline under both orders, but a run has learned from one, and the other would ask it about "
                "events that it was trained on. Prepare a second data folder with --ties shuffle, train a run on it, and evaluate "
                "each on its own."
            )
        if self.baseline is None and self.baseline_settings:
            raise ConfigError(
                "--baseline-setting is of a baseline, but none is named. Add --baseline NAME, or leave it out."
            )
        if self.out is not None and self.out.suffix not in (".html", ".json"):
            raise ConfigError(f"a report is an .html or a .json file, but --out is '{self.out}'.")
