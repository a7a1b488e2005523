"""The KV cache: one copy of every prompt, and the own tokens of every running sequence, slot by slot.

Prompts are in buckets by padded length (half an octave apart), so that the prompts of a bucket can be one batch of
products. A slot is one running sequence; slots 0..n-1 are the occupied ones, and a slot holds the tokens that its
sequence sampled. Both are tensors a layer, contiguous as the products want them. `attention.py` reads them.

Shapes: N slots, G prompts, K key/value heads, E head width, P prompt tokens (padded), C own tokens (capacity).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ponder.engine.decoder import FusedDecoder
from ponder.engine.prompts import Prompt, release

_GRAIN = 16  # tokens by which the capacity of the slots grows
_MIN_LENGTH = 32  # tokens: a float32 product with fewer keys is summed in another order than one with more


@dataclass(eq=False, kw_only=True)
class CachedPrompt(Prompt):
    """A prompt and its place: a row of its bucket, which may change when another prompt leaves."""

    bucket: LengthBucket
    row: int


class LengthBucket:
    """Prompts of one padded length P: keys and values (G K P E) a layer, of which the first len(prompts) are in use."""

    def __init__(self, length: int, decoder: FusedDecoder) -> None:
        config = decoder.config
        shape = (0, config.num_key_value_heads, length, config.head_dim)
        self.length = length
        self.prompts: list[CachedPrompt] = []
        self.keys = [decoder.embed.new_zeros(shape) for _ in range(config.num_hidden_layers)]
        self.values = [decoder.embed.new_zeros(shape) for _ in range(config.num_hidden_layers)]

    def add(self, prompt: CachedPrompt, keys: list[Tensor], values: list[Tensor]) -> None:
        """Take a prompt's keys and values, (K T E) a layer."""
        row = prompt.row = len(self.prompts)
        self.prompts.append(prompt)
        for kept, new in ((self.keys, keys), (self.values, values)):
            for i, tensor in enumerate(new):
                if row == len(kept[i]):
                    kept[i] = _resized(kept[i], max(1, 2 * row), self.length, row)
                kept[i][row, :, : tensor.shape[1]] = tensor
                kept[i][row, :, tensor.shape[1] :] = 0

    def remove(self, prompt: CachedPrompt) -> None:
        """Take a prompt out; the last one moves into its row, so that the rows in use stay together."""
        last = self.prompts.pop()
        if last is prompt:
            return
        for kept in (*self.keys, *self.values):
            kept[prompt.row] = kept[last.row]
        self.prompts[prompt.row] = last
        last.row = prompt.row


def bucket_length(length: int) -> int:
    """Padded length of a prompt: 32, 48, 64, 96, 128, 192, ..."""
    octave = max(_MIN_LENGTH, 1 << (length - 1).bit_length())
    return octave * 3 // 4 if octave > _MIN_LENGTH and length <= octave * 3 // 4 else octave


class Cache:
    """All keys and values of one runner."""

    def __init__(self, decoder: FusedDecoder, num_slots: int) -> None:
        self._decoder, self._num_slots = decoder, num_slots
        self.prompts: dict[tuple[int, ...], CachedPrompt] = {}
        self._buckets: dict[int, LengthBucket] = {}
        self.prompt_of: list[CachedPrompt] = []  # of each slot
        self.capacity = 0  # own tokens for which a slot has room
        config = decoder.config
        shape = (0, config.num_key_value_heads, 0, config.head_dim)
        self.keys = [decoder.embed.new_zeros(shape) for _ in range(config.num_hidden_layers)]  # (N K C E)
        self.values = [decoder.embed.new_zeros(shape) for _ in range(config.num_hidden_layers)]
        self.version = 0  # changes with what is where

    def add_prompt(
        self, ids: tuple[int, ...], keys: list[Tensor], values: list[Tensor], hidden_D: Tensor, logits_V: Tensor
    ) -> CachedPrompt:
        """Keep a prompt that was read: keys and values (K T E) a layer. It replaces one of the same ids."""
        length = bucket_length(len(ids))
        bucket = self._buckets.get(length) or self._buckets.setdefault(length, LengthBucket(length, self._decoder))
        prompt = self.prompts[ids] = CachedPrompt(ids=ids, bucket=bucket, row=0, hidden_D=hidden_D, logits_V=logits_V)
        bucket.add(prompt, keys, values)
        self.version += 1
        return prompt

    def release_prompt(self, prompt: CachedPrompt) -> None:
        """One request needs it no longer; the last one takes it out."""
        if not release(prompt, self.prompts):
            return
        prompt.bucket.remove(prompt)
        if not prompt.bucket.prompts:
            del self._buckets[prompt.bucket.length]
        self.version += 1

    def insert(self, prompt: CachedPrompt) -> None:
        """The next slot is a sample of this prompt."""
        self.prompt_of.append(prompt)
        self.version += 1

    def move(self, source: int, target: int, length: int) -> None:
        """Give a slot to the last running sequence, of whose own tokens `length` are here."""
        self.prompt_of[target] = self.prompt_of[source]
        if not length:  # a sequence that has just begun may have no room yet
            return
        for kept in (*self.keys, *self.values):
            kept[target, :, :length] = kept[source, :, :length]

    def keep(self, n: int) -> None:
        """Only slots 0..n-1 run on."""
        if n < len(self.prompt_of):
            del self.prompt_of[n:]
            self.version += 1

    def make_room(self, n: int, length: int) -> None:
        """Room for n slots of `length` own tokens, exactly as long as their products need: a longer tensor would have
        to be cut, and bf16 products copy what they are handed in pieces."""
        grain = max(_GRAIN, length // 16 // _GRAIN * _GRAIN)  # copies stay a small part of the work
        wanted = max(_MIN_LENGTH, -(-length // grain) * grain)
        slots = len(self.keys[0])
        if n <= slots and wanted <= self.capacity < wanted + 4 * grain:
            return
        slots = slots if n <= slots else max(n, min(2 * slots, self._num_slots))
        for kept in (self.keys, self.values):
            for i, old in enumerate(kept):
                kept[i] = _resized(old, slots, wanted, min(n, len(old)))
        self.capacity = wanted
        self.version += 1


def _resized(old: Tensor, rows: int, length: int, used: int) -> Tensor:
    """(rows K length E), with what the first `used` rows held. Zeros elsewhere, not garbage: masked positions get
    weight 0, and 0 * nan would be nan."""
    new = old.new_zeros((rows, old.shape[1], length, old.shape[3]))
    kept = min(length, old.shape[2])
    new[:used, :, :kept] = old[:used, :, :kept]
    return new
