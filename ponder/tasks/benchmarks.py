"""Benchmarks by name: load_task("gsm8k", split="train"), load_task("aime:year=2024"), load_task("math:level=1-3").

A benchmark is a row of `BENCHMARKS`: which verifier, which files, which hub data set. The texts are not part of this
package. They come, in this order, from

    $PONDER_DATA/FOLDER/test*.jsonl(.gz)     one object a line as in `file.py`; the file's name says the split
    a hub data set                           pip install "ponder[data]"; see `datahub.py`

The prompt is the problem's text and nothing else, choices included; `prompting.py` has other ways to ask. The split
`train` is there only where a file's name, or the table, says that one may train on it; of GSM8K's and MATH's some 500
problems are held out, and are the split `dev`: what chooses a step or a temperature need not look at the test. Dials:
`level=3-5`, `subject=Algebra`, `year=2024`, `size` (the first problems). Ids are those of the published item where it
has one.

Left out: rounding. Data sets that print 3.333 for 10/3 are graded by their own digits.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from ponder.config import ConfigError
from ponder.grading.extract import extract_marked
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks.base import level_range
from ponder.tasks.datahub import Row, hub_rows
from ponder.tasks.file import FileTask, problem_of, read_rows
from ponder.types import Problem, Task

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
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
    """One row of the table."""

    verifier: str
    folder: str = ""  # under PONDER_DATA; empty = the benchmark's name
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FILES)  # split -> patterns of file names
    hub: tuple[Hub, ...] = ()
    normalize: Callable[[Row], Row] = lambda row: row  # a line of ours, made uniform
    is_gated: bool = False  # its texts may not lie about: never read from a local file, never written to a bank
    held_out: float = 0.0  # share of the published train split that is never trained on: it is the split `dev`


class BenchmarkTask(FileTask):
    """The problems of a benchmark, and where they came from."""


def benchmark(
    name: str,
    *,
    split: str = "test",
    seed: int = 0,
    size: int | None = None,
    level: int | str | None = None,
    subject: str | None = None,
    year: int | None = None,
) -> BenchmarkTask:
    """The problems of one benchmark; `seed` changes nothing, the order is the data set's."""
    entry = BENCHMARKS[name]
    rows, origin = _local(name, entry, split)
    published = split
    if not rows:
        published = "train" if split == "dev" and entry.held_out else split
        rows, origin = rows_of(name, entry, published)
    problems = _unique(name, rows)
    if published == "train":
        problems = [problem for problem in problems if _is_held_out(problem, entry.held_out) == (split == "dev")]
    if not problems:
        raise ConfigError(f"{name} has no problem with an answer in its split {split}")
    problems = _chosen(name, split, problems, level=level, subject=subject, year=year)
    if size is not None and size < 1:
        raise ConfigError(f"size={size} leaves no problems; use at least 1")
    task = BenchmarkTask(name, problems[:size], VERIFIERS[entry.verifier], split=split)
    task.origin, task.is_gated = origin, entry.is_gated
    return task


