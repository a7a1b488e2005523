"""Batches and losses as the Tinker API takes them.

Which loss of the service has the gradient of a recipe's loss (`built_in`, which is None in the last row):

    first update (old = now)     cispo, ratio bounded to [0, mismatch_cap]: truncated importance sampling is just that
    later ones, and max_lag > 0  ppo with [1 - clip_low, 1 + clip_high]; cispo with [0, 1 + clip_high]
    ratio = "sequence" there, a KL in the loss, an objective of one's own: custom, one forward pass more
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.train.batches import Batch
from ponder.train.losses import OBJECTIVES


class TrainedRow(NamedTuple):
    """One sequence of a batch: its prompt, and its completion up to the last token that is trained."""

    prompt: list[int]
    own: list[int]


def rows_of(batch: Batch) -> list[TrainedRow]:
    """The rows of a batch (B, T) as token ids: the prompt, then what follows up to the last trained token."""
    rows = []
    for b, trained_T in enumerate(batch.mask_BT):
        n = int(trained_T.nonzero().max()) + 1 if trained_T.any() else 1
        last = int(batch.predictor_BT[b, 0])
        start = next(segment.start for segment in batch.segments if segment.start <= last < segment.end)
        rows.append(TrainedRow(batch.tokens_N[start : last + 1].tolist(), batch.target_BT[b, :n].tolist()))
    return rows


def in_batch(batch: Batch, rows: Sequence[TrainedRow], values: Sequence[Tensor]) -> Tensor:
    """(B T), from a number a position of each row's input; gradients flow back."""
    T = batch.mask_BT.shape[1]
    own = [F.pad(x[len(row.prompt) - 1 :], (0, T - len(row.own))) for row, x in zip(rows, values, strict=True)]
    return torch.where(batch.mask_BT, torch.stack(own), 0.0)


class ServiceLoss(NamedTuple):
    """A loss of the service."""

    name: str
    settings: dict[str, float]
    inputs: dict[str, Tensor]  # (B T) each


def built_in(loss_function: Any, batch: Batch) -> ServiceLoss | None:
    """The service's loss with the gradient of `PolicyLoss`; None where it has none.

    In the first update the ratio to the policy of the moment is 1, so nothing is clipped and the gradient is
    min(now / sampler, mismatch_cap) * A * grad logprob, whatever the objective: cispo's, with the ratio to the sampler.
    """
    config = loss_function.config
    if config.clip not in OBJECTIVES or (config.kl and config.kl_in == "loss"):
        return None
    A_BT, cap = batch.advantages_BT * batch.weights_B[:, None], config.mismatch_cap
    old_BT, low, high = batch.old_logprobs_BT, 0.0, cap
    if old_BT is None:
        name, old_BT = "cispo", batch.sampler_logprobs_BT
        low, high = (0.0, cap) if cap else (1.0, 1.0)
    elif config.ratio == "sequence":
        return None
    else:
        name, low, high = config.clip, 1 - config.clip_low if config.clip == "ppo" else 0.0, 1 + config.clip_high
        if cap:
            A_BT = A_BT * (old_BT - batch.sampler_logprobs_BT).exp().clamp(max=cap)
    settings = {"clip_low_threshold": low, "clip_high_threshold": high}
    return ServiceLoss(name, settings, {"logprobs": old_BT, "advantages": A_BT})
