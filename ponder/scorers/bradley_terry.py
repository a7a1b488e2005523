"""Bradley-Terry over features, linear, by Newton's method: which of two samples is preferred (Biometrika 39, 1952).

    model = fit(features_NF, first=[0, 2], second=[1, 3], target=[1, 0.5], l2=10.0)     # 0 beat 1; 2 and 3 tied
    model.rewards(features_NF)              # r_N; P(i preferred to j) = 1 / (1 + exp(r_j - r_i))

    loss = mean over pairs of  -[y log s(D - m) + (1 - y) log s(m - D)]  +  centre (r_i + r_j)^2
           D = r_i - r_j     y = 1, 0, or 1/2 for a tie     m = margin towards the preferred one, 0 for a tie

That is the loss of InstructGPT (arXiv:2203.02155, eq. 1) with the margin of Llama 2 (arXiv:2307.09288) and the centring
term of arXiv:2312.09244. `smoothed` labels say how often people would decide otherwise. numpy only; `minimise` takes
any linear map, so sparse features are fitted by the same lines (evals/preference_baselines.py).

Shapes: N samples, F features, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ponder.scorers.logistic import sigmoid

Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Pairs:
    """Which samples were compared, and how it came out."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    target: Floats  # the chance that `first` is preferred
    weight: Floats
    margin: Floats  # 0 or more

    @classmethod
    def of(
        cls, first: ArrayLike, second: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None,
        margin: ArrayLike | None = None,
    ) -> Pairs:  # fmt: skip
        """Weights default to 1, margins to 0. ValueError for lengths that differ, no pair, or numbers out of range."""
        y = np.asarray(target, float)
        filled = [
            np.full(len(y), default) if x is None else np.asarray(x, float)
            for x, default in ((weight, 1.0), (margin, 0.0))
        ]
        found = cls(np.asarray(first, np.int64), np.asarray(second, np.int64), y, *filled)
        sizes = {len(x) for x in (found.first, found.second, y, found.weight, found.margin)}
        if len(sizes) != 1 or not len(y):
            raise ValueError("give every pair a first, a second and a target, and at least one pair")
        if not ((y >= 0) & (y <= 1)).all() or not (found.weight >= 0).all() or not (found.margin >= 0).all():
            raise ValueError("targets lie in [0, 1], weights and margins are 0 or more")
        return found


def smoothed(target: ArrayLike, share: float) -> Floats:
    """Targets where a share of the labels is taken to be wrong: 1 -> 1 - share, 0 -> share, a tie stays one."""
    y = np.asarray(target, float)
    return y + share * (1 - 2 * y)


def pair_losses(difference_P: ArrayLike, target_P: ArrayLike, margin_P: ArrayLike = 0.0) -> Floats:
    """The loss of each pair, from r_first - r_second; exact for any difference."""
    y = np.asarray(target_P, float)
    z = np.asarray(difference_P, float) - np.sign(2 * y - 1) * np.asarray(margin_P, float)
    return y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


def minimise(product: Map, transposed: Map, size: int, pairs: Pairs, *, l2: float, centre: float = 0.0) -> Floats:
    """The weights whose rewards `product(weights)` (N,) have the least loss, summed over pairs, + l2/2 |weights|^2.

    Newton's method; each step is solved by conjugate gradients, which needs products only.
    """
    first, second, w = pairs.first, pairs.second, pairs.weight
    toward = np.sign(2 * pairs.target - 1) * pairs.margin

    def loss(theta: Floats, r: Floats) -> float:
        fit_P = pair_losses(r[first] - r[second], pairs.target, pairs.margin) + centre * (r[first] + r[second]) ** 2
        return float(w @ fit_P + 0.5 * l2 * theta @ theta)

    def back(difference_P: Floats, sum_P: Floats, num: int) -> Floats:
        """From the derivatives by difference and sum of each pair to those by weight."""
        sums: Floats = np.zeros(num)
        sums += np.bincount(first, difference_P + sum_P, num)
        sums += np.bincount(second, sum_P - difference_P, num)
        return transposed(sums)

    theta = np.zeros(size)
    r = product(theta)
    now = loss(theta, r)
    for _ in range(50):
        p = sigmoid(r[first] - r[second] - toward)
        gradient = back(w * (p - pairs.target), 2 * centre * w * (r[first] + r[second]), len(r)) + l2 * theta
        curved = w * p * (1 - p)

        def curvature(v: Floats, curved: Floats = curved, num: int = len(r)) -> Floats:
            along = product(v)
            sums = 2 * centre * w * (along[first] + along[second])
            return back(curved * (along[first] - along[second]), sums, num) + l2 * v

        step = _solve(curvature, gradient)
        length = 1.0
        while (new := loss(theta - length * step, product(theta - length * step))) > now and length > 1e-6:
            length /= 2
        if new > now:
            break
        theta, gain, now = theta - length * step, now - new, new
        r = product(theta)
        if gain < 1e-8 * (1 + abs(now)):
            break
    return theta


def _solve(matrix: Map, right: Floats, *, tolerance: float = 1e-5, most: int = 300) -> Floats:
    """Conjugate gradients."""
    x, residual = np.zeros_like(right), right.copy()
    direction, size = residual.copy(), float(residual @ residual)
    goal = tolerance**2 * size
    for _ in range(most):
        if size <= goal or size == 0:
            break
        along = matrix(direction)
        rate = size / float(direction @ along)
        x, residual = x + rate * direction, residual - rate * along
        size, before = float(residual @ residual), size
        direction = residual + size / before * direction
    return x


@dataclass(frozen=True)
class LinearReward:
    """r = (x - mean) / scale . weights; its mean over the samples that were fitted is 0."""

    mean: Floats  # (F,)
    scale: Floats
    weights: Floats

    def rewards(self, features_NF: NDArray[Any]) -> Floats:
        """(N, F) -> (N,), in double precision."""
        found: Floats = (np.asarray(features_NF, np.float64) - self.mean) / self.scale @ self.weights
        return found


def fit(
    features_NF: NDArray[Any],
    first: Sequence[int] | NDArray[Any],
    second: Sequence[int] | NDArray[Any],
    target: ArrayLike,
    *,
    l2: float = 100.0,
    weight: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    centre: float = 0.0,
) -> LinearReward:
    """Features are standardised over the samples of pairs that count; one that never changes gets weight 0."""
    pairs = Pairs.of(first, second, target, weight, margin)
    x = np.asarray(features_NF, np.float32)
    counted = pairs.weight > 0
    used = np.unique(np.concatenate([pairs.first[counted], pairs.second[counted]]))
    if not np.isfinite(x[used]).all():
        raise ValueError("a compared sample has features that are not finite; leave it out")
    mean, spread = x[used].mean(0, dtype=np.float64), x[used].std(0, dtype=np.float64)
    is_constant = spread <= 1e-6 * (1 + np.abs(mean))
    scale = np.where(is_constant, 1.0, spread)
    z = np.where(is_constant, 0.0, (x - mean) / scale).astype(np.float32)
    z[~np.isfinite(z)] = 0.0  # samples that nobody compared

    def product(v: Floats) -> Floats:
        return (z @ v.astype(np.float32)).astype(np.float64)

    def transposed(g: Floats) -> Floats:
        return (z.T @ g.astype(np.float32)).astype(np.float64)

    weights = minimise(product, transposed, x.shape[1], pairs, l2=l2, centre=centre)
    return LinearReward(mean, scale, np.where(is_constant, 0.0, weights))
