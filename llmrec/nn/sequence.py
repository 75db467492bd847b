"""Networks of item sequences: what stands after each item, by self-attention (SASRec, LiGR, BERT4Rec) or recurrence (GRU4Rec).

Letters: N positions of all sequences of a batch, B sequences, D width, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from llmrec.nn.item_inputs import IdField, ItemInputs, ItemMatrices
from llmrec.nn.packed import AttentionRows, Packed


class SasBlock(nn.Module):
    """SASRec's layer as its authors' code has it: queries are normed, keys and values are not, and the residuals start at the norms.

    Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, section III-B.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.forward_net = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor, rows: AttentionRows) -> torch.Tensor:
        """x float32 (N, D) -> the same shape."""
        normed = self.attention_norm(x)
        keys, values = self.key_value(x).chunk(2, dim=-1)
        dropout = self.dropout if self.training else 0.0
        x = normed + self.out(
            rows.attention(self.query(normed), keys, values, num_heads=self.num_heads, dropout=dropout)
        )
        normed = self.forward_norm(x)
        return normed + self.forward_net(normed)


class PreNormBlock(nn.Module):
    """A pre-norm layer: queries, keys and values are normed alike, and the residuals stay what they are.

    Xiong et al., "On layer normalization in the transformer architecture", ICML 2020; ReLU inside, as wide as the model.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.forward_net = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor, rows: AttentionRows) -> torch.Tensor:
        """x float32 (N, D) -> the same shape."""
        q, k, v = self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
        dropout = self.dropout if self.training else 0.0
        read = self.out(rows.attention(q, k, v, num_heads=self.num_heads, dropout=dropout))
        x = x + F.dropout(read, self.dropout, self.training)
        return x + self.forward_net(self.forward_norm(x))


class LigrBlock(nn.Module):
    """A pre-norm layer whose two residual branches are gated by what enters them, with SwiGLU inside.

    Borisyuk et al., "From features to transformers: redefining ranking for scalable impact" (LiGR), arXiv 2502.03417; eSASRec's layer.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.gate_and_up, self.down = nn.Linear(dim, 8 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        self.attention_gate, self.forward_gate = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, rows: AttentionRows) -> torch.Tensor:
        """x float32 (N, D) -> the same shape."""
        q, k, v = self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
        dropout = self.dropout if self.training else 0.0
        read = self.out(rows.attention(q, k, v, num_heads=self.num_heads, dropout=dropout))
        x = x + self.attention_gate(x).sigmoid() * F.dropout(read, self.dropout, self.training)
        gate, up = self.gate_and_up(self.forward_norm(x)).chunk(2, dim=-1)
        inner = F.dropout(F.silu(gate) * up, self.dropout, self.training)
        return x + self.forward_gate(x).sigmoid() * F.dropout(self.down(inner), self.dropout, self.training)


