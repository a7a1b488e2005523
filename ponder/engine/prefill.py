"""Reading prompts with the fused decoder: those of one padded length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ponder.engine.attention import PromptAttention
from ponder.engine.decoder import FusedDecoder

PREFILL_TOKENS = 4096  # padded prompt tokens in one forward pass
PREFILL_GRAIN = 16  # prompts are padded to a multiple of this


class ReadPrompt(NamedTuple):
    """Keys and values are a layer's each, (K T E) with T the padded length."""

    ids: tuple[int, ...]
    keys: list[Tensor]
    values: list[Tensor]
    hidden_D: Tensor
    logits_V: Tensor


def read(decoder: FusedDecoder, prompts: Sequence[tuple[int, ...]], pad_id: int) -> Iterator[ReadPrompt]:
    """The prompts, computed in passes of at most PREFILL_TOKENS padded tokens, those of one padded length together."""
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for ids in prompts:
        by_length.setdefault(-(-len(ids) // PREFILL_GRAIN) * PREFILL_GRAIN, []).append(ids)
    for length, listed in by_length.items():
        size = max(1, PREFILL_TOKENS // length)
        for start in range(0, len(listed), size):
            yield from _read(decoder, length, listed[start : start + size], pad_id)


def _read(decoder: FusedDecoder, length: int, prompts: list[tuple[int, ...]], pad_id: int) -> Iterator[ReadPrompt]:
    """Prompts of one padded length through the decoder together: what a prompt is padded to, and with it the last
    bit of its sums, then depends on the prompt alone."""
    B = len(prompts)
    padded = np.full((B, length), pad_id, np.int64)
    for row, ids in enumerate(prompts):
        padded[row, : len(ids)] = ids
    attention = PromptAttention(decoder, B, length)
    positions = torch.arange(length, device=decoder.device).repeat(B)
    hidden = decoder.hidden(torch.from_numpy(padded).flatten().to(decoder.device), positions, attention)
    ends = [row * length + len(ids) - 1 for row, ids in enumerate(prompts)]
    ends += ends[:1] * (decoder.min_rows - B)
    last = hidden[torch.tensor(ends, device=decoder.device)]
    logits = decoder.logits(last)
    for row, ids in enumerate(prompts):
        keys, values = [k[row] for k in attention.keys], [v[row] for v in attention.values]
        yield ReadPrompt(ids, keys, values, last[row].clone(), logits[row].clone())
