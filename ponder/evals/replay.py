"""Strategies that only select, replayed over a bank: how right each would have been with k samples, and at what cost.

    replay = Replay(bank.samples("arithmetic/test/3"))
    replay.consensus(64)                                                  # exact
    SCORED["weighted vote"](replay, 64, replay.samples.scores["outcome"]).rates.mean()      # Monte Carlo

Nothing is drawn from a model. What has a closed form is exact over all subsets of k (stats.py); the rest is Monte Carlo
over `DRAWS` orders of each problem's samples, whose first k samples are a subset for every k at once. All strategies
see the same orders (common random numbers), so that the difference of two is much surer than either, and the orders
follow from the problem's id: a replay gives the same numbers anywhere.

Ties are shared evenly, as the live strategies' "the class seen first wins" does on average over orders where as many
samples are in each, and samples without an answer are paid for but never chosen and never vote. Tests hold all of
it against `strategies/select.py`, which the live strategies call.
What it all costs, and the table of all strategies, is accuracy_at_compute.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.evals.bank import Samples
from ponder.evals.stats import cons_at, pass_at
from ponder.scorers.calibration import rerank_at
from ponder.strategies import select
from ponder.strategies.sampling import vote_weights
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
        return random_orders(self.samples.problem.id, len(self), self.draws)

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """(draws, n): the answer classes in each order, -1 = no answer."""
        return self.samples.classes[self.orders]

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(draws, n): which samples are correct, in each order."""
        return self.samples.correct[self.orders]

    def plain(self, k: int) -> Floats:
        """(draws,): the vote of the first k of each order, whose exact mean is `consensus`."""
        if k not in self._plain:
            self._plain[k] = vote_shares(self.classes[:, :k], self.correct[:, :k])
        return self._plain[k]

    def free(self) -> None:
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


def random_orders(problem_id: str, n: int, draws: int = DRAWS) -> NDArray[np.int64]:
    """(draws, n): each row a random order of the n samples of a problem, the same for all who ask."""
    return np.random.default_rng(text_seed("replay", problem_id, n)).random((draws, n)).argsort(axis=1)


# --- the strategies ----------------------------------------------------------------------------------------------


def vote_shares(
    classes: NDArray[np.int64], correct: NDArray[np.bool_], weights: Floats | None = None
) -> NDArray[np.float64]:
    """The expected correctness of the vote in each row of (draws, k) samples: the heaviest class wins.

    Weights are 0 or more. Ties are shared, the answer shown is a random one of the class, class -1 does not vote, and a
    row without votes is 0.
    """
    counts = totals(classes)
    if not counts.size:
        return np.zeros(len(classes))
    votes = counts
    if weights is not None:
        votes = totals(classes, weights)
        votes = np.where(votes.any(axis=1, keepdims=True), votes, counts)  # no weight at all: the plain vote decides
    best = votes.max(axis=1, keepdims=True)
    # sums of the same weights in another order differ in their last bits, and are a tie all the same
    wins = (counts > 0) & (votes >= best * (1 - 1e-12))
    shares = np.divide(totals(classes, correct), counts, out=np.zeros_like(votes, dtype=float), where=counts > 0)
    return (wins * shares).sum(axis=1) / np.maximum(1, wins.sum(axis=1))


def totals(classes: NDArray[np.int64], values: NDArray[Any] | None = None) -> Floats:
    """(draws, classes): how many samples each row has of each class, or the sum of their values; -1 is left out."""
    draws, num = len(classes), int(classes.max(initial=-1)) + 1
    there = classes >= 0
    indices = (classes + num * np.arange(draws)[:, None])[there]
    sums = np.bincount(indices, None if values is None else values[there], minlength=draws * num)
    return sums.astype(np.float64).reshape(draws, num)


def weighted_vote(replay: Replay, k: int, scores: Floats) -> Floats:
    """(draws,): the vote of the first k of each order, a sample counting for its score as in a live vote."""
    weights = vote_weights(scores[replay.orders[:, :k]], has_scorer=True)
    return vote_shares(replay.classes[:, :k], replay.correct[:, :k], weights)


def confident_vote(replay: Replay, k: int) -> Floats:
    """(draws,): the vote of the most confident of the first k of each order, weighted by their confidence."""
    weights = select.confidence(replay.samples.mean_logprob[replay.orders[:, :k]], keep=select.KEEP)
    return vote_shares(replay.classes[:, :k], replay.correct[:, :k], weights)


