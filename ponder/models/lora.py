"""Low-rank adapters (LoRA, arXiv:2106.09685): W + alpha / r * B @ A, and only A and B are trained.

An adapter here is two things: the pairs that the trainer updates in float32, and the merged weight (`merge`), in the
dtype of the model, that trainer and sampler both compute with. So a step of training costs one product a layer in the
forward pass, as without an adapter, and sampler and trainer never differ by the order of a sum.

The files are those of PEFT (adapter_config.json, adapter_model.safetensors), so other programs read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ponder.config import ConfigError
from ponder.models.files import read_json
from ponder.models.transformer import Transformer
from ponder.runs import write_atomic

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PREFIX = "base_model.model."


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


def save_adapter(adapter: Adapter, folder: str | Path, *, base: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write an adapter in PEFT's layout; `base` is the reference of the model it belongs to."""
    from ponder.models.weights import write_tensors

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
    }
    write_tensors(adapter.tensors(), folder / WEIGHTS, dtype)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / CONFIG).exists()


def base_of(folder: str | Path) -> str:
    """The reference of the model that an adapter belongs to."""
    base = read_json(Path(folder) / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{Path(folder) / CONFIG} names no base_model_name_or_path; add the model it was trained on")
    return base


def load_adapter(folder: str | Path, model: Transformer) -> Adapter:
    """An adapter in PEFT's layout, checked against the model it is for."""
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if config.get("peft_type") != "LORA" or type(rank) is not int or not isinstance(alpha, int | float):
        raise ConfigError(f"{folder / CONFIG} is not a LoRA adapter with r and lora_alpha; ponder reads no other kind")
    for key in ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save"):
        if config.get(key):
            raise ConfigError(f"{folder / CONFIG}: {key} is not supported; merge the adapter where it was trained")
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{folder / WEIGHTS} cannot be read ({error}); copy the adapter again") from None
    known = targets(model)
    for key, tensor in tensors.items():
        name, _, kind = key.removeprefix(_PREFIX).rpartition(".lora_")
        weight = known.get(name)
        if not key.startswith(_PREFIX) or kind not in ("A.weight", "B.weight") or weight is None:
            raise ConfigError(f"{folder / WEIGHTS} holds {key}, which no layer of this model answers to; wrong base?")
        wanted = (rank, weight.shape[1]) if kind == "A.weight" else (weight.shape[0], rank)
        if tuple(tensor.shape) != wanted:
            raise ConfigError(f"{folder / WEIGHTS}: {key} has shape {tuple(tensor.shape)}, not {wanted}; wrong base?")
        other = key.replace("lora_A", "lora_B") if kind[0] == "A" else key.replace("lora_B", "lora_A")
        if other not in tensors:
            raise ConfigError(f"{folder / WEIGHTS} holds {key} without {other}; copy the adapter again")
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{folder / WEIGHTS}: {key} holds numbers that are not finite; copy the adapter again")
    if not tensors:
        raise ConfigError(f"{folder / WEIGHTS} holds no tensors; copy the adapter again")
    return Adapter.over(tensors, float(alpha))


def merge_adapter(model: Transformer, folder: str | Path) -> None:
    """Add an adapter to a model's weights, for good: what samples needs nothing more."""
    known = targets(model)
    merge(known, load_adapter(folder, model), known)
