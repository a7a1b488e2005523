"""Which token of which rollout gets how much credit: the advantages of a step, and what the critic learns from it.

    advantage = "grpo"     one number a rollout, from the rewards of its group        (advantages.py)
    advantage = "gae"      one number a token, from a critic                          (critic.py)

With `reward.targeted` the preference, which reads answers, trains answers only: reasoning tokens get the advantage of
the reward without it. What the reasoning says is then not pressed for how the answer is liked (directly: weights are
shared; arXiv:2511.11584).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ponder.train.advantages import advantages
from ponder.train.batches import from_completion
from ponder.train.critic import ValueLoss, centred, gae, token_rewards
from ponder.train.kl import Floats, Told, ask, gaps, of, with_part
from ponder.train.recipe import RLConfig
from ponder.types import Group, Learner


@dataclass(frozen=True)
class Credit:
    values: Sequence[Sequence[Floats]]  # of every rollout of every group: (), or (T,)
    returns: Told = field(default_factory=dict)  # of every sequence; empty without a critic


def credit(groups: Sequence[Group], told: Told, learner: Learner, config: RLConfig) -> Credit:
    """told: the reference's log-probabilities, where the KL counts in the reward; empty otherwise."""
    if not config.has_critic:
        found = advantages(config.advantage, groups)
        return Credit(targeted(groups, found, config.advantage) if config.reward.targeted else found)
    examples = [
        from_completion(rollout.completion, advantage=0.0) for group in groups for rollout in group.rollouts
    ]
    said = ask(examples, lambda batches: learner.values(batches, ValueLoss()), config)
    beta = config.loss.kl if config.loss.kl_in == "reward" else 0.0
    due, returns = [], {}
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    for rollout, example in zip(rollouts, examples, strict=True):
        # the reward has paid for the KL already (kl.measured); here each token pays for its own
        kl_T = -beta * gaps(example, told) if beta else None
        own = rollout.reward - rollout.verdict.parts.get("kl", 0.0) if beta else rollout.reward
        rewards_T = token_rewards(rollout.completion, own, kl_T)
        values_T = said.get(of(example), np.zeros(len(rewards_T)))
        advantages_T, returns[of(example)] = gae(rewards_T, values_T, example.trained, config.critic.lam)
        due.append(advantages_T)
    flat = iter(centred(due, [example.trained for example in examples], config.min_spread))
    return Credit([[next(flat) for _ in group.rollouts] for group in groups], returns)


def targeted(groups: Sequence[Group], whole: Sequence[Sequence[Floats]], name: str) -> list[list[Floats]]:
    """whole: advantages of the whole reward, which the answers keep; reasoning and its mark get those without the
    preference."""
    bare = []
    for group in groups:
        liked = [rollout.verdict.parts.get("preference", 0.0) for rollout in group.rollouts]
        rest = [with_part(r, "preference", -x) for r, x in zip(group.rollouts, liked, strict=True)]
        bare.append(replace(group, rollouts=tuple(rest)))
    found = []
    for group, full, other in zip(groups, whole, advantages(name, bare), strict=True):
        answers = [np.arange(len(r.completion.token_ids)) > r.completion.num_reasoning_tokens for r in group.rollouts]
        found.append([np.where(is_answer, a, b) for is_answer, a, b in zip(answers, full, other, strict=True)])
    return found
