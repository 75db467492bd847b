"""`llmrec eval`: runs, a baseline or a language model as it is through a task, as a table, one JSON object, or a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.eval.asked import Asked, Baselines, Questions, Untrained
from llmrec.apps.grouped import grouped
from llmrec.apps.options import AsJson, Decoder
from llmrec.apps.output import check_writable

COST_SECONDS = 4.0


@grouped
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run folder, or that of a CTR model; several are the seeds of one configuration, shown with mean and spread. Or "
            "none, with --baseline or --model.",
        ),
    ] = None,
    *,
    baseline: Baselines,
    untrained: Untrained,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="OTHER",
            help="Another run of the same data and split: paired differences of every metric. Repeat it for its seeds.",
        ),
    ] = None,
    questions: Questions,
    fit: Annotated[
        str | None, typer.Option(help="What a baseline learns from: train or train+valid. Default: the task's.")
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Whether items of the history are filtered. Default: as the task says.",
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
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Measure what answers cost, beside the metrics: some seconds.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a report too: a file that ends in .html, .json, .md (Markdown tables) or .tex (LaTeX)."
        ),
    ] = None,
    decoder: Decoder,
    as_json: AsJson = False,
) -> None:
    """Measure a run, a baseline, or a language model as it is. Values come with intervals over users, and what they cost.

    \b
    Example:
      llmrec eval runs/demo --with-baselines --out report.html
      llmrec eval runs/mine0 runs/mine1 runs/mine2                  # seeds of one configuration: mean, spread, each
      llmrec eval runs/mine --against runs/other                    # a paired test
      llmrec eval runs/ease/ctr/models/ids/din            # a CTR model: AUC, GAUC, next to means of items and users
      llmrec eval --baseline sasrec --seeds 0,1,2 --tune 8 --data data/mine
      llmrec eval --baseline din --baseline-setting inputs=id,text --data data/mine --task recbench/clicks
      llmrec eval --baseline ease_r --data data/mine --fit train+valid --include-seen --json
      llmrec eval --baseline markov --data data/mine --both-ties    # does the file's order of equal times give answers away?
      llmrec eval --model SmolLM2-135M-Instruct --shots 4 --data data/mine --task recbench/clicks
    """
    from llmrec.apps.eval.click_runs import usual_task
    from llmrec.evaluation.tasks import ClicksTask, load_any_task

    name = questions.task or (usual_task(runs[0]) if runs else "leave_one_out")
    asked = Asked(
        tuple(runs or ()), baseline, untrained, tuple(against or ()), questions.data, name, questions.subset, fit, exclude_seen,
        with_baselines, both_ties, questions.max_users, COST_SECONDS if cost else 0.0, out, as_json, decoder,
    )  # fmt: skip
    asked.check()
    asked.warn_of_unused()
    if out is not None:
        check_writable(out)
    if isinstance(load_any_task(name), ClicksTask):
        from llmrec.apps.eval.clicks import evaluate_clicks_of as measure
    else:
        from llmrec.apps.eval.next_item import evaluate_next_item as measure
    measure(asked)
