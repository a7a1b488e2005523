"""The losses of forward_backward: sums over the tokens of all data, never means (a client divides if it wants to).

    cross_entropy        -weights * logprob
    importance_sampling  -A * exp(logprob - sampled)                              the policy gradient, corrected
    ppo                  -min(ratio * A, clip(ratio, low, high) * A)              arXiv:1707.06347, eq. 7
    cispo                -stop_gradient(clip(ratio, low, high)) * A * logprob     arXiv:2506.13585, eq. 4

A position whose weight or advantage is 0 has neither loss nor gradient. Shapes: B data, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.train.batches import Batch

# (logprobs_BT, ratio_BT, A_BT, settings) -> loss of each position; A: weights or advantages, ratio: now / sampled
Term = Callable[[Tensor, Tensor, Tensor, Mapping[str, float]], Tensor]


def cross_entropy(logprobs_BT: Tensor, ratio_BT: Tensor, A_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    return -A_BT * logprobs_BT


def importance_sampling(logprobs_BT: Tensor, ratio_BT: Tensor, A_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    return -A_BT * ratio_BT


def ppo(logprobs_BT: Tensor, ratio_BT: Tensor, A_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    return -torch.minimum(ratio_BT * A_BT, _clipped(ratio_BT, settings) * A_BT)


def cispo(logprobs_BT: Tensor, ratio_BT: Tensor, A_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    return -_clipped(ratio_BT, settings).detach() * A_BT * logprobs_BT


def _clipped(ratio_BT: Tensor, settings: Mapping[str, float]) -> Tensor:
    return ratio_BT.clamp(settings["clip_low_threshold"], settings["clip_high_threshold"])


class Spec(NamedTuple):
    """A loss of the API: its term a position, and what a datum must bring for it."""

    term: Term
    weight: str  # the input that scales each position
    settings: dict[str, float] = {}  # with their defaults

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a datum must hold."""
        return ("target_tokens", self.weight, *(("logprobs",) if self.weight == "advantages" else ()))


_CLIP = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
LOSSES: dict[str, Spec] = {
    "cross_entropy": Spec(cross_entropy, "weights"),
    "importance_sampling": Spec(importance_sampling, "advantages"),
    "ppo": Spec(ppo, "advantages", _CLIP),
    "cispo": Spec(cispo, "advantages", _CLIP),
}


@dataclass(frozen=True)
class WireLoss:
    """A loss of the table with its settings, as the trainer calls it. Batches hold the weights or advantages in
    `advantages_BT`, and what the sampler recorded in `sampler_logprobs_BT`."""

    needs_entropy: ClassVar[bool] = False

    name: str
    settings: Mapping[str, float]

    @property
    def temperature(self) -> float:
        """The loss is taken at temperature 1, whatever the samples were drawn at."""
        return 1.0

    def __call__(self, logprobs_BT: Tensor, entropy_BT: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        A_BT = batch.advantages_BT
        is_trained_BT = A_BT != 0
        # positions without a weight may hold anything: 0 before exp, so that no inf * 0 = nan enters a gradient
        ratio_BT = torch.where(is_trained_BT, logprobs_BT - batch.sampler_logprobs_BT, 0.0).exp()
        loss_BT = LOSSES[self.name].term(logprobs_BT, ratio_BT, A_BT, self.settings)
        return torch.where(is_trained_BT, loss_BT, 0.0).sum(), {}


def make_loss(name: str, settings: Mapping[str, float | str]) -> WireLoss:
    """ConfigError for a loss or a setting that there is not."""
    if name not in LOSSES:
        hint = "; with the cookbook's rl_loop: loss_fn=importance_sampling" if name == "stable_reinforce" else ""
        raise ConfigError(f"loss_fn {name!r} is not supported here; use one of {', '.join(LOSSES)}{hint}")
    known = LOSSES[name].settings
    for key, value in settings.items():
        if key not in known:
            may = f"use {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"loss_fn_config {key!r} is not known to {name}; {may}")
        if isinstance(value, str) or not 0 <= value < float("inf"):
            raise ConfigError(f"loss_fn_config {key}={value!r} must be a finite number, 0 or more")
    return WireLoss(name, {**known, **{key: float(value) for key, value in settings.items()}})
