"""Whether a model computes for packed sequences what it computes for separate ones: tried, not assumed."""

from __future__ import annotations

from typing import Any

import torch

from llmrec.backbones.causal_lm import Backbone
from llmrec.backbones.fused_layer import FusedLayer
from llmrec.backbones.packed_attention import PackedLayout
from llmrec.backbones.prefix import find_prefix
from llmrec.errors import ModelError

# Two examples that share three tokens, and a third one, packed: indices of each one's tokens, positions, and one past each token's
# last descendant.
_ROWS = ([0, 1, 2, 3, 4], [0, 1, 2, 5, 6], [7, 8, 9])
_POSITIONS = [0, 1, 2, 3, 4, 3, 4, 0, 1, 2]
_SEEN_UNTIL = [7, 7, 7, 5, 5, 7, 7, 10, 10, 10]


class _RecordingLayout(PackedLayout):
    """Remembers which attention windows the model's layers ask for."""

    def __init__(self, seen_until: torch.Tensor, position_ids: torch.Tensor) -> None:
        super().__init__(seen_until, position_ids)
        self.windows: set[int | None] = set()

    def block_mask(self, number: int, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        self.windows.add(window)
        return super().block_mask(number, window, dtype)

    def flex_mask(self, window: int | None) -> Any:
        self.windows.add(window)
        return super().flex_mask(window)


def can_read_packed(backbone: Backbone) -> bool:
    """Whether packs of prompts are a way to read them here: on a CPU, where nothing is compiled for it, with the layers that
    transformers wrote (a served model's are fused), no trained prefix before the prompts, and `check_packing`'s consent."""
    fused = any(isinstance(module, FusedLayer) for module in backbone.modules())
    if backbone.device.type != "cpu" or fused or find_prefix(backbone) is not None:
        return False
    try:
        check_packing(backbone)
    except ModelError:
        return False
    return True


@torch.no_grad()
def check_packing(backbone: Backbone) -> None:
    """Reads three examples packed and one by one, and compares.

    Raises:
        ModelError: the model cannot be trained on packed sequences; the sentence says why and what to do.
    """
    config = backbone.config.get_text_config(decoder=True)
    way_out = "set training.packing=none"
    name = type(backbone.causal_lm).__name__
    if any(isinstance(module, FusedLayer) for module in backbone.modules()):
        raise ModelError(f"the layers of {name} were fused to answer requests, which are not packed.")
    if config._attn_implementation != "sdpa":
        raise ModelError(
            f"packed sequences need torch's attention, 'sdpa', but {name} runs with {config._attn_implementation!r}; {way_out}."
        )
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if foreign := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{name} has layers of {', '.join(sorted(foreign))}, which packed sequences would mix up; {way_out}."
        )
    if backbone.device.type != "cpu" and getattr(config, "attention_dropout", 0.0):
        raise ModelError(
            f"packed sequences cannot drop attention weights ({name} wants to) on an accelerator; {way_out}."
        )
    was_training = backbone.training
    backbone.eval()
    layout, worst, largest = _compare(backbone, name)
    backbone.train(was_training)
    window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
    tolerance = 1e-3 if backbone.dtype == torch.float32 else 5e-2
    # these examples are shorter than any window, so that sliding layers hand theirs on is seen from what they ask for
    if worst > tolerance * max(largest, 1.0) or layout.windows - {None} != {window} - {None}:
        raise ModelError(f"{name} does not compute for packed sequences what it computes for separate ones; {way_out}.")


def _compare(backbone: Backbone, name: str) -> tuple[_RecordingLayout, float, float]:
    """The layout used, the largest difference between packed and separate hidden states, and their largest entry."""
    ids = torch.arange(len(_POSITIONS), device=backbone.device) % backbone.base_vocab_size
    positions = torch.tensor([_POSITIONS], device=backbone.device)
    layout = _RecordingLayout(torch.tensor([_SEEN_UNTIL], device=backbone.device), positions)
    try:
        packed = backbone.hidden_states(ids[None], position_ids=positions, packed_layout=layout)[0]
    except TypeError as error:  # a forward without keyword arguments to pass on
        raise ModelError(
            f"{name} does not hand arguments on to its attention, which packed sequences need ({error}); set training.packing=none."
        ) from error
    except RuntimeError as error:  # flex attention that this machine cannot compile, too
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} cannot read packed sequences here: {first}; set training.packing=none.") from error
    worst = largest = 0.0
    for row in _ROWS:
        alone = backbone.hidden_states(ids[row][None])[0].float()
        worst = max(worst, float((packed[row].float() - alone).abs().max()))
        largest = max(largest, float(alone.abs().max()))
    return layout, worst, largest
