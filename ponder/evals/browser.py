"""Every problem of a bank with its samples, to leaf through on a report's page: hardest first, without a script.

    browser(Bank.read("runs/eval/mine"), shown)    -> Browser(entries=[BrowsedProblem("mixed", "1+1?", "2", ...)], ...)

The page asks for nothing and runs nothing, so its size is bounded: `MAX_PROBLEMS` problems, `MAX_SAMPLES` samples of
each, `MAX_LETTERS` in all. What is left out is counted; the bank has it (`pandas.read_parquet`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ponder.evals.bank import Bank, SampleRow
from ponder.evals.logs import ShownSample

MAX_PROBLEMS, MAX_SAMPLES, MAX_LETTERS = 300, 8, 1_000_000
KINDS = {"never": "never right", "mixed": "sometimes right", "always": "always right"}


@dataclass(frozen=True)
class BrowsedProblem:
    kind: str  # of KINDS
    text: str
    target: str
    told: str  # how many samples were right
    samples: list[ShownSample]


@dataclass(frozen=True)
class Browser:
    entries: list[BrowsedProblem]
    counts: dict[str, int]  # problems by kind, all of them
    left_out: str  # a sentence; "" where everything is here


def browser(bank: Bank, shown: Callable[[SampleRow], ShownSample]) -> Browser:
    """The problems from the hardest on; `shown` is how a sample is told."""
    problems = sorted(bank.problems, key=lambda problem: bank.pass_rate(problem.id))  # stable: in the bank's order
    entries: list[BrowsedProblem] = []
    letters = 0
    for problem in problems[:MAX_PROBLEMS]:
        if letters > MAX_LETTERS:
            break
        rate, drawn = bank.pass_rate(problem.id), bank.num_samples(problem.id)
        samples = [shown(row) for row in bank.rows(problem.id)[:MAX_SAMPLES]]
        letters += len(problem.text) + sum(len(sample.reasoning) + len(sample.answer) for sample in samples)
        told = f"{round(rate * drawn)} of {drawn} right"
        entries.append(BrowsedProblem(kind_of(rate), problem.text, problem.target or "", told, samples))
    counts = dict.fromkeys(KINDS, 0)
    for problem in problems:
        counts[kind_of(bank.pass_rate(problem.id))] += 1
    most = max((bank.num_samples(problem.id) for problem in problems), default=0)
    parts = []
    if len(entries) < len(problems):
        parts.append(f"the {len(entries)} hardest of {len(problems)} problems")
    if most > MAX_SAMPLES:
        parts.append(f"the first {MAX_SAMPLES} samples of each")
    return Browser(entries, counts, f"Shown are {', '.join(parts)}; the bank has all." if parts else "")


def kind_of(rate: float) -> str:
    return "never" if rate == 0 else "always" if rate == 1 else "mixed"
