"""`llmrec recommend` and `llmrec score`: one user's history in, items or scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.output import print_json
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.recommenders.recommender import Recommender

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the model folder in it.")]
History = Annotated[
    list[str] | None, typer.Option("--history", help="An item id; repeat it, oldest first. None: a new user.")
]
Instruction = Annotated[str | None, typer.Option(help="A wish in words, where the run's prompt has a place for one.")]
Beams = Annotated[int, typer.Option(help="Beams of the search; more are slower and closer to exact.", min=1)]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default the accelerator where there is one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def open_run(run: Path, *, num_beams: int, device: str | None) -> Recommender:
    """The recommender of a run, on the accelerator where there is one and no device is named."""
    import torch

    from llmrec.recommenders.recommender import Recommender

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Recommender.from_pretrained(run, device=device, num_beams=num_beams)


def recommend(
    run: Run,
    history: History = None,
    k: Annotated[int, typer.Option("-k", help="Items to recommend.", min=1)] = 10,
    candidates: Annotated[
        list[str] | None,
        typer.Option(help="An item id to choose from, or a file with one id a line; repeatable. Default: all items."),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the history may be recommended again.")
    ] = False,
    instruction: Instruction = None,
    num_beams: Beams = 20,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user. Only items of the catalogue come out, best first.

    \b
    Example:
      llmrec recommend runs/demo --history 50 --history 181 -k 10
    """
    recommender = open_run(run, num_beams=num_beams, device=device)
    found = recommender.recommend(
        history or [],
        k,
        exclude_seen=not include_seen,
        candidates=_candidate_ids(candidates, recommender) if candidates else None,
        instruction=instruction,
    )
    if as_json:
        print_json(
            {
                "run": str(run),
                "history": history or [],
                "exclude_seen": not include_seen,
                "recommendations": [
                    {"rank": rank, "item_id": item.item_id, "title": item.title, "score": item.score}
                    for rank, item in enumerate(found, 1)
                ],
            }
        )
        return
    for rank, item in enumerate(found, 1):
        typer.echo(f"{rank:>4}. {printable(item.title)}  [{printable(item.item_id)}]  {item.score:.3f}")
    if len(found) < k:
        typer.echo(f"No more than {len(found)} items may be recommended here.", err=True)


def score(
    run: Run,
    candidate: Annotated[
        list[str], typer.Option("--candidate", help="An item id to score, or a file with one id a line; repeatable.")
    ],
    history: History = None,
    instruction: Instruction = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Score given items for one user: the log-probability of each as the next item, in the order given.

    \b
    Example:
      llmrec score runs/demo --history 50 --candidate 181 --candidate 172
    """
    recommender = open_run(run, num_beams=1, device=device)
    item_ids = _candidate_ids(candidate, recommender)
    scores = recommender.score(history or [], item_ids, instruction=instruction)
    titles = [recommender.catalog.title(item) for item in recommender.catalog.index(item_ids)]
    if as_json:
        rows = [
            {"item_id": item_id, "title": title or item_id, "score": value}
            for item_id, title, value in zip(item_ids, titles, scores, strict=True)
        ]
        print_json({"run": str(run), "history": history or [], "scores": rows})
        return
    for item_id, title, value in zip(item_ids, titles, scores, strict=True):
        typer.echo(f"{value:>9.3f}  {printable(title or item_id)}  [{printable(item_id)}]")


def _candidate_ids(named: list[str], recommender: Recommender) -> list[str]:
    """Item ids as they are, files line by line. What is both is an id."""
    from llmrec.errors import RequestError

    found = []
    for name, known in zip(named, recommender.catalog.contains(named), strict=True):
        if not known and Path(name).is_file():
            try:
                lines = Path(name).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise RequestError(f"cannot read the candidates in '{name}': {error}.") from error
            found += [line.strip() for line in lines if line.strip()]
        else:
            found.append(name)
    return found
