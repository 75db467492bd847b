"""Other ways to know which codes may follow a prefix, for comparison with `trie.py`: two dicts, no index at all, and STATIC.

Each is built from the items' codes and has `prepare` (what a step is given for its beams), `step` (what is timed) and
`children` (the same as sets, to compare). Letters: N items, L levels, K beams, C candidates, d depth.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


class Dicts:
    """A dict a node."""

    def __init__(self, codes: list[list[int]]) -> None:
        self.root: dict = {}
        for item in codes:
            node = self.root
            for code in item:
                node = node.setdefault(code, {})

    @property
    def nbytes(self) -> int:
        """Bytes of all dicts; the codes in them are small integers that Python shares."""
        total, nodes = 0, [self.root]
        while nodes:
            node = nodes.pop()
            total += sys.getsizeof(node)
            nodes.extend(node.values())
        return total

    def prepare(self, prefixes: np.ndarray) -> list[list[int]]:
        """A callback is given the codes written so far."""
        return prefixes.tolist()

    def step(self, prefixes: list[list[int]], depth: int) -> list[list[int]]:
        """Walks from the root for every beam, as a callback without memory must."""
        found = []
        for prefix in prefixes:
            node = self.root
            for code in prefix:
                node = node[code]
            found.append(list(node))
        return found

    def children(self, prefixes: np.ndarray) -> list[set[int]]:
        """The codes that may follow each prefix."""
        return [set(codes) for codes in self.step(self.prepare(prefixes), prefixes.shape[1])]


class Hashed(Dicts):
    """An entry a prefix."""

    def __init__(self, codes: list[list[int]]) -> None:
        table: dict[str, set[int]] = {}
        for item in codes:
            for depth in range(len(item)):
                table.setdefault("-".join(map(str, item[:depth])), set()).add(item[depth])
        self.table = {prefix: list(following) for prefix, following in table.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the table, its keys and its lists."""
        return sys.getsizeof(self.table) + sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in self.table.items())

    def step(self, prefixes: list[list[int]], depth: int) -> list[list[int]]:
        """One look-up per beam."""
        return [self.table["-".join(map(str, prefix))] for prefix in prefixes]


class Compare:
    """No index: the items themselves."""

    def __init__(self, codes: np.ndarray, codebook: int) -> None:
        self.codes, self.codebook = torch.from_numpy(codes), codebook

    def prepare(self, prefixes: np.ndarray) -> Tensor:
        """Every beam with every code after it: (K x codebook, d + 1)."""
        beams = torch.from_numpy(prefixes).repeat_interleave(self.codebook, 0)
        codes = torch.arange(self.codebook, dtype=torch.int32).repeat(len(prefixes))
        return torch.cat([beams, codes[:, None]], dim=1)

    def step(self, candidates: Tensor, depth: int) -> Tensor:
        """Which candidates begin an item: bool (C,)."""
        items = self.codes[:, : depth + 1]
        return torch.cat([(items[:, None] == part).all(2).any(0) for part in candidates.split(8)])

    def children(self, prefixes: np.ndarray) -> list[set[int]]:
        """The codes that may follow each prefix."""
        found = self.step(self.prepare(prefixes), prefixes.shape[1]).view(len(prefixes), self.codebook)
        return [set(row.nonzero()[:, 0].tolist()) for row in found]


class Static:
    """STATIC's index, with two dense levels as its authors recommend."""

    def __init__(self, modules: tuple[ModuleType, ModuleType], ordered: np.ndarray, codebook: int) -> None:
        build, self.decoding = modules
        self.codebook, (csr, indptr, self.widths, *dense) = codebook, build.build_static_index(ordered, codebook)
        self.csr, self.indptr = torch.from_numpy(csr), torch.from_numpy(indptr)
        self.start, self.mask, self.states = (torch.from_numpy(part) for part in dense)
        self.nbytes = sum(t.nbytes for t in (self.csr, self.indptr, self.start, self.mask, self.states))

    def prepare(self, prefixes: np.ndarray) -> tuple[Tensor, Tensor]:
        """States of the beams, and the log-probabilities that its step gathers from."""
        codes = torch.from_numpy(prefixes).long()
        scores = torch.zeros(len(codes), self.codebook)
        if codes.shape[1] < 2:
            return (codes[:, 0] if codes.shape[1] else torch.zeros(len(codes), dtype=torch.int64)), scores
        states = self.states[codes[:, 0], codes[:, 1]].long()
        for depth in range(2, codes.shape[1]):
            _, tokens, following = self._sparse(states, scores, depth)
            is_it = (tokens == codes[:, depth, None]) & self._real(states, depth)
            states = following.gather(1, is_it.int().argmax(1, keepdim=True))[:, 0].long()
        return states, scores

    def _real(self, states: Tensor, depth: int) -> Tensor:
        return torch.arange(int(self.widths[depth])) < (self.indptr[states + 1] - self.indptr[states])[:, None]

    def _sparse(self, states: Tensor, scores: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        limit = int(self.widths[depth])
        return self.decoding.generate_and_apply_logprobs_mask(
            scores, states, self.csr, self.indptr, limit, self.codebook, torch.device("cpu")
        )

    def step(self, prepared: tuple[Tensor, Tensor], depth: int) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """A mask of the codes on the dense levels, then candidates as the index lists them."""
        states, scores = prepared
        if depth == 0:
            return self.start.expand(len(states), -1)
        return self.mask[states] if depth == 1 else self._sparse(states, scores, depth)

    def children(self, prefixes: np.ndarray) -> list[set[int]]:
        """The codes that may follow each prefix."""
        depth, prepared = prefixes.shape[1], self.prepare(prefixes)
        found = self.step(prepared, depth)
        if depth < 2:
            return [set(row.nonzero()[:, 0].tolist()) for row in found]
        real = self._real(prepared[0], depth)
        return [set(row[is_real].tolist()) for row, is_real in zip(found[1], real, strict=True)]


def load_static(folder: Path | None) -> tuple[ModuleType, ModuleType] | None:
    """STATIC's index builder and its PyTorch step from a clone, or None where no folder is given."""
    if folder is None:
        return None
    sys.path.append(str(folder))
    return tuple(importlib.import_module(f"static_decoding.{name}") for name in ("csr_utils", "decoding_pt"))
