"""`llmrec eval`: runs or a baseline through a task, as a table, one JSON object, or a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.eval.asked import Asked, Decoder
from llmrec.apps.options import AsJson, Beams, Decoding, Device, Engine, Rule
from llmrec.apps.output import check_writable


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
            help="Instead of a run: popularity, markov (first-order chain), ease_r, low_rank_ease_r, item_knn, ials or sasrec."
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
    from llmrec.evaluation.runs import is_ctr_model
    from llmrec.evaluation.tasks import ClicksTask, load_any_task

    name = task or ("clicks" if runs and is_ctr_model(runs[0]) else "leave_one_out")
    asked = Asked(
        tuple(runs or ()), baseline, tuple(baseline_setting or ()), tuple(against or ()), data, name, subset, fit, exclude_seen,
        with_baselines, both_ties, max_users, out, as_json, Decoder(num_beams, decoding, softmax_scope, engine, device),
    )  # fmt: skip
    asked.check()
    if out is not None:
        check_writable(out)
    if isinstance(load_any_task(name), ClicksTask):
        from llmrec.apps.eval.clicks import evaluate_clicks_of as measure
    else:
        from llmrec.apps.eval.next_item import evaluate_next_item as measure
    measure(asked)
