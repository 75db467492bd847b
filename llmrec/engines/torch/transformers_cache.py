"""`tree_cache` as transformers' models take it. Apart from there, so that who has none of them imports no transformers."""

from __future__ import annotations

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from llmrec.engines.torch.tree_cache import LayerStates, TreeLayer


class TransformersTreeLayer(TreeLayer, DynamicLayer):
    """A `TreeLayer` with what transformers' masks ask of a cache."""

    def __init__(self) -> None:
        DynamicLayer.__init__(self)
        TreeLayer.__init__(self)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> LayerStates:
        """See `TreeLayer.update`."""
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        return super().update(key_states, value_states)


def transformers_cache() -> Cache:
    """Empty; it crops nothing, not even where a layer's window has passed."""
    return Cache(layer_class_to_replicate=TransformersTreeLayer)
