"""`llmrec recommend RUN --users FILE --out OUT`: the job for many users as the command line shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmrec.apps.output import check_writable, print_json
from llmrec.errors import ConfigError
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.serving.asked import Question, Source
    from llmrec.serving.users_job import Done


@dataclass(frozen=True)
class Many:
    """The options that only many users have."""

    users: Path | None
    data: Path | None
    out: Path | None
    separator: str
    drop_unknown: bool
    shard: int
    force: bool
    ray: str | None
    workers: int | None
    worker_gpus: int | None

    @property
    def are_asked_about(self) -> bool:
        """Whether there are many users, not one."""
        return self.users is not None or self.data is not None


def check_who(source: Source, many: Many, history: list[str] | None) -> None:
    """Raises ConfigError where it is not said who answers, whom to ask about, or where the answers go; or where it is said twice."""
    if (source.run is None) == (source.baseline is None):
        raise ConfigError("a run or a baseline recommends: give the folder of a RUN or --baseline NAME, one of both.")
    if source.baseline is None and source.baseline_settings:
        raise ConfigError(
            "--baseline-setting is of a baseline, but none is named. Add --baseline NAME, or leave it out."
        )
    if source.baseline is not None and source.data is None:
        raise ConfigError("a baseline needs the data to learn from: --data FOLDER.")
    if many.ray is None and (many.workers is not None or many.worker_gpus is not None):
        raise ConfigError(
            "--workers and --worker-gpus are of a Ray cluster. Name it with --ray ADDRESS or --ray local."
        )
    if not many.are_asked_about:
        if many.out is not None:
            raise ConfigError("--out is for many users, but it is not said which. Add --users FILE or --data FOLDER.")
        return
    if history:
        raise ConfigError("--history is of one user, --users and --data name many. Leave out one of the two.")
    if source.run is not None and many.users is not None and many.data is not None:
        raise ConfigError("--users and --data both say whom to recommend to. Leave out one of the two.")
    if many.out is None:
        raise ConfigError("recommendations for many users go into a file. Name it: --out FILE.parquet.")


def recommend_to_many(source: Source, question: Callable[[Catalog], Question], many: Many, *, as_json: bool) -> None:
    """Runs the job with a progress bar, and says what came of it. question: what is asked, of the catalogue's items."""
    from llmrec.serving.asked import check_source
    from llmrec.serving.ray_job import OnRay
    from llmrec.serving.users_job import UsersJob, answer_here, run_job

    check_source(source)
    check_writable(many.out)
    job = UsersJob(
        source,
        question(source.catalog()),
        many.out,
        many.users,
        many.data if many.users is None else None,
        many.separator,
        many.drop_unknown,
        many.shard,
        many.force,
    )
    began = time.monotonic()
    with _Bar() as bar:
        answering = answer_here if many.ray is None else OnRay(many.ray, many.workers, many.worker_gpus)
        done = run_job(job, answering, bar)
    seconds = time.monotonic() - began
    if as_json:
        print_json({"out": str(many.out), **vars(done), "seconds": round(seconds, 1)})
        return
    _say(done, many.out, seconds)


def _say(done: Done, out: Path, seconds: float) -> None:
    kept = f", {done.num_kept:,} of them kept from before" if done.num_kept else ""
    typer.echo(f"{done.num_users:,} users{kept}, {seconds:,.0f} s. Written to {out}")
    if done.num_empty:
        typer.echo(f"{done.num_empty:,} of them receive nothing: no item may be recommended to them.", err=True)
    if done.num_unknown:
        typer.echo(f"{done.num_unknown:,} item ids that the catalogue lacks were left out.", err=True)
    if done.passed_over:
        typer.echo(f"columns passed over: {printable(', '.join(done.passed_over[:10]))}", err=True)


class _Bar:
    """A progress bar on standard error with the time left, where that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(), speed_estimate_period=600
        )  # fmt: skip
        self._task = self._bar.add_task("reading the users", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        if self._bar.tasks[0].total is None:  # the time left is that of what is left now
            self._bar.reset(self._task, description="recommending", total=total, completed=done)
        self._bar.update(self._task, completed=done)
