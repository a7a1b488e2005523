"""Policy losses: pure functions of log-probabilities, advantages and a mask.

One formula with four choices; the presets of `train/presets.py` differ by these values and nothing else.

    ratio   "token"     exp(logprob - old)                              PPO (arXiv:1707.06347), GRPO, DAPO
            "sequence"  exp(mean over the completion of the same)       GSPO (arXiv:2507.18071)
    clip    "ppo"       min(ratio * A, clip(ratio, 1-low, 1+high) * A)  clip-higher: high > low (DAPO, arXiv:2503.14476)
            "cispo"     stop_gradient(min(ratio, 1+high)) * A * logprob (MiniMax-M1, arXiv:2506.13585)
    average "token"     sum over tokens / tokens of the whole batch     DAPO
            "sequence"  mean over a completion, mean over completions   GRPO
            "constant"  sum over tokens / (completions * a length)      Dr. GRPO
    kl      0 or beta   + beta * k3(reference), in the loss             Schulman's estimator
                        - beta * k1(reference) a token, in the reward   the gradient of the KL itself (train/kl.py)
    mismatch cap        x min(exp(trainer - sampler), cap), constant    truncated importance sampling

The loss of a batch is a sum of per-token terms with fixed weights that the whole batch decides (`token_weights`), so it
does not depend on how the batch is padded or cut into micro-batches.

Shapes: B completions, T token positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ponder.config import check, lookup, setting


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The four choices of the policy loss (see the table above), and their bounds."""

    ratio: Literal["token", "sequence"] = setting("token", "of probabilities", also="importance_sampling_level")
    clip: str = setting("ppo", "what is bounded: the update (ppo), its weight (cispo); or your own, module:attr")
    clip_low: float = setting(
        0.2, "the ratio may fall by this", least=0, below=1, also="epsilon cliprange clip_ratio clip_ratio_low"
    )
    clip_high: float = setting(
        0.2, "and rise by this", least=0, also="epsilon epsilon_high cliprange clip_ratio clip_ratio_high"
    )
    average: Literal["token", "sequence", "constant"] = setting(
        "sequence", "over tokens, completions, or a constant length", also="loss_type loss_agg_mode"
    )
    kl: float = setting(
        0.0, "weight of the KL to the reference; 0 needs none", least=0, also="beta kl_coef kl_loss_coef init_kl_coef"
    )
    kl_in: Literal["loss", "reward"] = setting("loss", "where the KL counts: k3 in the loss, k1 in the reward")
    mismatch_cap: float = setting(2.0, "of exp(trainer - sampler) a token; 0 = no correction", least=0)

    def __post_init__(self) -> None:
        check(self)
        lookup(OBJECTIVES, self.clip, what="objective (loss.clip)")


# (ratio_BT, advantages, logprobs_BT, config) -> what is maximised of each token, and which tokens a bound cut.
# ratio_BT is now / old; logprobs_BT are 0 where nothing is trained. Gradients flow through both.
Objective = Callable[[Tensor, Tensor, Tensor, LossConfig], tuple[Tensor, Tensor]]


