"""Gradients on every core: one single-thread process a core over shared weights, or one device.

    with Trainer(model, num_workers=2) as trainer:
        sums = trainer.backward(batches, PolicyLoss(config, temperature=1.0))    # gradients of all batches, summed
        trainer.step(lr=1e-4, max_norm=1.0)

Weights, and one gradient buffer a worker, live in shared memory: a worker reads the weights of the moment and writes
its gradient; the main process adds the buffers in order, clips and steps. Which worker takes which batch depends on the
batches alone, so the same batches give the same bits. Clusters come later, behind the same three calls.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from ponder.models.transformer import ModelConfig, Transformer
from ponder.runs import num_cores, sigint_ignored
from ponder.train import losses
from ponder.train.batches import Batch

Sums = dict[str, float]
LossFunction = Callable[[Transformer, Batch], tuple[Tensor, dict[str, Tensor]]]


class NonFiniteLoss(RuntimeError):
    """Stops a run before a bad number reaches the weights."""


def token_logprobs(model: Transformer, tokens_BT: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each next token and the entropy of its distribution, (B T) each, float32.

    At the sampling temperature, so that trainer and sampler speak of the same distribution (trl#4159).
    """
    logits = model(tokens_BT[:, :-1]).float() / temperature
    normaliser_BT = logits.logsumexp(-1)
    logprobs_BT = logits.gather(-1, tokens_BT[:, 1:, None])[..., 0] - normaliser_BT
    with torch.no_grad():
        entropy_BT = normaliser_BT - (logits.softmax(-1) * logits).sum(-1)
    return logprobs_BT, entropy_BT


