"""Proximal policy optimisation's other half: a critic on the policy's trunk, and advantages from what it says.

    preset = "ppo"                              advantage = "gae"; the loss is the one that all presets share

    V_t     what is still to come before token t, from the state that predicts it: one linear head, trained beside the
            policy in the same packed pass with the loss  weight / 2 * (V - return)^2,  which is not clipped
    r_t     - kl * k1 of token t, where the KL counts in the reward; the last sampled token gets all the rest
    A_t     sum over l of (0.95)^l * (r_{t+l} + V_{t+l+1} - V_{t+l}), and return_t = A_t + V_t     (arXiv:1506.02438)

Tokens that a budget forced are nobody's decision: the recursion goes over sampled tokens only. Nothing is discounted,
so V is in units of the reward. Advantages are centred over all tokens of a step, and divided by their spread if that is
above `min_spread`. The critic knows nothing at first: for `warmup_steps` it learns alone and the policy stands still.

Left out: a network of its own for the critic, value clipping, several passes over the same rollouts. TRL has had no
PPO since its version 1.13, so the oracle of the tests is the sum that the paper writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import check, setting
from ponder.train.distributed import HiddenLoss, Sums
from ponder.types import Completion

Floats = NDArray[np.float64]
WEIGHT, BIAS = "value.weight", "value.bias"


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    lam: float = setting(
        0.95, "GAE's lambda: 1 = what really came, 0 = one step and the critic's word", least=0, most=1,
        also="gae_lambda lambd",
    )  # fmt: skip
    weight: float = setting(0.1, "of the value loss", above=0, also="vf_coef value_loss_coef")
    lr: float = setting(1e-3, "step size of the head; the trunk has the policy's", above=0, most=1, also="critic_lr")
    warmup_steps: int = setting(
        10, "steps in which the critic learns alone", least=0, also="critic_warmup value_warmup_steps"
    )

    def __post_init__(self) -> None:
        check(self)


def new_value_head(width: int) -> dict[str, Tensor]:
    """It says 0 to everything."""
    return {WEIGHT: torch.zeros(width), BIAS: torch.zeros(1)}


@dataclass(frozen=True)
class ValueLoss(HiddenLoss):
    """weight / 2 * (V - return)^2, averaged as the policy's loss is."""

    weight: float = 1.0
    is_alone: bool = False  # the trunk stands still, and so does the policy

    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        mask, returns_BT = batch.mask_BT, batch.returns_BT
        values_M = _values(hidden_ND.detach() if self.is_alone else hidden_ND, head, batch)
        returns_M = returns_BT[mask]
        errors_M = (values_M - returns_M) ** 2
        weights_M = batch.weights_B[:, None].expand(mask.shape)[mask]
        sums = {
            "critic_errors": errors_M.detach().sum(), "critic_returns": returns_M.sum(),
            "critic_squares": (returns_M**2).sum(), "critic_tokens": mask.sum(),
        }  # fmt: skip
        return self.weight * 0.5 * (errors_M * weights_M).sum(), sums

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> Tensor:
        """V (B T) before every trained token, 0 elsewhere."""
        empty = torch.zeros(batch.mask_BT.shape, device=hidden_ND.device)
        return empty.masked_scatter(batch.mask_BT, _values(hidden_ND, head, batch))


def _values(hidden_ND: Tensor, head: Mapping[str, Tensor], batch: Any) -> Tensor:
    """(M,) of the trained tokens, from the states that predict them."""
    states_MD = hidden_ND.index_select(0, batch.predictor_BT[batch.mask_BT]).float()
    return states_MD @ head[WEIGHT] + head[BIAS]


def critic_metrics(total: Sums) -> dict[str, float]:
    """critic/error: root mean square of V - return. critic/explained: the share of the returns' variance that V had."""
    if not total.get("critic_tokens"):
        return {}
    count = total["critic_tokens"]
    mean, error = total["critic_returns"] / count, total["critic_errors"] / count
    variance = total["critic_squares"] / count - mean**2
    found = {"critic/error": math.sqrt(error), "critic/return": mean}
    return found | ({"critic/explained": 1 - error / variance} if variance > 1e-12 else {})


# ---- advantages ----------------------------------------------------------------------------------------------------


def token_rewards(completion: Completion, reward: float, kl_T: Floats | None = None) -> Floats:
    """The reward of every token: -kl_T (what each costs) and, on the last sampled one, `reward`.

    Their sum is the reward of the completion with its KL.
    """
    rewards = np.zeros(len(completion.token_ids)) if kl_T is None else -np.asarray(kl_T, dtype=np.float64)
    sampled = np.flatnonzero(completion.sampled)
    if len(sampled):
        rewards[sampled[-1]] += reward  # not one past the end mark: there is no value there
    return rewards


def gae(rewards_T: Floats, values_T: Floats, sampled: Sequence[bool], lam: float) -> tuple[Floats, Floats]:
    """(advantages, returns), each (T,), 0 where nothing was sampled. The value of what is over is 0."""
    advantages, returns = np.zeros(len(rewards_T)), np.zeros(len(rewards_T))
    later = value_after = 0.0
    for t in reversed(np.flatnonzero(sampled)):
        later = rewards_T[t] + value_after - values_T[t] + lam * later
        advantages[t], value_after = later, values_T[t]
        returns[t] = later + values_T[t]
    return advantages, returns


def centred(advantages: Sequence[Floats], sampled: Sequence[Sequence[bool]], min_spread: float) -> list[Floats]:
    """Minus the mean over all sampled tokens, over their standard deviation where it is above the floor."""
    masks = [np.asarray(mask, dtype=bool) for mask in sampled]
    every = np.concatenate([values[mask] for values, mask in zip(advantages, masks, strict=True)] or [np.zeros(0)])
    if not len(every):
        return list(advantages)
    mean, spread = every.mean(), every.std()
    scale = spread + 1e-8 if spread > min_spread else 1.0
    return [np.where(mask, (values - mean) / scale, 0.0) for values, mask in zip(advantages, masks, strict=True)]
