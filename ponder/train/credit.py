"""Credit assignment: the advantages of a step, a number a rollout or a token, and what a critic learns from it.

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
from ponder.train.batches import Example, from_completion, micro_batches
from ponder.train.critic import Critic, centred, critic_metrics, gae, to_come, token_rewards
from ponder.train.kl import Floats, TokenValues, gaps, with_part
from ponder.train.recipe import RLConfig
from ponder.types import Group, Learner


@dataclass(frozen=True)
class Credit:
    """The advantages of a step, group by group and rollout by rollout."""

    values: Sequence[Sequence[Floats]]  # of every rollout of every group: (), or (T,)
    metrics: dict[str, float] = field(default_factory=dict)  # of the critic, where there is one


def credit(
    groups: Sequence[Group], ref_logprobs: TokenValues, learner: Learner, config: RLConfig, critic: Critic | None = None
) -> Credit:
    """ref_logprobs: used where the KL counts in the reward; empty without a reference. critic: of a recipe
    that has one; it learns from this step after it has judged it."""
    if critic is None:
        found = advantages(config.advantage, groups)
        return Credit(targeted(groups, found, config.advantage) if config.reward.targeted else found)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    beta = config.loss.kl if config.loss.kl_in == "reward" else 0.0
    examples, rewards = [], []
    for rollout in rollouts:
        example = from_completion(rollout.completion, advantage=0.0)
        # the reward has paid for the KL already (kl.measured); here each token pays for its own
        kl_T = -beta * gaps(example, ref_logprobs) if beta else None
        own = rollout.reward - rollout.verdict.parts.get("kl", 0.0) if beta else rollout.reward
        rewards.append(token_rewards(rollout.completion, own, kl_T))
        examples.append(replace(example, returns=tuple(to_come(rewards[-1], example.trained).tolist())))
    values = judged(examples, learner, config, critic)
    due = [
        gae(rewards_T, values_T, example.trained, config.critic.lam)
        for rewards_T, values_T, example in zip(rewards, values, examples, strict=True)
    ]
    flat = iter(centred(due, [example.trained for example in examples], config.min_spread))
    masks = [np.asarray(example.trained, dtype=bool) for example in examples]
    predicted = [values_T[mask] for values_T, mask in zip(values, masks, strict=True)]
    returned = [np.asarray(example.returns)[mask] for example, mask in zip(examples, masks, strict=True)]
    metrics = critic_metrics(np.concatenate(predicted), np.concatenate(returned)) if examples else {}
    return Credit([[next(flat) for _ in group.rollouts] for group in groups], metrics)


def judged(examples: Sequence[Example], learner: Learner, config: RLConfig, critic: Critic) -> list[Floats]:
    """V (T,) of every example, 0 where nothing was sampled, in one pass; then the critic learns from their returns."""
    kept = [i for i, example in enumerate(examples) if example.num_trained]
    found = [np.zeros(len(example.token_ids)) for example in examples]
    if not kept:
        return found
    batches = micro_batches(
        [examples[i] for i in kept], max_tokens=config.max_tokens_per_batch, num_shares=learner.num_shares
    )
    moments = np.zeros(critic.shape)
    for batch, computed in zip(batches, learner.values(batches, critic.reading()), strict=True):
        values_BT, own = np.split(computed.double().numpy(), [batch.mask_BT.numel()])
        moments += own.reshape(critic.shape)
        for index, values_T in zip(batch.indices, values_BT.reshape(batch.mask_BT.shape), strict=True):
            found[kept[index]] = values_T[: len(found[kept[index]])]
    critic.learn(moments)
    return found


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
