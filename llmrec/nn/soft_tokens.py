"""Items as soft tokens: a semantic adapter over the catalogue's features, numbered as vector tokens, and as answers.

Letters: N items, U items asked for, P vector tokens asked for, Q = num_query_tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from llmrec.nn.adapters.semantic import SemanticAdapter

_ITEMS_AT_ONCE = 4096
# Of more items than this a training step does not remember what the adapter went through, and computes it twice.
_ITEMS_REMEMBERED = 4 * _ITEMS_AT_ONCE
# A table of all soft tokens is kept while nothing is trained, where it takes no more than this.
_TABLE_BYTES = 1 << 30


class SoftTokens(nn.Module):
    """Every item of the catalogue as Q vectors made of its features; token i * Q + q is the q-th of item i.

    The features are frozen and belong to the catalogue, so they are buffers outside the state; what is trained is the adapter.
    """

    def __init__(
        self,
        adapter: SemanticAdapter,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        sources: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        """features: name -> float32 (N, D_name), for every name of the adapter; present: name -> bool (N,).

        sources: name -> JSON facts of what made the feature, by which other items, or other images, get theirs later; None where
        nobody is to make any.
        """
        super().__init__()
        self.adapter = adapter
        self.sources = dict(sources or {})
        self.names = adapter.feature_names
        for index, name in enumerate(self.names):  # by index: a feature's name may hold what a buffer's cannot
            self.register_buffer(f"features_{index}", torch.as_tensor(features[name]), persistent=False)
        mask = torch.stack([torch.as_tensor(present[name]) for name in self.names], dim=1)
        self.register_buffer("present", mask, persistent=False)  # (N, F)
        self._table: tuple[object, Tensor] | None = None

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.present)

    @property
    def num_query_tokens(self) -> int:
        """Q."""
        return self.adapter.num_query_tokens

    @property
    def num_tokens(self) -> int:
        """N x Q."""
        return self.num_items * self.num_query_tokens

    def train(self, mode: bool = True) -> Self:
        """Forgets the table, too: weights that are put together from shards (FSDP) show no change of their own."""
        if mode:
            self._table = None
        return super().train(mode)

    def features_of(self, items: Tensor | slice) -> dict[str, Tensor]:
        """name -> float32 (U, D_name)."""
        return {name: getattr(self, f"features_{index}")[items] for index, name in enumerate(self.names)}

    def forward(self, items: Tensor | slice) -> Tensor:
        """items int64 (U,) -> float32 (U, Q, D)."""
        return self.adapter(self.features_of(items), self.present[items])

    def pooled(self, items: Tensor | slice) -> Tensor:
        """items int64 (U,) -> float32 (U, D): the mean of each one's soft tokens."""
        return self.adapter.pooled(self.features_of(items), self.present[items])

    def rows(self, indices: Tensor) -> Tensor:
        """indices int64 (P,) -> float32 (P, D). The adapter runs once for each different item; see `VectorSource`."""
        items, queries = indices // self.num_query_tokens, indices % self.num_query_tokens
        if self._keeps_table():
            return self.table()[items, queries]
        unique, at = items.unique(return_inverse=True)
        return self(unique)[at, queries]

    def table(self) -> Tensor:
        """float32 (N, Q, D): all soft tokens, kept until the adapter or a feature changes."""
        state = _versions(self)
        if self._table is None or self._table[0] != state:
            parts = [self(slice(at, at + _ITEMS_AT_ONCE)) for at in range(0, self.num_items, _ITEMS_AT_ONCE)]
            self._table = (state, torch.cat(parts))
        return self._table[1]

    @torch.no_grad()
    def replace(self, item: int, vectors: Mapping[str, Tensor | None]) -> None:
        """Gives one item other features: name -> float32 (D_name,), or None for none."""
        for name, vector in vectors.items():
            index = self.names.index(name)
            getattr(self, f"features_{index}")[item] = 0.0 if vector is None else vector
            self.present[item, index] = vector is not None

    def _keeps_table(self) -> bool:
        size = 4 * self.num_tokens * self.adapter.dim
        return not self.training and not torch.is_grad_enabled() and size <= _TABLE_BYTES


