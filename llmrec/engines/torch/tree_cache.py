"""A cache of keys and values with room for a tree after what it holds, for llmrec's own decoder; `transformers_cache` is the same
for transformers' models.

Letters: B requests, G key-value heads, N new positions, S old ones, C channels of a head.
"""

from __future__ import annotations

from torch import Tensor

_ROOM = 128  # positions kept free after what a layer holds

LayerStates = tuple[Tensor, Tensor]  # keys and values of one layer


class TreeLayer:
    """One layer's keys and values, (B, G, S, C) each: new positions are written after the old ones instead of copying all of them."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> LayerStates:
        """(B, G, N, C) each -> all positions so far, (B, G, S + N, C) each."""
        if self.keys is None:
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        held, length = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if not self._buffers or self._buffers[0].shape[2] < length:
            shape = (*key_states.shape[:2], length + _ROOM)
            grown = [each.new_empty(*shape, each.shape[3]) for each in (key_states, value_states)]
            for buffer, old in zip(grown, (self.keys, self.values), strict=True):
                buffer[:, :, :held] = old
            self._buffers = grown
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, held:length] = new
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)
        return self.keys, self.values


class TreeCache:
    """What `decoder` appends to: a `TreeLayer` per layer."""

    def __init__(self) -> None:
        self.layers: list[TreeLayer] = []

    def update(self, key_states: Tensor, value_states: Tensor, layer: int) -> LayerStates:
        """See `TreeLayer.update`; layers come in order."""
        if layer == len(self.layers):
            self.layers.append(TreeLayer())
        return self.layers[layer].update(key_states, value_states)

    def get_seq_length(self) -> int:
        """S."""
        return self.layers[0].keys.shape[2] if self.layers else 0

    def crop(self, num_positions: int) -> None:
        """Drops the last -num_positions positions (transformers' sign)."""
        for layer in self.layers:
            stop = layer.keys.shape[2] + num_positions
            layer.keys, layer.values = layer.keys[:, :, :stop], layer.values[:, :, :stop]
