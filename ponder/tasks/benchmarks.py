"""Benchmarks by name: load_task("gsm8k", split="train"), load_task("aime:year=2024"), load_task("math:level=1-3").

A benchmark is a row of `BENCHMARKS`: which verifier, which files, which hub data set, and what its columns are for us.
`published.py` has what is done with a row: where texts come from, the splits, the dials.

Left out: rounding. Data sets that print 3.333 for 10/3 are graded by their own digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from random import Random

from ponder.grading.extract import extract_marked
from ponder.tasks.datahub import Row
from ponder.tasks.published import Benchmark, Column, Hub, published
from ponder.types import Task

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
    "mawps": Benchmark(
        verifier="math", normalize=_fractions, files={"train": ("train*",), "test": _MAWPS}, has_parts=True
    ),
    "multiarith": Benchmark(
        verifier="integer", folder="mawps", files={"test": ("multiarith*",)}, hub=(_MULTIARITH,), has_parts=True,
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

LOADERS: dict[str, Callable[..., Task]] = {name: partial(published, name, entry) for name, entry in BENCHMARKS.items()}
