"""Low-rank adapters in PEFT's layout: a folder of adapter_config.json and adapter_model.safetensors.

    W += lora_alpha / r * B @ A        A (r, in), B (out, r)        LoRA, arXiv:2106.09685

Merging adds an adapter to a model's own weights, so that nothing afterwards knows there was one. The product is taken
in float32. Do not merge into bfloat16 weights: those lie on bfloat16's grid, and a change smaller than half a step of
it, as reinforcement learning makes, rounds back to no change at all.

Left out: DoRA, biases, adapters of embeddings, several adapters in one folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ponder.config import ConfigError, nearest
from ponder.models.files import read_json
from ponder.models.transformer import Transformer

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SUFFIXES = {".lora_A.weight": "A", ".lora_B.weight": "B"}


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / ADAPTER_CONFIG).exists()


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """adapter_config.json, refused where it asks for what is not done here."""
    path = Path(folder) / ADAPTER_CONFIG
    config = read_json(path, missing=f"an adapter folder holds {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    if config.get("peft_type", "LORA") != "LORA":
        raise ConfigError(f"{path}: an adapter of kind {config['peft_type']!r} is not supported; only LORA is")
    for key, plain in (("use_dora", False), ("bias", "none"), ("fan_in_fan_out", False), ("modules_to_save", None),
                       ("rank_pattern", {}), ("alpha_pattern", {}), ("trainable_token_indices", None)):  # fmt: skip
        if config.get(key) and config[key] != plain:
            raise ConfigError(
                f"{path}: {key} = {config[key]!r} is not supported; merge it with PEFT and save the model"
            )
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise ConfigError(f"{path}: {key} = {config.get(key)!r} must be a positive number")
    if not isinstance(config.get("base_model_name_or_path"), str):
        raise ConfigError(f"{path} does not say which model it changes (base_model_name_or_path)")
    return config


def merge_adapter(model: Transformer, folder: str | Path) -> None:
    """Add an adapter to a model's weights, in place; all is checked before the first weight changes."""
    config = read_adapter_config(folder)
    path = Path(folder) / ADAPTER_WEIGHTS
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs = _read_pairs(path, int(config["r"]), layers)
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            weight = layers[name].weight
            change = scale * (b.to(weight.device) @ a.to(weight.device))
            weight.copy_((weight.float() + change).to(weight.dtype))


def _read_pairs(path: Path, rank: int, layers: dict[str, nn.Linear]) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> (A, B), float32, of the right shapes and finite."""
    found: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                suffix = next((suffix for suffix in _SUFFIXES if key.endswith(suffix)), None)
                if suffix is None or not key.startswith(_PREFIX):
                    raise ConfigError(f"{path} holds {key}, which is no part of a LoRA adapter of linear layers")
                layer = key.removeprefix(_PREFIX).removesuffix(suffix)
                found.setdefault(layer, {})[_SUFFIXES[suffix]] = file.get_tensor(key).float()
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is missing, damaged or cut off ({error}); fetch it again") from None
    if not found:
        raise ConfigError(f"{path} holds no adapter at all")
    for layer, parts in found.items():
        if layer not in layers:
            raise ConfigError(
                f"{path} changes {layer}, which the base model does not have{nearest(layer, list(layers))}; "
                "is it an adapter of this model?"
            )
        out_size, in_size = layers[layer].weight.shape
        for part, shape in (("A", (rank, in_size)), ("B", (out_size, rank))):
            tensor = parts.get(part)
            if tensor is None or tuple(tensor.shape) != shape:
                has = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise ConfigError(
                    f"{path}: lora_{part} of {layer} {has}, it must be {shape}; is r right, and the base?"
                )
            if not torch.isfinite(tensor).all():
                raise ConfigError(f"{path}: lora_{part} of {layer} holds numbers that are not finite; fetch it again")
    return {layer: (parts["A"], parts["B"]) for layer, parts in found.items()}
