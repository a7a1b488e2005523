"""Submitting programs as at a contest: the only access to hidden results, and the score of a way of choosing.

    contest = Submissions(points_of, full={"message": (10.0, 90.0)}, rules=IOI)
    contest.submit("message", 17)       -> (10.0, 0.0)    what the contest's system would show of sample 17
    contest.score("message")            -> 10.0           the best of each subtask over submissions, then their sum
    scores_of(prepared, contest, "message", 50)           -> the score after 1, 2, ... 50 submissions

`points_of(problem, sample)` asks the hidden tests, or looks up what they said: only what is submitted is judged. A way
of choosing (strategies/programs.py) is given candidates, which have no hidden results, and afterwards what `submit`
returned; nothing else passes. At IOI that is the points of every subtask and 50 submissions a problem; at Codeforces
accepted or not, and ten, as o1's announcement counts them.

Submitting at random needs no simulation: `random_score` is its exact mean over all choices of b of n samples, and
`coverage` is what all n together would get, which no way of choosing can pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ponder.scorers.calibration import rerank_at
from ponder.strategies.programs import Codes, Prepared, submissions

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ContestRules:
    """What a contest allows, and what it reveals."""

    name: str
    limit: int  # submissions a problem
    reveals_points: bool  # of every subtask; False: whether the program is accepted, which is for full points alone


IOI = ContestRules(name="ioi", limit=50, reveals_points=True)
CODEFORCES = ContestRules(name="codeforces", limit=10, reveals_points=False)
RULES = {rules.name: rules for rules in (IOI, CODEFORCES)}


class NoSubmissionLeft(ValueError):
    """A problem's submissions are used up."""


@dataclass
class Submissions:
    """A contest's system: it counts submissions and returns what the real one would."""

    points_of: Callable[
        [str, int], Sequence[float]
    ]  # hidden: (problem, sample) -> points; nan = undecided, worth nothing
    full: Mapping[str, Sequence[float]]  # problem -> the points of each subtask
    rules: ContestRules
    made: dict[str, list[tuple[int, tuple[float, ...]]]] = field(default_factory=dict)  # problem -> (sample, points)

    def submit(self, problem: str, sample: int) -> tuple[float, ...]:
        """The points of a sample's program in every subtask, as far as the rules reveal them."""
        made = self.made.setdefault(problem, [])
        if len(made) >= self.rules.limit:
            raise NoSubmissionLeft(f"{problem} has had its {self.rules.limit} submissions ({self.rules.name} rules)")
        points = [float(value) if value == value else 0.0 for value in self.points_of(problem, sample)]
        if not self.rules.reveals_points:  # as `points_under_rules` does it for whole tables
            full = self.full[problem]
            is_accepted = all(point >= most - 1e-9 for point, most in zip(points, full, strict=True))
            points = [float(most) * is_accepted for most in full]
        returned = tuple(points)
        made.append((sample, returned))
        return returned

    def score(self, problem: str) -> float:
        """The best of each subtask over the submissions, then the sum. Submissions are never added up."""
        made = [points for _, points in self.made.get(problem, ())]
        return float(np.max(made, axis=0).sum()) if made else 0.0


def points_under_rules(points: ArrayLike, full: Sequence[float], rules: ContestRules) -> Floats:
    """Hidden points as the rules reveal them: what is undecided is worth nothing, and without points all or nothing."""
    table, most = np.nan_to_num(np.asarray(points, float)), np.asarray(full, float)
    return table if rules.reveals_points else most * (table >= most - 1e-9).all(axis=1, keepdims=True)


def scores_of(
    prepared: Prepared, contest: Submissions, problem: str, most: int, order: Codes | None = None
) -> tuple[Floats, int]:
    """(most,): the score after 1, 2, ... submissions, the last one staying when none is left to make; and how many were
    made."""
    contest.made.pop(problem, None)
    chooser = submissions(prepared, order)
    scores = np.zeros(most)
    best: tuple[float, ...] = ()
    number = 0
    try:
        sample = next(chooser)
        while number < most:
            points = contest.submit(problem, sample)
            best = tuple(map(max, best, points)) if best else points
            scores[number] = sum(best)
            number += 1
            sample = chooser.send(points)
    except StopIteration:
        scores[number:] = sum(best)
    return scores, number


def random_score(points: ArrayLike, b: int) -> float:
    """The mean score of b samples out of n, exact over all choices of b. points: (n, subtasks) of every sample.

    For all or nothing that is 1 - C(n-c, b) / C(n, b) with c right of n.
    """
    table = np.nan_to_num(np.asarray(points, float))
    return sum(_expected_best(column, np.zeros(len(column)), b) for column in table.T)


def tiered_score(points: ArrayLike, tiers: ArrayLike, b: int) -> float:
    """The same where samples of a lower tier are submitted first, and within a tier at random."""
    table = np.nan_to_num(np.asarray(points, float))
    return sum(_expected_best(column, np.asarray(tiers), b) for column in table.T)


def _expected_best(points: Floats, tiers: NDArray[np.floating], b: int) -> float:
    """Whole tiers while they fit into b; of the tier that does not, what is left of b at random."""
    best, most = 0.0, max(1.0, float(points.max()))  # rerank_at is for shares
    for tier in np.unique(tiers):
        members = np.maximum(points[tiers == tier], best)
        if b < len(members):
            return most * rerank_at(members / most, members, b) if b else best
        best, b = float(members.max()), b - len(members)
    return best


def coverage(points: ArrayLike) -> float:
    """What all samples together would get."""
    return float(np.nan_to_num(np.asarray(points, float)).max(axis=0).sum())
