"""Inputs that a model wrote for the problems of a bank: programs that make them, and programs that call them allowed.

    DIR/inputs/NAME.json       whose: the model, and how many programs it was asked for
    DIR/inputs/NAME.jsonl      a line a problem of the contest: its inputs, which subtask allows which, what it took

    asking = Asking(model="qwen2.5-coder-0.5b", generators=4, validators=8)
    await write_inputs(bank, runner, engine, execute, "qwen", asking, params)       # again = only what is missing
    runner = WithInputs(runner, read_inputs(bank, "qwen"))                          # a runner like any other

For every subtask the model is asked for generators and for validators with the subtask's constraints in words; an input
is a subtask's where at least 75 % of its validators accept it (strategies/inputs.py), or where it is one of a subtask
that it includes. A problem of which no input was kept has those of the runner itself, and `Written` counts it. What the
model is told is what a contestant knows; what it writes runs where `execute` runs it, which is the sandbox.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ponder import files
from ponder.evals.bank import Bank
from ponder.evals.codec import decode
from ponder.evals.executions import ProgramRunner
from ponder.evals.files import BankError
from ponder.rollouts.progress import damaged
from ponder.rollouts.side_by_side import side_by_side
from ponder.sandbox.base import Limits, Program
from ponder.sandbox.executions import shared
from ponder.strategies.inputs import (
    Execute,
    InputSpec,
    MadeInputs,
    ask_for,
    generator_prompt,
    make_inputs,
    validator_prompt,
)
from ponder.strategies.programs import Goal
from ponder.types import Engine, Problem, SamplingParams, text_seed

IN_FLIGHT = 8  # problems; each asks for a dozen programs or more
LIMITS = Limits(cpu_seconds=2.0, memory_mb=256, output_bytes=1 << 16)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked of whom. Lines of other facts are in another file."""

    model: str
    fingerprint: str = ""  # of its weights
    generators: int = 4  # answers drawn for each subtask
    validators: int = 8
    inputs: int = 24  # of each subtask, at most
    sampling: str = ""
    fence: str = ""  # behind which the programs ran


@dataclass(frozen=True, kw_only=True)
class WrittenInputs:
    """The inputs of one problem of a contest, and what they took."""

    contest: str
    inputs: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]  # of each subtask: its inputs
    generators: int  # different programs found in the answers
    validators: int
    voting: int  # validators that said `valid` or `invalid` of some input
    made: int  # different inputs that generators printed and that can be run
    rejected: int  # of these, by the validators
    runs: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """All that was written under a name."""

    name: str
    asking: Asking
    by_contest: Mapping[str, WrittenInputs]

    @property
    def without(self) -> list[str]:
        """Problems of which no input was kept."""
        return [name for name, each in self.by_contest.items() if not each.inputs]


def in_the_sandbox(program: str, stdin: str) -> str | None:
    """What a program of the model prints; None where it crashed, came to a limit, or was lost."""
    ran = shared().run(Program(source=program), stdin.encode(errors="replace"), limits=LIMITS)
    return ran.stdout.decode(errors="replace") if ran.status == "ok" else None


def writable(bank: Bank, runner: ProgramRunner, name: str, asking: Asking) -> dict[str, Problem]:
    """Problem of the contest -> a problem of the bank that stands for it; an error where nothing can be written, or
    where this name is of something else."""
    head, path = _files(bank, name)
    found: dict[str, Problem] = {}
    for problem in bank.problems:  # of subtasks that were asked for apart the first stands for all
        if runner.input_spec(problem) is not None:
            found.setdefault(runner.contest(problem)[0], problem)
    if not found:
        raise BankError(
            f"no problem of {bank.spec.task} has inputs that could be written: of a communication problem only its "
            "manager knows what is right"
        )
    if not head.exists():
        files.write_atomic(head, json.dumps(asdict(asking), indent=1) + "\n")
    known = files.read_object(head)
    for fact, value in asdict(asking).items():
        if known.get(fact) != value:
            raise BankError(
                f"{path} was written by another {fact} ({known.get(fact)}, not {value}); choose another --name"
            )
    return found


async def write_inputs(
    bank: Bank, runner: ProgramRunner, engine: Engine, execute: Execute, name: str, asking: Asking,
    params: SamplingParams, *, on_progress: Callable[[int, int, float], None] | None = None,
) -> Written:  # fmt: skip
    """Ask for what is not there yet; problems of which no input can be run are left out. on_progress: problems done,
    problems, share of them with an input."""
    problems = writable(bank, runner, name, asking)
    _, path = _files(bank, name)
    done = dict(_lines(path))
    todo = iter([(contest, problem) for contest, problem in problems.items() if contest not in done])

    async def work() -> None:
        for contest, problem in todo:
            done[contest] = await _of(contest, problem, runner, engine, execute, asking, params)
            files.append_jsonl(path, [asdict(done[contest])])
            if on_progress:
                on_progress(len(done), len(problems), sum(bool(each.inputs) for each in done.values()) / len(done))

    await side_by_side(work, IN_FLIGHT)
    return Written(name=name, asking=asking, by_contest=done)


