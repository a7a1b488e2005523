"""Strategies that only select, replayed over a bank: how right each would have been with k samples, and at what cost.

    tables = [bank.samples(problem.id) for problem in bank.problems]
    table = strategies(tables, bank.scorers, per_token=result["flops"]["per_token"])
    table["rows"]  -> {"strategy": "weighted vote", "scorer": "outcome", "points": [{"k": 64, "accuracy": ..., ...}]}

Nothing is drawn from a model. What has a closed form is exact over all subsets of k (stats.py); the rest is Monte Carlo
over `DRAWS` orders of each problem's samples, whose first k samples are a subset for every k at once. All strategies
see the same orders (common random numbers), so differences between them are much surer than each by itself, and orders
are derived from the problem's id, so that a replay gives the same numbers anywhere. `mc_sd` says how far the orders
could have moved a number: 0 where it is exact.

Ties are shared evenly, and samples without an answer are paid for but never chosen and never vote.

Costs are per problem: the prompt once and k samples, each with the tokens it took, and for a scorer what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.evals.bank import Samples
from ponder.evals.stats import Estimate, cons_at, interval, paired_difference, pass_at, powers_up_to, rerank_at
from ponder.types import text_seed

DRAWS = 100  # orders of the samples of a problem
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """One problem's samples in `DRAWS` random orders, for one scorer or none."""

    samples: Samples
    scores: Floats | None = None  # of the scorer; higher is better
    draws: int = DRAWS
    _votes: dict[int, float] = field(default_factory=dict, repr=False)

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

    def ordered(self, values: NDArray[Any]) -> NDArray[Any]:
        return values[self.orders]

    @property
    def given(self) -> Floats:
        if self.scores is None:
            raise ValueError("this strategy needs a scorer's scores")
        return self.scores

    def consensus(self, k: int) -> float:
        """The exact vote of k, remembered: every comparison asks for it."""
        if k not in self._votes:
            counts, correct = self.samples.tally()
            self._votes[k] = cons_at(counts, correct, k, blank=self.samples.blank)
        return self._votes[k]


def vote_shares(
    classes: NDArray[np.int64], correct: NDArray[np.bool_], weights: Floats | None = None
) -> NDArray[np.float64]:
    """The expected correctness of the vote in each row of (draws, k) samples: the heaviest class wins.

    Ties are shared, the answer shown is a random one of the class, class -1 does not vote, and without votes it is 0.
    """
    draws, num = len(classes), int(classes.max(initial=-1)) + 1
    if num == 0:
        return np.zeros(draws)
    places = (classes + num * np.arange(draws)[:, None])[classes >= 0]

    def total(values: NDArray[Any] | None) -> Floats:
        kept = None if values is None else values[classes >= 0]
        return np.bincount(places, kept, minlength=draws * num).reshape(draws, num)

    counts = total(None)
    votes = counts if weights is None else np.where(counts > 0, total(weights), -np.inf)
    best = votes.max(axis=1, keepdims=True)
    # sums of the same weights in another order differ in their last bits, and are a tie all the same
    wins = (counts > 0) & (votes >= best - 1e-9 * np.maximum(1e-3, np.abs(best)))
    shares = np.divide(total(correct), counts, out=np.zeros_like(votes, dtype=float), where=counts > 0)
    return (wins * shares).sum(axis=1) / np.maximum(1, wins.sum(axis=1))


def weighted_vote(replay: Replay, k: int, weights: Floats) -> Floats:
    """(draws,): the vote of the first k of each order, a sample counting for its weight."""
    return vote_shares(replay.classes[:, :k], replay.correct[:, :k], replay.ordered(weights)[:, :k])


def top_vote(replay: Replay, k: int, scores: Floats, m: int) -> Floats:
    """(draws,): the plain vote among the m best-scored of the first k that have an answer; equal scores in any order."""
    ranked = np.where(replay.classes[:, :k] >= 0, -replay.ordered(scores)[:, :k], np.inf)
    best = np.argsort(ranked, axis=1, kind="stable")[:, :m]
    return vote_shares(
        np.take_along_axis(replay.classes[:, :k], best, axis=1), np.take_along_axis(replay.correct[:, :k], best, axis=1)
    )


def best_of(replay: Replay, k: int, scores: Floats) -> float:
    """The best-scored of k, exact over all subsets; one without an answer is never the best."""
    return rerank_at(replay.samples.correct, np.where(replay.samples.classes >= 0, scores, -np.inf), k)


def top_m(k: int) -> int:
    """How many of k a vote after re-ranking is among: the square root, 8 of 64 and 32 of 1,000."""
    return max(1, round(math.sqrt(k)))
