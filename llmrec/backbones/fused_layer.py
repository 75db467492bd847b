"""A decoder layer in few operations: what is left of a Llama-like layer when its matrices are packed and nobody trains it.

transformers, and `decoder` after it, write a layer as some forty operations, each with a pass over memory and a call through
Python; for the few rows of a decoding step, and in bfloat16 for a whole prompt, those take as long as the products. Here a layer is
four products with what follows them inside (the residual sums, SiLU and the gate's multiplication are done while the product is
written), one product for queries, keys and values together, an RMSNorm of five operations, and a rotation in place. Same function,
same cache; results differ by rounding. Figures: docs/speed.md.

Who asks for the state of one token per row (the last one of a prompt) needs of the last layer only its keys and values for the
others: `reading_at` leaves the rest out, a fifth of a model of four layers.

Letters: B batch, T tokens, D width, A query heads, G key-value heads, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmrec.backbones.decoder import DecoderLayer
from llmrec.backbones.grouped_attention import GROUPED, grouped_attention
from llmrec.backbones.packed_linear import PackedLinear, refuse_saving

# The layers written as: norm, attention with rotated heads, sum; norm, gated MLP, sum. By name: importing four models is slow.
_LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")


def can_fuse(layer: nn.Module) -> bool:
    """Whether `layer` is of a known make, all its matrices are plain ones of a kind, and nothing stands after its parts."""
    is_known = type(layer) is DecoderLayer or type(layer).__name__ in _LAYERS
    if not is_known or layer.self_attn.config._attn_implementation not in ("sdpa", GROUPED):
        return False
    linears = {path: module for path, module in layer.named_modules() if isinstance(module, nn.Linear)}
    # "self_attn.q_proj"; below LoRA it would lie a step deeper
    is_plain = len(linears) == 7 and all(
        type(linear) is nn.Linear and path.count(".") == 1 for path, linear in linears.items()
    )
    is_bare = not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
    return is_plain and is_bare and type(layer.mlp.act_fn).__name__ in ("SiLU", "SiLUActivation")


@torch.no_grad()
def agrees(fused: FusedLayer, layer: nn.Module) -> bool:
    """Whether both give the same for a few random tokens: tried, for the next transformers may write the layer in another way."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, fused.down_proj.out_features, generator=generator).to(fused.down_proj.dtype)
    angles = (6 * torch.rand(2, 6, fused.head_dim // 2, generator=generator)).repeat(1, 1, 2)  # (B, T, C)
    turns = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
    ours, theirs = (each(x, position_embeddings=turns).float() for each in (fused, layer.eval()))
    tolerance = 1e-4 if x.dtype == torch.float32 else 2e-2
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


class FusedLayer(nn.Module):
    """What `layer` computes, `can_fuse` it provided, with copies of its matrices."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.layer_idx, self.head_dim, self._scaling = attention.layer_idx, attention.head_dim, attention.scaling
        self._read_at: Tensor | None = None
        self._num_rotated = (attention.q_proj.out_features + attention.k_proj.out_features) // self.head_dim
        self._num_queries = attention.q_proj.out_features // self.head_dim
        self.input_layernorm = _RMSNorm(layer.input_layernorm)
        self.post_attention_layernorm = _RMSNorm(layer.post_attention_layernorm)
        self.head_norms = None
        if "q_norm" in dict(
            attention.named_children()
        ):  # Qwen 3 norms queries and keys head by head before it rotates them
            self.head_norms = nn.ModuleList([_RMSNorm(attention.q_norm), _RMSNorm(attention.k_norm)])
        self.qkv_proj = PackedLinear(_side_by_side([attention.q_proj, attention.k_proj, attention.v_proj]))
        self.o_proj = PackedLinear(attention.o_proj)
        self.gate_proj, self.up_proj = PackedLinear(mlp.gate_proj), PackedLinear(mlp.up_proj)
        self.down_proj = PackedLinear(mlp.down_proj)

    @contextmanager
    def reading_at(self, read_at: Tensor) -> Iterator[None]:
        """While open, the layer gives (B, 1, D): for each row the state at its `read_at`, int64 (B,). The cache gets all tokens.

        It must be the last layer, and one thread at a time may use the model (`Recommender` sees to it).
        """
        self._read_at = read_at
        try:
            yield
        finally:
            self._read_at = None

    @torch.no_grad()
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **arguments: Any,
    ) -> Tensor:
        """transformers' signature of a decoder layer: (B, T, D) -> (B, T, D), the cache appended to."""
        assert "packed_layout" not in arguments, (
            "packed sequences are for training: windows are not handed on to their attention"
        )
        normed = self.input_layernorm(hidden_states)
        heads = self.qkv_proj(normed).unflatten(-1, (-1, self.head_dim))  # (B, T, A + 2 G, C)
        query, key, value = self._rotated(heads, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        if self._read_at is None:
            attended = grouped_attention(query, key, value, attention_mask, scaling=self._scaling)  # (B, T, A, C)
        else:
            row = torch.arange(len(query))
            hidden_states = hidden_states[row, self._read_at][:, None]  # (B, 1, D)
            seen = _seen_from(self._read_at, attention_mask, query.shape[2], key.shape[2])
            last = query[row, :, self._read_at][:, :, None]  # (B, A, 1, C)
            attended = grouped_attention(last, key, value, seen, scaling=self._scaling)  # (B, 1, A, C)
        hidden_states = self.o_proj.plus(attended.flatten(2), hidden_states)
        normed = self.post_attention_layernorm(hidden_states)
        return self.down_proj.plus(self.up_proj.times(normed, self.gate_proj.silu(normed)), hidden_states)

    def _rotated(self, heads: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, A, T, C), keys and values (B, G, T, C) of heads (B, T, A + 2 G, C). cos, sin: (B, T, C)."""
        turned = heads[:, :, : self._num_rotated]  # (B, T, A + G, C)
        if self.head_norms is not None:
            pair = turned.split([self._num_queries, self._num_rotated - self._num_queries], dim=2)
            turned = torch.cat([norm(x) for x, norm in zip(pair, self.head_norms, strict=True)], dim=2)
        half = turned.shape[-1] // 2
        cos, sin = cos[:, :, None], sin[:, :, None]
        rotated = turned * cos
        rotated[..., :half].addcmul_(turned[..., half:], sin[..., :half], value=-1)
        rotated[..., half:].addcmul_(turned[..., :half], sin[..., half:])
        rotated = rotated.transpose(1, 2)  # (B, A + G, T, C)
        query, key = rotated[:, : self._num_queries], rotated[:, self._num_queries :]
        return query, key, heads[:, :, self._num_rotated :].transpose(1, 2)

    def _save_to_state_dict(self, *_: object) -> None:
        refuse_saving()

    def __deepcopy__(self, _: dict) -> FusedLayer:
        refuse_saving()


def _seen_from(read_at: Tensor, mask: Tensor | None, num_tokens: int, num_keys: int) -> Tensor:
    """What the tokens at `read_at` see, (B, 1, 1, S) in the form of the layer's mask (B or 1, 1, T, S); bool where that is None:
    all before them and themselves."""
    if mask is None:
        return (torch.arange(num_keys) <= num_keys - num_tokens + read_at[:, None])[:, None, None]
    return mask.expand(len(read_at), -1, -1, -1)[torch.arange(len(read_at)), :, read_at][:, :, None]


class _RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, the norm of transformers' `norm` in five operations: (..., C) -> (..., C)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight = norm.weight
        self._eps = torch.tensor(norm.variance_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """See the class. The length is summed and divided by in float32, whatever the dtype of x."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (..., 1)
        scale = torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return torch.mul(x, scale, out=torch.empty_like(x)).mul_(self.weight)


def _side_by_side(linears: list[nn.Linear]) -> nn.Linear:
    """One layer whose outputs are those of all, one after the other."""
    first = linears[0]
    joined = nn.Linear(first.in_features, sum(linear.out_features for linear in linears), device="meta")
    joined.weight = nn.Parameter(torch.cat([linear.weight.detach() for linear in linears]), requires_grad=False)
    joined.bias = None
    if first.bias is not None:
        joined.bias = nn.Parameter(torch.cat([linear.bias.detach() for linear in linears]), requires_grad=False)
    return joined
