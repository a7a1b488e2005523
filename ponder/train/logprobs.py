"""Log-probabilities of given tokens from hidden states, a few rows at a time: the full logits never exist.

A batch of 1,000 rows over 49,152 words is 200 MB of float32, several times over in a plain loss; here 128 rows at a
time pass through the processor's cache. Where the head is frozen (adapters), forward already computes what backward
needs, one vector a row: d logprob / d hidden = (W[target] - p @ W) / temperature. Otherwise backward computes the
chunk's probabilities again.

Shapes: M rows, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 128  # of logits at a time: 25 MB of float32 for 49,152 words


def token_logprobs(
    hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy of its distribution (no gradient), (M,) each, float32.

    At the sampling temperature, so that trainer and sampler speak of the same distribution (trl#4159).
    """
    return _TokenLogprobs.apply(hidden_MD, weight_VD, targets_M, temperature)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        M = hidden.shape[0]
        logprobs, entropy = (torch.empty(M, device=hidden.device) for _ in range(2))
        unit = torch.empty_like(hidden) if hidden.requires_grad and not weight.requires_grad else None
        for start in range(0, M, _ROWS):
            part = slice(start, start + _ROWS)
            logits, normaliser = _chunk(hidden[part], weight, temperature)
            chosen = targets[part, None]
            logprobs[part] = logits.gather(-1, chosen)[:, 0] - normaliser
            probs = logits.sub(normaliser[:, None]).exp_()
            entropy[part] = normaliser - torch.linalg.vecdot(probs, logits)
            if unit is not None:
                unit[part] = (weight[targets[part]] - probs.to(weight.dtype) @ weight) * (1 / temperature)
        ctx.temperature = temperature
        ctx.has_units = unit is not None
        ctx.mark_non_differentiable(entropy)
        if unit is not None:
            ctx.save_for_backward(unit)
        elif hidden.requires_grad or weight.requires_grad:
            ctx.save_for_backward(hidden, weight, targets)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_M = grads[0]
        if ctx.has_units:
            (unit,) = ctx.saved_tensors
            return (unit * grad_M[:, None]).to(unit.dtype), None, None, None
        hidden, weight, targets = ctx.saved_tensors
        dhidden = torch.empty_like(hidden)
        dweight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for start in range(0, hidden.shape[0], _ROWS):
            part = slice(start, start + _ROWS)
            logits, normaliser = _chunk(hidden[part], weight, ctx.temperature)
            # d logprob / d logit = 1 at the target, minus the probability of each
            scaled = (grad_M[part] / -ctx.temperature)[:, None]
            dlogits = logits.sub_(normaliser[:, None]).exp_().mul_(scaled)
            dlogits.scatter_add_(-1, targets[part, None], -scaled)
            dlogits = dlogits.to(weight.dtype)
            dhidden[part] = dlogits @ weight
            if dweight is not None:
                dweight.addmm_(dlogits.T, hidden[part])
        return dhidden, dweight, None, None


def _chunk(hidden: Tensor, weight: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits over the temperature (rows V) and their normaliser (rows,), float32."""
    logits = F.linear(hidden, weight).float()
    if temperature != 1.0:
        logits.div_(temperature)
    return logits, logits.logsumexp(-1)
