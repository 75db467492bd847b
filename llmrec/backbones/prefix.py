"""Prefix tuning: trained keys and values in every layer, as if n tokens stood before each prompt (Li & Liang 2021).

The numbers are held by PEFT's prefix encoder. PEFT's own wrapper is not used: it hands the prefix on in a forward pass of its own, and
ours calls the transformer below the head. Here the transformer itself puts the prefix before what it reads, whoever calls it.

Letters: B rows, T tokens, n prefix tokens, L layers, G key-value heads, C channels of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrec.backbones.causal_lm import Backbone
from llmrec.errors import ModelError

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache

NAME = "prefix"  # what it is called inside the decoder


class Prefix(nn.Module):
    """The keys and values of n tokens in every layer.

    Attributes:
        encoder: PEFT's; its embedding's weight, float32 (n, L * 2 * G * C), holds them as PEFT does and is what is trained.
    """

    def __init__(self, num_tokens: int, num_layers: int, num_heads: int, channels: int) -> None:
        super().__init__()
        from peft import PrefixEncoder, PrefixTuningConfig

        config = PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=num_tokens,
            num_layers=num_layers,
            num_attention_heads=num_heads,
            token_dim=num_heads * channels,
            num_transformer_submodules=1,
        )
        self.encoder = PrefixEncoder(config)
        self.num_tokens = num_tokens
        self._shape = (num_tokens, 2 * num_layers, num_heads, channels)
        self.is_on = True

    @property
    def weight(self) -> nn.Parameter:
        """float32 (n, L * 2 * G * C)."""
        return self.encoder.embedding.weight

    def states(self) -> list[tuple[Tensor, Tensor]]:
        """For every layer keys and values, float32 (G, n, C) each."""
        sides = self.weight.view(self._shape).permute(1, 2, 0, 3).unbind(0)  # 2 L times (G, n, C)
        return list(zip(sides[::2], sides[1::2], strict=True))

    @torch.no_grad()
    def known_states(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """The same in the precision of a model, to be put into a cache."""
        return [(keys.to(dtype), values.to(dtype)) for keys, values in self.states()]

    @torch.no_grad()
    def start_from(self, states: list[tuple[Tensor, Tensor]]) -> None:
        """states: as `states` gives them."""
        sides = torch.stack([side for layer in states for side in layer])  # (2 L, G, n, C)
        self.weight.copy_(sides.permute(2, 0, 1, 3).flatten(1))


def add_prefix(backbone: Backbone, *, num_tokens: int, text: str | None = None, seed: int = 0) -> None:
    """Puts a trained prefix before everything the backbone reads.

    It starts as what the model keeps of `text`, repeated or cut to `num_tokens` tokens, so that at first the model answers as if that
    text stood there (Li & Liang, section 7.4: real words are the better start); without a text, of random words by `seed`.

    Training and reading without a cache work at once. With a cache, whoever made it puts `Prefix.states` into it first: an empty one is
    refused. Raises ModelError for layers of unlike shapes, or a prefix that is there already.
    """
    if find_prefix(backbone) is not None:
        raise ModelError("this backbone has a prefix already; load it anew for another.")
    if text is not None:
        ids = torch.tensor(backbone.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)
        if not len(ids):
            raise ModelError("the text that a prefix starts from has no tokens; give it words, or leave it out.")
        ids = ids[torch.arange(num_tokens) % len(ids)]
    else:
        size = min(len(backbone.tokenizer), backbone.base_vocab_size)
        ids = torch.randint(size, (num_tokens,), generator=torch.Generator().manual_seed(seed))
    prefix = new_prefix(backbone, num_tokens)
    prefix.start_from(_read(backbone, ids))
    attach(backbone, prefix)


def new_prefix(backbone: Backbone, num_tokens: int) -> Prefix:
    """A prefix that fits the backbone, of random numbers yet. Raises ModelError where layers differ in shape."""
    states = _read(backbone, torch.zeros(1, dtype=torch.int64))
    shapes = {(side.shape[0], side.shape[2]) for layer in states for side in layer}
    if len(shapes) != 1:
        raise ModelError(
            f"the layers of {type(backbone.causal_lm).__name__} keep keys and values of unlike shapes ({sorted(shapes)}), which a "
            "prefix cannot be made for; train another part, such as soft_prompt."
        )
    num_heads, channels = shapes.pop()
    return Prefix(num_tokens, len(states), num_heads, channels)


def attach(backbone: Backbone, prefix: Prefix) -> None:
    """From now on the decoder reads after the prefix, which becomes a part of it."""
    decoder = backbone.causal_lm.get_decoder()
    decoder.add_module(NAME, prefix.to(backbone.device).train(backbone.training))
    decoder.register_forward_pre_hook(_go_after, with_kwargs=True)


def find_prefix(backbone: Backbone) -> Prefix | None:
    """The backbone's prefix, if it has one."""
    return next((module for module in backbone.causal_lm.modules() if isinstance(module, Prefix)), None)


@torch.no_grad()
def _read(backbone: Backbone, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What the model keeps of the tokens ids int64 (n,): keys and values (G, n, C) of every layer."""
    from transformers.cache_utils import DynamicCache

    was_training = backbone.training
    backbone.eval()
    cache = DynamicCache()
    backbone.hidden_states(ids[None].to(backbone.device), past_key_values=cache)
    backbone.train(was_training)
    return [(layer.keys[0].float(), layer.values[0].float()) for layer in cache.layers]


def _go_after(decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Adds to what the decoder is called with: the prefix in a cache, its positions in the mask, its length to the positions."""
    prefix = decoder.get_submodule(NAME)
    assert isinstance(prefix, Prefix)
    if not prefix.is_on:
        return None
    if kwargs.get("past_key_values") is not None:
        if kwargs["past_key_values"].get_seq_length() == 0:
            raise ModelError(
                "a cache of a model with a trained prefix begins with the prefix, and this one is empty; decode through "
                "llmrec's own engines, which put it there."
            )
        return None  # who filled it began with the prefix: nothing else would have been read into it
    if kwargs.get("packed_layout") is not None:
        raise ModelError("packed sequences cannot hold a trained prefix; set training.packing=none.")
    if decoder.training and decoder.is_gradient_checkpointing:
        raise ModelError("gradient checkpointing drops the cache that a prefix lives in; train without it.")
    read = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    changed = {"past_key_values": _cache(decoder, prefix, read), "use_cache": True}
    if mask is not None:
        assert isinstance(mask, Tensor) and mask.ndim == 2, "without a cache, a mask says which tokens are padding"
        changed["attention_mask"] = torch.cat([mask.new_ones(len(mask), prefix.num_tokens), mask], dim=1)
    if positions is not None:
        changed["position_ids"] = positions + prefix.num_tokens
    return args, {**kwargs, **changed}


def _cache(decoder: nn.Module, prefix: Prefix, read: Tensor) -> DynamicCache:
    """A new cache that holds the prefix for as many rows as `read` (B, T, ...) has."""
    from transformers.cache_utils import DynamicCache

    dtype = decoder.get_input_embeddings().weight.dtype  # which the model's own keys and values have
    cache = DynamicCache(config=decoder.config)
    for layer, sides in enumerate(prefix.states()):
        keys, values = (side.to(dtype).expand(len(read), -1, -1, -1) for side in sides)
        cache.update(keys, values, layer)
    return cache
