"""Logistic regression with an L2 penalty, by Newton's method, in numpy.

    model = fit(features_NF, correct_N, l2=1.0)
    model.logits(features_NF)

Features are standardised first, so one penalty suits all of them; a feature that never changes gets weight 0. The
penalty is on the weights and not on the bias, in units of samples: l2=1 counts like one sample against them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """A fitted regression. `logits` maps features (N, F) to (N,)."""

    mean: Floats  # (F,)
    scale: Floats  # (F,)
    weights: Floats  # (F,) of the standardised features
    bias: float

    def logits(self, features_NF: Floats) -> Floats:
        """(N, F) features as they are, not standardised -> (N,)."""
        return (features_NF - self.mean) / self.scale @ self.weights + self.bias


def fit(features_NF: Floats, target_N: Floats, *, l2: float = 1.0, weight_N: Floats | None = None) -> Logistic:
    """Targets may be soft, anything in [0, 1]. weight_N: of each sample, default 1."""
    x, y = np.asarray(features_NF, np.float64), np.asarray(target_N, np.float64)
    if x.ndim != 2 or len(x) != len(y) or not len(y) or not np.isfinite(x).all():
        raise ValueError(f"features {x.shape} for {y.shape} targets: give one finite row a sample, and at least one")
    w = np.ones(len(y)) if weight_N is None else np.asarray(weight_N, np.float64)
    mean = np.average(x, axis=0, weights=w)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    scale = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)  # inf: the feature becomes 0
    z = np.column_stack([(x - mean) / scale, np.ones(len(y))])
    penalty = np.r_[np.full(x.shape[1], l2), 1e-9]
    theta = np.zeros(x.shape[1] + 1)
    loss = _loss(z, y, w, penalty, theta)
    for _ in range(100):
        p = sigmoid(z @ theta)
        gradient = z.T @ (w * (p - y)) + penalty * theta
        curvature = (z * (w * p * (1 - p))[:, None]).T @ z + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (new := _loss(z, y, w, penalty, theta - size * step)) > loss and size > 1e-6:
            size /= 2  # a full step overshoots where the classes are nearly separated
        theta, gain, loss = theta - size * step, loss - new, new
        if gain < 1e-9 * (1 + abs(loss)):
            break
    return Logistic(mean, np.where(np.isinf(scale), 1.0, scale), np.where(np.isinf(scale), 0.0, theta[:-1]), theta[-1])


def _loss(z: Floats, y: Floats, w: Floats, penalty: Floats, theta: Floats) -> float:
    x = z @ theta
    return float(w @ (np.logaddexp(0, x) - y * x) + 0.5 * penalty @ theta**2)


def expit(x: Floats) -> Floats:
    """1 / (1 + e^-x), within (0, 1) for any x: what a scorer says."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def sigmoid(x: Floats) -> Floats:
    """The same down to 0 and up to 1: what is fitted."""
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))
