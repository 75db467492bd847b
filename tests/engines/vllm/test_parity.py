"""A real vLLM engine on real runs of every form answers what the torch engine answers: items, order, scores."""

import os
from dataclasses import replace

import numpy as np
import pytest

from llmrec.data.interactions import Histories
from llmrec.recommenders.generative import recommender_of
from llmrec.recommenders.requests import Ranking, Requests
from tests.engines.vllm.conftest import Served, histories

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
NUMBER = int(os.environ.get("LLMREC_PARITY_HISTORIES", "24"))  # make test-vllm-full: 200
K = 5
SCOPES = ("vocabulary", "level", "trie")
TIE = 2e-5  # scores that differ by rounding alone


def rankers(served: Served, scope: str):
    """The recommenders of both engines under one softmax scope; the engine stays."""
    if served.form == "text" and scope == "level":
        pytest.skip("titles have no levels")
    models = [replace(each.ranker.model, softmax_scope=scope) for each in (served.torch, served.vllm)]
    return [
        recommender_of(model) if served.form in ("unique_id", "soft") else recommender_of(model, num_beams=6)
        for model in models
    ]


def check_alike(ours: Ranking, theirs: Ranking) -> tuple[float, int]:
    """Same items in the same order, but for neighbours whose scores differ by rounding; scores to 1e-3. Returns the largest difference
    of a score, and how many items stood in another order."""
    off = float(np.abs(np.nan_to_num(ours.scores - theirs.scores)).max())
    assert off < 1e-3
    moved = ours.items != theirs.items
    for row, rank in zip(*np.nonzero(moved), strict=True):
        near = np.abs(ours.scores[row] - ours.scores[row, rank]) < TIE
        assert near.sum() > 1 and theirs.items[row, rank] in ours.items[row, near], (row, rank)
    return off, int(moved.sum())


@pytest.mark.parametrize("scope", SCOPES)
def test_both_engines_give_the_same_items_in_the_same_order(served, scope, parity_table):
    ours, theirs = rankers(served, scope)
    requests = Requests(histories(ours.num_items, NUMBER))
    found = [ranker.rank(requests, K, exclude_seen=True) for ranker in (ours, theirs)]
    off, moved = check_alike(*found)
    items = found[1].items
    assert items.min() >= 0 and items.max() < ours.num_items
    assert all(len(set(row)) == K for row in items.tolist())
    assert all(not set(row) & set(requests.histories[place].tolist()) for place, row in enumerate(items.tolist()))
    parity_table.append(
        {"form": served.form, "softmax_scope": scope, "histories": len(items), "k": K, "items_not_in_the_catalogue": 0,
         "items_in_another_order": moved, "largest_difference_of_a_score": float(f"{off:.2g}")}
    )  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_both_engines_score_candidates_alike_and_as_they_rank_them(served, scope):
    ours, theirs = rankers(served, scope)
    requests = Requests(histories(ours.num_items, 9).take(np.array([0, 1, 2, 8])))
    candidates = np.random.default_rng(2).choice(ours.num_items, size=(4, 12))
    scores = theirs.score(requests, candidates)
    assert np.abs(ours.score(requests, candidates) - scores).max() < 1e-3
    ranking = theirs.rank(requests, 3, exclude_seen=False)
    assert np.abs(theirs.score(requests, ranking.items) - ranking.scores).max() < 1e-3


def test_rules_candidates_and_exclusions_hold_and_change_no_score(served):
    ours, theirs = rankers(served, "trie")
    rng, asked = np.random.default_rng(3), histories(ours.num_items, 12).take(np.arange(3, 12))
    few = np.sort(rng.choice(ours.num_items, size=40, replace=False))
    many = np.sort(rng.choice(ours.num_items, size=900, replace=False))
    excluded = Histories.from_lists([rng.choice(ours.num_items, size=30, replace=False).tolist() for _ in range(9)])
    requests = Requests(asked, excluded=excluded, candidates=[few, many, None] * 3)
    found = [ranker.rank(requests, K, exclude_seen=True) for ranker in (ours, theirs)]
    check_alike(*found)
    for row, allowed in enumerate(requests.candidates):
        items = [item for item in found[1].items[row].tolist() if item >= 0]
        assert items and not set(items) & {*asked[row].tolist(), *excluded[row].tolist()}
        assert allowed is None or set(items) <= set(allowed.tolist())
    one = requests.take(np.array([4]))
    assert np.abs(theirs.score(Requests(one.histories), found[1].items[4:5]) - found[1].scores[4]).max() < 1e-3
    three = Requests(asked.take(np.arange(1)), candidates=[few[:3]])
    assert (theirs.rank(three, K, exclude_seen=False).items[0] >= 0).sum() == 3


def test_a_request_is_answered_alone_as_among_others(served):
    _, theirs = rankers(served, "trie")
    requests = Requests(histories(theirs.num_items, 12))
    together = theirs.rank(requests, K, exclude_seen=True)
    for row in (0, 9):
        alone = theirs.rank(requests.take(np.array([row])), K, exclude_seen=True)
        assert alone.items[0].tolist() == together.items[row].tolist()
        assert np.abs(alone.scores[0] - together.scores[row]).max() < 1e-4