def read_inputs(bank: Bank, name: str) -> Written:
    """What was written under a name."""
    head, path = _files(bank, name)
    if not head.exists():
        names = sorted(each.stem for each in head.parent.glob("*.json"))
        raise BankError(
            f"{bank.folder} has no inputs called {name!r}; "
            + (f"it has {', '.join(names)}" if names else f"`ponder inputs {bank.folder}` has a model write some")
        )
    try:
        asking = decode(Asking, files.read_object(head))
    except ValueError as error:
        raise BankError(f"{head} does not say how the inputs were written ({error}); write them anew") from None
    return Written(name=name, asking=asking, by_contest=dict(_lines(path)))


class WithInputs:
    """A runner with the inputs that a model wrote; all else is as it was."""

    def __init__(self, runner: ProgramRunner, written: Written) -> None:
        self._runner, self._written = runner, written
        self.num_workers, self.repeats_itself = runner.num_workers, runner.repeats_itself
        asking = written.asking
        self.facts: Mapping[str, Any] = {
            **runner.facts,
            "inputs": f"{asking.inputs} a subtask at most, by {asking.generators} generators and {asking.validators} "
            f"validators of {asking.model}; {runner.facts['inputs']} where none was kept",
        }

    def inputs(self, problem: Problem) -> Sequence[str]:
        own = self._of(problem)
        return self._runner.inputs(problem) if own is None else own.inputs

    def goals(self, problem: Problem) -> Sequence[Goal]:
        goals, own = self._runner.goals(problem), self._of(problem)
        if own is None or len(goals) == 1:
            return goals
        # a subtask without an input of its own is tested by all inputs
        return [replace(goal, inputs=places or None) for goal, places in zip(goals, own.places, strict=True)]

    def _of(self, problem: Problem) -> WrittenInputs | None:
        contest = self._runner.contest(problem)[0]
        found = self._written.by_contest.get(contest)
        if found is None and self._runner.input_spec(problem) is not None:
            raise BankError(f"the inputs {self._written.name!r} lack {contest}: run `ponder inputs` again, it goes on")
        return found if found is not None and found.inputs else None

    def program(self, problem: Problem, answer: str) -> str | None:
        return self._runner.program(problem, answer)

    def outputs(self, problem: Problem, program: str, inputs: Sequence[str]) -> Sequence[str | None]:
        return self._runner.outputs(problem, program, inputs)

    def examples(self, problem: Problem, program: str) -> Sequence[bool]:
        return self._runner.examples(problem, program)

    def contest(self, problem: Problem) -> tuple[str, int]:
        return self._runner.contest(problem)

    def input_spec(self, problem: Problem) -> InputSpec | None:
        return self._runner.input_spec(problem)

    def input_of(self, problem: Problem, printed: str) -> str | None:
        return self._runner.input_of(problem, printed)


async def _of(
    contest: str, problem: Problem, runner: ProgramRunner, engine: Engine, execute: Execute, asking: Asking,
    params: SamplingParams,
) -> WrittenInputs:  # fmt: skip
    """Ask for the programs of every subtask, and run them beside the event loop."""
    input_spec = runner.input_spec(problem)
    assert input_spec is not None, contest
    subtasks = range(len(input_spec.constraints))
    params = replace(params, seed=text_seed("inputs", contest))
    asked = await asyncio.gather(
        *(ask_for(engine, generator_prompt(input_spec, i), params, n=asking.generators) for i in subtasks),
        *(ask_for(engine, validator_prompt(input_spec, i), params, n=asking.validators) for i in subtasks),
    )
    generators, validators = asked[: len(subtasks)], asked[len(subtasks) :]

    def read(printed: str) -> str | None:
        return runner.input_of(problem, printed)

    def run() -> list[MadeInputs]:
        return [
            make_inputs(texts, checks, execute, n=asking.inputs, read=read)
            for (texts, _), (checks, _) in zip(generators, validators, strict=True)
        ]

    made = await asyncio.to_thread(run)
    own = [[text for kept in one.kept if (text := read(kept)) is not None] for one in made]
    inputs = list(dict.fromkeys(text for texts in own for text in texts))
    place = {text: number for number, text in enumerate(inputs)}
    # an input of a subtask that is included in another is the other's too
    goals = runner.goals(problem)
    includes = [{i, *goal.includes} for i, goal in enumerate(goals)] if len(goals) == len(made) else [{0}]
    return WrittenInputs(
        contest=contest, inputs=tuple(inputs),
        places=tuple(tuple(sorted({place[text] for i in among for text in own[i]})) for among in includes),
        generators=sum(len(texts) for texts, _ in generators), validators=sum(len(texts) for texts, _ in validators),
        voting=sum(each.num_validators for each in made), made=sum(each.num_made for each in made),
        rejected=sum(each.num_rejected for each in made), runs=sum(each.runs for each in made),
        tokens=sum(tokens for _, tokens in asked),
    )  # fmt: skip


def _files(bank: Bank, name: str) -> tuple[Path, Path]:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BankError(f"inputs are kept in a file of their name, and {name!r} is none; use letters, digits, - and _")
    folder = bank.folder / "inputs"
    return folder / f"{name}.json", folder / f"{name}.jsonl"


def _lines(path: Path) -> list[tuple[str, WrittenInputs]]:
    found = []
    for number, row in enumerate(files.read_jsonl(path), 1):
        try:
            read = decode(WrittenInputs, row)
        except ValueError:
            raise damaged(path, number) from None
        found.append((read.contest, read))
    return found