def _is_held_out(problem: Problem, share: float) -> bool:
    """By a hash of the id, so that a problem never changes sides."""
    digest = hashlib.blake2b(f"held out/{problem.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _unique(name: str, rows: list[tuple[str, Row]]) -> list[Problem]:
    """Problems with an answer, each id once: a part of a set beside the whole set brings nothing new."""
    problems: dict[str, Problem] = {}
    for where, row in rows:
        problem = problem_of(BENCHMARKS[name].normalize(row), name, where)
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
        if entry.folder == "mawps" or name == "mawps":  # its parts are told apart by their files only
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


# ---- what is made of a row -----------------------------------------------------------------------------------------


def _digits(column: str, *, after: str = "") -> Callable[[Row], str]:
    """A number as digits: 5 for 5.0, "1234" for "1,234"; after a mark where one is named."""

    def take(row: Row) -> str:
        text = str(row[column]).rpartition(after)[2] if after else str(row[column])
        text = text.replace(",", "").strip()
        return text[:-2] if re.fullmatch(r"-?[0-9]+\.0", text) else text

    return take


def _joined(*columns: str) -> Callable[[Row], str]:
    return lambda row: " ".join(str(row[column]).strip() for column in columns)


def _boxed(row: Row) -> str:
    return extract_marked(row["solution"]) or ""


def _answers(row: Row) -> str:
    found = [answer.strip().strip("$") for answer in row["final_answer"]]
    return ",".join(found)


def _of_choices(row: Row) -> str:
    """The letter of a key that may be a letter of any alphabet or a number: its index among the labels."""
    return LETTERS[list(row["choices"]["label"]).index(row["answerKey"])]


def _shuffled(row: Row) -> list[tuple[str, bool]]:
    """GPQA's right and wrong answers in an order that belongs to the item."""
    wrong = [row[f"Incorrect Answer {i}"] for i in (1, 2, 3)]
    answers = [(row["Correct Answer"].strip(), True), *((text.strip(), False) for text in wrong)]
    Random(f"gpqa/{row['Record ID']}").shuffle(answers)
    return answers


def _dated(row: Row) -> Row:
    """The year of a contest, wherever the row has it, as meta and as subject."""
    for name in ("year", "source", "subject", "id"):
        found = re.search(r"(?<![0-9])(?:19|20)[0-9]{2}(?![0-9])", str(row.get(name, "")))
        if found:
            return {**row, "year": int(found[0]), "subject": found[0]}
    return row


def _fractions(row: Row) -> Row:
    """0.6666666666666666 as 2/3: what a program printed for a fraction is that fraction."""
    text = str(row.get("answer", "")).strip()
    if re.fullmatch(r"[0-9]*\.[0-9]{12,20}", text):
        near = Fraction(text).limit_denominator(1000)
        if float(near) == float(text):
            return {**row, "answer": f"{near.numerator}/{near.denominator}"}
    return row


def _without_subject(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "subject"}


# ---- the table -----------------------------------------------------------------------------------------------------

_MATH = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
         "precalculus")  # fmt: skip
_STEM = ("abstract_algebra", "astronomy", "college_biology", "college_chemistry", "college_computer_science",
         "college_mathematics", "college_physics", "computer_security", "conceptual_physics", "electrical_engineering",
         "elementary_mathematics", "high_school_biology", "high_school_chemistry", "high_school_computer_science",
         "high_school_mathematics", "high_school_physics", "high_school_statistics", "machine_learning")  # fmt: skip
