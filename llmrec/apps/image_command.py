"""`llmrec image`: gives an item another image and shows what that changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmrec.apps.options import AsJson, Decoder, Device, History, Run
from llmrec.apps.output import print_json
from llmrec.terminal import printable

if TYPE_CHECKING:
    from llmrec.explain.image_change import ImageChange


def image(
    run: Run,
    item: Annotated[str, typer.Option(help="The id of the item that gets another image.")],
    image: Annotated[Path, typer.Option(metavar="FILE", help="The image: jpg, png, webp, gif, bmp or tiff.")],
    history: History = None,
    k: Annotated[int, typer.Option("-k", help="Length of the list shown.", min=1)] = 10,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Give an item another image, in memory, and show what that changes: the soft tokens the model reads for this item,
    its score and rank for a history, the list. Nothing is trained or written; the run has to read images.

    \b
    Example:
      llmrec image runs/demo/soft --item 50 --image runs/demo/data/images/181.png --history 181 --history 172
    """
    from llmrec.explain.image_change import change_image

    recommender = Decoder(device=device).open(run)
    change = change_image(recommender, item, image, history or [], k)
    if as_json:
        print_json(
            {
                "run": str(run), "item_id": item, "image": str(image), "history": history or [],
                "soft_tokens": {"cosine": change.token_cosine, "length_ratio": change.token_length_ratio,
                                "largest_change_of_other_items": change.others_moved},
                "score": _two(change.scores), "rank": _two(change.ranks), "num_ranked": change.num_ranked,
                "recommendations": _two([[vars(one) for one in found] for found in change.lists]),
            }
        )  # fmt: skip
        return
    title = recommender.catalog.title(int(recommender.catalog.index([item])[0])) or item
    typer.echo(f"{printable(title)} [{printable(item)}] with the image {printable(str(image))}\n")
    _print_change(change, in_history=item in (history or []))


def _two(values: Any) -> dict[str, Any]:
    before, after = values
    return {"before": before, "after": after}


def _print_change(change: ImageChange, *, in_history: bool) -> None:
    ranks = [f"beyond {change.num_ranked}" if rank is None else str(rank) for rank in change.ranks]
    others = "unchanged" if change.others_moved == 0 else f"changed by up to {change.others_moved:.2g}"
    typer.echo(f"its soft tokens       cosine {change.token_cosine:.3f}, {change.token_length_ratio:.2f} times as long")
    typer.echo(f"of all other items    {others} (largest difference {change.others_moved:g})")
    typer.echo(f"its score             {change.scores[0]:.3f} -> {change.scores[1]:.3f}")
    typer.echo(f"its rank              {ranks[0]} -> {ranks[1]}\n")
    before, after = change.lists
    rank_before = {found.item_id: rank for rank, found in enumerate(before, 1)}
    what = "the list, with the item in the history" if in_history else "the list"
    same = sum(found.item_id in rank_before for found in after)
    typer.echo(f"{what}: {same} of {len(after)} items were in it before (their ranks then)")
    for rank, found in enumerate(after, 1):
        was = rank_before.get(found.item_id)
        typer.echo(
            f"{rank:>4}. {printable(found.title)}  [{printable(found.item_id)}]  {found.score:.3f}  ({was or 'new'})"
        )
