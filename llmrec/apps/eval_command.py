"""`llmrec eval`: a run or a baseline through a task, as a table, one JSON object, or a report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.output import check_writable, print_json
from llmrec.apps.recommend_commands import AsJson, Beams, Decoding, Device, Rule, open_run
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.data.folder import Data
    from llmrec.data.splits import Split
    from llmrec.evaluation.tasks import Task
    from llmrec.recommenders.requests import Ranker


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder; or none, with --baseline.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Instead of a run: popularity, markov, ease_r, ...")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared data folder; by default the one the run was trained on.")
    ] = None,
    task: Annotated[str, typer.Option(help="A name that `llmrec tasks` lists, or a YAML file.")] = "leave_one_out",
    subset: Annotated[str, typer.Option(help="test or valid.")] = "test",
    fit: Annotated[
        str | None, typer.Option(help="What a baseline learns from: train or train+valid. Default: the task's.")
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Whether items of the history are kept out. Default: as the task says for a run (leave_one_out: out) "
            "and for baselines beside it; a baseline by itself keeps them.",
        ),
    ] = None,
    with_baselines: Annotated[
        bool,
        typer.Option(
            "--with-baselines",
            help="All baselines and the hybrid (run + EASE-R, weighed on validation) beside the run, with paired differences.",
        ),
    ] = False,
    max_users: Annotated[int | None, typer.Option(help="Only the first so many users.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write a report too: a file that ends in .html or .json.")] = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    score_rule: Rule = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run, or a baseline, on the users of a data folder. Values come with intervals over users.

    \b
    Example:
      llmrec eval runs/demo --with-baselines --out report.html
      llmrec eval --baseline ease_r --data data/mine --fit train+valid --exclude-seen --json
    """
    from llmrec.apps import eval_output
    from llmrec.evaluation.runner import evaluate as run_task

    if (run is None) == (baseline is None):
        raise ConfigError(
            "eval measures a run or a baseline: give the folder of a RUN or --baseline NAME, one of both."
        )
    if out is not None:
        if out.suffix not in (".html", ".json"):
            raise ConfigError(f"a report is an .html or a .json file, but --out is '{out}'.")
        check_writable(out)
    if run is None:
        asked = _baseline_alone(baseline, data, task, fit, bool(exclude_seen), with_baselines)
    else:
        asked = _run(run, data, task, fit, exclude_seen, with_baselines)
        opened = open_run(run, num_beams=num_beams, device=device, decoding=decoding, score_rule=score_rule)
        ranker = opened.ranker
        asked = replace(asked, rankers=[ranker, *asked.rankers, *_hybrid(ranker, asked)])
    evaluations = [
        run_task(ranker, asked.data, asked.task, subset, split=asked.split, max_cases=max_users)
        for ranker in asked.rankers
    ]
    if as_json:
        print_json(eval_output.as_json(evaluations))
    else:
        eval_output.print_tables(evaluations)
    if out is not None:
        examples = eval_output.examples(asked.rankers[0], asked.data, asked.split, asked.task, subset)
        eval_output.save_report(out, evaluations, run / "training_log.jsonl" if run else None, examples)
        typer.echo(f"Wrote {out}.", err=True)


@dataclass(frozen=True)
class _Asked:
    """Who is asked what. rankers: the first is the one that was asked for, baselines follow."""

    data: Data
    task: Task
    split: Split
    rankers: list[Ranker]


def _baseline_alone(
    name: str, data: Path | None, task: str, fit: str | None, exclude_seen: bool, with_baselines: bool
) -> _Asked:
    from llmrec.data.folder import load_data
    from llmrec.evaluation.tasks import load_task

    if data is None:
        raise ConfigError("a baseline needs the data to learn from: --data DIR.")
    if with_baselines:
        raise ConfigError("--with-baselines puts baselines beside a run, but there is none. Leave it out.")
    asked, loaded = load_task(task, [*_seen(exclude_seen), *_fit(fit)]), load_data(data)
    split = asked.split.make(loaded.interactions)
    return _Asked(loaded, asked, split, [_fitted(name, split, asked.fit)])


