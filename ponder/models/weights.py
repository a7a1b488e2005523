"""Model folders in Hugging Face layout: config.json + model.safetensors (or shards with an index) <-> Transformer.

    model = load_model("SmolLM2-135M-Instruct", dtype=torch.bfloat16)
    save_model(model, "out")          # AutoModelForCausalLM.from_pretrained("out") gives the same logits

Each family's config.json is read by its own rules, the ones transformers 5 applies (defaults, implicit biases, which
layers slide), and all names and shapes are checked before memory is spent. Loading holds the model once, one tensor
at a time from a memory-mapped file; saving holds one tensor more than the model, under a temporary name until it is
complete. Everything wrong with a folder is a ConfigError that names the file, the tensor and the fix.

Left out: pickles (they can run code), quantised checkpoints (GGUF is converted first: models/gguf.py), mixture of
experts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ponder.config import ConfigError, nearest
from ponder.files import replacing, write_atomic
from ponder.models.files import read_json, remedy
from ponder.models.memory import check_memory
from ponder.models.transformer import ModelConfig, Transformer, blank, rope_frequencies

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# what a missing key means, where families differ (None = as many key/value heads as heads)
_KEY_VALUE_HEADS = {"llama": None, "mistral": 8, "qwen2": 32, "qwen3": 32}
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip
# beyond these a number is a slip or an attack: blocks are built one by one, and sizes are multiplied
_MOST_LAYERS, _MOST = 10_000, 1 << 24
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CODES = {dtype: code for code, dtype in DTYPES.items()}


# ---------------------------------------------------------------------------------------------------- config.json


def read_config(folder: str | Path) -> ModelConfig:
    """The config of a model folder, checked."""
    path = Path(folder) / CONFIG
    data = read_json(path, missing="a model folder holds config.json and model.safetensors")
    return parse_config(data, where=str(path))


def parse_config(data: Mapping[str, Any], *, where: str = CONFIG) -> ModelConfig:
    """config.json -> ModelConfig, by the rules of its family."""
    raw = dict(data)  # what is used is popped; what stays is kept in `extra` and written back by `save_model`
    family = raw.pop("model_type", None)
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise ConfigError(f"{where}: model_type {family!r} is not supported{nearest(str(family), ARCHITECTURES)}")
    if raw.get("quantization_config"):
        raise ConfigError(f"{where}: the weights are quantised (quantization_config); use the unquantised checkpoint")
    if raw.get("hidden_act", "silu") != "silu":
        raise ConfigError(f"{where}: hidden_act {raw['hidden_act']!r} is not supported; only silu is")
    missing = [key for key in _SIZES if key not in raw]
    if missing:
        raise ConfigError(f"{where} misses {', '.join(missing)}; copy config.json again from where the model came from")
    sizes = {key: raw.pop(key) for key in _SIZES}
    heads = sizes["num_attention_heads"]
    sizes["num_key_value_heads"] = raw.pop("num_key_value_heads", _KEY_VALUE_HEADS[family]) or heads
    own = 128 if family == "qwen3" else None
    sizes["head_dim"] = raw.pop("head_dim", own) or _ratio(sizes["hidden_size"], heads, where)
    for key, value in sizes.items():
        if type(value) is not int or value < 1:
            raise ConfigError(f"{where}: {key} = {value!r} must be a whole number, 1 or more")
        if value > (most := _MOST_LAYERS if key == "num_hidden_layers" else _MOST):
            raise ConfigError(f"{where}: {key} = {value} is more than any model has ({most:,} at most)")
    if heads % sizes["num_key_value_heads"] or sizes["head_dim"] % 2:
        raise ConfigError(
            f"{where}: {heads} heads cannot share {sizes['num_key_value_heads']} key/value heads of width "
            f"{sizes['head_dim']}; the first must be a multiple of the second and the width even"
        )
    for key in ("architectures", "dtype", "torch_dtype", "transformers_version", "hidden_act"):
        raw.pop(key, None)  # written anew by `save_model`
    eps = raw.pop("rms_norm_eps", 1e-6)
    if not isinstance(eps, int | float) or not 0 <= eps < 1:
        raise ConfigError(f"{where}: rms_norm_eps = {eps!r} must be a small positive number")
    theta, scaling = _read_rope(raw, sizes["max_position_embeddings"], where)
    bias = bool(raw.pop("attention_bias", False))
    window, full_layers = _read_window(raw, family, sizes["num_hidden_layers"], where)
    return ModelConfig(
        model_type=family,
        **sizes,
        rms_norm_eps=float(eps),
        rope_theta=theta,
        rope_scaling=scaling,
        tie_word_embeddings=bool(raw.pop("tie_word_embeddings", False)),
        attention_bias=family == "qwen2" or (bias and family in ("llama", "qwen3")),
        attention_out_bias=bias and family in ("llama", "qwen3"),
        mlp_bias=bool(raw.pop("mlp_bias", False)) and family == "llama",
        qk_norm=family == "qwen3",
        sliding_window=window,
        full_attention_layers=full_layers,
        extra=raw,
    )


def _ratio(width: Any, heads: Any, where: str) -> int:
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads:
        raise ConfigError(f"{where}: hidden_size {width!r} is not a multiple of num_attention_heads {heads!r}")
    return width // heads


def _read_rope(raw: dict[str, Any], window: int, where: str) -> tuple[float, dict[str, Any] | None]:
    """(theta, scaling): from the top level, as transformers 4 wrote it, or from one dict, as transformers 5 does."""
    theta, new = raw.pop("rope_theta", None), raw.pop("rope_parameters", None)
    scaling = raw.pop("rope_scaling", None) or new or {}
    if not isinstance(scaling, dict) or any(isinstance(value, dict) for value in scaling.values()):
        raise ConfigError(f"{where}: rope parameters per layer type are not supported; known: one dict for all layers")
    scaling = dict(scaling)
    theta = scaling.pop("rope_theta", theta)
    kind = scaling.pop("rope_type", scaling.get("type", "default"))
    scaling.pop("type", None)
    if scaling.pop("partial_rotary_factor", raw.pop("partial_rotary_factor", None)) not in (None, 1, 1.0):
        raise ConfigError(f"{where}: partial_rotary_factor is not supported; the whole head must rotate")
    theta = 10_000.0 if theta is None else theta
    if not isinstance(theta, int | float) or not 0 < theta < 1e30:  # nan is refused too
        raise ConfigError(f"{where}: rope_theta = {theta!r} must be a positive number")
    if kind == "default":
        return float(theta), None
    if kind == "llama3":
        scaling.setdefault("original_max_position_embeddings", raw.get("original_max_position_embeddings", window))
    scaling = {"rope_type": kind, **scaling}
    tiny = ModelConfig(  # only to ask whether the scaling can be computed
        vocab_size=1, hidden_size=2, intermediate_size=1, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=2, rope_scaling=scaling,
    )  # fmt: skip
    try:
        if not torch.isfinite(rope_frequencies(tiny)).all():
            raise ValueError(f"rope scaling {scaling} gives frequencies that are not finite")
    except KeyError as error:
        raise ConfigError(f"{where}: rope scaling {kind!r} misses {error.args[0]!r}") from None
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return float(theta), scaling


def _read_window(raw: dict[str, Any], family: str, num_layers: int, where: str) -> tuple[int | None, tuple[int, ...]]:
    """(sliding window, layers that do not slide). Llama never slides; Mistral always does, 4096 where it does not say;
    Qwen only with `use_sliding_window`, and then from layer `max_window_layers` on, or as `layer_types` says."""
    if family == "llama":
        return None, ()
    window = raw.pop("sliding_window", 4096)
    if window is not None and (type(window) is not int or window < 1):
        raise ConfigError(f"{where}: sliding_window = {window!r} must be null or a whole number, 1 or more")
    if family == "mistral":
        return window, ()
    slides, first, kinds = (raw.pop(key, None) for key in ("use_sliding_window", "max_window_layers", "layer_types"))
    if not slides or window is None:
        return None, ()
    if kinds is None:
        first = 28 if first is None else first
        if type(first) is not int:
            raise ConfigError(f"{where}: max_window_layers = {first!r} must be a whole number")
        full = tuple(range(min(first, num_layers)))
    else:
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or len(kinds) != num_layers or any(kind not in known for kind in kinds):
            raise ConfigError(
                f"{where}: layer_types must name full_attention or sliding_attention for each of {num_layers} layers"
            )
        full = tuple(layer for layer, kind in enumerate(kinds) if kind == "full_attention")
    return (None, ()) if len(full) == num_layers else (window, full)


def config_json(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """ModelConfig -> config.json that transformers (4 and 5) and vLLM read; the inverse of `parse_config`."""
    family = config.model_type
    data: dict[str, Any] = {
        **config.extra,
        "architectures": [ARCHITECTURES.get(family)],
        "model_type": family,
        "dtype": str(dtype).removeprefix("torch."),
        "hidden_act": "silu",
        **{key: getattr(config, key) for key in (*_SIZES, "num_key_value_heads", "head_dim")},
        **{key: getattr(config, key) for key in ("rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings")},
    }
    if family in ("llama", "qwen3"):
        data["attention_bias"] = config.attention_bias
    if family == "llama":
        data["mlp_bias"] = config.mlp_bias
    else:
        data["sliding_window"] = config.sliding_window
    if family in ("qwen2", "qwen3"):
        data["use_sliding_window"] = config.sliding_window is not None
        kinds = ("sliding_attention", "full_attention")
        data["layer_types"] = [kinds[config.window(layer) is None] for layer in range(config.num_hidden_layers)]
    back = parse_config(data)
    strange = [f"{name}={value!r}" for name, value in vars(config).items() if getattr(back, name) != value]
    if strange:
        raise ConfigError(f"no config.json of a {family} model can say {', '.join(strange)}")
    return data


# ------------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what its file's header says of it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # safetensors' word: F32, BF16, ...


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a model folder: the one, or the shards its index names; all exist."""
    folder = Path(folder)
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        others = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(pattern))
        hint = f"; {others[0]} is not read: convert it to safetensors" if others else "; copy the weights there"
        raise ConfigError(f"no {WEIGHTS} and no {INDEX} in {folder}{hint}")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError(f"{folder / INDEX} has no weight_map; {remedy(folder / INDEX)}")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if name != Path(name).name or not (folder / name).is_file():
            raise ConfigError(f"{folder / INDEX} names {name!r}, which is not there; download that shard again")
    return [folder / name for name in names]


