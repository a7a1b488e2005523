"""Entries: the problems of a bank as a contest has them, what contestants know beside what only the judges do.

runner, points_of = open_runner(bank.spec.task)
entries_of(bank, table, runner, points_of=points_of)[0].pools[""]         # candidates: what a strategy is given
entries_of(bank, table, runner, points_of=points_of)[0].hidden            # points of every sample: what it is not
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from ponder.evals.bank import Bank
from ponder.evals.executions import REPEATED, ProgramRunner, answers_of, candidates
from ponder.evals.per_sample import PerSample
from ponder.evals.submissions import ContestRules, Floats, Submissions
from ponder.strategies.programs import Candidates, Goal, joined
from ponder.types import Problem

HiddenPoints = Callable[[Problem, str], Sequence[float]]  # of a program, in every goal; hidden tests are asked


@dataclass(frozen=True)
class Entry:
    """A problem as the ladder sees it. A way of choosing is given the pools and the goals, never `hidden`."""

    id: str
    pools: Mapping[str, Candidates]  # scorer -> the candidates with its scores; "" = without any
    goals: tuple[Goal, ...]
    hidden: Floats  # (n, goals) points of every sample
    programs: int  # different ones
    inputs: int  # runs of one of them for its behaviour, those that are repeated included

    @property
    def full(self) -> tuple[float, ...]:
        """The points of every goal: what a program that passes everything gets."""
        return tuple(goal.points for goal in self.goals)

    def contest(self, rules: ContestRules) -> Submissions:
        """Where its samples may be submitted."""
        return Submissions(lambda _, sample: self.hidden[sample], {self.id: self.full}, rules)


def entries_of(
    bank: Bank, table: PerSample, runner: ProgramRunner, *, scorers: Sequence[str] = (),
    points_of: HiddenPoints | None = None,
) -> list[Entry]:  # fmt: skip
    """The problems of a bank whose programs were run. points_of: hidden points by subtask, kept beside the bank once
    they are known; without it a sample has the verdict that the bank holds, all or nothing. Problems of the bank that
    are subtasks of one are one entry, whose samples know which subtask was asked for."""
    parts: dict[str, list[Problem]] = {}
    for problem in bank.problems:
        parts.setdefault(runner.contest(problem)[0], []).append(problem)
    found = None if points_of is None else judged(bank, runner, points_of)
    return [_entry(name, bank, table, runner, problems, scorers, found) for name, problems in parts.items()]


def judged(bank: Bank, runner: ProgramRunner, points_of: HiddenPoints) -> PerSample:
    """The hidden points of every sample, each program judged once; what was judged before is read, and what stayed
    undecided (nan: the machine failed it, which says nothing of the program) is judged again."""
    facts = {"grader": bank.spec.grader, "language": runner.facts["language"]}
    table = PerSample(bank.folder / "points" / str(runner.facts["language"]), {"points": "list<float64>"}, facts)
    todo = table.missing(bank, is_again=lambda row: any(value != value for value in row["points"]))
    answers = answers_of(bank, todo)
    with table.filled() if todo else nullcontext():
        for problem in bank.problems:
            known: dict[str | None, Sequence[float]] = {None: [0.0] * len(runner.goals(problem))}
            for sample in todo.get(problem.id, ()):
                answer = answers[problem.id][sample]
                text = runner.program(problem, answer) if answer else None
                if text not in known:
                    known[text] = points_of(problem, text or "")
                table.add([(problem.id, sample, {"points": list(known[text])})])
    return table


def _entry(
    name: str, bank: Bank, table: PerSample, runner: ProgramRunner, problems: Sequence[Problem],
    scorers: Sequence[str], found: PerSample | None,
) -> Entry:  # fmt: skip
    pools, goals, points = {}, tuple([Goal()]), []
    asked = np.repeat([runner.contest(p)[1] for p in problems], [bank.num_samples(p.id) for p in problems])
    for scorer in ("", *scorers):
        pool = joined([candidates(bank, table, problem.id, scorer=scorer) for problem in problems])
        pools[scorer] = replace(pool, goals=asked)
    if found is not None:
        goals = tuple(runner.goals(problems[0]))
        points = [np.array(found.of(p.id, bank.num_samples(p.id))["points"], float) for p in problems]
    else:
        worth = {"correct": 1.0, "wrong": 0.0}
        points = [np.array([[worth.get(o, np.nan)] for o in bank.samples(p.id).outcomes.tolist()]) for p in problems]
    pool = pools[""]
    again = 0 if runner.repeats_itself else min(REPEATED, pool.outputs.shape[1])
    distinct = len(set(pool.programs[pool.programs >= 0].tolist()))
    return Entry(name, pools, goals, np.concatenate(points), distinct, pool.outputs.shape[1] + again)
