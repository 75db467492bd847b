"""`llmrec recommend` and `llmrec score`: histories in, items or scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrec.apps.grouped import grouped
from llmrec.apps.options import AsJson, Decoder, Device, Engine, History, Instruction, Rule, Run
from llmrec.apps.output import print_json
from llmrec.apps.recommend_users import Many, check_who, recommend_to_many
from llmrec.errors import RequestError
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.recommender import Recommender
    from llmrec.serving.asked import Question


@grouped
def recommend(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="A run folder, or the model folder in it. Or none, with --baseline."),
    ] = None,
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
    *,
    decoder: Decoder,
    users: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Many users: a parquet, csv or jsonl file with user_id and history (item ids, oldest first), and perhaps "
            "candidates, exclude and instruction of each. The answers go to --out.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Many users: those of a prepared data folder, with all their events. With --baseline: what it learns from.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of many users: the parquet file to write, a row a user: user_id, item_ids, scores."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Of many users: who answers instead of a run, such as popularity or ease_r.")
    ] = None,
    baseline_setting: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One of the baseline's settings, such as dim=64. Repeat it for more."),
    ] = None,
    separator: Annotated[
        str, typer.Option(help="Of many users: what stands between the ids of a list in a csv file.")
    ] = "|",
    drop_unknown: Annotated[
        bool,
        typer.Option(
            "--drop-unknown", help="Of many users: leave out item ids that the catalogue lacks instead of stopping."
        ),
    ] = False,
    shard_users: Annotated[
        int, typer.Option(help="Of many users: so many are answered between two saves.", min=1)
    ] = 1024,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace --out, and drop an interrupted job that was begun on something else."),
    ] = False,
    engine_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="With --engine vllm: a setting of vllm.LLM, such as tensor_parallel_size=2."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Of many users: answered by the machines of a Ray cluster (auto, or HOST:6379), or by one of this machine.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --ray: recommenders at work. Default: one a GPU, or a core.", min=1)
    ] = None,
    worker_gpus: Annotated[
        int | None, typer.Option(help="With --ray: GPUs of each. Default: 1 where there are any.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to one user, or to many. Only items of the catalogue come out, best first.

    A job for many users that was killed goes on where it was when the same command is given again.

    \b
    Example:
      llmrec recommend runs/demo --history 50 --history 181 -k 10
      llmrec recommend runs/demo --history 50 --where genres=Comedy --where "year>=1990" --diversity mmr:0.3
      llmrec recommend runs/demo --users users.parquet --out lists.parquet -k 20
      llmrec recommend --baseline popularity --data data/mine --out lists.parquet
    """
    from llmrec.serving.asked import Question, Source

    def question(catalog: Catalog) -> Question:
        return Question(
            k,
            not include_seen,
            None if not candidates else _listed_ids(candidates, catalog),
            tuple(where or ()),
            None if in_stock is None else _stock(in_stock, catalog),
            _listed_ids(exclude or [], catalog),
            diversity,
            instruction,
        )

    many = Many(users, data, out, separator, drop_unknown, shard_users, force, ray, workers, worker_gpus)
    source = Source(
        run, decoder.device, decoder.num_beams, decoder.decoding, decoder.softmax_scope, baseline, tuple(baseline_setting or ()), data,
        decoder.engine, tuple(engine_option or ()),
    )  # fmt: skip
    check_who(source, many, history)
    if many.are_asked_about:
        recommend_to_many(source, question, many, as_json=as_json)
    else:
        recommender = source.open()
        _recommend_to_one(run, recommender, history or [], question(recommender.catalog), as_json=as_json)


def _recommend_to_one(
    run: Path, recommender: Recommender, history: list[str], question: Question, *, as_json: bool
) -> None:
    """Prints a numbered list, or one JSON object."""
    found = recommender.recommend(
        history,
        question.k,
        exclude_seen=question.exclude_seen,
        **vars(question.rules),
        diversity=question.method,
        instruction=question.instruction,
    )
    missing = question.k - len(found)
    if as_json:
        print_json(
            {
                "run": str(run),
                "history": history,
                "exclude_seen": question.exclude_seen,
                "where": list(question.where),
                "diversity": None if question.method is None else str(question.method),
                "missing": missing,
                "recommendations": [
                    {"rank": rank, "item_id": item.item_id, "title": item.title, "score": item.score}
                    for rank, item in enumerate(found, 1)
                ],
            }
        )
        return
    for rank, item in enumerate(found, 1):
        typer.echo(f"{rank:>4}. {printable(item.title)}  [{printable(item.item_id)}]  {item.score:.3f}")
    if missing:
        typer.echo(f"{missing} of {question.k} are missing: no other item may be recommended here.", err=True)


def score(
    run: Run,
    candidate: Annotated[
        list[str], typer.Option("--candidate", help="An item id to score, or a file with one id a line; repeatable.")
    ],
    history: History = None,
    instruction: Instruction = None,
    softmax_scope: Rule = None,
    engine: Engine = "torch",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Score given items for one user, in the order given: the log-probability of each as the next item, or, of a run that
    was trained to tell liked items from others (`soft_tokens` with objective=pointwise), the probability that it is liked.

    \b
    Example:
      llmrec score runs/demo --history 50 --candidate 181 --candidate 172
    """
    recommender = Decoder(softmax_scope=softmax_scope, engine=engine, device=device).open(run)
    item_ids = list(_listed_ids(candidate, recommender.catalog))
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


def _listed_ids(named: list[str], catalog: Catalog) -> tuple[str, ...]:
    """Item ids as they are, files line by line. What is both is an id."""
    found = []
    for name, known in zip(named, catalog.contains(named), strict=True):
        found += _lines(name) if not known and Path(name).is_file() else [name]
    return tuple(found)


def _stock(name: str, catalog: Catalog) -> str | tuple[str, ...]:
    """A column of the catalogue by its name, or the ids in a file. What is both is a column."""
    if name in catalog.table.column_names:
        return name
    if not Path(name).is_file():
        raise RequestError(
            f"--in-stock takes a file with one item id per line, or a column of the catalogue "
            f"({', '.join(catalog.table.column_names)}); '{name}' is neither."
        )
    return tuple(_lines(name))


def _lines(file: str) -> list[str]:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the item ids in '{file}': {error}.") from error
    return [line.strip() for line in lines if line.strip()]
