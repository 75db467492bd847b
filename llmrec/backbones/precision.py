"""bfloat16 or float32, chosen by timing a training step of each on this machine."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

import torch
from accelerate.utils import broadcast_object_list

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.frozen_linear import frozen_weights_packed

ROUNDS, BATCH, TOKENS = 3, 4, 64


def fastest_dtype(load: Callable[[torch.dtype], Backbone]) -> tuple[torch.dtype, dict[str, float]]:
    """The faster of float32 and bfloat16 for one forward and backward pass, and the seconds of each (the least of three rounds).

    One model is loaded, timed and freed after the other: both at once may need memory that the training does not.

    Args:
        load: makes the backbone in the dtype asked for.
    """
    seconds = {dtype: _least_seconds(load, dtype) for dtype in (torch.bfloat16, torch.float32)}
    best = min(seconds, key=lambda dtype: seconds[dtype])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # all processes take what the first one measured
        best = broadcast_object_list([best])[0]
    return best, {str(dtype).removeprefix("torch."): value for dtype, value in seconds.items()}


def _least_seconds(load: Callable[[torch.dtype], Backbone], dtype: torch.dtype) -> float:
    backbone = load(dtype)
    least = min(_step_seconds(backbone) for _ in range(ROUNDS))
    del backbone
    gc.collect()  # modules that know one another are freed by it alone
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return least


def _step_seconds(backbone: Backbone) -> float:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, backbone.base_vocab_size, (BATCH, TOKENS), generator=generator).to(backbone.device)
    embeds = backbone.embed(ids).detach().requires_grad_(True)
    with frozen_weights_packed(backbone):  # as in training
        start = time.perf_counter()
        hidden = backbone.hidden_states(inputs_embeds=embeds, attention_mask=torch.ones_like(ids))
        hidden.float().square().mean().backward()
        if embeds.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start
