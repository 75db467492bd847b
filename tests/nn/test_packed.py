"""Packed sequences: where everything stands, and that attention over shared rows is attention over each sequence alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from llmrec.nn.packed import AttentionRows, Packed, _best_fit


def packed(*lengths):
    return Packed.of([np.arange(length) + 10 * row for row, length in enumerate(lengths)])


def test_a_packed_batch_knows_its_latest_items_and_what_comes_next():
    batch = packed(3, 2)
    assert batch.items.tolist() == [0, 1, 2, 10, 11] and len(batch) == 2
    assert batch.last.tolist() == [2, 4] and batch.from_end.tolist() == [2, 1, 0, 1, 0]
    read, following = batch.in_and_out()
    assert read.items.tolist() == [0, 1, 10] and read.lengths.tolist() == [2, 1]
    assert following.tolist() == [1, 2, 11]


def test_short_sequences_share_a_row_and_none_overlaps():
    lengths = np.array([1, 5, 2, 3, 4, 5, 1, 4])
    starts, num_rows = _best_fit(lengths, 5)
    places = np.concatenate([np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)])
    assert num_rows == 5 and sorted(places.tolist()) == list(range(25))  # 25 positions, no free place
    assert all(start // 5 == (start + length - 1) // 5 for start, length in zip(starts, lengths, strict=True))


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("lengths", [(3, 1, 7, 2, 7), (4,), (1, 1, 1)])
def test_attention_over_rows_is_attention_over_each_sequence_alone(is_causal, lengths):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 8, generator=generator, requires_grad=True) for _ in range(3))
    together = AttentionRows(packed(*lengths), is_causal=is_causal).attention(q, k, v, num_heads=2, dropout=0.0)
    alone = torch.cat(
        [
            F.scaled_dot_product_attention(
                *(part.unflatten(1, (2, 4)).transpose(0, 1)[None] for part in parts), is_causal=is_causal
            )[0].transpose(0, 1).flatten(1)
            for parts in zip(*(whole.split(lengths) for whole in (q, k, v)), strict=True)
        ]
    )  # fmt: skip
    assert torch.allclose(together, alone, atol=1e-6)
    gradients = [torch.autograd.grad(read.square().sum(), (q, k, v)) for read in (together, alone)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
