"""The equivalence engine: golden pairs, and the properties that make it fit to vote."""

from __future__ import annotations

import importlib.util
import json
import re
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
from tests.helpers import takes_at_most

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_answers.jsonl").read_text().splitlines()]
NEEDS_SYMPY = ("\\int", "\\sum", "\\prod", "(n+1)!")
HAS_SYMPY = importlib.util.find_spec("math_verify") is not None
SYMBOLIC = [row for row in GOLDEN if any(sign in row["answer"] for sign in NEEDS_SYMPY)]
PLAIN = [row for row in GOLDEN if not any(sign in row["answer"] for sign in NEEDS_SYMPY)]

PIECES = (
    r"\frac { } ( ) [ ] 1 2 12 x y ^ _ + - * / = < > <= \sqrt \pi e i ! % \% $ , ; . | \{ \} \le \infty \cup \pm "
    r"\text{ cm m apples and or sin \log_2 \binom \pmod mod base 1e9 9^9^9 \begin{pmatrix} & \\ \end{pmatrix} "
    r"\boxed{ Answer: is #### : 1,234 0.5 \overline{3} (B) x= \ln 0^0 1/0 10^{4000} !! ' ** ½ √ ² ∞ ≤ ° ٣"
).split()
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))


@pytest.mark.parametrize("first", range(0, len(PLAIN), 100), ids=lambda first: f"the hundred from {first}")
def test_golden_answers_get_their_verdict(first):
    """A hundred a test: as a test each, what surrounds a test takes more time than three thousand verdicts."""
    astray = []
    for row in PLAIN[first : first + 100]:
        found = grade(row["target"], row["answer"], row["verifier"])
        if (found.outcome, found.reward) != (row["verdict"], 1.0 if row["verdict"] == "correct" else 0.0):
            astray.append((row, found))
    assert not astray


@pytest.mark.skipif(not HAS_SYMPY, reason='needs pip install "ponder[math]"')
@pytest.mark.parametrize("row", SYMBOLIC, ids=lambda row: row["answer"])
def test_what_the_first_reading_does_not_understand_is_shown_to_sympy(row):
    assert grade(row["target"], row["answer"], row["verifier"]).outcome == row["verdict"]


def test_there_are_enough_golden_answers_of_both_kinds():
    kinds = [row["verdict"] for row in GOLDEN]
    assert kinds.count("correct") >= 150 and kinds.count("wrong") >= 100


@pytest.mark.slow
@given(texts)
@settings(max_examples=400, deadline=None)
def test_canonical_and_extract_never_raise(text):
    assert canonical(text) is None or canonical(text)
    assert extract(text) is None or extract(text).strip()
    for verifier, target in (("integer", "42"), ("choice", "B"), ("exact", "42")):
        assert grade(target, text, verifier).outcome in ("correct", "wrong")


def is_plain_mathematics(text: str) -> bool:
    reading = read(text)
    return reading is not None and reading.is_understood and extract(text) == text


@st.deferred  # to read them takes two seconds, which each process that collects the tests would spend
def mathematics() -> st.SearchStrategy[str]:
    found = [text for row in PLAIN for text in (row["target"], row["answer"]) if is_plain_mathematics(text)]
    return st.sampled_from(found)


@pytest.mark.slow
@given(mathematics, mathematics)
@settings(max_examples=1_000, deadline=None)
def test_grading_is_symmetric(left, right):
    assert grade(left, right).outcome == grade(right, left).outcome


@pytest.mark.parametrize(("left", "right"), [(r"\sin 30^\circ", "0.5 miles"), ("y=x", "B"), ("y=x", "x_1")])
def test_grading_is_symmetric_where_it_once_was_not(left, right):
    assert grade(left, right).outcome == grade(right, left).outcome


def test_grading_is_symmetric_on_golden_pairs():
    for row in PLAIN:
        if row["verifier"] == "math" and is_plain_mathematics(row["target"]) and is_plain_mathematics(row["answer"]):
            assert grade(row["answer"], row["target"]).outcome == row["verdict"], row


@pytest.mark.slow
@given(st.lists(mathematics, min_size=3, max_size=3), mathematics)
@settings(max_examples=500, deadline=None)
def test_within_a_problem_equality_is_transitive(three, target):
    """In the frame of any target: what equals the target equals each other, and what does not, does not."""
    problem = Problem(id="0", prompt=(), target=target, task="test")
    verifier = VERIFIERS["math"]
    right = [text for text in three if verifier(problem, text).is_correct]
    wrong = [text for text in three if not verifier(problem, text).is_correct]
    assert {verifier.key(problem, text) for text in right} <= {verifier.key(problem, target)}
    assert verifier.key(problem, target) not in {verifier.key(problem, text) for text in wrong}


@pytest.mark.slow
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