def ppo(ratio_BT: Tensor, A: Tensor, logprobs_BT: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The update is bounded: no gain from moving the ratio further than the clip (arXiv:1707.06347, eq. 7)."""
    bounded = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    clipped_BT = ((ratio_BT < 1 - config.clip_low) & (A < 0)) | ((ratio_BT > 1 + config.clip_high) & (A > 0))
    return torch.minimum(ratio_BT * A, bounded * A), clipped_BT


def cispo(ratio_BT: Tensor, A: Tensor, logprobs_BT: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The weight is bounded: every token keeps a gradient (arXiv:2506.13585, eq. 4)."""
    coefficient = ratio_BT.detach().clamp(max=1 + config.clip_high)
    return coefficient * A * logprobs_BT, ratio_BT > 1 + config.clip_high


OBJECTIVES: dict[str, Objective] = {"ppo": ppo, "cispo": cispo}


def token_weights(num_tokens: Sequence[int], config: LossConfig, *, max_tokens: int) -> list[float]:
    """The weight of each trained token of each completion, given the trained tokens of *all* completions of the batch.

    max_tokens: the constant length of Dr. GRPO. A completion without trained tokens still counts in the averages
    over completions.
    """
    total, size = sum(num_tokens), len(num_tokens)
    if config.average == "token":
        return [1 / max(total, 1)] * size
    if config.average == "constant":
        return [1 / (max(size, 1) * max_tokens)] * size
    return [1 / (size * max(count, 1)) for count in num_tokens]


def policy(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    weights_B: Tensor,
    config: LossConfig,
    *,
    sampler_logprobs_BT: Tensor | None = None,
    ref_logprobs_BT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-> loss (scalar), and sums over trained tokens for the metrics (divide by "tokens").

    old: the policy before the first update on this batch. sampler: what the engine recorded; None = no correction.
    """
    mask = mask_BT.to(logprobs_BT.dtype)
    # masked positions may hold anything: 0 before exp, so that no inf * 0 = nan enters a gradient
    A_BT = torch.where(mask_BT, advantages_BT, 0.0)
    log_ratio_BT = torch.where(mask_BT, logprobs_BT - old_logprobs_BT, 0.0)
    if config.ratio == "sequence":
        mean_B1 = log_ratio_BT.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        # GSPO-token: the value of the sequence ratio, the gradient through each token's own log-probability
        own = torch.where(mask_BT, logprobs_BT - logprobs_BT.detach(), 0.0)
        log_ratio_BT = mean_B1.detach() + own
    ratio_BT = log_ratio_BT.exp()
    objective: Objective = lookup(OBJECTIVES, config.clip, what="objective (loss.clip)")
    objective_BT, clipped_BT = objective(ratio_BT, A_BT, torch.where(mask_BT, logprobs_BT, 0.0), config)
    loss_BT = -objective_BT
    sums: dict[str, Tensor] = {}
    if sampler_logprobs_BT is not None:
        mismatch_BT = torch.where(mask_BT, old_logprobs_BT - sampler_logprobs_BT, 0.0).detach()
        if config.mismatch_cap:
            loss_BT = loss_BT * mismatch_BT.exp().clamp(max=config.mismatch_cap)
        sums["mismatch_kl"] = (mask * (mismatch_BT.exp() - 1 - mismatch_BT)).sum()
        sums["mismatch_max"] = mismatch_BT.abs().max()
    if config.kl and config.kl_in == "loss":
        if ref_logprobs_BT is None:
            raise ValueError(f"kl={config.kl} needs ref_logprobs; set kl=0 to train without a reference")
        gap = torch.where(mask_BT, ref_logprobs_BT - logprobs_BT, 0.0)
        kl_BT = gap.exp() - gap - 1
        loss_BT = loss_BT + config.kl * kl_BT
        sums["ref_kl"] = (mask * kl_BT.detach()).sum()
    loss = (loss_BT * mask * weights_B[:, None]).sum()
    with torch.no_grad():
        sums["tokens"] = mask.sum()
        sums["clipped"] = (mask * clipped_BT).sum()
        sums["ratio"] = (mask * ratio_BT).sum()
        sums["old_kl"] = (mask * (ratio_BT - 1 - log_ratio_BT)).sum()
    return loss, sums


def cross_entropy(logprobs_BT: Tensor, mask_BT: Tensor, weights_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Supervised fine-tuning: minus the log-probability of the trained tokens."""
    picked_BT = torch.where(mask_BT, logprobs_BT, 0.0)
    loss = -(picked_BT * weights_B[:, None]).sum()
    return loss, {"tokens": mask_BT.sum().to(logprobs_BT.dtype), "nll": -picked_BT.detach().sum()}
