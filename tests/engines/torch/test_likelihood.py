"""Likelihoods of named candidates against one plain forward a candidate, and what may never depend on the target."""

import numpy as np
import pytest
import torch

from llmrec.engines.torch import likelihood
from llmrec.engines.torch.likelihood import answer_log_probs, score_candidates
from llmrec.errors import ModelError, RequestError
from llmrec.items.forms import unique_id_tokens
from tests.engines.tiny_models import (
    BASE,
    WINDOW,
    as_backbone,
    brute_force,
    code_items,
    plain_model,
    prompts_of,
    random_words,
    word_items,
)

LONG = 2 * WINDOW + 3


@pytest.mark.parametrize("scope", ["vocabulary", "level", "trie"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "mistral", "gpt2", "gpt_neox"])
def test_scores_equal_separate_forwards(name, scope):
    items = code_items(40)
    backbone = as_backbone(plain_model(name), items)
    prompts = prompts_of(LONG, 3)
    candidates = np.array([[5, 0, 39, 5], [1, 2, 3, 4]])
    scores = score_candidates(backbone, items, prompts, candidates, softmax_scope=scope)
    assert scores.dtype == torch.float32
    for row, prompt in enumerate(prompts):
        expected = brute_force(backbone, items, prompt, scope)[candidates[row]]
        np.testing.assert_allclose(scores[row].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("scope", ["vocabulary", "trie"])
def test_scores_of_answers_of_any_length_equal_separate_forwards(scope, monkeypatch):
    items = random_words(40)
    backbone = as_backbone(plain_model("qwen3"))
    prompts = prompts_of(11, 6)
    candidates = np.stack([np.arange(items.num_items), np.arange(items.num_items)[::-1]])
    monkeypatch.setattr(likelihood, "_NODES_AT_ONCE", 24)  # several passes over the same prompts
    scores = score_candidates(backbone, items, prompts, candidates, softmax_scope=scope)
    for row, prompt in enumerate(prompts):
        np.testing.assert_allclose(
            scores[row].numpy(), brute_force(backbone, items, prompt, scope)[candidates[row]], atol=1e-4
        )


def test_scores_of_all_items_sum_to_one_by_trie():
    items = code_items(40)
    backbone = as_backbone(plain_model("llama"), items)
    scores = score_candidates(backbone, items, prompts_of(8), np.arange(40)[None], softmax_scope="trie")
    assert scores.exp().sum() == pytest.approx(1.0, abs=1e-5)


def test_scores_of_unique_ids_sum_to_one_over_the_catalogue_by_level():
    items = unique_id_tokens(50, BASE)
    backbone = as_backbone(plain_model("llama"), items)
    scores = score_candidates(backbone, items, prompts_of(8), np.arange(50)[None], softmax_scope="level")
    assert scores.exp().sum() == pytest.approx(1.0, abs=1e-5)


def test_the_probabilities_of_all_titles_cannot_exceed_one():
    items = random_words(40)
    scores = score_candidates(as_backbone(plain_model("llama")), items, prompts_of(8), np.arange(items.num_items)[None])
    assert 0 < scores.exp().sum() <= 1


def test_changing_the_targets_codes_changes_nothing_computed_before_them_or_next_to_them():
    backbone = as_backbone(plain_model("gemma3"), code_items(40))
    target, other, prompts = 7, 8, prompts_of(LONG)
    for changed_level in range(3):
        items = code_items(40)
        pair = np.array([[target, other]])
        before = answer_log_probs(backbone, items, prompts, pair)[0]
        first_row = items.base_vocab_size + int(np.flatnonzero(items.row_levels == changed_level)[0])
        size = int((items.row_levels == changed_level).sum())
        items.sequences[target, changed_level] = (
            first_row + (items.sequences[target, changed_level] - first_row + 1) % size
        )
        after = answer_log_probs(backbone, items, prompts, pair)[0]
        assert after[0, :changed_level].equal(before[0, :changed_level])
        assert not after[0, changed_level:].isclose(before[0, changed_level:]).any()
        assert after[1].equal(before[1])


def test_log_probabilities_are_zero_beyond_a_candidates_end():
    items = word_items([[5], [5, 6, 7]])
    log_probs = answer_log_probs(as_backbone(plain_model("llama")), items, prompts_of(4), np.array([[0, 1]]))
    assert log_probs.shape == (1, 2, 4)
    assert (log_probs[0, 0, 2:] == 0).all() and (log_probs[0, 1] < 0).all() and (log_probs[0, 0, :2] < 0).all()


def test_no_candidates_give_no_scores():
    items = code_items(10)
    backbone = as_backbone(plain_model("llama"), items)
    assert score_candidates(backbone, items, prompts_of(4, 5), np.zeros((2, 0), dtype=int)).shape == (2, 0)


def test_candidates_that_are_no_items_are_refused_in_words():
    items = code_items(10)
    backbone = as_backbone(plain_model("llama"), items)
    with pytest.raises(RequestError, match=r"in \[0, 10\).*got 10"):
        score_candidates(backbone, items, prompts_of(4), np.array([[3, 10]]))
    with pytest.raises(RequestError, match=r"shape \(1, C\).*got \(2, 1\)"):
        score_candidates(backbone, items, prompts_of(4), np.array([[3], [4]]))
    with pytest.raises(ModelError, match="vocabulary, level, trie, got 'sum'"):
        score_candidates(backbone, items, prompts_of(4), np.array([[3]]), softmax_scope="sum")
