"""The bench that compares programs with chains: what costs as much is compared, and the same differs by nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ponder.evals.accuracy_at_compute import ProblemCost
from ponder.evals.bank import Samples
from ponder.types import Message, Problem

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import code_exams
import paired


def table(number: int, *, right: int, tokens: int, n: int = 8) -> Samples:
    """Samples of a problem: some right, the others each wrong in its own way."""
    problem = Problem(id=f"p{number}", prompt=(Message(role="user", content="?"),), target="1", task="t")
    return Samples(
        problem=problem, outcomes=np.array(["correct"] * right + ["wrong"] * (n - right)),
        classes=np.array([0] * right + list(range(1, n - right + 1))), keys=tuple(map(str, range(n - right + 1))),
        prompt_tokens=10, tokens=np.full(n, tokens), reasoning_tokens=np.zeros(n, np.int64),
        was_cut=np.zeros(n, bool), finish_reasons=np.array(["stop"] * n), errors=0,
        mean_logprob=np.full(n, -0.5, np.float32), worst_logprob=np.full(n, -1.0, np.float32),
    )  # fmt: skip


def of(right: list[int], tokens: int) -> tuple[list[Samples], list[ProblemCost]]:
    tables = [table(i, right=each, tokens=tokens) for i, each in enumerate(right)]
    return tables, [ProblemCost(each, (1e9, 0.0)) for each in tables]


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_the_same_samples_as_programs_and_as_chains_differ_by_nothing_at_equal_flops():
    same = of([1, 4, 7], 20)
    for line in code_exams.at_equal_flops("m", {"programs": same, "chains": same}):
        _, k, mine, _, chains, theirs, difference = columns(line)
        assert chains.split()[0] == k and mine == theirs and difference.startswith("+0.0")


def test_chains_twice_as_long_are_half_as_many():
    lines = code_exams.at_equal_flops("m", {"programs": of([4, 4], 20), "chains": of([4, 4], 40)})
    assert [columns(line)[4].split()[0] for line in lines] == ["1", "1", "2", "4"]  # of 1, 2, 4 and 8 programs


def test_a_later_model_is_compared_with_the_first_problem_by_problem():
    rows = {"base": {"pass@1": [0.0, 0.5, 0.2, 0.1]}, "after": {"pass@1": [0.1, 0.6, 0.3, 0.2], "more": [1.0] * 4}}
    head, _, base, after = paired.compared(rows)
    assert columns(head) == ["model", "pass@1", "more"] and columns(base)[2] == "–"
    assert "+10.0" in columns(after)[1] and "+" not in columns(base)[1]
    assert columns(after)[2].startswith("100.0 (") and "+" not in columns(after)[2]
