"""`llmrec eval` of the next item: runs, a baseline or a language model as it is, among the whole catalogue or sampled candidates."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from llmrec.apps.eval import output
from llmrec.apps.eval.asked import Asked
from llmrec.apps.eval.choices import choices_of
from llmrec.apps.eval.tuned import chosen_settings
from llmrec.apps.output import print_json
from llmrec.artifacts.run_folder import read_manifest
from llmrec.baselines.baseline import Baseline, fitted_on
from llmrec.baselines.by_name import baseline_type, make_baseline
from llmrec.data.folder import load_data
from llmrec.data.splits import Split
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.open import open_asked
from llmrec.evaluation.code_hits import codes_of
from llmrec.evaluation.compare import Comparison
from llmrec.evaluation.cost import training_cost
from llmrec.evaluation.results import Evaluation
from llmrec.evaluation.runs import check_belongs, check_pair, seeds_of, trained_on
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.shards import Work, work_of
from llmrec.evaluation.significance import renamed
from llmrec.evaluation.tasks import load_any_task
from llmrec.files import cache_dir
from llmrec.recommenders.requests import Ranker


def evaluate_next_item(asked: Asked) -> None:
    """Measures what is asked for, prints a table or one JSON object, and writes the report."""
    with ExitStack() as kept:
        if asked.baseline.baseline is not None:
            comparison = _alone(asked)
            found = _with_baseline(asked, comparison)
        elif asked.untrained.model is not None:
            comparison = _alone(asked)
            found = _with_untrained(asked, comparison, kept)
        else:
            comparison = comparison_of([asked.runs, asked.against], asked)
            found = _with_runs(asked, comparison, kept)
        _show(asked, comparison, found)


@dataclass(frozen=True)
class _Found:
    """evaluations: what was asked for, then the baselines and the hybrid; first: who gave the first; against: the other side of a
    paired test; choices: how a language model as it is chooses and writes (`choices_of`)."""

    evaluations: list[Evaluation]
    first: Ranker
    against: Evaluation | None = None
    choices: dict[str, Any] = field(default_factory=dict)


def _show(asked: Asked, comparison: Comparison, found: _Found) -> None:
    if asked.both_ties:
        pair = (found.evaluations[0], found.evaluations[1])
        print_json(output.ties_as_json(pair)) if asked.as_json else output.print_ties(pair)
    elif asked.as_json:
        print_json({**output.as_json(found.evaluations, found.against), **found.choices})
    else:
        output.print_tables(found.evaluations, found.against)
        output.print_choices(found.choices)
    if asked.out is not None:
        shown = comparison.examples(found.first, range(min(output.NUM_EXAMPLES, len(comparison.instances))))
        everything = found.evaluations + ([found.against] if found.against else [])
        output.save_report(asked.out, everything, asked.runs, shown, found.choices)


def _alone(asked: Asked) -> Comparison:
    """What a baseline, or a language model as it is, is asked."""
    if asked.with_baselines:
        raise ConfigError("--with-baselines puts baselines next to a run, but there is none. Leave it out.")
    if asked.against:
        raise ConfigError(
            "--against is a paired test of two runs, but there is no run. Use: llmrec eval RUN --against OTHER"
        )
    return _comparison(asked, asked.data_folder, asked.fit)


def _with_baseline(asked: Asked, comparison: Comparison) -> _Found:
    baseline, seeds = asked.baseline, asked.baseline.numbers
    if seeds and "seed" not in baseline_type(baseline.baseline).Settings.model_fields:
        raise ConfigError(f"'{baseline.baseline}' samples nothing, so it has no seeds. Leave out --seeds.")
    chosen = chosen_settings(baseline, comparison.data, comparison.task, comparison.split)

    def fitted(split: Split, *more: str) -> Baseline:
        made = make_baseline(baseline.baseline, [*chosen.settings, *more], comparison.data.catalog)
        return fitted_on(made, split, comparison.task.fit, refit=baseline.refit)

    rankers = [fitted(comparison.split, *of_seed) for of_seed in [[f"seed={seed}"] for seed in seeds] or [[]]]
    measured = over_seeds([chosen.on_card(comparison.ask(ranker)) for ranker in rankers], seeds)
    found = _Found([measured], rankers[0])
    if asked.both_ties:
        shuffled = comparison.with_shuffled_ties()
        found.evaluations.append(chosen.on_card(shuffled.ask(fitted(shuffled.split))))
    return found


def _with_untrained(asked: Asked, comparison: Comparison, kept: ExitStack) -> _Found:
    model = open_asked(asked.untrained.checked(), comparison.data, comparison.task, comparison.split)
    work = kept.enter_context(Work(cache_dir() / "evaluations"))
    return _Found([comparison.ask(model, work)], model, choices=choices_of(asked, comparison, model))


def comparison_of(groups: Sequence[Sequence[Path]], asked: Asked) -> Comparison:
    """What runs are asked, each group being the seeds of one configuration. What is wrong is said before a model is loaded."""
    runs = [run for group in groups for run in group]
    first = runs[0]
    manifest = read_manifest(first)
    trained_fit = manifest["protocol"].get("fit")
    if asked.fit not in (None, trained_fit):
        raise ConfigError(f"this run was trained on '{trained_fit}', and --fit cannot change that. Leave it out.")
    for group in groups:
        if len(group) > 1:
            seeds_of(group)
    for other in runs[1:]:
        check_pair(first, other)
    comparison = _comparison(asked, asked.data or trained_on(first), trained_fit)
    for run in runs:
        check_belongs(read_manifest(run), comparison.data, comparison.split)
    return comparison


def _comparison(asked: Asked, folder: Path, fit: str | None) -> Comparison:
    overrides = [] if fit is None else [f"fit={fit}"]
    if (
        asked.exclude_seen is not None and load_any_task(asked.task).kind == "ranking"
    ):  # sampled candidates were not seen
        overrides.append(f"exclude_seen={'true' if asked.exclude_seen else 'false'}")
    task = load_any_task(asked.task, overrides)
    data = load_data(folder)
    return Comparison(data, task, task.make(data), asked.subset, asked.max_users, asked.cost_seconds)


def _with_runs(asked: Asked, comparison: Comparison, kept: ExitStack) -> _Found:
    """The runs, one after another so that one model is in memory at a time but for the first; seeds as their mean. kept: what holds the
    answers of a killed evaluation until all is done."""
    baselines = []
    if asked.with_baselines:
        typer.echo("fitting the baselines ...", err=True)
        baselines = comparison.baselines()
    first, of_runs, of_hybrids = None, [], []
    for run in asked.runs:
        ranker = asked.decoder.open(run).ranker
        first = first or ranker
        work = kept.enter_context(work_of(run))
        of_runs.append(comparison.ask(ranker, work, known=training_cost(run), codes=codes_of(run)))
        if (hybrid := comparison.hybrid(ranker, baselines)) is not None:
            of_hybrids.append(comparison.ask(hybrid, work))
    seeds = seeds_of(asked.runs) if len(asked.runs) > 1 else [0]
    measured = over_seeds(of_runs, seeds)
    hybrids = [over_seeds(of_hybrids, seeds)] if of_hybrids else []
    against = None
    if asked.against:
        others = [
            comparison.ask(
                asked.decoder.open(run).ranker,
                kept.enter_context(work_of(run)),
                known=training_cost(run),
                codes=codes_of(run),
            )
            for run in asked.against
        ]
        against = over_seeds(others, seeds_of(asked.against) if len(others) > 1 else [0])
        measured, against = renamed(measured, named(asked.runs)), renamed(against, named(asked.against))
    return _Found([measured, *map(comparison.ask, baselines), *hybrids], first, against)


def named(runs: Sequence[Path]) -> str:
    """What tables call them where two configurations stand side by side."""
    return str(runs[0]) if len(runs) == 1 else f"{runs[0]} ({len(runs)} seeds)"
