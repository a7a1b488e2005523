"""Keys and values: of prompts while they are prefilled, of running sequences slot by slot.

A slot is one running sequence; slots 0..n-1 are always the occupied ones, so a decoding step reads one dense slice.
A prompt is computed once and copied into the slot of each of its samples. Capacity grows with the longest sequence.

Shapes: L layers, N slots, K key/value heads, T tokens, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ponder.models.transformer import ModelConfig, bias_of, causal_bias

_GRAIN = 64  # tokens by which capacity grows


class PromptCache:
    """Collects the keys and values of a batch of prompts (padded on the right) during one forward pass."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self.layers: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        self.layers.append((k, v))
        length, window = k.shape[2], self._config.window(layer)
        if window and window < length:
            return k, v, causal_bias(length, k.dtype, k.device, window)
        return k, v, None

    def prompt(self, row: int, length: int) -> tuple[Tensor, Tensor]:
        """One prompt's keys and values, (L K T E) each."""
        keys = torch.stack([k[row, :, :length] for k, _ in self.layers])
        values = torch.stack([v[row, :, :length] for _, v in self.layers])
        return keys, values


class SlotCache:
    """Keys and values of the running sequences, (L N K T E)."""

    def __init__(self, config: ModelConfig, num_slots: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (config.num_hidden_layers, num_slots, config.num_key_value_heads, 0, config.head_dim)
        self._config = config
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        # of the step in progress:
        self._rows = self._positions = torch.empty(0, dtype=torch.long, device=device)
        self._length = 0
        self._biases: dict[int | None, Tensor] = {}  # window of a layer -> (n, 1, length)

    def _grow(self, length: int) -> None:
        capacity = self.keys.shape[3]
        if length <= capacity:
            return
        capacity = max(-(-length // _GRAIN) * _GRAIN, min(2 * capacity, capacity + 8 * _GRAIN))
        for name in ("keys", "values"):
            old = getattr(self, name)
            # zeros, not empty: masked positions get weight 0, and 0 * nan would be nan
            new = torch.zeros((*old.shape[:3], capacity, old.shape[4]), dtype=old.dtype, device=old.device)
            new[:, :, :, : old.shape[3]] = old
            setattr(self, name, new)

    def insert(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Copy a prompt (L K T E) into a slot."""
        length = keys.shape[2]
        self._grow(length + 1)
        self.keys[:, slot, :, :length] = keys
        self.values[:, slot, :, :length] = values

    def move(self, source: int, target: int, length: int) -> None:
        """Give a finished slot to the last running one."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]

    def begin_step(self, positions: Tensor, longest: int) -> None:
        """The next forward pass adds one token to slots 0..n-1 at `positions` (n,); `longest` = their maximum."""
        self._length = longest + 1
        self._grow(self._length)
        self._rows = torch.arange(len(positions), device=positions.device)
        self._positions = positions
        columns = torch.arange(self._length, device=positions.device)
        self._biases = {}
        for window in {self._config.window(layer) for layer in range(self._config.num_hidden_layers)}:
            may_attend = columns <= positions[:, None]
            if window:
                may_attend &= columns > positions[:, None] - window
            self._biases[window] = bias_of(may_attend, self.keys.dtype)[:, None]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        n = len(self._rows)
        self.keys[layer, self._rows, :, self._positions] = k[:, :, 0]
        self.values[layer, self._rows, :, self._positions] = v[:, :, 0]
        keys, values = self.keys[layer, :n, :, : self._length], self.values[layer, :n, :, : self._length]
        return keys, values, self._biases[self._config.window(layer)]
