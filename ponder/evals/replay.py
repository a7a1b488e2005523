"""Strategies that only select, replayed over a bank: how right each would have been with k samples, and at what cost.

    replay = Replay(bank.samples("arithmetic/test/3"))
    replay.consensus(64)                                                  # exact
    SCORED["weighted vote"](replay, 64, replay.samples.scores["outcome"]).rates.mean()      # Monte Carlo

Nothing is drawn from a model. What has a closed form is exact over all subsets of k (stats.py); the rest is Monte Carlo
over `DRAWS` orders of each problem's samples, whose first k samples are a subset for every k at once. All strategies
see the same orders (common random numbers), so that the difference of two is much surer than either, and the orders
follow from the problem's id: a replay gives the same numbers anywhere.

Ties are shared evenly, and samples without an answer are paid for but never chosen and never vote.
What it all costs, and the table of all strategies, is spending.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.evals.bank import Samples
from ponder.evals.stats import cons_at, pass_at, rerank_at
from ponder.types import text_seed

DRAWS = 100  # orders of the samples of a problem
Floats = NDArray[np.float64]


class Replay:
    """The samples of one problem, in `draws` random orders where a strategy needs that."""

    def __init__(self, samples: Samples, draws: int = DRAWS) -> None:
        self.samples, self.draws = samples, draws
        self.votes: dict[int, float] = {}  # k -> its consensus, which every comparison asks for
        self._plain: dict[int, Floats] = {}

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def orders(self) -> NDArray[np.int64]:
        """(draws, n): each row a random order of the samples."""
        rng = np.random.default_rng(text_seed("replay", self.samples.problem.id, len(self)))
        return rng.random((self.draws, len(self))).argsort(axis=1)

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        return self.samples.classes[self.orders]

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        return self.samples.correct[self.orders]

    def plain(self, k: int) -> Floats:
        """(draws,): the vote of the first k of each order, whose exact mean is `consensus`."""
        if k not in self._plain:
            self._plain[k] = vote_shares(self.classes[:, :k], self.correct[:, :k])
        return self._plain[k]

    def forget(self) -> None:
        """Let go of the orders, which take megabytes."""
        for name in ("orders", "classes", "correct"):
            self.__dict__.pop(name, None)
        self._plain.clear()

    def consensus(self, k: int) -> float:
        """The vote of k, exact."""
        if k not in self.votes:
            counts, correct = self.samples.tally()
            self.votes[k] = cons_at(counts, correct, k, blank=self.samples.blank)
        return self.votes[k]


# --- the strategies ----------------------------------------------------------------------------------------------


def vote_shares(
    classes: NDArray[np.int64], correct: NDArray[np.bool_], weights: Floats | None = None
) -> NDArray[np.float64]:
    """The expected correctness of the vote in each row of (draws, k) samples: the heaviest class wins.

    Ties are shared, the answer shown is a random one of the class, class -1 does not vote, and without votes it is 0.
    """
    counts = totals(classes)
    if not counts.size:
        return np.zeros(len(classes))
    votes = counts if weights is None else np.where(counts > 0, totals(classes, weights), -np.inf)
    best = votes.max(axis=1, keepdims=True)
    # sums of the same weights in another order differ in their last bits, and are a tie all the same
    wins = (counts > 0) & (votes >= best - 1e-9 * np.maximum(1e-3, np.abs(best)))
    shares = np.divide(totals(classes, correct), counts, out=np.zeros_like(votes, dtype=float), where=counts > 0)
    return (wins * shares).sum(axis=1) / np.maximum(1, wins.sum(axis=1))


def totals(classes: NDArray[np.int64], values: NDArray[Any] | None = None) -> Floats:
    """(draws, classes): how many samples each row has of each class, or the sum of their values; -1 is left out."""
    draws, num = len(classes), int(classes.max(initial=-1)) + 1
    there = classes >= 0
    places = (classes + num * np.arange(draws)[:, None])[there]
    sums = np.bincount(places, None if values is None else values[there], minlength=draws * num)
    return sums.astype(np.float64).reshape(draws, num)


def weighted_vote(replay: Replay, k: int, weights: Floats) -> Floats:
    """(draws,): the vote of the first k of each order, a sample counting for its weight."""
    return vote_shares(replay.classes[:, :k], replay.correct[:, :k], weights[replay.orders[:, :k]])


def top_vote(replay: Replay, k: int, scores: Floats, m: int) -> Floats:
    """(draws,): the plain vote among the m best-scored of the first k that have an answer; equal ones in any order."""
    ranked = np.where(replay.classes[:, :k] >= 0, -scores[replay.orders[:, :k]], np.inf)
    best = np.argsort(ranked, axis=1, kind="stable")[:, :m]
    return vote_shares(
        np.take_along_axis(replay.classes[:, :k], best, axis=1), np.take_along_axis(replay.correct[:, :k], best, axis=1)
    )


def best_of(replay: Replay, k: int, scores: NDArray[np.floating[Any]]) -> float:
    """The best-scored of k, exact over all subsets; one without an answer is never the best."""
    return rerank_at(replay.samples.correct, np.where(replay.samples.classes >= 0, scores, -np.inf), k)


def top_m(k: int) -> int:
    """How many of k a vote after re-ranking is among: the square root, 8 of 64 and 32 of 1,000."""
    return max(1, round(math.sqrt(k)))


@dataclass(frozen=True)
class Played:
    """What a strategy did with the samples of one problem: numbers over its orders, or one exact number."""

    rates: Floats  # (draws,) how right it was; one number where it is exact
    used: NDArray[np.int64] | None = None  # (draws,) how many samples it drew, where it stops by itself

    @classmethod
    def exactly(cls, rate: float) -> Played:
        return cls(np.array([rate]))


Rule = Callable[[Replay, int, Floats], Played]  # the samples, k, the scores of the scorer (no scorer: not to be used)

PLAIN: dict[str, Rule] = {
    "pass@k": lambda replay, k, _: Played.exactly(pass_at(len(replay), int(replay.samples.correct.sum()), k)),
    "consensus": lambda replay, k, _: Played.exactly(replay.consensus(k)),
}
CONFIDENT: dict[str, Rule] = {
    "most confident": lambda replay, k, _: Played.exactly(best_of(replay, k, replay.samples.mean_logprob)),
    "confidence-weighted vote": lambda replay, k, _: Played(weighted_vote(replay, k, confidence_weights(replay))),
}
SCORED: dict[str, Rule] = {
    "rerank": lambda replay, k, scores: Played.exactly(best_of(replay, k, scores)),
    "weighted vote": lambda replay, k, scores: Played(weighted_vote(replay, k, scores)),
    "vote of the best": lambda replay, k, scores: Played(top_vote(replay, k, scores, top_m(k))),
}
ORACLES = ("pass@k",)  # they look at the verdicts: bounds, not strategies


def confidence_weights(replay: Replay) -> Floats:
    """The mean chance of a sample's tokens (geometric)."""
    return np.exp(replay.samples.mean_logprob.astype(np.float64))


