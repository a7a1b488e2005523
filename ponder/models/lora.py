"""Low-rank adapters (LoRA, arXiv:2106.09685): W + alpha / r * B @ A, and only A and B are trained.

An adapter here is two things: the pairs that the trainer updates in float32, and the merged weight (`merge`), in the
dtype of the model, that trainer and sampler both compute with. So a step of training costs one product a layer in the
forward pass, as without an adapter, and sampler and trainer never differ by the order of a sum.

The files are those of PEFT (adapter_config.json, adapter_model.safetensors), so other programs read them. A change that
is much smaller than a bf16 weight's last bit vanishes when it is merged into one: merge into float32 to keep all of it.

Left out: DoRA, biases, adapters of embeddings, several adapters in one folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ponder.config import ConfigError, nearest
from ponder.models.files import read_json
from ponder.models.transformer import Transformer
from ponder.runs import write_atomic

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PREFIX = "base_model.model."
_SUFFIXES = {".lora_A.weight": "A", ".lora_B.weight": "B"}


@dataclass(frozen=True)
class Adapter:
    """Name of a linear layer ("model.layers.0.self_attn.q_proj") -> A (r in) and B (out r), float32."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    alpha: float

    @property
    def rank(self) -> int:
        return next(iter(self.pairs.values()))[0].shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def tensors(self) -> dict[str, Tensor]:
        """Every trained tensor by its PEFT name."""
        named = {}
        for name, (a, b) in self.pairs.items():
            named[f"{_PREFIX}{name}.lora_A.weight"], named[f"{_PREFIX}{name}.lora_B.weight"] = a, b
        return named

    @classmethod
    def over(cls, tensors: Mapping[str, Tensor], alpha: float) -> Adapter:
        """An adapter whose pairs *are* the given tensors (the inverse of `tensors`)."""
        names = [key[len(_PREFIX) : -len(".lora_A.weight")] for key in tensors if key.endswith(".lora_A.weight")]
        pairs = {n: (tensors[f"{_PREFIX}{n}.lora_A.weight"], tensors[f"{_PREFIX}{n}.lora_B.weight"]) for n in names}
        return cls(pairs, alpha)


def fresh(model: Transformer, rank: int, seed: int, alpha: float = 32.0) -> Adapter:
    """An adapter on every linear layer of the blocks that changes nothing yet: A uniform (Kaiming), B zero.

    alpha is the same for any rank, so that a good step size stays one (https://thinkingmachines.ai/blog/lora).
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, weight in targets(model).items():
        bound = 1 / math.sqrt(weight.shape[1])
        a = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
        pairs[name] = (a, torch.zeros(weight.shape[0], rank))
    return Adapter(pairs, alpha)


def targets(model: Transformer) -> dict[str, Tensor]:
    """The weights that adapters apply to, by the name of their layer."""
    return {
        name.removesuffix(".weight"): parameter.data
        for name, parameter in model.named_parameters()
        if name.removesuffix(".weight").rpartition(".")[2] in TARGETS and name.endswith(".weight")
    }


@torch.no_grad()
def merge(base: Mapping[str, Tensor], adapter: Adapter, into: Mapping[str, Tensor]) -> None:
    """Write base + scale * B @ A into the weights of `into`, rounded once, to their dtype."""
    for name, (a, b) in adapter.pairs.items():
        change = torch.mm(b, a).mul_(adapter.scale)
        into[name].copy_(change.add_(base[name].to(change)))


def save_adapter(
    adapter: Adapter,
    folder: str | Path,
    *,
    base: str,
    merged_dtype: torch.dtype = torch.float32,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write an adapter in PEFT's layout.

    base: the reference of the model it belongs to. merged_dtype: of the weights it was trained through; a key of our
    own in adapter_config.json, which other programs leave alone.
    """
    from ponder.models.weights import CODES, write_tensors

    folder = Path(folder)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in adapter.pairs}),
        "fan_in_fan_out": False,
        "inference_mode": True,
        "merged_dtype": CODES[merged_dtype],
    }
    write_tensors(adapter.tensors(), folder / ADAPTER_WEIGHTS, dtype)
    write_atomic(folder / ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")


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


def load_adapter(folder: str | Path, model: Transformer) -> Adapter:
    """An adapter in PEFT's layout, checked against the model it is for."""
    config = read_adapter_config(folder)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs = _read_pairs(Path(folder) / ADAPTER_WEIGHTS, int(config["r"]), layers)
    root = config["r"] ** 0.5 if config.get("use_rslora") else 1.0  # alpha / sqrt(r): arXiv:2312.03732
    return Adapter({name: pairs[name] for name in sorted(pairs)}, float(config["lora_alpha"]) * root)


def merge_adapter(model: Transformer, folder: str | Path) -> None:
    """Add an adapter to a model's weights, in place; all is checked before the first weight changes."""
    adapter = load_adapter(folder, model)
    weights = {name: model.get_parameter(f"{name}.weight").data for name in adapter.pairs}
    on_device = {n: (a.to(weights[n].device), b.to(weights[n].device)) for n, (a, b) in adapter.pairs.items()}
    merge(weights, Adapter(on_device, adapter.alpha), weights)


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
