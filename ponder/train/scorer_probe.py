"""kind = "probe": a small head over the sampler's own hidden states, a logistic regression or one hidden layer.

The engine keeps the states of what it draws, so they cost nothing. Samples of earlier checkpoints are read again by the
last one, whose probe it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import setting
from ponder.models import hub
from ponder.scorers.calibration import log_loss
from ponder.scorers.logistic import expit, fit
from ponder.scorers.packing import CompletionGroup, Pack, packs
from ponder.scorers.probe import Probe, completion_states
from ponder.train import scorer_examples
from ponder.train.distributed import Trainer, pick_device, resolve_workers
from ponder.train.replica import HiddenLoss
from ponder.train.scorer_examples import ScorerConfig, from_rollouts
from ponder.train.scorer_recipe import Cost, ScorerJob, Trained
from ponder.train.scorer_rollouts import Drawn, DrawPlan, policies

Floats = NDArray[np.float64]
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(ScorerConfig):
    probe_width: int = setting(0, "hidden units of its network; 0 = logistic regression", least=0)

    @property
    def plan(self) -> DrawPlan:
        """With hidden states."""
        return replace(super().plan, keep_hidden=True)


def train(job: ScorerJob[ProbeConfig, Drawn]) -> Trained:
    """The penalty, or the moment to stop, is the one with the best held-out loss."""
    config = job.config
    states = _states(config, job.start, [*job.train, *job.held])
    x, other = (np.concatenate(part) for part in (states[: len(job.train)], states[len(job.train) :]))
    y, truth = (np.concatenate([item.correct for item in part]) for part in (job.train, job.held))
    head = _network(config, x, y, other, truth) if config.probe_width else _regression(x, y, other, truth)
    probe = Probe(head, name=job.config.scorer_name, policy=job.policy, model=str(job.start.resolve()))
    probe.save(job.folder)
    p = np.clip(probe.probabilities(other), 1e-12, 1 - 1e-12)
    ends = np.cumsum([len(item.correct) for item in job.held])[:-1]
    return [np.log(part / (1 - part)) for part in np.split(p, ends)], {}


class _States(HiddenLoss):
    """No loss: the hidden states that a probe reads, by the trainer's workers."""

    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Pack) -> Tensor:
        return completion_states(hidden_ND, *(torch.from_numpy(x).to(hidden_ND.device) for x in batch.ends()))


def _states(config: ProbeConfig, start: Path, items: Sequence[Drawn]) -> list[NDArray[np.float32]]:
    """(B F) of each problem's samples: as the engine kept them, or read again."""
    missing = [[row for row in range(len(item.group)) if row not in item.hidden] for item in items]
    todo = [item.group.take(rows) for item, rows in zip(items, missing, strict=True) if rows]
    again = iter(_read(config, start, todo) if todo else ())
    found = []
    for item, rows in zip(items, missing, strict=True):
        read = dict(zip(rows, next(again), strict=True)) if rows else {}
        found.append(np.stack([(read if row in read else item.hidden)[row] for row in range(len(item.group))]))
    return found


def _read(config: ProbeConfig, start: Path, groups: Sequence[CompletionGroup]) -> list[NDArray[np.float32]]:
    """(B F) of each group, by the trainer's workers; equal completions are read once."""
    distinct = [group.unique() for group in groups]
    parts = list(packs([group for group, _ in distinct], max_tokens=config.max_tokens_per_batch))
    model, _ = hub.load(start, dtype=None, device=pick_device())
    with Trainer(model, num_workers=resolve_workers(config.num_workers)) as trainer:
        rows = torch.cat(trainer.values(parts, _States())).numpy()
    ends = np.cumsum([len(group) for group, _ in distinct])[:-1]
    return [part[inverse] for part, (_, inverse) in zip(np.split(rows, ends), distinct, strict=True)]


def _regression(x: NDArray[np.float32], y: Floats, other: NDArray[np.float32], truth: Floats) -> dict[str, Tensor]:
    models = [fit(x.astype(np.float64), y, l2=penalty) for penalty in PENALTIES]
    best = min(models, key=lambda model: log_loss(truth, expit(model.logits(other.astype(np.float64)))))
    named = {"mean": best.mean, "scale": best.scale, "weight": best.weights, "bias": np.array([best.bias])}
    return {name: torch.from_numpy(np.asarray(value)).float() for name, value in named.items()}


def _network(
    config: ProbeConfig, x: NDArray[np.float32], y: Floats, other: NDArray[np.float32], truth: Floats
) -> dict[str, Tensor]:
    """One hidden layer, Adam on random batches, stopped at the best of its looks at the held-out loss."""
    inputs, targets, held_out = torch.from_numpy(x), torch.from_numpy(y).float(), torch.from_numpy(other)
    mean, scale = inputs.mean(0), inputs.std(0).clamp(min=1e-6)
    generator = torch.Generator().manual_seed(config.seed)
    first = torch.randn(config.probe_width, x.shape[1], generator=generator) / x.shape[1] ** 0.5
    leaves = [first, torch.zeros(config.probe_width), torch.zeros(config.probe_width), torch.zeros(1)]
    for leaf in leaves:
        leaf.requires_grad_(True)
    optimizer = torch.optim.AdamW(leaves, lr=1e-3, weight_decay=1e-2)

    def logits(rows: Tensor) -> Tensor:
        return torch.relu((rows - mean) / scale @ leaves[0].T + leaves[1]) @ leaves[2] + leaves[3]

    best, kept, waited = float("inf"), [leaf.detach().clone() for leaf in leaves], 0
    while waited < config.patience:
        for _ in range(100):
            rows = torch.randint(len(inputs), (256,), generator=generator)
            loss = F.binary_cross_entropy_with_logits(logits(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            held = log_loss(truth, expit(logits(held_out).double().numpy()))
        waited += 1
        if held < best - 1e-4:
            best, kept, waited = held, [leaf.detach().clone() for leaf in leaves], 0
    names = ("inner.weight", "inner.bias", "weight", "bias")
    return {"mean": mean, "scale": scale, **dict(zip(names, kept, strict=True))}


def cost(config: ProbeConfig) -> Cost:
    """The engine keeps what it draws; of a run, the earlier checkpoints' half is read again."""
    return replace(scorer_examples.cost(config), read=0.5 if len(policies(config.model)) > 1 else 0.0)


RECIPE = from_rollouts(train, config=ProbeConfig, cost=cost)
