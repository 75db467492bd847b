"""The semantic adapter: an item's features, of any kind and width, as a few soft tokens of a language model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import ArtifactError, ModelError
from llmrec.nn.adapters.experts import MixtureOfExperts
from llmrec.nn.adapters.q_former import QFormer

AdapterKind = Literal["linear", "mlp", "qformer", "moe"]
_CHUNK = 65_536  # rows of a feature matrix looked at together


class Scaling(nn.Module):
    """(x - mean) / spread. One spread for all dimensions, so that angles between centred vectors stay.

    Attributes:
        mean: float32 (D,), saved; zero until fitted.
        spread: float32 (), saved; one until fitted: the mean length of centred rows over sqrt(D), which is the standard deviation
            for Gaussian rows and, unlike it, does not follow a few very long ones.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(()))

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """rows: float32 (N, D); without any, nothing changes. Rows that are all equal keep spread one."""
        if not len(rows):
            return
        chunks = rows.split(_CHUNK)
        mean = torch.stack([chunk.double().sum(dim=0) for chunk in chunks]).sum(dim=0) / len(rows)
        length = sum(float((chunk.double() - mean).norm(dim=1).sum()) for chunk in chunks) / len(rows)
        self.mean.copy_(mean)
        # rows alike but for rounding have no spread to divide by
        flat = length <= 1e-6 * float(mean.norm())
        self.spread.fill_(1.0 if flat or not length else length / math.sqrt(rows.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., D) -> float32 (..., D)."""
        return (x.float() - self.mean) / self.spread


class SemanticAdapter(nn.Module):
    """F named features of an item -> n_q soft tokens in a language model's input space.

    The light semantic adapter of EASE (CIKM 2024, doi 10.1145/3627673.3680048). Every feature is standardised (`fit_scaling`) and
    goes through a projection of its own to H hidden numbers; the kinds differ in what follows:

        | kind | between the projections and the tokens |
        |---|---|
        | linear | the sum over present features, one linear map to all tokens |
        | mlp | the same with a GELU and a norm between the two |
        | qformer | n_q learned queries attend to the present features' tokens (BLIP-2, Li et al. 2023; EM3) |
        | moe | one mixture-of-experts adapter per feature (UniSRec, Hou et al. 2022), summed, one linear map to all tokens |

    A sum over k present features is divided by sqrt(k): the length of what comes out does not tell how many there were. An absent
    feature is masked: its numbers, whatever they are, change nothing. An item without any feature gets trained tokens of its own.

    Letters: B items, F features, D_f a feature's width, H hidden_dim, n_q num_query_tokens, D dim.

    Attributes:
        log_scale: float32 (), trained; starts where rows have mean length about `norm`.
        empty: float32 (n_q, D), trained: the tokens, before scaling, of an item without features.
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        dim: int,
        *,
        kind: AdapterKind = "qformer",
        num_query_tokens: int = 4,
        hidden_dim: int = 256,
        num_layers: int = 1,
        num_heads: int = 4,
        num_experts: int = 4,
        dropout: float = 0.0,
        norm: float = 1.0,
        seed: int = 0,
        noisy_gates: bool = False,
    ) -> None:
        """`norm`: the mean length of the backbone's embeddings. `num_layers` and `num_heads` are of the qformer, `num_experts` and
        `noisy_gates` (UniSRec's eq. 4, while training) of the moe.

        Raises ModelError for no feature at all, or heads that do not divide the hidden width.
        """
        super().__init__()
        _check(feature_dims, kind, hidden_dim, num_heads)
        self.settings: dict[str, Any] = {
            "feature_dims": dict(feature_dims), "dim": dim, "kind": kind, "num_query_tokens": num_query_tokens,
            "hidden_dim": hidden_dim, "num_layers": num_layers, "num_heads": num_heads, "num_experts": num_experts,
            "dropout": dropout, "norm": norm, "seed": seed, "noisy_gates": noisy_gates,
        }  # fmt: skip
        self.feature_names = tuple(feature_dims)
        self.kind, self.dim, self.num_query_tokens = kind, dim, num_query_tokens
        # by position, not by name: a feature's name may hold what a module's cannot
        self.scalings = nn.ModuleList(Scaling(width) for width in feature_dims.values())
        self.projections = nn.ModuleList(nn.Linear(width, hidden_dim) for width in feature_dims.values())
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.Identity() if kind == "linear" else nn.LayerNorm(hidden_dim)
        if kind == "qformer":
            self.q_former = QFormer(num_query_tokens, hidden_dim, num_layers, num_heads, dropout)
        if kind == "moe":
            self.experts = nn.ModuleList(
                MixtureOfExperts(hidden_dim, num_experts, noisy=noisy_gates) for _ in feature_dims
            )
        self.out = nn.Linear(hidden_dim, dim if kind == "qformer" else num_query_tokens * dim)
        self.empty = nn.Parameter(torch.zeros(num_query_tokens, dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(norm / math.sqrt(dim))))
        self._initialise(torch.Generator().manual_seed(seed))

    def forward(self, features: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Soft tokens, float32 (B, n_q, D).

        Args:
            features: for every name float32 (B, D_f); rows of absent features may hold anything.
            present: bool (B, F), in the order of `feature_dims`.
        """
        rows = self.out(self._fused(features, present)).view(-1, self.num_query_tokens, self.dim)
        return torch.where(present.any(dim=1)[:, None, None], rows, self.empty).float() * self.log_scale.exp()

    def pooled(self, features: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """The mean of an item's soft tokens, float32 (B, D): one vector per item, as answers by inner product and CTR models
        take it. The last map is linear, so the mean is taken before it: an n_q-th of its work."""
        fused = self._fused(features, present)
        if self.kind == "qformer":
            rows = self.out(fused.mean(dim=1))
        else:
            weight = self.out.weight.view(self.num_query_tokens, self.dim, -1).mean(dim=0)  # (D, H)
            rows = nn.functional.linear(fused, weight, self.out.bias.view(self.num_query_tokens, self.dim).mean(dim=0))
        return torch.where(present.any(dim=1)[:, None], rows, self.empty.mean(dim=0)).float() * self.log_scale.exp()

    def _fused(self, features: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """What the last linear map reads: (B, n_q, H) of the qformer, else (B, H); items without features hold anything."""
        hidden = torch.stack(
            [
                projection(scaling(features[name].masked_fill(~is_present[:, None], 0.0)))
                for name, scaling, projection, is_present in zip(
                    self.feature_names, self.scalings, self.projections, present.unbind(dim=1), strict=True
                )
            ],
            dim=1,
        )  # (B, F, H)
        hidden = self.dropout(hidden)
        if self.kind == "qformer":
            # attention over nothing is NaN: items without features look at what they have, and are replaced after the last map
            fused = self.q_former(hidden, present | ~present.any(dim=1)[:, None])  # (B, n_q, H)
        else:
            fused = self._sum(hidden, present)  # (B, H)
        return self.norm(fused)

    def fit_scaling(self, features: Mapping[str, Tensor], present: Tensor) -> None:
        """Standardises by the present rows of the whole catalogue; call it once, before training.

        Args:
            features: for every name float32 (N, D_f).
            present: bool (N, F), in the order of `feature_dims`.
        """
        for name, scaling, is_present in zip(self.feature_names, self.scalings, present.unbind(dim=1), strict=True):
            scaling.fit(features[name][is_present])

    def save(self, path: Path) -> None:
        """One safetensors file: weights, scaling, and in its header the settings."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, path, metadata={"settings": json.dumps(self.settings)})

    @classmethod
    def load(cls, path: Path) -> SemanticAdapter:
        """The adapter that `save` wrote, on the CPU; no language model is needed. Raises ArtifactError."""
        try:
            with safe_open(path, framework="pt") as file:
                settings = (file.metadata() or {})["settings"]
            adapter = cls(**json.loads(settings))
            adapter.load_state_dict(load_file(path))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ArtifactError(f"expected a semantic adapter in '{path}': {first}") from error
        return adapter

    def _sum(self, hidden: Tensor, present: Tensor) -> Tensor:
        """hidden (B, F, H), present bool (B, F) -> (B, H)."""
        if self.kind == "moe":
            hidden = torch.stack([mix(hidden[:, position]) for position, mix in enumerate(self.experts)], dim=1)
        weights = present / present.sum(dim=1, keepdim=True).clamp_min(1).sqrt()  # (B, F)
        fused = (hidden * weights.unsqueeze(-1)).sum(dim=1)
        return nn.functional.gelu(fused) if self.kind == "mlp" else fused

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """Every linear map keeps variance one, whatever its width; so do the queries and the tokens of empty items."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(std=module.in_features**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        self.empty.normal_(generator=generator)
        if self.kind == "qformer":
            self.q_former.queries.normal_(generator=generator)


def _check(feature_dims: Mapping[str, int], kind: str, hidden_dim: int, num_heads: int) -> None:
    if not feature_dims:
        raise ModelError("a semantic adapter needs at least one feature, and there is none; name one, such as 'text'.")
    if kind == "qformer" and hidden_dim % num_heads:
        raise ModelError(
            f"expected attention heads that divide the adapter's hidden width, got {num_heads} heads and width {hidden_dim}; "
            "choose a width that is a multiple."
        )
