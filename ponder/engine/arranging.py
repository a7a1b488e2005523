"""How a checkpoint's tensors come to lie as a network reads them: straight in its memory, without a copy between.

tensors = list(layout.arranged(model.state_dict()))             # `Arranged`: nothing is computed yet
weights = in_memory(tensors, torch.int32, device, shared=True)  # a Flat that worker processes can read
write(tensors, weights.views())                                 # again, over other weights
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from ponder.models.flat import Flat
from ponder.processes import num_cores


class Arranged(NamedTuple):
    """One tensor of a network, or a matrix in int8 and its scales."""

    shapes: dict[str, torch.Size]
    write: Callable[..., None]  # into contiguous tensors of these shapes, in their order


def in_memory(tensors: Sequence[Arranged], dtype: torch.dtype, device: torch.device, *, shared: bool = False) -> Flat:
    """All of them in one new memory, which other processes may share."""
    shapes = {name: shape for each in tensors for name, shape in each.shapes.items()}
    flat = Flat.zeros(shapes, dtype, device, shared=shared)
    write(tensors, flat.views())
    return flat


def write(tensors: Sequence[Arranged], views: Mapping[str, Tensor]) -> None:
    """Write over what lies in `views`. Raises ValueError, and writes nothing, where those are of another network."""
    shapes = {name: shape for each in tensors for name, shape in each.shapes.items()}
    if missing := [name for name in views if name not in shapes]:
        raise ValueError(f"the new weights lack {', '.join(missing[:3])}; give all of the model's")
    if others := [name for name, shape in shapes.items() if name not in views or views[name].shape != shape]:
        raise ValueError(f"the new weights are another model's: {', '.join(others[:3])} do not fit")
    todo = [(each.write, [views[name] for name in each.shapes]) for each in tensors]
    if any(view.device.type != "cpu" for view in views.values()):
        for write_one, memory in todo:
            write_one(*memory)
        return
    with ThreadPoolExecutor(num_cores()) as threads:
        for done in [threads.submit(write_one, *memory) for write_one, memory in todo]:
            done.result()
