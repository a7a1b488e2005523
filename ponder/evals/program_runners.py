"""How the programs of each task family are run for choosing: `ProgramRunner`s, and who knows their hidden points.

    runner = open_runner(bank.spec.task)                    # "pipes:level=2" -> the language's own interpreter
    execute_bank(bank, runner, runner.facts["language"])

A runner sees what a contestant sees: the statement's examples, the constraints of the subtasks, and inputs of its own
making. `points_of` is the other side: it asks hidden tests, and only `submissions.py` is given what it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, cast

from ponder.config import ConfigError
from ponder.evals.cms_runner import CmsRunner
from ponder.evals.entries import HiddenPoints
from ponder.evals.executions import LostRun, ProgramRunner
from ponder.grading.examples import arguments_of
from ponder.grading.testers import value_of
from ponder.processes import num_cores
from ponder.sandbox.calls import call
from ponder.sandbox.executions import shared
from ponder.strategies.inputs import InputSpec, valid_inputs
from ponder.strategies.programs import Goal
from ponder.tasks import load_task
from ponder.tasks.asserts import calls_of
from ponder.tasks.cms import CmsTask
from ponder.tasks.code import CodeTask
from ponder.tasks.judge import JudgingSandbox
from ponder.tasks.parts import split_part
from ponder.tasks.pipes import find_pipe
from ponder.tasks.pipes_language import LONGEST, Value, fits, parse, run
from ponder.tasks.pipes_problems import (
    GENERATORS,
    SUBTASKS,
    VALIDATORS,
    public_examples,
    random_inputs,
    subtasks,
    text_of,
)
from ponder.tasks.prompting import question
from ponder.tasks.variations import variations
from ponder.types import Problem

NUM_INPUTS = 48  # of every problem


class PipesRunner:
    """Programs of `pipes`, interpreted here: nothing of a model is evaluated. Inputs come from the family's generators
    in equal parts; an input is a subtask's where at least 75 % of the subtask's validators accept it."""

    num_workers: int = 1
    repeats_itself: bool = True

    def __init__(self, num_inputs: int = NUM_INPUTS) -> None:
        self.num_inputs = num_inputs
        self.facts: Mapping[str, Any] = {
            "language": "pipes",
            "fence": "none needed",
            "inputs": f"{num_inputs} of the generators",
        }

    def program(self, problem: Problem, answer: str) -> str | None:
        found = find_pipe(answer)
        return None if found is None else " ".join(found)

    def inputs(self, problem: Problem) -> Sequence[str]:
        rng = Random(f"choosing/{problem.id}")
        names, found = list(GENERATORS), dict[str, None]()
        for number in range(20 * self.num_inputs):
            if len(found) == self.num_inputs:
                break
            [value] = random_inputs(rng, 1, generator=names[number % len(names)])
            found.setdefault(text_of(value))
        return list(found)

    def outputs(self, problem: Problem, program: str, inputs: Sequence[str]) -> Sequence[str | None]:
        pipe = parse(program)
        return [None if pipe is None else text_of(run(pipe, _value(text))) for text in inputs]

    def examples(self, problem: Problem, program: str) -> Sequence[bool]:
        pipe = parse(program)
        return [pipe is not None and fits(pipe, [pair]) for pair in public_examples(problem)]

    def contest(self, problem: Problem) -> tuple[str, int]:
        return problem.id, -1

    def goals(self, problem: Problem) -> Sequence[Goal]:
        names = [name for name, _ in SUBTASKS]
        shown = [text_of(value) for value, _ in public_examples(problem)]
        inputs = self.inputs(problem)
        return [
            Goal(
                points=points, inputs=_places(inputs, name), examples=_places(shown, name),
                includes=tuple(range(len(names) - 1)) if name == "all" else (),
            )
            for name, points in SUBTASKS
        ]  # fmt: skip

    def input_spec(self, problem: Problem) -> InputSpec:
        words = {"positive": "all numbers are positive", "sorted": "the numbers do not decrease from left to right"}
        return InputSpec(
            statement="A hidden program turns a list of whole numbers into another. It is known by what it does:\n\n"
            + problem.text,
            form=f"An input is one line of 1 to {LONGEST} whole numbers from -20 to 20 with blanks between them.",
            constraints=tuple(words.get(name, "") for name, _ in SUBTASKS),
        )

    def input_of(self, problem: Problem, printed: str) -> str | None:
        try:
            value = _value(printed)
        except ValueError:
            return None
        return text_of(value) if VALIDATORS["legal"](value) else None


def _value(text: str) -> Value:
    return tuple(map(int, text.split()))


def _places(inputs: Sequence[str], subtask: str) -> tuple[int, ...]:
    """Which of the inputs keep to the constraints of a subtask."""
    checks = ["legal"] if subtask == "all" else ["legal", subtask]
    validators = [lambda text, name=name: VALIDATORS[name](_value(text)) for name in checks]
    kept = set(valid_inputs(inputs, validators)[0])
    return tuple(index for index, text in enumerate(inputs) if text in kept)


def pipes_points(problem: Problem, program: str) -> tuple[float, ...]:
    """The points of every subtask. Asks hidden tests."""
    pipe = parse(program)
    return tuple(
        float(part.points)
        if pipe is not None and all(run(pipe, value) == right for value, right in part.tests)
        else 0.0
        for part in subtasks(problem)
    )


class FunctionRunner:
    """Python functions of `humaneval` and `mbpp`, in the sandbox of this process. Inputs are variations of the calls
    that the public tests make; no hidden test and no reference solution is asked."""

    repeats_itself: bool = False

    def __init__(self, task: CodeTask, num_inputs: int = NUM_INPUTS) -> None:
        self.task, self.num_inputs, self.num_workers = task, num_inputs, num_cores()
        self.facts: Mapping[str, Any] = {
            "language": "python",
            "fence": shared().sandbox.fence,
            "cpu_seconds": task.limits.cpu_seconds,  # of all calls of one program
            "inputs": f"{num_inputs} variations of the public tests' calls",
        }

    def program(self, problem: Problem, answer: str) -> str | None:
        return self.task.program(problem, answer)

    def inputs(self, problem: Problem) -> Sequence[str]:
        tests = self.task.item(problem).tests
        seeds = calls_of(tests.public, tests.entry)
        made = variations(seeds, count=self.num_inputs, seed=f"choosing/{problem.id}")
        texts = [", ".join(map(repr, args)) for args in (*seeds, *made)]
        return [text for text in dict.fromkeys(texts) if arguments_of(text) is not None][: self.num_inputs]

    def outputs(self, problem: Problem, program: str, inputs: Sequence[str]) -> Sequence[str | None]:
        entry = self.task.item(problem).tests.entry
        calls = [call(entry, *(arguments_of(text) or ())) for text in inputs]
        replies = shared().calls.behave(program, calls, limits=self.task.limits)
        if replies is None:
            raise LostRun
        return [value_of(reply) for reply in replies]

    def examples(self, problem: Problem, program: str) -> Sequence[bool]:
        asserts = self.task.item(problem).tests.asserts(hidden=False)
        if not asserts.units:
            return []
        tested = shared().calls.check(program, asserts, limits=self.task.limits, stop=False)
        if tested.is_undecided:
            raise LostRun
        return [result == "" for result in tested.results]

    def contest(self, problem: Problem) -> tuple[str, int]:
        return problem.id, -1

    def goals(self, problem: Problem) -> Sequence[Goal]:
        return [Goal()]

    def input_spec(self, problem: Problem) -> InputSpec:
        tests = self.task.item(problem).tests
        shown = [", ".join(map(repr, args)) for args in calls_of(tests.public, tests.entry)][:2]
        example = f" Two inputs are\n{chr(10).join(shown)}\n" if len(shown) == 2 else ""
        return InputSpec(
            statement=question(problem),
            form=f"An input is one line with the arguments of one call of `{tests.entry}`, written as Python literals "
            f"with commas between them; no names and no other code.{example}",
        )

    def input_of(self, problem: Problem, printed: str) -> str | None:
        args = arguments_of(printed.strip())
        return None if args is None else ", ".join(map(repr, args))


def open_runner(task: str, split: str = "test") -> tuple[ProgramRunner, HiddenPoints | None]:
    """The runner of a task by its name, and its hidden points by subtask, None where it is all or nothing."""
    task, _ = split_part(task)  # a bank of a part holds its problems
    family = re.split("[:,]", task, maxsplit=1)[0]
    if family == "pipes":
        return PipesRunner(), pipes_points
    if family in ("humaneval", "mbpp"):
        loaded = load_task(task, split=split)
        assert isinstance(loaded, CodeTask), f"{task} is a {type(loaded).__name__}"
        return FunctionRunner(loaded), None
    if family == "cms":
        loaded = load_task(task, split=split)
        assert isinstance(loaded, CmsTask), f"{task} is a {type(loaded).__name__}"
        runner = CmsRunner(loaded, cast(JudgingSandbox, shared().programs))
        return runner, runner.points
    raise ConfigError(
        f"the samples of {task!r} are no programs that ponder runs for choosing; use a bank of pipes, humaneval, mbpp "
        "or cms"
    )
