"""Problems from a file: `load_task("file:problems.jsonl")`, one JSON object a line, or a .csv or .tsv; also `.gz`.

    {"id": "7", "problem": "What is 1/2 + 1/4?", "answer": "3/4"}
    optional: id (else the line's number), solution, level (3 or "Level 3"; without one, how many calculator marks the
              solution has), subject, source, choices (["red", "blue"]; the answer is then a letter)

Other names of the fields (`question`, `target`, ...) and GSM8K's "solution #### answer" are in `columns.py`.

The verifier: `choice` where every line has choices, `integer` where every answer is a whole number, else `math`; or the
one that is asked for: load_task("file:problems.jsonl", verifier="math"), or "file:problems.jsonl,verifier=math".

A line that cannot be used stops the loading with its number and the fix: half a benchmark is no benchmark. Only lines
whose answer is empty (proofs, problems that tests decide) are left out, with a warning that counts them. Fields with
other names are kept in `meta`, unless they look like a misspelt one. Choices are listed below the problem where its
text does not list them itself. The order is the file's; `split` is only a label, and `seed` changes nothing.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, lookup
from ponder.files import file_hash, well_formed
from ponder.grading.handed_in import keyed, tried
from ponder.grading.verifiers import VERIFIERS, KeyedVerifier, name_of, numbered_lines
from ponder.rewarding import chosen_by_flags
from ponder.tasks.base import ListedTask, check_size
from ponder.tasks.columns import ALIASES, canonical, is_table, table_rows
from ponder.types import Message, Problem, Verdict, Verifier

REQUIRED = ("id", "problem", "answer")
OPTIONAL = ("solution", "level", "subject", "source", "choices")


class FileTask(ListedTask):
    """The problems of one file, in its order."""

    def __init__(self, name: str, problems: Sequence[Problem], verifier: KeyedVerifier, *, split: str = "test") -> None:
        self.name, self.split = name, split
        self._problems, self._verifier = list(problems), verifier
        self.verifier = name_of(verifier)
        self.patience = getattr(verifier, "patience", self.patience)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self._verifier(problem, answer)

    def key(self, problem: Problem, answer: str) -> str | None:
        return self._verifier.key(problem, answer)


def file_task(
    path: str,
    *,
    split: str = "test",
    seed: int = 0,
    verifier: str | Verifier | None = None,
    size: int | None = None,
    name_parts: int = 2,
) -> FileTask:
    """The task of a file; `size` keeps its first problems, its name is the last `name_parts` parts of its path.

    verifier: a name of `VERIFIERS`, `module:attr` or a function (problem, answer), see `grading/handed_in.py`.
    """
    path, dials = split_dials(os.path.expanduser(path))  # no shell does that behind "file:"
    for dial in filter(None, dials.split(",")):
        name, _, value = dial.partition("=")
        if name == "size" and not re.fullmatch("[0-9]{1,9}", value):
            raise ConfigError(f"size={value[:40]} is not a number of problems")
        size, verifier = (int(value), verifier) if name == "size" else (size, verifier or value)
    if (stray := re.search(r",(\w+)=[^,/]*$", path)) and not Path(path).exists():
        raise ConfigError(f"task 'file:{path}' has no dial {stray[1]!r}; a file takes verifier= and size=")
    check_size(size)
    name = "/".join(Path(path).parts[-name_parts:]).removesuffix(".gz").removesuffix(".jsonl")
    rows = list(read_rows(path))
    found = ((where, problem_of(canonical(row, where), name, where)) for where, row in rows)
    problems = unique_problems(found, path)
    chosen = verifier or choose_verifier(problems)
    task = FileTask(name, problems[:size], verifier_of(chosen, problems[0]), split=split)
    reason = chosen_by_flags(row for _, row in rows)  # an exam may ask these; training refuses them
    selected = {"chosen_by_flags": reason} if reason else {}
    task.origin = [{"file": path, "sha256": file_hash(path), "problems": len(task), **selected}]
    return task


def unique_problems(found: Iterable[tuple[str, Problem]], source: str) -> list[Problem]:
    """The problems that have an answer; (where, problem) pairs, `where` ends with a line's number."""
    problems: list[Problem] = []
    lines: dict[str, str] = {}
    unanswered: list[str] = []
    for where, problem in found:
        line = where.rpartition(" ")[2]
        if problem.id in lines:
            raise ConfigError(f"{where}: the id {problem.id!r} is that of line {lines[problem.id]}; ids must be unique")
        lines[problem.id] = line
        if problem.target:
            problems.append(problem)
        else:
            unanswered.append(line)
    if unanswered and not problems:
        raise ConfigError(f"{source}: every answer is empty; problems that tests decide cannot be a file: task")
    if unanswered:
        first = ", ".join(unanswered[:5])
        warnings.warn(f"{source}: {len(unanswered)} problems without an answer left out (lines {first})", stacklevel=3)
    if not problems:
        raise ConfigError(f'{source} holds no problems; write one {{"id": ..., "problem": ..., "answer": ...}} a line')
    return problems


def verifier_of(chosen: str | Verifier, problem: Problem) -> KeyedVerifier:
    """A verifier by its name, by module:attr or as it is; one of your own is tried on a problem first."""
    if isinstance(chosen, str) and chosen in VERIFIERS:
        return VERIFIERS[chosen]
    function = lookup(VERIFIERS, chosen, what="verifier") if isinstance(chosen, str) else chosen
    called = chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(chosen).__name__)
    name = f"the verifier {called}"
    return tried(keyed(function, name), problem, name)


