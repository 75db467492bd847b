"""Vectors in the places of placeholder tokens."""

import torch
from torch import nn

from llmrec.nn.splice import VectorTokens, splice


class Numbered(nn.Module):
    """Token p is the vector (start + p, start + p)."""

    def __init__(self, num_tokens: int, start: float):
        super().__init__()
        self.num_tokens = num_tokens
        self.vectors = nn.Parameter(start + torch.arange(float(num_tokens))[:, None].expand(-1, 2).contiguous())

    def rows(self, places):
        """float32 (P, 2)."""
        return self.vectors[places]


def test_vectors_stand_in_marked_positions_in_reading_order():
    embeddings = torch.zeros(2, 3, 2)
    is_vector = torch.tensor([[False, True, True], [True, False, False]])
    spliced = splice(embeddings, is_vector, torch.tensor([[1.0, 1], [2, 2], [3, 3]]))
    assert spliced[..., 0].tolist() == [[0, 1, 2], [3, 0, 0]]
    assert embeddings.abs().sum() == 0, "the embeddings themselves stay"


def test_gradient_reaches_vectors_and_embeddings_around_them():
    embeddings, vectors = torch.zeros(1, 2, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    splice(embeddings, torch.tensor([[False, True]]), vectors).sum().backward()
    assert embeddings.grad.tolist() == [[[1, 1], [0, 0]]]
    assert vectors.grad.tolist() == [[1, 1]]


def test_sources_are_numbered_one_after_the_other():
    tokens = VectorTokens()
    tokens.add("soft", Numbered(3, 0.0))
    assert tokens.rows(torch.tensor([2, 0]))[:, 0].tolist() == [2, 0]
    tokens.add("image", Numbered(2, 100.0))
    assert (tokens.num_tokens, tokens.start("soft"), tokens.start("image")) == (5, 0, 3)
    rows = tokens.rows(torch.tensor([4, 0, 3, 2, 4]))
    assert rows[:, 0].tolist() == [101, 0, 100, 2, 101]
    rows.sum().backward()
    assert tokens["image"].vectors.grad[:, 0].tolist() == [1, 2]


def test_trained_sources_that_a_batch_does_not_read_are_named():
    tokens = VectorTokens()
    for name in ("soft", "image", "prompt"):
        tokens.add(name, Numbered(2, 0.0))
    tokens["image"].requires_grad_(False)
    assert tokens.unread(torch.tensor([5, 5])).tolist() == [0]
    assert tokens.unread(torch.tensor([], dtype=torch.int64)).tolist() == [0, 4]
    assert tokens.unread(torch.tensor([0, 4])).tolist() == []
