"""GGUF, the file format of llama.cpp, into a model folder: config.json, model.safetensors, tokenizer files.

    convert("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2")     # then: ponder ask --model ./smollm2 "..."

A GGUF holds everything in one file: a table of settings, a table of tensors, their (often quantised) data. The tables
are read here, with every length checked against the file, so that a damaged file is an error and not a hang; blocks of
quantised weights are unpacked by the `gguf` package (`pip install "ponder[gguf]"`). Names, shapes, architecture,
quantisation and tokenizer are all checked before the first tensor is unpacked, and tensors pass one at a time.

What llama.cpp changed on the way is undone: rows of q and k are reordered for Llama (its rotary embedding pairs
neighbours, ours halves), and Llama 3's rotary scaling is stored as a tensor of factors. An output head that is the
embedding, quantised a second time, is tied to it again; both are then the more precise of the two. Weights become
bfloat16, or stay what they are in a file of F32 or F16. Source: github.com/ggml-org/ggml/blob/master/docs/gguf.md

Left out: big-endian files, files in parts, mixture of experts, the IQ, TQ and MX quantisations.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.files import write_atomic
from ponder.models.gguf_tokenizer import write_tokenizer
from ponder.models.transformer import ModelConfig, blank, rope_frequencies
from ponder.models.weights import CONFIG, WEIGHTS, config_json, parse_config, write_stream

# code in the file -> name, weights a block, bytes a block
QUANTISATIONS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
}  # fmt: skip
_OTHERS = {10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
           21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}  # fmt: skip
FAMILIES = {"llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3"}
NAMES_OF_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
NAMES_OF_PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class PackedTensor:
    """Where the data of a tensor lies in the file, and how it is quantised."""

    shape: tuple[int, ...]  # rows first, as in torch
    quantisation: str
    start: int  # bytes from the start of the file
    end: int


@dataclass(frozen=True)
class GGUF:
    """The header of a GGUF file: its settings, and where its tensors lie. Tensors are read when asked for."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, PackedTensor] = field(default_factory=dict)

    def unpack(self, name: str, *, num_rows: int | None = None) -> Tensor:
        """One tensor as float32, or its first rows."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
        from numpy import frombuffer, uint8

        packed = self.tensors[name]
        shape, size = packed.shape, packed.end - packed.start
        if num_rows is not None and num_rows < shape[0]:
            shape, size = (num_rows, *shape[1:]), size // shape[0] * num_rows
        with open(self.path, "rb") as file:
            file.seek(packed.start)
            data = bytearray(file.read(size))
        rows = frombuffer(data, dtype=uint8).reshape(*shape[:-1], -1)
        values = dequantize(rows, GGMLQuantizationType[packed.quantisation])
        return torch.from_numpy(values.copy()).view(shape)


def convert(path: str | Path, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """A model folder made from a GGUF file; it appears under its name when it is complete."""
    path, folder = Path(path), Path(folder)
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ConfigError('reading GGUF needs the gguf package: pip install "ponder[gguf]"') from None
    file = _tied_again(read_gguf(path))
    config = read_settings(file)
    names = _names(file, config)
    dtype = dtype or _kept_dtype(file)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        write_tokenizer(file.settings, part, where=str(path))  # first: what may be wrong with it costs no time
        shapes = {ours: file.tensors[theirs].shape for ours, theirs in names.items()}
        write_stream(shapes, lambda name: _tensor(file, config, name, names[name]), part / WEIGHTS, dtype)
        write_atomic(part / CONFIG, json.dumps(config_json(config, dtype), indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


# -------------------------------------------------------------------------------------------------------- the tables


def read_gguf(path: str | Path) -> GGUF:
    """The settings and the table of tensors of a GGUF file."""
    path = Path(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_tables(_ByteReader(data), path)
    except (struct.error, ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigError(f"{path} is damaged or cut off, or no GGUF ({error}); fetch it again") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from None


class _ByteReader:
    """Values one after another; reading past the end is an error."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def bytes(self, count: int) -> bytes:
        if count > self.size - self.at:
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.number("I"), self.number("Q")
            if item in _SCALARS:
                code = f"<{count}{_SCALARS[item]}"
                return list(struct.unpack(code, self.bytes(struct.calcsize(code))))
            if count > self.size - self.at:  # an item takes a byte at least
                raise ValueError("it ends too early")
            if item == _ARRAY:
                raise ValueError("arrays in arrays")
            return [self.value(item) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"a value of kind {kind}")
        return self.number(_SCALARS[kind])


