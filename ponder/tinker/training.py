"""One adapter in training: gradients add up over requests until a step, as the SDK's calls want it.

    model = TrainingModel(base, LoraSettings(rank=8), seed=0, num_workers=2, max_tokens=4096)
    output = model.forward_backward(request)      # bytes; the gradient is added to what is there
    model.optim_step({"learning_rate": 1e-3, ...})

Everything here blocks; `service.py` calls it in a thread, one request of a model at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ponder.config import ConfigError
from ponder.models import hub, lora
from ponder.models.lora import Adapter, save_adapter
from ponder.models.weights import write_tensors
from ponder.tinker.losses import make_loss
from ponder.tinker.packing import check, packs
from ponder.tinker.sampling import Base
from ponder.tinker.wire import ForwardBackward, loss_response, read_datum
from ponder.train.distributed import Trainer
from ponder.train.replica import NonFiniteLoss

OPTIMIZER = "optimizer.safetensors"
_MLP, _ATTENTION = ("gate_proj", "up_proj", "down_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")
# the SDK's AdamParams with their defaults
ADAM = {
    "learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.0, "grad_clip_norm": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class LoraSettings:
    """The adapter that a client asks for. ConfigError where it cannot be made."""

    rank: int
    train_mlp: bool = True
    train_attn: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 512:
            raise ConfigError(f"rank={self.rank} must lie in 1 to 512")
        if not (self.train_mlp or self.train_attn):
            raise ConfigError("adapters of the output head alone are not supported; set train_mlp or train_attn")

    @property
    def targets(self) -> tuple[str, ...]:
        """Last parts of the names of the linear layers that are adapted."""
        return _MLP * self.train_mlp + _ATTENTION * self.train_attn


class TrainingModel:
    """An adapter over a base, its optimizer, and the gradient since the last step. Its methods block."""

    def __init__(self, base: Base, settings: LoraSettings, *, seed: int, num_workers: int, max_tokens: int) -> None:
        """max_tokens: of one pack; activations of so many are in memory at a time, in each process."""
        self.base, self.settings = base, settings
        self._max_tokens = max_tokens
        model = base.fresh()
        whole = lora.fresh(model, settings.rank, seed)
        pairs = {name: pair for name, pair in whole.pairs.items() if name.rpartition(".")[2] in settings.targets}
        self.trainer = Trainer(model, num_workers=num_workers, adapter=Adapter(pairs, whole.alpha))
        self._gradient: dict[str, Tensor] | None = None

    @property
    def adapter(self) -> Adapter:
        """The adapter that is trained, not a copy: a step changes it."""
        assert self.trainer.adapter is not None
        return self.trainer.adapter

    def forward_backward(self, request: ForwardBackward) -> bytes:
        """The log-probability of every target, and the summed loss. Without `is_forward_only` its gradient is added to
        that of the calls before it."""
        loss, config = make_loss(request.loss, request.settings), self.trainer.config
        if not request.data:
            raise ConfigError("the request holds no data")
        rows = [
            check(read_datum(view), request.loss, number=number, vocab_size=config.vocab_size,
                  window=config.max_position_embeddings)
            for number, view in enumerate(request.data)
        ]  # fmt: skip
        packed = packs(rows, max_tokens=self._max_tokens, num_shares=self.trainer.num_shares)
        batches = [each.batch for _, each in packed]
        if request.is_forward_only:
            logprobs = self.trainer.logprobs(batches, loss.temperature)
            total = sum(loss(seen, seen, batch)[0].item() for seen, batch in zip(logprobs, batches, strict=True))
        else:
            sums, logprobs = self.trainer.traced_backward(batches, loss)
            total = sums["loss"]
            self._add_gradient()
        found: list[np.ndarray] = [np.zeros(0)] * len(rows)
        for (indices, each), logprobs_BT in zip(packed, logprobs, strict=True):
            for index, row in zip(indices, each.logprobs(logprobs_BT), strict=True):
                found[index] = row
        return loss_response(found, {"loss:sum": total})

    def _add_gradient(self) -> None:
        new = {name: p.grad for name, p in self.trainer.parameters.items() if p.grad is not None}
        if self._gradient is None:
            self._gradient = {name: grad.clone() for name, grad in new.items()}
        else:
            for name, grad in new.items():
                self._gradient[name].add_(grad)

    def optim_step(self, params: Mapping[str, Any]) -> dict[str, float]:
        """A step of AdamW with the gradient of the calls since the last one; its norm before clipping."""
        settings = adam_params(params)
        if self._gradient is None:
            raise ConfigError("there is no gradient: call forward_backward before optim_step")
        for name, parameter in self.trainer.parameters.items():
            parameter.grad = self._gradient[name]
        self._gradient = None  # whatever comes of it: a bad gradient must not stay for the next step
        for group in self.trainer.optimizer.param_groups:
            group["betas"], group["eps"] = (settings["beta1"], settings["beta2"]), settings["eps"]
            group["weight_decay"] = settings["weight_decay"]
        norm = self.trainer.step(lr=settings["learning_rate"], max_norm=settings["grad_clip_norm"])
        return {"grad_norm": norm}

    def snapshot(self) -> Adapter:
        """The adapter of this moment, copied: what a sampler draws from."""
        return self.adapter.over({name: tensor.clone() for name, tensor in self.adapter.tensors().items()})

    def save(self, folder: Path, *, optimizer: bool) -> None:
        """The adapter as PEFT writes it and, for going on exactly, Adam's moments in a file beside it."""
        save_adapter(
            self.adapter, folder, base=hub.named_base(self.base.reference), merged_dtype=self.trainer.model.dtype
        )
        if optimizer:
            moments = {n: t.float() for n, t in self.trainer.tensors().items() if not n.startswith("weights/")}
            if moments:
                write_tensors(moments, folder / OPTIMIZER, torch.float32)

    def load(self, folder: Path, *, optimizer: bool) -> None:
        """Replace the adapter, and Adam's moments if asked for; else they begin anew."""
        pairs = self.base.read_adapter(folder)
        tensors = {f"weights/{name}": tensor for name, tensor in pairs.tensors().items()}
        own = {f"weights/{name}": parameter.shape for name, parameter in self.trainer.parameters.items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != own:
            raise ConfigError(f"{folder.name} holds another kind of adapter: rank {pairs.rank}, not as this one")
        if optimizer and (folder / OPTIMIZER).exists():
            tensors |= read_tensors(folder / OPTIMIZER)
        self.trainer.optimizer.state.clear()  # when all of the new is read
        self._gradient = None
        self.trainer.restore(lambda name: tensors[name], tensors)

    def close(self) -> None:
        self.trainer.close()

    def facts(self) -> dict[str, Any]:
        """What `checkpoint.json` says of its weights: base_model, rank, train_mlp, train_attn."""
        return {"base_model": self.base.name, **asdict(self.settings)}


def adam_params(given: Mapping[str, Any]) -> dict[str, float]:
    """The SDK's AdamParams with their defaults filled in. ConfigError for a name or a value that is none."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"adam_params={str(given)[:40]!r} must be an object")
    if unknown := sorted(set(given) - set(ADAM) - {"type"}):
        raise ConfigError(f"adam_params has no {unknown[0]!r}; it has {', '.join(ADAM)}")
    settings = {**ADAM, **{key: value for key, value in given.items() if key != "type"}}
    for key, value in settings.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf or (key.startswith("beta") and value >= 1):
            bound = "in [0, 1)" if key.startswith("beta") else "a finite number, 0 or more"
            raise ConfigError(f"adam_params: {key}={value!r} must be {bound}")
    return settings


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. ConfigError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path.name} is damaged ({error}); load without the optimizer") from None


__all__ = ["ADAM", "LoraSettings", "NonFiniteLoss", "TrainingModel", "adam_params"]
