"""What one process computes of micro-batches: losses, gradients, log-probabilities, the values that a head gives.

    replica = Replica(parts, gradient)                      # over weights and a gradient buffer that others may share
    replica.backward(batches, PolicyLoss(config, temperature=1.0))

`ForwardPass` computes from a model; `Replica` adds the gradient, and `train/rank.py` does over a part of the weights.
What the processes of a machine do together is in train/distributed.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ponder.models import lora, packed, rowwise
from ponder.models.flat import Flat
from ponder.models.lora import Adapter
from ponder.models.segments import Layout
from ponder.models.transformer import ModelConfig, Transformer
from ponder.train import losses
from ponder.train.batches import Batch
from ponder.train.logprobs import token_logprobs, with_gradient_of_rows

Sums = dict[str, float]


class LossFunction(Protocol):
    """The loss of one micro-batch, and sums for the metrics, from the log-probabilities of its trained tokens."""

    @property
    def temperature(self) -> float:
        """At which the log-probabilities are wanted."""
        ...

    needs_entropy: ClassVar[bool]  # it costs two passes over the logits; zeros are handed over where it is not needed

    def __call__(
        self, logprobs_BT: Tensor, entropy_BT: Tensor, batch: Batch, /
    ) -> tuple[Tensor, dict[str, Tensor]]: ...


class Packed(Protocol):
    """A micro-batch of any kind: a dataclass with the tokens of one forward pass and who sees whom among them."""

    tokens_N: Any
    segments: Any


class HiddenReading(ABC):
    """What is made of final hidden states, with the trainer's `head` where it has one: no tokens."""

    def embedding_bias(self, head: dict[str, Tensor], batch: Any) -> Tensor | None:
        """What is added to the embeddings (N D); None = nothing."""
        return None

    @abstractmethod
    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> Tensor:
        """Any tensor computed from the hidden states, without a gradient."""


class HiddenLoss(HiddenReading):
    """And a loss over them, for a network whose outputs are not tokens: scorers and critics."""

    @abstractmethod
    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch, and sums for the metrics."""


class NonFiniteLoss(RuntimeError):
    """Stops a run before a bad number reaches the weights."""


def refuse_loss(loss: float) -> None:
    """NonFiniteLoss for one that is not finite."""
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the loss is {loss}; the weights were not changed. Lower the step size")


def refuse_step(lr: float, max_norm: float) -> None:
    """ValueError for numbers that nothing can step with."""
    if not 0 <= lr < math.inf or not max_norm >= 0:  # nan is refused too
        raise ValueError(f"lr={lr}, max_norm={max_norm} must be finite, 0 or more; the weights were not changed")


def refuse_gradient(norm: float) -> None:
    """NonFiniteLoss for a gradient whose norm is not finite."""
    if not math.isfinite(norm):
        raise NonFiniteLoss("the gradient is not finite; the weights were not changed. Lower the step size")


@dataclass(frozen=True)
class PolicyLoss:
    """The RL loss of one micro-batch. Without old log-probabilities this is the first update: old = now."""

    needs_entropy: ClassVar[bool] = True

    config: losses.LossConfig
    temperature: float

    def __call__(self, logprobs_BT: Tensor, entropy_BT: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        old_BT = logprobs_BT.detach() if batch.old_logprobs_BT is None else batch.old_logprobs_BT
        loss, sums = losses.policy(
            logprobs_BT,
            old_BT,
            batch.advantages_BT,
            batch.mask_BT,
            batch.weights_B,
            self.config,
            sampler_logprobs_BT=batch.sampler_logprobs_BT,
            ref_logprobs_BT=batch.ref_logprobs_BT,
        )
        return loss, sums | {"entropy": (entropy_BT * batch.mask_BT).sum()}


@dataclass(frozen=True)
class SupervisedLoss:
    """Cross-entropy of one micro-batch."""

    needs_entropy: ClassVar[bool] = False

    temperature: float = 1.0

    def __call__(self, logprobs_BT: Tensor, entropy_BT: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return losses.cross_entropy(logprobs_BT, batch.mask_BT, batch.weights_B)


@dataclass(frozen=True)
class Logprobs:
    """No loss: the log-probabilities of the tokens under the weights of the moment (old policy, reference)."""

    temperature: float


@dataclass(frozen=True)
class Traced:
    """A loss with its gradient, and the log-probabilities that it was computed from."""

    of: LossFunction


@dataclass(frozen=True)
class Values:
    """No loss: what is read of the states under the weights of the moment."""

    of: HiddenReading


class ForwardPass:
    """What is computed of one micro-batch: its loss, its log-probabilities, the values that a head gives."""

    model: Transformer
    adapter: Adapter | None
    head: dict[str, Tensor]
    recompute: bool

    def loss(
        self, batch: Any, loss_function: LossFunction | HiddenLoss, seen: list[Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """With the sums for its metrics. seen: gets the log-probabilities (B T) that it is computed from."""
        if isinstance(loss_function, HiddenLoss):
            return loss_function.loss(self._hidden(batch, loss_function), self.head, batch)
        with_entropy = loss_function.needs_entropy
        logprobs_BT, entropy_BT = self.token_logprobs(batch, loss_function.temperature, with_entropy=with_entropy)
        if seen is not None:
            seen.append(logprobs_BT.detach().cpu())
        return loss_function(logprobs_BT, entropy_BT, batch)

    def token_logprobs(self, batch: Batch, temperature: float, *, with_entropy: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (B T) at the trained tokens, 0 elsewhere: the others need no logits."""
        mask = batch.mask_BT
        picked = self._hidden(batch).index_select(0, batch.predictor_BT[mask])
        head, targets = self.model.head_weight, batch.target_BT[mask]
        logprobs_M, entropy_M = token_logprobs(picked, head, targets, temperature, with_entropy=with_entropy)
        if rows := lora.head_rows(self.adapter):
            known = picked, head, targets, temperature
            logprobs_M = with_gradient_of_rows(logprobs_M, *known, ids=rows.ids, rows_KD=rows.values())
        empty = torch.zeros(mask.shape, device=mask.device)
        return empty.masked_scatter(mask, logprobs_M), empty.masked_scatter(mask, entropy_M)

    def read_values(self, batch: Any, reading: HiddenReading) -> Tensor:
        """What `reading` makes of the hidden states of one micro-batch."""
        return reading.values(self._hidden(batch, reading), self.head, batch)

    def _hidden(self, batch: Packed, of: HiddenReading | None = None) -> Tensor:
        layout, tokens = Layout(batch.segments), torch.as_tensor(batch.tokens_N, device=self.model.device)
        bias = of.embedding_bias(self.head, batch) if of is not None else None
        return packed.hidden(self.model, tokens, layout, embedding_bias_ND=bias, recompute=self.recompute)


