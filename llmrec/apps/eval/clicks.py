"""`llmrec eval` of clicks: runs, a baseline or a language model as it is, next to the means of items and users."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from llmrec.apps.eval import output
from llmrec.apps.eval.asked import Asked
from llmrec.apps.eval.click_runs import ClickRun, click_comparison_of, seeds_of_click_runs
from llmrec.apps.eval.next_item import named
from llmrec.apps.eval.tuned import chosen_settings
from llmrec.apps.output import print_json
from llmrec.data.folder import load_data
from llmrec.errors import ConfigError
from llmrec.evaluation.asked.open import open_asked
from llmrec.evaluation.click_baselines import click_baselines
from llmrec.evaluation.compare import ClickComparison
from llmrec.evaluation.cost import training_cost
from llmrec.evaluation.results import ClickEvaluation
from llmrec.evaluation.seeds import over_seeds
from llmrec.evaluation.shards import Work, work_of
from llmrec.evaluation.significance import name_of, renamed
from llmrec.evaluation.tasks import load_any_task
from llmrec.files import cache_dir


def evaluate_clicks_of(asked: Asked) -> None:
    """Scores every click example of the subset once; prints a table or one JSON object, and writes the report.

    Raises ConfigError where the run answers no clicks, or was trained on other examples than the task's.
    """
    _check(asked)
    against = None
    with ExitStack() as kept:
        if asked.runs:
            comparison, runs = click_comparison_of(asked)
            measured = _of_runs(asked, comparison, [runs[run] for run in asked.runs], kept)
            if asked.against:
                other = _of_runs(asked, comparison, [runs[run] for run in asked.against], kept)
                measured, against = renamed(measured, named(asked.runs)), renamed(other, named(asked.against))
        elif asked.baseline.baseline is not None:
            comparison = _comparison(asked, asked.data_folder)
            measured = _of_baseline(asked, comparison)
        else:
            comparison = _comparison(asked, asked.data_folder)
            scorer = open_asked(asked.untrained.checked(), comparison.data, comparison.task, comparison.split)
            measured = comparison.ask(scorer, kept.enter_context(Work(cache_dir() / "evaluations")))
        evaluations = [measured, *(each for each in comparison.means() if name_of(each) != name_of(measured))]
        print_json(output.as_json(evaluations, against)) if asked.as_json else output.print_tables(evaluations, against)
        if asked.out is not None:
            output.save_report(asked.out, evaluations + ([against] if against else []), asked.runs, [])


def _check(asked: Asked) -> None:
    unfit = {
        "--with-baselines": asked.with_baselines,
        "--max-users": asked.max_users,
        "--exclude-seen and --include-seen": asked.exclude_seen is not None,
        "--fit": asked.fit,
        "--both-ties": asked.both_ties,
    }
    if wrong := [name for name, given in unfit.items() if given]:
        raise ConfigError(
            f"the task '{asked.task}' asks about clicks, always next to means of items and users: leave out {' and '.join(wrong)}."
        )
    if asked.against and not asked.runs:
        raise ConfigError(
            "--against is a paired test of two runs, but there is no run. Use: llmrec eval RUN --against OTHER"
        )
    if asked.subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{asked.subset}'.")


def _comparison(asked: Asked, folder: Path) -> ClickComparison:
    data, task = load_data(folder), load_any_task(asked.task)
    return ClickComparison(data, task, task.make(data), asked.subset, asked.cost_seconds)


def _of_baseline(asked: Asked, comparison: ClickComparison) -> ClickEvaluation:
    baseline, data, split = asked.baseline, comparison.data, comparison.split
    seeds = baseline.numbers
    chosen = chosen_settings(baseline, data, comparison.task, split)
    scorers = click_baselines(baseline.baseline, chosen.settings, data, split, seeds=seeds, refit=baseline.refit)
    found = [chosen.on_card(comparison.ask(scorer, known=known, kind="baseline")) for scorer, known in scorers]
    return over_seeds(found, seeds)


def _of_runs(asked: Asked, comparison: ClickComparison, runs: Sequence[ClickRun], kept: ExitStack) -> ClickEvaluation:
    """Seeds of one configuration, one after another; kept: what holds the answers of a killed evaluation until all is done."""
    seeds, data, found = seeds_of_click_runs(runs), comparison.data, []
    for run in runs:
        scorer = run.open(asked.decoder, data.catalog.num_items, data.folder)
        work = kept.enter_context(work_of(run.folder))
        found.append(comparison.ask(scorer, work, known=training_cost(run.folder)))
    return over_seeds(found, seeds)
