"""`llmrec eval`: runs, a baseline or a language model as it is through a task, as a table, one JSON object, or a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.eval.asked import Asked, Baselines, Decoder, Untrained, seeds_in
from llmrec.apps.options import AsJson, BaseUrl, Beams, Decoding, Device, Engine, Provider, Rule
from llmrec.apps.output import check_writable

COST_SECONDS = 4.0


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run folder, or that of a CTR model; several are the seeds of one configuration, shown with mean and spread. Or "
            "none, with --baseline or --model.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a run, of the next item: popularity, markov (first-order chain), ease_r, low_rank_ease_r, item_knn, ials, "
            "sasrec, gru4rec or bert4rec. Of clicks: item_mean, user_item_mean, popularity, dnn, dcn_v2, din, autoint or gdcn.",
        ),
    ] = None,
    baseline_setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="One of the baseline's settings, such as dim=64 or inputs=id,text. Repeat it for more.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Seeds of a baseline that is trained, such as 0,1,2: their mean, spread, and each."
        ),
    ] = None,
    tune: Annotated[
        int,
        typer.Option(help="Choose the baseline's settings by validation, of so many that are tried at random.", min=0),
    ] = 0,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Train the baseline anew on train+valid, for as many epochs as validation chose. For a run: refit=true when it is "
            "trained.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Instead of a run, a language model that was never trained here: zero-shot, or --shots.",
        ),
    ] = None,
    provider: Provider = "transformers",
    base_url: BaseUrl = None,
    shots: Annotated[int, typer.Option(help="Solved examples that --model reads before each question.", min=0)] = 0,
    model_setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="How else --model is asked, such as prompt=click/chat or max_history=10. Repeat it for more.",
        ),
    ] = None,
    free_users: Annotated[
        int,
        typer.Option(
            help="With --model: how many users it also answers freely (valid, repeated or none), and chooses for from the same "
            "candidates in three orders.",
            min=0,
        ),
    ] = 100,
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
            help="A name that `llmrec tasks` lists, or a YAML file. Default: the one a run's clicks were trained by, or clicks, or "
            "leave_one_out."
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
    max_users: Annotated[int | None, typer.Option(help="Only the first so many users.", min=1)] = None,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Measure what answers cost, beside the metrics: some seconds.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a report too: a file that ends in .html, .json, .md (Markdown tables) or .tex (LaTeX)."
        ),
    ] = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    softmax_scope: Rule = None,
    engine: Engine = "torch",
    device: Device = None,
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

    name = task or (usual_task(runs[0]) if runs else "leave_one_out")
    asked = Asked(
        runs=tuple(runs or ()),
        baseline=Baselines(baseline, tuple(baseline_setting or ()), seeds_in(seeds), tune, refit),
        untrained=Untrained(model, provider, base_url, shots, tuple(model_setting or ())),
        against=tuple(against or ()),
        data=data,
        task=name,
        subset=subset,
        fit=fit,
        exclude_seen=exclude_seen,
        with_baselines=with_baselines,
        both_ties=both_ties,
        max_users=max_users,
        cost_seconds=COST_SECONDS if cost else 0.0,
        free_users=free_users,
        out=out,
        as_json=as_json,
        decoder=Decoder(num_beams, decoding, softmax_scope, engine, device),
    )
    asked.check()
    asked.warn_of_unused()
    if out is not None:
        check_writable(out)
    if isinstance(load_any_task(name), ClicksTask):
        from llmrec.apps.eval.clicks import evaluate_clicks_of as measure
    else:
        from llmrec.apps.eval.next_item import evaluate_next_item as measure
    measure(asked)
