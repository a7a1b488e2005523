"""What a bank shows to others: its numbers, and its samples without what must stay here.

    source = shared("runs/exam")
    source.summary.metrics.pass_at[1]       -> Estimate(value=0.41, low=0.35, high=0.47)
    for problem in source.problems: source.samples(problem)      -> rows, in the order of their numbers

Never shown: token ids and log-probabilities (ids spell the reasoning), what only a verifier needs (`meta` may hold
solutions and tests), the command line (it may hold a key), folders of this machine. The hidden reasoning is shown where
`with_reasoning` says so. Of a gated benchmark no text at all is shown: neither target nor extracted answer, and an
answer class is its number ("0" is the class that the problem's samples had first), which is all that a vote needs.

The same bank gives the same files: times are those of the bank's own files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ponder import __version__
from ponder.config import ConfigError
from ponder.evals.bank import Bank, SampleRow
from ponder.evals.codec import ResultError, encode
from ponder.evals.exams import RESULT, pass_rate_at, summarise, vote_rate_at
from ponder.evals.results import BankSummary, ExamResult
from ponder.evals.stats import Estimate
from ponder.types import Problem

WITHHELD = "(withheld: "  # how the prompt of a gated problem begins in a bank
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of the bank: pass@k or cons@k, with the rate of every problem."""

    kind: str  # pass or cons
    k: int
    estimate: Estimate
    rates: Sequence[float]  # in the order of `SharedBank.problems`

    @property
    def name(self) -> str:
        return f"{self.kind}@{self.k}"

    @property
    def standard_error(self) -> float:
        """Of the mean over problems, by their spread; nan for a single one. (The interval is not made from it.)"""
        return float(np.std(self.rates, ddof=1)) / math.sqrt(len(self.rates)) if len(self.rates) > 1 else math.nan


@dataclass(frozen=True, kw_only=True)
class SharedBank:
    """A bank as others may see it."""

    bank: Bank
    model: str  # its public name, as far as one is known
    with_reasoning: bool
    is_gated: bool
    summary: BankSummary
    result: ExamResult | None  # what is known beyond the samples

    @property
    def task(self) -> str:
        """The task's name, without folders of this machine."""
        return re.sub(r"(?<=:)[^:,]*/(?=[^/]+)", "", self.bank.spec.task)

    @property
    def slug(self) -> str:
        """The task's name as a part of a file's name."""
        return re.sub(r"[^\w.-]+", "_", self.task).strip("._") or "task"

    @property
    def verifier(self) -> str:
        """By its name; "" where none is known."""
        return (self.result or self.summary).verifier

    @cached_property
    def problems(self) -> list[Problem]:
        """In the order of their ids."""
        return [replace(p, meta={}, target="" if self.is_gated else p.target) for p in self.bank.problems]

    def samples(self, problem: Problem) -> list[SampleRow]:
        """The rows as others may see them: answer classes are numbers, a gated benchmark's texts are left out, and so
        is reasoning unless `with_reasoning`."""
        rows = self.bank.rows(problem.id)
        number: dict[str | None, str | None] = {None: None}
        for row in rows:
            number.setdefault(row.answer_class, str(len(number) - 1))
        return [self._shown(row, number[row.answer_class]) for row in rows]

    def _shown(self, row: SampleRow, number: str | None) -> SampleRow:
        if self.is_gated:
            error = None if row.error is None else "the verifier failed"
            return replace(row, reasoning="", answer="", extracted=None, answer_class=number, note=None, error=error)
        return row if self.with_reasoning else replace(row, reasoning="")

    def metrics(self) -> Iterator[Metric]:
        """pass@k and cons@k for every k of the bank. cons@1 is pass@1, so it is left out."""
        tables = [self.bank.samples(problem.id) for problem in self.problems]
        ways: Sequence[tuple[str, Mapping[int, Estimate], Any]] = (
            ("pass", self.summary.metrics.pass_at, pass_rate_at), ("cons", self.summary.metrics.cons_at, vote_rate_at),
        )  # fmt: skip
        for kind, at, rate in ways:
            for k, estimate in at.items():
                if kind == "pass" or k > 1:
                    yield Metric(kind=kind, k=k, estimate=estimate, rates=[rate(table, k) for table in tables])

    @property
    def began(self) -> datetime:
        """When bank.json was written, in UTC."""
        return _changed(self.bank.folder / "bank.json")

    @property
    def ended(self) -> datetime:
        """When samples or result were last written, in UTC."""
        parts = [self.bank.folder / RESULT, *(self.bank.folder / "samples").glob("*.parquet")]
        return max(_changed(path) for path in parts if path.exists())

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on, as plain JSON."""
        spec = self.bank.spec
        facts = {
            "ponder": __version__, "split": spec.split, "fingerprint": spec.fingerprint, "grader": spec.grader,
            "verifier": self.verifier, "prompting": spec.prompting, "seed": spec.seed,
            "params": encode(spec.params), "undecided_rate": self.summary.undecided_rate,
            "failed_rate": self.summary.failed_rate, "no_answer_rate": self.summary.no_answer_rate,
            "truncated_rate": self.summary.truncated_rate, "complete": self.result.complete if self.result else None,
            "revision": self.result.revision if self.result else "",
            "contamination": self.result.contamination.status if self.result and self.result.contamination else "",
        }  # fmt: skip
        facts["params"].pop("seed", None)  # unused: every request has its own
        return facts


def shared(folder: str | Path, *, with_reasoning: bool = False, model_id: str = "") -> SharedBank:
    """A bank as others may see it. `model_id` is the model's public name, where the bank has another."""
    bank = Bank.read(folder)
    if not bank.problems:
        raise ConfigError(f"{folder} holds no samples; there is nothing to export")
    try:
        result = ExamResult.read(bank.folder / RESULT)
    except (FileNotFoundError, ResultError):  # the numbers are computed from the samples anyway
        result = None
    return SharedBank(
        bank=bank, model=model_id or public_name(bank.spec.model), with_reasoning=with_reasoning,
        is_gated=any(problem.text.startswith(WITHHELD) for problem in bank.problems),
        summary=summarise(bank), result=result,
    )  # fmt: skip


def public_name(model: str) -> str:
    """A model's name without folders of this machine: "/home/me/runs/demo@20" is "demo@20"; a hub's name stays."""
    return model if HUB_NAME.fullmatch(model) and not Path(model.split("@")[0]).exists() else Path(model).name or model


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
