"""The network as compiled C (`native.c`): on an x86 CPU a step of decoding without PyTorch's small operations.

    library = native.library(torch.bfloat16)     # compiles at the first call (some seconds), a file in the cache after
    tensors = list(native.arranged(library, config, state, torch.bfloat16))
    weights = in_memory(tensors, torch.int32, torch.device("cpu")).views()
    network = native.NativeNetwork(library, config, weights, torch.bfloat16, num_slots=64)

For AVX2, AVX-512 and AMX, in float32 and bfloat16. Where there is no library (`models/compiled.py` says when) the
engine computes with PyTorch (`network.py`).

Shapes: N rows, D width, K key/value heads, E head width, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ponder.engine.arranging import Arranged
from ponder.engine.decoder import parts
from ponder.engine.prompts import Prompt, release
from ponder.models import compiled
from ponder.models.transformer import ModelConfig, rope_tables

SOURCE = Path(__file__).with_name("native.c")
PREFILL_TOKENS = 4096  # prompt tokens in one call
_MIN_CAPACITY = 32  # tokens: the capacity of a new strip, doubled when it is full; a block of keys in native.c
_SLACK = 32  # numbers after a strip that are read and thrown away where a head is no whole panel
_LINE = 64  # bytes of a line of the CPU's cache
_NEVER = 1 << 40  # the window of a layer that sees everything


# ---- the library


def library(dtype: torch.dtype, *, int8: bool = False) -> str | None:
    """The compiled file for this dtype and CPU, whose products with weights are of int8 if asked for; None where
    PyTorch has to do."""
    return compiled.library(SOURCE, dtype, int8=int8)


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p), ("scales", ctypes.c_void_p), ("bias", ctypes.c_void_p),
        ("size", ctypes.c_long), ("columns", ctypes.c_long),
    ]  # fmt: skip


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("qkv", "o", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("input_norm", "post_norm", "q_norm", "k_norm")),
        ("window", ctypes.c_int64),
    ]  # fmt: skip


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_layers", "D", "inner", "H", "K", "E", "vocabulary")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("embed", "norm", "cos", "sin")),
        ("layers", ctypes.POINTER(_Layer)),
        ("head", _Matrix),
    ]


@functools.cache
def _load(path: str) -> ctypes.CDLL:
    loaded = ctypes.CDLL(path)
    loaded.forward.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    loaded.logits.argtypes = loaded.forward.argtypes
    loaded.quantise.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    assert loaded.model_size() == ctypes.sizeof(_Model), "native.c and native.py disagree"
    return loaded


# ---- weights


# the settings that the C code computes, whatever they say; any other must be as a plain model has it
_COMPUTED = {
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "tie_word_embeddings", "attention_bias", "attention_out_bias", "mlp_bias", "qk_norm", "sliding_window",
    "full_attention_layers", "extra",
}  # fmt: skip


def supports(config: ModelConfig) -> bool:
    """Whether the C code can compute this model: an architecture that it defines too, and widths in whole vectors."""
    is_known = all(f.name in _COMPUTED or getattr(config, f.name) == f.default for f in fields(config))
    fits = config.head_dim % 16 == 0 and config.hidden_size % 16 == 0 and config.intermediate_size % 2 == 0
    return is_known and fits


def arranged(path: str, config: ModelConfig, state: Mapping[str, Tensor], dtype: torch.dtype) -> Iterator[Arranged]:
    """A checkpoint's tensors as the C code reads them, all in int32. Matrices are panels (panels, lanes, 2 W), with q,
    k and v in one and gate and up side by side in every panel; vectors are float32."""
    half = _load(path).vector_lanes()
    for name, pieces in parts(state).items():
        layer, kind = name.split(".")[-2:]
        tensors = [state[piece].detach() for piece in pieces]
        if layer.endswith("norm"):
            yield _rows(name, tensors[0], torch.float32)
        elif kind == "bias":
            columns = [_padded(tensor.float(), half) for tensor in tensors]
            bias = torch.stack([c.view(-1, half) for c in columns], 1) if layer == "gate_proj" else torch.cat(tensors)
            yield _rows(name, _padded(bias.float().flatten(), 2 * half), torch.float32)
        elif layer == "embed_tokens":
            yield _rows(name, tensors[0], dtype)
            if config.tie_word_embeddings:
                yield _matrix(path, "lm_head.weight", tensors, dtype)
        else:
            yield _matrix(path, name, tensors, dtype, side_by_side=layer == "gate_proj")


def _rows(name: str, tensor: Tensor, dtype: torch.dtype) -> Arranged:
    """As it is, in this dtype."""
    shape = torch.Size((*tensor.shape[:-1], tensor.shape[-1] * dtype.itemsize // 4))
    return Arranged({name: shape}, lambda out: out.view(dtype).copy_(tensor))


def _matrix(path: str, name: str, tensors: list[Tensor], dtype: torch.dtype, *, side_by_side: bool = False) -> Arranged:
    """Weights (columns, in) of one matrix or several, as panels; of int8 with their scales."""
    library, size = _load(path), tensors[0].shape[1]
    half, block = library.vector_lanes(), library.int8_block()
    width = 2 * half
    panels = -(-len(tensors[0]) // half) if side_by_side else -(-sum(map(len, tensors)) // width)
    if block:
        blocks = -(-size // block)
        shapes = {
            name: (panels, blocks * block // 4, width),
            name.removesuffix("weight") + "scales": (panels, blocks, width),
        }

        def quantise(out: Tensor, scales: Tensor) -> None:
            _quantise(library, _joined(tensors, dtype, half, side_by_side=side_by_side), out, scales)

        return Arranged({name: torch.Size(shape) for name, shape in shapes.items()}, quantise)

    def write(out: Tensor) -> None:
        if side_by_side:
            for side, tensor in enumerate(tensors):
                _write_panels(tensor.to(dtype), out[:, :, side * half : (side + 1) * half])
        else:
            _write_panels(_joined(tensors, dtype, half), out)

    return Arranged({name: torch.Size((panels, size * dtype.itemsize // 4, width))}, write)


def _joined(tensors: list[Tensor], dtype: torch.dtype, half: int, *, side_by_side: bool = False) -> Tensor:
    """(columns, in): one under the other, or `half` columns of each in turn; a single one is not copied."""
    tensors = [tensor.to(dtype) for tensor in tensors]
    if side_by_side:
        return torch.stack([_padded(tensor, half).view(-1, half, tensor.shape[1]) for tensor in tensors], 1).flatten(
            0, 2
        )
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0].contiguous()


def _write_panels(weight: Tensor, out: Tensor) -> None:
    """(columns, in) -> (panels, lanes, columns of a panel); columns that are missing in the last panel are zeros."""
    lanes, width = weight.contiguous().view(torch.int32), out.shape[2]
    whole = len(lanes) // width
    out[:whole].copy_(lanes[: whole * width].view(whole, width, lanes.shape[1]).transpose(1, 2))
    if rest := len(lanes) - whole * width:
        out[whole, :, :rest].copy_(lanes[whole * width :].T)
        out[whole, :, rest:].zero_()


def _quantise(library: ctypes.CDLL, weight: Tensor, panels: Tensor, scales: Tensor) -> None:
    """(columns, in) -> panels (panels, lanes of four, 2 half) and their scales (panels, blocks, 2 half)."""
    library.quantise(weight.data_ptr(), *weight.shape, panels.data_ptr(), scales.data_ptr())


def _padded(tensor: Tensor, grain: int) -> Tensor:
    """More rows, of zeros, up to a multiple of `grain`; contiguous."""
    missing = -len(tensor) % grain
    return torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:]))) if missing else tensor.contiguous()


# ---- the network


@dataclass
class _Strip:
    """Keys and values of one prompt or sequence, with room for `capacity` tokens: (layers * K * 2, capacity * E)."""

    memory: np.ndarray
    capacity: int


@dataclass(eq=False, kw_only=True)
class _Prompt(Prompt):
    strip: _Strip


class NativeNetwork:
    """What `network.Network` asks for, with a strip of keys and values a prompt and a slot."""

    def __init__(
        self, path: str, config: ModelConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype, num_slots: int
    ) -> None:
        self.device, self.logits_dtype = torch.device("cpu"), torch.float32
        self.prompts: dict[tuple[int, ...], Prompt] = {}
        self._config, self._library = config, _load(path)
        self._number = np.float32 if dtype == torch.float32 else np.uint16
        self._strips: list[_Strip] = []
        self._rows = np.zeros((num_slots, 8), np.int64)  # `Row` of native.c
        # kept: glibc gives that of a large table back to the system, and mapping it again takes a tenth of its product
        self._last = torch.empty(num_slots, config.vocab_size)
        cos, sin = (table.to(dtype).float().contiguous() for table in rope_tables(config))
        self._alive = [cos, sin, tensors]  # what the C code holds pointers to
        self._model = self._describe(tensors, cos, sin)

    def _describe(self, tensors: Mapping[str, Tensor], cos: Tensor, sin: Tensor) -> _Model:
        config = self._config
        D, inner, E = config.hidden_size, config.intermediate_size, config.head_dim
        H, K = config.num_attention_heads, config.num_key_value_heads

        def at(layer: str, kind: str = "weight") -> int | None:
            name = f"{layer}.{kind}"
            return tensors[name].data_ptr() if name in tensors else None

        def matrix(layer: str, size: int, columns: int) -> _Matrix:
            return _Matrix(at(layer), at(layer, "scales"), at(layer, "bias"), size, columns)

        layers = (_Layer * config.num_hidden_layers)()
        for i in range(config.num_hidden_layers):
            block = f"model.layers.{i}"
            heads, mlp = f"{block}.self_attn", f"{block}.mlp"
            layers[i] = _Layer(
                matrix(f"{heads}.q_proj", D, (H + 2 * K) * E), matrix(f"{heads}.o_proj", H * E, D),
                matrix(f"{mlp}.gate_proj", D, inner), matrix(f"{mlp}.down_proj", inner, D),
                at(f"{block}.input_layernorm"), at(f"{block}.post_attention_layernorm"),
                at(f"{heads}.q_norm"), at(f"{heads}.k_norm"), config.window(i) or _NEVER,
            )  # fmt: skip
        return _Model(
            len(layers), D, inner, H, K, E, config.vocab_size, config.rms_norm_eps,
            at("model.embed_tokens"), at("model.norm"), cos.data_ptr(), sin.data_ptr(), layers,
            matrix("lm_head", D, config.vocab_size),
        )  # fmt: skip

    def reload(self) -> None:
        """New weights were written where the old ones lay: nothing to do."""

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        first = 0
        while first < len(prompts):
            last, size = first + 1, len(prompts[first])
            while last < len(prompts) and size + len(prompts[last]) <= PREFILL_TOKENS:
                size += len(prompts[last])
                last += 1
            self._prefill(prompts[first:last])
            first = last

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        strips = [self._strip(-(-len(ids) // _MIN_CAPACITY) * _MIN_CAPACITY) for ids in prompts]
        rows = np.zeros((sum(map(len, prompts)), 8), np.int64)
        ends, at = [], 0
        for ids, strip in zip(prompts, strips, strict=True):
            mine = rows[at : at + len(ids)]
            mine[:, 0], mine[:, 1], mine[:, 4] = ids, range(len(ids)), range(len(ids))
            mine[:, 2], mine[:, 3] = strip.memory.ctypes.data, strip.capacity
            at += len(ids)
            ends.append(at - 1)
        last = self._forward(rows)[ends]
        for ids, strip, hidden, logits in zip(prompts, strips, last, self._logits(last), strict=True):
            self.prompts[ids] = _Prompt(ids=ids, hidden_D=hidden.clone(), logits_V=logits.clone(), strip=strip)

    def release(self, prompt: Prompt) -> None:
        release(prompt, self.prompts)

    def insert(self, prompt: Prompt) -> None:
        assert isinstance(prompt, _Prompt)
        row, strip = self._rows[len(self._strips)], self._strip(_MIN_CAPACITY)
        self._strips.append(strip)
        row[2], row[3] = strip.memory.ctypes.data, strip.capacity
        row[5], row[6], row[7] = prompt.strip.memory.ctypes.data, prompt.strip.capacity, len(prompt.ids)

    def move(self, source: int, target: int, length: int) -> None:
        self._strips[target] = self._strips[source]
        self._rows[target] = self._rows[source]

    def keep(self, n: int) -> None:
        del self._strips[n:]

    def decode(self, tokens: np.ndarray, own: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = self._rows[: len(tokens)]
        for slot in np.flatnonzero(own >= rows[:, 3]).tolist():
            self._grow(slot)
        rows[:, 0], rows[:, 1], rows[:, 4] = tokens, rows[:, 7] + own, own
        hidden = self._forward(rows)
        return hidden, self._logits(hidden, self._last[: len(tokens)])

    def _strip(self, capacity: int) -> _Strip:
        config = self._config
        shape = (config.num_hidden_layers * config.num_key_value_heads * 2, capacity * config.head_dim)
        size, number = shape[0] * shape[1], self._number().itemsize
        memory = np.zeros(size + _SLACK + _LINE // number, self._number)
        first = -memory.ctypes.data % _LINE // number
        return _Strip(memory[first : first + size].reshape(shape), capacity)

    def _grow(self, slot: int) -> None:
        old, new = self._strips[slot], self._strip(2 * self._strips[slot].capacity)
        new.memory[:, : old.memory.shape[1]] = old.memory  # tokens lie block behind block: the old are a beginning
        self._strips[slot] = new
        self._rows[slot, 2], self._rows[slot, 3] = new.memory.ctypes.data, new.capacity

    def _forward(self, rows: np.ndarray) -> Tensor:
        hidden = torch.empty(len(rows), self._config.hidden_size)
        _check(self._library.forward(ctypes.byref(self._model), rows.ctypes.data, len(rows), hidden.data_ptr()))
        return hidden

    def _logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        logits = torch.empty(len(hidden), self._config.vocab_size) if out is None else out
        _check(self._library.logits(ctypes.byref(self._model), hidden.data_ptr(), len(hidden), logits.data_ptr()))
        return logits


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for one pass of the decoder; try fewer slots or shorter prompts")
