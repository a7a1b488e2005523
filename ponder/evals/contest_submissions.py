"""What was submitted to contests, in order, and what the tests said: from a file, or from the bank of an exam.

    {"contest": "1305", "problem": "A", "passed": false, "complete": true, "language": "c++17"}
    {"contest": "1305", "problem": "A", "passed": true, "complete": true, "language": "c++17"}

One JSON object a line (.jsonl, .jsonl.gz, or a folder of such files), the tries at a problem in their order. `passed`
is the verdict of the tests: true, false, or null where a run was lost, which says nothing about the program and has to
be judged again. `complete` says whether these were the official tests in full: without them a program that would fail
may pass, so a rating is refused. `groups`, where parts of the tests have points of their own: those that passed.

Of a bank, sample j of the problem CONTEST/INDEX is its try j (`load_task("codeforces")` calls problems so).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.evals.bank import Bank
from ponder.evals.contests import place_of
from ponder.tasks.file import read_rows

OUTCOMES = {"correct": True, "wrong": False}  # of a bank; all others are undecided


@dataclass(frozen=True, kw_only=True)
class ContestTry:
    """One program handed in for a problem."""

    passed: bool | None  # all tests; None = undecided
    complete: bool  # the official tests in full
    language: str
    groups: frozenset[str] = frozenset()  # groups of tests that passed


Tries = Mapping[tuple[str, str], list[ContestTry]]  # (contest, index of the problem) -> its tries, in order


def read_tries(path: str | Path, *, language: str = "") -> Tries:
    """Submissions of a file, a folder of files or a bank. `language` is that of all that do not say theirs."""
    path = Path(path)
    found: dict[tuple[str, str], list[ContestTry]] = {}
    rows = _of_bank(path, language) if (path / "bank.json").exists() else _of_files(path, language)
    for contest, index, each in rows:
        found.setdefault((contest, index), []).append(each)
    if not found:
        raise ConfigError(f"{path} holds no submission; docs/code_contests.md shows a line")
    return found


def _of_files(path: Path, language: str) -> Iterator[tuple[str, str, ContestTry]]:
    if not path.exists():
        raise ConfigError(f"there is no file {path}")
    for file in sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path]:
        for where, row in read_rows(str(file)):
            yield _try_of(row, language, where)


def _try_of(row: Mapping[str, Any], language: str, where: str) -> tuple[str, str, ContestTry]:
    contest = row.get("contest")
    contest = str(contest) if isinstance(contest, int) and not isinstance(contest, bool) else contest
    for key, value in (("contest", contest), ("problem", row.get("problem"))):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where}: {key} must be a text such as {'1305' if key == 'contest' else 'A'!r}")
    if "passed" not in row or row["passed"] not in (True, False, None):
        raise ConfigError(f"{where}: passed must be true, false, or null where the run was lost")
    if not isinstance(row.get("complete"), bool):
        raise ConfigError(f"{where}: complete must be true where these were the official tests in full, else false")
    own = row.get("language", language)
    if not isinstance(own, str) or not own:
        raise ConfigError(f"{where}: no language; add one to the line, or give --language")
    groups = row.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(name, str) for name in groups):
        raise ConfigError(f"{where}: groups must be a list of names")
    passed = None if row["passed"] is None else bool(row["passed"])
    made = ContestTry(passed=passed, complete=row["complete"], language=own, groups=frozenset(groups))
    return str(contest), row["problem"], made


def _of_bank(folder: Path, language: str) -> Iterator[tuple[str, str, ContestTry]]:
    if not language:
        raise ConfigError(f"{folder} does not say what its programs are written in; give --language")
    with Bank.read(folder) as bank:
        for problem in bank.problems:
            contest, index = place_of(problem.id, problem.meta, str(folder))
            complete = problem.meta.get("complete") is True
            for outcome in bank.samples(problem.id).outcomes.tolist():
                made = ContestTry(passed=OUTCOMES.get(outcome), complete=complete, language=language)
                yield contest, index, made
