"""Ratings on the scale of Elo: the chance to win, Codeforces' own update, and the strength of a participant.

    win_chance(1800, 1400)                                 0.909..: 1 / (1 + 10^((1400 - 1800) / 400))
    rating_changes([1500, 1500], ranks([20, 10]))          [96, -98]: what Codeforces adds after a contest
    field = HumanField.of([1500, 1700, None])              the humans of a contest; None = unrated, counts as 1400
    likelihood_rating([Placing(field=field, beaten=2)])    1667: who beats two of these three

`likelihood_rating` is the maximum over R of the mean over contests of the mean over humans of the log-likelihood
(OpenAI, "Competitive Programming with Large Reasoning Models", App. B), a tie being half a win. At the maximum the
share of humans that were beaten, averaged over contests, is the share that R is expected to beat; with one contest this
is CodeElo's rating, arXiv:2501.01257. Who won or lost everything has no finite maximum, and gets a bound.

Intervals are by contests, never by the curvature of the likelihood: all comparisons of a contest share one performance,
and curvature takes them for thousands of separate games (it says 3 to 10 points where people scatter by 220 to 320).

Numbers lie on a grid of whole ratings from -2000 to 8000, so that the rest is one convolution a contest and lookups.
Left out: volatility, the decay of a rating with time, teams. Bradley and Terry's model of
votes is evals/bradley_terry.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ponder.intervals import Z, student

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNRATED = 1400  # Codeforces counts a newcomer so
LOWEST, HIGHEST = -2000, 8000  # of the grid
GRID = np.arange(LOWEST, HIGHEST + 1)
CONTEST_SD = 270.0  # one contest about the person: 224 to 323 in six rounds of 2020, the middle by hand
FEWEST = 6  # contests, for an interval from their own spread


def win_chance(rating: ArrayLike, other: ArrayLike) -> Floats:
    """The chance that `rating` comes out above `other`."""
    difference = np.asarray(other, float) - np.asarray(rating, float)
    chance: Floats = 0.5 - 0.5 * np.tanh(difference * (math.log(10) / 800))  # the same, and never overflows
    return chance


# entry LOWEST - HIGHEST + i: the chance of somebody so many points higher
_CHANCES = win_chance(np.arange(LOWEST - HIGHEST, HIGHEST - LOWEST + 1), 0)


def ranks(points: ArrayLike, penalty: ArrayLike | None = None) -> Ints:
    """Places from 1; more points are better, then less penalty; who ties has the worst of the places shared.

    ranks([30, 20, 20, 10]) -> [1, 3, 3, 4]
    """
    points = np.asarray(points, float)
    penalty = np.zeros_like(points) if penalty is None else np.asarray(penalty, float)
    if points.ndim != 1 or points.shape != penalty.shape or np.isnan(points).any() or np.isnan(penalty).any():
        raise ValueError("points and penalties must be two lists of numbers, one of each a participant")
    order = np.lexsort((penalty, -points))
    is_last = np.ones(len(order), bool)  # of its ties
    is_last[:-1] = (np.diff(points[order]) != 0) | (np.diff(penalty[order]) != 0)
    ends = np.flatnonzero(is_last)
    found = np.empty(len(order), np.int64)
    found[order] = ends[np.searchsorted(ends, np.arange(len(order)))] + 1
    return found


def _whole(ratings: Sequence[float | None] | ArrayLike) -> Ints:
    """Ratings as whole numbers on the grid; None and nan are unrated."""
    given = np.array(ratings, dtype=float)  # None becomes nan
    given = np.where(np.isnan(given), UNRATED, given)
    if given.ndim != 1 or not ((given >= LOWEST) & (given <= HIGHEST)).all():
        raise ValueError(f"ratings must be a list of numbers from {LOWEST} to {HIGHEST}, or None for unrated")
    return np.rint(given).astype(np.int64)


def _expected_above(ratings: Ints) -> Floats:
    """For every rating of the grid: how many of these people are expected above it."""
    if not len(ratings):
        return np.zeros(len(GRID))
    least = int(ratings.min())
    counts = np.bincount(ratings - least)
    # sum over people of chances[person - r]: a convolution, of which the part that belongs to the grid is kept
    first = least - HIGHEST - (LOWEST - HIGHEST)
    window = _CHANCES[first : first + len(GRID) + len(counts) - 1]
    above: Floats = np.convolve(window, counts[::-1], mode="valid")[::-1]
    return above


def rating_changes(ratings: Sequence[float | None] | ArrayLike, places: ArrayLike) -> Ints:
    """What Codeforces adds to each rating after a contest. `places` as `ranks` gives them: ties take the worst.

    Everybody has a seed, the place that the ratings predict; the rating whose seed is the geometric mean of seed and
    place is what the person played like, and half of the way there is the change. Then all changes are lowered so that
    their sum is just below 0, and again so that the best rated do not inflate.
    """
    whole, places = _whole(ratings), np.asarray(places, float)
    if places.shape != whole.shape or not (places >= 1).all():
        raise ValueError("places must be a list of numbers from 1, one for each rating")
    if not len(whole):
        return np.zeros(0, np.int64)
    seeds = 1 + _expected_above(whole)  # of somebody who is not one of them

    def seed(at: Ints) -> Floats:
        mine: Floats = seeds[at - LOWEST] - win_chance(whole, at)  # nobody is above himself
        return mine

    wanted = np.sqrt(places * seed(whole))
    least, most = np.ones_like(whole), np.full_like(whole, HIGHEST)  # the last rating whose seed is `wanted` or worse
    while (most - least > 1).any():
        middle = (least + most) // 2
        is_enough = seed(middle) >= wanted
        least, most = np.where(is_enough, middle, least), np.where(is_enough, most, middle)
    changes = np.trunc((least - whole) / 2).astype(np.int64)
    changes += int(-changes.sum() / len(changes)) - 1
    best = np.argsort(-whole, kind="stable")[: min(len(whole), 4 * math.floor(math.sqrt(len(whole)) + 0.5))]
    changes += min(0, max(-10, int(-changes[best].sum() / len(best))))
    return changes


@dataclass(frozen=True)
class HumanField:
    """The humans of a contest by their ratings before it. Its curve costs a convolution, once."""

    ratings: Ints

    @classmethod
    def of(cls, ratings: Sequence[float | None] | ArrayLike) -> HumanField:
        """None and nan are unrated. ValueError for an empty field, or for ratings outside of `GRID`."""
        found = cls(_whole(ratings))
        if not len(found.ratings):
            raise ValueError("a contest without humans says nothing about a rating; give the ratings of its field")
        return found

    def __len__(self) -> int:
        return len(self.ratings)

    @cached_property
    def curve(self) -> Floats:
        """The share of the field that each rating of `GRID` is expected to beat: rises from 0 to 1."""
        share: Floats = 1 - _expected_above(self.ratings) / len(self)
        return share


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How one contest went: how many of its humans came out below, each tie counting a half."""

    field: HumanField
    beaten: float

    def __post_init__(self) -> None:
        if not 0 <= self.beaten <= len(self.field):
            raise ValueError(f"beaten={self.beaten} of {len(self.field)} humans is impossible")

    @property
    def share(self) -> float:
        """Of the field that was beaten, from 0 to 1."""
        return self.beaten / len(self.field)

    @property
    def place(self) -> float:
        """Counted from 1, halfway among ties."""
        return 1 + len(self.field) - self.beaten


