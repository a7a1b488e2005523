"""Contests of made-up people, whose ratings are known: does the way from submissions to a rating bring one back?

    contests = made_up_contests(num=12, num_humans=1000, seed=0)
    result = rate(contests, made_up_tries(contests, rating=1700, seed=0))     # close to 1700, inside the interval

Nobody writes a program here. A person's performance in a contest is the rating plus luck drawn from Gumbel's law of
scale 400 / ln 10, under which A is above B with exactly Elo's chance (and one contest scatters by 223 points, as people
do: 224 to 323 in real rounds). A problem has a difficulty on the same scale. It is solved by whoever performed above
it, the sooner the further above, after a few failed tries, the fewer the further above. Points fall with time and
failed tries as on Codeforces. A made-up model takes part in the same way, except that it has no clock.

Left out: hacks, problems of different subjects, people who stop early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ponder.config import ConfigError
from ponder.evals.contest_submissions import ContestTry, Tries
from ponder.evals.contests import MADE_UP, Contest, ContestProblem
from ponder.ratings import Floats
from ponder.types import text_seed

LUCK = 400 / math.log(10)
DIFFICULTIES = (800, 1150, 1450, 1750, 2050, 2350, 2700, 3100)  # moved a little in each contest
POINTS = (500, 750, 1000, 1500, 2000, 2500, 3000, 3500)
LANGUAGE = "none: made up"
SECONDS = 7200


def made_up_contests(
    *, num: int = 12, num_humans: int = 1000, num_problems: int = 8, seed: int = 0, speed: float = 0.0
) -> list[Contest]:
    """speed: from 0 to 1, how much of the time to a solution skill decides; luck decides the rest. ConfigError for
    sizes that make no contest."""
    if num < 1 or num_humans < 1 or not 2 <= num_problems <= 26:
        raise ConfigError("made-up contests need at least one contest, one human, and 2 to 26 problems")
    if not 0 <= speed <= 1:
        raise ConfigError(f"speed={speed:g} is a share of the time to a solution; give 0 to 1")
    return [_contest(f"made-up-{seed}-{i}", num_humans, num_problems, speed) for i in range(num)]


def made_up_tries(contests: Sequence[Contest], *, rating: float, seed: int = 0, num_tries: int = 10) -> Tries:
    """What a model of this true rating would have handed in."""
    found: dict[tuple[str, str], list[ContestTry]] = {}
    for contest in contests:
        rng = np.random.default_rng(text_seed(seed, "model", contest.id, rating))
        performance = rating + rng.gumbel(scale=LUCK)
        margins = performance - difficulties(contest.id, len(contest.problems))
        failed = _failed_tries(rng, margins)
        for problem, margin, count in zip(contest.problems, margins, failed.astype(int).tolist(), strict=True):
            verdicts = [False] * count + [True] if margin >= 0 else [False] * num_tries
            found[contest.id, problem.index] = [
                ContestTry(passed=passed, complete=True, language=LANGUAGE) for passed in verdicts[:num_tries]
            ]
    return found


def difficulties(name: str, num_problems: int) -> Floats:
    """Of the problems of a made-up contest, on the scale of ratings."""
    rng = np.random.default_rng(text_seed("difficulties", name))
    found: Floats = np.sort(_spread(DIFFICULTIES, num_problems) + rng.uniform(-100, 100, num_problems))
    return found


def _spread(values: Sequence[float], num: int) -> Floats:
    """As many values over the same range."""
    found: Floats = np.interp(np.linspace(0, len(values) - 1, num), np.arange(len(values)), values)
    return found


def _contest(name: str, num_humans: int, num_problems: int, speed: float) -> Contest:
    rng = np.random.default_rng(text_seed("contest", name))
    ratings = np.rint(np.clip(rng.normal(1450, 400, num_humans), 0, 3800))
    performances = ratings + rng.gumbel(scale=LUCK, size=num_humans)
    margins = performances[:, None] - difficulties(name, num_problems)  # (rows, problems)
    rejected = _failed_tries(rng, margins)
    by_skill = 1 / (1 + np.maximum(margins, 0) / 400)  # all of the contest's time for who barely solves
    share = speed * by_skill + (1 - speed) * rng.uniform(0.05, 1, margins.shape)
    full = np.round(_spread(POINTS, num_problems), -1)
    points = np.maximum(full * (1 - 0.5 * share) - 50 * rejected, 0.3 * full)
    is_solved, is_tried = margins >= 0, margins >= -300
    points = np.where(is_solved, np.floor(points), 0.0)
    results = np.stack([points, rejected, np.where(is_solved, np.floor(share * SECONDS), np.nan)], axis=2)
    results[~is_tried] = np.nan
    problems = tuple(ContestProblem(index=chr(ord("A") + j), points=each) for j, each in enumerate(full.tolist()))
    return Contest(
        id=name, kind="cf", source=f"{MADE_UP}: {num_humans} people, results by Elo's chances", date="2000-01-01",
        problems=problems, ratings=ratings, points=points.sum(axis=1), penalty=np.zeros(num_humans), results=results,
    )  # fmt: skip


def _failed_tries(rng: np.random.Generator, margins: Floats) -> Floats:
    """Failed tries before the one that passes: one on average for who barely solves, fewer above."""
    found: Floats = rng.poisson(np.exp(-np.maximum(margins, 0) / 300)).astype(float)
    return found