def _run(
    run: Path, data: Path | None, task: str, fit: str | None, exclude_seen: bool | None, with_baselines: bool
) -> _Asked:
    """All but the run's own ranker: what is wrong is said before the model is loaded."""
    from llmrec.data.folder import load_data
    from llmrec.evaluation.tasks import load_task
    from llmrec.recommenders.artifact import read_manifest
    from llmrec.recommenders.baselines import fit_baselines

    manifest = read_manifest(run)
    trained_fit = manifest["protocol"].get("fit")
    if fit not in (None, trained_fit):
        raise ConfigError(f"this run was trained on '{trained_fit}', and --fit cannot change that. Leave it out.")
    asked = load_task(task, [*(_seen(exclude_seen) if exclude_seen is not None else []), *_fit(trained_fit)])
    loaded = load_data(data or _trained_on(run))
    split = asked.split.make(loaded.interactions)
    _check_belongs(manifest, loaded, split)
    baselines = []
    if with_baselines:
        typer.echo("fitting the baselines ...", err=True)
        baselines = fit_baselines(split.fitted(asked.fit))
    return _Asked(loaded, asked, split, baselines)


def _hybrid(ranker: Ranker, asked: _Asked) -> list[Ranker]:
    """The run and the EASE-R among the baselines together, where there is one and both leave validation unseen."""
    from llmrec.evaluation.runner import batches
    from llmrec.recommenders.baselines import EaseR
    from llmrec.recommenders.hybrid import Hybrid

    ease_r = next((baseline for baseline in asked.rankers if isinstance(baseline, EaseR)), None)
    if ease_r is None or asked.task.fit != "train":
        return []
    cases = asked.split.valid
    rows = batches(len(cases), 256, "weighing the hybrid")
    return [Hybrid(ranker, ease_r).fit_weight(cases, exclude_seen=asked.task.exclude_seen, batches=rows)]


def _seen(exclude: bool) -> list[str]:
    return [f"exclude_seen={'true' if exclude else 'false'}"]


def _fit(fit: str | None) -> list[str]:
    return [] if fit is None else [f"fit={fit}"]


def _fitted(name: str, split: Split, fit: str) -> Ranker:
    from llmrec.evaluation.runner import fit_baseline

    if name == "ease_r":  # the only one that takes long enough to be asked about
        typer.echo("fitting ease_r ...", err=True)
    return fit_baseline(name, split, fit)


def _trained_on(run: Path) -> Path:
    """The data folder that the run's settings name."""
    from llmrec.yaml_text import read_yaml

    path = run / "config.yaml"
    settings = read_yaml(path, f"the settings of the run in '{path}'") if path.is_file() else None
    if not isinstance(settings, dict) or not isinstance(settings.get("data"), str):
        raise ConfigError(f"'{run}' has no config.yaml that names its data folder. Name it with --data DIR.")
    return Path(settings["data"])


def _check_belongs(manifest: dict, data: Data, split: Split) -> None:
    """Raises ConfigError for another catalogue or split; warns of other events, which may hold what the run has seen."""
    trained = manifest["protocol"]
    if manifest["catalog_hash"] != data.catalog.content_hash:
        raise ConfigError(
            f"the run knows a catalogue of {manifest.get('num_items')} items (content {manifest['catalog_hash']}), but "
            f"'{data.folder}' has another one ({data.catalog.num_items} items, content {data.catalog.content_hash}). "
            "Evaluate it on the data folder that it was trained on."
        )
    same_events = trained.get("content_hash") == data.card.get("content_hash")
    card = json.loads(json.dumps(split.card))
    then = trained.get("split") or {}
    if then.get("policy") != split.name or (same_events and then != card):
        raise ConfigError(
            f"the run was trained on the split '{then.get('policy')}' and the task asks about '{split.name}' with other "
            "settings or another policy, so that it may have learned the answers. Train with validation.task=TASK."
        )
    if not same_events:
        typer.echo(
            f"warning: the run was trained on other events (content {trained.get('content_hash')}) than "
            f"'{data.folder}' holds ({data.card.get('content_hash')}); it may have learned some of the answers.",
            err=True,
        )
