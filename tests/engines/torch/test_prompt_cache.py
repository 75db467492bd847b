"""Prompts that begin like one read before: the same answers as from scratch, fewer tokens read, bounded memory."""

import numpy as np
import pytest
import torch

from llmrec.data.catalog import Catalog
from llmrec.engines.torch.beam_search import beam_search
from llmrec.engines.torch.likelihood import score_candidates
from llmrec.engines.torch.prompt_cache import PromptCache
from llmrec.engines.trie import TokenTrie
from llmrec.prompting.encoder import PromptEncoder
from llmrec.prompting.templates import load_prompt
from tests.engines.tiny_models import WINDOW, as_backbone, code_items, plain_model, prompts_of
from tests.tiny import VOCAB, tiny_tokenizer

from .test_beam_search import record_passes

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def items():
    return code_items(60)


def read_tokens(shapes) -> list[int]:
    return [rows for _, rows in shapes]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3", "mistral", "gpt2"])
def test_a_returning_user_gets_the_answer_of_one_who_was_never_seen(name, items):
    backbone, trie = as_backbone(plain_model(name), items), TokenTrie.from_item_tokens(items)
    cache = PromptCache(MEGABYTE)
    (whole,) = prompts_of(40)
    for length in (17, 18, 33, 40):
        prompt = whole[:length]
        found, scores = beam_search(backbone, trie, [prompt], 20, prompt_cache=cache)
        expected, expected_scores = beam_search(backbone, trie, [prompt], 20)
        assert found.equal(expected)
        np.testing.assert_allclose(scores.numpy(), expected_scores.numpy(), atol=1e-4)
    assert len(cache) == 1  # each prompt took the place of the one it continues


