"""An olympiad: one contestant, so many submissions a problem, and only what is submitted is judged.

    scores = olympiad(bank, table, runner, points_of)         # 50 submissions a problem
    sum(each.score for each in scores)                         # of 600, say
    percentile(213, [600, 400, 213, 100])                       # 37.5: better than one and level with one of four

Where every sample has been judged, `ladder.py` compares ways of choosing. Judging takes seconds a program on a real
package, so this plays the contest once and judges no more than a contestant would have judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ponder.evals.bank import Bank
from ponder.evals.entries import HiddenPoints, entries_of
from ponder.evals.executions import ProgramRunner, answers_of
from ponder.evals.per_sample import PerSample
from ponder.evals.replay import random_orders
from ponder.evals.submissions import IOI, ContestRules, Submissions, scores_of
from ponder.strategies.programs import Choosing, prepare
from ponder.types import Problem


@dataclass(frozen=True, kw_only=True)
class OlympiadScore:
    """The result of one problem."""

    problem: str
    score: float  # the best of each subtask, then the sum
    full: float
    subtasks: tuple[float, ...]  # the best of each
    submissions: int
    samples: int


def olympiad(
    bank: Bank, table: PerSample, runner: ProgramRunner, points_of: HiddenPoints, *, rules: ContestRules = IOI,
    choosing: Choosing | None = None, scorer: str = "",
    on_submission: Callable[[str, int, Sequence[float]], None] | None = None,
) -> list[OlympiadScore]:  # fmt: skip
    """Every problem of a bank, submitted until it is solved or no submission is left."""
    scores = []
    scorers = [scorer] if scorer else []
    for entry in entries_of(bank, table, runner, scorers=scorers):
        problems = [problem for problem in bank.problems if runner.contest(problem)[0] == entry.id]
        programs = _programs(bank, runner, problems)
        goals = tuple(runner.goals(problems[0]))

        def ask(name: str, sample: int, programs: Sequence[tuple[Problem, str | None]] = programs) -> Sequence[float]:
            problem, text = programs[sample]
            points = points_of(problem, text) if text is not None else [0.0] * len(runner.goals(problem))
            if on_submission is not None:
                on_submission(name, sample, points)
            return points

        contest = Submissions(ask, {entry.id: [goal.points for goal in goals]}, rules)
        prepared = prepare(entry.pools[scorer], choosing or Choosing(), goals)
        [order] = random_orders(entry.id, len(programs), 1)
        scores_of(prepared, contest, entry.id, rules.limit, order)
        made = [points for _, points in contest.made.get(entry.id, ())]
        best = np.max(made, axis=0) if made else np.zeros(len(goals))
        scores.append(
            OlympiadScore(
                problem=entry.id, score=contest.score(entry.id), full=sum(goal.points for goal in goals),
                subtasks=tuple(best.tolist()), submissions=len(made), samples=len(programs),
            )
        )  # fmt: skip
    return scores


def percentile(score: float, standings: Sequence[float]) -> float:
    """The share of contestants with fewer points, those level with it counting half, in percent."""
    if not standings:
        raise ValueError("standings without a contestant: give one total a line")
    totals = np.asarray(standings, float)
    return float(100 * ((totals < score).sum() + 0.5 * (totals == score).sum()) / len(totals))


def _programs(bank: Bank, runner: ProgramRunner, problems: Sequence[Problem]) -> list[tuple[Problem, str | None]]:
    """Every sample's program, in the order of the entry's candidates."""
    answers = answers_of(bank, [problem.id for problem in problems])
    return [
        (problem, runner.program(problem, answer) if answer else None)
        for problem in problems
        for _, answer in sorted(answers[problem.id].items())
    ]
