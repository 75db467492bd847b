"""What may come out: bitmaps and lists in any combination against sets, and short lists without arrays of the catalogue's length."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.interactions import Histories
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.trie import TokenTrie
from llmrec.errors import RequestError
from llmrec.items.forms import unique_id_tokens

from .tiny_models import code_items


def lists_of(draw, num_requests: int, num_items: int) -> list[list[int]] | None:
    """A list for each request, some empty, some naming an item twice; or None."""
    items = st.lists(st.integers(0, num_items - 1), max_size=2 * num_items)
    return draw(st.none() | st.lists(items, min_size=num_requests, max_size=num_requests))


@st.composite
def rules(draw):
    """A number of items, and of requests with bool (1 or B, N) or None, B lists of excluded items or None, B of candidates or None."""
    num_items, num_requests = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    rows = draw(st.sampled_from([0, 1, num_requests]))
    allowed = np.random.default_rng(draw(st.integers(0, 99))).random((rows, num_items)) < 0.6 if rows else None
    excluded, candidates = (lists_of(draw, num_requests, num_items) for _ in range(2))
    return num_items, num_requests, allowed, excluded, candidates


def histories(lists):
    return None if lists is None else Histories.from_lists(lists)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@settings(deadline=None, max_examples=150)
@given(rules())
def test_every_combination_of_rules_equals_sets_and_one_bitmap_a_request(device, asked):
    num_items, num_requests, allowed, excluded, candidates = asked
    trie = TokenTrie.from_item_tokens(code_items(num_items), device)
    everything = np.ones((1, num_items), dtype=bool) if allowed is None else allowed
    left = np.tile(everything, (num_requests // len(everything), 1))  # (B, N)
    for row in range(num_requests):
        for item in range(num_items):
            left[row, item] &= excluded is None or item not in excluded[row]
            left[row, item] &= candidates is None or item in candidates[row]
    bitmap = None if allowed is None else ItemBitmap.of(trie, allowed)
    found = AllowedItems(trie, num_requests, bitmap, histories(excluded), histories(candidates))
    plain = AllowedItems(trie, num_requests, ItemBitmap.of(trie, left), None)

    starts, ends = torch.triu_indices(num_items + 1, num_items + 1, device=device).unbind()  # every range of ranks
    starts, ends = (edges.expand(num_requests, -1).contiguous() for edges in (starts, ends))
    by_rank = left[:, trie.items.cpu().numpy()]
    before = torch.from_numpy(np.pad(by_rank.cumsum(1), ((0, 0), (1, 0)))).to(device)
    assert found.count(starts, ends).equal(before.gather(1, ends) - before.gather(1, starts))
    states = torch.cat([starts << 32 | ends, torch.full_like(starts[:, :1], -1)], dim=1)
    assert found.is_allowed(states).equal(plain.is_allowed(states))
    assert not found.is_allowed(states)[:, -1].any()


@pytest.mark.parametrize("candidates", [None, [[5, 5, 7_001], []]])
def test_short_lists_hold_nothing_of_the_catalogues_length(candidates):
    trie = TokenTrie.from_item_tokens(code_items(50_000, (40, 40, 40)))
    bitmap = ItemBitmap.of(trie, np.ones((1, 50_000), dtype=bool))
    excluded = Histories.from_lists([[1, 2, 2, 3], [49_999]])
    for shared in (None, bitmap):
        rules = AllowedItems(trie, 2, shared, excluded, histories(candidates))
        held = [value for value in vars(rules).values() if isinstance(value, torch.Tensor)]
        own = [tensor for tensor in held if shared is None or tensor.data_ptr() != shared.before.data_ptr()]
        assert 0 < sum(tensor.numel() for tensor in own) <= 2 * 4
        assert all(tensor.dtype == torch.int64 for tensor in own)
        assert len(held) == len(own) + (shared is not None and candidates is None)  # the shared bitmap is not copied


def test_lists_for_another_number_of_requests_are_refused_in_words():
    trie = TokenTrie.from_item_tokens(unique_id_tokens(3, 10))
    with pytest.raises(RequestError, match="lists of candidates for each of 2 prompts, got 1"):
        AllowedItems(trie, 2, None, None, Histories.from_lists([[1]]))
