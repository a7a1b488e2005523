"""How good scores are: as probabilities, as a ranking within a problem, and as a choice among k samples.

    brier([1, 0], [.9, .2])              -> 0.025        mean squared error of the probabilities
    ece([1, 0], [.9, .2])                -> 0.15         their error, averaged over bins of them
    auc_within([[1, 0]], [[.9, .2]])     -> (1.0, 1)     right above wrong, problem by problem
    rerank_at([1, 0, 0], [.9, .2, .1], 2) -> 2/3         the best-scored of 2 is right

A ranking is measured within problems: over pooled samples an AUC mostly measures which problems are easy. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def brier(correct: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared error of the probabilities: 0 = certain and right, 1 = certain and wrong."""
    y, p = _pair(correct, probabilities)
    return float(np.mean((p - y) ** 2))


def log_loss(correct: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean binary cross-entropy in nats."""
    y, p = _pair(correct, probabilities)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def reliability(correct: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 10) -> list[dict[str, float]]:
    """Bins of equal width without the empty ones: their bounds, mean probability, share correct and size."""
    y, p = _pair(correct, probabilities)
    which = np.clip((p * num_bins).astype(int), 0, num_bins - 1)
    rows = []
    for b in range(num_bins):
        inside = which == b
        if inside.any():
            rows.append(
                {
                    "low": b / num_bins,
                    "high": (b + 1) / num_bins,
                    "predicted": float(p[inside].mean()),
                    "correct": float(y[inside].mean()),
                    "count": int(inside.sum()),
                }
            )
    return rows


def ece(correct: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 10) -> float:
    """Expected calibration error (arXiv:1706.04599): |share correct - mean probability|, weighted by bin size."""
    rows = reliability(correct, probabilities, num_bins=num_bins)
    total = sum(row["count"] for row in rows)
    return sum(row["count"] * abs(row["correct"] - row["predicted"]) for row in rows) / total if rows else float("nan")


def auc(correct: ArrayLike, scores: ArrayLike) -> float:
    """The probability that a right sample is scored above a wrong one, a tie counting half; nan without both.

    A score that is nan lies below all others, as when the best is chosen.
    """
    y, s = _pair(correct, scores)
    s = np.where(np.isnan(s), -np.inf, s)
    right, wrong = s[y > 0.5], np.sort(s[y <= 0.5])
    if not len(right) or not len(wrong):
        return float("nan")
    below, up_to = (np.searchsorted(wrong, right, side=side) for side in ("left", "right"))
    return float(np.mean(below + up_to) / (2 * len(wrong)))


def auc_within(correct: Sequence[ArrayLike], scores: Sequence[ArrayLike]) -> tuple[float, int]:
    """The mean AUC over problems with both right and wrong samples, and how many these are."""
    found = [auc(y, s) for y, s in zip(correct, scores, strict=True)]
    both = [x for x in found if x == x]
    return (float(np.mean(both)) if both else float("nan")), len(both)


def rerank_at(correct: ArrayLike, scores: ArrayLike, k: int) -> float:
    """The expected correctness of the best-scored of k samples, exact over all subsets of k (arXiv:2504.01005).

    Equal scores are chosen among evenly; nan, and -inf of a sample without an answer, come last. The r-th best sample
    is chosen when it is drawn and the r better ones are not: C(n-r-1, k-1) of the C(n, k) subsets.
    """
    y, s = _pair(correct, scores)
    n = len(y)
    if not 1 <= k <= n:
        raise ValueError(f"k={k} needs between 1 and {n} samples of the problem, which has {n}; draw more, or lower k")
    if k == 1:
        return float(y.sum()) / n  # the best of one sample is that sample, to the last digit
    _, ties, sizes = np.unique(-np.where(np.isnan(s), -np.inf, s), return_inverse=True, return_counts=True)
    shared = np.repeat(np.bincount(ties, y) / sizes, sizes)  # the best first
    rank = np.arange(1, n)
    weights = np.cumprod(np.append(k / n, np.maximum(0, n - rank - k + 1) / (n - rank)))  # no large numbers
    rate = float(weights @ shared)
    return rate if rate < 1 - 1e-12 else 1.0  # the last digits are rounding, and a sure choice is sure


def fit_platt(correct: Sequence[ArrayLike], logits: Sequence[ArrayLike]) -> tuple[float, float]:
    """(scale, shift) that make sigmoid(scale * logit + shift) a probability (Platt 1999), by Newton's method.

    (1, 0) where nothing can be fitted: all right, all wrong, or all logits equal.
    """
    from ponder.scorers.logistic import fit

    y, x = (np.concatenate([np.asarray(part, float) for part in parts]) for parts in (correct, logits))
    if not 0 < y.mean() < 1 or np.ptp(x) == 0:
        return 1.0, 0.0
    model = fit(x[:, None], y, l2=1e-6)
    scale = float(model.weights[0] / model.scale[0])
    return (scale, float(model.bias - scale * model.mean[0])) if scale > 0 else (1.0, 0.0)


def measure(correct: Sequence[ArrayLike], probabilities: Sequence[ArrayLike]) -> dict[str, Any]:
    """All of the above over problems (one array each), for result.json, without rerank@k."""
    y, p = (np.concatenate([np.asarray(part, float) for part in parts]) for parts in (correct, probabilities))
    within, mixed = auc_within(correct, probabilities)
    return {
        "problems": len(correct),
        "samples": len(y),
        "pass@1": float(np.mean([np.asarray(part, float).mean() for part in correct])),
        "bce": log_loss(y, p),
        "brier": brier(y, p),
        "ece": ece(y, p),
        "auc_within": within,
        "mixed_problems": mixed,
        "auc_pooled": auc(y, p),
        "reliability": reliability(y, p),
    }


def _pair(correct: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    y, v = np.asarray(correct, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if y.shape != v.shape or y.ndim != 1:
        raise ValueError(f"{y.shape} outcomes and {v.shape} scores; give one of each for every sample")
    return y, v
