"""Decoding for a GPU: the whole step of the network as one CUDA graph, started with one call.

Eager decoding launches some fifteen kernels a layer, and for the few rows of a decoding step a launch takes Python
longer than the GPU takes the kernel. A graph needs what `engine/attention.py` does not have: the same shapes and
addresses at every step. So here every slot has its prompt and its own tokens side by side in one row of a cache, padded
to a capacity, and a step is always over a power of two of rows. A graph belongs to (rows, capacity): a cache that grows
is another, and its graphs are recorded anew. Weights are written over the old ones, so they need no new graph.

    PONDER_CUDA_GRAPHS=1 ponder rl RECIPE        # off by default: unmeasured on CUDA (docs/gpu.md)

A shared prompt is read once and copied to each of its slots: more memory than `cache.py`, and more to read a token. On
a CPU the same step runs without being recorded, which is how tests hold it to the readable model.

Shapes: N slots, K key/value heads, r query heads a key/value head, C capacity, E head width.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.engine.decoder import FusedDecoder
from ponder.engine.prefill import read
from ponder.engine.prompts import Prompt, release

SWITCH = "PONDER_CUDA_GRAPHS"
_CAPACITY = 256  # tokens of a slot to begin with; doubles


def are_wanted(device: torch.device) -> bool:
    """On a GPU, where the switch is on."""
    value = os.environ.get(SWITCH, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{SWITCH}={value!r} must be 0 or 1")
    return value == "1" and device.type == "cuda"


@dataclass(eq=False, kw_only=True)
class KeptPrompt(Prompt):
    """Keys and values are a layer's each, (K P E)."""

    keys: list[Tensor]
    values: list[Tensor]


