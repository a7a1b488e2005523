"""Finished exams side by side: baselines and trained models on the same problems, one row an exam.

    compared = comparison(["runs/eval/direct", "runs/eval/few_shot", "runs/eval/rl"])
    print(markdown(table(compared)))

Every number is over all problems of its own bank; k is the largest number of samples that every bank has of each of
its problems, so that a column means one thing. `gain` is the paired difference in pass@1 to the first row over the
problems that both hold, however they were asked: it sees differences that two overlapping intervals hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ponder.evals.bank import Bank
from ponder.evals.exams import compare, estimate, pass_rate_at, summarise, vote_rate_at
from ponder.evals.tables import Table, cell, points


def comparison(folders: Sequence[str | Path]) -> dict[str, Any]:
    """The numbers of `ponder compare`. Each folder is the --out of an exam; exams of other problems are an error."""
    banks = [Bank.read(folder) for folder in folders]
    for bank in banks:
        if not bank.problems:
            raise ValueError(f"{bank.folder} holds no sample yet; finish that exam first")
    samples = [[bank.samples(name) for name in sorted(problem.id for problem in bank.problems)] for bank in banks]
    k = min(len(table) for tables in samples for table in tables)
    rows = []
    for bank, tables in zip(banks, samples, strict=True):
        facts = summarise(bank)
        row = {name: facts[name] for name in ("task", "split", "model", "prompting", "fingerprint", "num_problems",
                                              "num_samples", "no_answer_rate", "truncated_rate", "undecided_rate",
                                              "grader", "seed", "params")}  # fmt: skip
        row |= {
            "folder": str(bank.folder),
            "pass@1": asdict(estimate(tables, pass_rate_at, 1)),
            f"cons@{k}": asdict(estimate(tables, vote_rate_at, k)),
            f"pass@{k}": asdict(estimate(tables, pass_rate_at, k)),
            "tokens_per_sample": facts["tokens"]["completion_per_sample"],
            "gain": compare(banks[0], bank) if bank is not banks[0] else None,
        }
        rows.append(row)
    return {"k": k, "rows": rows, "notes": _notes(rows)}


def _notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What sets the rows apart beside model and prompting."""
    facts = [{"grader": row["grader"], "seed": row["seed"], **row["params"]} for row in rows]
    differing = [name for name in facts[0] if len({str(row.get(name)) for row in facts}) > 1]
    return [f"the rows differ in {name}: {', '.join(str(row.get(name)) for row in facts)}" for name in differing]


def table(compared: dict[str, Any]) -> Table:
    """The comparison as text."""
    k, rows = compared["k"], []
    for row in compared["rows"]:
        gain, fewer = row["gain"], ""
        if gain and gain["num_problems"] < row["num_problems"]:
            fewer = f", {gain['num_problems']} shared"
        rows.append(
            (
                row["model"],
                row["prompting"],
                f"{row['num_problems']} × {row['num_samples']}",
                cell(row["pass@1"]),
                "–" if gain is None else points(gain["pass@1"]) + fewer,
                *((cell(row[f"cons@{k}"]), cell(row[f"pass@{k}"])) if k > 1 else ()),
                f"{row['tokens_per_sample']:.0f}",
                f"{100 * row['no_answer_rate']:.1f}%",
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
    tasks = ", ".join(dict.fromkeys(f"{row['task']} ({row['split']})" for row in compared["rows"]))
    return Table(f"{tasks}; in brackets 95 % intervals; gain: paired, to the first row", head, rows)


def markdown(shown: Table) -> str:
    """A table for a page of documentation."""
    lines = [shown.head, ["---"] * len(shown.head), *shown.rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(value).split()).replace("|", "\\|") for value in line) + " |" for line in lines
    )
