"""Log-probabilities of given tokens from hidden states, a few rows at a time: the full logits never exist.

A batch of 1,000 rows over 49,152 words is 200 MB of float32, several times over in a plain loss; here 128 rows at a
time pass through the processor's cache. Where the head is frozen (adapters), forward already computes what backward
needs, one vector a row: d logprob / d hidden = (W[target] - p @ W) / temperature. Otherwise the probabilities are kept
for backward in the weights' dtype, if all of them are small enough; else it computes them again.

Shapes: M rows, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 128  # of logits at a time: 25 MB of float32 for 49,152 words
_KEPT = 2**27  # bytes of probabilities that may wait for backward: 1,024 rows of 49,152 words in bf16 are 100 MB


def token_logprobs(
    hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, temperature: float, *, with_entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the entropy of its distribution (no gradient), (M,) each, float32.

    At the sampling temperature, so that trainer and sampler speak of the same distribution (trl#4159). The entropy
    costs two more passes over the logits; without it there are zeros.
    """
    return _TokenLogprobs.apply(hidden_MD, weight_VD, targets_M, temperature, with_entropy)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        M, V = hidden.shape[0], weight.shape[0]
        logprobs, entropy = (torch.zeros(M, device=hidden.device) for _ in range(2))
        unit = torch.empty_like(hidden) if hidden.requires_grad and not weight.requires_grad else None
        keep = weight.requires_grad and M * V * weight.element_size() <= _KEPT
        kept = weight.new_empty((M, V)) if keep else None
        for start in range(0, M, _ROWS):
            part = slice(start, start + _ROWS)
            logits = _logits(hidden[part], weight, temperature)
            probs = logits.softmax(-1, dtype=torch.float32)
            # the largest probability is exp(its logit - the normaliser): cheaper than a log of every one
            normaliser = logits.amax(-1).float() - probs.amax(-1).log()
            logprobs[part] = logits.gather(-1, targets[part, None])[:, 0].float() - normaliser
            if with_entropy:
                entropy[part] = normaliser - torch.linalg.vecdot(probs, logits.float())
            if unit is not None:
                unit[part] = (weight[targets[part]] - probs.to(weight.dtype) @ weight) * (1 / temperature)
            if kept is not None:
                kept[part] = probs
        ctx.temperature = temperature
        ctx.has_units = unit is not None
        ctx.mark_non_differentiable(entropy)
        if unit is not None:
            ctx.save_for_backward(unit)
        elif hidden.requires_grad or weight.requires_grad:
            ctx.save_for_backward(hidden, weight, targets, logprobs, *([] if kept is None else [kept]))
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_M = grads[0]
        if ctx.has_units:
            (unit,) = ctx.saved_tensors
            return (unit * grad_M[:, None]).to(unit.dtype), None, None, None, None
        hidden, weight, targets, logprobs, *kept = ctx.saved_tensors
        dhidden = torch.empty_like(hidden)
        dweight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        # what a row's gradient is multiplied with goes to the narrow sides of its products, not over the vocabulary
        scale_M1 = (grad_M / -ctx.temperature)[:, None]
        missing_M1 = torch.expm1(logprobs)[:, None]  # probability of the target, minus 1
        for start in range(0, hidden.shape[0], _ROWS):
            part = slice(start, start + _ROWS)
            probs = kept[0][part] if kept else _logits(hidden[part], weight, ctx.temperature).softmax(-1)
            slopes = probs.to(weight.dtype).scatter(-1, targets[part, None], missing_M1[part].to(weight.dtype))
            dhidden[part] = (slopes @ weight) * scale_M1[part]
            if dweight is not None:
                dweight.addmm_(slopes.T, (hidden[part] * scale_M1[part]).to(weight.dtype))
        return dhidden, dweight, None, None, None


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature (rows V), in the weights' dtype unless they are divided."""
    logits = F.linear(hidden, weight)
    return logits if temperature == 1.0 else logits.float().div_(temperature)
