"""Finished exams side by side: baselines and trained models on the same problems, one row an exam.

    compared = comparison(["runs/eval/direct", "runs/eval/few_shot", "runs/eval/rl"])
    print(markdown(table(compared)))

Every number is over all problems of its own bank; k is the largest number of samples that every bank has of each of
its problems, so that a column means one thing. `gain` is the paired difference in pass@1 to the first row over the
problems that both hold, however they were asked: it sees differences that two overlapping intervals hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ponder.config import ConfigError
from ponder.evals.bank import Bank, Samples
from ponder.evals.codec import encode
from ponder.evals.exams import compare, estimate, pass_rate_at, summarise, vote_rate_at
from ponder.evals.results import Accuracy, BankSpec, Gain, SampleShares
from ponder.evals.stats import in_percent
from ponder.evals.tables import Table, cell, points
from ponder.runs import best_step, step_folders, step_of


@dataclass(frozen=True, kw_only=True)
class ComparedExam(BankSpec, SampleShares, Accuracy):
    """A row of `ponder compare`: pass@1, and pass@k and cons@k at the k of all rows."""

    folder: str
    tokens_per_sample: float
    gain: Gain | None  # over the first row


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Exams of the same problems, each measured against the first; k = the fewest samples that any problem has."""

    k: int
    rows: tuple[ComparedExam, ...]
    notes: tuple[str, ...]


def comparison(folders: Sequence[str | Path]) -> Compared:
    """The numbers of `ponder compare`. Each folder is the --out of an exam, a run (its base and its last checkpoint) or
    RUN@STEP; exams of other problems are an error."""
    folders = [exam for folder in folders for exam in exams_of(folder, is_alone=len(folders) == 1)]
    banks = [Bank.read(folder) for folder in folders]
    for bank in banks:
        if not bank.problems:
            raise ValueError(f"{bank.folder} holds no sample yet; finish that exam first")
    samples = [bank.tables() for bank in banks]
    k = min(len(table) for tables in samples for table in tables)
    rows = tuple(_compared(bank, tables, k, banks[0]) for bank, tables in zip(banks, samples, strict=True))
    return Compared(k=k, rows=rows, notes=_notes(rows))


def _compared(bank: Bank, tables: Sequence[Samples], k: int, first: Bank) -> ComparedExam:
    found = summarise(bank)
    return ComparedExam(
        **vars(bank.spec),
        num_problems=found.num_problems,
        num_samples=found.num_samples,
        no_answer_rate=found.no_answer_rate,
        truncated_rate=found.truncated_rate,
        undecided_rate=found.undecided_rate,
        folder=str(bank.folder),
        pass_at={n: estimate(tables, pass_rate_at, n) for n in sorted({1, k})},
        cons_at={k: estimate(tables, vote_rate_at, k)},
        tokens_per_sample=found.tokens.completion_per_sample,
        gain=compare(first, bank) if bank is not first else None,
    )


def exams_of(folder: str | Path, *, is_alone: bool = True) -> list[Path]:
    """The exams that a word of the command line means: a bank itself, RUN@STEP (also RUN@base, RUN@best), or a run:
    alone its first and its last checkpoint, beside others its last."""
    path = Path(folder)
    run, at, step = str(path).rpartition("@")
    is_step = at and (step.isdecimal() or step in ("base", "best")) and not path.exists()
    if (path / "bank.json").exists() or not (is_step or (path / "run.json").exists()):
        return [path]
    home = Path(run) if is_step else path
    exams = step_folders(home / "scale", "bank.json")
    if not exams:
        raise ConfigError(f"{home} has no exams yet: `ponder scale {home}` examines its checkpoints")
    if not is_step:
        return [exams[0], exams[-1]] if is_alone and len(exams) > 1 else exams[-1:]
    number = 0 if step == "base" else best_step(home) if step == "best" else int(step)
    found = [exam for exam in exams if step_of(exam) == number]
    if not found:
        steps = ", ".join(str(step_of(exam)) for exam in exams)
        raise ConfigError(f"{home} has no exam of step {number}; it has those of {steps}")
    return found


def _notes(rows: Sequence[ComparedExam]) -> tuple[str, ...]:
    """What sets the rows apart beside model and prompting, and what makes a row look worse than its model."""
    facts = [{"grader": row.grader, "seed": row.seed, **encode(row.params)} for row in rows]
    differing = [name for name in facts[0] if len({str(row.get(name)) for row in facts}) > 1]
    return (
        *(f"the rows differ in {name}: {', '.join(str(row.get(name)) for row in facts)}" for name in differing),
        *(
            f"{in_percent(share)} % of the samples in {row.folder} {why}"
            for row in rows
            for share, most, why in (
                (row.truncated_rate, 0.1, "were cut by a limit: with higher ones its numbers may be better"),
                (row.undecided_rate, 0.02, "are undecided, and count as not correct: its numbers are lower bounds"),
            )
            if share > most
        ),
    )


def table(compared: Compared) -> Table:
    """The comparison as text."""
    k, rows = compared.k, []
    for row in compared.rows:
        largest = max(row.num_problems, compared.rows[0].num_problems)  # of the two that are paired
        fewer = f", {row.gain.num_problems} shared" if row.gain and row.gain.num_problems < largest else ""
        rows.append(
            (
                row.model,
                row.prompting,
                f"{row.num_problems} × {row.num_samples}",
                cell(row.pass_at[1]),
                "–" if row.gain is None else points(row.gain.pass_at[1]) + fewer,
                *((cell(row.cons_at[k]), cell(row.pass_at[k])) if k > 1 else ()),
                f"{row.tokens_per_sample:.0f}",
                f"{in_percent(row.no_answer_rate)}%",
            )
        )
    more = (f"cons@{k}", f"pass@{k}") if k > 1 else ()
    head = (
        "model",
        "prompting",
        "problems × samples",
        "pass@1",
        "gain in pass@1",
        *more,
        "tokens a sample",
        "no answer",
    )
    tasks = ", ".join(dict.fromkeys(f"{row.task} ({row.split})" for row in compared.rows))
    return Table(f"{tasks}; in brackets 95 % intervals; gain: paired, to the first row", head, rows)


def markdown(shown: Table) -> str:
    """A table for a page of documentation."""
    lines = [shown.head, ["---"] * len(shown.head), *shown.rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(value).split()).replace("|", "\\|") for value in line) + " |" for line in lines
    )
