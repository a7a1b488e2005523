"""The scorers that are fitted rather than trained: a probe over hidden states, and a regression over features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ponder.models import hub
from ponder.scorers.base import check_policy
from ponder.scorers.calibration import log_loss
from ponder.scorers.features import FEATURES, FeatureScorer, features
from ponder.scorers.files import load_scorer
from ponder.scorers.logistic import fit
from ponder.scorers.outcome import expit
from ponder.scorers.packing import Pack, packs
from ponder.scorers.probe import Probe, states
from ponder.train.distributed import HiddenLoss, Trainer, pick_device, resolve_workers
from ponder.train.scorer_rollouts import Drawn

if TYPE_CHECKING:
    from ponder.train.scorer import ScorerConfig

Floats = NDArray[np.float64]
Fitted = tuple[list[Floats], dict[str, Any]]  # logits of every held-out sample, and facts for the result
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def fit_features(
    config: ScorerConfig, folder: Path, start: Path, policy: str, train: Sequence[Drawn], held: Sequence[Drawn]
) -> Fitted:
    """Each problem weighs the same, however many samples it has left."""
    outcome = load_scorer(config.joined) if config.joined else None
    if outcome is not None:
        check_policy(outcome, policy)
    rows = [_features(part, outcome) for part in (train, held)]
    x, y = np.concatenate(rows[0]), np.concatenate([item.correct for item in train])
    weight = np.concatenate([np.full(len(item.correct), 1 / len(item.correct)) for item in train])
    model = fit(x, y, l2=1.0, weight_N=weight * len(y) / weight.sum())
    place = str(Path(config.joined).resolve()) if outcome else ""
    name = config.name or config.kind
    FeatureScorer(model, name=name, policy=policy, outcome=outcome, outcome_folder=place).save(folder)
    weights = dict(zip([*FEATURES, "outcome"], model.weights.tolist(), strict=False))
    return [model.logits(part) for part in rows[1]], {"weights": weights}


def _features(part: Sequence[Drawn], outcome: Any) -> list[Floats]:
    said = outcome.score([item.family for item in part]) if outcome else [None] * len(part)
    return [features(item.family, p) for item, p in zip(part, said, strict=True)]


def fit_probe(
    config: ScorerConfig, folder: Path, start: Path, policy: str, train: Sequence[Drawn], held: Sequence[Drawn]
) -> Fitted:
    """The penalty, or the moment to stop, is the one with the best held-out loss."""
    x, other = _states(config, start, [item.family for item in [*train, *held]], len(train))
    y, truth = (np.concatenate([item.correct for item in part]) for part in (train, held))
    head = _network(config, x, y, other, truth) if config.probe_width else _regression(x, y, other, truth)
    probe = Probe(head, name=config.name or config.kind, policy=policy, model=str(start.resolve()))
    probe.save(folder)
    p = np.clip(probe.judge(other), 1e-12, 1 - 1e-12)
    ends = np.cumsum([len(item.correct) for item in held])[:-1]
    return [np.log(part / (1 - part)) for part in np.split(p, ends)], {}


class _States(HiddenLoss):
    """No loss: the hidden states that a probe reads, by the trainer's workers."""

    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Pack) -> Tensor:
        return states(hidden_ND, *(torch.from_numpy(x).to(hidden_ND.device) for x in batch.ends()))


def _states(
    config: ScorerConfig, start: Path, families: Sequence[Any], num_train: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B F) of the training samples and of the held-out ones."""
    distinct = [family.unique() for family in families]
    parts = list(packs([family for family, _ in distinct], max_tokens=config.max_tokens_per_batch))
    model, _ = hub.load(start, dtype=None, device=pick_device())
    with Trainer(model, num_workers=resolve_workers(config.num_workers)) as trainer:
        rows = torch.cat(trainer.values(parts, _States())).numpy()
    ends = np.cumsum([len(family) for family, _ in distinct])[:-1]
    found = [part[which] for part, (_, which) in zip(np.split(rows, ends), distinct, strict=True)]
    return np.concatenate(found[:num_train]), np.concatenate(found[num_train:])


def _regression(x: NDArray[np.float32], y: Floats, other: NDArray[np.float32], truth: Floats) -> dict[str, Tensor]:
    models = [fit(x.astype(np.float64), y, l2=penalty) for penalty in PENALTIES]
    best = min(models, key=lambda model: log_loss(truth, expit(model.logits(other.astype(np.float64)))))
    named = {"mean": best.mean, "scale": best.scale, "weight": best.weights, "bias": np.array([best.bias])}
    return {name: torch.from_numpy(np.asarray(value)).float() for name, value in named.items()}


def _network(
    config: ScorerConfig, x: NDArray[np.float32], y: Floats, other: NDArray[np.float32], truth: Floats
) -> dict[str, Tensor]:
    """One hidden layer, Adam on random batches, stopped at the best of its looks at the held-out loss."""
    inputs, targets, exam = torch.from_numpy(x), torch.from_numpy(y).float(), torch.from_numpy(other)
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
            held = log_loss(truth, expit(logits(exam).double().numpy()))
        waited += 1
        if held < best - 1e-4:
            best, kept, waited = held, [leaf.detach().clone() for leaf in leaves], 0
    names = ("inner.weight", "inner.bias", "weight", "bias")
    return {"mean": mean, "scale": scale, **dict(zip(names, kept, strict=True))}


FITS: dict[str, Callable[..., Fitted]] = {"features": fit_features, "probe": fit_probe}
