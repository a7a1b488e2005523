"""What the programs of a bank's samples do: run once, kept beside the bank, and clusters are a group-by.

    DIR/executions/NAME.parquet    one row a sample: its program, the public examples, its outputs on made-up inputs

    done = execute_bank(bank, runner, "probes")            # again = only what is missing
    pool = candidates(bank, done.table, problem.id)        # what a strategy may know: strategies/programs.py

A `ProgramRunner` knows how programs of a task are found in an answer and run; those that need it run in the sandbox.
Only digests of programs and outputs are kept: two samples are of one behaviour where all digests are equal. Equal
programs are run once. A program is run twice on its first inputs, and one that does not repeat itself is marked: it has
no behaviour to be grouped by. A run that the machine lost says nothing of the program; the next call makes it again.

Hidden tests are none of this file's business: a runner is not asked for them (`submissions.py` is where they are).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ponder.evals.bank import Bank
from ponder.evals.files import BankError
from ponder.evals.per_sample import PerSample
from ponder.strategies.inputs import InputSpec
from ponder.strategies.programs import FAILED, Candidates, Goal, log_odds
from ponder.types import Problem

COLUMNS = {"program": "int64", "inputs": "int64", "examples": "list<int8>", "outputs": "list<int64>", "stable": "bool"}
LOST = -2  # an output or an example: the machine failed the run
REPEATED = 4  # inputs on which a program is run twice

Progress = Callable[[int, int, float], None]  # samples done, samples, share of them with a program


class LostRun(Exception):
    """The machine failed a run; the program is not to blame."""


class ProgramRunner(Protocol):
    """How the programs of a task are found and run. Hidden tests are not known to it."""

    facts: Mapping[str, Any]  # language, fence, limits, how inputs were made: rows of other facts are of another table
    num_workers: int  # programs that run side by side
    repeats_itself: bool  # every program does by the language's nature, so that nothing need be run twice

    def program(self, problem: Problem, answer: str) -> str | None:
        """The program in an answer; None where there is none."""
        ...

    def inputs(self, problem: Problem) -> Sequence[str]:
        """Inputs made up for this problem, the same on every call."""
        ...

    def outputs(self, problem: Problem, program: str, inputs: Sequence[str]) -> Sequence[str | None]:
        """What it gives on each input; None where it gives nothing. Raises LostRun."""
        ...

    def examples(self, problem: Problem, program: str) -> Sequence[bool]:
        """Whether it does what each public example says. Raises LostRun."""
        ...

    def contest(self, problem: Problem) -> tuple[str, int]:
        """The contest's problem that it is, and the subtask that it asks for; -1 = the whole of it."""
        ...

    def goals(self, problem: Problem) -> Sequence[Goal]:
        """Its subtasks as the statement gives them; their inputs are places in `inputs`."""
        ...

    def input_spec(self, problem: Problem) -> InputSpec | None:
        """What the prompts for inputs say of the problem, with the constraints of each goal; None where no input can be
        run without hidden parts of the problem."""
        ...

    def input_of(self, problem: Problem, printed: str) -> str | None:
        """What a generator printed, as an input of this runner; None where it is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What came of running the programs of a bank."""

    table: PerSample
    samples: int
    programs: int  # different ones that were run now
    runs: int  # of a program on an input, now
    lost: int  # samples that the machine failed; running again tries them again
    seconds: float


def execute_bank(bank: Bank, runner: ProgramRunner, name: str, *, on_progress: Progress | None = None) -> Executed:
    """Run what has not been run yet, and keep it."""
    table = PerSample(bank.folder / "executions" / name, COLUMNS, runner.facts)
    todo = table.missing(bank, is_again=_was_lost)
    total = sum(bank.num_samples(problem.id) for problem in bank.problems)
    done, begun = total - sum(map(len, todo.values())), time.monotonic()
    num_programs = num_runs = num_lost = num_found = num_now = 0
    answers = answers_of(bank, todo)
    with table.filled() if todo else nullcontext(), ThreadPoolExecutor(max(1, runner.num_workers)) as pool:
        for problem in bank.problems:
            wanted = todo.get(problem.id, [])
            if not wanted:
                continue
            inputs = list(runner.inputs(problem))
            found = {sample: _program(runner, problem, answers[problem.id][sample]) for sample in wanted}
            texts = list(dict.fromkeys(text for text in found.values() if text is not None))
            ran = dict(zip(texts, pool.map(lambda text: _run(runner, problem, text, inputs), texts), strict=True))  # noqa: B023
            blank = _row(None, inputs, [FAILED] * len(inputs), [], stable=True)
            table.add((problem.id, sample, blank if text is None else ran[text]) for sample, text in found.items())
            num_programs, num_runs = (
                num_programs + len(texts),
                num_runs + len(texts) * _runs_of(runner, inputs, ran),
            )
            num_lost += sum(text is not None and _was_lost(ran[text]) for text in found.values())
            num_found, num_now = num_found + sum(text is not None for text in found.values()), num_now + len(found)
            done += len(found)
            if on_progress:
                on_progress(done, total, num_found / num_now)
    seconds = time.monotonic() - begun
    return Executed(table=table, samples=total, programs=num_programs, runs=num_runs, lost=num_lost, seconds=seconds)


