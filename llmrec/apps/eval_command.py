"""`llmrec eval`: runs or a baseline through a task, as a table, one JSON object, or a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, Beams, Decoding, Device, Engine, Rule, open_run
from llmrec.apps.output import check_writable, print_json
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.evaluation.compare import Comparison
    from llmrec.evaluation.runner import Evaluation
    from llmrec.recommenders.requests import Ranker


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run folder; several are the seeds of one configuration, shown with mean and spread. Or none, with --baseline.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Instead of a run: popularity, markov (first-order chain), ease_r, low_rank_ease_r, matrix_factorisation or sasrec."
        ),
    ] = None,
    baseline_setting: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One of the baseline's settings, such as dim=64. Repeat it for more."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="OTHER",
            help="Another run of the same data and split: paired differences of every metric. Repeat it for its seeds.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared data folder; by default the one the run was trained on.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="A name that `llmrec tasks` lists, or a YAML file. Default: leave_one_out; of a CTR model, clicks."
        ),
    ] = None,
    subset: Annotated[str, typer.Option(help="test or valid.")] = "test",
    fit: Annotated[
        str | None, typer.Option(help="What a baseline learns from: train or train+valid. Default: the task's.")
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Whether items of the history are filtered. Default: as the task says for a run (leave_one_out: yes) "
            "and for baselines next to it; for a baseline by itself no.",
        ),
    ] = None,
    with_baselines: Annotated[
        bool,
        typer.Option(
            "--with-baselines",
            help="All baselines and the hybrid (run + EASE-R, weighed on validation) next to the run, with paired differences.",
        ),
    ] = False,
    both_ties: Annotated[
        bool,
        typer.Option(
            "--both-ties",
            help="A baseline under both orders of events of one moment, the file's and a shuffled one, in one table.",
        ),
    ] = False,
    max_users: Annotated[int | None, typer.Option(help="Only the first so many users.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write a report too: a file that ends in .html or .json.")] = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    softmax_scope: Rule = None,
    engine: Engine = "torch",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run, or a baseline, on the users of a data folder. Values come with intervals over users.

    \b
    Example:
      llmrec eval runs/demo --with-baselines --out report.html
      llmrec eval runs/mine0 runs/mine1 runs/mine2                  # seeds of one configuration: mean, spread, each
      llmrec eval runs/mine --against runs/other                    # a paired test
      llmrec eval runs/ease/ctr/models/ids/din            # a CTR model: AUC, GAUC, next to means of items and users
      llmrec eval --baseline sasrec --baseline-setting dim=64 --baseline-setting seed=1 --data data/mine
      llmrec eval --baseline ease_r --data data/mine --fit train+valid --exclude-seen --json
      llmrec eval --baseline markov --data data/mine --both-ties    # does the file's order of equal times give answers away?
    """
    from llmrec.apps import eval_output
    from llmrec.baselines.by_name import make_baseline
    from llmrec.evaluation.runs import is_ctr_model
    from llmrec.evaluation.tasks import ClicksTask, load_any_task

    if bool(runs) == (baseline is not None):
        raise ConfigError(
            "eval measures a run or a baseline: give the folder of a RUN or --baseline NAME, one of both."
        )
    if both_ties and runs:
        raise ConfigError(
            "--both-ties fits a baseline under both orders, but a run has learned from one, and the other would ask it about events "
            "that it was trained on. Prepare a second data folder with --ties shuffle, train a run on it, and evaluate each on its own."
        )
    if baseline is None and baseline_setting:
        raise ConfigError(
            "--baseline-setting is of a baseline, but none is named. Add --baseline NAME, or leave it out."
        )
    if out is not None:
        if out.suffix not in (".html", ".json"):
            raise ConfigError(f"a report is an .html or a .json file, but --out is '{out}'.")
        check_writable(out)

    def opened(run: Path) -> Ranker:
        return open_run(
            run, num_beams=num_beams, device=device, engine=engine, decoding=decoding, softmax_scope=softmax_scope
        ).ranker

    name = task or ("clicks" if runs and is_ctr_model(runs[0]) else "leave_one_out")
    of_clicks = load_any_task(name)
    if isinstance(of_clicks, ClicksTask):
        from llmrec.apps.eval_clicks import evaluate_run_of_clicks

        if (
            not runs
            or len(runs) > 1
            or against
            or with_baselines
            or max_users
            or exclude_seen is not None
            or fit
            or both_ties
        ):
            raise ConfigError(
                f"the task '{name}' asks one run about clicks, always next to means of items and users: leave out --baseline, "
                "--against, --both-ties, --with-baselines, --max-users, --fit, --exclude-seen and --include-seen, and name one RUN."
            )
        evaluate_run_of_clicks(runs[0], of_clicks, data=data, subset=subset, opened=opened, as_json=as_json, out=out)
        return
    asked = _Asked(runs or [], against or [], data, name, subset, fit, exclude_seen, with_baselines, max_users)
    if baseline is not None:
        unused = {"--num-beams": num_beams, "--softmax-scope": softmax_scope, "--device": device}
        _warn_of_unused({**unused, "--decoding": None if decoding == "trie" else decoding})
        chosen, again = (make_baseline(baseline, baseline_setting or ()) for _ in range(2))
        comparison = _with_baseline_alone(asked)
        first = chosen.fit(comparison.split.fitted(comparison.task.fit))
        found = _Found([comparison.ask(first)], first)
        if both_ties:
            shuffled = comparison.with_shuffled_ties()
            found.evaluations.append(shuffled.ask(again.fit(shuffled.split.fitted(shuffled.task.fit))))
    else:
        comparison = _with_runs(asked)
        found = _measured(asked, comparison, opened)
    if both_ties:
        pair = (found.evaluations[0], found.evaluations[1])
        print_json(eval_output.ties_as_json(pair)) if as_json else eval_output.print_ties(pair)
    elif as_json:
        print_json(eval_output.as_json(found.evaluations, found.against))
    else:
        eval_output.print_tables(found.evaluations, found.against)
    if out is not None:
        shown = comparison.examples(found.first, range(min(eval_output.NUM_EXAMPLES, len(comparison.instances))))
        everything = found.evaluations + ([found.against] if found.against else [])
        eval_output.save_report(out, everything, runs[0] / "training_log.jsonl" if runs else None, shown)
        typer.echo(f"Wrote {out}.", err=True)