def adaptive_vote(replay: Replay, k: int) -> Played:
    """Votes in waves, until the leader is safe or k samples are drawn."""
    rates, used = np.zeros(replay.draws), np.zeros(replay.draws, dtype=np.int64)
    for stop in waves(k):
        going = np.flatnonzero(used == 0)
        classes, correct = replay.classes[going, :stop], replay.correct[going, :stop]
        ends = np.ones(len(going), dtype=bool)
        if stop < k:
            votes = np.pad(totals(classes), ((0, 0), (2, 0)))  # there may be fewer than two classes
            pairs, which = np.unique(np.sort(votes, axis=1)[:, :-3:-1], axis=0, return_inverse=True)
            ends = np.array([leader_is_safe(int(first), int(second)) for first, second in pairs])[which.ravel()]
        rates[going[ends]] = vote_shares(classes[ends], correct[ends])
        used[going[ends]] = stop
        if (used > 0).all():
            break
    return Played(rates, used)


def waves(k: int, first: int = 4) -> list[int]:
    """After how many samples a vote of up to k looks whether it may stop: 4, 6, 9, 14, ... and k."""
    stops = [min(first, k)]
    while stops[-1] < k:
        stops.append(min(k, math.ceil(1.5 * stops[-1])))
    return stops


def leader_is_safe(first: int, second: int, sure: float = 0.95) -> bool:
    """The chance that the first class is the more common one of the two is at least `sure` (arXiv:2305.11860)."""
    n = first + second + 1
    return sum(math.comb(n, i) for i in range(first + 1)) / 2**n >= sure


ADAPTIVE: dict[str, Rule] = {"adaptive consensus": lambda replay, k, _: adaptive_vote(replay, k)}
