"""Attention of tree nodes: both ways to treat grouped heads, and what happens without a mask."""

import pytest
import torch
from torch.nn import functional as F

from llmrec.backbones import grouped_attention as module
from llmrec.engines.torch.tree_attention import tree_attention
from llmrec.errors import ModelError


def inputs():
    """Two requests, six query heads on two key heads, five nodes, eleven positions."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 5, 8), torch.randn(2, 2, 11, 8), torch.randn(2, 2, 11, 8)
    mask = torch.zeros(2, 1, 5, 11).masked_fill(torch.rand(2, 1, 5, 11) < 0.4, torch.finfo(torch.float32).min)
    return query, key, value, mask


def by_hand(query, key, value, mask):
    """Every query head with a copy of its group's keys and values: (B, N, A, C)."""
    key, value = (each.repeat_interleave(3, dim=1) for each in (key, value))
    weights = ((query @ key.transpose(2, 3)) * 8**-0.5 + mask).softmax(-1)
    return (weights @ value).transpose(1, 2)


def test_grouped_heads_attend_as_if_their_keys_were_copied():
    out, _ = tree_attention(None, *inputs())
    torch.testing.assert_close(out, by_hand(*inputs()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_heads_as_queries_give_the_same_whatever_layout_a_kernel_returns(transposed, monkeypatch):
    plain = F.scaled_dot_product_attention

    def kernel(*arguments, **named):
        out = plain(*arguments, **named)
        return out.transpose(1, 2).contiguous().transpose(1, 2) if transposed else out

    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    out = module._heads_as_queries(*inputs(), None)
    torch.testing.assert_close(out, by_hand(*inputs()), atol=1e-5, rtol=1e-5)
    assert out.is_contiguous()


def test_nodes_without_a_mask_are_refused():
    query, key, value, _ = inputs()
    with pytest.raises(ModelError, match="two threads used one model"):
        tree_attention(None, query, key, value, None)
