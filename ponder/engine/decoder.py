"""The fast decoder: the same network as `models/transformer.py`, arranged for sampling.

What differs from the readable one, which stays as its oracle (tests: fast equals slow):
  * q, k, v are one product, gate and up are one; their weights lie in one tensor each (`fuse`);
  * on a CPU that multiplies bf16, weights are laid out once the way its kernels read them (`_Product`);
  * rows are flat (N D): a row is one token, of a prompt or of a running sequence; attention is handed in;
  * a row gives the same bits whatever other rows are there (`min_rows`).

Shapes: N rows, D width, H query heads, K key/value heads, E head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models.cpu import multiplies_bfloat16
from ponder.models.transformer import ModelConfig, rope_tables

# (layer, q (N H E), k (N K E), v (N K E)) -> what the heads read (N H E)
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def min_rows(device: torch.device) -> int:
    """Rows that a product must have at least. On a CPU, products of fewer rows are summed in another order (float32:
    below 16 on Intel's processors, below four on AMD's; bf16: one row and a sum of more than 1024), so a row among few
    would get other bits than among many."""
    return 16 if device.type == "cpu" else 1


def parts(config: ModelConfig) -> Iterator[tuple[str, list[str]]]:
    """Fused name, and the checkpoint's names that lie in it one under the other."""
    yield "embed", ["model.embed_tokens.weight"]
    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}."
        at, mlp = f"{layer}self_attn.", f"{layer}mlp."
        qkv, gate_up = [f"{at}{name}_proj" for name in "qkv"], [f"{mlp}{name}_proj" for name in ("gate", "up")]
        yield f"{i}.input_norm", [f"{layer}input_layernorm.weight"]
        yield f"{i}.post_norm", [f"{layer}post_attention_layernorm.weight"]
        yield f"{i}.qkv", [f"{name}.weight" for name in qkv]
        yield f"{i}.o", [f"{at}o_proj.weight"]
        yield f"{i}.gate_up", [f"{name}.weight" for name in gate_up]
        yield f"{i}.down", [f"{mlp}down_proj.weight"]
        if config.attention_bias:
            yield f"{i}.qkv_bias", [f"{name}.bias" for name in qkv]
        if config.attention_out_bias:
            yield f"{i}.o_bias", [f"{at}o_proj.bias"]
        if config.mlp_bias:
            yield f"{i}.gate_up_bias", [f"{name}.bias" for name in gate_up]
            yield f"{i}.down_bias", [f"{mlp}down_proj.bias"]
        if config.qk_norm:
            yield f"{i}.q_norm", [f"{at}q_norm.weight"]
            yield f"{i}.k_norm", [f"{at}k_norm.weight"]
    yield "norm", ["model.norm.weight"]
    if not config.tie_word_embeddings:
        yield "head", ["lm_head.weight"]


def fuse(config: ModelConfig, state: Mapping[str, Tensor], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """A checkpoint's tensors -> the fused ones, copied and converted, one after the other."""
    for name, pieces in parts(config):
        yield name, torch.cat([state[piece].detach().to(dtype) for piece in pieces])


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

    def __init__(self, weight: Tensor, bias: Tensor | None, *, packed: bool) -> None:
        self._weight, self._bias = weight, bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, 64) if packed else None  # 64: rows to expect

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return F.linear(x, self._weight, self._bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return product


class _Layer:
    """The weights of one layer, read from the fused tensors."""

    def __init__(self, fused: Mapping[str, Tensor], layer: int, *, packed: bool) -> None:
        own = {name.partition(".")[2]: tensor for name, tensor in fused.items() if name.startswith(f"{layer}.")}
        self.input_norm, self.post_norm = own["input_norm"], own["post_norm"]
        self.q_norm, self.k_norm = own.get("q_norm"), own.get("k_norm")
        self.qkv, self.o, self.gate_up, self.down = (
            _Product(own[name], own.get(f"{name}_bias"), packed=packed) for name in ("qkv", "o", "gate_up", "down")
        )


class Decoder:
    """tokens (N,) at positions (N,) -> final hidden states (N D), then logits of those rows that need them."""

    def __init__(self, config: ModelConfig, fused: Mapping[str, Tensor]) -> None:
        self.config, self.embed, self.norm = config, fused["embed"], fused["norm"]
        self.dtype, self.device = self.embed.dtype, self.embed.device
        self.min_rows = min_rows(self.device)
        self._fused = fused
        size = sum(tensor.nbytes for tensor in fused.values())
        self._packed = can_pack(self.embed) and size <= PACKED_BYTES
        self.reload()
        cos, sin = (table.to(self.device, self.dtype) for table in rope_tables(config))
        half = config.head_dim // 2
        # rotate(x) = x * cos + (x with its halves swapped) * signed sin
        self._cos, self._sin = cos, torch.cat((-sin[:, :half], sin[:, half:]), dim=-1)

    @torch.inference_mode()
    def reload(self) -> None:
        """Take up weights that were copied into the fused tensors."""
        fused, packed = self._fused, self._packed
        self._layers = [_Layer(fused, i, packed=packed) for i in range(self.config.num_hidden_layers)]
        self._head = _Product(fused.get("head", self.embed), None, packed=packed)

    def hidden(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        inner = self.config.intermediate_size
        cos, sin = self._cos[positions_N][:, None], self._sin[positions_N][:, None]
        x = F.embedding(tokens_N, self.embed)
        for i, layer in enumerate(self._layers):
            q, k, v = self._heads(layer, self._normed(x, layer.input_norm), cos, sin)
            x += layer.o(attend(i, q, k, v).flatten(1))
            gate_up = layer.gate_up(self._normed(x, layer.post_norm))
            x += layer.down(F.silu(gate_up[:, :inner]).mul_(gate_up[:, inner:]))
        return self._normed(x, self.norm)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)

    def _heads(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (N H E) and k (N K E), turned to their positions, and v (N K E)."""
        H, K, E = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        heads = layer.qkv(x).view(len(x), H + 2 * K, E)
        turned, v = heads[:, : H + K], heads[:, H + K :]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._normed(turned[:, :H], layer.q_norm), self._normed(turned[:, H:], layer.k_norm)
            turned = torch.cat((q, k), dim=1)
        turned = torch.addcmul(turned * cos, turned.roll(E // 2, -1), sin)
        return turned[:, :H], turned[:, H:], v

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N V), in the weights' dtype."""
        return self._head(hidden_ND)
