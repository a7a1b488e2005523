"""The network of `models/transformer.py`, arranged for sampling: its own forward functions over other weights and
operations, so that whatever the definition says can be sampled.

  * linear layers with one input (q, k, v; gate, up) are one product; their weights lie in one tensor (`fuse`);
  * on a CPU that multiplies bf16, weights are laid out once the way its kernels read them (`_Product`);
  * rows are flat (N D): a row is one token, of a prompt or of a running sequence; attention is handed in;
  * a row gives the same bits whatever other rows are there (`min_rows`).

The dense pass stays as the oracle (tests: fast equals slow).

Shapes: N rows, D width, H query heads, K key/value heads, E head width, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ponder.engine.arranging import Arranged
from ponder.models.cpu import multiplies_bfloat16
from ponder.models.transformer import ModelConfig, Ops, blank, rope_tables

# (layer, q (N H E), k (N K E), v (N K E)) -> what the heads read (N H E)
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

_MACHINERY = set(vars(nn.Module()))
# a linear layer, and the one in whose tensor its weights lie
_LIES_IN = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}


def min_rows(device: torch.device) -> int:
    """Rows that a product must have at least. On a CPU, products of fewer rows are summed in another order (float32:
    below 16 on Intel's processors, below four on AMD's; bf16: one row and a sum of more than 1024), so a row among few
    would get other bits than among many."""
    return 16 if device.type == "cpu" else 1


def parts(checkpoint: Iterable[str]) -> dict[str, list[str]]:
    """Name of a fused tensor, and the checkpoint's names that lie in it one under the other; it has the first's."""
    names: dict[str, list[str]] = {}
    for name in checkpoint:
        *path, layer, kind = name.split(".")
        names.setdefault(".".join([*path, _LIES_IN.get(layer, layer), kind]), []).append(name)
    return names


def fuse(state: Mapping[str, Tensor]) -> Iterator[Arranged]:
    """A checkpoint's tensors -> the fused ones."""
    for name, pieces in parts(state).items():
        tensors = [state[piece].detach() for piece in pieces]
        shape = torch.Size((sum(map(len, tensors)), *tensors[0].shape[1:]))
        yield Arranged({name: shape}, functools.partial(_write_under, tensors))


def _write_under(tensors: list[Tensor], out: Tensor) -> None:
    for tensor, part in zip(tensors, out.split([len(tensor) for tensor in tensors]), strict=True):
        part.copy_(tensor)


PACKED_BYTES = 1 << 30  # weights of a larger model are not laid out anew: every worker would hold them once more


def can_pack(weights: Tensor) -> bool:
    """Whether products with these weights gain from oneDNN's own layout, and this build of torch offers it."""
    return (
        weights.dtype == torch.bfloat16
        and weights.device.type == "cpu"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and multiplies_bfloat16()
    )