def top_vote(replay: Replay, k: int, scores: Floats, m: int) -> Floats:
    """(draws,): the plain vote among the m best-scored of the first k that have an answer; equal scores in any order.

    A tie goes to the class of the best-scored sample: all ranks together add less than a vote, and the best rank of a
    class adds more than all after it.
    """
    ranked = np.where(replay.classes[:, :k] >= 0, -scores[replay.orders[:, :k]], np.inf)
    best = np.argsort(ranked, axis=1, kind="stable")[:, :m]
    classes = np.take_along_axis(replay.classes, best, axis=1)
    correct = np.take_along_axis(replay.correct, best, axis=1)
    return vote_shares(classes, correct, np.broadcast_to(1 + 0.5 ** np.arange(1, 1 + best.shape[1]), classes.shape))


def best_of(replay: Replay, k: int, scores: NDArray[np.floating[Any]]) -> float:
    """The best-scored of k, exact over all subsets; one without an answer is never the best."""
    return rerank_at(replay.samples.correct, np.where(replay.samples.classes >= 0, scores, -np.inf), k)


def top_m(k: int) -> int:
    """How many of k a vote after re-ranking is among: the square root, 8 of 64 and 32 of 1,000."""
    return max(1, round(math.sqrt(k)))


@dataclass(frozen=True)
class RuleResult:
    """How right a strategy was with the samples of one problem: numbers over its orders, or one exact number."""

    rates: Floats  # (draws,) how right it was; one number where it is exact
    used: NDArray[np.int64] | None = None  # (draws,) how many samples it drew, where it stops by itself

    @classmethod
    def exactly(cls, rate: float) -> RuleResult:
        return cls(np.array([rate]))


Rule = Callable[[Replay, int, Floats], RuleResult]  # the samples, k, the scorer's scores (no scorer: not to be used)

PLAIN: dict[str, Rule] = {
    "pass@k": lambda replay, k, _: RuleResult.exactly(pass_at(len(replay), int(replay.samples.correct.sum()), k)),
    "consensus": lambda replay, k, _: RuleResult.exactly(replay.consensus(k)),
}
CONFIDENT: dict[str, Rule] = {
    "most confident": lambda replay, k, _: RuleResult.exactly(best_of(replay, k, replay.samples.mean_logprob)),
    "confidence-weighted vote": lambda replay, k, _: RuleResult(confident_vote(replay, k)),
}
SCORED: dict[str, Rule] = {
    "rerank": lambda replay, k, scores: RuleResult.exactly(best_of(replay, k, scores)),
    "weighted vote": lambda replay, k, scores: RuleResult(weighted_vote(replay, k, scores)),
    "vote of the best": lambda replay, k, scores: RuleResult(top_vote(replay, k, scores, top_m(k))),
}
ORACLES = ("pass@k",)  # they look at the verdicts: bounds, not strategies


def adaptive_vote(replay: Replay, k: int, wave: int = select.WAVE) -> RuleResult:
    """Votes until the leader is safe or k samples are drawn, as `select.stops_at` says, looking every `wave` samples.

    That is asked of a row only where the runner-up alone could not win any more, and votes are counted as they come: a
    thousand samples mean 250 looks at each of the orders.
    """
    classes, correct = replay.classes[:, :k], replay.correct[:, :k]
    votes = np.zeros((len(classes), len(replay.samples.keys) + 2), dtype=np.int64)  # and two that nobody votes for
    used = np.full(len(classes), k)
    going = np.arange(len(classes))
    for drawn in range(wave, k, wave):
        rows, new = np.repeat(going, wave), classes[going, drawn - wave : drawn].ravel()
        np.add.at(votes, (rows[new >= 0], new[new >= 0]), 1)
        second, first = np.partition(votes[going], (-2, -1), axis=1)[:, -2:].T
        hopeful = [
            row for row, a, b in zip(going.tolist(), first.tolist(), second.tolist(), strict=True)
            if _duel_is_safe(a, b, k - drawn) and select.leader_is_safe(votes[row], left=k - drawn)
        ]  # fmt: skip
        used[hopeful] = drawn
        going = going[used[going] == k]
        if not len(going):
            break
    drawn_in_time = np.arange(k) < used[:, None]
    return RuleResult(vote_shares(np.where(drawn_in_time, classes, -1), correct), used)


@lru_cache(maxsize=1 << 17)
def _duel_is_safe(first: int, second: int, left: int) -> bool:
    return select.leader_is_safe([first, second], left=left)


ADAPTIVE: dict[str, Rule] = {"adaptive consensus": lambda replay, k, _: adaptive_vote(replay, k)}
