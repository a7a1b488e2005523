"""Several exams of several models as one table: a row an exam and a row each of its subjects, two columns a model.

    rows = exam_rows(["runs/eval/gsm8k-base", "runs/eval/gsm8k-rl", "runs/eval/math500-base", "runs/eval/math500-rl"])
    print(markdown(exam_table(rows)))

It is the table of o1's announcement: pass@1 and the vote of all samples side by side, before and after, with intervals.
A model that was asked in another way is another column. k is the largest number of samples that every exam of a row has
of each problem, so that a row means one thing; the gain is paired, last column against first, in pass@1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ponder.config import ConfigError
from ponder.evals.bank import Bank, Samples
from ponder.evals.comparison import exams_of
from ponder.evals.exams import compare, estimate, pass_rate_at, vote_rate_at
from ponder.evals.results import Accuracy, Gain
from ponder.evals.tables import Table, cell, points


@dataclass(frozen=True, kw_only=True)
class ExamColumn(Accuracy):
    """What one model reached in one row: pass@1 and cons@k."""

    column: str  # the model, and how it was asked where that is not plainly
    folder: str
    num_problems: int
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class ExamRow:
    exam: str
    subject: str = ""  # "" = the whole exam
    k: int
    columns: tuple[ExamColumn, ...]
    gain: Gain | None = None  # last column over the first, of the whole exam


def is_of_several_exams(folders: Sequence[str | Path]) -> bool:
    """Whether some folders share no problem with the first: a row each would compare different things."""
    first, *others = ({problem.id for problem in Bank.read(path).problems} for f in folders for path in exams_of(f))
    return any(not first & other for other in others)


def exam_name(bank: Bank) -> str:
    """Its task; the split follows where it is another than "test"."""
    return bank.spec.task if bank.spec.split == "test" else f"{bank.spec.task} ({bank.spec.split})"


def column_name(bank: Bank) -> str:
    """Its model; its prompting follows where it is another than "none"."""
    return bank.spec.model if bank.spec.prompting == "none" else f"{bank.spec.model}, {bank.spec.prompting}"


def exam_rows(folders: Sequence[str | Path]) -> tuple[ExamRow, ...]:
    """The rows, exams and models in the order in which the folders name them. ConfigError for one that comes twice."""
    exams: dict[str, dict[str, Bank]] = {}
    order: dict[str, None] = {}
    for path in [path for folder in folders for path in exams_of(folder)]:
        bank = Bank.read(path)
        name, column = exam_name(bank), column_name(bank)
        order[column] = None
        if not bank.problems:
            raise ConfigError(f"{bank.folder} holds no sample yet; finish that exam first")
        if known := exams.setdefault(name, {}).get(column):
            raise ConfigError(f"{known.folder} and {bank.folder} are both {name} by {column}; leave one out")
        exams[name][column] = bank
    columns = list(order)
    return tuple(
        row
        for name, banks in exams.items()
        for row in _rows_of(
            name, [banks[c] for c in columns if c in banks], banks.get(columns[0]), banks.get(columns[-1])
        )
    )


def _rows_of(name: str, banks: Sequence[Bank], first: Bank | None, last: Bank | None) -> list[ExamRow]:
    """The row of an exam, and one a subject where it has several. first, last: of the table, which the gain compares;
    there is none where one of these did not sit the exam."""
    tables = [bank.tables() for bank in banks]
    k = min(len(table) for of_bank in tables for table in of_bank)
    gain = compare(first, last) if first and last and first is not last else None
    rows = [ExamRow(exam=name, k=k, columns=tuple(map(_column, banks, tables, [k] * len(banks))), gain=gain)]
    subjects = sorted({table.problem.subject for of_bank in tables for table in of_bank if table.problem.subject})
    for subject in subjects if len(subjects) > 1 else ():
        chosen = [[table for table in of_bank if table.problem.subject == subject] for of_bank in tables]
        there = [(bank, own) for bank, own in zip(banks, chosen, strict=True) if own]
        rows.append(
            ExamRow(exam=name, subject=subject, k=k, columns=tuple(_column(bank, own, k) for bank, own in there))
        )
    return rows


def _column(bank: Bank, tables: Sequence[Samples], k: int) -> ExamColumn:
    return ExamColumn(
        column=column_name(bank),
        folder=str(bank.folder),
        num_problems=len(tables),
        num_samples=min(map(len, tables)),
        pass_at={1: estimate(tables, pass_rate_at, 1)},
        cons_at={k: estimate(tables, vote_rate_at, k)},
    )


def exam_table(rows: Sequence[ExamRow]) -> Table:
    """The rows as text; what a model was not asked is a dash."""
    columns = list(dict.fromkeys(each.column for row in rows for each in row.columns))
    shown = []
    for row in rows:
        found = {each.column: each for each in row.columns}
        cells = [
            text
            for name in columns
            for text in ((cell(found[name].pass_at[1]), cell(found[name].cons_at[row.k])) if name in found else "––")
        ]
        sizes = dict.fromkeys(str(each.num_problems) for each in row.columns)
        gain = points(row.gain.pass_at[1]) if row.gain else "" if row.subject else "–"
        shown.append((f"· {row.subject}" if row.subject else row.exam, ", ".join(sizes), str(row.k), *cells, gain))
    head = ("exam", "problems", "k", *(f"{name}: {what}" for name in columns for what in ("pass@1", "cons@k")), "gain")
    return Table("Exams; in brackets 95 % intervals; gain: pass@1 in points, paired, last column to first", head, shown)
