"""Other people's names and forms for a problem: a row with `question`, a CSV file, GSM8K's answers.

    canonical({"question": "1+1?", "target": 2}, "p.jsonl, line 7")
    -> {"problem": "1+1?", "answer": 2, "id": "7"}

An alias is taken where the field itself is missing; two aliases of one field in a row are an error, since which of them
is meant is not ours to guess. A row without an id gets its number, so ids stay the same as long as the file does.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.grading.verifiers import bounded_lines

Row = dict[str, Any]

ALIASES: dict[str, tuple[str, ...]] = {
    "problem": ("question", "prompt", "query", "instruction"),
    "answer": ("target", "final_answer", "ground_truth", "reference_answer", "expected_answer", "gold"),
    "solution": ("rationale", "worked_solution"),
    "choices": ("options",),
}
TABLES = {".csv": ",", ".tsv": "\t"}  # suffix -> delimiter
MAX_HEAD = 1 << 20  # characters of a first line in which a delimiter is looked for
_MARK = "####"  # GSM8K: a worked solution, this mark, the answer


def canonical(row: Row, where: str) -> Row:
    """The row with ponder's names for its fields and an id; `where` ends with the row's number."""
    row = dict(row)
    for field, others in ALIASES.items():
        if _has(row, field):
            continue
        given = [other for other in others if _has(row, other)]
        if len(given) > 1:
            both = " and ".join(map(repr, given))
            raise ConfigError(f"{where}: {both} could both be the {field}; rename the right one to {field!r}")
        if given:
            row[field] = row.pop(given[0])
    if isinstance(row.get("problem"), list):
        row["problem"] = _only_message(row["problem"], where)
    if isinstance(row.get("answer"), str) and _MARK in row["answer"] and not _has(row, "solution"):
        row["solution"], _, row["answer"] = row["answer"].rpartition(_MARK)
    if not _has(row, "id"):
        row["id"] = where.rpartition(" ")[2]
    return row


def _has(row: Row, field: str) -> bool:
    value = row.get(field)
    return value is not None and value == value  # NaN: a missing value, as pandas writes it


def _only_message(messages: list[Any], where: str) -> str:
    """The text of a prompt written as a conversation, where it is one question and nothing else."""
    if len(messages) == 1 and isinstance(messages[0], dict) and messages[0].get("role") == "user":
        content = messages[0].get("content")
        if isinstance(content, str):
            return content
    raise ConfigError(f"{where}: the field 'problem' must be a text, or a list of one message of the user")


def is_table(path: str | Path) -> bool:
    """By its suffix (.csv, .tsv), a .gz behind it left out; the file need not exist."""
    return _suffix(path) in TABLES


def _suffix(path: str | Path) -> str:
    return Path(str(path).removesuffix(".gz")).suffix.lower()


def table_rows(path: str) -> Iterator[tuple[str, Row]]:
    """The rows of a .csv or .tsv file (also .gz), each with where it ends ("p.csv, line 3"); empty cells are missing.

    The first line names the columns, each once. A .csv whose first line has semicolons and no comma is split at those.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no file at {path}; give the path of a .csv or .jsonl file")
    line = 1
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            first = file.readline(MAX_HEAD)
            file.seek(0)
            delimiter = TABLES[_suffix(path)]
            if delimiter == "," and "," not in first and ";" in first:
                delimiter = ";"
            reader = csv.DictReader(bounded_lines(file, path), delimiter=delimiter, strict=True)
            head = reader.fieldnames or []
            if twice := [name for name in head if name and head.count(name) > 1]:
                raise ConfigError(f"{path}: two columns are called {twice[0]!r}; rename or remove one of them")
            for cells in reader:
                line = reader.line_num
                yield f"{path}, line {line}", _of_cells(cells, f"{path}, line {line}", head)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason}, after line {line}); save the file as UTF-8") from None
    except csv.Error as error:
        raise ConfigError(f"{path}, after line {line}: {error}; {_fix_of(error)}") from None
    except (zlib.error, EOFError, OSError) as error:
        raise ConfigError(f"{path} cannot be read (after line {line}): {error}") from None


def _fix_of(error: csv.Error) -> str:
    if "field limit" in str(error):
        return "is a closing quote missing? Longer texts than that need a .jsonl file"
    return "a text with commas or quotes needs quotes"


def _of_cells(cells: dict[Any, Any], where: str, head: Any) -> Row:
    if None in cells:
        raise ConfigError(
            f"{where} has more cells than the first line has names ({', '.join(head)}); a text with commas needs quotes"
        )
    may_be_empty = ("answer", *ALIASES["answer"])  # a problem that is left out, and counted
    row = {name: text for name, text in cells.items() if text or (text == "" and name in may_be_empty)}
    for name in ("choices", *ALIASES["choices"]):
        if name in row:
            try:
                row[name] = json.loads(row[name])
            except (ValueError, RecursionError):
                shown = f"{row[name][:80]!r}"
                raise ConfigError(f'{where}: write {name} as a JSON list, ["red", "blue"], not {shown}') from None
    return row
