"""Exact estimators over stored samples, and the intervals printed beside them.

A problem has n stored samples, and a metric at k asks: draw k of the n at random, what comes out? Nothing here draws;
each number is the exact average over all C(n, k) subsets.

    pass_at(n=8, c=2, k=4)                        at least one of the k is correct                    (arXiv:2107.03374)
    cons_at([5, 3], [0, 3], k=4, blank=2)         the k vote by answer class, the largest class wins  (arXiv:2203.11171)

The best-scored of the k is `rerank_at` in scorers/calibration.py, which training needs too.

Voting: samples without an answer ("blank") take up draws but never win; a tie is shared evenly, which is also what
"the class seen first wins" gives on average, since every order of the samples is equally likely.

Intervals (95 %) are about *other problems of this kind and other samples of this model*. A per-problem estimate already
carries its own sampling noise, so its spread between problems holds both, and adding a second level would count the
samples twice. `interval` is Wilson's with an effective number of problems (Korn and Graubard 1998) and Student's t. The
usual bootstrap over problems was tried and is wrong where it hurts: with 10 problems and a true rate of 2 % its "95 %"
interval covers the truth 21-62 % of the time (0 of 10 gives [0, 0]); this one 82-98 %, and it is as narrow elsewhere.
A spread that few problems show is not trusted: without that, where 1 % of the samples are right, nearly all of them of
one problem, 48 problems x 64 samples cover the truth 78 % of the time, with it 96 %.
`sampling_sd` is the part that re-sampling the same problems would show. Not covered: a wrong verifier, a leaked test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ponder.intervals import student, wilson


def _check(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k={k} needs between 1 and {n} samples of the problem, which has {n}; draw more, or lower k")


def pass_at(n: int, c: int, k: int) -> float:
    """The chance that at least one of k of the n samples is correct, c of them being so."""
    _check(k, n)
    if not 0 <= c <= n:
        raise ValueError(f"c={c} correct samples of n={n} is impossible")
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)  # whole numbers until the one division


def cons_at(counts: Sequence[int], correct: Sequence[int], k: int, *, blank: int = 0) -> float:
    """The chance that a vote of k samples is right: `counts` samples per answer class, `correct` of them correct.

    Classes may be partly correct (then the answer shown is a random one of the class), and several may be right.
    Each sample is put in the draw on its own with chance q, and the whole draw is conditioned on having k: every
    subset of k is then equally likely, classes are independent, and all weights are probabilities that cannot overflow.

    The k in the draw are counted by a polynomial: a class is the sum of P(v in the draw) x^v, classes multiply, and
    the coefficient of x^k is read off by a discrete Fourier transform. A tie of t + 1 classes is worth 1/(t + 1) to
    each, which is the integral of u^t over u from 0 to 1: with a factor u at every class that ties, ties cost a few
    points of Gauss and Legendre (which are exact for these polynomials) instead of a dimension of a table.
    """
    n = sum(counts) + blank
    _check(k, n)
    if blank < 0 or any(not 0 <= good <= count for good, count in zip(correct, counts, strict=True)):
        raise ValueError(f"impossible classes: counts={list(counts)}, correct={list(correct)}, blank={blank}")
    if k == 1:
        return sum(correct) / n  # a vote of one sample is that sample: pass@1, to the last digit
    right: dict[int, float] = {}  # classes of one size win equally often: size -> how many are right
    for count, good in zip(counts, correct, strict=True):
        if good:
            right[count] = right.get(count, 0.0) + good / count
    q = k / (n + 1)  # near k of n, and never 1
    sizes = Counter(count for count in counts if count)
    total = sum(share * _win_weight(size, sizes - Counter([size]), blank, n, k, q) for size, share in right.items())
    rate = max(0.0, total / float(_binomial(n, q, k)[k]))
    return rate if rate < 1 - 1e-12 else 1.0  # the last digits are rounding, and a sure vote is sure


def _win_weight(size: int, rivals: Mapping[int, int], blank: int, n: int, k: int, q: float) -> float:
    """The weight of draws of k that a class of this size wins, ties shared. `rivals` is size -> number of classes."""
    votes = _binomial(size, q, k)
    points = [(m, u, votes[m] * weight)
              for m in range(1, len(votes)) if votes[m] > 1e-19
              for u, weight in zip(*_nodes(min(sum(rivals.values()), k // m - 1)), strict=True)]  # fmt: skip
    if not points:
        return 0.0
    ms, us = np.array([m for m, _, _ in points]), np.array([u for _, u, _ in points])[:, None]
    # totals that are a whole number of turns apart look the same, so the turn is longer than any total that weighs
    turn = min(n + 1, math.ceil(9 * math.sqrt(n * q * (1 - q))) + 30) | 1  # odd
    x = np.exp(2j * math.pi / turn * np.arange(turn // 2 + 1))  # the other half mirrors these
    powers = x ** np.arange(max(ms) + 1)[:, None]  # (m, point of the transform)
    product = powers[ms] * np.array([weight for _, _, weight in points])[:, None]
    for rival, times in rivals.items():
        chances = _binomial(rival, q, int(max(ms)))
        terms = powers[: len(chances)] * chances[:, None]
        fewer = np.zeros((max(ms) + 1, len(x)), dtype=complex)  # [m]: fewer than m votes
        fewer[1 : len(chances) + 1] = np.cumsum(terms[: max(ms)], axis=0)
        fewer[len(chances) + 1 :] = fewer[min(len(chances), max(ms))]
        factor = fewer[ms]
        tying = ms < len(chances)
        factor[tying] += us[tying] * terms[ms[tying]]
        product *= _power(factor, times)
    at = product.sum(axis=0) * (1 - q + q * x) ** blank * x**-k
    return float(at[0].real + 2 * at[1:].real.sum()) / turn


def _power(base: NDArray[np.complex128], times: int) -> NDArray[np.complex128]:
    """base ** times by squaring: numpy takes a logarithm for each number."""
    result: NDArray[np.complex128] | None = None
    while times:
        if times & 1:
            result = base if result is None else result * base
        base, times = base * base if times > 1 else base, times >> 1
    return result if result is not None else np.ones_like(base)


@lru_cache(maxsize=4096)
def _nodes(degree: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and weights on [0, 1] that integrate polynomials up to this degree exactly; do not write to them."""
    points, weights = np.polynomial.legendre.leggauss(max(0, degree) // 2 + 1)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=65536)
def _binomial(n: int, q: float, top: int) -> NDArray[np.float64]:
    """P(exactly j of n) for j = 0 .. min(n, top), by logarithms; do not write to it."""
    j = np.arange(min(n, top) + 1)
    factorials = _log_factorials(1 << n.bit_length())
    logs = factorials[n] - factorials[j] - factorials[n - j] + j * math.log(q) + (n - j) * math.log1p(-q)
    return np.exp(logs)


@lru_cache(maxsize=64)
def _log_factorials(size: int) -> NDArray[np.float64]:
    return np.array([math.lgamma(i + 1) for i in range(size + 1)])


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % interval."""

    value: float
    low: float
    high: float


def interval(values: Sequence[float], *, draws: int = 1) -> Estimate:
    """The mean of per-problem rates in [0, 1] with its interval over problems and samples.

    `draws` is how many separate draws one value is made from (n // k): a bound on what is known when all values agree.
    """
    num = len(values)
    if num == 0:
        return Estimate(math.nan, math.nan, math.nan)
    rates = np.asarray(values, dtype=float)
    mean = min(1.0, max(0.0, float(rates.mean())))
    if min(mean, 1 - mean) < 1e-12:
        mean = float(round(mean))  # what is left of it is rounding, and must not look like a spread
    if num == 1:
        return Estimate(mean, 0.0, 1.0)  # one problem says nothing about others
    # one right sample of many is no proof that problems are alike: a spread that few problems show is hardly known
    few = int(min((rates > 1e-9).sum(), (rates < 1 - 1e-9).sum()))
    variance, bound = float(rates.var(ddof=1)) / num, num * min(max(1, draws), 1 + few * (few + 1) / 2)
    if mean in (0.0, 1.0):
        size = float(num)
    else:
        size = float(min(mean * (1 - mean) / variance, bound) if variance > 0 else bound)
    return Estimate(mean, *wilson(mean, size, t=student(num - 1)))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The mean of second - first over the same problems, with its interval over problems and samples.

    Pairing removes the spread of difficulty, so it sees differences that two separate intervals hide. Two made-up
    problems, at plus and minus the largest difference seen, keep "no difference in 5 problems" from claiming certainty
    (Agresti and Min 2005 for rates of 0 and 1). They lie at 1 where no problem differs, at 1/2 or more where one does,
    at 1/3 or more where two do: one sample of 64 must not claim what none of 64 does not.
    """
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same problems twice, not {len(first)} and {len(second)}")
    if len(first) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    differences[np.abs(differences) < 1e-9] = 0.0  # rounding is no difference, however small the interval would be
    largest = max(float(np.abs(differences).max()), 1 / (1 + np.count_nonzero(differences)))
    padded = np.append(differences, [largest, -largest])
    half = student(len(padded) - 1) * float(padded.std()) / math.sqrt(len(padded))
    value, centre = float(differences.mean()), float(padded.mean())
    return Estimate(value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def sampling_sd(estimate: Callable[[Sequence[int]], float], counts: Sequence[int]) -> float:
    """The standard deviation of one problem's estimate if its samples were drawn again (the jackknife).

    `estimate` maps counts of interchangeable samples to the metric; samples of one kind are left out together, so the
    cost is one evaluation a kind. Good for k up to about n / 2; beyond, leaving one out says little.

        sampling_sd(lambda kinds: pass_at(sum(kinds), kinds[0], k), [c, n - c])
    """
    n = sum(counts)
    without = [(count, estimate([*counts[:i], count - 1, *counts[i + 1 :]])) for i, count in enumerate(counts) if count]
    mean = sum(count * value for count, value in without) / n
    return math.sqrt((n - 1) / n * sum(count * (value - mean) ** 2 for count, value in without))


def in_percent(share: float, digits: int = 1, sign: str = "") -> str:
    """A share as percent, without its sign. A tie is rounded up, and the last digits of a float decide nothing: two
    numbers that are the same are shown the same."""
    if not math.isfinite(share):
        return "nan"
    scale = 10**digits
    return f"{math.floor(100 * share * scale + 0.5 + 1e-9) / scale:{sign}.{digits}f}"


def powers_up_to(n: int) -> list[int]:
    """The k of a curve: 1, 2, 4, ... and n itself."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n] if n else []
