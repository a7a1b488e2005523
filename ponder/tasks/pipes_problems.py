"""The problems of `pipes`: a program drawn with what is shown of it, its hidden tests, and what passing them is worth.

    pipe, shown, hidden = draw(Random(0), 2, num_examples=3)
    judge(problem, {(1, 2): (2, 1), ...}, "rev")      # by the outputs of a program, in whatever language it was written

Answers in the language of pipes are read by `pipes.py`, answers in Python by `pipes_python.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from ponder.tasks.pipes_language import LONGEST, Pipe, Value, at_most, fits, run, shortest, stays_within
from ponder.types import Outcome, Problem, Verdict

REWARDS = {"all": "correct", "fraction": "fraction", "weighted": "points"}  # which part is the reward
PARTS = ("correct", "fraction", "public", "hidden", "points")

Example = tuple[Value, Value]  # input, output
Shown = tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class PipeSubtask:
    """A part of the tests, and what it is worth."""

    name: str
    points: int
    tests: Shown  # public ones included


# ---- inputs, and what may be said of them ---------------------------------------------------------------------------


def _numbers(low: int, high: int, lengths: range) -> Callable[[Random], Value]:
    return lambda rng: tuple(rng.randint(low, high) for _ in range(rng.choice(lengths)))


def _repeats(rng: Random) -> Value:
    few = [rng.randint(-9, 9) for _ in range(2)]
    return tuple(rng.choice(few) for _ in range(rng.randint(2, 6)))


# distributions of inputs, by name: for tests of one's own making
GENERATORS: dict[str, Callable[[Random], Value]] = {
    "any": _numbers(-20, 20, range(0, LONGEST + 1)),
    "shown": _numbers(-9, 9, range(1, 6)),  # as the examples are
    "positive": _numbers(1, 20, range(1, LONGEST + 1)),
    "sorted": lambda rng: tuple(sorted(_numbers(-20, 20, range(1, LONGEST + 1))(rng))),
    "repeats": _repeats,
    "short": _numbers(-20, 20, range(0, 2)),
}
# what may be claimed of inputs, by name; `legal` is true of every input of a test
VALIDATORS: dict[str, Callable[[Value], bool]] = {
    "legal": lambda x: len(x) <= LONGEST and all(-20 <= v <= 20 for v in x),
    "positive": lambda x: all(v > 0 for v in x),
    "sorted": lambda x: list(x) == sorted(x),
    "not empty": lambda x: len(x) > 0,
    "few": lambda x: len(x) <= 5,
    "small": lambda x: all(-9 <= v <= 9 for v in x),
}
SUBTASKS = (("positive", 20), ("sorted", 30), ("all", 50))  # points; a validator by name, or all inputs


def random_inputs(rng: Random, n: int, *, generator: str = "any") -> tuple[Value, ...]:
    """Inputs of one of the GENERATORS."""
    return tuple(GENERATORS[generator](rng) for _ in range(n))


def _hidden_inputs(rng: Random) -> list[Value]:
    """19: the empty list, a zero, a repeat, and some for every subtask."""
    drawn = [value for name, n in (("repeats", 2), ("positive", 5), ("sorted", 5), ("any", 5))
             for value in random_inputs(rng, n, generator=name)]  # fmt: skip
    return [(), (0,), *drawn]


# ---- problems -------------------------------------------------------------------------------------------------------


def draw(rng: Random, level: int, *, num_examples: int, is_bounded: bool = False) -> tuple[Pipe, Shown, Shown]:
    """A program, what is shown of it, and its hidden tests. is_bounded: nothing is cut to the language's bounds."""
    shorter = at_most(level - 1)
    while True:
        pipe = rng.choice(shortest(level))
        for _ in range(20):  # a program that few inputs tell from shorter ones stays likelier so
            inputs = sorted(random_inputs(rng, num_examples, generator="shown"), key=len, reverse=True)
            shown = tuple((value, run(pipe, value)) for value in inputs)
            # the longest says the most, so it comes first, and one example alone has more than one number
            if len(inputs[0]) < 2 or len(set(inputs)) < num_examples or any(fits(other, shown) for other in shorter):
                continue
            hidden = tuple((value, run(pipe, value)) for value in _hidden_inputs(rng))
            if not is_bounded or all(stays_within(pipe, value) for value, _ in shown + hidden):
                return pipe, shown, hidden


def text_of(value: Value) -> str:
    """The numbers with blanks between them, as prompts and answers write a list."""
    return " ".join(map(str, value))


def public_examples(problem: Problem) -> Shown:
    """What the problem shows: anybody may look."""
    return _pairs(problem, "public")


def hidden_tests(problem: Problem) -> Shown:
    """What judges, and nobody else may look at."""
    return _pairs(problem, "hidden")


def _pairs(problem: Problem, name: str) -> Shown:
    return tuple((tuple(value), tuple(output)) for value, output in problem.meta[name])


def subtasks(problem: Problem) -> tuple[PipeSubtask, ...]:
    """The parts of all tests; the last is all of them. Their points add up to 100. Only for who judges."""
    tests = public_examples(problem) + hidden_tests(problem)
    return tuple(
        PipeSubtask(name=name, points=points, tests=tuple(t for t in tests if name == "all" or VALIDATORS[name](t[0])))
        for name, points in SUBTASKS
    )


# ---- verdicts -------------------------------------------------------------------------------------------------------


def points_of(problem: Problem, outputs: Mapping[Value, Value | None]) -> int:
    """Points of 100 for outputs by input: those of every subtask all of whose tests came out."""
    return sum(
        part.points for part in subtasks(problem) if all(outputs.get(value) == right for value, right in part.tests)
    )


def judge(
    problem: Problem, outputs: Mapping[Value, Value | None], extracted: str | None, *, reward: str = "all"
) -> Verdict:
    """The verdict on a program by its outputs on the problem's tests; None where it gave none."""
    passed = {
        name: [outputs.get(value) == right for value, right in tests]
        for name, tests in (("public", public_examples(problem)), ("hidden", hidden_tests(problem)))
    }
    every = passed["public"] + passed["hidden"]
    parts = {"correct": float(all(every)), "fraction": sum(every) / len(every)}
    parts |= {name: sum(found) / len(found) for name, found in passed.items()}
    parts["points"] = points_of(problem, outputs) / 100
    outcome: Outcome = "correct" if all(every) else "wrong"
    return Verdict(outcome=outcome, reward=parts[REWARDS[reward]], extracted=extracted, parts=parts)
