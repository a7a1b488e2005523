"""Many named tensors in one piece of memory, so that it can be shared with other processes as one.

    flat = Flat.of(dict(model.named_parameters()), shared=True)
    flat.views()["model.norm.weight"]          # a view: writing it writes the memory that every process sees

A tensor of its own costs two file descriptors each time it travels; a model has hundreds, and 1,024 is a common limit.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGN = 64  # numbers: every tensor starts at a cache line
_POPULATE_WRITE = 23  # of Linux, since 5.14
_advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Flat:
    """One memory of `_room(shape)` numbers a tensor, and where each lies in it."""

    memory: Tensor  # one dimension
    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None, shared: bool = False) -> Flat:
        """A copy of the tensors, all in one dtype (default: that of the first)."""
        first = next(iter(tensors.values()))
        flat = cls.zeros({n: t.shape for n, t in tensors.items()}, dtype or first.dtype, first.device, shared=shared)
        for name, view in flat.views().items():
            view.copy_(tensors[name].detach())
        return flat

    @classmethod
    def zeros(
        cls, shapes: Mapping[str, torch.Size], dtype: torch.dtype, device: torch.device, *, shared: bool = False
    ) -> Flat:
        """shared: in memory that child processes see; of use on a CPU only."""
        size = sum(_room(shape) for shape in shapes.values())
        if not shared or device.type != "cpu":
            return cls(torch.zeros(size, dtype=dtype, device=device), dict(shapes))
        pages = torch.UntypedStorage._new_shared(size * dtype.itemsize)  # zeros, as the system hands them out
        _populate(pages)
        return cls(torch.empty(0, dtype=dtype).set_(pages), dict(shapes))

    def views(self) -> dict[str, Tensor]:
        """Every tensor by name, in its shape, over the memory: nothing is copied."""
        views, offset = {}, 0
        for name, shape in self.shapes.items():
            views[name] = self.memory[offset : offset + shape.numel()].view(shape)
            offset += _room(shape)
        return views


def _populate(pages: torch.UntypedStorage) -> None:
    """Have the system hand out all pages now, in one call: by an interrupt a page, which is what the first writing
    would cause, 2.5 GB take half a second longer. Where a system does not know the call, they come by interrupts."""
    if _advise is not None:
        _advise(ctypes.c_void_p(pages.data_ptr()), ctypes.c_size_t(pages.nbytes()), _POPULATE_WRITE)


def _room(shape: torch.Size) -> int:
    return -(-shape.numel() // _ALIGN) * _ALIGN
