"""The critic of PPO: a linear value head on the policy's own hidden states, and generalised advantage estimation.

    preset = "ppo"                              advantage = "gae"; the loss is the one that all presets share

    V_t     what is still to come before token t, from the state that predicts it: one linear head
    r_t     - kl * k1 of token t, where the KL counts in the reward; the last sampled token gets all the rest
    A_t     sum over l of (0.95)^l * (r_{t+l} + V_{t+l+1} - V_{t+l})                     (arXiv:1506.02438)

The head is fitted, not trained by steps: least squares with a small penalty, over this step's tokens and those of
earlier steps, which count less and less (the baseline of arXiv:1604.06778). Its targets are the rewards that really
came, lambda = 1, whatever lambda the advantages have: with their own lambda a critic that knows nothing would be asked
for its own word (arXiv:2503.01491). States of a language model are far from independent numbers of one size; step by
step a head learns their level in tens of steps and no more (docs/rlhf.md has the figures). V of a step is from the head
of the steps before, never fitted on the rollouts it judges. At first there is none: for `warmup_steps` the policy
stands still. The head reads the trunk and does not pull it.

Tokens that a budget forced are nobody's decision: the recursion goes over sampled tokens only. Nothing is discounted,
so V is in units of the reward. Advantages are centred over all tokens of a step, and divided by their spread if that is
above `min_spread`.

Left out: a network of its own for the critic, several passes over the same rollouts. TRL has had no PPO since its
version 1.13, so the oracle of the tests is the sum that the paper writes. Shapes: D width, M trained tokens.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import check, setting
from ponder.train.replica import HiddenReading
from ponder.types import Completion

Floats = NDArray[np.float64]
_KEPT = 0.6  # of what earlier steps say, a step: the policy moves, and with it its states
_PENALTY = 100.0  # tokens' worth of 0 for every weight, in units of its state's own spread; the level is free


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """How the value of a token is estimated, and rewards are spread over tokens by it (GAE, arXiv:1506.02438)."""

    lam: float = setting(
        0.95, "GAE's lambda: 1 = what really came, 0 = one step and the critic's word", least=0, most=1,
        also="gae_lambda lambd",
    )  # fmt: skip
    warmup_steps: int = setting(
        1, "steps in which the critic learns alone", least=0, also="critic_warmup value_warmup_steps"
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class CriticReading(HiddenReading):
    """Of a batch with returns: V of every token, and all that a fit needs to know of them."""

    head: NDArray[np.float32]  # (D + 1,): weights and level

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Any) -> Tensor:
        """(B * T + (D + 1) * (D + 2),) float64: V before every trained token, 0 elsewhere; then the sum over trained
        tokens of x [x, return], where x is the state with a 1 appended."""
        mask = batch.mask_BT
        states_MD = hidden_ND.index_select(0, batch.predictor_BT[mask]).double()
        x = torch.cat([states_MD, torch.ones_like(states_MD[:, :1])], 1)
        values_M = x @ torch.from_numpy(self.head).to(x)
        moments = x.T @ torch.cat([x, batch.returns_BT[mask].to(x)[:, None]], 1)
        values_BT = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_scatter(mask, values_M)
        return torch.cat([values_BT.flatten(), moments.flatten()])


class Critic:
    """A head that is fitted on what it has seen. Its `state` is JSON and belongs to an exact resume."""

    def __init__(self, width: int) -> None:
        self._moments = np.zeros((width + 1, width + 2))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the moments of a step."""
        return self._moments.shape

    def reading(self) -> CriticReading:
        """What reads V with the present head; what is learned afterwards does not change it."""
        return CriticReading(self.head().astype(np.float32))

    def head(self) -> Floats:
        """Weights and level (D + 1,); 0 before anything was learned."""
        moments = self._moments
        count, head = moments[-1, -2], np.zeros(len(moments))
        if not count:
            return head
        mean, level = moments[-1, :-2] / count, moments[-1, -1] / count
        spread = moments[:-1, :-2] / count - np.outer(mean, mean)
        along = moments[:-1, -1] / count - mean * level
        own = np.maximum(spread.diagonal(), 1e-6 * (mean**2 + 1e-6))  # a state that never changes gets no weight
        head[:-1] = np.linalg.solve(spread + np.diag(own * _PENALTY / count), along)
        head[-1] = level - mean @ head[:-1]
        return head

    def learn(self, moments: Floats) -> None:
        """moments: of a step, see `CriticReading.values`."""
        self._moments = _KEPT * self._moments + moments
        self._mirror()

    def state(self) -> str:
        """The moments, which are symmetric but for their last column."""
        rows, columns = np.triu_indices(len(self._moments), m=self._moments.shape[1])
        return base64.b64encode(self._moments[rows, columns].tobytes()).decode()

    def restore(self, state: str) -> None:
        """Take back what `state` gave, in place. ValueError where it is of a policy of another width."""
        rows, columns = np.triu_indices(len(self._moments), m=self._moments.shape[1])
        known = np.frombuffer(base64.b64decode(state))
        if len(known) != len(rows):
            raise ValueError(f"the saved critic has {len(known)} numbers, where this policy's needs {len(rows)}")
        self._moments[rows, columns] = known
        self._mirror()

    def _mirror(self) -> None:
        """Symmetric to the last bit, so that half of it is all of it."""
        square = self._moments[:, :-1]
        square[:] = np.triu(square) + np.triu(square, 1).T


def critic_metrics(values_M: Floats, returns_M: Floats) -> dict[str, float]:
    """critic/error: root mean square of V - return. critic/explained: the share of the returns' variance that V had
    before it learned from them; below 0, a constant would have said more."""
    if not len(returns_M):
        return {}
    error, variance = float(((values_M - returns_M) ** 2).mean()), float(returns_M.var())
    found = {"critic/error": math.sqrt(error), "critic/return": float(returns_M.mean())}
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


def gae(rewards_T: Floats, values_T: Floats, sampled: Sequence[bool], lam: float) -> Floats:
    """Advantages (T,), 0 where nothing was sampled. The value of what is over is 0."""
    advantages = np.zeros(len(rewards_T))
    later = value_after = 0.0
    for t in reversed(np.flatnonzero(sampled)):
        later = rewards_T[t] + value_after - values_T[t] + lam * later
        advantages[t], value_after = later, values_T[t]
    return advantages


def to_come(rewards_T: Floats, sampled: Sequence[bool]) -> Floats:
    """Returns (T,): the rewards of a sampled token and of all after it."""
    return gae(rewards_T, np.zeros(len(rewards_T)), sampled, 1.0)


def centred(advantages: Sequence[Floats], sampled: Sequence[Sequence[bool]], min_spread: float) -> list[Floats]:
    """Minus the mean over all sampled tokens, over their standard deviation where it is above the floor."""
    masks = [np.asarray(mask, dtype=bool) for mask in sampled]
    every = np.concatenate([values[mask] for values, mask in zip(advantages, masks, strict=True)] or [np.zeros(0)])
    if not len(every):
        return list(advantages)
    mean, spread = every.mean(), every.std()
    scale = spread + 1e-8 if spread > min_spread else 1.0
    return [np.where(mask, (values - mean) / scale, 0.0) for values, mask in zip(advantages, masks, strict=True)]
