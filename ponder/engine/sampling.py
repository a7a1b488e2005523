"""Drawing tokens: one uniform number a row, derived from the sequence's seed and its position.

A token depends on its own logits, seed and position only, so a completion does not depend on what else is in the
batch. Drawing by inverse CDF costs one uniform a row; `torch.multinomial` draws one exponential a vocabulary entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NUCLEUS = 512
_AT_ONCE = 1 << 22  # numbers: 16 MiB. glibc maps a table above 32 anew each time, which takes longer than its softmax


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
    logits_NV: Tensor,
    uniform_N: Tensor,
    temperature_N: Tensor,
    top_p_N: Tensor,
    *,
    forbidden_N: Tensor | None = None,
    forbidden_ids: Sequence[int] = (),
    forced_N: Tensor | None = None,
    forced_id: int = -1,
) -> tuple[Tensor, Tensor]:
    """-> tokens (N,), and their log-probabilities (N,), float32, with logits scaled by temperature.

    The log-probabilities are those a trainer recomputes: before top-p and before `forbidden_ids`, which rows of
    `forbidden_N` may not draw. Rows of `forced_N` get `forced_id`, whatever was drawn. Temperature 0 takes the most
    likely token, with log-probabilities at temperature 1.
    """
    N, V = logits_NV.shape
    size = max(1, _AT_ONCE // V if logits_NV.device.type == "cpu" else N)

    def piece(rows: slice) -> tuple[Tensor, Tensor]:
        forbidden, forced = (None if flags is None else flags[rows] for flags in (forbidden_N, forced_N))
        return _draw(
            logits_NV[rows], uniform_N[rows], temperature_N[rows], top_p_N[rows], forbidden, forced,
            forbidden_ids, forced_id,
        )  # fmt: skip

    tokens, logprobs = zip(*(piece(slice(i, i + size)) for i in range(0, max(1, N), size)), strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def _draw(
    logits_NV: Tensor,
    uniform_N: Tensor,
    temperature_N: Tensor,
    top_p_N: Tensor,
    forbidden_N: Tensor | None,
    forced_N: Tensor | None,
    forbidden_ids: Sequence[int],
    forced_id: int,
) -> tuple[Tensor, Tensor]:
    greedy_N = temperature_N == 0
    scaled_NV = logits_NV.float()
    if ((temperature_N != 1) & ~greedy_N).any():
        scaled_NV = scaled_NV / torch.where(greedy_N, 1.0, temperature_N)[:, None]
    probs_NV = scaled_NV.softmax(-1)
    held_logits_MV = None
    if forbidden_N is not None and forbidden_N.any():
        held_logits_MV = scaled_NV[forbidden_N]
        allowed_MV = held_logits_MV.clone()
        allowed_MV[:, list(forbidden_ids)] = float("-inf")
        probs_NV[forbidden_N] = allowed_MV.softmax(-1)
    if greedy_N.all():
        tokens_N = probs_NV.argmax(-1)
    else:
        tokens_N = _inverse_cdf(probs_NV, uniform_N)
        nucleus = (top_p_N < 1) & ~greedy_N
        if nucleus.any():
            tokens_N[nucleus] = _draw_top_p(probs_NV[nucleus], uniform_N[nucleus], top_p_N[nucleus])
        if greedy_N.any():
            tokens_N[greedy_N] = probs_NV[greedy_N].argmax(-1)
    # a drawn token has a positive probability, which tells the normaliser without another pass
    normaliser_N = _of(scaled_NV, tokens_N) - _of(probs_NV, tokens_N).log()
    if held_logits_MV is not None:
        normaliser_N[forbidden_N] = held_logits_MV.logsumexp(-1)
    if forced_N is not None:
        tokens_N = torch.where(forced_N, forced_id, tokens_N)
    return tokens_N, _of(scaled_NV, tokens_N) - normaliser_N


def _of(table_NV: Tensor, tokens_N: Tensor) -> Tensor:
    return table_NV.gather(-1, tokens_N[:, None])[:, 0]


def _inverse_cdf(weights_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """The first entry at which the running sum of weights exceeds uniform * total; its own weight is positive. The
    block is found by the sums of blocks, then the entry in it: one pass over the vocabulary, no running sum of it."""
    N, V = weights_NV.shape
    size = min(256, V & -V)  # blocks of a power of two that divides V
    if size < 32:
        size = min(256, V)
        weights_NV = F.pad(weights_NV, (0, -V % size))
    blocks_NBS = weights_NV.view(N, -1, size)
    reached_NB = blocks_NBS.sum(-1).cumsum(-1)
    threshold_N1 = uniform_N[:, None] * reached_NB[:, -1:]
    block_N1 = torch.searchsorted(reached_NB, threshold_N1, right=True)
    before_N1 = F.pad(reached_NB, (1, 0)).gather(-1, block_N1)
    inside_NS = blocks_NBS.gather(1, block_N1[..., None].expand(N, 1, size))[:, 0].cumsum(-1)
    # rounding may carry the rest past the block's own sum: just below it at most
    rest_N1 = torch.minimum(threshold_N1 - before_N1, inside_NS[:, -1:].nextafter(inside_NS.new_zeros(())))
    return (block_N1 * size + torch.searchsorted(inside_NS, rest_N1, right=True))[:, 0]


def _draw_top_p(probs_NV: Tensor, uniform_N: Tensor, top_p_N: Tensor) -> Tensor:
    """Nucleus sampling (arXiv:1904.09751): the smallest set of likely tokens whose mass reaches top_p. It is nearly
    always among the `_NUCLEUS` likeliest; a row where it is not is sorted whole, which takes forty times as long."""
    V = probs_NV.shape[-1]
    ordered, index = probs_NV.topk(min(V, _NUCLEUS))
    needed_N = top_p_N * probs_NV.sum(-1)
    tokens_N = _of(index, _inverse_cdf(_nucleus(ordered, needed_N), uniform_N))
    wide = ordered.sum(-1) < needed_N
    if V > _NUCLEUS and wide.any():
        ordered, index = probs_NV[wide].sort(dim=-1, descending=True, stable=True)
        tokens_N[wide] = _of(index, _inverse_cdf(_nucleus(ordered, needed_N[wide]), uniform_N[wide]))
    return tokens_N


def _nucleus(ordered_NV: Tensor, needed_N: Tensor) -> Tensor:
    """Descending probabilities, 0 from where the needed mass is reached."""
    mass_before_NV = ordered_NV.cumsum(-1) - ordered_NV
    return ordered_NV.masked_fill(mass_before_NV >= needed_N[:, None], 0.0)