@pytest.mark.parametrize("blanks", [" " * 25_000, "\n" * 25_000, " \n\t" * 40_000])
def test_blanks_behind_an_answer_cut_nothing_off(blanks):
    for text in ("48", "The answer is 48.", r"\boxed{48}"):
        for verifier in ("math", "integer"):
            assert grade("48", text + blanks, verifier).outcome == "correct"
    for verifier in ("choice", "exact"):
        assert grade("B", "Answer: B" + blanks, verifier).outcome == "correct"


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


@pytest.mark.slow
def test_importing_tasks_needs_no_heavy_library():
    import subprocess
    import sys

    heavy = ("torch", "sympy", "reasoning_gym", "numpy")
    code = f"import sys, ponder.tasks; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


SAME = [
    (r"\sqrt{a/b}", r"\sqrt a/\sqrt b"), (r"\sqrt{ab}", r"\sqrt a\sqrt b"), (r"\ln(ab)", r"\ln a+\ln b"),
    (r"\ln(a/b)", r"\ln a-\ln b"), (r"2\ln a", r"\ln a^2"), (r"a\sqrt a", r"\sqrt{a^3}"),
    (r"a^{2/3}", r"\sqrt[3]{a^2}"), (r"\sqrt{1/a}", r"1/\sqrt a"), (r"a^b c^b", r"(ac)^b"),
    (r"\sqrt{2a/b}", r"\sqrt{2ab}/b"), (r"e^{2\ln a}", "a^2"),
    (r"\sqrt{a^2-b^2}", r"\sqrt{a-b}\sqrt{a+b}"), (r"\sqrt{(a-b)^3}", r"(a-b)\sqrt{a-b}"), (r"\sqrt a\sqrt a", "a"),
    (r"\sqrt{a^2}", "|a|"), (r"\sqrt{a^4}", "a^2"), (r"\sqrt{1-a^2}", r"\sqrt{1-a}\sqrt{1+a}"), ("|a||b|", "|ab|"),
    (r"\frac{1}{\sqrt{a}+\sqrt{b}}", r"\frac{\sqrt a-\sqrt b}{a-b}"), ("ab^2", "b^2a"), (r"\ln|a|", r"\ln a"),
]  # fmt: skip
OTHER = [
    ("a=b", "a=c"), ("a=b", "c"), ("2a=b+c", "2b=a+c"),
    ("a", r"\sqrt{a^2}"), ("a", "|a|"), ("a-b", "|a-b|"), (r"\sqrt{a^2+b^2}", "a+b"), ("|a|+|b|", "|a+b|"),
    ("a+1", r"\sqrt{(a+1)^2}"), ("ab", "|ab|"), ("b", "(b^2)^{1/2}"), (r"\ln a^2", r"(\ln a)^2"), ("|a|", "-a"),
    ("ab^2", "(ab)^2"), (r"\sin a", r"|\sin a|"),
]  # fmt: skip
LETTERS = "abcfjknpqvwxzTER"  # no two of them are a unit or a Greek letter: 2hr is two hours


@pytest.mark.slow
@given(st.permutations(LETTERS))
@settings(max_examples=40, deadline=None)
def test_no_verdict_depends_on_what_the_letters_are_called(order):
    names = dict(zip("abc", order, strict=False))

    def renamed(text):
        return re.sub(r"\\[a-z]+|[abc]", lambda m: m[0] + " " if m[0][0] == "\\" else names[m[0]], text)

    for left, right in SAME:
        assert grade(renamed(left), renamed(right)).outcome == "correct", (renamed(left), renamed(right))
    for left, right in OTHER:
        assert grade(renamed(left), renamed(right)).outcome == "wrong", (renamed(left), renamed(right))


FORMULAS = [r"\frac{{{}}}{{7001}}", r"\sqrt{{{}}}x", "({}, 1)", "[1, {}]", "x^{{{}}}", r"\{{1, {}\}}", r"{}\sqrt{{3}}",
            "{}x + y", r"\binom{{{}}}{{x}}"]  # fmt: skip
SENTENCES = ["The result is {}.", "So we get ${}$.", r"It equals \({}\), as asked.", "Hence the value is {}", "{}",
             "Thus {} is what we want."]  # fmt: skip


@given(st.integers(2, 6_999), st.sampled_from(FORMULAS), st.sampled_from(SENTENCES))
@settings(max_examples=300, deadline=None)
def test_a_number_is_never_read_out_of_the_inside_of_a_formula(number, formula, sentence):
    text = sentence.format(formula.format(number))
    assert not grade(str(number), text).is_correct and not grade(str(number), text, "integer").is_correct, text


