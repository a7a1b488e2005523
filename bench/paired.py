"""What the scripts that examine several models share: exams that are drawn or continued, and tables in which every
later model is compared with the first, problem by problem. Intervals are 95 %, over problems."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
from rich.console import Console

from ponder.cli.loading import close, describe, open_engine
from ponder.evals.bank import Bank
from ponder.evals.exams import run_exam
from ponder.evals.results import ExamResult
from ponder.evals.stats import Estimate, in_percent, interval, paired_difference
from ponder.live import Bar
from ponder.rollouts.deliberate import Deliberating, DeliberationConfig, open_environment
from ponder.tasks.base import TaskWrapper
from ponder.types import SamplingParams, Task

Rates = dict[str, list[float]]  # a column of a table -> a number of every problem, in the order of their ids


def folder_of(out: Path, *words: str) -> Path:
    """A folder of its own for an exam, named after what it is of."""
    return out / re.sub(r"[^\w.=@+-]+", "_", "-".join(words)).strip("_")


def drawn(
    problems: Task, model: str, out: Path, *, name: str, samples: int, params: SamplingParams,
    limit: int | None = None, int8: bool = False, environment: str | None = None,
) -> tuple[Bank, ExamResult]:  # fmt: skip
    """The samples of an exam, drawn or continued in `out`. environment: what the model plays, and is named after."""
    facts = describe(model, None, int8=int8)
    engine = open_engine(model, None, int8=int8)
    if environment is not None:
        problems = TaskWrapper(problems)
        problems.prompting = environment
        play = open_environment(environment, DeliberationConfig(), engine.tokenizer)
        assert play is not None
        engine = Deliberating(engine, play)
    try:
        with Bar(Console(stderr=True), out.name) as bar:
            exam = run_exam(
                problems, engine, name=name, model=facts.name, fingerprint=facts.fingerprint, num_samples=samples,
                params=params, out=out, limit=limit, flops_per_token=facts.flops_per_token,
                training=facts.training, on_progress=lambda done, total, share: bar("", done, total, share),
            )  # fmt: skip
            result = asyncio.run(exam)
    finally:
        close(engine)
    return Bank.read(out), result


def compared(rows: dict[str, Rates]) -> list[str]:
    """Markdown: a row a model, each number with its interval, and with the paired difference to the first row."""
    first = next(iter(rows.values()))
    columns = list(dict.fromkeys(name for rates in rows.values() for name in rates))
    lines = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, rates in rows.items():
        cells = []
        for name in columns:
            if name not in rates:
                cells.append("–")
            elif name == "tokens":
                cells.append(f"{np.mean(rates[name]):.0f}")
            else:
                more = name in first and rates is not first
                gain = f", {span(paired_difference(first[name], rates[name]), '+')}" if more else ""
                cells.append(span(interval(rates[name])) + gain)
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def span(share: Estimate, sign: str = "") -> str:
    """In percent, with the interval."""
    value, low, high = (in_percent(each, sign=sign) for each in (share.value, share.low, share.high))
    return f"{value} ({low} to {high})"