class Replica(ForwardPass):
    """What one process computes: the loss of batches and its gradient, added into float32 buffers by name.

    A weight whose dtype is not float32 hands each micro-batch's gradient over at once: sums of many in bf16 would lose
    the small ones.
    """

    class Parts(NamedTuple):
        """What a replica is made over, none of it copied."""

        config: ModelConfig
        weights: Flat
        adapter: Adapter | None  # without its tensors, if one is trained,
        trained: Flat | None  # and those
        head: Flat | None  # tensors beside the model, if any are trained
        recompute: bool

    def __init__(self, parts: Parts, gradient: Flat) -> None:
        self.gradient, self.recompute, self.adapter = gradient, parts.recompute, None
        self.model = Transformer.over(parts.config, parts.weights.views())
        if parts.adapter is not None and parts.trained is not None:
            leaves = parts.trained.views()
            self.adapter = parts.adapter.over(leaves)
            lora.attach(self.model, self.adapter)
        else:
            leaves = dict(self.model.named_parameters())
        self.head = parts.head.views() if parts.head is not None else {}
        leaves = {**leaves, **self.head}
        for parameter in self.model.parameters():
            parameter.requires_grad_(self.adapter is None)
        buffers = gradient.views()
        for name, leaf in leaves.items():
            leaf.requires_grad_(True)
            if leaf.dtype == torch.float32:
                leaf.grad = buffers[name]  # backward adds into the buffer
            else:
                leaf.register_post_accumulate_grad_hook(partial(_hand_over, buffers[name]))

    def backward(self, batches: Sequence[Any], loss_function: LossFunction | HiddenLoss) -> Sums:
        """Set the buffers to the gradient of all batches; the summed loss and metrics."""
        self.gradient.memory.zero_()
        return total_of([self._backward(batch, loss_function) for batch in batches])

    def traced(self, batches: Sequence[Any], loss_function: LossFunction) -> tuple[Sums, list[Tensor]]:
        """`backward`, and the log-probabilities (B T) of every batch."""
        self.gradient.memory.zero_()
        seen: list[Tensor] = []
        return total_of([self._backward(batch, loss_function, seen) for batch in batches]), seen

    def _backward(self, batch: Any, loss_function: LossFunction | HiddenLoss, seen: list[Tensor] | None = None) -> Sums:
        loss, sums = self.loss(to_device(batch, self.model.device), loss_function, seen)
        if torch.isfinite(loss) and loss.requires_grad:  # not finite: the caller raises before it reaches the gradient
            loss.backward()
        return sums_of(loss, sums)

    @torch.no_grad()
    def logprobs(self, batches: Sequence[Batch], temperature: float) -> list[Tensor]:
        """Log-probabilities (B T) of every batch, 0 where nothing is trained; on the CPU, without a gradient."""
        return [self.token_logprobs(to_device(batch, self.model.device), temperature)[0].cpu() for batch in batches]

    @torch.no_grad()
    def values(self, batches: Sequence[Any], reading: HiddenReading) -> list[Tensor]:
        """What `reading` gives for every batch; on the CPU, without a gradient."""
        return [self.read_values(to_device(batch, self.model.device), reading).cpu() for batch in batches]


def _hand_over(buffer: Tensor, leaf: Tensor) -> None:
    assert leaf.grad is not None
    rowwise.add_to(buffer, leaf.grad)
    leaf.grad = None


def sums_of(loss: Tensor, sums: Mapping[str, Tensor]) -> Sums:
    """What one pass says of itself, as numbers: a part for `total_of`."""
    return {"loss": loss.item()} | {key: float(value) for key, value in sums.items()}


def total_of(parts: Sequence[Mapping[str, float]]) -> Sums:
    """Sums of sums; keys that end in _max take the maximum."""
    result: Sums = {"loss": 0.0}
    for part in parts:
        for key, value in part.items():
            known = result.get(key, 0.0)
            result[key] = max(known, value) if key.endswith("_max") else known + value
    return result


def to_device(batch: Any, device: torch.device) -> Any:
    """A copy of a batch with its tensors on the device; fields that are no tensors stay as they are."""
    moved: dict[str, Any] = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, Tensor)}
    return replace(batch, **moved)