WRAPPERS = [
    "{}", r"\boldsymbol{{{}}}", r"\bm{{{}}}", r"\textcolor{{blue}}{{{}}}", r"{{\color{{red}}{}}}", r"\large {}",
    r"\mathbf{{{}}}", r"\mathsf{{{}}}", r"\emph{{{}}}", r"\therefore {}", "**{}**", r"\boxed{{{}}}", "${}$",
    "<answer>{}</answer>", "Answer:\n```\n{}\n```", "Answer:\n- {}", "Answer: {}", "Final Answer → {}",
    "So the answer is {}.",
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_markup_changes_no_verdict(wrapper):
    for target in ("25", "-8", r"\frac{3}{4}", "x^2+1", "(1,2)", r"\sqrt{2}"):
        found = grade(target, wrapper.format(target))
        assert found.outcome == "correct", (wrapper, found)
        assert grade("26", wrapper.format(target)).outcome == "wrong"


HIDDEN = ["<!-- {} -->", "~~{}~~", "<del>{}</del>", r"\phantom{{{}}}", r"\cancel{{{}}}", r"\label{{{}}}",
          "<think>{}</think>", '<tool_call>{{"x": {}}}</tool_call>', "<tool_response>{}</tool_response>",
          "```python\nprint({})\n```"]  # fmt: skip


@given(st.integers(2, 9_999), st.sampled_from(HIDDEN), st.sampled_from(["math", "integer"]))
@settings(max_examples=100, deadline=None)
def test_what_a_reader_does_not_see_is_no_answer(number, hidden, verifier):
    text = hidden.format(number)
    assert not grade(str(number), text, verifier).is_correct, text
    assert not grade(str(number), f"The answer is 7001. {text}", verifier).is_correct
    assert grade("7001", f"{text}\nThe answer is 7001.", verifier).is_correct
    assert grade("7001", rf"\boxed{{7001}} {text}", verifier).is_correct


NO_CLAIMS = ["It is not {}.", "It is no longer {}.", "anything but {}", "{} is wrong.", "{} is too small.", "{}? No.",
             "It is more than {}.", "Fewer than {}", "{} or more", "Is it {}?", "Let me try the number {} first.",
             "I cannot solve it in {} steps.", "This is too hard, even with {} tries.", "Case {}:", "By equation ({})",
             "reward: {}", "{} 7001", "{} or 7001", "{}, but it might be 7001", "{} vs 7001",
             r"\boxed{{7001 \approx {} \approx 7002}}"]  # fmt: skip


@given(st.integers(2, 6_999), st.sampled_from(NO_CLAIMS), st.sampled_from(["math", "integer"]))
@settings(max_examples=200, deadline=None)
def test_a_number_that_nobody_claims_is_no_answer(number, sentence, verifier):
    assert not grade(str(number), sentence.format(number), verifier).is_correct


FIRST = ["The answer is {}.", "Answer: {}.", "**Answer: {}**", "#### {}"]
CORRECTIONS = ["Wait, it is {}.", "Actually, no: {}", "Correction: {}", "Hmm, let me recheck: it is {}.", "Sorry, {}.",
               "Oops, that's {}!", "Scratch that, the answer is {}.", "No, wait, it should be {}."]  # fmt: skip


@given(st.integers(2, 99), st.integers(100, 999), st.sampled_from(FIRST), st.sampled_from(CORRECTIONS))
@settings(max_examples=200, deadline=None)
def test_a_correction_takes_the_place_of_the_answer(wrong, right, first, correction):
    text = f"{first.format(wrong)}\n{correction.format(right)}"
    assert grade(str(right), text).is_correct and not grade(str(wrong), text).is_correct, text
    assert grade(str(wrong), f"{first.format(wrong)}\nWait, let me check step {right} again. Yes.").is_correct


HOSTILE = ["answer is" + "\n" * 15_000, "<answer>" * 5_000, "<think>" * 5_000, "</think>" * 5_000, "$1$ and " * 4_000,
           r"\boxed{1} and " * 2_000, "one hundred and " * 2_000, r"\bm{" * 3_000, "(A) " * 6_000, "**A** " * 4_000,
           "so A " * 5_000, "(about 1" * 3_000, "1 hour " * 4_000, "0." + "12" * 900 + "...", "```\n" * 5_000,
           "so" + " the" * 4_000 + " A", " " * 20_000 + "1", r"\text{m/s}^2" * 200, "x " * 900,
           "-->" + "<!--" * 4_000, "<del>" * 4_000, "~~a " * 5_000, "answer is 1 " + "wait, " * 3_000, "1 2 " * 5_000,
           "9.\n10. " * 2_500,
           "<b " * 6_000 + "</", r"\mathrm{^" * 1_500, r"\begin{matrix}" * 1_000, "**1" * 6_000]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_no_notation_takes_long_in_an_answer_or_a_target(text):
    with takes_at_most(5):
        for verifier in VERIFIERS:
            grade("42", text, verifier)
        grade(text[:1_500], "42")
