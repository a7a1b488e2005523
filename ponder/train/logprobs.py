"""Log-probabilities of given tokens from hidden states, without a float32 copy of the logits.

A batch of 1,000 rows over 49,152 words is 200 MB of float32, several times over in a plain loss. Here its probabilities
are kept for backward in the weights' dtype, where all of them fit; else some rows at a time are computed, and
once more for backward. Where the head is frozen (adapters), forward already computes what backward needs, one vector a
row: d logprob / d hidden = (W[target] - p @ W) / temperature.

Shapes: M rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models.softmax import softmax_

BYTES_AT_ONCE = 2**27  # of logits: products of fewer rows than 200 with 150,000 words wait for memory
KEPT_BYTES = 2**30  # of probabilities that may wait for backward: 1,024 rows of 151,936 words in float32 are 620 MB


def token_logprobs(
    hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, temperature: float, *, with_entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy of its distribution (no gradient), (M,) each, float32.

    At the sampling temperature, so that trainer and sampler speak of the same distribution (trl#4159). The entropy
    costs PyTorch two more passes over the logits; without it there may be zeros.
    """
    return _TokenLogprobs.apply(hidden_MD, weight_VD, targets_M, temperature, with_entropy)


def with_gradient_of_rows(
    logprobs_M: Tensor, hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, temperature: float, *,
    ids: Sequence[int], rows_KD: Tensor,
) -> Tensor:  # fmt: skip
    """The same log-probabilities, with a gradient for the rows `ids` of a head that is frozen otherwise.

    d logprob / d row_k = (1 where k is the target, minus p_k) * hidden / temperature; p_k from the logits of the target
    and of k alone, as the logprob says what they are normalised by.
    """
    with torch.no_grad():
        wanted = torch.tensor(ids, device=weight_VD.device)
        logits_M = (hidden_MD * weight_VD[targets_M]).sum(-1).float() / temperature
        logits_MK = F.linear(hidden_MD, weight_VD[wanted]).float() / temperature
        probabilities = (logits_MK - (logits_M - logprobs_M)[:, None]).exp().clamp_(max=1.0)
        slopes_MK = (targets_M[:, None] == wanted).float() - probabilities
    own_MK = hidden_MD.detach().float() @ rows_KD.T / temperature
    return logprobs_M + (slopes_MK * (own_MK - own_MK.detach())).sum(-1)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        M, V = hidden.shape[0], weight.shape[0]
        logprobs, entropy = (torch.zeros(M, device=hidden.device) for _ in range(2))
        unit = torch.empty_like(hidden) if hidden.requires_grad and not weight.requires_grad else None
        keep = weight.requires_grad and M * V * weight.element_size() <= KEPT_BYTES
        kept = []
        for part in _parts(hidden, weight, keep):
            logits = F.linear(hidden[part], weight)
            of_targets = logits.gather(-1, targets[part, None])[:, 0].float() * (1 / temperature)
            normaliser, entropy[part] = softmax_(logits, temperature, with_entropy=with_entropy)
            logprobs[part] = of_targets - normaliser
            if unit is not None:
                unit[part] = (weight[targets[part]] - logits @ weight) * (1 / temperature)
            if keep:
                kept = [logits]
        ctx.temperature = temperature
        ctx.has_units = unit is not None
        ctx.mark_non_differentiable(entropy)
        if unit is not None:
            ctx.save_for_backward(unit)
        elif hidden.requires_grad or weight.requires_grad:
            ctx.save_for_backward(hidden, weight, targets, logprobs, *kept)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_M = grads[0]
        if ctx.has_units:
            (unit,) = ctx.saved_tensors
            return (unit * grad_M[:, None]).to(unit.dtype), None, None, None, None
        hidden, weight, targets, logprobs, *kept = ctx.saved_tensors
        dhidden, dweight = torch.empty_like(hidden), None
        # what a row's gradient is multiplied with goes to the narrow sides of its products, not over the vocabulary
        scale_M1 = (grad_M / -ctx.temperature)[:, None]
        missing_M = torch.expm1(logprobs).to(weight.dtype)  # probability of the target, minus 1
        for part in _parts(hidden, weight, bool(kept)):
            if kept:
                slopes = kept[0]
            else:
                slopes = F.linear(hidden[part], weight)
                softmax_(slopes, ctx.temperature, with_entropy=False)
            every = torch.arange(len(slopes), device=slopes.device)  # `scatter_` copies bf16 to float32 and back
            slopes[every, targets[part]] = missing_M[part]  # in place: backward runs once
            dhidden[part] = (slopes @ weight) * scale_M1[part]
            if ctx.needs_input_grad[1]:
                scaled = (hidden[part] * scale_M1[part]).to(weight.dtype)
                dweight = slopes.T @ scaled if dweight is None else dweight.addmm_(slopes.T, scaled)
        return dhidden, dweight, None, None, None


def _parts(hidden: Tensor, weight: Tensor, keep: bool) -> list[slice]:
    """Rows that are taken together: all of them where their probabilities are kept."""
    M, rows = len(hidden), max(1, BYTES_AT_ONCE // (weight.shape[0] * weight.element_size()))
    return [slice(0, M)] if keep else [slice(start, start + rows) for start in range(0, M, rows)]
