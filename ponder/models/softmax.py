"""Softmax over rows of logits with each row's normaliser and entropy, as compiled C (`softmax.c`) on an x86 CPU, in
float32 and bfloat16: one pass over memory where PyTorch takes five.

Shapes: M rows, V vocabulary.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from ponder.models import compiled
from ponder.models.compiled import pointers, sizes

SOURCE = Path(__file__).with_name("softmax.c")
_ROWS = 128  # that PyTorch takes at a time: 25 MB of float32 for 49,152 words


def softmax_(logits_MV: Tensor, temperature: float, *, with_entropy: bool = True) -> tuple[Tensor, Tensor]:
    """Logits become their probabilities at the temperature, in place. -> the normaliser, which is the logarithm of the
    sum of exponentials, and the entropy, (M,) float32 each. Without entropy that may be zeros."""
    M, V = logits_MV.shape
    normaliser, entropy = (logits_MV.new_zeros(M, dtype=torch.float32) for _ in range(2))
    in_c = logits_MV.device.type == "cpu" and logits_MV.is_contiguous()
    library = compiled.loaded(SOURCE, logits_MV.dtype) if in_c else None
    if library is None:
        for start in range(0, M, _ROWS):
            part = slice(start, start + _ROWS)
            normaliser[part], entropy[part] = _by_torch(logits_MV[part], temperature, with_entropy)
        return normaliser, entropy
    scale = ctypes.c_float(1 / temperature)
    if library.softmax_rows(*pointers(logits_MV), *sizes(M, V), scale, *pointers(normaliser, entropy)):
        raise MemoryError("no memory for a row of logits")
    return normaliser, entropy


def _by_torch(logits: Tensor, temperature: float, with_entropy: bool) -> tuple[Tensor, Tensor]:
    scaled = logits if temperature == 1.0 else logits.float() * (1 / temperature)
    probs = scaled.softmax(-1, dtype=torch.float32)
    # the largest probability is exp(its logit - the normaliser): cheaper than a log of every one
    normaliser = scaled.amax(-1).float() - probs.amax(-1).log()
    entropy = torch.zeros_like(normaliser)
    if with_entropy:
        entropy = normaliser - torch.linalg.vecdot(probs, scaled.float().clamp(min=-1e30))  # 0 for -inf, not NaN
    logits.copy_(probs)
    return normaliser, entropy