def stored_tensors(folder: str | Path) -> dict[str, StoredTensor]:
    """Name -> place of every tensor, from the headers alone: cheap for a model of any size."""
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                part = tensors.get_slice(name)
                found[name] = StoredTensor(file, tuple(part.get_shape()), part.get_dtype())
    return found


def load_model(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Transformer:
    """A model folder as a Transformer, its weights converted to `dtype`."""
    config = read_config(folder)
    model = blank(config)
    stored = stored_tensors(folder)
    _check_names_and_shapes(Path(folder), model, stored)
    check_memory(model.num_parameters * dtype.itemsize, f"{folder} in {str(dtype).removeprefix('torch.')}", device)
    weights = {name: tensor for name, tensor in _read_tensors(stored, set(model.state_dict()), dtype, device)}
    return Transformer.over(config, weights)


def _check_names_and_shapes(folder: Path, model: Transformer, stored: dict[str, StoredTensor]) -> None:
    expected = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    unused = {name for name in stored if name.endswith("rotary_emb.inv_freq")}  # old checkpoints hold these tables
    if model.config.tie_word_embeddings and "lm_head.weight" in stored and "model.embed_tokens.weight" in stored:
        _check_tied(folder, stored)
        unused.add("lm_head.weight")
    for name in expected:
        if name not in stored:
            fix = "download the weights again, or take the config.json that belongs to them"
            if name == "lm_head.weight":
                fix = 'set "tie_word_embeddings": true in config.json if the model shares its embeddings'
            raise ConfigError(f"tensor {name} is missing in {folder}{_more(set(expected) - set(stored))}; {fix}")
    for name, tensor in stored.items():
        if name in unused:
            continue
        if name not in expected:
            raise ConfigError(
                f"{tensor.file} holds {name}, which a {model.config.model_type} model with this config.json does not "
                f"have{_more(set(stored) - set(expected) - unused)}; take the config.json that belongs to these weights"
            )
        if tensor.shape != expected[name]:
            raise ConfigError(
                f"{tensor.file}: {name} has shape {tensor.shape}, but config.json asks for {expected[name]}; "
                "take the config.json that belongs to these weights"
            )
        if tensor.dtype not in DTYPES:
            raise ConfigError(f"{tensor.file}: {name} is stored as {tensor.dtype}; known: {', '.join(DTYPES)}")


def _more(names: set[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _check_tied(folder: Path, stored: dict[str, StoredTensor]) -> None:
    """A tied model may store its head all the same, if it is the embeddings."""
    with _open(stored["lm_head.weight"].file) as head, _open(stored["model.embed_tokens.weight"].file) as embeddings:
        same = torch.equal(head.get_tensor("lm_head.weight"), embeddings.get_tensor("model.embed_tokens.weight"))
    if not same:
        raise ConfigError(
            f"{folder / CONFIG} says tie_word_embeddings, but lm_head.weight differs from model.embed_tokens.weight; "
            'set "tie_word_embeddings": false'
        )


def _read_tensors(
    stored: dict[str, StoredTensor], names: set[str], dtype: torch.dtype, device: str | torch.device
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of `names`, file by file, in memory of their own: the file's map changes when the file does."""
    for file in sorted({stored[name].file for name in names}):
        with _open(file) as tensors:
            for name in sorted(names):
                if stored[name].file != file:
                    continue
                tensor = tensors.get_tensor(name).to(device=device, dtype=dtype, copy=True)
                # a sum tells at a tenth of the cost; a large one of finite numbers may overflow
                if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
                    raise ConfigError(
                        f"{file}: {name} holds numbers that are not finite in {dtype}; download the file again"
                        + (", or load as bfloat16 or float32" if dtype == torch.float16 else "")
                    )
                yield name, tensor


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file} is damaged or cut off ({error}); {remedy(file)}") from None


# -------------------------------------------------------------------------------------------------------- saving


def save_model(model: Transformer, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors; dtype None keeps the weights' own. A kill leaves old files or new."""
    folder = Path(folder)
    dtype = dtype or model.model.embed_tokens.weight.dtype
    if dtype not in CODES:
        raise ConfigError(f"cannot save as {dtype}; known: {', '.join(map(str, CODES))}")
    config = config_json(model.config, dtype)
    write_tensors(model.state_dict(), folder / WEIGHTS, dtype)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def write_tensors(tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """A safetensors file of tensors that are in memory."""
    write_stream({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__, path, dtype)


def file_header(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> tuple[bytes, dict[str, int]]:
    """How a safetensors file of these tensors begins, 8 bytes of header length and the header, and where in the file
    each tensor's bytes begin."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset, offsets = 0, {}
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offsets[name], offset = offset, end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # data starts at a multiple of 8
    return len(head).to_bytes(8, "little") + head, {name: 8 + len(head) + at for name, at in offsets.items()}


def write_stream(
    shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor], path: Path, dtype: torch.dtype
) -> None:
    """A safetensors file, read, converted and written one tensor at a time."""
    head, _ = file_header(shapes, dtype)
    part = path.with_name(f".{path.name}.part")  # always the same: what a kill left is overwritten next time
    with replacing(path, part) as file:
        file.write(head)
        for name in shapes:
            flat = read(name).detach().to(device="cpu", dtype=dtype).contiguous().view(-1)
            file.write(flat.view(torch.uint8).numpy().data)
