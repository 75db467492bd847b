"""Retrieval: chunks give what the whole matrix gives, and what faiss gives."""

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.engines.torch import retrieval
from llmrec.engines.torch.retrieval import best_of_chunks, retrieve
from llmrec.errors import ModelError, RequestError


def test_the_largest_inner_products_by_hand():
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = retrieve(torch.tensor([[2.0, 1.0], [-1.0, 0.0]]), matrix, 2, scale=2.0, bias=torch.tensor([0.0, 5.0, 0.0]))
    assert found.items.tolist() == [[1, 2], [1, 0]]  # 2*2=4, 2*1+5=7, 2*3=6; -2, 5, -2: of equals the lower item
    assert found.scores.tolist() == [[7.0, 6.0], [5.0, -2.0]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 45), st.booleans())
@settings(max_examples=60, deadline=None)
def test_chunks_equal_one_sort_of_all_scores(seed, scores_at_once, k, normalise):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(-3, 3, (3, 37)).astype(np.float32))  # many equals
    allowed = rng.random(37) < 0.7
    excluded = rng.integers(-1, 37, (3, 4))
    held, retrieval._SCORES_AT_ONCE = retrieval._SCORES_AT_ONCE, scores_at_once
    try:
        found = best_of_chunks(
            lambda rows: scores[:, rows], 3, 37, k, allowed=allowed, excluded=excluded, normalise=normalise
        )
    finally:
        retrieval._SCORES_AT_ONCE = held
    expected = scores.log_softmax(dim=1) if normalise else scores
    for row in range(3):
        allowed_items = [item for item in np.flatnonzero(allowed) if item not in excluded[row]]
        best = sorted(allowed_items, key=lambda item: -float(scores[row, item]))[:k]
        assert found.items[row].tolist() == best + [-1] * (k - len(best))
        np.testing.assert_allclose(found.scores[row, : len(best)], expected[row, best], atol=1e-5)
        assert (found.scores[row, len(best) :] == -torch.inf).all()
    assert found.items.shape == (3, k)


def test_equal_scores_across_the_end_of_the_list_go_to_the_lower_item(monkeypatch):
    for at_once in (1 << 22, 70, 7):
        monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", at_once)
        assert best_of_chunks(lambda rows: torch.zeros(1, 100)[:, rows], 1, 100, 5).items.tolist() == [[0, 1, 2, 3, 4]]


def test_scores_that_are_no_numbers_are_refused_in_words():
    with pytest.raises(ModelError, match="hold NaN"):
        retrieve(torch.tensor([[1.0]]), torch.tensor([[1.0], [float("nan")], [3.0]]), 1)


def test_it_equals_an_exact_faiss_index():
    rng = np.random.default_rng(0)
    matrix, hidden = (rng.normal(size=(size, 32)).astype(np.float32) for size in (20_000, 7))
    index = faiss.IndexFlatIP(32)
    index.add(matrix)
    scores, items = index.search(hidden, 50)
    found = retrieve(torch.from_numpy(hidden), torch.from_numpy(matrix), 50)
    assert found.items.tolist() == items.tolist()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)


def test_memory_follows_the_chunk_and_not_the_catalogue(monkeypatch):
    monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", 1000)
    widths = []

    def scores_of(rows: slice) -> torch.Tensor:
        widths.append(rows.stop - rows.start)
        return torch.zeros(10, rows.stop - rows.start)

    best_of_chunks(scores_of, 10, 100_000, 5)
    assert max(widths) == 100 and sum(widths) == 100_000


def test_shapes_that_do_not_fit_are_refused_in_words():
    with pytest.raises(RequestError, match=r"should share D, but they are \(2, 3\) and \(5, 4\)"):
        retrieve(torch.zeros(2, 3), torch.zeros(5, 4), 1)
    with pytest.raises(RequestError, match="no items to retrieve from"):
        retrieve(torch.zeros(2, 3), torch.zeros(0, 3), 1)


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # gemma 2 caps its logits
def test_over_the_item_table_it_ranks_as_the_softmax_over_all_items(family):
    from llmrec.items.forms import unique_id_tokens
    from llmrec.nn.item_table import ItemTable
    from tests.tiny import tiny_backbone

    backbone = tiny_backbone(family)
    tokens = unique_id_tokens(60, backbone.base_vocab_size)
    backbone.add_item_table(ItemTable(tokens.row_levels, backbone.dim, norm=backbone.embedding_norm))
    hidden = torch.randn(4, backbone.dim, generator=torch.Generator().manual_seed(0))
    found = best_of_chunks(lambda rows: backbone.item_logits(hidden, rows), 4, 60, 10, normalise=True)
    scores, items = backbone.item_logits(hidden).log_softmax(dim=-1).topk(10)
    assert found.items.tolist() == items.tolist()
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
