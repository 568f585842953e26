"""A past for transformers' causal models that is written in place.

Shape letters: B batch (1), H_kv key and value heads, S new positions, T positions with them,
C positions there is room for, d head size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class TorchPast:
    """Keys and values so far; transformers' own grows by copying all there is for each token."""

    def __init__(self, num_layers: int, max_positions: int) -> None:
        self._layers = [_Layer(max_positions) for _ in range(num_layers)]
        self.cache = Cache(layers=self._layers)
        """What the model takes as `past_key_values`."""

    @property
    def num_positions(self) -> int:
        """How many there are."""
        return self._layers[0].num_positions

    def crop(self, num_positions: int) -> None:
        """Forget all but the first, so that others can follow them."""
        assert num_positions <= self.num_positions, "what is not there cannot stay"
        for layer in self._layers:
            layer.num_positions = num_positions


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers is not type-checked
    def __init__(self, max_positions: int) -> None:
        super().__init__()
        self._max_positions = max_positions
        self.num_positions = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # (C, H_kv, d): the part in use has the same strides whatever C is, so what is computed of
        # it cannot depend on how long an answer may become.
        self.keys, self.values = (
            states.new_empty((self._max_positions, *states.shape[1::2]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take (B, H_kv, S, d) of the new positions, return (B, H_kv, T, d) of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.num_positions, self.num_positions + key_states.shape[2]
        self.keys[start:end] = key_states[0].transpose(0, 1)
        self.values[start:end] = value_states[0].transpose(0, 1)
        self.num_positions = end
        return self.keys[:end].transpose(0, 1)[None], self.values[:end].transpose(0, 1)[None]

    def get_seq_length(self) -> int:
        return self.num_positions
