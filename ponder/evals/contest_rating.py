"""A model in contests of humans: ten tries a problem, points, a place among the humans, a rating, percentiles.

    result = rate(read_contests(["rounds/"]), read_tries("runs/tries.jsonl"), rule="median")
    result.rating                        Rated(value=1673.0, low=1561.2, high=1784.8, num_contests=12, ...)
    result.contests[0].place             2310.5 of result.contests[0].num_humans

A problem is solved if one of its first ten tries passes the official tests in full; the tries before it are failed ones
and cost what the score rule says (contest_rules.py). The points decide the place, ties sharing it; the places of all
contests make the rating (ponder/ratings.py).

What it may be compared with is said by `mode`: real standings; a made-up contest, whose ratings are of made-up people;
or points only, where there are no standings and so no place and no rating. Contests are counted whole: a problem
without a try, or a verdict that is undecided, is an error that names it; a contest with incomplete tests is left out,
and listed under `refused`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ponder.config import ConfigError, nearest
from ponder.evals.contest_rules import RULES
from ponder.evals.contest_submissions import ContestTry, Tries
from ponder.evals.contests import Contest
from ponder.evals.populations import Percentile, percentiles
from ponder.ratings import Placing, Rated, codeelo_rating, contest_rating, likelihood_rating

NUM_TRIES = 10
MODES = {
    "made-up": "made-up contests: the rating is among made-up people, and says whether the way to it is right",
    "standings": "real standings: the rating is on the scale of the people in them, at the time of these rounds",
    "points": "no standings: points, which are comparable only with points in the same contest",
}


@dataclass(frozen=True, kw_only=True)
class ContestLine:
    """How one contest went."""

    contest: str
    date: str
    source: str
    num_solved: int
    num_problems: int
    points: float
    max_points: float
    penalty: float
    num_humans: int
    place: float | None = None  # from 1, halfway among ties; None where there are no humans
    share_beaten: float | None = None
    rating: float | None = None  # of this contest alone; None where everybody or nobody was beaten
    marks: tuple[str, ...] = ()  # points that were not read off humans


@dataclass(frozen=True, kw_only=True)
class ContestRating:
    """The result of `ponder contest rate`."""

    mode: str  # a key of MODES
    rule: str
    num_tries: int
    language: str
    rating: Rated | None  # None where there are points only
    codeelo: float | None = None  # the mean of the contests' own ratings, from the same places
    codeelo_cut: int = 0  # contests in which that is at its bound, so that the mean says little
    percentiles: tuple[Percentile, ...] = ()  # empty where everything was won or lost, and for made-up people
    contests: tuple[ContestLine, ...] = ()
    refused: tuple[str, ...] = field(default=())


def rate(
    contests: Sequence[Contest], tries: Tries, *, rule: str = "median", num_tries: int = NUM_TRIES
) -> ContestRating:
    """The rating of whoever made these tries."""
    if rule not in RULES:
        raise ConfigError(f"unknown score rule {rule!r}{nearest(rule, RULES)}; there are {', '.join(RULES)}")
    modes = {mode_of(contest) for contest in contests}
    if len(modes) > 1:
        raise ConfigError(f"contests of different kinds cannot be rated together: {', '.join(sorted(modes))}")
    counted, refused = [], []
    for contest in contests:
        _check(contest, tries)
        incomplete = [p.index for p in contest.problems if not all(t.complete for t in tries[contest.id, p.index])]
        if incomplete:
            refused.append(f"{contest.id}: its tests are not the official ones in full ({', '.join(incomplete)})")
        else:
            counted.append(contest)
    if not counted:
        raise ConfigError("no contest is left that can be counted; " + ("; ".join(refused) or "name at least one"))
    played = [_play(contest, tries, rule, num_tries) for contest in counted]
    placings = [placing for _, placing in played if placing is not None]
    known = {(contest.id, problem.index) for contest in counted for problem in contest.problems}
    languages = sorted({each.language for entry in known for each in tries[entry]})
    rated = likelihood_rating(placings) if placings else None
    mode = modes.pop()
    codeelo, num_cut = codeelo_rating(placings) if placings else (None, 0)
    return ContestRating(
        mode=mode,
        rule=rule,
        num_tries=num_tries,
        language=", ".join(languages),
        rating=rated,
        codeelo=codeelo,
        codeelo_cut=num_cut,
        percentiles=percentiles(rated.value, rated.low, rated.high)
        if rated and rated.value is not None and mode == "standings"
        else (),
        contests=tuple(line for line, _ in played),
        refused=tuple(refused),
    )


def mode_of(contest: Contest) -> str:
    """Which kind of result a contest allows."""
    return "made-up" if contest.is_made_up else "standings" if contest.num_humans else "points"


def _check(contest: Contest, tries: Tries) -> None:
    """Every problem of the contest was tried, and its humans have ratings."""
    if contest.num_humans and np.isnan(contest.ratings).all():
        raise ConfigError(f"contest {contest.id}: none of its humans has a rating; add those from before the contest")
    missing = [problem.index for problem in contest.problems if not tries.get((contest.id, problem.index))]
    if missing:
        raise ConfigError(
            f"contest {contest.id}: no try at {', '.join(missing)}; a contest counts whole. Add the tries (one with "
            '"passed": false where there was no answer), or leave the contest out'
        )


def _play(contest: Contest, tries: Tries, rule: str, num_tries: int) -> tuple[ContestLine, Placing | None]:
    """The points of one contest, and the place that they give."""
    points = penalty = 0.0
    num_solved, marks = 0, []
    for j, problem in enumerate(contest.problems):
        own = tries[contest.id, problem.index][:num_tries]
        failed = failed_before(own, f"contest {contest.id}, problem {problem.index}")
        num_solved += failed is not None
        if not contest.num_humans:
            points += _points_alone(problem.groups, problem.points, own, failed is not None)
        elif failed is not None:
            worth = RULES[rule].worth(contest, j, failed)
            points, penalty = points + worth.points, penalty + worth.penalty
            marks += [worth.mark] if worth.mark else []
    placing = place_among(contest, points, penalty, rule) if contest.num_humans else None
    alone = contest_rating(placing) if placing else None
    line = ContestLine(
        contest=contest.id,
        date=contest.date,
        source=contest.source,
        num_solved=num_solved,
        num_problems=len(contest.problems),
        points=points,
        max_points=sum(sum(p.groups.values()) or p.points for p in contest.problems),
        penalty=penalty,
        num_humans=contest.num_humans,
        place=placing.place if placing else None,
        share_beaten=placing.share if placing else None,
        rating=alone if alone is not None and abs(alone) != float("inf") else None,
        marks=tuple(marks),
    )
    return line, placing


def failed_before(tries: Sequence[ContestTry], where: str) -> int | None:
    """How many tries failed before the first that passed; None where none did. An undecided one on the way is an
    error: it says nothing about the program, and counted as failed it would be a lie."""
    for i, each in enumerate(tries):
        if each.passed is None:
            raise ConfigError(f"{where}: try {i + 1} is undecided; judge it again")
        if each.passed:
            return i
    return None


def _points_alone(groups: Mapping[str, float], full: float, tries: Sequence[ContestTry], solved: bool) -> float:
    """Without humans: what the groups of tests are worth of which some try passed all; else all or nothing."""
    if not groups:
        return full if solved else 0.0
    return sum(value for name, value in groups.items() if solved or any(name in each.groups for each in tries))


def place_among(contest: Contest, points: float, penalty: float = 0.0, rule: str = "median") -> Placing:
    """Where a total stands among the humans of a contest: who ties is beaten by half."""
    theirs, penalties = RULES[rule].humans(contest)
    points = round(points, 6)  # a sum in another order is the same sum
    is_tied = (theirs == points) & (penalties == penalty)
    is_below = (theirs < points) | ((theirs == points) & (penalties > penalty))
    beaten = float(is_below.sum() + is_tied.sum() / 2)
    return Placing(field=contest.field, beaten=beaten)