def _read_tables(reader: _ByteReader, path: Path) -> GGUF:
    if reader.bytes(4) != b"GGUF":
        raise ValueError("its first four letters are not GGUF")
    version = reader.number("I")
    if version not in (2, 3):
        kind = "is big-endian" if version & 0xFFFF == 0 else f"has GGUF version {version}"
        raise ConfigError(f"{path} {kind}; known: little-endian version 2 and 3, so convert it again with llama.cpp")
    num_tensors, num_settings = reader.number("Q"), reader.number("Q")
    settings: dict[str, Any] = {}
    for _ in range(num_settings):
        key = reader.text()
        settings[key] = reader.value(reader.number("I"))
    if settings.get("split.count", 1) not in (0, 1):
        raise ConfigError(f"{path} is one of {settings['split.count']} parts; join them with llama.cpp's gguf-split")
    entries: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(num_tensors):
        name, dims = reader.text(), reader.number("I")
        if dims > 4 or name in entries:
            raise ValueError(f"tensor {name[:60]!r} is there twice or has {dims} dimensions")
        shape = tuple(reversed([reader.number("Q") for _ in range(dims)]))
        entries[name] = (shape, reader.number("I"), reader.number("Q"))
    align = settings.get("general.alignment", 32)
    if type(align) is not int or align < 1:
        raise ValueError(f"alignment {align!r}")
    begin = -(-reader.at // align) * align
    tensors = {name: _packed(name, *entry, begin=begin, size=reader.size, path=path) for name, entry in entries.items()}
    return GGUF(path, settings, tensors)


def _packed(
    name: str, shape: tuple[int, ...], code: int, offset: int, *, begin: int, size: int, path: Path
) -> PackedTensor:
    if code not in QUANTISATIONS:
        known = ", ".join(quantisation for quantisation, _, _ in QUANTISATIONS.values())
        raise ConfigError(
            f"{path}: {name} is quantised as {_OTHERS.get(code, f'type {code}')}, which is not supported; take a file "
            f"of another quantisation (known: {known})"
        )
    quantisation, block, block_bytes = QUANTISATIONS[code]
    count = 1
    for length in shape:
        count *= length
    if not shape or count < 1 or shape[-1] % block:
        raise ValueError(f"{name[:60]} of shape {shape} does not divide into blocks of {block}")
    start, end = begin + offset, begin + offset + count // block * block_bytes
    if end > size:
        raise ValueError(f"it has {size} bytes, {name[:60]} ends at {end}")
    return PackedTensor(shape, quantisation, start, end)


# -------------------------------------------------------------------------------------- settings and names -> ours


def read_settings(file: GGUF) -> ModelConfig:
    """The settings of a GGUF as a config, by the rules of its family."""
    settings, where = file.settings, str(file.path)
    kind = settings.get("general.architecture")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"{where}: architecture {kind!r} is not supported; known: {', '.join(FAMILIES)}")

    def of(key: str, default: Any = None) -> Any:
        return settings.get(f"{kind}.{key}", default)

    if of("expert_count", 0):
        raise ConfigError(f"{where}: a mixture of {of('expert_count')} experts is not supported")
    if "token_embd.weight" not in file.tensors:
        raise ConfigError(f"{where} has no token_embd.weight, so it holds no language model; take another file")
    slides = kind in ("llama", "mistral") and of("attention.sliding_window")
    data = {
        "model_type": "mistral" if slides else FAMILIES[kind],
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_hidden_layers": of("block_count"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv", of("attention.head_count")),
        "head_dim": of("attention.key_length"),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": _short(of("attention.layer_norm_rms_epsilon", 1e-5)),
        "rope_theta": _short(of("rope.freq_base", 10_000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        "sliding_window": slides or None,
    }
    for key in ("bos", "eos", "padding"):
        if f"tokenizer.ggml.{key}_token_id" in settings:
            data[f"{'pad' if key == 'padding' else key}_token_id"] = settings[f"tokenizer.ggml.{key}_token_id"]
    if of("rope.scaling.type", "none") != "none":
        data["rope_scaling"] = {"rope_type": of("rope.scaling.type"), "factor": of("rope.scaling.factor", 1.0)}
    data = {key: value for key, value in data.items() if value is not None}
    config = parse_config(data, where=where)
    if of("rope.dimension_count", config.head_dim) != config.head_dim:
        raise ConfigError(f"{where}: only a part of each head rotates (rope.dimension_count), which is not supported")
    if "rope_freqs.weight" in file.tensors:
        config = parse_config({**data, "rope_scaling": _llama3_scaling(file, config)}, where=where)
    return config


def _tied_again(file: GGUF) -> GGUF:
    """The file with one tensor in place of an embedding and a head that were one before they were quantised.

    Two quantisations of one tensor differ by some percent, even of 4 bits against 8; an embedding and a head that were
    trained apart by more than themselves. The first thousand rows say which.
    """
    embedding, head = "token_embd.weight", "output.weight"
    if embedding not in file.tensors or head not in file.tensors:
        return file
    one, other = file.tensors[embedding], file.tensors[head]
    if one.shape != other.shape or len(one.shape) != 2:
        return file
    a, b = (file.unpack(name, num_rows=1000) for name in (embedding, head))
    if not (a - b).norm() < 0.25 * a.norm():  # nan is refused where tensors are read
        return file
    tensors = {name: packed for name, packed in file.tensors.items() if name != head}
    tensors[embedding] = max(one, other, key=lambda packed: packed.end - packed.start)
    return GGUF(file.path, file.settings, tensors)


def _short(value: Any) -> Any:
    """A float32 as the shortest number that means the same: 1e-05, not 9.999999747378752e-06."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _llama3_scaling(file: GGUF, config: ModelConfig) -> dict[str, Any]:
    """Llama 3's scaling, of which llama.cpp keeps only the factor of each frequency. The other three numbers are the
    same in all its releases; whether they are is checked."""
    factors = file.unpack("rope_freqs.weight").double()
    scaling = {"rope_type": "llama3", "factor": float(factors.max()), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    shape = {"head_dim": config.head_dim, "rope_theta": config.rope_theta}
    sizes = dict(vocab_size=1, hidden_size=2, intermediate_size=1, num_hidden_layers=1, num_attention_heads=1,
                 num_key_value_heads=1)  # fmt: skip
    plain = rope_frequencies(ModelConfig(**sizes, **shape)).double()  # type: ignore[arg-type]
    scaled = rope_frequencies(ModelConfig(**sizes, **shape, rope_scaling=scaling)).double()  # type: ignore[arg-type]
    if factors.shape != plain.shape or not torch.allclose(plain / scaled, factors, rtol=1e-3):
        raise ConfigError(f"{file.path}: rope_freqs.weight is not Llama 3's scaling; no other is supported")
    return scaling


def _names(file: GGUF, config: ModelConfig) -> dict[str, str]:
    """Our name of each tensor -> the file's; every one is there with the right shape, and there is no other."""
    expected = {name: tuple(parameter.shape) for name, parameter in blank(config).state_dict().items()}
    names = {_our_name(theirs): theirs for theirs in file.tensors if theirs != "rope_freqs.weight"}
    for name, shape in expected.items():
        if name not in names:
            raise ConfigError(f"{file.path} has no tensor for {name}; fetch the file again, or take another")
        found = file.tensors[names[name]].shape
        if found != shape:
            raise ConfigError(f"{file.path}: {names[name]} has shape {found}, its settings ask for {shape}")
    strange = [theirs for ours, theirs in names.items() if ours not in expected]
    if strange:
        raise ConfigError(
            f"{file.path} holds {strange[0]}, which a {config.model_type} model with these settings does not have"
        )
    return {name: names[name] for name in expected}


def _our_name(theirs: str) -> str:
    body, _, kind = theirs.rpartition(".")
    if body in NAMES_OF_TOP:
        return f"{NAMES_OF_TOP[body]}.{kind}"
    head, _, rest = body.partition(".")
    layer, _, part = rest.partition(".")
    return f"model.layers.{layer}.{NAMES_OF_PARTS[part]}.{kind}" if head == "blk" and part in NAMES_OF_PARTS else theirs


def _kept_dtype(file: GGUF) -> torch.dtype:
    """F32 and F16 files keep their numbers; all else becomes bfloat16."""
    matrices = Counter(packed.quantisation for packed in file.tensors.values() if len(packed.shape) == 2)
    return {"F32": torch.float32, "F16": torch.float16}.get(matrices.most_common(1)[0][0], torch.bfloat16)


def _tensor(file: GGUF, config: ModelConfig, ours: str, theirs: str) -> Tensor:
    """One of our tensors, float32, in our order of rows."""
    values = file.unpack(theirs)
    if not torch.isfinite(values).all():
        raise ConfigError(f"{file.path}: {theirs} holds numbers that are not finite; fetch the file again")
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(ours.split(".")[-2])
    if heads is None or config.model_type not in ("llama", "mistral"):
        return values
    pairs = values.view(heads, config.head_dim // 2, 2, *values.shape[1:])
    return pairs.transpose(1, 2).reshape(values.shape)