class BertBlock(nn.Module):
    """A layer of BERT as BERT4Rec has it: norms after the residuals, GELU, four times as wide inside.

    Sun et al., "BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer", CIKM 2019, part 3.3.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.forward_net = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor, rows: AttentionRows) -> torch.Tensor:
        """x float32 (N, D) -> the same shape."""
        q, k, v = self.query_key_value(x).chunk(3, dim=-1)
        dropout = self.dropout if self.training else 0.0
        read = self.out(rows.attention(q, k, v, num_heads=self.num_heads, dropout=dropout))
        x = self.attention_norm(x + F.dropout(read, self.dropout, self.training))
        return self.forward_norm(x + self.forward_net(x))


Block = Callable[[int, int, float], nn.Module]  # dim, num_heads, dropout
BLOCKS: dict[str, Block] = {"sasrec": SasBlock, "pre_norm": PreNormBlock, "ligr": LigrBlock}


class SequenceNetwork(nn.Module):
    """Item sequences in, one state per position out; the score of an item is the state's inner product with the item's vector.

    An item's vector is the sum of its fields (`ItemInputs`: an embedding, projected frozen features, or both), the same as input and
    as answer. seen: bool (I,), the items of the training events.
    """

    def __init__(self, inputs: ItemInputs, *, max_length: int) -> None:
        """max_length: items of a history that are read, the latest."""
        super().__init__()
        self.inputs, self.dim, self.max_length = inputs, inputs.dim, max_length
        self.register_buffer("seen", torch.ones(inputs.num_items, dtype=torch.bool))

    @property
    def num_items(self) -> int:
        """I."""
        return self.inputs.num_items

    def questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        """Of a batch of windows, each 2 to max_length + 1 items long: what is read of it, the positions that are asked, int64 (M,), and
        the items that are the answers, int64 (M,). Here every position is asked for the next item."""
        packed, targets = windows.in_and_out()
        return packed, torch.arange(len(targets)), targets

    def reads(self, histories: Sequence[np.ndarray]) -> Packed:
        """What is read of whole histories, none empty, so that the latest position of each says what comes next."""
        return Packed.of([history[-self.max_length :] for history in histories])

    def meet(self, seen: np.ndarray) -> None:
        """Take the items of the training events: bool (I,). Embeddings of the others stay unread."""
        self.seen.copy_(torch.from_numpy(seen))
        if self.inputs.use_ids:
            self.inputs.fields[0].known.copy_(self.seen)

    @property
    def blank(self) -> torch.Tensor:
        """The items of which there is nothing, neither a trained embedding nor features: bool (I,)."""
        fields = self.inputs.fields
        return ~reduce(torch.logical_or, [f.known if isinstance(f, IdField) else f.present for f in fields])

    def extend(self, matrices: ItemMatrices, num_new: int) -> None:
        """New items behind the others, known by their features alone: of each matrix float32 (M, D_f), bool (M,)."""
        if self.inputs.use_ids:
            self.inputs.fields[0].extend(num_new)
        for name in self.inputs.features:
            self.inputs.frozen(name).extend(*matrices[name])
        self.inputs.num_items += num_new
        self.seen = torch.cat([self.seen, self.seen.new_zeros(num_new)])

    def item_vectors(self, items: torch.Tensor | None = None) -> torch.Tensor:
        """The vectors of items, the sums of their fields: float32 (M, D). items: int64 (M,), each once; None: all."""
        return reduce(torch.add, [field.table() if items is None else field(items) for field in self.inputs.fields])

    def forward(self, packed: Packed, vectors: torch.Tensor) -> torch.Tensor:
        """States after each position: float32 (N, D).

        vectors: `item_vectors()`, which a step makes once for input and answer; or those of some items, to which the numbers in
        `packed` then point.
        """
        raise NotImplementedError

    def start_weights(self) -> None:
        """Matrices of layers as Glorot and Bengio (AISTATS 2010) start them, by normal numbers; biases at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and not any(module is part for part in self.inputs.modules()):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class SelfAttention(SequenceNetwork):
    """Blocks of self-attention over the items and their places, which are counted from the latest item.

    So a sequence and its latest part agree about places.
    """

    num_hidden = 0  # ids behind the items that hide one

    def __init__(
        self,
        inputs: ItemInputs,
        block: Block,
        *,
        max_length: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        scale_items: bool = False,
    ) -> None:
        """scale_items: items are multiplied by the root of the width where they are read, but not where they answer."""
        super().__init__(inputs, max_length=max_length)
        dim, num_places = self.dim, max_length + self.num_hidden
        assert dim % num_heads == 0, (dim, num_heads)
        self.dropout, self.scale = dropout, dim**0.5 if scale_items else 1.0
        self.places = nn.Parameter(torch.randn(num_places, dim) * (2 / (num_places + dim)) ** 0.5)
        self.hidden = nn.Parameter(torch.zeros(self.num_hidden, dim)) if self.num_hidden else None
        self.blocks = nn.ModuleList(block(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.start_weights()

    def forward(self, packed: Packed, vectors: torch.Tensor) -> torch.Tensor:
        """See `SequenceNetwork.forward`."""
        assert int(packed.lengths.max()) <= len(self.places), (packed.lengths.max(), len(self.places))
        if self.hidden is not None:
            vectors = torch.cat([vectors, self.hidden])
        x = self.scale * F.embedding(packed.items, vectors) + F.embedding(packed.from_end, self.places)  # (N, D)
        x = F.dropout(x, self.dropout, self.training)
        rows = AttentionRows(packed, is_causal=self.hidden is None)
        for block in self.blocks:
            x = block(x, rows)
        return self.norm(x)


class MaskedSelfAttention(SelfAttention):
    """Sees both ways and is asked for items that are hidden behind the mask; to recommend, the mask stands behind the history.

    In training each item is hidden with `mask_probability`, and the last one always, in half of the windows alone.
    """

    num_hidden = 1

    def __init__(
        self,
        inputs: ItemInputs,
        block: Block,
        *,
        max_length: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        mask_probability: float,
    ) -> None:
        super().__init__(
            inputs, block, max_length=max_length, num_layers=num_layers, num_heads=num_heads, dropout=dropout
        )
        self.mask_probability = mask_probability

    @property
    def mask(self) -> int:
        """The id that hides an item."""
        return self.num_items

    def questions(self, windows: Packed) -> tuple[Packed, torch.Tensor, torch.Tensor]:
        """See `SequenceNetwork.questions`: the hidden positions are asked."""
        hidden = torch.rand(len(windows.items)) < self.mask_probability
        alone = torch.rand(len(windows)) < 0.5
        hidden &= ~alone.repeat_interleave(windows.lengths)
        hidden[windows.last] = True
        read = windows.items.masked_fill(hidden, self.mask)
        return windows.with_items(read), hidden.nonzero().squeeze(1), windows.items[hidden]

    def reads(self, histories: Sequence[np.ndarray]) -> Packed:
        """See `SequenceNetwork.reads`: the mask stands behind each history."""
        return Packed.of([[*history[-self.max_length :], self.mask] for history in histories])


class Recurrent(SequenceNetwork):
    """GRU4Rec: gated recurrent units over the items, and a projection to the items' width.

    Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016. The items' vectors are shared by input and
    answer ("constrained embedding": Hidasi and Karatzoglou, CIKM 2018).
    """

    def __init__(
        self, inputs: ItemInputs, *, max_length: int, hidden_dim: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__(inputs, max_length=max_length)
        self.dropout = dropout
        self.units = nn.GRU(self.dim, hidden_dim, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        self.out = nn.Linear(hidden_dim, self.dim)
        self.norm = nn.LayerNorm(self.dim)
        self.start_weights()

    def forward(self, packed: Packed, vectors: torch.Tensor) -> torch.Tensor:
        """See `SequenceNetwork.forward`."""
        x = F.dropout(F.embedding(packed.items, vectors), self.dropout, self.training)  # (N, D)
        starts, owner = packed.last - packed.lengths + 1, torch.arange(len(packed)).repeat_interleave(packed.lengths)
        inside = torch.arange(len(packed.items)) - starts[owner]
        # torch's packed sequences lie by time, the longest sequence first at each moment.
        longest_first = packed.lengths.argsort(descending=True, stable=True)
        place = torch.empty_like(longest_first)
        place[longest_first] = torch.arange(len(packed))
        by_time = (inside * len(packed) + place[owner]).argsort()  # (N,)
        sizes = torch.bincount(inside)
        states = self.units(nn.utils.rnn.PackedSequence(x[by_time], sizes))[0].data
        back = torch.empty_like(by_time)
        back[by_time] = torch.arange(len(by_time))
        states = F.dropout(states[back], self.dropout, self.training)
        return self.norm(self.out(states))
