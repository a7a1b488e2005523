"""What the runner computes with: a network that reads prompts and decodes the next token of every slot.

Three of them: compiled C on an x86 CPU (`native.py`), and PyTorch everywhere else, here, over the fused decoder
(`decoder.py`), its cache (`cache.py`) and attention (`attention.py`); on a GPU also as CUDA graphs (`graphs.py`), where
they are switched on. `WeightLayout` says which, and how weights lie for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.engine import native
from ponder.engine.arranging import Arranged, in_memory
from ponder.engine.attention import SlotAttention
from ponder.engine.cache import Cache, CachedPrompt
from ponder.engine.decoder import FusedDecoder, fuse
from ponder.engine.graphs import GraphNetwork, are_wanted
from ponder.engine.prefill import read
from ponder.engine.prompts import Prompt
from ponder.models import compiled
from ponder.models.cpu import fast_dtype
from ponder.models.flat import Flat
from ponder.models.transformer import ModelConfig


class Network(Protocol):
    """Slots 0..n-1 are running sequences; each belongs to a prompt that was read."""

    prompts: dict[tuple[int, ...], Prompt]  # by their tokens
    device: torch.device
    logits_dtype: torch.dtype

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Take up new prompts."""

    def release(self, prompt: Prompt) -> None:
        """One request needs the prompt no longer; the last one takes it out."""

    def insert(self, prompt: Prompt) -> None:
        """The next slot is a sample of this prompt."""

    def move(self, source: int, target: int, length: int) -> None:
        """Give a slot to the last running sequence, of whose own tokens `length` are here."""

    def keep(self, n: int) -> None:
        """Only slots 0..n-1 run on."""

    def decode(self, tokens: np.ndarray, own: np.ndarray) -> tuple[Tensor, Tensor]:
        """The last token of every slot, number own[j] (from 0) of its own tokens, both (n,) ->
        final hidden states (n D), and logits of the next token (n V), which hold until the next call."""
        ...

    def reload(self) -> None:
        """Take up weights that were written over the old ones."""


@dataclass(frozen=True)
class WeightLayout:
    """How the weights lie that a network computes with."""

    config: ModelConfig
    dtype: torch.dtype
    library: str | None  # of compiled C; None: PyTorch
    graphs: bool = False  # PyTorch in one shape, recorded as CUDA graphs on a GPU

    @classmethod
    def of(cls, config: ModelConfig, dtype: torch.dtype, device: torch.device, *, int8: bool = False) -> WeightLayout:
        """`dtype` is what the weights are wanted in; PyTorch computes in float32 where bfloat16 would be slower.
        int8: products with weights are of int8, everything else is of `dtype`. Raises ConfigError where that cannot be
        computed."""
        can_compile = device.type == "cpu" and native.supports(config)
        library = native.library(dtype, int8=int8) if can_compile else None
        if int8:
            _check_int8(library)
        return cls(config, dtype if library else fast_dtype(dtype, device), library, are_wanted(device))

    def arranged(self, state: Mapping[str, Tensor]) -> list[Arranged]:
        """A checkpoint's tensors as those of the network, which `write` can write over others."""
        if self.library:
            return list(native.arranged(self.library, self.config, state, self.dtype))
        return list(fuse(state))

    def in_memory(self, state: Mapping[str, Tensor], device: torch.device, *, shared: bool = False) -> Flat:
        """The same in one new memory, which other processes may share."""
        dtype = torch.int32 if self.library else self.dtype
        return in_memory(self.arranged(state), dtype, device, shared=shared)

    def network(self, tensors: Mapping[str, Tensor], *, num_slots: int, pad_id: int) -> Network:
        """The network that computes with weights of this layout. tensors: as it arranged them. pad_id: fills up shorter
        prompts of a batch."""
        if self.library:
            return native.NativeNetwork(self.library, self.config, tensors, self.dtype, num_slots)
        if self.graphs:
            return GraphNetwork(FusedDecoder(self.config, tensors), pad_id=pad_id)
        return TorchNetwork(FusedDecoder(self.config, tensors), num_slots=num_slots, pad_id=pad_id)


def _check_int8(library: str | None) -> None:
    if library is None:
        raise ConfigError(
            "int8 is computed by the compiled decoder, which cannot compute this model here: it needs an x86 CPU with "
            "AVX2, a C compiler, weights in float32 or bfloat16 and an architecture that it knows; leave int8 out"
        )
    if compiled.vnni() is None:
        warnings.warn(
            "this CPU has no products of int8 (VNNI): they are computed as products of 16 bits, with the same results "
            "and less of the speed (docs/engine.md)",
            stacklevel=4,
        )


class TorchNetwork:
    """Slots and prompts over the fast decoder."""

    prompts: dict[tuple[int, ...], Prompt]

    def __init__(self, decoder: FusedDecoder, *, num_slots: int, pad_id: int) -> None:
        self.decoder, self.cache, self._pad_id = decoder, Cache(decoder, num_slots), pad_id
        self.device, self.logits_dtype = decoder.device, decoder.dtype
        self.prompts = self.cache.prompts  # type: ignore[assignment]  # each of them is a CachedPrompt
        self._attention = SlotAttention(decoder, self.cache)

    def reload(self) -> None:
        self.decoder.reload()

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        for one in read(self.decoder, prompts, self._pad_id):
            self.cache.add_prompt(*one)

    def release(self, prompt: Prompt) -> None:
        assert isinstance(prompt, CachedPrompt)
        self.cache.release_prompt(prompt)

    def insert(self, prompt: Prompt) -> None:
        assert isinstance(prompt, CachedPrompt)
        self.cache.insert(prompt)

    def move(self, source: int, target: int, length: int) -> None:
        self.cache.move(source, target, length)

    def keep(self, n: int) -> None:
        self.cache.keep(n)

    def decode(self, tokens: np.ndarray, own: np.ndarray) -> tuple[Tensor, Tensor]:
        decoder, n = self.decoder, len(tokens)
        rows = max(n, decoder.min_rows)  # rows behind n are computed and thrown away
        padded, padded_own = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        padded[:n], padded_own[:n] = tokens, own
        positions = self._attention.begin(torch.from_numpy(padded_own).to(decoder.device))
        hidden = decoder.hidden(torch.from_numpy(padded).to(decoder.device), positions, self._attention)
        return hidden[:n], decoder.logits(hidden)[:n]