@dataclass(frozen=True)
class PolicyLoss:
    """The RL loss of one micro-batch. Without old log-probabilities this is the first update: old = now."""

    config: losses.LossConfig
    temperature: float

    def __call__(self, model: Transformer, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logprobs_BT, entropy_BT = token_logprobs(model, batch.tokens_BT, self.temperature)
        old_BT = logprobs_BT.detach() if batch.old_logprobs_BT is None else batch.old_logprobs_BT
        loss, sums = losses.policy(
            logprobs_BT,
            old_BT,
            batch.advantages_B,
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

    def __call__(self, model: Transformer, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logprobs_BT, _ = token_logprobs(model, batch.tokens_BT, 1.0)
        return losses.cross_entropy(logprobs_BT, batch.mask_BT, batch.weights_B)


@dataclass(frozen=True)
class Logprobs:
    """No loss: the log-probabilities of the tokens under the weights of the moment (old policy, reference)."""

    temperature: float


class Trainer:
    """A policy, its optimizer and the processes that compute its gradient."""

    def __init__(
        self,
        model: Transformer,
        *,
        num_workers: int,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        self.model = model
        self._workers: list[tuple[Any, Any]] = []
        self._gradients: list[list[Tensor]] = []
        parameters = list(model.parameters())
        if num_workers and model.device.type == "cpu":
            for parameter in parameters:
                parameter.data = parameter.data.clone().share_memory_()
            for _ in range(num_workers):
                self._start([torch.zeros_like(parameter.data).share_memory_() for parameter in parameters])
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
                {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=betas,
            eps=1e-8,
            foreach=False,  # one kernel a tensor: the same bits whatever the grouping
        )

    def _start(self, gradients: list[Tensor]) -> None:
        context = torch.multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        weights = {name: tensor.detach() for name, tensor in self.model.named_parameters()}
        worker = context.Process(
            target=_worker, args=(there, self.model.config, weights, gradients), daemon=True, name="ponder-trainer"
        )
        with sigint_ignored():
            worker.start()
        there.close()
        self._workers.append((here, worker))
        self._gradients.append(gradients)

    def backward(self, batches: Sequence[Batch], loss_function: LossFunction) -> Sums:
        """Set the gradient to the sum over all batches; returns the summed loss and metrics.

        Raises NonFiniteLoss before anything was stepped.
        """
        if self._workers:
            sums = _total(self._ask(batches, loss_function)[1])
            for index, parameter in enumerate(self.model.parameters()):
                parameter.grad = self._gradients[0][index].clone()
                for other in self._gradients[1:]:
                    parameter.grad += other[index]
        else:
            self.model.zero_grad(set_to_none=False)
            sums = _total([_backward(self.model, batch, loss_function) for batch in batches])
        if not torch.isfinite(torch.tensor(sums["loss"])):
            raise NonFiniteLoss(f"the loss is {sums['loss']}; the weights were not changed. Lower the step size")
        return sums

    def logprobs(self, batches: Sequence[Batch], temperature: float) -> list[Tensor]:
        """Log-probabilities (B T) of every batch under the present weights."""
        if not self._workers:
            return [_logprobs(self.model, batch, temperature) for batch in batches]
        shares, answers = self._ask(batches, Logprobs(temperature))
        result: list[Tensor] = [torch.empty(0)] * len(batches)
        for share, tensors in zip(shares, answers, strict=True):
            for i, tensor in zip(share, tensors, strict=True):
                result[i] = torch.from_numpy(tensor)
        return result

    def _ask(self, batches: Sequence[Batch], job: LossFunction | Logprobs) -> tuple[list[list[int]], list[Any]]:
        """Give every worker its share; which batches went to each, and the answers.

        All answers are read before a failure is raised: one left behind would answer the next call.
        """
        shares = _shares(batches, len(self._workers))
        for (connection, _), share in zip(self._workers, shares, strict=True):
            with contextlib.suppress(OSError):  # a dead worker: its answer says so
                connection.send(([batches[i] for i in share], job))
        answers = [_receive(connection, worker) for connection, worker in self._workers]
        for answer in answers:
            if isinstance(answer, RuntimeError):
                raise answer
        return shares, answers

    def step(self, *, lr: float, max_norm: float) -> float:
        """Clip the gradient and step; returns the norm before clipping. Raises NonFiniteLoss without stepping."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm, foreach=False)
        if not torch.isfinite(norm):
            raise NonFiniteLoss("the gradient is not finite; the weights were not changed. Lower the step size")
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return norm.item()

    def close(self) -> None:
        for connection, _ in self._workers:
            with contextlib.suppress(OSError):
                connection.send(None)
        for _, worker in self._workers:
            worker.join(5)

    def __enter__(self) -> Trainer:
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
    return 0 if pick_device() == "cuda" else num_cores()


def _shares(batches: Sequence[Batch], num_workers: int) -> list[list[int]]:
    """Which worker takes which batches: the largest first, each to the least loaded."""
    shares: list[list[int]] = [[] for _ in range(num_workers)]
    loads = [0] * num_workers
    for i in sorted(range(len(batches)), key=lambda i: (-batches[i].tokens_BT.numel(), i)):
        worker = loads.index(min(loads))
        shares[worker].append(i)
        loads[worker] += batches[i].tokens_BT.numel()
    return shares


def _total(parts: Sequence[Mapping[str, float]]) -> Sums:
    """Sums of sums; keys that end in _max take the maximum."""
    result: Sums = {"loss": 0.0}
    for part in parts:
        for key, value in part.items():
            known = result.get(key, 0.0)
            result[key] = max(known, value) if key.endswith("_max") else known + value
    return result


def _to(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, Tensor)}
    return replace(batch, **moved)


def _backward(model: Transformer, batch: Batch, loss_function: LossFunction) -> Sums:
    loss, sums = loss_function(model, _to(batch, model.device))
    if torch.isfinite(loss):  # else the caller raises: a nan must not reach the gradient
        loss.backward()
    return {"loss": loss.item()} | {key: float(value) for key, value in sums.items()}


@torch.no_grad()
def _logprobs(model: Transformer, batch: Batch, temperature: float) -> Tensor:
    return token_logprobs(model, batch.tokens_BT.to(model.device), temperature)[0].cpu()


def _receive(connection: Any, worker: Any) -> Any:
    """A worker's answer, or a RuntimeError that says why there is none."""
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        worker.join(5)
        return RuntimeError(
            f"a training worker died (exit code {worker.exitcode}); out of memory? lower max_tokens_per_batch"
        )
    return RuntimeError(answer) if isinstance(answer, str) else answer


def _worker(connection: Any, config: ModelConfig, weights: dict[str, Tensor], gradients: list[Tensor]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)
    model = Transformer.over(config, weights)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.requires_grad_(True)
        parameter.grad = gradient  # backward adds into the shared buffer
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if message is None:
                return
            batches, job = message
            try:
                if isinstance(job, Logprobs):
                    connection.send([_logprobs(model, batch, job.temperature).numpy() for batch in batches])
                else:
                    model.zero_grad(set_to_none=False)
                    connection.send(_total([_backward(model, batch, job) for batch in batches]))
            except Exception as error:  # reported: the parent stops the run with the reason
                connection.send(f"a training worker failed: {type(error).__name__}: {error}")
