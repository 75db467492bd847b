"""`llmrec recommend` and `llmrec score`: one user's history in, items or scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.options import AsJson, Beams, Decoding, Device, History, Instruction, Rule, Run, open_run
from llmrec.apps.output import print_json
from llmrec.errors import RequestError
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.recommender import Recommender


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
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="What a column must say: genres=Comedy, 'genres=Comedy|Drama' (one of them), 'genres!=Horror', "
            "'year>=1990'. Repeatable; all must hold."
        ),
    ] = None,
    in_stock: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file with the ids in stock, one per line; or a column that says so."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="An item id that must not come out, or a file of ids; repeatable.")
    ] = None,
    diversity: Annotated[
        str | None,
        typer.Option(help="Make the list less alike: mmr:0.3 (weight 0 to 1), or ssd:0.5:5 (gamma, window)."),
    ] = None,
    instruction: Instruction = None,
    num_beams: Beams = None,
    decoding: Decoding = "trie",
    softmax_scope: Rule = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user. Only items of the catalogue come out, best first.

    \b
    Example:
      llmrec recommend runs/demo --history 50 --history 181 -k 10
      llmrec recommend runs/demo --history 50 --where genres=Comedy --where "year>=1990" --diversity mmr:0.3
    """
    from llmrec.recommenders.diversity import parse_diversity

    method = None if diversity is None else parse_diversity(diversity)
    recommender = open_run(run, num_beams=num_beams, device=device, decoding=decoding, softmax_scope=softmax_scope)
    found = recommender.recommend(
        history or [],
        k,
        exclude_seen=not include_seen,
        candidates=_listed_ids(candidates, recommender) if candidates else None,
        where=where or [],
        in_stock=None if in_stock is None else _stock(in_stock, recommender),
        exclude=_listed_ids(exclude or [], recommender),
        diversity=method,
        instruction=instruction,
    )
    if as_json:
        print_json(
            {
                "run": str(run),
                "history": history or [],
                "exclude_seen": not include_seen,
                "where": where or [],
                "diversity": None if method is None else str(method),
                "missing": k - len(found),
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
        typer.echo(f"{k - len(found)} of {k} are missing: no other item may be recommended here.", err=True)


def score(
    run: Run,
    candidate: Annotated[
        list[str], typer.Option("--candidate", help="An item id to score, or a file with one id a line; repeatable.")
    ],
    history: History = None,
    instruction: Instruction = None,
    softmax_scope: Rule = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Score given items for one user, in the order given: the log-probability of each as the next item, or, of a run that
    was trained to tell liked items from others (`soft_tokens` with objective=pointwise), the probability that it is liked.

    \b
    Example:
      llmrec score runs/demo --history 50 --candidate 181 --candidate 172
    """
    recommender = open_run(run, num_beams=1, device=device, softmax_scope=softmax_scope)
    item_ids = _listed_ids(candidate, recommender)
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


def _listed_ids(named: list[str], recommender: Recommender) -> list[str]:
    """Item ids as they are, files line by line. What is both is an id."""
    found = []
    for name, known in zip(named, recommender.catalog.contains(named), strict=True):
        found += _lines(name) if not known and Path(name).is_file() else [name]
    return found


def _stock(name: str, recommender: Recommender) -> str | list[str]:
    """A column of the catalogue by its name, or the ids in a file. What is both is a column."""
    if name in recommender.catalog.table.column_names:
        return name
    if not Path(name).is_file():
        raise RequestError(
            f"--in-stock takes a file with one item id per line, or a column of the catalogue "
            f"({', '.join(recommender.catalog.table.column_names)}); '{name}' is neither."
        )
    return _lines(name)


def _lines(file: str) -> list[str]:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the item ids in '{file}': {error}.") from error
    return [line.strip() for line in lines if line.strip()]
