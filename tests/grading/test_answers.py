"""The equivalence engine: golden pairs, and the properties that make it fit to vote."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.grading.equality import canonical, read
from ponder.grading.extract import extract
from ponder.grading.frames import key_in
from ponder.grading.verifiers import VERIFIERS, grade
from ponder.types import Problem

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_answers.jsonl").read_text().splitlines()]
NEEDS_SYMPY = ("\\int", "\\sum", "\\prod", "(n+1)!")
HAS_SYMPY = importlib.util.find_spec("math_verify") is not None
PLAIN = [row for row in GOLDEN if not any(sign in row["answer"] for sign in NEEDS_SYMPY)]
SYMBOLIC = [row for row in GOLDEN if row not in PLAIN]

PIECES = (
    r"\frac { } ( ) [ ] 1 2 12 x y ^ _ + - * / = < > <= \sqrt \pi e i ! % \% $ , ; . | \{ \} \le \infty \cup \pm "
    r"\text{ cm m apples and or sin \log_2 \binom \pmod mod base 1e9 9^9^9 \begin{pmatrix} & \\ \end{pmatrix} "
    r"\boxed{ Answer: is #### : 1,234 0.5 \overline{3} (B) x= \ln 0^0 1/0 10^{4000} !! ' ** ½ √ ² ∞ ≤ ° ٣"
).split()
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))


@pytest.mark.parametrize("row", PLAIN, ids=lambda row: f"{row['verifier']}:{row['target'][:30]}|{row['answer'][:30]}")
def test_golden_answers_get_their_verdict(row):
    found = grade(row["target"], row["answer"], row["verifier"])
    assert found.outcome == row["verdict"], found
    assert found.reward == (1.0 if row["verdict"] == "correct" else 0.0)


@pytest.mark.skipif(not HAS_SYMPY, reason='needs pip install "ponder[math]"')
@pytest.mark.parametrize("row", SYMBOLIC, ids=lambda row: row["answer"])
def test_what_the_first_reading_does_not_understand_is_shown_to_sympy(row):
    assert grade(row["target"], row["answer"], row["verifier"]).outcome == row["verdict"]


def test_there_are_enough_golden_answers_of_both_kinds():
    kinds = [row["verdict"] for row in GOLDEN]
    assert kinds.count("correct") >= 150 and kinds.count("wrong") >= 100


@given(texts)
@settings(max_examples=400, deadline=None)
def test_canonical_and_extract_never_raise(text):
    assert canonical(text) is None or canonical(text)
    assert extract(text) is None or extract(text).strip()
    for verifier in ("integer", "choice", "exact"):
        assert grade("42", text, verifier).outcome in ("correct", "wrong")


def is_plain_mathematics(text: str) -> bool:
    reading = read(text)
    return reading is not None and reading.is_understood and extract(text) == text


MATHEMATICS = [text for row in PLAIN for text in (row["target"], row["answer"]) if is_plain_mathematics(text)]


@given(st.sampled_from(MATHEMATICS), st.sampled_from(MATHEMATICS))
@settings(max_examples=1_000, deadline=None)
def test_grading_is_symmetric(left, right):
    assert grade(left, right).outcome == grade(right, left).outcome


def test_grading_is_symmetric_on_golden_pairs():
    for row in PLAIN:
        if row["verifier"] == "math" and is_plain_mathematics(row["target"]) and is_plain_mathematics(row["answer"]):
            assert grade(row["answer"], row["target"]).outcome == row["verdict"], row


@given(st.lists(st.sampled_from(MATHEMATICS), min_size=3, max_size=3), st.sampled_from(MATHEMATICS))
@settings(max_examples=500, deadline=None)
def test_within_a_problem_equality_is_transitive(three, target):
    """In the frame of any target: what equals the target equals each other, and what does not, does not."""
    problem = Problem(id="0", prompt=(), target=target, task="test")
    verifier = VERIFIERS["math"]
    right = [text for text in three if verifier(problem, text).is_correct]
    wrong = [text for text in three if not verifier(problem, text).is_correct]
    assert {verifier.key(problem, text) for text in right} <= {verifier.key(problem, target)}
    assert verifier.key(problem, target) not in {verifier.key(problem, text) for text in wrong}


@pytest.mark.parametrize(
    "text",
    ["9" * 1_000_000, "(" * 100_000, "{" * 5_000 + "}" * 5_000, "-" * 50_000, "\x00" * 10_000, "^" * 3_000,
     "1" + "+1" * 200_000, r"\boxed{" * 20_000, r"\sqrt{" * 500 + "2" + "}" * 500, "x " * 100_000, "Answer: " * 50_000,
     "** " * 100_000, "$" * 100_000, r"\boxed{9^{9^{9^{9}}}}", "10^{10^{10}}", "1e999999999", "1\n" * 50_000,
     "((((((((((2^99)^99)^99)^99)^99)^99)^99)^99)^99)^99", r"\binom{10000000}{5000000}", "100000000!",
     r"\sin(10^{100})", "0." + "3" * 100_000, "1/" + "7" * 5_000, "½" * 10_000,
     "#### " * 10_000, "is 1 " * 10_000, "1,234" * 10_000, "=" * 20_000, "or " * 20_000, "_" * 20_000, "|" * 3_000],
    ids=lambda text: text[:12].replace("\x00", "NUL"),
)  # fmt: skip
def test_no_text_takes_long(text):
    start = time.monotonic()
    for verifier in VERIFIERS:
        assert grade("42", text, verifier).outcome != "correct"
    assert time.monotonic() - start < 8


def test_numbers_of_thousands_of_digits_are_exact():
    assert canonical("0" * 10 + "1" * 5_000) == canonical("1" * 5_000) != canonical("1" * 5_001)
    assert canonical("10^{5000}") == canonical("1" + "0" * 5_000)


def test_unit_frames_merge_but_never_mix_units():
    def same(target, *answers):
        return len({key_in(answer, target).key for answer in answers}) == 1

    assert same("40 feet", "40", "40 ft", "480 inches")
    assert not same("40 feet", "40", "40 m")
    assert same("18", "18", "18 eggs", "18 dollars")
    assert same("64%", "64", "64%", "0.64", "16/25")
    assert not same("64%", "64", "6.4%")
    assert canonical("10") != canonical("10 m")  # outside a problem nothing says what 10 counts


def test_nothing_found_is_no_answer_and_never_votes():
    for text in ("", "  \n", "I do not know", "\\boxed{}"):
        found = grade("42", text)
        assert found.outcome == "wrong" and found.extracted is None, text


def test_importing_tasks_needs_no_heavy_library():
    import subprocess
    import sys

    heavy = ("torch", "sympy", "reasoning_gym", "numpy")
    code = f"import sys, ponder.tasks; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
