"""The trie against a dictionary of prefixes."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.interactions import Histories
from llmrec.engines.allowed_items import AllowedItems, ItemBitmap
from llmrec.engines.trie import TokenTrie, node_range
from llmrec.errors import DataError, RequestError
from llmrec.items.forms import ItemTokens, semantic_id_tokens, unique_id_tokens
from llmrec.items.semantic_ids import SemanticIDs

END = 1


def text_like(rows: list[list[int]], vocab: int = 100) -> ItemTokens:
    """Answers of any length made of vocabulary words, each closed by END."""
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int32)
    sequences = np.full((len(rows), lengths.max()), -1, dtype=np.int32)
    for item, row in enumerate(rows):
        sequences[item, : len(row) + 1] = [*row, END]
    return ItemTokens(sequences, lengths, "text", vocab, [], np.zeros(0, dtype=np.int32), end_token=END)


def prefixes(item_tokens: ItemTokens) -> tuple[dict[tuple, set[int]], dict[tuple, list[int]]]:
    """Next tokens and items of every prefix, the slow and plain way."""
    followers, items = defaultdict(set), defaultdict(list)
    for item in range(item_tokens.num_items):
        row = tuple(item_tokens[item].tolist())
        for cut in range(len(row) + 1):
            items[row[:cut]].append(item)
            if cut < len(row):
                followers[row[:cut]].add(row[cut])
    return dict(followers), dict(items)


def walk(trie: TokenTrie, prefix: tuple[int, ...]) -> int:
    """The node of a prefix."""
    state = torch.tensor([trie.root])
    for depth, token in enumerate(prefix):
        state = trie.child(state, depth, torch.tensor([token]))
    return int(state)


def agree(item_tokens: ItemTokens, allowed: np.ndarray, excluded: list[int]) -> None:
    """Children, open children and leaf items of every prefix equal those of the dictionary."""
    trie = TokenTrie.from_item_tokens(item_tokens)
    rules = AllowedItems(trie, 1, ItemBitmap.of(trie, allowed[None]), Histories.from_lists([excluded]))
    is_allowed_item = allowed & ~np.isin(np.arange(len(allowed)), excluded)
    followers, items = prefixes(item_tokens)
    assert trie.num_nodes == len(items)
    for depth in range(trie.depth + 1):
        level = [prefix for prefix in items if len(prefix) == depth]
        states = torch.tensor([walk(trie, prefix) for prefix in level])
        for state, (start, end), prefix in zip(states, torch.stack(node_range(states), 1).tolist(), level, strict=True):
            assert sorted(trie.items[start:end].tolist()) == items[prefix]
            assert bool(trie.is_leaf(state, depth)) == (prefix not in followers)
            assert bool(rules.is_allowed(state.view(1, 1))) == is_allowed_item[items[prefix]].any()
            if prefix not in followers:
                assert trie.items[start:end].tolist() == items[prefix]
        if depth == trie.depth:
            continue
        tokens, next_states = trie.children(states, depth)
        is_allowed = rules.is_allowed(next_states[None])[0]
        for row, prefix in enumerate(level):
            is_child = tokens[row] >= 0
            expected = sorted(followers.get(prefix, ()))
            assert tokens[row][is_child].tolist() == expected
            assert (next_states[row] >= 0).equal(is_child)
            still_allowed = [token for token in expected if is_allowed_item[items[(*prefix, token)]].any()]
            assert tokens[row][is_allowed[row]].tolist() == still_allowed


rows_of_any_length = st.lists(st.lists(st.integers(2, 5), max_size=4), min_size=1, max_size=25)


@settings(deadline=None, max_examples=60)
@given(rows=rows_of_any_length, seed=st.integers(0, 99), tables=st.booleans())
def test_children_of_every_prefix_of_answers_of_any_length_equal_those_of_a_dictionary(rows, seed, tables):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmrec.engines.trie._SMALLEST_TABLE", 1024 if tables else 0)
        agree(text_like(rows), rng.random(len(rows)) < 0.4, rng.integers(0, len(rows), 4).tolist())


@settings(deadline=None, max_examples=60)
@given(
    codes=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2)), min_size=1),
    vocab=st.sampled_from([7, 150_000]),
    seed=st.integers(0, 99),
    tables=st.booleans(),
)
def test_children_of_every_prefix_of_semantic_ids_equal_those_of_a_dictionary(codes, vocab, seed, tables):
    item_tokens = semantic_id_tokens(SemanticIDs(np.array(list(codes)), (4, 6, 3)), vocab)
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmrec.engines.trie._SMALLEST_TABLE", 1024 if tables else 0)
        agree(item_tokens, rng.random(len(codes)) < 0.4, rng.integers(0, len(codes), 3).tolist())


def test_answers_too_wide_for_one_packed_integer_are_sorted_the_same():
    rows = np.random.default_rng(0).integers(2, 2**30, (200, 7)).tolist()
    rows += [[*row[:-1], row[-1] + 1] for row in rows[:20]]
    agree(text_like(rows, vocab=2**31 - 1), np.ones(220, dtype=bool), [])


def test_a_million_items_give_a_trie_of_flat_tensors_with_every_item_once():
    codes = np.random.default_rng(0).integers(0, 256, (1_000_000, 4))
    sequences = (1000 + 256 * np.arange(4) + codes).astype(np.int32)
    levels = np.repeat(np.arange(4, dtype=np.int32), 256)
    full = np.full(len(codes), 4, dtype=np.int32)
    trie = TokenTrie.from_item_tokens(ItemTokens(sequences, full, "semantic_id", 1000, [""] * 1024, levels))
    assert torch.bincount(trie.items).eq(1).all()
    assert trie.nbytes < 8 * 2**20
    assert trie.num_nodes == 1 + sum(len(np.unique(codes[:, :d] @ 256 ** np.arange(d))) for d in (1, 2, 3, 4))


def test_children_are_candidates_not_a_mask_over_the_vocabulary():
    trie = TokenTrie.from_item_tokens(text_like([[2], [3], [4, 5]], vocab=50_000))
    tokens, states = trie.children(torch.tensor([[trie.root, -1]]), 0)
    assert tokens.tolist() == [[[2, 3, 4], [-1, -1, -1]]]
    assert states.shape == (1, 2, 3)


def test_a_token_that_continues_no_item_leads_to_no_node():
    trie = TokenTrie.from_item_tokens(text_like([[2], [3], [4, 5]]))
    roots = torch.full((4,), trie.root)
    assert (trie.child(roots, 0, torch.tensor([2, 4, 5, -1])) >= 0).tolist() == [True, True, False, False]
    assert trie.child(torch.tensor([-1]), 0, torch.tensor([2])).tolist() == [-1]


def test_equal_titles_share_a_leaf_in_catalogue_order():
    trie = TokenTrie.from_item_tokens(text_like([[7], [3], [7], [7]]))
    ((start,), (end,)) = node_range(torch.tensor([walk(trie, (7, END))]))
    assert trie.items[start:end].tolist() == [0, 2, 3] and trie.max_leaf_items == 3


def test_token_ranges_say_which_tokens_stand_at_each_position():
    semantic = semantic_id_tokens(SemanticIDs(np.array([[0, 1], [2, 0]]), (3, 2)), 10)
    assert TokenTrie.from_item_tokens(semantic).token_ranges == ((10, 12), (13, 14))
    assert TokenTrie.from_item_tokens(text_like([[2], [5, 6]])).token_ranges == ((2, 5), (END, 6), (END, END))


def test_an_answer_that_begins_another_is_refused_by_name():
    sequences = np.array([[5, 6, 7], [5, 6, -1], [5, 8, 9]], dtype=np.int32)
    levels = np.zeros(0, dtype=np.int32)
    item_tokens = ItemTokens(sequences, np.array([3, 2, 3], dtype=np.int32), "text", 10, [], levels)
    with pytest.raises(DataError, match="item 1 are the beginning of those of item 0"):
        TokenTrie.from_item_tokens(item_tokens)


def test_a_mask_of_another_shape_or_type_is_refused_in_words():
    trie = TokenTrie.from_item_tokens(unique_id_tokens(3, 10))
    with pytest.raises(RequestError, match=r"bool \(requests, 3\)"):
        ItemBitmap.of(trie, np.ones((1, 4), dtype=bool))
    with pytest.raises(RequestError, match="int64"):
        ItemBitmap.of(trie, np.ones((1, 3), dtype=np.int64))
    with pytest.raises(RequestError, match="for each of 2 prompts, got 3"):
        AllowedItems(trie, 2, ItemBitmap.of(trie, np.ones((3, 3), dtype=bool)), None)
    with pytest.raises(RequestError, match="lists of excluded items for each of 2 prompts, got 1"):
        AllowedItems(trie, 2, None, Histories.from_lists([[1]]))