class SoftItemTable(nn.Module):
    """Answers by inner product: item i's embedding in the item table is a trained projection of its soft tokens.

    What an `ItemTable` is to trained embeddings this is to embeddings made of features, under the same names, so that a new item, or
    another image of an old one, needs no training. Logits are `exp(log_scale) * hidden @ weight.T` with embeddings of length `norm`.
    """

    num_levels = 1

    def __init__(self, soft_tokens: SoftTokens, *, norm: float) -> None:
        super().__init__()
        dim = soft_tokens.adapter.dim
        self._soft_tokens = [soft_tokens]  # in a list: it is a module of the backbone's own, not of this one
        self.projection = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.projection.weight)
        self.log_scale = nn.Parameter(torch.tensor(math.log(4.0 / math.sqrt(dim))))
        self.norm = norm
        self.starts = [0, soft_tokens.num_items]
        self._weight: tuple[object, Tensor] | None = None
        self._of_step: tuple[object, Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Forgets the embeddings, too; see `SoftTokens.train`."""
        self._of_step = None
        if mode:
            self._weight = None
        return super().train(mode)

    @property
    def num_rows(self) -> int:
        """N."""
        return self._soft_tokens[0].num_items

    @property
    def levels(self) -> Tensor:
        """int64 (N,), all 0."""
        return torch.zeros(self.num_rows, dtype=torch.int64, device=self.log_scale.device)

    @property
    def weight(self) -> Tensor:
        """float32 (N, D). While nothing is trained they are kept until something changes. In training all uses of one step share them,
        and so one graph, until its gradient has passed through: the losses of a step go backwards together, in one call."""
        state = (_versions(self), _versions(self._soft_tokens[0]))
        if self.training and torch.is_grad_enabled():
            if self._of_step is None or self._of_step[0] != state:
                rows = self._all_rows()
                if not rows.requires_grad:
                    return rows
                rows.register_hook(self._forget)
                self._of_step = (state, rows)
            return self._of_step[1]
        if self.training or torch.is_grad_enabled():
            return self._all_rows()
        if self._weight is None or self._weight[0] != state:
            self._weight = (state, self._all_rows())
        return self._weight[1]

    def input_rows(self, rows: Tensor) -> Tensor:
        """rows int64 (...) -> float32 (..., D). Prompts hold an item's soft tokens; this is for answers in training."""
        return self._named(rows)

    def logits(self, hidden: Tensor, rows: Tensor | slice | None = None) -> Tensor:
        """hidden (N, D) -> float32 (N, M); see `ItemTable.logits`."""
        if isinstance(rows, Tensor):
            weight = self._named(rows)
        else:
            weight = self.weight if rows is None else self.weight[rows]
        return (hidden.float() @ weight.T) * self.log_scale.exp()

    def output_weight(self) -> Tensor:
        """float32 (N, D): the output embeddings a plain language-model head would hold for the same logits."""
        return self.weight * self.log_scale.exp()

    def _named(self, rows: Tensor) -> Tensor:
        """rows int64 (...) -> float32 (..., D). In training only the items named are computed."""
        if not (self.training or torch.is_grad_enabled()):
            return self.weight[rows]
        unique, at = rows.unique(return_inverse=True)
        return self._rows(unique)[at]

    def _all_rows(self) -> Tensor:
        """float32 (N, D), some thousand items at a time. In the training of many, each part is computed again for its gradient: what an
        adapter remembers of 100,000 items is many gigabytes."""
        parts = [slice(at, at + _ITEMS_AT_ONCE) for at in range(0, self.num_rows, _ITEMS_AT_ONCE)]
        if torch.is_grad_enabled() and self.num_rows > _ITEMS_REMEMBERED:
            return torch.cat([checkpoint(self._rows, part, use_reentrant=False) for part in parts])
        return torch.cat([self._rows(part) for part in parts])

    def _rows(self, items: Tensor | slice) -> Tensor:
        return F.normalize(self.projection(self._soft_tokens[0].pooled(items)), dim=1) * self.norm

    def _forget(self, _: Tensor) -> None:
        self._of_step = None


def _versions(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes whenever a parameter or a buffer of the module is written to, or is another one."""
    tensors: Sequence[Tensor] = [*module.parameters(), *module.buffers()]
    return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
