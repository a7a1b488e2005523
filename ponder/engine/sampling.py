"""Drawing tokens: one uniform number a row, derived from the sequence's seed and its position.

A token depends on its own logits, seed and position only, so a completion does not depend on what else is in the
batch. Drawing by inverse CDF costs one uniform a row; `torch.multinomial` draws one exponential a vocabulary entry.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) by splitmix64 of (seed, position): uint64 (N,), int (N,) -> float32 (N,).

    23 bits, so that u * total stays below total after rounding to float32.
    """
    with np.errstate(over="ignore"):
        z = seeds + (positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(41)).astype(np.float32)) * np.float32(2.0**-23)


def draw(
    logits_NV: Tensor, uniform_N: Tensor, temperature_N: Tensor, top_p_N: Tensor, forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """-> tokens (N,), and logits scaled by temperature as log-probabilities (N V), float32.

    The log-probabilities are those a trainer recomputes: before top-p and before `forbidden` (N V, True = may not be
    drawn). Temperature 0 takes the most likely token, with log-probabilities at temperature 1.
    """
    greedy_N = temperature_N == 0
    scale_N = torch.where(greedy_N, torch.ones_like(temperature_N), temperature_N)
    logprobs_NV = torch.log_softmax(logits_NV.float() / scale_N[:, None], dim=-1)
    probs_NV = logprobs_NV.exp()
    if forbidden is not None:
        probs_NV = probs_NV.masked_fill(forbidden, 0.0)
    tokens_N = _inverse_cdf(probs_NV, uniform_N)
    nucleus = (top_p_N < 1) & ~greedy_N
    if nucleus.any():
        tokens_N[nucleus] = _draw_top_p(probs_NV[nucleus], uniform_N[nucleus], top_p_N[nucleus])
    if greedy_N.any():
        tokens_N[greedy_N] = probs_NV[greedy_N].argmax(-1)
    return tokens_N, logprobs_NV


def _inverse_cdf(weights_NV: Tensor, uniform_N: Tensor) -> Tensor:
    cumulative = weights_NV.cumsum(-1)
    threshold = uniform_N * cumulative[:, -1]
    # right=True: the first entry whose cumulative weight exceeds the threshold; its own weight is positive
    return torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]


def _draw_top_p(probs_NV: Tensor, uniform_N: Tensor, top_p_N: Tensor) -> Tensor:
    """Nucleus sampling (arXiv:1904.09751): the smallest set of likely tokens whose mass reaches top_p."""
    ordered, index = probs_NV.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(mass_before >= top_p_N[:, None] * ordered.sum(-1, keepdim=True), 0.0)
    return index.gather(-1, _inverse_cdf(kept, uniform_N)[:, None])[:, 0]