@dataclass(frozen=True, kw_only=True)
class Rated:
    """A rating with its 95 % interval over contests.

    value is None where everything was won or lost: then `bound` is what the rating is above (won) or below.
    """

    value: float | None
    low: float
    high: float
    num_contests: int
    interval: str  # how it was made: "jackknife over contests", or "±1.96 × 270/√k, k contests"
    bound: float | None = None


def likelihood_rating(placings: Sequence[Placing]) -> Rated:
    """The rating at which the results of these contests are the most probable, with its interval."""
    if not placings:
        raise ValueError("a rating needs at least one contest")
    k = len(placings)
    value = _solve(_mean_curve(placings), float(np.mean([placing.share for placing in placings])))
    assumed = Z * CONTEST_SD / math.sqrt(k)
    if not math.isfinite(value):
        bound = profile_bound(placings)
        low, high = (bound - assumed, math.inf) if value > 0 else (-math.inf, bound + assumed)
        method = f"the profile, and 1.96 × {CONTEST_SD:.0f}/√k for the luck of {k} contests"
        return Rated(value=None, low=low, high=high, num_contests=k, interval=method, bound=bound)
    if k < FEWEST or (spread := _jackknife(placings, value)) is None:
        method = f"±1.96 × {CONTEST_SD:.0f}/√k, k = {k}"
        return Rated(value=value, low=value - assumed, high=value + assumed, num_contests=k, interval=method)
    half = student(k - 1) * spread
    method = f"jackknife over {k} contests"
    return Rated(value=value, low=value - half, high=value + half, num_contests=k, interval=method)