def test_a_returning_user_pays_for_the_new_tokens_only(items, monkeypatch):
    backbone, trie = as_backbone(plain_model("llama"), items), TokenTrie.from_item_tokens(items)
    cache = PromptCache(MEGABYTE)
    (whole,) = prompts_of(40)
    shapes = record_passes(backbone, monkeypatch)
    beam_search(backbone, trie, [whole[:32]], 5, num_beams=5, prompt_cache=cache)
    beam_search(backbone, trie, [whole], 5, num_beams=5, prompt_cache=cache)
    beam_search(backbone, trie, [whole], 5, num_beams=5, prompt_cache=cache)
    assert read_tokens(shapes) == [32, 4, 5, 8, 4, 5, 1, 4, 5]  # the last prompt token is always read


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_an_instruction_read_once_serves_other_users(name, items, monkeypatch):
    backbone, trie = as_backbone(plain_model(name), items), TokenTrie.from_item_tokens(items)
    instruction, *rests = prompts_of(20, 5, 9, 3)
    prompts = [np.concatenate([instruction, rest]) for rest in rests]
    cache = PromptCache(MEGABYTE)
    beam_search(backbone, trie, prompts[:1], 8, num_beams=8, prompt_cache=cache)
    shapes = record_passes(backbone, monkeypatch)
    found, scores = beam_search(backbone, trie, prompts[1:], 8, num_beams=8, prompt_cache=cache)
    assert shapes[0] == (2, 9)
    monkeypatch.undo()
    for row, prompt in enumerate(prompts[1:]):
        expected, expected_scores = beam_search(backbone, trie, [prompt], 8, num_beams=8)
        assert found[row].equal(expected[0])
        np.testing.assert_allclose(scores[row].numpy(), expected_scores[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_what_a_batch_of_prompts_begins_with_is_read_once_without_any_cache(name, items, monkeypatch):
    backbone, trie = as_backbone(plain_model(name), items), TokenTrie.from_item_tokens(items)
    instruction, *rests = prompts_of(2 * WINDOW + 4, 5, 9, 1)
    prompts = [np.concatenate([instruction, rest]) for rest in rests]
    shapes = record_passes(backbone, monkeypatch)
    found, scores = beam_search(backbone, trie, prompts, 8, num_beams=8)
    assert shapes[0] == (1, len(instruction)) and shapes[1] == (3, 9)
    monkeypatch.undo()
    for row, prompt in enumerate(prompts):
        expected, expected_scores = beam_search(backbone, trie, [prompt], 8, num_beams=8)
        assert found[row].equal(expected[0])
        np.testing.assert_allclose(scores[row].numpy(), expected_scores[0].numpy(), atol=1e-4)


def test_equal_prompts_in_one_batch_are_answered_alike(items):
    backbone, trie = as_backbone(plain_model("llama"), items), TokenTrie.from_item_tokens(items)
    (prompt,) = prompts_of(30)
    expected, _ = beam_search(backbone, trie, [prompt], 8)
    for cache in (None, PromptCache(MEGABYTE)):
        for _ in range(2):
            found, _ = beam_search(backbone, trie, [prompt] * 3, 8, prompt_cache=cache)
            assert all(row.equal(expected[0]) for row in found)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_newcomers_with_returning_users_get_their_own_answers(name, items):
    backbone, trie = as_backbone(plain_model(name), items), TokenTrie.from_item_tokens(items)
    known, newcomer, other = prompts_of(42, 55, 20)
    cache = PromptCache(MEGABYTE)
    beam_search(backbone, trie, [known[:40]], 8, num_beams=8, prompt_cache=cache)
    prompts = [known, newcomer, other]
    found, scores = beam_search(backbone, trie, prompts, 8, num_beams=8, prompt_cache=cache)
    for row, prompt in enumerate(prompts):
        expected, expected_scores = beam_search(backbone, trie, [prompt], 8, num_beams=8)
        assert found[row].equal(expected[0])
        np.testing.assert_allclose(scores[row].numpy(), expected_scores[0].numpy(), atol=1e-4)


def test_likelihoods_of_a_returning_user_equal_those_from_scratch(items):
    backbone = as_backbone(plain_model("gemma2"), items)
    cache = PromptCache(MEGABYTE)
    (whole,) = prompts_of(35)
    candidates = np.arange(60)[None]
    for length in (20, 35):
        scores = score_candidates(backbone, items, [whole[:length]], candidates, prompt_cache=cache)
        expected = score_candidates(backbone, items, [whole[:length]], candidates)
        np.testing.assert_allclose(scores.numpy(), expected.numpy(), atol=1e-4)


def states_of(tokens: np.ndarray):
    """One layer of one head that holds the tokens themselves: 8 bytes a token."""
    values = torch.from_numpy(tokens.astype(np.float32)).view(1, -1, 1)
    return lambda: [(values, values)]


def test_the_longest_common_beginning_is_found_and_its_states_come_back():
    cache = PromptCache(MEGABYTE)
    prompts = [np.concatenate([np.arange(20), np.arange(100, 100 + tail)]) for tail in (10, 30)]
    prompts.append(np.concatenate([np.arange(20), np.arange(200, 230)]))
    for prompt in prompts:
        cache.store(prompt, states_of(prompt))
    length, states = cache.longest(np.concatenate([np.arange(20), np.arange(100, 125), [7]]))
    assert length == 45
    assert states[0][0][0, :45, 0].tolist() == [*range(20), *range(100, 125)]
    assert cache.longest(np.arange(30))[0] == 20
    assert (
        cache.longest(np.concatenate([prompts[0], [5]]))[0] == 30
    )  # not the latest that shares a block, the one most alike
    assert cache.longest(np.arange(1, 30)) == (0, [])
    assert cache.longest(np.arange(10)) == (0, [])  # less than a block is not looked for


def test_memory_stays_bounded_and_the_least_recently_used_goes_first():
    cache = PromptCache(3 * 32 * 8)
    prompts = [np.full(32, word) for word in range(4)]
    for prompt in prompts[:3]:
        cache.store(prompt, states_of(prompt))
    assert cache.longest(prompts[0])[0] == 31  # used again
    cache.store(prompts[3], states_of(prompts[3]))
    assert [cache.longest(prompt)[0] for prompt in prompts] == [31, 0, 31, 31]
    assert len(cache) == 3 and cache.nbytes <= cache.max_bytes
    cache.store(np.arange(1000, 2000), states_of(np.arange(1000, 2000)))  # too large to keep at all
    assert len(cache) == 3
    grown = np.concatenate([prompts[3], np.arange(2000)])
    cache.store(grown, states_of(grown))  # nor does it drive out the one it continues
    assert cache.longest(grown)[0] == 32
    cache.clear()
    assert len(cache) == 0 and cache.nbytes == 0 and cache.longest(prompts[0]) == (0, [])


def test_two_beginnings_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("llmrec.engines.torch.prompt_cache._prefixes", lambda prompt: [1] * (len(prompt) // 16))
    cache = PromptCache(MEGABYTE)
    for prompt in (np.arange(32), np.arange(50, 82)):
        cache.store(prompt, states_of(prompt))
    assert cache.longest(np.arange(40))[0] == 32
    assert cache.longest(np.arange(50, 90))[0] == 32
    assert cache.longest(np.arange(500, 540)) == (0, [])


def test_what_is_remembered_does_not_change_with_the_batch_it_came_from(items):
    backbone, trie = as_backbone(plain_model("llama"), items), TokenTrie.from_item_tokens(items)
    cache = PromptCache(MEGABYTE)
    prompts = prompts_of(20, 34)
    beam_search(backbone, trie, prompts, 5, prompt_cache=cache)
    assert sorted(states[0][0].shape[1] for _, states in map(cache.longest, prompts)) == [20, 34]


@pytest.mark.parametrize(("step", "read"), [(1, [31] * 7), (4, [31, 22, 3, 3, 3, 22, 3])])
def test_where_full_histories_move_in_steps_a_returning_user_pays_for_the_new_items_only(step, read, monkeypatch):
    """Events 10 to 16 of a user, three tokens each after a start token, and prompts of ten items at most."""
    items = code_items(60, base=VOCAB)
    backbone, trie = as_backbone(plain_model("llama", VOCAB), items), TokenTrie.from_item_tokens(items)
    catalog = Catalog.from_rows([{"item_id": str(item), "title": "Heat"} for item in range(60)])
    encoder = PromptEncoder(
        load_prompt("next_item/bare"), tiny_tokenizer(), items, catalog,
        max_history=10, max_tokens=200, history_step=step,
    )  # fmt: skip
    history, cache, found_read = np.random.default_rng(0).permutation(60), PromptCache(MEGABYTE), []
    for num_events in range(10, 17):
        prompt = encoder.encode(history[:num_events]).astype(np.int64)
        with monkeypatch.context() as patched:
            shapes = record_passes(backbone, patched)
            found, scores = beam_search(backbone, trie, [prompt], 5, num_beams=5, prompt_cache=cache)
        found_read.append(read_tokens(shapes)[0])
        expected, expected_scores = beam_search(backbone, trie, [prompt], 5, num_beams=5)
        assert found.equal(expected)
        np.testing.assert_allclose(scores.numpy(), expected_scores.numpy(), atol=1e-4)
    assert found_read == read
