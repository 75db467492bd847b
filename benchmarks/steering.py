"""What wishes do to the lists of a run: how far each leans, what it costs in rank and in the metric, and in time.

    python benchmarks/steering.py --data DATA --run RUN

Users are drawn by seed; the history of each is all but the last event, which is the target of NDCG@10. "rank" is the mean rank of the
ten in the run's own order of the whole catalogue, "kept" how many of the usual ten are among them. The disliked film is the first of
the usual ten, which is left out of both lists that are compared. Steering that wishes nothing must give the usual lists. Reasons for a
list are timed beside the list itself, for users' first events.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import harness
import numpy as np

from llmrec.data.folder import Data, load_data
from llmrec.explain.reasons import reasons
from llmrec.recommender import Recommendation, Recommender
from llmrec.recommenders.rules import Condition
from llmrec.recommenders.steering import Steering, likeness

K = 10
LENGTHS, TIMED = (1, 5, 20, 50), 20  # of histories whose lists get reasons, and lists of each length
Lists = list[list[Recommendation]]


def flags() -> argparse.ArgumentParser:
    """The flags of this bench."""
    parser = harness.parser(__doc__, quick={"users": 20}, rounds=1)
    parser.add_argument("--data", type=Path, required=True, help="the data folder of the run, with a column of genres")
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of users")
    return parser


def run(options: argparse.Namespace) -> dict:
    """A row for each wish."""
    data = load_data(options.data)
    events = data.interactions
    users = np.random.default_rng(options.seed).choice(events.num_users, options.users, replace=False)
    rows = [
        [data.catalog.item_id(item) for item in events.items[slice(*events.indptr[user : user + 2])]] for user in users
    ]
    # every list is read anew, as a new user's
    recommender = Recommender.from_pretrained(options.run, prompt_cache_mib=0)
    return {
        "rows": _rows(recommender, data, rows),
        "reasons": [_reasons(recommender, rows, length) for length in LENGTHS],
    }


def _reasons(recommender: Recommender, users: list[list[str]], length: int) -> dict:
    """Median CPU milliseconds of a list and of its reasons, and how many of these are because of a title."""
    seconds, found = [], []
    for history in [row[:length] for row in users if len(row) >= length][:TIMED]:
        began = time.process_time()
        listed = recommender.recommend(history, K)
        has_list = time.process_time()
        found += reasons(recommender, history, [one.item_id for one in listed])
        seconds.append((has_list - began, time.process_time() - has_list))
    list_ms, reasons_ms = (float(value) * 1000 for value in np.median(seconds, axis=0))
    because = float(np.mean([one.influence is not None for one in found]))
    return {"history": length, "list_ms": list_ms, "reasons_ms": reasons_ms, "because": because}


def _rows(recommender: Recommender, data: Data, users: list[list[str]]) -> list[dict]:
    histories, targets = [row[:-1] for row in users], [row[-1] for row in users]
    ranks = [
        {found.item_id: rank for rank, found in enumerate(row, 1)}
        for row in recommender.recommend_batch(histories, data.catalog.num_items)
    ]
    usual, usual_ms = _timed(recommender, histories, None)
    nothing, _ = _timed(recommender, histories, [Steering()] * len(histories))
    harness.require_identical(nothing == usual, "the usual list and that of steering without a wish")
    disliked = [row[0].item_id for row in usual]
    wishes = {
        "prefer Comedy": [Steering(prefer=(Condition.parse("genres=Comedy"),))],
        "prefer Western": [Steering(prefer=(Condition.parse("genres=Western"),))],
        "avoid Drama": [Steering(avoid=(Condition.parse("genres=Drama"),))],
        "the first disliked": [Steering(disliked=(item_id,)) for item_id in disliked],
        "surprise": [Steering(surprise=True)],
    }
    without_first = [row[1:] for row in recommender.recommend_batch(histories, K + 1)]
    found = [{"wish": "none", "ndcg@10": _ndcg(usual, targets), "rank": _rank(usual, ranks), "ms": usual_ms}]
    for name, steering in wishes.items():
        lists, ms = _timed(recommender, histories, steering * (len(histories) // len(steering)))
        row = {
            "wish": name,
            "ndcg@10": _ndcg(lists, targets),
            "rank": _rank(lists, ranks),
            "kept": _kept(lists, usual),
            "ms": ms,
        }
        if name.startswith(("prefer", "avoid")):
            genre = name.split()[1]
            row |= {"share before": _share(data, usual, genre), "share": _share(data, lists, genre)}
        else:
            like = (
                [[item_id] for item_id in disliked]
                if "disliked" in name
                else [[one.item_id for one in own] for own in usual]
            )
            before = {"likeness before": _likeness(recommender, without_first, like)} if "disliked" in name else {}
            row |= before | {"likeness": _likeness(recommender, lists, like)}
        found.append(row)
    return found


def _timed(
    recommender: Recommender, histories: list[list[str]], steering: Sequence[Steering] | None
) -> tuple[Lists, float]:
    """The lists, and CPU milliseconds for one that is asked for alone."""
    began = time.process_time()
    lists = [
        recommender.recommend(history, K, steering=None if steering is None else steering[row])
        for row, history in enumerate(histories)
    ]
    return lists, (time.process_time() - began) / len(histories) * 1000


def _ndcg(lists: Lists, targets: list[str]) -> float:
    gains = [
        sum(1 / np.log2(1 + rank) for rank, found in enumerate(row, 1) if found.item_id == target)
        for row, target in zip(lists, targets, strict=True)
    ]
    return float(np.mean(gains))


def _rank(lists: Lists, ranks: list[dict[str, int]]) -> float:
    # where a beam search ends before the whole catalogue, what it did not reach counts as the next rank
    return float(
        np.mean([[own.get(one.item_id, len(own) + 1) for one in row] for row, own in zip(lists, ranks, strict=True)])
    )


def _kept(lists: Lists, usual: Lists) -> float:
    pairs = zip(lists, usual, strict=True)
    return float(np.mean([len({one.item_id for one in row} & {one.item_id for one in own}) for row, own in pairs]))


def _share(data: Data, lists: Lists, genre: str) -> float:
    genres = data.catalog.table["genres"].to_pylist()
    return float(
        np.mean([genre in genres[item] for row in lists for item in data.catalog.index([one.item_id for one in row])])
    )


def _likeness(recommender: Recommender, lists: Lists, others: list[list[str]]) -> float:
    """The mean over lists and their items of the largest cosine, where positive, with one of the others."""

    def vectors(item_ids: list[str]) -> np.ndarray:
        return recommender.item_vectors(recommender.catalog.index(item_ids)[None])[0]

    pairs = zip(lists, others, strict=True)
    return float(np.mean([likeness(vectors([one.item_id for one in row]), vectors(own)).mean() for row, own in pairs]))


def main() -> None:
    """Prints the rows."""
    harness.main(flags(), run)


if __name__ == "__main__":
    main()
