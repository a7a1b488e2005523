"""Programs of contest packages for choosing: `cms:PATH`, asked by problem or by subtask.

    runner = CmsRunner(load_task("cms:ioi2024,by=subtask"), Programs(num_workers=2))
    runner.contest(problem)           # ("sphinx", 2): the package, and which of its subtasks was asked for
    runner.points(problem, program)   # hidden: the points of every subtask

A contestant knows the subtasks with their points and which include which, and the package's samples: tests of subtasks
that are worth nothing. Batch problems get inputs like the samples', or those that a model wrote (written_inputs.py), on
which a program runs with the package's grader; a communication problem has none, since its manager knows what is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ponder.evals.executions import LostRun
from ponder.grading.code_blocks import extract_code
from ponder.processes import num_cores
from ponder.sandbox.base import Limits, Program
from ponder.strategies.inputs import MAX_INPUT, InputSpec, similar
from ponder.strategies.programs import Goal
from ponder.tasks.cms import CmsTask, constraints
from ponder.tasks.judge import JudgingSandbox, judge
from ponder.tasks.packages import ContestPackage
from ponder.types import Problem

NUM_INPUTS = 24


class CmsRunner:
    """Packages in the sandbox. `points` is the judges' side: nothing else here asks hidden tests."""

    repeats_itself: bool = False

    def __init__(self, task: CmsTask, sandbox: JudgingSandbox, num_inputs: int = NUM_INPUTS) -> None:
        self.task, self.num_inputs, self.num_workers, self._sandbox = task, num_inputs, num_cores(), sandbox
        self.facts: Mapping[str, Any] = {
            "language": str(task.language),
            "fence": sandbox.fence,
            "inputs": f"{num_inputs} like the samples of batch problems",
        }

    def program(self, problem: Problem, answer: str) -> str | None:
        return extract_code(answer, self.task.language)

    def inputs(self, problem: Problem) -> Sequence[str]:
        return similar(_sample_inputs(self._package(problem)), n=self.num_inputs, seed=0)

    def outputs(self, problem: Problem, program: str, inputs: Sequence[str]) -> Sequence[str | None]:
        """Words alone; after a limit was come to, no further input is tried."""
        package, printed, goes_on = self._package(problem), list[str | None](), True
        whole = Program(source=program, language=self.task.language, files=tuple(package.graders.items()))
        limits = Limits(cpu_seconds=package.time_seconds, memory_mb=package.memory_mb)
        for text in inputs:
            ran = self._sandbox.run(whole, text.encode(errors="replace"), limits=limits) if goes_on else None
            if ran is not None and ran.is_undecided:
                raise LostRun
            goes_on = ran is not None and ran.status in ("ok", "crashed")
            is_well = ran is not None and ran.status == "ok"
            printed.append(" ".join(ran.stdout.decode(errors="replace").split()) if ran and is_well else None)
        return printed

    def examples(self, problem: Problem, program: str) -> Sequence[bool]:
        package = self._package(problem)
        if not package.samples:
            return []
        judged = judge(package, self._program(program), self._sandbox, package.samples, stop_early=False)
        if None in judged.tests.values():
            raise LostRun
        return [judged.tests.get(test) == 1 for index in package.samples for test in package.subtasks[index].tests]

    def contest(self, problem: Problem) -> tuple[str, int]:
        index = problem.meta["subtask"]
        package = self._package(problem)
        return package.code, -1 if index is None else package.scored.index(index)

    def goals(self, problem: Problem) -> Sequence[Goal]:
        package = self._package(problem)
        subtasks = [package.subtasks[index] for index in package.scored]
        return [
            Goal(points=s.points, includes=tuple(i for i, o in enumerate(subtasks) if set(o.tests) < set(s.tests)))
            for s in subtasks
        ]

    def input_spec(self, problem: Problem) -> InputSpec | None:
        package = self._package(problem)
        if package.kind != "batch":
            return None
        statement = self.task.statements[package.code]
        shown = "".join(f" For example:\n\n{text.rstrip()}\n\n" for text in _sample_inputs(package)[:1])
        return InputSpec(
            statement=statement,
            form=f"An input is what the grader of the problem reads from standard input.{shown}",
            constraints=tuple(constraints(package, index, statement) for index in package.scored),
        )

    def input_of(self, problem: Problem, printed: str) -> str | None:
        return printed

    def points(self, problem: Problem, program: str) -> Sequence[float]:
        """The points of every subtask; nan = undecided. Asks hidden tests."""
        package = self._package(problem)
        judged = judge(package, self._program(program), self._sandbox, package.scored)
        return [math.nan if points is None else points for points in judged.points]

    def _package(self, problem: Problem) -> ContestPackage:
        return self.task.packages[problem.meta["package"]]

    def _program(self, source: str) -> Program:
        return Program(source=source, language=self.task.language)


def _sample_inputs(package: ContestPackage) -> list[str]:
    """Inputs of a batch problem's samples; a communication problem has none to run a program on."""
    tests = [test for index in package.samples for test in package.subtasks[index].tests]
    texts = [package.test(test).input.decode(errors="replace") for test in dict.fromkeys(tests)]
    return [text for text in texts if len(text) <= MAX_INPUT] if package.kind == "batch" else []
