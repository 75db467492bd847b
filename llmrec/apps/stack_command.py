"""`llmrec stack`: runs and baselines as one recommender, with weights learned on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrec.apps.options import AsJson
from llmrec.apps.output import print_json, print_table


def stack(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders: networks of item sequences, or language models."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Run folder of the stack.")],
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Parts that learn in seconds, with commas: ease_r, markov, item_knn, popularity, text_neighbours.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A prepared data folder; by default the one the first run was trained on.")
    ] = None,
    task: Annotated[str, typer.Option(help="Whose validation users weights are learned from.")] = "leave_one_out",
    weights_of: Annotated[
        Path | None,
        typer.Option(
            metavar="STACK",
            help="Take the weights, and the baselines by name, of a stack whose parts learned from train; the runs named here are the "
            "same ones refitted on train+valid, in the same order.",
        ),
    ] = None,
    ease_r_neighbours: Annotated[int, typer.Option(help="Weights that EASE-R keeps of each item.", min=1)] = 200,
    max_users: Annotated[
        int, typer.Option(help="Learn weights from the first so many validation users.", min=5)
    ] = 50_000,
    seed: Annotated[int, typer.Option(help="Of the folds and of drawn items.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Put recommenders together: all scores on one scale, weights by history length and item frequency, learned on validation.

    Validation figures are cross-fitted: no user is measured by weights that were learned from that user. The stack is a run like
    others: recommend, score, serve, eval. Leave parts out to see what they are worth. Started again after a kill, it does not fit the
    baselines again.

    \b
    Example:
      llmrec stack runs/sequential --baselines ease_r,markov,text_neighbours --out runs/stack
      llmrec stack --baselines ease_r,markov --data data/mine --out runs/stack
      llmrec stack runs/sequential_refit --weights-of runs/stack --out runs/stack_refit
      llmrec eval runs/stack
    """
    from llmrec.apps.options import Decoder
    from llmrec.evaluation.stacking import build_stack, stack_settings

    if weights_of is not None:
        more = {}
    else:
        more = {"task": task, "ease_r_neighbours": ease_r_neighbours}
    named = [name for name in (baselines or "").split(",") if name]
    settings = stack_settings(
        runs or [], named, data=data, output=out, weights_of=weights_of, max_users=max_users, seed=seed, **more
    )
    made = build_stack(settings, lambda run: Decoder().open(run).ranker, lambda line: typer.echo(line, err=True))
    card = made.card
    if as_json:
        print_json({"out": str(out), **card})
        return
    validation = card.get("validation", {})
    rows = [[name, f"{value:.4f}"] for name, value in validation.get("ndcg@10_of_parts", {}).items()]
    if rows and weights_of is None:
        print_table(["part", "validation NDCG@10"], [*rows, ["stack, cross-fitted", f"{validation['ndcg@10']:.4f}"]])
    print_table(
        ["share of", *made.weights.names],
        [[where, *(f"{s:.2f}" for s in of.values())] for where, of in card["shares"].items()],
    )
    typer.echo(f"{out}: measure it with: llmrec eval {out} --task {settings.task}", err=True)
