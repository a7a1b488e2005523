"""Problems of Codeforces rounds with the tests that judged them, from the hub data set open-r1/codeforces.

    rows = codeforces_rows(["1349", "1350"])        # stdio rows, one a problem, in the order of the rounds
    rows[0]["id"], rows[0]["complete"]              # "1349/A", True
    write_rows(rows, "problems.jsonl")              # for load_task("stdio:problems.jsonl")

A row has id, problem, answer (empty: tests decide), tests [{input, output, group}], time_limit (seconds), memory_limit
(MB), level, contest, index, complete, and where several outputs are right `checker_program`: a Python program that is
given the files input, expected output and output, and prints 1 where the output is right.

`complete` says whether these tests, compared with what a program prints, judge as the judge did. Codeforces shows long
tests cut, so those of many problems do not: they may teach, and no rating may be made of them (evals/contest_rating.py
refuses). Nor do interactive problems, those that use files, and those with a checker program, which nothing here runs;
`incomplete` says why. Whoever judges those elsewhere brings the verdicts.

A problem that two divisions shared is held once, under one of its names; the others are its aliases, and are found.
Needs `pip install "ponder[data]"`; the set has 2.8 GB, of which only the rounds asked for are read. Texts belong to
their authors, the collection is CC BY 4.0. The columns were taken from the data set's card, and tried on made-up rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import jsonl, write_atomic
from ponder.tasks.datahub import Row, hub_rows

REPO, CONFIG = "open-r1/codeforces", "default"
SPLITS = ("train", "test")  # of the set: by date, so a round is in one of them


def codeforces_rows(contests: Sequence[str]) -> list[Row]:
    """The problems of these rounds; a round without any is an error."""
    if not contests:
        raise ConfigError('name the rounds, e.g. codeforces_rows(["1349"]); the whole set does not fit into memory')
    found: list[Row] = []
    for split in SPLITS:
        names, _ = hub_rows(REPO, CONFIG, split, columns=["id", "aliases"])
        held = {name: row["id"] for row in names for name in (row["id"], *(row["aliases"] or ()))}
        wanted = {name: key for name, key in held.items() if name.partition("/")[0] in contests}
        if not wanted:
            continue
        full, revision = hub_rows(REPO, CONFIG, split, where=[("id", "in", sorted(set(wanted.values())))])
        by_id = {row["id"]: row for row in full}
        found += [stdio_row(by_id[key], name, revision) for name, key in wanted.items()]
    missing = [contest for contest in contests if all(row["contest"] != contest for row in found)]
    if missing:
        raise ConfigError(f"{REPO} has no problem of round {', '.join(missing)}")
    return sorted(found, key=lambda row: (contests.index(row["contest"]), row["index"]))


def stdio_row(row: Row, name: str, revision: str = "") -> Row:
    """One row of the data set in our form, under this name (CONTEST/INDEX)."""
    try:
        contest, _, index = name.partition("/")
        why = _incomplete(row)
        made: dict[str, Any] = {
            "id": name,
            "problem": statement(row),
            "answer": "",
            "tests": _tests(row),
            "time_limit": float(row["time_limit"] or 2.0),
            "memory_limit": float(row["memory_limit"] or 256.0),
            "contest": contest,
            "index": index,
            "complete": not why,
            "source": f"{REPO}@{revision}" if revision else REPO,
        }
        optional = {"incomplete": why, "checker_program": row["generated_checker"], "level": row["rating"]}
        return {**made, **{key: value for key, value in optional.items() if value}}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"{REPO}, {name}: not as expected ({type(error).__name__}: {str(error)[:100]})") from None


def statement(row: Row) -> str:
    """The problem as a person reads it."""
    parts = [
        f"{row['title']}\n(time limit {row['time_limit']:g} s, memory limit {row['memory_limit']:g} MB)",
        row["description"],
        f"Input\n{row['input_format']}" if row["input_format"] else "",
        f"Output\n{row['output_format']}" if row["output_format"] else "",
        f"Interaction\n{row['interaction_format']}" if row["interaction_format"] else "",
        *(f"Example input\n{each['input']}\nExample output\n{each['output']}" for each in row["examples"] or ()),
        f"Note\n{row['note']}" if row["note"] else "",
    ]
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _tests(row: Row) -> list[dict[str, str]]:
    """The official tests; those that the statement shows are the group sample, else tests of the statement's own."""
    shown = {each["input"].strip() for each in row["examples"] or ()}
    tests = [
        {"input": each["input"], "output": each["output"],
         "group": "sample" if each["input"].strip() in shown else "hidden"}
        for each in row["official_tests"] or ()
    ]  # fmt: skip
    known = {each["input"].strip() for each in tests}
    left = [each for each in row["examples"] or () if each["input"].strip() not in known]
    return [{"input": each["input"], "output": each["output"], "group": "sample"} for each in left] + tests


def _incomplete(row: Row) -> str:
    """Why a verdict on these tests is not that of the judge; "" = it is."""
    if row["interaction_format"]:
        return "interactive"
    if row["input_mode"] != "stdio":
        return f"reads and writes by {row['input_mode']}"
    if not row["executable"]:
        return "marked as not executable"
    if not row["official_tests"] or not row["official_tests_complete"]:
        return "official tests are missing or cut"
    if row["generated_checker"]:
        return "several outputs are right: needs its checker program"
    return ""


def write_rows(rows: Sequence[Row], path: str | Path) -> None:
    """One object a line."""
    write_atomic(Path(path), jsonl(rows))
