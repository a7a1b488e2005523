"""Every problem of a bank with its samples, to leaf through on a report's page: hardest first, without a script.

    browser(Bank.read("runs/eval/mine"), shown)    -> Browser(entries=[BrowsedProblem("mixed", "1+1?", "2", ...)], ...)
    browser(last, shown, before=base)              the base's samples beside those of the last checkpoint

The page asks for nothing and runs nothing, so its size is bounded: `MAX_PROBLEMS` problems, `MAX_SAMPLES` samples of
each and bank, `MAX_LETTERS` in all. What is left out is counted; the bank has it (`pandas.read_parquet`). Problems are
chosen by how often they were right and by what changed, samples by their verdict: radio buttons and CSS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ponder.evals.bank import Bank, SampleRow
from ponder.evals.logs import SampleColumn, ShownSample
from ponder.types import Problem

MAX_PROBLEMS, MAX_SAMPLES, MAX_LETTERS = 300, 8, 1_000_000
KINDS = {"never": "never right", "mixed": "sometimes right", "always": "always right"}
CHANGES = {"gained": "better than before", "lost": "worse than before"}
SIDES = ("before", "after")
VERDICTS = {"correct": "right", "wrong": "wrong", "undecided": "undecided or failed"}


@dataclass(frozen=True)
class BrowsedProblem:
    kinds: str  # of KINDS, and of CHANGES where there is a before
    text: str
    target: str
    told: str  # how many samples were right
    columns: list[SampleColumn]  # before and after, or the one bank


@dataclass(frozen=True)
class Browser:
    entries: list[BrowsedProblem]
    filters: list[tuple[str, str, int]]  # (name of a kind or change, its words, how many of all problems)
    verdicts: dict[str, str]  # those that are here: of VERDICTS
    left_out: str  # a sentence; "" where everything is here


def browser(bank: Bank, shown: Callable[[SampleRow], ShownSample], *, before: Bank | None = None) -> Browser:
    """The problems from the hardest on; `shown` makes a sample's text."""
    banks = [bank] if before is None else [before, bank]
    problems = sorted(bank.problems, key=lambda problem: bank.pass_rate(problem.id))  # stable: in the bank's order
    entries: list[BrowsedProblem] = []
    letters = 0
    for problem in problems[:MAX_PROBLEMS]:
        if letters > MAX_LETTERS:
            break
        columns = [_column(each, problem, shown) for each in banks]
        letters += len(problem.text)
        letters += sum(len(each.reasoning) + len(each.answer) for column in columns for each in column.samples)
        told = " → ".join(column.title for column in columns)
        names = [""] if before is None else [f"{name}: {each.title}" for name, each in zip(SIDES, columns, strict=True)]
        columns = [SampleColumn(name, each.samples) for name, each in zip(names, columns, strict=True)]
        kinds = " ".join(_kinds(bank, before, problem))
        entries.append(BrowsedProblem(kinds, problem.text, problem.target or "", told, columns))
    counts = Counter(kind for problem in problems for kind in _kinds(bank, before, problem))
    chosen_by = KINDS if before is None else KINDS | CHANGES
    verdicts = {each.verdict for entry in entries for column in entry.columns for each in column.samples}
    return Browser(
        entries,
        [(name, words, counts[name]) for name, words in chosen_by.items()],
        {name: words for name, words in VERDICTS.items() if name in verdicts},
        _left_out(banks, problems, len(entries)),
    )


def _column(bank: Bank, problem: Problem, shown: Callable[[SampleRow], ShownSample]) -> SampleColumn:
    drawn = bank.num_samples(problem.id)
    if not drawn:
        return SampleColumn("no sample", [])
    samples = [shown(row) for row in bank.rows(problem.id)[:MAX_SAMPLES]]
    return SampleColumn(f"{round(bank.pass_rate(problem.id) * drawn)} of {drawn} right", samples)


def _kinds(bank: Bank, before: Bank | None, problem: Problem) -> list[str]:
    rate = bank.pass_rate(problem.id)
    kinds = ["never" if rate == 0 else "always" if rate == 1 else "mixed"]
    if before is not None and before.num_samples(problem.id):
        old = before.pass_rate(problem.id)
        kinds += ["gained"] * (rate > old) + ["lost"] * (rate < old)
    return kinds


def _left_out(banks: list[Bank], problems: list[Problem], num_shown: int) -> str:
    most = max((bank.num_samples(problem.id) for bank in banks for problem in problems), default=0)
    parts = []
    if num_shown < len(problems):
        parts.append(f"the {num_shown} hardest of {len(problems)} problems")
    if most > MAX_SAMPLES:
        parts.append(f"the first {MAX_SAMPLES} samples of each")
    return f"Shown are {', '.join(parts)}; the bank has all." if parts else ""
