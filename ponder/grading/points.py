"""Points for a program by subtasks: which tests are run, what they come to, and what several submissions come to.

    subtasks = [Subtask(name="small", points=10, tests=("a", "b")), Subtask(name="full", points=90, tests=("a", "c"))]
    judged = judge_subtasks(subtasks, {"a": 1.0, "b": 0.5, "c": 0.0}.__getitem__)
    judged.points, judged.total              (5.0, 0.0), 5.0
    best_of([(5.0, 0.0), (0.0, 90.0)])       (5.0, 90.0): the best of each subtask, never the sum of programs

A subtask is worth its points times the least score of its tests, and a test that several subtasks share runs once.
After a score of 0 the rest of the subtask is not run. A test that says nothing about the program (a run that the
machine lost, a checker that broke) leaves its subtasks undecided, unless another test of theirs is 0 anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Score = float | None  # from 0 to 1; None = undecided


@dataclass(frozen=True, kw_only=True)
class Subtask:
    """Points, and the tests that must all be passed for them."""

    name: str
    points: float
    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a program got."""

    subtasks: tuple[Subtask, ...]  # those that were asked for
    points: tuple[float | None, ...]  # of each; None = undecided
    tests: Mapping[str, Score]  # of those that were run
    note: str = ""  # for people: the first thing that went wrong
    slowness: float = 1.0  # what time limits were multiplied by
    fence: str = ""  # what stood between the program and the machine

    @property
    def is_undecided(self) -> bool:
        """Whether the points of any subtask that was asked for are not known."""
        return None in self.points

    @property
    def total(self) -> float:
        """An undecided subtask counts as 0: ask `is_undecided` first."""
        return sum(points or 0.0 for points in self.points)

    @property
    def share(self) -> float:
        """Of the points that could be had; 1 exactly where every subtask is full."""
        most = sum(subtask.points for subtask in self.subtasks)
        full = all(p == s.points for p, s in zip(self.points, self.subtasks, strict=True))
        return 1.0 if full else self.total / most if most else 0.0


def judge_subtasks(subtasks: Sequence[Subtask], run: Callable[[str], Score], *, stop_early: bool = True) -> Judged:
    """Run the tests of the subtasks in turn, each once; stop_early=False runs those too that decide nothing more."""
    scores: dict[str, Score] = {}
    points: list[float | None] = []
    for subtask in subtasks:
        known = [scores[test] for test in subtask.tests if test in scores]
        is_lost = 0.0 in known
        for test in subtask.tests:
            if test in scores:
                continue
            if is_lost and stop_early:
                break
            scores[test] = score = run(test)
            is_lost = is_lost or score == 0
        points.append(_points(subtask, scores))
    return Judged(subtasks=tuple(subtasks), points=tuple(points), tests=scores)


def _points(subtask: Subtask, scores: Mapping[str, Score]) -> float | None:
    found = [scores[test] for test in subtask.tests if test in scores]
    if 0.0 in found:
        return 0.0
    if None in found or not found:
        return None
    least = min(score for score in found if score is not None)
    return subtask.points * least


def best_of(submissions: Sequence[Sequence[float | None]]) -> tuple[float, ...]:
    """The best of each subtask over the submissions; their sum is the score of a contest."""
    return tuple(max(points or 0.0 for points in column) for column in zip(*submissions, strict=True))
