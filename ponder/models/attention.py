"""Attention over a pack of sequences as compiled C (`attention.c`): float32 and bfloat16, one thread of an x86 CPU.

PyTorch's small products, padded to blocks of segments, reach a fifth of what a CPU can; this pads a segment to 32
tokens at most, and does not keep the weights for backward.
`segments.attend` takes it where it can and plain products of PyTorch elsewhere.

Shapes: N tokens of the pack, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from ponder.models import compiled
from ponder.models.compiled import pointers, sizes

SOURCE = Path(__file__).with_name("attention.c")
_NEVER = 1 << 40  # a window that hides nothing


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("H", "K", "E", "window")]


def can_attend(q: Tensor) -> bool:
    """Whether heads like these (N H E) are C's."""
    return q.device.type == "cpu" and q.shape[-1] % 16 == 0 and compiled.loaded(SOURCE, q.dtype) is not None


def forward(q: Tensor, k: Tensor, v: Tensor, spans: Tensor, window: int | None) -> tuple[Tensor, Tensor]:
    """What q (N H E), turned and scaled, read from k, turned, and v (N K E), and the logarithm of each row's sum (N H),
    float32. spans: (segments, 4) int64, start, own tokens, start of the prefix, its tokens."""
    out, normaliser = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
    _call("attention_forward", q, k, spans, window, q, k, v, out, normaliser)
    return out, normaliser


def backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, normaliser: Tensor, dout: Tensor, spans: Tensor, window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v as `forward` took them. Those of keys and values are summed in float32: a shared prompt
    collects them from every completion."""
    dq, dk, dv = torch.empty_like(q), *(x.new_zeros(x.shape, dtype=torch.float32) for x in (k, v))
    _call("attention_backward", q, k, spans, window, q, k, v, out, normaliser, dout, dq, dk, dv)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _call(name: str, q: Tensor, k: Tensor, spans: Tensor, window: int | None, *tensors: Tensor) -> None:
    assert all(tensor.is_contiguous() for tensor in tensors)
    shape = _Shape(q.shape[1], k.shape[1], q.shape[2], window or _NEVER)
    function = getattr(compiled.loaded(SOURCE, q.dtype), name)
    if function(ctypes.byref(shape), *pointers(spans), *sizes(len(spans)), *pointers(*tensors)):
        raise MemoryError("no memory for attention; lower max_tokens_per_batch")
