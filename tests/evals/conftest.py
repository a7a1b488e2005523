"""A tiny task for the doubles of this room: item i asks for i, and the answer "?" is undecided."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ponder.types import Message, Problem, Verdict


class CountingTask:
    """`n3` is the problem "3"; the verifier compares text; the class of an answer is its text without spaces."""

    name, split, grader_version = "counting", "test", "counting 1"

    def __init__(self, size: int = 6) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        prompt = (Message(role="user", content=str(index)),)
        level, subject = index % 2, "<b>&"
        return Problem(id=f"n{index}", prompt=prompt, target=str(index), task=self.name, level=level, subject=subject)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        if answer == "crash":
            raise RecursionError("too deep")
        if answer == "?":
            return Verdict(outcome="undecided", reward=0.0, note="cannot tell")
        right = answer.strip() == problem.target
        return Verdict(outcome="correct" if right else "wrong", reward=float(right), extracted=answer.strip())

    def key(self, problem: Problem, answer: str) -> str | None:
        return None if answer == "none" else answer.strip() or None


@pytest.fixture
def make_task() -> Callable[[int], CountingTask]:
    return CountingTask
