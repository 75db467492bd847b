"""A Llama-like decoder of our own, for models that only answer: importing transformers costs more CPU time than a recommendation.

Llama, Mistral, Qwen2 and Qwen3 are one function with a few switches, which `DecoderConfig` lists. Weights have the names of their
checkpoints and the operations are transformers' own, in their order, so that the numbers are the same to the last bit (tested).
Which checkpoints are read this way: `decoder_files`. Serving fuses and packs the layers as it does transformers' (`serving`).

Letters: B batch, T tokens, S positions so far, D width, A query heads, G key-value heads, C channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from llmrec.backbones.grouped_attention import GROUPED, grouped_attention


@dataclass(frozen=True)
class Llama3Rope:
    """How Llama 3.1 slows the rotation of channels whose wave is long."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class DecoderConfig:
    """What tells one of these models from another. sliding_window: positions a token sees, itself included; None: all before it.
    all_layers: of the checkpoint; the first num_hidden_layers are used."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    all_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Rope | None
    max_position_embeddings: int
    sliding_window: int | None
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    normed_heads: bool

    _attn_implementation = GROUPED

    def get_text_config(self, decoder: bool = True) -> Self:
        """Itself: it has no other part."""
        return self


@dataclass
class DecoderOutput:
    """As transformers names it. last_hidden_state: (B, T, D) after the final norm."""

    last_hidden_state: Tensor


class OwnCausalLM(nn.Module):
    """The decoder, and its head, whose projection of a hidden state is the words' logits.

    Made without weights, which `load_state_dict(..., assign=True)` puts in.
    """

    _is_stateful = False  # transformers' word for recurrent models

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = _linear(config.hidden_size, config.vocab_size)

    @property
    def base_model(self) -> Decoder:
        """The decoder below the head."""
        return self.model

    def get_decoder(self) -> Decoder:
        """The same."""
        return self.model

    def get_input_embeddings(self) -> nn.Embedding:
        """Of the words."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head


class Decoder(nn.Module):
    """Embeddings to hidden states."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        words = torch.empty(config.vocab_size, config.hidden_size, device="meta")
        self.embed_tokens = nn.Embedding.from_pretrained(
            words
        )  # made by its sizes, it would draw numbers, by way of torch._dynamo
        self.layers = nn.ModuleList([DecoderLayer(config, index) for index in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._frequencies = _frequencies(config)

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any | None = None,
        use_cache: bool = False,
    ) -> DecoderOutput:
        """transformers' signature. inputs_embeds: (B, T, D). attention_mask: int64 (B, S), or bool or additive (B, 1, T, S).
        position_ids: int64 (B, T). past_key_values: `update(keys, values, layer)` and `get_seq_length()`, of S - T positions; it is
        appended to."""
        num_tokens = inputs_embeds.shape[1]
        num_known = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(num_known, num_known + num_tokens)[None]
        if attention_mask is None or attention_mask.ndim == 2:
            attention_mask = _causal_mask(num_known, num_tokens, attention_mask, self.config.sliding_window)
        turns = self._turns(position_ids, inputs_embeds.dtype)
        hidden = inputs_embeds
        for layer in self.layers:
            hidden = layer(hidden, attention_mask, past_key_values, turns)
        return DecoderOutput(last_hidden_state=self.norm(hidden))

    def _turns(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's angles, (B, T, C) each."""
        angles = position_ids[..., None].float() * self._frequencies  # (B, T, C / 2)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


class DecoderLayer(nn.Module):
    """Norm, attention with rotated heads, sum; norm, gated MLP, sum."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, index)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        normed = self.input_layernorm(hidden_states)
        hidden_states = hidden_states + self.self_attn(normed, attention_mask, past_key_values, position_embeddings)
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class Attention(nn.Module):
    """Grouped attention; Qwen3 norms queries and keys head by head."""

    def __init__(self, config: DecoderConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer_idx, config.head_dim
        self.scaling = config.head_dim**-0.5
        width, heads = config.hidden_size, config.num_attention_heads * config.head_dim
        shared = config.num_key_value_heads * config.head_dim
        self.q_proj = _linear(width, heads, bias=config.qkv_bias)
        self.k_proj = _linear(width, shared, bias=config.qkv_bias)
        self.v_proj = _linear(width, shared, bias=config.qkv_bias)
        self.o_proj = _linear(heads, width, bias=config.o_bias)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.normed_heads else None
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.normed_heads else None

    def forward(
        self, x: Tensor, mask: Tensor | None, past_key_values: Any | None, turns: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = (
            each(x).unflatten(-1, (-1, self.head_dim)) for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = (_rotated(each.transpose(1, 2), *turns) for each in (query, key))  # (B, A or G, T, C)
        value = value.transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        return self.o_proj(grouped_attention(query, key, value, mask, scaling=self.scaling).flatten(2))


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, the length in float32: (..., C) -> (..., C)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device="meta"), requires_grad=False)
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        exact = x.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * exact.to(x.dtype)


def _linear(width_in: int, width_out: int, *, bias: bool = False) -> nn.Linear:
    return nn.Linear(width_in, width_out, bias=bias, device="meta")


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """heads (B, A, T, C) turned by each position's angles, cos and sin (B, T, C)."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]


def _frequencies(config: DecoderConfig) -> Tensor:
    """Angle per position of each pair of channels: float32 (C / 2,)."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    if config.rope_scaling is None:
        return frequencies
    scaling = config.rope_scaling
    waves = 2 * math.pi / frequencies
    longest = scaling.original_max_position_embeddings / scaling.low_freq_factor
    shortest = scaling.original_max_position_embeddings / scaling.high_freq_factor
    slowed = torch.where(waves > longest, frequencies / scaling.factor, frequencies)
    share = (scaling.original_max_position_embeddings / waves - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - share) * slowed / scaling.factor + share * slowed
    return torch.where((waves >= shortest) & (waves <= longest), between, slowed)


def _causal_mask(num_known: int, num_tokens: int, is_token: Tensor | None, window: int | None) -> Tensor | None:
    """Who sees whom, bool (B or 1, 1, T, S); None where each of T = S tokens sees those before it and itself.

    is_token: int64 (B, S), 0 for padding.
    """
    num_positions = num_known + num_tokens
    if is_token is not None and bool(is_token.all()):
        is_token = None
    if is_token is None and num_known == 0 and (window is None or window >= num_positions):
        return None
    queries, keys = torch.arange(num_known, num_positions)[:, None], torch.arange(num_positions)
    seen = keys <= queries
    if window is not None:
        seen &= queries - keys < window
    return seen[None, None] if is_token is None else (seen & is_token.bool()[:, None])[:, None]
