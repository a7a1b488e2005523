"""Gradients on every core: one single-thread process a core over shared weights, or one device.

    with Trainer(model, num_workers=2) as trainer:
        sums = trainer.backward(batches, PolicyLoss(config, temperature=1.0))    # gradients of all batches, summed
        trainer.step(lr=1e-4, max_norm=1.0)

What is computed with and what is trained are two things. `trainer.model` holds the weights that forward and backward
use, in the model's dtype, bf16 or float32; `trainer.parameters` holds what the optimizer changes, in float32: a master
of every weight, or the pairs of an adapter. After each step the first is made from the second. A float32 model without
adapter is its own master. `head` trains small float32 tensors beside the model, with a loss over its hidden states
(`HiddenLoss`) instead of its log-probabilities.

Weights, and one float32 gradient buffer a worker, live in shared memory: a worker reads the weights of the moment and
writes its gradient; the main process adds the buffers in order, clips and steps. Which worker takes which batch depends
on the batches alone, so the same batches give the same bits. What a worker computes is in train/replica.py; shares of
the weights on several machines, behind the same calls, are in train/sharded.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.multiprocessing  # shared tensors can be sent to workers
from torch import Tensor, nn

from ponder import processes
from ponder.models import lora
from ponder.models.flat import Flat
from ponder.models.lora import Adapter
from ponder.models.transformer import ModelConfig, Transformer
from ponder.models.worker import become_worker
from ponder.train.batches import Batch
from ponder.train.replica import (
    HiddenLoss,
    HiddenReading,
    Logprobs,
    LossFunction,
    Packed,
    Replica,
    Sums,
    Traced,
    Values,
    refuse_gradient,
    refuse_loss,
    refuse_step,
    total_of,
)


class Trainer:
    """A policy, its optimizer and the processes that compute its gradient."""

    def __init__(
        self,
        model: Transformer,
        *,
        num_workers: int,
        adapter: Adapter | None = None,
        head: Mapping[str, Tensor] | None = None,
        recompute: bool = False,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        """adapter: train its pairs and leave the weights alone; `model` is then the base, without the adapter.

        head: tensors that are trained beside the model, always in float32; see `HiddenLoss`.
        recompute: activations again in backward, for memory (gradient checkpointing).
        """
        if num_workers < 0 or not 0 <= weight_decay < math.inf or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"num_workers={num_workers}, weight_decay={weight_decay}, betas={betas}: out of bounds")
        self.model, self.adapter = model, adapter
        self._workers: list[tuple[Any, Any]] = []
        shared = bool(num_workers) and model.device.type == "cpu"
        if adapter is not None:
            self._base = {name: weight.clone() for name, weight in lora.targets(model).items() if name in adapter.pairs}
        weights = Flat.of(dict(model.named_parameters()), shared=shared)
        for name, view in weights.views().items():
            model.get_parameter(name).requires_grad_(False).data = view
        if adapter is not None:
            self._trained = Flat.of(adapter.tensors(), dtype=torch.float32, shared=shared)
            self.adapter = adapter.over(self._trained.views())
        else:
            self._trained = weights if model.dtype == torch.float32 else Flat.of(weights.views(), dtype=torch.float32)
        head_memory = Flat.of(head, dtype=torch.float32, shared=shared) if head else None
        self.head = head_memory.views() if head_memory is not None else {}
        self.parameters = {name: nn.Parameter(x) for name, x in {**self._trained.views(), **self.head}.items()}
        every = list(self.parameters.values())
        groups = [
            {"params": [p for p in every if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=0.0,
            betas=betas,
            eps=1e-8,
            foreach=False,  # one kernel a tensor: the same bits whatever the grouping
        )
        self.refresh()
        parts = Replica.Parts(
            model.config,
            weights,
            adapter.frame() if adapter else None,
            self._trained if adapter else None,
            head_memory,
            recompute,
        )
        self._shapes = {name: parameter.shape for name, parameter in self.parameters.items()}
        self._gradients = [
            Flat.zeros(self._shapes, torch.float32, model.device, shared=shared)
            for _ in range(num_workers if shared else 1)
        ]
        self._replica = None if shared else Replica(parts, self._gradients[0])
        for gradient in self._gradients if shared else ():
            self._workers.append(processes.start(_worker, (parts, gradient), name="ponder-trainer"))

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the weights that are computed with from those that are trained; after a step, or after loading some."""
        if self.adapter is not None:
            lora.merge(self._base, self.adapter, lora.targets(self.model))
            lora.write_rows(self.adapter, self.model)
        elif self.model.dtype != torch.float32:
            for name, tensor in self._trained.views().items():
                self.model.get_parameter(name).copy_(tensor)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def num_shares(self) -> int:
        return max(1, len(self._workers))

    @property
    def passes(self) -> int:
        """What forward and backward cost together, in forward passes: backward computes the gradient of activations
        and that of weights, which an adapter's frozen weights do not need (its own products, a few percent, left out).
        """
        return 3 if self.adapter is None else 2

    def backward(self, batches: Sequence[Any], loss_function: LossFunction | HiddenLoss) -> Sums:
        """Set the gradient to the sum over all batches; returns the summed loss and metrics.

        Raises NonFiniteLoss before anything was stepped.
        """
        if self._workers:
            sums = total_of(self._ask(batches, loss_function)[1])
        else:
            sums = self._replica.backward(batches, loss_function)  # type: ignore[union-attr]
        return self._summed(sums)

    def traced_backward(self, batches: Sequence[Any], loss_function: LossFunction) -> tuple[Sums, list[Tensor]]:
        """`backward`, and the log-probabilities (B T) that each batch's loss was computed from, in their order."""
        if not self._workers:
            sums, seen = self._replica.traced(batches, loss_function)  # type: ignore[union-attr]
            return self._summed(sums), seen
        shares, answers = self._ask(batches, Traced(loss_function))
        return self._summed(total_of([sums for sums, _ in answers])), _in_order(shares, [seen for _, seen in answers])

    def _summed(self, sums: Sums) -> Sums:
        """Make the gradient the sum of what every worker has; raises where the loss is not finite."""
        total = self._gradients[0]  # the next backward begins by setting all of them to zero
        for other in self._gradients[1:]:
            total.memory.add_(other.memory)
        for name, view in total.views().items():
            self.parameters[name].grad = view
        refuse_loss(sums["loss"])
        return sums

    def logprobs(self, batches: Sequence[Batch], temperature: float) -> list[Tensor]:
        """Log-probabilities (B T) of the trained tokens of every batch under the present weights, 0 elsewhere."""
        if not self._workers:
            return self._replica.logprobs(batches, temperature)  # type: ignore[union-attr]
        return self._gather(batches, Logprobs(temperature))

    def values(self, batches: Sequence[Any], reading: HiddenReading) -> list[Tensor]:
        """What is read of every batch under the present weights."""
        if not self._workers:
            return self._replica.values(batches, reading)  # type: ignore[union-attr]
        return self._gather(batches, Values(reading))

    def _gather(self, batches: Sequence[Any], job: Logprobs | Values) -> list[Tensor]:
        """A tensor a batch, in order."""
        return _in_order(*self._ask(batches, job))

    def _ask(
        self, batches: Sequence[Any], job: LossFunction | HiddenLoss | Logprobs | Values | Traced
    ) -> tuple[list[list[int]], list[Any]]:
        """Give every worker its share; which batches went to each, and the answers.

        All answers are read before a failure is raised: one left behind would answer the next call.
        """
        shares = deal(batches, len(self._workers))
        for (connection, _), share in zip(self._workers, shares, strict=True):
            with contextlib.suppress(OSError):  # a dead worker: its answer says so
                connection.send(([batches[i] for i in share], job))
        answers = [_receive(connection, worker) for connection, worker in self._workers]
        for answer in answers:
            if isinstance(answer, RuntimeError):
                raise answer
        return shares, answers

    def step(self, *, lr: float, max_norm: float) -> float:
        """Clip the gradient and step; returns the norm before clipping. max_norm: 0 clips nothing.

        Raises NonFiniteLoss, or a ValueError for numbers that nothing can step with, without stepping.
        """
        refuse_step(lr, max_norm)
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), max_norm or math.inf, foreach=False)
        refuse_gradient(norm.item())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.refresh()
        return norm.item()

    def publish(self, version: int) -> Mapping[str, Tensor]:
        """The weights that are computed with, adapter included: not copied, so read them before the next step."""
        return self.model.state_dict()

    def tensors(self) -> dict[str, Tensor]:
        """What an exact resume needs, copied: what is trained, in float32, and Adam's moments."""
        found = state_of(self.parameters, self.optimizer)
        return {name: tensor.cpu().clone() for name, tensor in found.items()}

    @torch.no_grad()
    def restore(self, tensor: Callable[[str], Tensor], names: Collection[str]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(tensor(f"weights/{name}"))
            if f"step/{name}" in names:
                self.optimizer.state[parameter] = {
                    "step": tensor(f"step/{name}"),
                    "exp_avg": tensor(f"exp_avg/{name}").to(parameter.device),
                    "exp_avg_sq": tensor(f"exp_avg_sq/{name}").to(parameter.device),
                }
        self.refresh()

    def close(self) -> None:
        """End the worker processes and wait up to 5 seconds for each."""
        for connection, _ in self._workers:
            with contextlib.suppress(OSError):
                connection.send(None)
        for _, worker in self._workers:
            worker.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pick_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_workers(num_workers: int) -> int:
    """-1 = a process a core where there is no GPU."""
    if num_workers >= 0:
        return num_workers
    return 0 if pick_device() == "cuda" else processes.num_cores()


def deal(batches: Sequence[Packed], num_workers: int) -> list[list[int]]:
    """Which worker takes which batches: the largest first, each to the least loaded."""
    shares: list[list[int]] = [[] for _ in range(num_workers)]
    loads = [0] * num_workers
    for i in sorted(range(len(batches)), key=lambda i: (-len(batches[i].tokens_N), i)):
        worker = loads.index(min(loads))
        shares[worker].append(i)
        loads[worker] += len(batches[i].tokens_N)
    return shares


def _in_order(shares: Sequence[Sequence[int]], answers: Sequence[Sequence[np.ndarray]]) -> list[Tensor]:
    """What workers computed for the batches of their shares, in the batches' order."""
    found = {i: array for share, own in zip(shares, answers, strict=True) for i, array in zip(share, own, strict=True)}
    return [torch.from_numpy(found[i]) for i in range(len(found))]


def state_of(parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What is trained and Adam's moments, by the names of a saved state; nothing is copied."""
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        found[f"weights/{name}"] = parameter.detach()
        if moments := optimizer.state.get(parameter):
            found |= {f"{kind}/{name}": moments[kind] for kind in ("exp_avg", "exp_avg_sq", "step")}
    return found


def _receive(connection: Any, worker: Any) -> Any:
    """A worker's answer, or a RuntimeError that says why there is none."""
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        return RuntimeError(f"a training worker died {processes.why_ended(worker, 'lower max_tokens_per_batch')}")
    return RuntimeError(answer) if isinstance(answer, str) else answer


def _worker(connection: Any, parts: Replica.Parts, gradient: Flat) -> None:
    become_worker()
    replica = Replica(parts, gradient)
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if message is None:
                return
            batches, job = message
            try:
                if isinstance(job, Logprobs):
                    connection.send([x.numpy() for x in replica.logprobs(batches, job.temperature)])
                elif isinstance(job, Values):
                    connection.send([x.numpy() for x in replica.values(batches, job.of)])
                elif isinstance(job, Traced):
                    sums, seen = replica.traced(batches, job.of)
                    connection.send((sums, [x.numpy() for x in seen]))
                else:
                    connection.send(replica.backward(batches, job))
            except Exception as error:  # reported: the parent stops the run with the reason
                connection.send(f"a training worker failed: {type(error).__name__}: {error}")
