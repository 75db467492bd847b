"""`llmrec compare`: which of several recommenders is better, by paired tests of every pair, corrected for how many these are."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.eval.asked import Asked, Questions
from llmrec.apps.grouped import grouped
from llmrec.apps.options import AsJson, Decoder
from llmrec.apps.output import check_writable, print_json, print_table
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.evaluation.results import Result
    from llmrec.evaluation.significance import Difference


@grouped
def compare(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, CTR models, or what `eval --out x.json` wrote (its first result); two or more. RUN0,RUN1,RUN2 is one "
            "configuration with three seeds.",
        ),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Such as ndcg@10 or auc; repeat it. Default: ndcg@10 and recall@10, of clicks auc and gauc."),
    ] = None,
    *,
    questions: Questions,
    out: Annotated[Path | None, typer.Option(help="Write the same as --json to a .json file.")] = None,
    decoder: Decoder,
    as_json: AsJson = False,
) -> None:
    """Compare recommenders on the same users: every pair, with intervals, p-values and Holm's correction.

    Results of different protocols are refused, with what differs.

    \b
    Example:
      llmrec compare runs/ids runs/soft
      llmrec compare runs/ids0,runs/ids1,runs/ids2 runs/soft0,runs/soft1,runs/soft2 --metric ndcg@10
      llmrec eval --baseline ease_r --data data/mine --exclude-seen --out ease.json
      llmrec compare runs/ids ease.json --json
    """
    from llmrec.evaluation.verdicts import all_pairs, judged_by
    from llmrec.files import write_json

    if len(things) < 2:
        raise ConfigError(f"a comparison needs two or more, but only '{things[0]}' came: llmrec compare RUN OTHER")
    if repeated := sorted({thing for thing in things if things.count(thing) > 1}):
        raise ConfigError(f"'{repeated[0]}' is named twice. Name each once.")
    if out is not None:
        if out.suffix != ".json":
            raise ConfigError(f"a comparison is written to a .json file, but --out is '{out}'.")
        check_writable(out)
    sides = [_side(thing) for thing in things]
    with ExitStack() as kept:
        models, results = _results(sides, questions, decoder, kept)
        names = metric or judged_by(results[0])
        if not names:
            raise ConfigError(
                f"there is nothing to compare by: name a metric with --metric, one of {', '.join(results[0].compared_by) or 'none'}."
            )
        shown = _Shown(models, results, all_pairs(results, names), names)
        print_json(shown.to_json()) if as_json else _print(shown)
        if out is not None:
            write_json(out, shown.to_json())
            typer.echo(f"Wrote {out}.", err=True)


@dataclass(frozen=True)
class _Side:
    """name: as it was given; folders: a run, or the seeds of a configuration; saved: a JSON file instead."""

    name: str
    folders: tuple[Path, ...] = ()
    saved: Path | None = None


def _side(thing: str) -> _Side:
    paths = [Path(part) for part in thing.split(",") if part]
    files = [path for path in paths if path.suffix == ".json"]
    if files and len(paths) > 1:
        raise ConfigError(
            f"'{thing}' names several results of which one is a file: seeds are saved together, by llmrec eval RUN0 RUN1 --out x.json"
        )
    if files:
        return _Side(thing, saved=files[0])
    if missing := next((path for path in paths if not path.is_dir()), None):
        raise ConfigError(
            f"there is no folder '{missing}'. Name run folders, CTR models, or .json files of llmrec eval."
        )
    return _Side(thing if len(paths) == 1 else f"{paths[0]} ({len(paths)} seeds)", folders=tuple(paths))


def _results(
    sides: list[_Side], questions: Questions, decoder: Decoder, kept: ExitStack
) -> tuple[list[str], list[Result]]:
    """Of each side what it is in words, and its result, read or measured, under the side's name."""
    from llmrec.apps.eval.click_runs import usual_task
    from llmrec.evaluation.saved import load_results
    from llmrec.evaluation.significance import check_same_questions, renamed, shown_name

    found: dict[str, Result] = {side.name: load_results(side.saved)[0] for side in sides if side.saved is not None}
    models = {name: shown_name(result) for name, result in found.items()}
    found = {name: renamed(result, name) for name, result in found.items()}
    first, *others = found.values() or (None,)
    for other in others:  # before anything is measured
        check_same_questions(first, other)
    groups = {side.name: side.folders for side in sides if side.folders}
    if groups:
        chosen = questions.task or (
            _task_of(first) if first is not None else usual_task(next(iter(groups.values()))[0])
        )
        runs = tuple(folder for folders in groups.values() for folder in folders)
        asked = Asked(
            runs=runs,
            data=questions.data,
            task=chosen,
            subset=questions.subset,
            max_users=questions.max_users,
            decoder=decoder,
        )
        measured = _measured(groups, asked, kept)
        models |= {name: shown_name(result) for name, result in measured.items()}
        found |= {name: renamed(result, name) for name, result in measured.items()}
    return [models[side.name] for side in sides], [found[side.name] for side in sides]