def split_dials(spec: str) -> tuple[str, str]:
    """ "p.jsonl,size=5" -> ("p.jsonl", ",size=5"); a path that is there is all path."""
    if Path(spec).exists():
        return spec, ""
    match = re.fullmatch(r"(.*?)((?:,(?:verifier|size)=[^,]*)*)", spec, re.DOTALL)
    assert match is not None, spec
    return match[1], match[2]


def distinct_parts(specs: Sequence[str]) -> int:
    """How many parts of their paths tell files apart: 2, as in "t/p", unless two folders hold one of that name."""
    paths = {Path(split_dials(spec)[0]).absolute() for spec in specs}
    max_parts = max((len(path.parts) for path in paths), default=2)
    return next(
        (count for count in range(2, max_parts) if len({path.parts[-count:] for path in paths}) == len(paths)),
        max_parts,
    )


def choose_verifier(problems: Sequence[Problem]) -> str:
    """choices everywhere -> choice; whole numbers everywhere -> integer; else math."""
    if all(problem.choices for problem in problems):
        return "choice"
    if all(re.fullmatch(r"\s*[-+]?[0-9]+\s*", problem.target) for problem in problems):
        return "integer"
    return "math"


def read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with where it stands ("p.jsonl, line 3"); a line that is none is an error."""
    if is_table(path):
        yield from table_rows(path)
        return
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        if isinstance(line, ConfigError):
            raise ConfigError(f"{where}: {line}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise ConfigError(f'{where}: not an object; write {{"id": ..., "problem": ..., "answer": ...}}')
        yield where, row


def problem_of(row: dict[str, Any], task: str, where: str) -> Problem:
    """One object as a problem; `where` is where an error says it stands."""
    row = {name: value for name, value in row.items() if value == value}  # NaN: a missing value, as pandas writes it
    for name in row:
        close = difflib.get_close_matches(name, [n for n in REQUIRED + OPTIONAL if n not in row], n=1, cutoff=0.75)
        if name not in REQUIRED + OPTIONAL and close:
            raise ConfigError(f"{where}: unknown field {name!r}; did you mean {close[0]!r}?")
    text = {name: _text(row, name, where) for name in REQUIRED}
    choices = _choices(row, text["answer"], where)
    level, subject = row.get("level", calculations(row)), row.get("subject")
    level_number = re.fullmatch(r"(?:[Ll]evel )?([0-9]{1,6})", str(level))
    meta = {name: value for name, value in row.items() if name not in (*REQUIRED, "level", "subject", "choices")}
    if level is not None and level_number is None:
        meta["level"] = level  # "Introductory": kept, but not a number to sort by
    return Problem(
        id=text["id"],
        prompt=(Message(role="user", content=with_choices(text["problem"], choices)),),
        target=text["answer"].strip(),
        task=task,
        level=int(level_number[1]) if level_number else None,
        subject=None if subject is None else str(subject),
        choices=choices,
        meta=meta,
    )


def with_choices(text: str, choices: Sequence[str]) -> str:
    """The text with its choices listed below, as A., B., ...; as it is where it lists them already."""
    plain = " ".join(text.split())
    lettered = [(chr(ord("A") + i), " ".join(choice.split())) for i, choice in enumerate(choices)]
    is_quoted = all(any(f"{a}{mark} {choice}" in plain for mark in ".):") for a, choice in lettered)
    is_listed = all(re.search(rf"^\s*\(?{a}[.):]", text, re.MULTILINE) for a, _ in lettered)
    if is_quoted or is_listed:
        return text
    return "\n".join([text.rstrip(), *(f"{a}. {choice}" for a, choice in lettered)])


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, float) and math.isinf(value):  # 1e999 is JSON too
        raise ConfigError(f"{where}: the field {name!r} is an infinite number; write it as a text")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        others = f", or {' or '.join(ALIASES[name])}" if name in ALIASES else ""
        raise ConfigError(
            f"{where}: the field {name!r} is missing{others}; there are {', '.join(map(str, row)) or 'none'}"
        )
    if not isinstance(value, str):
        raise ConfigError(f"{where}: the field {name!r} must be a text, not {type(value).__name__}")
    if not value.strip() and name != "answer":
        raise ConfigError(f"{where}: the field {name!r} is empty")
    if name == "id" and value != well_formed(value):  # samples are found by it, and their file is UTF-8
        raise ConfigError(f"{where}: the id {value!r} holds half a character; correct it")
    return value


def calculations(row: dict[str, Any]) -> int | None:
    """A level where none is given: how many calculator marks (`<<48/2=24>>`, as in GSM8K) the solution has."""
    return str(row.get("solution", "")).count("<<") or None


def _choices(row: dict[str, Any], answer: str, where: str) -> tuple[str, ...]:
    choices = row.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices) or len(choices) > 26:
        raise ConfigError(f"{where}: choices must be a list of up to 26 texts")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
    if choices and answer.strip() and (len(answer.strip()) != 1 or answer.strip() not in letters):
        raise ConfigError(
            f"{where}: with {len(choices)} choices the answer must be one of {letters}, the letter of the right one, "
            f"not {answer[:80]!r}"
        )
    own = [
        re.match(rf"\s*(?:{a}\s*[.):]|\({a}\))\s+(?=\S)", choice) for a, choice in zip(letters, choices, strict=True)
    ]
    return tuple(choice[mark.end() if mark and all(own) else 0 :] for mark, choice in zip(own, choices, strict=True))