def answers_of(bank: Bank, problem_ids: Collection[str]) -> dict[str, dict[int, str]]:
    """The answers of some problems' samples, by sample, read in one pass."""
    found: dict[str, dict[int, str]] = {name: {} for name in problem_ids}
    if found:
        for row in bank.full_rows(["answer"]):
            if row.problem in found:
                found[row.problem][row.sample] = row.answer
    return found


def candidates(bank: Bank, table: PerSample, problem_id: str, *, scorer: str = "") -> Candidates:
    """The samples of a problem as a strategy may know them: what `table` holds, and the scores of a scorer."""
    samples = bank.samples(problem_id)
    n = len(samples)
    rows = table.of(problem_id, n)
    if len(set(rows["inputs"])) > 1:
        raise BankError(
            f"samples of {problem_id!r} were run on different inputs; delete {table.path}.* and run them again"
        )
    if scorer and scorer not in samples.scores:
        raise BankError(f"{bank.folder} has no scores of {scorer!r}; `ponder score` makes some")
    outputs, examples = _matrix(rows["outputs"], FAILED), _matrix(rows["examples"], 0)
    return Candidates(
        programs=np.array(rows["program"], np.int64),
        examples=examples > 0,
        outputs=np.maximum(outputs, FAILED),
        is_stable=np.array(rows["stable"], bool) & ~(outputs == LOST).any(axis=1),
        scores=log_odds(samples.scores[scorer]) if scorer else np.full(n, np.nan),
        goals=np.full(n, -1),
    )


def digest(text: str) -> int:
    """A text as a number from 0 on that other texts hardly ever share."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 1


def _program(runner: ProgramRunner, problem: Problem, answer: str) -> str | None:
    return runner.program(problem, answer) if answer else None


def _run(runner: ProgramRunner, problem: Problem, program: str, inputs: Sequence[str]) -> Mapping[str, Any]:
    """The row of a program."""
    try:
        examples = [int(passed) for passed in runner.examples(problem, program)]
        outputs = list(runner.outputs(problem, program, inputs))
        again = [] if runner.repeats_itself else list(runner.outputs(problem, program, inputs[:REPEATED]))
    except LostRun:
        return _row(program, inputs, [LOST] * len(inputs), [LOST], stable=False)
    codes = [FAILED if output is None else digest(output) for output in outputs]
    return _row(program, inputs, codes, examples, stable=again == outputs[: len(again)])


def _row(
    program: str | None, inputs: Sequence[str], outputs: Sequence[int], examples: Sequence[int], *, stable: bool
) -> dict[str, Any]:
    return {
        "program": -1 if program is None else digest(program),
        "inputs": digest("\0".join(inputs)),
        "examples": list(examples),
        "outputs": list(outputs),
        "stable": stable,
    }


def _runs_of(runner: ProgramRunner, inputs: Sequence[str], ran: Mapping[str, Mapping[str, Any]]) -> int:
    """Runs of one program of a problem."""
    examples = max((len(row["examples"]) for row in ran.values()), default=0)
    return examples + len(inputs) + (0 if runner.repeats_itself else min(REPEATED, len(inputs)))


def _was_lost(row: Mapping[str, Any]) -> bool:
    return LOST in row["examples"] or LOST in row["outputs"]


def _matrix(rows: Sequence[Sequence[int]], filler: int) -> np.ndarray:
    """Lists as an array (samples, longest); what a list lacks is `filler`."""
    table = np.full((len(rows), max(map(len, rows), default=0)), filler, np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
