"""Choosing among samples: votes, weights, and when to stop. Pure functions over plain arrays; no torch.

    classes = classes_of(["7", "4", None, "4"])                -> [0, 1, -1, 1]     (-1 = no answer: never votes)
    vote(classes)                                              -> 1                 (the index of the chosen sample)
    weighted_vote(classes, [.9, .3, .9, .4])                   -> 0                 (.9 against .3 + .4)
    best_of([.9, .3, .95, .4], classes)                        -> 0                 (.95 has no answer)
    rerank_vote(classes, scores, m=3)                          -> the vote of the three best scored
    leader_is_safe([6, 1], left=57, risk=.05)                  -> True              (of 64, 7 are drawn)

The live strategies and the replay of stored samples call the same functions, so a curve drawn from a bank is the curve
of the strategy. Each takes the samples in the order they were drawn and returns the index of one of them. A tie goes to
the class seen first; nan counts as the lowest score; if no sample has an answer, a vote returns the first sample and a
ranking the best scored one.

Self-consistency: arXiv:2203.11171. Weighted votes: arXiv:2206.02336. Confidence from logprobs: arXiv:2508.15260. Vote
among the top few: arXiv:2110.14168. Adaptive stopping: arXiv:2305.11860, with a different criterion, see
`overturn_probability`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ponder.scorers.base import CONFIDENCE_WINDOW

RISK = 0.05  # of the adaptive vote, by default
KEEP = 0.5  # of the samples vote where confidence weighs them
WAVE = 4  # samples between two tests of the leading class


def classes_of(keys: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """Keys of answers -> class numbers 0, 1, ... by first appearance; None -> -1."""
    numbers: dict[Hashable, int] = {}
    return np.array([-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def counts_of(classes: ArrayLike) -> NDArray[np.int64]:
    """How many votes each class has."""
    classes = np.asarray(classes, dtype=np.int64)
    return np.bincount(classes[classes >= 0])


def vote(classes: ArrayLike) -> int:
    """The first sample of the largest class; 0 if no sample has an answer."""
    classes = np.asarray(classes, dtype=np.int64)
    return weighted_vote(classes, np.ones(len(classes)))


def weighted_vote(classes: ArrayLike, weights: ArrayLike) -> int:
    """The sample with the largest weight in the class with the largest sum of weights. Weights are 0 or more; nan and 0
    do not vote.

    Probabilities may be weights as they are; turn logprobs into weights with `confidence`. If every weight is nan or 0,
    the plain vote decides: a useless scorer is no reason to give no answer.
    """
    classes, weights = _pair(classes, weights)
    weights = np.where(np.isnan(weights), 0.0, weights)
    if (weights < 0).any() or not np.isfinite(weights).all():
        raise ValueError("weights must be 0 or more and finite; turn scores into weights first, see `confidence`")
    answered = classes >= 0
    if not answered.any():
        return 0
    if not weights[answered].any():
        weights = answered.astype(float)
    totals = np.bincount(classes[answered], weights[answered])
    leads = totals >= totals.max() * (1 - 1e-12)  # equal sums may differ by rounding: a tie
    winner = next(int(number) for number in classes if number >= 0 and leads[number])
    return int(np.argmax(np.where(classes == winner, weights, -1.0)))


def best_of(scores: ArrayLike, classes: ArrayLike | None = None) -> int:
    """The best scored sample; with `classes`, the best scored among those that have an answer, if any has."""
    order = ranking(scores, classes)
    return int(order[0]) if len(order) else 0


def ranking(scores: ArrayLike, classes: ArrayLike | None = None) -> NDArray[np.int64]:
    """The indices of the samples, best first: samples with an answer before those without, nan last, ties in order."""
    scores = np.asarray(scores, dtype=float)
    sort_keys = np.where(np.isnan(scores), np.inf, -scores)
    if classes is None:
        return np.argsort(sort_keys, kind="stable")
    classes, _ = _pair(classes, scores)
    return np.lexsort((np.arange(len(scores)), sort_keys, classes < 0))


def rerank_vote(classes: ArrayLike, scores: ArrayLike, m: int) -> int:
    """The vote of the m best scored samples that have an answer; a tie goes to the class with the best scored sample.

    m = 1 is `best_of`; a larger m limits the harm where a few of many samples deceive the scorer.
    """
    if m < 1:
        raise ValueError(f"m={m} leaves nothing to vote; use at least 1")
    classes, scores = _pair(classes, scores)
    top = ranking(scores, classes)[:m]
    return int(top[vote(classes[top])])


def confidence(mean_logprobs: ArrayLike, *, temperature: float = 0.1, keep: float = 1.0) -> NDArray[np.float64]:
    """Weights for a vote from the policy's confidence: exp(x / temperature), scaled to 1 for the most confident sample;
    nan gives 0.

    mean_logprobs: nats a token, one number for each sample of a problem; or a row of these for each of several votes.
    keep: the share of samples that may vote, the most confident ones (at least one).
    """
    if not temperature > 0 or not 0 < keep <= 1:
        raise ValueError(f"temperature={temperature} must be above 0 and keep={keep} in (0, 1]")
    x = np.asarray(mean_logprobs, dtype=float)
    known = np.isfinite(x)
    if not known.any():
        return np.zeros(x.shape)
    x = np.where(known, x, -np.inf)
    ranked = np.sort(x, axis=-1)[..., ::-1]
    kept = np.maximum(1, np.rint(keep * known.sum(axis=-1, keepdims=True))).astype(np.int64)
    last = np.take_along_axis(ranked, kept - 1, axis=-1)
    best = np.where(np.isfinite(ranked[..., :1]), ranked[..., :1], 0.0)
    weights: NDArray[np.float64] = np.where(known & (x >= last), np.exp((x - best) / temperature), 0.0)
    return weights


def overturn_probability(counts: Sequence[int] | NDArray[np.int64], left: int) -> float:
    """An upper bound of the probability that with `left` more votes another class overtakes the leading one or ties.

    counts: the votes of each class so far, in any order; samples without an answer are in no class. The question is not
    which class is the most likely answer of the model (arXiv:2305.11860), but whether the vote of all n would have
    another result: near the end of the budget a small lead is safe for that question only.

    Under a uniform (Dirichlet) prior over the shares of the classes, the share of one class among its own votes and the
    leader's has a Beta(1 + its votes, 1 + the leader's) posterior, so its future votes are beta-binomial. Three things
    err on the safe side: every future vote is taken to be for one of the two, the probabilities of all rivals are added
    (a class not yet seen is one of them), and a tie counts as overtaking.
    """
    counts = np.sort(np.asarray(counts, dtype=np.int64))[::-1]
    counts = counts[counts > 0]
    if left <= 0:
        return 0.0
    if not len(counts):
        return 1.0
    leader = int(counts[0])
    return min(1.0, sum(_overtakes(leader, int(rival), left) for rival in (*counts[1:], 0)))


def leader_is_safe(counts: Sequence[int] | NDArray[np.int64], *, left: int, risk: float = RISK) -> bool:
    """Whether to stop: the vote of all has another result with a probability of at most `risk`.

    The guarantee: over problems whose shares of answers are distributed like the prior, the adaptive vote differs from
    the full vote in at most `risk` of the problems, however often it is tested (each stop is a statement about the
    votes until then, so frequent tests cost nothing). On a problem whose two best answers are equally likely it can
    differ more often; but there the full vote is random too, and no accuracy is lost on average.
    """
    if not 0 <= risk < 1:
        raise ValueError(f"risk={risk} must lie in [0, 1)")
    return overturn_probability(counts, left) <= risk


def stops_at(classes: ArrayLike, *, wave: int = WAVE, risk: float = RISK) -> int | NDArray[np.int64]:
    """How many samples of each row the adaptive vote draws: (N,) -> int, or (R, N) -> (R,).

    It tests after every `wave` samples and stops at N at the latest, as the live strategy does.
    """
    rows = np.atleast_2d(np.asarray(classes, dtype=np.int64))
    stops = np.full(len(rows), rows.shape[1], dtype=np.int64)
    running = np.arange(len(rows))
    for drawn in range(wave, rows.shape[1], wave):
        counts = _counts(rows[running, :drawn])
        distinct, inverse = np.unique(np.sort(counts, axis=1), axis=0, return_inverse=True)  # many rows are equal
        safe = np.array([leader_is_safe(row, left=rows.shape[1] - drawn, risk=risk) for row in distinct], dtype=bool)
        done = safe[inverse.reshape(-1)] if len(distinct) else np.zeros(0, dtype=bool)
        stops[running[done]] = drawn
        running = running[~done]
        if not len(running):
            break
    return int(stops[0]) if np.ndim(classes) == 1 else stops


def mean_logprob(logprobs: ArrayLike, sampled: ArrayLike | None = None) -> float:
    """The mean over the tokens that were sampled, not forced, in nats a token; nan where there are none."""
    values = np.asarray(logprobs, dtype=float)
    if sampled is not None:
        values = values[np.asarray(sampled, dtype=bool)[: len(values)]]
    return float(values.mean()) if len(values) else float("nan")


def worst_window(logprobs: ArrayLike, size: int = CONFIDENCE_WINDOW) -> float:
    """The lowest mean of `size` neighbouring logprobs: the least confident part, as a solution is as good as its worst
    step (arXiv:2508.15260). The mean of all where there are fewer; nan for none."""
    values = np.asarray(logprobs, dtype=float)
    if len(values) <= size:
        return mean_logprob(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return float((sums[size:] - sums[:-size]).min() / size)


def _pair(classes: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    classes, scores = np.asarray(classes, dtype=np.int64), np.asarray(scores, dtype=float)
    if classes.shape != scores.shape or classes.ndim != 1 or not len(classes):
        raise ValueError(f"classes {classes.shape} and scores {scores.shape} must be one row of one or more samples")
    return classes, scores


def _counts(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R, N) class numbers -> (R, C) votes."""
    width = int(rows.max(initial=-1)) + 1
    flat = (rows + (width + 1) * np.arange(len(rows))[:, None] + 1).ravel()  # -1 becomes a column of its own
    return np.bincount(flat, minlength=len(rows) * (width + 1)).reshape(len(rows), width + 1)[:, 1:]


@lru_cache(maxsize=1 << 16)
def _overtakes(leader: int, rival: int, left: int) -> float:
    """P(rival + y >= leader + left - y), y ~ BetaBinomial(left, 1 + rival, 1 + leader), summed in logs."""
    first = max(0, -(-(leader - rival + left) // 2))
    if first > left:
        return 0.0
    y = np.arange(first, left + 1)
    log = _log_factorials(rival + leader + left + 2)
    ways = log[left] - log[y] - log[left - y]
    beta = log[rival + y] + log[leader + left - y] - log[rival + leader + left + 1]
    return float(np.exp(ways + beta - (log[rival] + log[leader] - log[rival + leader + 1])).sum())


@lru_cache(maxsize=64)
def _log_factorials(size: int) -> NDArray[np.float64]:
    """log k! for k = 0 ... size - 1."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(size, 1))))])
