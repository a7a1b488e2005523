"""How far a policy has gone from its reference: in the reward or in the loss, always logged, and as a budget.

    loss.kl = 0.05      loss.kl_in = "reward"      reference = "first"      kl_budget = 20

Of a sampled token, with gap = ref_logprob - logprob of the policy that drew it, both at the sampling temperature:

    k1 = -gap                    its mean is the KL; single values may be negative, and are never cut off at 0
    k3 = exp(gap) - gap - 1      the same mean, never negative, less spread as long as the two are near

`kl/k1` and `kl/k3` are sums over a completion's tokens, averaged over all completions of a step, in nats, whenever
there is a reference, also with a weight of 0. They agree while all is well: k3 far above k1 means that a few tokens
are nearly impossible for the policy and likely for the reference.

In the reward a token costs beta * k1, which has the gradient of the KL. In the loss beta * k3 is differentiated as it
stands, which has not: it is GRPO's term (arXiv:2402.03300), and pulls less the further the policy has gone
(arXiv:2510.01555 compares both). Left out: controllers that move beta; a budget that stops is easier to defend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.models import hub
from ponder.rollouts.collect import Collected
from ponder.runs import Run
from ponder.train.batches import Example, from_groups, from_rollout, micro_batches
from ponder.train.recipe import RLConfig
from ponder.types import FrozenPolicy, Group, Learner, Rollout

Floats = NDArray[np.float64]
Sequences = tuple[tuple[int, ...], tuple[int, ...]]  # prompt and completion
TokenValues = Mapping[Sequences, Floats]  # one number per token id, 0 where it was not sampled


def open_reference(config: RLConfig, learner: Learner, run: Run) -> FrozenPolicy | None:
    """What the KL is measured from; None where nothing asks for it."""
    if not config.has_reference:
        return None
    if config.reference in ("", "first"):  # whatever `model` has become since
        return learner.reference(run.checkpoint_folder(0))
    found = learner.reference(hub.resolve(config.reference))
    known: Any = getattr(found, "config", None)
    if known is not None and known.vocab_size != learner.config.vocab_size:
        raise ConfigError(
            f"the reference {config.reference} knows {known.vocab_size} tokens, the policy {learner.config.vocab_size}:"
            " they must share a vocabulary; take a checkpoint of the same model, with its reasoning marks"
        )
    return found


def of(example: Example) -> Sequences:
    """The key of an example in `TokenValues`."""
    return example.prompt_ids, example.token_ids


def reference_logprobs(reference: FrozenPolicy, groups: Sequence[Group], config: RLConfig) -> TokenValues:
    """The reference's log-probabilities of everything in these groups that may be trained on."""
    zeros = [[0.0] * len(group.rollouts) for group in groups]
    examples = from_groups(groups, zeros, contrast=config.deliberation.contrast)
    batches = micro_batches(examples, max_tokens=config.max_tokens_per_batch) if examples else []
    found = {}
    for batch, logprobs_BT in zip(batches, reference.logprobs(batches, config.temperature), strict=True):
        for row, index in enumerate(batch.indices):
            example = examples[index]
            found[of(example)] = logprobs_BT[row, : len(example.token_ids)].double().numpy()
    return found


def gaps(example: Example, ref_logprobs: TokenValues) -> Floats:
    """ref_logprob - logprob of its sampled tokens, 0 elsewhere."""
    return np.where(example.trained, ref_logprobs[of(example)] - np.asarray(example.sampler_logprobs), 0.0)


def sums_of(rollout: Rollout, ref_logprobs: TokenValues) -> tuple[float, float]:
    """(k1, k3) of a rollout, over all that it drew and kept."""
    known = [gaps(e, ref_logprobs) for e in from_rollout(rollout, np.asarray(0.0)) if of(e) in ref_logprobs]
    gap = np.concatenate(known or [np.zeros(0)])
    return float(-gap.sum()), float((np.exp(gap) - gap - 1).sum())


def measured(rollouts: Collected, ref_logprobs: TokenValues, config: RLConfig) -> tuple[Collected, dict[str, float]]:
    """kl/k1 and kl/k3 of a step; its rollouts, which have paid for theirs where the KL counts in the reward."""
    found = [[sums_of(rollout, ref_logprobs) for rollout in group.rollouts] for group in rollouts.groups]
    every = [pair for pairs in found for pair in pairs]
    if not every:
        return rollouts, {}
    metrics = {"kl/k1": fmean(k1 for k1, _ in every), "kl/k3": fmean(k3 for _, k3 in every)}
    if config.loss.kl_in != "reward" or not config.loss.kl:
        return rollouts, metrics
    groups = []
    for group, pairs in zip(rollouts.groups, found, strict=True):
        paid = [with_part(r, "kl", -config.loss.kl * k1) for r, (k1, _) in zip(group.rollouts, pairs, strict=True)]
        groups.append(replace(group, rollouts=tuple(paid)))
    return replace(rollouts, groups=groups), metrics


def with_part(rollout: Rollout, name: str, value: float) -> Rollout:
    """With one term of the reward more."""
    verdict = replace(rollout.verdict, parts={**rollout.verdict.parts, name: value})
    return replace(rollout, verdict=verdict, reward=rollout.reward + value)
