"""pipes: find the program that does what a few examples show. The dials are its length and how much is shown.

    -6 8 -2 5>-12 16 -4 10      ->   *2          (level 1: one stage)
    4 -7 2>5 -6 3
    3>6                         ->   +1 ...      fits two of the three: wrong

A problem shows `examples` pairs of input and output; an answer is a program of the language of `pipes_language.py`, and
is right when it does what the problem's own program does on all that is shown and on 19 hidden inputs, drawn anew for
each problem. Any program that does is right. The fewer the examples, the more programs fit them (docs/code_pipes.md has
the counts), so passing what is shown is not enough. No program shorter than the level fits what is shown.

Tests come in three subtasks, as at an olympiad: inputs of positive numbers only, sorted inputs, all of them. A program
that is right on all tests of a subtask has its points. The reward is 1 for all tests and 0 for less;
`reward=fraction` is the share of the tests that pass, `reward=weighted` the share of the points. `Verdict.parts` has
public, hidden, fraction and points, each a share. Votes are about behaviour on fixed inputs, never on the hidden ones.

`form=python` asks the same of a language model, in Python: `pipes_python.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from ponder.config import ConfigError, lookup
from ponder.tasks.base import Item, ProceduralTask, level_range
from ponder.tasks.pipes_language import (
    DEEPEST,
    LONGEST,
    PROBES,
    Pipe,
    Value,
    at_most,
    behaviour,
    digest,
    fits,
    parse,
    run,
    shortest,
    stays_within,
)  # fmt: skip
from ponder.types import Outcome, Problem, Verdict

LEVELS = (1, 2)  # where nothing else is said
MAX_EXAMPLES = 6
REWARDS = {"all": "correct", "fraction": "fraction", "weighted": "points"}  # which part is the reward
PARTS = ("correct", "fraction", "public", "hidden", "points")
MAX_ANSWER = 2_000  # characters that are looked at; a program has at most 23
_MARKED = re.compile(r"\\boxed\{([^{}]*)\}|\banswer(?:\s+is\b\s*:?|\s*:)([^\n]*)", re.IGNORECASE)

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
    return " ".join(map(str, value))


def make(rng: Random, level: int, *, num_examples: int) -> Item:
    pipe, shown, hidden = draw(rng, level, num_examples=num_examples)
    text = "\n".join(f"{text_of(value)}>{text_of(output)}" for value, output in shown)
    return Item(text=text, target=" ".join(pipe), meta={"public": shown, "hidden": hidden})


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


# ---- answers --------------------------------------------------------------------------------------------------------


def find_pipe(answer: str) -> Pipe | None:
    """The program an answer gives: what it marks as its answer, else all of it."""
    if len(answer) > MAX_ANSWER:
        return None
    marked = [match[1] or match[2] or "" for match in _MARKED.finditer(answer)]
    text = next((text for text in reversed(marked) if text.strip()), answer)
    return parse(text.strip(" \t\r\n`\"'$."))  # no asterisks: `*2` is a stage


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


def verify(problem: Problem, answer: str, *, reward: str = "all") -> Verdict:
    """Run the answer's program on the tests."""
    pipe = find_pipe(answer)
    if pipe is None:
        return Verdict(outcome="wrong", reward=0.0, parts=dict.fromkeys(PARTS, 0.0))
    tests = public_examples(problem) + hidden_tests(problem)
    return judge(problem, {value: run(pipe, value) for value, _ in tests}, " ".join(pipe), reward=reward)


def key(problem: Problem, answer: str) -> str | None:
    """Programs that do the same on fixed inputs are the same answer."""
    pipe = find_pipe(answer)
    return None if pipe is None else digest(behaviour(pipe, PROBES))


def pipes(
    *,
    split: str = "test",
    seed: int = 0,
    level: int | str | None = None,
    examples: int = 3,
    reward: str = "all",
    form: str = "program",
    size: int = 500,
) -> ProceduralTask:
    """The task; `level` is a number of stages or a range such as "1-3", `examples` how many are shown, `reward` all,
    fraction or weighted, `form` program (of this language) or python."""
    levels = level_range(level, LEVELS)
    if not 1 <= levels[0] <= levels[-1] <= DEEPEST:
        raise ConfigError(f"pipes has levels 1 to {DEEPEST}, not {level}")
    if not isinstance(examples, int) or not 1 <= examples <= MAX_EXAMPLES:
        raise ConfigError(f"examples={examples} must be a whole number from 1 to {MAX_EXAMPLES}")
    lookup(REWARDS, reward, what="reward")
    if form not in ("program", "python"):
        raise ConfigError(f"form={form!r} is neither program nor python")
    asked, check, same = make, verify, key
    if form == "python":
        from ponder.tasks import pipes_python  # which imports this file

        asked, check, same = pipes_python.make, pipes_python.verify, pipes_python.key
    return ProceduralTask(
        "pipes", partial(asked, num_examples=examples), partial(check, reward=reward), same,
        levels=levels, split=split, seed=seed, size=size,
    )  # fmt: skip