class _Product:
    """x (N in) -> (N out). A plain bf16 product on a CPU reorders its weights on every call, which for 32 rows takes a
    quarter of its time; packed weights were reordered before. Both give the same bits."""

    def __init__(self, weight: Tensor, bias: Tensor | None, sizes: list[int], *, packed: bool) -> None:
        """sizes: of the layers whose weights lie in this tensor, one under the other."""
        self.sizes = sizes
        self._weight, self._bias, self._is_packed = weight, bias, packed
        self.reload()

    def reload(self) -> None:
        """Take up weights that were written over the old ones."""
        # 64: rows to expect
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, 64) if self._is_packed else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return F.linear(x, self._weight, self._bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return product


class _FusedOps(Ops):
    """Of one pass over rows at their positions, with the attention that is handed in."""

    def __init__(self, cos: Tensor, sin: Tensor, attend: Attend) -> None:
        self._cos, self._sin, self._attend = cos, sin, attend

    def project(self, x: Tensor, *layers: Any) -> Sequence[Tensor]:
        first: _Product = layers[0]
        if len(first.sizes) < len(layers):  # they lie apart
            return super().project(x, *layers)
        return first(x).split_with_sizes(first.sizes, -1)

    def heads(self, x: Tensor, width: int, *layers: Any) -> Sequence[Tensor]:
        first: _Product = layers[0]
        if len(first.sizes) < len(layers):
            return super().heads(x, width, *layers)
        return first(x).view(len(x), -1, width).split_with_sizes([size // width for size in first.sizes], 1)

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate).mul_(up)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, window: int | None) -> Tensor:
        turned = torch.cat((q, k), dim=1)
        turned = torch.addcmul(turned * self._cos, turned.roll(turned.shape[-1] // 2, -1), self._sin)
        return self._attend(layer, turned[:, : q.shape[1]], turned[:, q.shape[1] :], v)


class FusedDecoder:
    """tokens (N,) at positions (N,) -> final hidden states (N D), then logits of those rows that need them."""

    def __init__(self, config: ModelConfig, fused: Mapping[str, Tensor]) -> None:
        self.config, self.embed = config, fused["model.embed_tokens.weight"]
        self.dtype, self.device = self.embed.dtype, self.embed.device
        self.min_rows = min_rows(self.device)
        size = sum(tensor.nbytes for tensor in fused.values())
        self._packed = can_pack(self.embed) and size <= PACKED_BYTES
        model = blank(config)
        rows = {name: len(tensor) for name, tensor in model.state_dict().items()}
        self._sizes = {name: [rows[piece] for piece in pieces] for name, pieces in parts(rows).items()}
        self._fused, self._products = fused, list[_Product]()
        self._model = self._bare(model.model, "model")
        self._head: Any = self._product("model.embed_tokens" if config.tie_word_embeddings else "lm_head")
        cos, sin = (table.to(self.device, self.dtype) for table in rope_tables(config))
        half = config.head_dim // 2
        # rotate(x) = x * cos + (x with its halves swapped) * signed sin
        self._cos, self._sin = cos, torch.cat((-sin[:, :half], sin[:, half:]), dim=-1)

    def _bare(self, module: nn.Module, name: str) -> Any:
        """What computes as a module does, over the fused tensors: it calls the same `forward`, but its attributes and
        calls are plain. Those of nn.Module take 50 us a layer, a third of the time of a small one."""
        if isinstance(module, nn.Linear):
            return self._product(name)
        if isinstance(module, nn.ModuleList):
            return [self._bare(child, f"{name}.{index}") for index, child in module.named_children()]
        bare = type(f"Bare{type(module).__name__}", (), {"__call__": type(module).forward})()
        vars(bare).update({key: value for key, value in vars(module).items() if key not in _MACHINERY})
        vars(bare).update({key: self._fused[f"{name}.{key}"] for key, _ in module.named_parameters(recurse=False)})
        vars(bare).update({key: self._bare(child, f"{name}.{key}") for key, child in module.named_children()})
        return bare

    @torch.inference_mode()
    def _product(self, name: str) -> _Product | None:
        """Of a linear layer, or of the head that is the embeddings; None: it is a part of another's."""
        weight, bias = self._fused.get(f"{name}.weight"), self._fused.get(f"{name}.bias")
        if weight is None:
            return None
        self._products.append(_Product(weight, bias, self._sizes[f"{name}.weight"], packed=self._packed))
        return self._products[-1]

    @torch.inference_mode()
    def reload(self) -> None:
        """Take up weights that were copied into the fused tensors."""
        for product in self._products:
            product.reload()

    def hidden(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Hidden states (N D) after the final norm. attend: called by every layer for what its heads read."""
        cos, sin = self._cos[positions_N][:, None], self._sin[positions_N][:, None]
        hidden: Tensor = self._model(tokens_N, _FusedOps(cos, sin, attend))
        return hidden

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N V), in the weights' dtype."""
        logits: Tensor = self._head(hidden_ND)
        return logits