class GraphNetwork:
    """Slots over the fused decoder, in rows of one shape."""

    prompts: dict[tuple[int, ...], Prompt]

    def __init__(self, decoder: FusedDecoder, *, pad_id: int) -> None:
        self.decoder, self._pad_id = decoder, pad_id
        self.device, self.logits_dtype = decoder.device, decoder.dtype
        self.prompts = {}
        self.num_recorded = 0  # graphs, for whoever measures
        self._prompt_of: list[KeptPrompt] = []  # of each slot
        self._records = decoder.device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._records else None
        self._keys: dict[int, Tensor] = {}  # of each layer, (N K C E)
        self._values: dict[int, Tensor] = {}
        self._resize(self._rows(1), self._capacity_for(1))

    def reload(self) -> None:
        self.decoder.reload()

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        for one in read(self.decoder, prompts, self._pad_id):
            # not the padding, and not as a part of a tensor that all prompts of its pass would keep
            keys, values = ([x[:, : len(one.ids)].clone() for x in kept] for kept in (one.keys, one.values))
            self.prompts[one.ids] = KeptPrompt(
                ids=one.ids, keys=keys, values=values, hidden_D=one.hidden_D, logits_V=one.logits_V
            )

    def release(self, prompt: Prompt) -> None:
        release(prompt, self.prompts)

    def insert(self, prompt: Prompt) -> None:
        assert isinstance(prompt, KeptPrompt)
        slot = len(self._prompt_of)
        self._prompt_of.append(prompt)
        self._make_room(slot + 1, len(prompt.ids) + 1)
        for kept, new in ((self._keys, prompt.keys), (self._values, prompt.values)):
            for layer, tensor in enumerate(new):
                kept[layer][slot, :, : len(prompt.ids)] = tensor

    def move(self, source: int, target: int, length: int) -> None:
        self._prompt_of[target] = self._prompt_of[source]
        held = len(self._prompt_of[source].ids) + length
        for kept in (*self._keys.values(), *self._values.values()):
            kept[target, :, :held] = kept[source, :, :held]

    def keep(self, n: int) -> None:
        del self._prompt_of[n:]

    def decode(self, tokens: np.ndarray, own: np.ndarray) -> tuple[Tensor, Tensor]:
        n = len(tokens)
        rows = self._rows(n)
        # rows behind n are free slots: what is written to their first column is overwritten by their next prompt
        padded, positions = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        padded[:n] = tokens
        positions[:n] = own + np.array([len(prompt.ids) for prompt in self._prompt_of])
        self._make_room(n, int(positions.max()) + 1)
        self._tokens[:rows].copy_(torch.from_numpy(padded))
        self._positions[:rows].copy_(torch.from_numpy(positions))
        hidden, logits = self._replay(rows) if self._records else self._step(rows)
        return hidden[:n], logits[:n]

    def _replay(self, rows: int) -> tuple[Tensor, Tensor]:
        if rows not in self._graphs:
            self._graphs[rows] = self._record(rows)
        graph, hidden, logits = self._graphs[rows]
        graph.replay()
        return hidden, logits

    def _record(self, rows: int) -> tuple[Any, Tensor, Tensor]:
        """A graph of the step and what it writes to. Running it beforehand, on a stream of its own, lets libraries make
        their workspaces; it writes the same keys that the graph will. Only this thread's allocations are watched: a
        trainer may go on in another."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            hidden, logits = self._step(rows)
        self.num_recorded += 1
        return graph, hidden, logits

    def _step(self, rows: int) -> tuple[Tensor, Tensor]:
        """Of the tokens and positions in the buffers; asks the device nothing and allocates by shape alone."""
        decoder, config, positions = self.decoder, self.decoder.config, self._positions[:rows]
        K, E, C = config.num_key_value_heads, config.head_dim, self._capacity
        at = (self._heads[: rows * K].view(rows, K) * C + positions[:, None]).flatten()  # rows of (N K C, E)
        columns, scale = self._columns, 1 / math.sqrt(E)
        biases: dict[int | None, Tensor] = {}
        for window in {config.window(layer) for layer in range(config.num_hidden_layers)}:
            may = columns <= positions[:, None]
            if window:
                may &= columns > positions[:, None] - window
            zeros = torch.zeros(may.shape, dtype=torch.float32, device=self.device)
            biases[window] = zeros.masked_fill_(~may, float("-inf"))[:, None, None]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._keys[layer], self._values[layer]
            keys.view(-1, E).index_copy_(0, at, k.reshape(rows * K, E))
            values.view(-1, E).index_copy_(0, at, v.reshape(rows * K, E))
            grouped = (q * scale).view(rows * K, -1, E)
            scores = torch.bmm(grouped, keys[:rows].flatten(0, 1).transpose(1, 2)).view(rows, K, -1, C)
            weights = (scores.float() + biases[config.window(layer)]).softmax(-1).to(v.dtype)
            return torch.bmm(weights.view(rows * K, -1, C), values[:rows].flatten(0, 1)).view(rows, -1, E)

        hidden = decoder.hidden(self._tokens[:rows], positions, attend)
        return hidden, decoder.logits(hidden)

    def _rows(self, n: int) -> int:
        return max(1 << (n - 1).bit_length(), self.decoder.min_rows)

    def _capacity_for(self, length: int) -> int:
        capacity = _CAPACITY
        while capacity < length:
            capacity *= 2
        return capacity

    def _make_room(self, n: int, length: int) -> None:
        rows, capacity = self._rows(n), self._capacity_for(length)
        if rows > self._num_rows or capacity > self._capacity:
            self._resize(max(rows, self._num_rows), max(capacity, self._capacity))

    def _resize(self, rows: int, capacity: int) -> None:
        """A larger cache with what the old one holds, zeros elsewhere: weight 0 times garbage may be nan. Every address
        changes, so the graphs go."""
        config, like = self.decoder.config, self.decoder.embed
        shape = (rows, config.num_key_value_heads, capacity, config.head_dim)
        for kept in (self._keys, self._values):
            for layer in range(config.num_hidden_layers):
                new, old = like.new_zeros(shape), kept.get(layer)
                if old is not None:
                    new[: len(old), :, : old.shape[2]] = old
                kept[layer] = new
        self._num_rows, self._capacity = rows, capacity
        self._graphs: dict[int, tuple[Any, Tensor, Tensor]] = {}
        self._tokens, self._positions = (torch.zeros(rows, dtype=torch.long, device=self.device) for _ in range(2))
        self._heads = torch.arange(rows * config.num_key_value_heads, device=self.device)
        self._columns = torch.arange(capacity, device=self.device)