def _task_of(result: Result) -> str:
    from llmrec.evaluation.tasks import task_names

    name = result.protocol["task"]["name"]
    if name not in task_names():
        raise ConfigError(
            f"the saved results are of the task '{name}', which is none of llmrec's own: name its file with --task."
        )
    return name


def _measured(groups: dict[str, tuple[Path, ...]], asked: Asked, kept: ExitStack) -> dict[str, Result]:
    """One model in memory at a time; what each answered is kept until all is done."""
    from llmrec.evaluation.seeds import over_seeds
    from llmrec.evaluation.shards import work_of
    from llmrec.evaluation.tasks import ClicksTask, load_any_task

    if asked.subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{asked.subset}'.")
    if isinstance(load_any_task(asked.task), ClicksTask):
        from llmrec.apps.eval.click_runs import click_comparison_of, seeds_of_click_runs

        if asked.max_users is not None:
            raise ConfigError(
                "--max-users is of rankings: a click task says itself which rows are asked. Leave it out."
            )
        comparison, runs = click_comparison_of(asked)
        return {
            name: over_seeds(
                [
                    comparison.ask(
                        runs[folder].open(asked.decoder, comparison.data.catalog.num_items, comparison.data.folder),
                        kept.enter_context(work_of(folder)),
                    )
                    for folder in folders
                ],
                seeds_of_click_runs([runs[folder] for folder in folders]),
            )
            for name, folders in groups.items()
        }
    from llmrec.apps.eval.next_item import comparison_of
    from llmrec.evaluation.runs import seeds_of

    comparison = comparison_of(list(groups.values()), asked)
    return {
        name: over_seeds(
            [
                comparison.ask(asked.decoder.open(folder).ranker, kept.enter_context(work_of(folder)))
                for folder in folders
            ],
            seeds_of(folders) if len(folders) > 1 else [0],
        )
        for name, folders in groups.items()
    }


@dataclass(frozen=True)
class _Shown:
    """models: what each result is of; results: under the names that were given; pairs: their differences; metrics: by name."""

    models: list[str]
    results: list[Result]
    pairs: list[list[Difference]]
    metrics: list[str]

    @property
    def sentences(self) -> list[str]:
        """One a pair; none where most test instances cannot be hit."""
        from llmrec.evaluation.verdicts import in_sentences, mostly_unreachable

        return [] if mostly_unreachable(self.results[0]) else in_sentences(self.pairs)

    def to_json(self) -> dict:
        """What --json prints; floats in full."""
        from llmrec.evaluation.significance import protocol_key
        from llmrec.evaluation.verdicts import notes

        first = self.results[0]
        return {
            "protocol": protocol_key(first),
            "results": [
                {
                    "name": result.given_name,
                    "model": model,
                    "metrics": {name: result.metrics[name] for name in self.metrics},
                }
                for model, result in zip(self.models, self.results, strict=True)
            ],
            "notes": notes(first),
            "sentences": self.sentences,
            "pairs": [difference.to_json() for pair in self.pairs for difference in pair],
        }


def _print(shown: _Shown) -> None:
    from llmrec.evaluation.verdicts import label, notes

    header = ["", "model", *(each for name in shown.metrics for each in (label(name), "interval"))]
    rows = [
        [result.given_name, model, *(cell for name in shown.metrics for cell in _cells(result.metrics[name]))]
        for model, result in zip(shown.models, shown.results, strict=True)
    ]
    print_table(header, rows)
    protocol = shown.results[0].protocol
    typer.echo(
        f"{protocol['task']['name']}, {protocol['subset']}, the same {protocol['num_users']:,} users for all; "
        f"{100 * protocol['interval']['level']:g} % intervals over users"
    )
    for line in (*notes(shown.results[0]), *shown.sentences):
        typer.echo(line)


def _cells(result: dict) -> tuple[str, str]:
    if result["value"] is None:
        return "none", ""
    return f"{result['value']:.4f}", "" if result["low"] is None else f"{result['low']:.4f}-{result['high']:.4f}"