def codeelo_rating(placings: Sequence[Placing]) -> tuple[float, int]:
    """CodeElo's: the mean over contests of the rating whose seed is the place, each cut to [0, best human + 100]; and
    how many contests were cut. A place of 1 is always cut, so the mean says little where that happened."""
    if not placings:
        raise ValueError("a rating needs at least one contest")
    found = np.array([contest_rating(placing) for placing in placings])
    cut = np.clip(found, 0, [float(placing.field.ratings.max()) + 100 for placing in placings])
    return float(cut.mean()), int((cut != found).sum())


def contest_rating(placing: Placing) -> float:
    """The rating from one contest alone; infinite where everybody, or nobody, was beaten."""
    return _solve(placing.field.curve, placing.share)


def profile_bound(placings: Sequence[Placing]) -> float:
    """Where all was won: the rating at which winning it all is as improbable as the likelihood ratio allows (a log of
    1.92 below the best, 95 %), every comparison counted once. Below it winning everything would be a surprise."""
    is_won = placings[0].beaten > 0
    coarse = GRID[::10]  # enough for a bound
    logs = np.zeros(len(coarse))
    for placing in placings:
        people, counts = np.unique(placing.field.ratings, return_counts=True)
        chance = win_chance(coarse[:, None], people) if is_won else win_chance(people, coarse[:, None])
        logs += np.log(np.maximum(chance, 1e-300)) @ counts
    inside = coarse[logs >= -Z * Z / 2]
    if not len(inside):  # a field at the very end of the grid
        return float(HIGHEST if is_won else LOWEST)
    return float(inside[0] if is_won else inside[-1])


def _mean_curve(placings: Sequence[Placing]) -> Floats:
    mean: Floats = np.mean([placing.field.curve for placing in placings], axis=0)
    return mean


def _solve(curve: Floats, share: float) -> float:
    """The rating that is expected to beat this share; infinite outside the grid."""
    if share <= 0 or share < curve[0]:
        return -math.inf
    if share >= 1 or share > curve[-1]:
        return math.inf
    return float(np.interp(share, curve, GRID))


def _jackknife(placings: Sequence[Placing], value: float) -> float | None:
    """The standard error from leaving out one contest at a time; None where the rest has no finite rating."""
    k = len(placings)
    total, shares = _mean_curve(placings) * k, np.array([placing.share for placing in placings])
    without = np.array(
        [
            _solve((total - placing.field.curve) / (k - 1), float((shares.sum() - placing.share) / (k - 1)))
            for placing in placings
        ]
    )
    if not np.isfinite(without).all():
        return None
    return math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
