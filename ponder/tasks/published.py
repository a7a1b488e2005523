"""Published problem sets: where their texts come from, how their rows become problems, which split and dials there are.

    entry = Benchmark(verifier="math", hub=(Hub(repo="openai/gsm8k", splits={"test": ("test",)}, columns=..., id=...),))
    task = published("gsm8k", entry, split="test", level="1-3")

The texts are not part of this package. They come, in this order, from

    $PONDER_DATA/FOLDER/test*.jsonl(.gz)     one object a line as in `file.py`; the file's name says the split
    a hub data set                           pip install "ponder[data]"; see `datahub.py`

The prompt is the problem's text and nothing else, choices included; `prompting.py` has other ways to ask. The split
`train` is there only where a file's name, or the table, says that one may train on it; of GSM8K's and MATH's some 500
problems are held out, and are the split `dev`: what chooses a step or a temperature need not look at the test. Dials:
`level=3-5`, `subject=Algebra`, `year=2024`, `size` (the first problems). Ids are those of the published item where it
has one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks.base import check_size, level_range
from ponder.tasks.datahub import Row, hub_rows
from ponder.tasks.file import FileTask, problem_of, read_rows
from ponder.types import Problem

FILES: Mapping[str, tuple[str, ...]] = {"train": ("train*",), "dev": ("dev*",), "test": ("test*",)}
Column = str | Callable[[Row], Any]  # a column's name, or what to make of the row


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A data set on a hub, and how its columns become ours."""

    repo: str
    configs: tuple[str, ...] = ("default",)
    splits: Mapping[str, tuple[str, ...]]  # ours -> the hub's
    columns: Mapping[str, Column]
    id: str  # with {index}, {split}, {config} and the columns of the row


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published problem set: who verifies it, where its texts are, and what makes its rows uniform."""

    verifier: str
    folder: str = ""  # under PONDER_DATA; empty = the benchmark's name
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FILES)  # split -> patterns of file names
    hub: tuple[Hub, ...] = ()
    normalize: Callable[[Row], Row] = lambda row: row  # a line of ours, made uniform
    has_parts: bool = False  # told apart by their files only, whose names are the subjects of what lies in them
    is_gated: bool = False  # its texts may not lie about: never read from a local file, never written to a bank
    held_out: float = 0.0  # share of the published train split that is never trained on: it is the split `dev`


class BenchmarkTask(FileTask):
    """The problems of a benchmark, and where they came from."""


def published(
    name: str,
    entry: Benchmark,
    *,
    split: str = "test",
    seed: int = 0,
    size: int | None = None,
    level: int | str | None = None,
    subject: str | None = None,
    year: int | None = None,
) -> BenchmarkTask:
    """The problems of one set; `seed` changes nothing, the order is the data set's.

    ConfigError, with every way to get them, where there are no texts; and where a dial leaves no problem.
    """
    rows, origin = _local(name, entry, split)
    found_in = split
    if not rows:
        found_in = "train" if split == "dev" and entry.held_out else split
        rows, origin = rows_of(name, entry, found_in)
    problems = _unique(name, entry, rows)
    if found_in == "train":
        problems = [problem for problem in problems if _is_held_out(problem, entry.held_out) == (split == "dev")]
    if not problems:
        raise ConfigError(f"{name} has no problem with an answer in its split {split}")
    problems = _chosen(name, split, problems, level=level, subject=subject, year=year)
    check_size(size)
    task = BenchmarkTask(name, problems[:size], VERIFIERS[entry.verifier], split=split)
    task.origin, task.is_gated = origin, entry.is_gated
    return task


def _is_held_out(problem: Problem, share: float) -> bool:
    """By a hash of the id, so that a problem never changes sides."""
    digest = hashlib.blake2b(f"held out/{problem.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _unique(name: str, entry: Benchmark, rows: list[tuple[str, Row]]) -> list[Problem]:
    """Problems with an answer, each id once: a part of a set beside the whole set brings nothing new."""
    problems: dict[str, Problem] = {}
    for where, row in rows:
        problem = problem_of(entry.normalize(row), name, where)
        known = problems.setdefault(problem.id, problem)
        if known.prompt != problem.prompt:
            raise ConfigError(f"{where}: the id {problem.id!r} is that of another problem; ids must be unique")
    return [problem for problem in problems.values() if problem.target]


def _chosen(
    name: str, split: str, problems: list[Problem], *, level: int | str | None, subject: str | None, year: int | None
) -> list[Problem]:
    """The problems that the dials leave; none left is an error that says what there is."""
    levels, plain = level_range(level, ()), lambda text: re.sub(r"[\W_]+", " ", str(text)).strip().casefold()
    dials: dict[str, tuple[Any, Callable[[Problem], Any], Callable[[Any], bool]]] = {
        "level": (level, lambda p: p.level, lambda value: value in levels),
        "subject": (subject, lambda p: p.subject, lambda value: plain(value) == plain(subject)),
        "year": (year, lambda p: p.meta.get("year"), lambda value: value == year),
    }
    for dial, (wanted, value_of, fits) in dials.items():
        if wanted is None:
            continue
        left = [problem for problem in problems if fits(value_of(problem))]
        if not left:
            there = sorted({value_of(p) for p in problems if value_of(p) is not None})
            known = f"there are {', '.join(map(str, there[:40]))}" if there else f"its problems have no {dial}"
            raise ConfigError(f"{name} ({split}) has no problems of {dial}={wanted}; {known}")
        problems = left
    return problems


# ---- where the texts come from -------------------------------------------------------------------------------------


def rows_of(name: str, entry: Benchmark, split: str) -> tuple[list[tuple[str, Row]], list[dict[str, Any]]]:
    """The rows of a split, each with where it stands, and their origin."""
    rows, origin = _local(name, entry, split)
    return (rows, origin) if rows else _from_hub(name, entry, split)


def _local(name: str, entry: Benchmark, split: str) -> tuple[list[tuple[str, Row]], list[dict[str, Any]]]:
    """The rows of the split's files under PONDER_DATA, each with where it stands; nothing where there are none."""
    root = os.environ.get("PONDER_DATA", "")
    if not root or entry.is_gated:
        return [], []
    if not Path(root).is_dir():
        raise ConfigError(f"PONDER_DATA={root} is no folder; give the one that holds {entry.folder or name}/")
    folder = Path(root) / (entry.folder or name)
    rows: list[tuple[str, Row]] = []
    origin = []
    for path in _files(folder, entry.files.get(split, ())):
        read = list(read_rows(str(path)))
        if entry.has_parts:
            read = [(where, row if row.get("subject") else {**row, "subject": _stem(path)}) for where, row in read]
        rows += read
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        origin.append({"file": f"{folder.name}/{path.name}", "sha256": digest, "problems": len(read)})
    return rows, origin


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    named = [path for path in sorted(folder.glob("*")) if path.name.endswith((".jsonl", ".jsonl.gz"))]
    return [path for path in named if any(Path(_stem(path)).match(pattern) for pattern in patterns)]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _from_hub(name: str, entry: Benchmark, split: str) -> tuple[list[tuple[str, Row]], list[dict[str, Any]]]:
    """The rows of the split from the hub; the one error that says every way to get them."""
    sources = [hub for hub in entry.hub if split in hub.splits]
    patterns = entry.files.get(split, ())
    if not sources and split == "dev":
        known = sorted({"test", *(part for hub in entry.hub for part in hub.splits)})
        raise ConfigError(f"{name} has no dev split; it has {', '.join(known)}")
    if not sources and split == "train":
        found = "" if entry.is_gated else f", and no file {patterns[0]}.jsonl was found" if patterns else ""
        raise ConfigError(f"{name} is for measuring, not for training: no train split of it is known{found}")
    wanted = f"{entry.folder or name}/{(patterns or ('',))[0].removesuffix('*')}.jsonl"
    root = os.environ.get("PONDER_DATA", "")
    local = f"PONDER_DATA={root} has no {wanted}" if root else f"PONDER_DATA is not set (a folder with {wanted} in it)"
    ways = [] if entry.is_gated or not patterns else [local]
    if not sources:
        ways.append("no hub data set is known")
    rows: list[tuple[str, Row]] = []
    origin = []
    try:
        for hub in sources:
            for config in hub.configs:
                for part in hub.splits[split]:
                    raw, revision = hub_rows(hub.repo, config, part, keep=not entry.is_gated)
                    rows += _mapped(hub, config, part, raw)
                    source = f"{hub.repo}/{config}/{part}"
                    origin.append({"hub": source, "revision": revision, "problems": len(raw)})
    except ConfigError as error:
        ways.append(f"from the hub ({hub.repo}): {error}")
        rows = []
    if not rows:
        raise ConfigError(f"no problems for {name} ({split}): {'; '.join(ways)}; docs/tasks.md tells both ways")
    return rows, origin


def _mapped(hub: Hub, config: str, part: str, raw: list[Row]) -> list[tuple[str, Row]]:
    """Hub rows in our own form."""
    mapped = []
    for index, row in enumerate(raw):
        where = f"{hub.repo}/{config}/{part}, row {index}"
        try:
            own = {name: row[take] if isinstance(take, str) else take(row) for name, take in hub.columns.items()}
            own["id"] = hub.id.format(**{**row, "index": index, "split": part, "config": config})
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{where} does not look as expected ({type(error).__name__}: {error})") from None
        own = {name: value for name, value in own.items() if value is not None}
        mapped.append((where, own | {"source": hub.repo} if "source" not in own else own))
    return mapped
