"""What a training pass does between its products, forward and backward: norm, gate, rotary embedding. As compiled C
(`rowwise.c`) on an x86 CPU, which reads everything once; by PyTorch elsewhere, a pass over memory for every operation.

Shapes: N rows, D width, H heads, E head width.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models import compiled
from ponder.models.compiled import pointers, sizes

SOURCE = Path(__file__).with_name("rowwise.c")
_GRAIN = 16  # rows of whole vectors only


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, its mean square in float32, as `transformer.RMSNorm`."""
    return _Norm.apply(x, weight, eps)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv:2002.05202)."""
    if _library(gate, up) is None:
        return F.silu(gate) * up
    return _Gate.apply(gate, up)


def turned(x: Tensor, cos: Tensor, sin: Tensor, *, scale: float = 1.0, back: bool = False) -> Tensor:
    """Rotary embedding as `transformer.rotate`, times a number, or undone; no gradient. x (N H E), cos, sin (N 1 E)."""
    x = x.contiguous()
    out, library = torch.empty_like(x), _library(x, cos, sin)
    if library is not None:
        N, H, E = x.shape
        sign = ctypes.c_float(-1 if back else 1)
        library.turn(*pointers(x, cos, sin), *sizes(N, H, E), sign, ctypes.c_float(scale), *pointers(out))
        return out
    half = x.shape[-1] // 2
    sin = -sin if back else sin
    torch.mul(x[..., half:], sin[..., :half], out=out[..., :half]).neg_()
    torch.mul(x[..., :half], sin[..., half:], out=out[..., half:])
    return out.addcmul_(x, cos).mul_(scale)


def add_to(total: Tensor, x: Tensor) -> None:
    """total += x, where total is float32 and x may be something narrower."""
    in_c = x.device.type == "cpu" and x.is_contiguous() and total.is_contiguous() and total.dtype == torch.float32
    library = compiled.loaded(SOURCE, x.dtype) if in_c else None
    if library is None:
        total += x
    else:
        library.add_to(*pointers(x), *sizes(x.numel()), *pointers(total))


class _Norm(torch.autograd.Function):
    """Keeps its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        library = _library(x, weight)
        if library is not None:
            out, scale = torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
            shape = sizes(scale.numel(), len(weight))
            library.norm_forward(*pointers(x, weight), *shape, ctypes.c_float(eps), *pointers(out, scale))
        else:
            x32 = x.float()
            scale = torch.linalg.vecdot(x32, x32)[..., None].div_(x.shape[-1]).add_(eps).rsqrt_()
            out = (x32 * scale).to(x.dtype) * weight
        ctx.save_for_backward(x, weight, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, scale = ctx.saved_tensors
        grad = grads[0].contiguous()
        library = _library(x, weight, grad)
        if library is not None:
            dx = torch.empty_like(x)
            dweight = weight.new_zeros(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
            shape = sizes(scale.numel(), len(weight))
            library.norm_backward(*pointers(x, weight, scale, grad), *shape, *pointers(dx, dweight))
            return dx, None if dweight is None else dweight.to(weight.dtype), None
        normed, inner = (x.float() * scale), (grad * weight).float()
        shared = torch.linalg.vecdot(inner, normed)[..., None].div_(x.shape[-1])
        dx = inner.addcmul_(normed, shared, value=-1).mul_(scale).to(grad.dtype)
        if not ctx.needs_input_grad[1]:
            return dx, None, None
        return dx, (grad * normed.to(grad.dtype)).flatten(0, -2).sum(0), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        out = torch.empty_like(gate)
        _library(gate, up).gate_forward(*pointers(gate, up), *sizes(gate.numel()), *pointers(out))
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gate, up = ctx.saved_tensors
        grad, dgate, dup = grads[0].contiguous(), torch.empty_like(gate), torch.empty_like(up)
        given = pointers(gate, up, grad)
        _library(gate, up).gate_backward(*given, *sizes(gate.numel()), *pointers(dgate, dup))
        return dgate, dup


def _library(*tensors: Tensor) -> Any:
    """The compiled file for tensors of one dtype that lie in one piece, in rows of whole vectors; None: PyTorch."""
    first = tensors[0]
    for x in tensors:
        if x.device.type != "cpu" or x.dtype != first.dtype or x.shape[-1] % _GRAIN or not x.is_contiguous():
            return None
    return compiled.loaded(SOURCE, first.dtype)
