"""Which token of which rollout gets how much credit: the advantages of a step, and what the critic learns from it.

    advantage = "grpo"     one number a rollout, from the rewards of its group        (advantages.py)
    advantage = "gae"      one number a token, from a critic                          (critic.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ponder.train.advantages import advantages
from ponder.train.batches import from_completion
from ponder.train.critic import ValueLoss, centred, gae, token_rewards
from ponder.train.kl import Floats, Told, ask, gaps, of
from ponder.train.recipe import RLConfig
from ponder.types import Group, Learner


@dataclass(frozen=True)
class Credit:
    values: Sequence[Sequence[Floats]]  # of every rollout of every group: (), or (T,)
    returns: Told = field(default_factory=dict)  # of every sequence; empty without a critic


def credit(groups: Sequence[Group], told: Told, learner: Learner, config: RLConfig) -> Credit:
    """told: the reference's log-probabilities, where the KL counts in the reward; empty otherwise."""
    if not config.has_critic:
        return Credit(advantages(config.advantage, groups))
    examples = [
        from_completion(rollout.completion, advantage=0.0) for group in groups for rollout in group.rollouts
    ]
    said = ask(examples, lambda batches: learner.values(batches, ValueLoss()), config)
    beta = config.loss.kl if config.loss.kl_in == "reward" else 0.0
    found, returns = [], {}
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    for rollout, example in zip(rollouts, examples, strict=True):
        # the reward has paid for the KL already (kl.measured); here each token pays for its own
        kl_T = -beta * gaps(example, told) if beta else None
        own = rollout.reward - rollout.verdict.parts.get("kl", 0.0) if beta else rollout.reward
        rewards_T = token_rewards(rollout.completion, own, kl_T)
        values_T = said.get(of(example), np.zeros(len(rewards_T)))
        advantages_T, returns[of(example)] = gae(rewards_T, values_T, example.trained, config.critic.lam)
        found.append(advantages_T)
    flat = iter(centred(found, [example.trained for example in examples], config.min_spread))
    return Credit([[next(flat) for _ in group.rollouts] for group in groups], returns)
