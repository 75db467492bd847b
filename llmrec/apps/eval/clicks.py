"""`llmrec eval` of clicks: a CTR model, or a pointwise run of a language model, next to the means of items and users."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrec.apps.eval.asked import Asked
from llmrec.apps.eval.click_runs import click_comparison_of
from llmrec.apps.output import print_json
from llmrec.errors import ConfigError
from llmrec.evaluation.names import name_in_words
from llmrec.evaluation.results import ClickEvaluation
from llmrec.evaluation.saved import save_results
from llmrec.evaluation.shards import work_of
from llmrec.evaluation.verdicts import contests, label, notes, shared_metrics, verdicts


def evaluate_clicks_of(asked: Asked) -> None:
    """Scores every click example of the subset once; prints a table or one JSON object, and writes that to `out`.

    Raises ConfigError where the run answers no clicks, or was trained on other examples than the task's.
    """
    if (
        len(asked.runs) != 1 or asked.against or asked.with_baselines or asked.max_users or asked.exclude_seen is not None
        or asked.fit or asked.both_ties
    ):  # fmt: skip
        raise ConfigError(
            f"the task '{asked.task}' asks one run about clicks, always next to means of items and users: leave out --baseline, "
            "--against, --both-ties, --with-baselines, --max-users, --fit, --exclude-seen and --include-seen, and name one RUN."
        )
    run, subset, out = asked.runs[0], asked.subset, asked.out
    if subset not in ("valid", "test"):
        raise ConfigError(f"subset should be 'valid' or 'test', but it is '{subset}'.")
    if out is not None and out.suffix != ".json":
        raise ConfigError(f"a report of clicks is a .json file, but --out is '{out}'.")
    comparison, found = click_comparison_of(asked)
    data = comparison.data
    with work_of(run) as work:
        evaluation = comparison.ask(found[run].open(asked.decoder, data.catalog.num_items, data.folder), work)
        means = comparison.means()
        value = _as_json(evaluation, means)
        if asked.as_json:
            print_json(value)
        else:
            _print_table(evaluation, means)
        if out is not None:
            evaluations = [evaluation, *means]
            save_results(out, {**value, "evaluations": [each.to_json() for each in evaluations]}, evaluations)


def _as_json(evaluation: ClickEvaluation, means: list[ClickEvaluation]) -> dict:
    pairs = contests([evaluation, *means], shared_metrics([evaluation, *means]))
    return {
        **evaluation.to_json(),
        "baselines": {each.protocol["recommender"]["name"]: each.to_json() for each in means},
        "notes": notes(evaluation),
        "differences": [difference.to_json() for pair in pairs for difference in pair],
    }


def _print_table(evaluation: ClickEvaluation, means: list[ClickEvaluation]) -> None:
    console, protocol = Console(highlight=False), evaluation.protocol
    caption = (
        f"{protocol['task']['name']}, {protocol['num_rows']:,} {protocol['subset']} examples of {protocol['num_users']:,} users "
        f"(GAUC: of {protocol['gauc_users']:,} who have both answers); {100 * protocol['interval']['level']:g} % intervals over users"
    )
    table = Table(caption=Text(caption), caption_justify="left")
    table.add_column("")
    for metric in evaluation.metrics:
        table.add_column(label(metric), justify="right")
    for each in (evaluation, *means):
        cells = []
        for result in each.metrics.values():
            value = "none" if result["value"] is None else f"{result['value']:.4f}"
            cells.append(value if result["low"] is None else f"{value}\n{result['low']:.4f}-{result['high']:.4f}")
        table.add_row(Text(name_in_words(each.protocol["recommender"])), *cells)
    console.print(table)
    for line in (*notes(evaluation), *verdicts([evaluation, *means])):
        console.print(line, markup=False, soft_wrap=True)