@dataclass(frozen=True)
class _Asked:
    """The arguments that say what is measured."""

    runs: list[Path]
    against: list[Path]
    data: Path | None
    task: str
    subset: str
    fit: str | None
    exclude_seen: bool | None
    with_baselines: bool
    max_users: int | None


@dataclass(frozen=True)
class _Found:
    """evaluations: what was asked for, then the baselines and the hybrid; first: who gave the first; against: the other side of a
    paired test."""

    evaluations: list[Evaluation]
    first: Ranker
    against: Evaluation | None = None


def _with_baseline_alone(asked: _Asked) -> Comparison:
    if asked.data is None:
        raise ConfigError("a baseline needs the data to learn from: --data DIR.")
    if asked.with_baselines:
        raise ConfigError("--with-baselines puts baselines next to a run, but there is none. Leave it out.")
    if asked.against:
        raise ConfigError(
            "--against is a paired test of two runs, but there is no run. Use: llmrec eval RUN --against OTHER"
        )
    return _comparison(asked, asked.data, asked.fit, bool(asked.exclude_seen))


def _with_runs(asked: _Asked) -> Comparison:
    """What is wrong is said before a model is loaded."""
    from llmrec.artifacts.run_folder import read_manifest
    from llmrec.evaluation.runs import check_belongs, check_pair, seeds_of, trained_on

    first = asked.runs[0]
    manifest = read_manifest(first)
    trained_fit = manifest["protocol"].get("fit")
    if asked.fit not in (None, trained_fit):
        raise ConfigError(f"this run was trained on '{trained_fit}', and --fit cannot change that. Leave it out.")
    for group in (asked.runs, asked.against):
        if len(group) > 1:
            seeds_of(group)
    for other in (*asked.runs[1:], *asked.against):
        check_pair(first, other)
    comparison = _comparison(asked, asked.data or trained_on(first), trained_fit, asked.exclude_seen)
    for run in (*asked.runs, *asked.against):
        check_belongs(read_manifest(run), comparison.data, comparison.split)
    return comparison


def _comparison(asked: _Asked, folder: Path, fit: str | None, exclude_seen: bool | None) -> Comparison:
    from llmrec.data.folder import load_data
    from llmrec.evaluation.compare import Comparison
    from llmrec.evaluation.tasks import load_any_task

    overrides = [] if fit is None else [f"fit={fit}"]
    if (
        exclude_seen is not None and load_any_task(asked.task).kind == "ranking"
    ):  # sampled candidates have not been seen
        overrides.append(f"exclude_seen={'true' if exclude_seen else 'false'}")
    task = load_any_task(asked.task, overrides)
    data = load_data(folder)
    return Comparison(data, task, task.split.make(data.interactions), asked.subset, asked.max_users)


def _measured(asked: _Asked, comparison: Comparison, opened: Callable[[Path], Ranker]) -> _Found:
    """The runs, one after another so that one model is in memory at a time but for the first; seeds as their mean."""
    from llmrec.evaluation.runs import seeds_of
    from llmrec.evaluation.seeds import over_seeds
    from llmrec.evaluation.significance import renamed

    baselines = []
    if asked.with_baselines:
        typer.echo("fitting the baselines ...", err=True)
        baselines = comparison.baselines()
    first, of_runs, of_hybrids = None, [], []
    for run in asked.runs:
        ranker = opened(run)
        first = first or ranker
        of_runs.append(comparison.ask(ranker))
        if (hybrid := comparison.hybrid(ranker, baselines)) is not None:
            of_hybrids.append(comparison.ask(hybrid))
    seeds = seeds_of(asked.runs) if len(asked.runs) > 1 else [0]
    measured = over_seeds(of_runs, seeds)
    hybrids = [over_seeds(of_hybrids, seeds)] if of_hybrids else []
    against = None
    if asked.against:
        others = [comparison.ask(opened(run)) for run in asked.against]
        against = over_seeds(others, seeds_of(asked.against) if len(others) > 1 else [0])
        measured, against = renamed(measured, _named(asked.runs)), renamed(against, _named(asked.against))
    return _Found([measured, *map(comparison.ask, baselines), *hybrids], first, against)


def _named(runs: list[Path]) -> str:
    return str(runs[0]) if len(runs) == 1 else f"{runs[0]} ({len(runs)} seeds)"


def _warn_of_unused(given: dict[str, object]) -> None:
    """Says which options of a run's model were given for a baseline."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        typer.echo(f"warning: {' and '.join(names)} changes nothing here: a baseline has no language model.", err=True)