_MAWPS = ("addsub*", "multiarith*", "singleeq*", "singleop*")
_PLAIN: Mapping[str, Column] = {"problem": "problem", "answer": lambda row: str(row["answer"])}
_LABELLED: Mapping[str, Column] = {
    "problem": "question", "choices": lambda row: list(row["choices"]["text"]), "answer": _of_choices,
}  # fmt: skip
_MULTIARITH = Hub(
    repo="ChilleD/MultiArith", splits={"test": ("train", "test")}, id="multiarith-{split}-{index}",
    columns={"problem": "question", "answer": _digits("final_ans"), "subject": lambda row: "multiarith"},
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        verifier="integer", held_out=500 / 7473,
        hub=(
            Hub(
                repo="openai/gsm8k", configs=("main",), splits={"train": ("train",), "test": ("test",)},
                columns={"problem": "question", "solution": "answer", "answer": _digits("answer", after="####")},
                id="gsm8k-{split}-{index:04}",
            ),
        ),
    ),
    "math": Benchmark(
        verifier="math", held_out=500 / 12000,
        hub=(
            Hub(
                repo="EleutherAI/hendrycks_math", configs=_MATH, splits={"train": ("train",), "test": ("test",)},
                columns={"problem": "problem", "solution": "solution", "level": "level", "subject": "type",
                         "answer": _boxed},
                id="math-{split}-{config}-{index}",
            ),
        ),
    ),
    "math500": Benchmark(
        verifier="math",
        hub=(
            Hub(
                repo="HuggingFaceH4/MATH-500", splits={"test": ("test",)}, id="math500-{unique_id}",
                columns={**_PLAIN, "solution": "solution", "level": "level", "subject": "subject"},
            ),
        ),
    ),
    "aime": Benchmark(
        verifier="integer", normalize=_dated,
        hub=(
            Hub(repo="HuggingFaceH4/aime_2024", splits={"test": ("train",)}, id="aime-2024-{id}",
                columns={**_PLAIN, "solution": "solution", "year": lambda row: 2024}),
            Hub(repo="MathArena/aime_2025", splits={"test": ("train",)}, id="aime-2025-{problem_idx}",
                columns={**_PLAIN, "year": lambda row: 2025}),
            Hub(repo="di-zhang-fdu/AIME_1983_2024", splits={"train": ("train",)}, id="aime-{ID}",
                # the last year's are the exam: without an answer a row is left out
                columns={"problem": "Question", "year": "Year",
                         "answer": lambda row: str(row["Answer"]) if int(row["Year"]) < 2024 else ""}),
        ),
    ),
    "amc": Benchmark(
        verifier="integer", normalize=_dated,
        hub=(
            Hub(repo="AI-MO/aimo-validation-amc", splits={"test": ("train",)}, id="amc-{id}",
                columns={"problem": "problem", "answer": _digits("answer"), "source": "url"}),
        ),
    ),
    "svamp": Benchmark(
        verifier="math", normalize=_fractions,
        hub=(
            Hub(repo="ChilleD/SVAMP", splits={"test": ("train", "test")}, id="svamp-{ID}",
                columns={"problem": _joined("Body", "Question"), "answer": _digits("Answer"), "subject": "Type"}),
        ),
    ),
    "asdiv": Benchmark(
        verifier="math", normalize=_fractions,
        hub=(
            Hub(repo="EleutherAI/asdiv", configs=("asdiv",), splits={"test": ("validation",)}, id="asdiv-{index}",
                columns={"problem": _joined("body", "question"), "subject": "solution_type",
                         "answer": lambda row: str(row["answer"]).partition(" (")[0]}),
        ),
    ),
    "mawps": Benchmark(verifier="math", normalize=_fractions, files={"train": ("train*",), "test": _MAWPS}),
    "multiarith": Benchmark(
        verifier="integer", folder="mawps", files={"test": ("multiarith*",)}, hub=(_MULTIARITH,),
    ),
    "olympiadbench": Benchmark(
        verifier="math",
        hub=(
            Hub(repo="Hothan/OlympiadBench", configs=("OE_TO_maths_en_COMP",), splits={"test": ("train",)},
                id="olympiadbench-{id}",
                columns={"problem": "question", "answer": _answers, "subject": "subfield"}),
        ),
    ),
    "minerva": Benchmark(
        verifier="math",
        hub=(
            Hub(repo="math-ai/minervamath", splits={"test": ("test",)}, id="minerva-{index}",
                columns={"problem": "question", "answer": lambda row: str(row["answer"])}),
        ),
    ),
    "mmlu_stem": Benchmark(
        verifier="choice",
        hub=(
            Hub(repo="cais/mmlu", configs=_STEM, splits={"test": ("test",)}, id="mmlu-{config}-{index}",
                columns={"problem": "question", "choices": "choices", "subject": "subject",
                         "answer": lambda row: LETTERS[row["answer"]]}),
        ),
    ),
    "arc_challenge": Benchmark(
        verifier="choice",
        hub=(
            Hub(repo="allenai/ai2_arc", configs=("ARC-Challenge",), columns=_LABELLED, id="arc-{id}",
                splits={"train": ("train",), "dev": ("validation",), "test": ("test",)}),
        ),
    ),
    "commonsenseqa": Benchmark(  # the public set has no labels for its test part: the dev part is the exam
        verifier="choice", normalize=_without_subject, files={"train": ("train*",), "test": ("dev*",)},
        hub=(
            Hub(repo="tau/commonsense_qa", columns=_LABELLED, id="csqa-{id}",
                splits={"train": ("train",), "test": ("validation",)}),
        ),
    ),
    "aqua": Benchmark(
        verifier="choice",
        hub=(
            Hub(repo="deepmind/aqua_rat", configs=("raw",), id="aqua-{split}-{index}",
                splits={"train": ("train",), "dev": ("validation",), "test": ("test",)},
                columns={"problem": "question", "solution": "rationale", "answer": "correct",
                         "choices": lambda row: [option.partition(")")[2].strip() for option in row["options"]]}),
        ),
    ),
    "gpqa_diamond": Benchmark(
        verifier="choice", is_gated=True, files={},
        hub=(
            Hub(repo="Idavidrein/gpqa", configs=("gpqa_diamond",), splits={"test": ("train",)}, id="gpqa-{Record ID}",
                columns={"problem": "Question", "subject": "High-level domain",
                         "choices": lambda row: [text for text, _ in _shuffled(row)],
                         "answer": lambda row: LETTERS[[right for _, right in _shuffled(row)].index(True)]}),
        ),
    ),
}  # fmt: skip

LOADERS: dict[str, Callable[..., Task]] = {name: partial(benchmark, name) for name in BENCHMARKS}
