"""Soft prompts start at words, or as long as words are."""

import torch

from llmrec.nn.adapters.soft_prompt import SoftPrompt


def test_it_starts_at_the_words_of_a_text_repeated_or_cut():
    words = torch.randn(3, 8)
    assert torch.equal(SoftPrompt(5, 8, norm=1.0, words=words).weight, words[[0, 1, 2, 0, 1]])
    assert torch.equal(SoftPrompt(2, 8, norm=1.0, words=words).weight, words[:2])


def test_without_a_text_rows_are_random_and_as_long_as_asked():
    prompt = SoftPrompt(6, 8, norm=3.0, seed=1)
    torch.testing.assert_close(prompt.weight.norm(dim=1), torch.full((6,), 3.0))
    assert torch.equal(prompt.weight, SoftPrompt(6, 8, norm=3.0, seed=1).weight)
    assert not torch.equal(prompt.weight, SoftPrompt(6, 8, norm=3.0, seed=2).weight)


def test_embeddings_are_looked_up_by_index_and_only_those_get_a_gradient():
    prompt = SoftPrompt(4, 8, norm=1.0)
    rows = prompt.rows(torch.tensor([[0, 2], [2, 0]]))
    assert torch.equal(rows[0, 1], prompt.weight[2]) and rows.shape == (2, 2, 8)
    rows.sum().backward()
    assert prompt.weight.grad.any(dim=1).tolist() == [True, False, True, False]


def test_training_does_not_reach_the_words_it_started_from():
    words = torch.randn(2, 8)
    before = words.clone()
    prompt = SoftPrompt(2, 8, norm=1.0, words=words)
    with torch.no_grad():
        prompt.weight += 1
    assert torch.equal(words, before)
