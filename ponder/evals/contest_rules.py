"""Score rules for models in contests of humans: what a solved problem is worth to a contestant without a clock.

    median    the median points of the humans who solved it after as many failed tries (OpenAI, "Competitive
              Programming with Large Reasoning Models", App. B): a model gains nothing by being fast
    codeelo   the problem's points, less 50 for each failed try, without the decay with time (arXiv:2501.01257): as if
              everything had been solved in the first second, which lifts the rating

    untimed   the median rule for the humans as well: what anybody solved is worth what the median human got who
              solved it after as many failed tries, and these totals are compared

Why the third: a model under the median rule gets the speed of the *middle* human who solved a problem, and is ranked
among humans who solved as much as it did and are faster than that middle at the easy ones. In made-up contests in which
speed is skill, a model of 2400 comes out 130 too low and one of 900 some 100 too high; `untimed` says the same wherever
speed comes from (docs/code_contests.md). `median` stays the default, since published figures are made so.

In a contest of kind icpc a problem is worth 1 and the rules say its penalty: the median time of those humans, or none,
and 10 minutes for each failed try.

Where no human solved a problem after so many failed tries, `median` takes the nearest smaller count with 5 solvers, and
50 points off for each further try; where there is none, the problem's points in full, less 50 a failed try. Codeforces
never gives less than 30 % of the points. Both are marked in the result. Left out: hacks, which models do not make.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ponder.config import ConfigError
from ponder.evals.contests import Contest
from ponder.ratings import Floats

PER_TRY = 50.0  # points
MINUTES_PER_TRY = 10.0
LEAST_SHARE = 0.3  # of a problem's points
ENOUGH = 5  # solvers, for a median that others are derived from


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What one solved problem adds. `mark` says what was not read off humans; "" = all of it was."""

    points: float
    penalty: float = 0.0  # minutes, kind icpc
    mark: str = ""


def median_worth(contest: Contest, problem: int, failed: int) -> Worth:
    """As the humans did who solved it after `failed` rejected tries."""
    if contest.results is None:
        raise ConfigError(
            f"contest {contest.id} has totals only; the median rule needs the results of single problems: convert the "
            "answer to contest.standings (`ponder contest standings`), or use --rule codeelo"
        )
    points, rejected, seconds = contest.results[:, problem].T
    is_solved = np.nan_to_num(points) > 0
    column = seconds if contest.kind == "icpc" else points
    column, rejected = column[is_solved & ~np.isnan(column)], rejected[is_solved & ~np.isnan(column)]
    index, full = contest.problems[problem].index, contest.problems[problem].points
    counts = np.bincount(rejected.astype(int), minlength=failed + 1)
    if counts[failed]:
        found, further, mark = float(np.median(column[rejected == failed])), 0, ""
    elif len(smaller := np.flatnonzero(counts[:failed] >= ENOUGH)):
        near = int(smaller[-1])
        found, further = float(np.median(column[rejected == near])), failed - near
        mark = f"{index}: nobody solved it after {failed} failed tries; from {near}"
    elif contest.kind == "icpc":
        found, further = float(np.nanmax(contest.results[:, :, 2], initial=0.0)), 0
        mark = f"{index}: too few solved it; as if at the end"
    else:
        found, further, mark = full, failed, f"{index}: too few solved it; its full points"
    if contest.kind == "icpc":
        return Worth(points=1, penalty=math.floor(found / 60) + MINUTES_PER_TRY * failed, mark=mark)
    return Worth(points=max(found - PER_TRY * further, min(found, LEAST_SHARE * full)), mark=mark)


def codeelo_worth(contest: Contest, problem: int, failed: int) -> Worth:
    """Its points less what the failed tries cost."""
    full = contest.problems[problem].points
    if contest.kind == "icpc":
        return Worth(points=1, penalty=MINUTES_PER_TRY * failed)
    return Worth(points=max(full - PER_TRY * failed, LEAST_SHARE * full))


def as_ranked(contest: Contest) -> tuple[Floats, Floats]:
    """The humans' points and penalties as they were."""
    return contest.points, contest.penalty


def untimed(contest: Contest) -> tuple[Floats, Floats]:
    """The humans' points and penalties without their clocks; what hacks brought stays."""
    if contest.results is None:
        raise ConfigError(f"contest {contest.id} has totals only; the rule `untimed` needs the results of each problem")
    points, penalty = np.zeros(contest.num_humans), np.zeros(contest.num_humans)
    if contest.kind == "cf":
        points += contest.points - np.nansum(contest.results[:, :, 0], axis=1)
    for j in range(len(contest.problems)):
        scored, rejected, _ = contest.results[:, j].T
        is_solved = np.nan_to_num(scored) > 0
        for failed in np.unique(rejected[is_solved]).astype(int).tolist():
            rows, worth = is_solved & (rejected == failed), median_worth(contest, j, failed)
            points[rows] += worth.points
            penalty[rows] += worth.penalty
    return np.round(points, 6), penalty


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    worth: Callable[[Contest, int, int], Worth]  # (contest, problem, failed tries) of the model
    humans: Callable[[Contest], tuple[Floats, Floats]] = as_ranked  # the points and penalties that it is ranked among


RULES: Mapping[str, ScoreRule] = {
    "median": ScoreRule(worth=median_worth),
    "codeelo": ScoreRule(worth=codeelo_worth),
    "untimed": ScoreRule(worth=median_worth, humans=untimed),
}
