"""The built-in families: their verifiers accept what is right however it is written, and nothing near it."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest

from ponder.grading.plain_arithmetic import calculation
from ponder.tasks import load_task
from ponder.tasks.procedural import bases_key, cipher_key, countdown_key, encode, ordering_key
from ponder.types import Message, Problem
from tests.helpers import takes_at_most


def problem(target: str, **meta) -> Problem:
    return Problem(id="0", prompt=(Message(role="user", content=""),), target=target, task="test", meta=meta)


def test_the_published_cipher_example_decodes():
    letters = ["oyfjdnisdr", "rtqwainr", "acxz", "mynzbhhx"]
    plain = ["".join(chr((ord(a) + ord(b)) // 2) for a, b in zip(w[::2], w[1::2], strict=True)) for w in letters]
    assert " ".join(plain) == "think step by step"


def test_encoding_can_be_undone_for_every_letter():
    code = encode(Random(0), "abcdefghijklmnopqrstuvwxyz " * 5)
    pairs = [(w[i], w[i + 1]) for w in code.split() for i in range(0, len(w), 2)]
    assert "".join(chr((ord(a) + ord(b)) // 2) for a, b in pairs) == "abcdefghijklmnopqrstuvwxyz" * 5


@pytest.mark.parametrize("answer", ["Think Step", "think  step.", '"think step"', "**think step**", "oy -> think step"])
def test_cipher_ignores_case_quotes_and_spaces(answer):
    assert cipher_key(problem("think step"), answer) == "think step"


def test_cipher_takes_no_second_guess():
    assert cipher_key(problem("a"), "think or thank, 1") is None


COUNTDOWN = problem("3*7+4", numbers=[3, 7, 4], goal=25)


@pytest.mark.parametrize(
    "answer",
    ["3*7+4", "4+7*3", "(3*7)+4", "25 = 3*7+4", "3*7+4=25", r"3 \times 7 + 4", "3×7+4", r"\boxed{4+3*7}", "so: 7*3+4"],
)
def test_countdown_accepts_every_right_expression_as_one_class(answer):
    assert countdown_key(COUNTDOWN, answer) == "25"


@pytest.mark.parametrize(
    "answer",
    ["25", "3*7", "3*7+4+0", "3*7+3", "5*5", "3*7+4*1", "37-12", "3**7+4", "3*7+4)", "(3*7+4", "", "3*(7+4", "--25",
     "3//7+4", "len('3')*7+4", "3/0*7+4", "𝟛*7+4", "٣*7+4"],
)  # fmt: skip
def test_countdown_refuses_wrong_numbers_and_broken_expressions(answer):
    assert countdown_key(COUNTDOWN, answer) != "25"


def test_countdown_votes_by_the_value_reached_with_the_given_numbers():
    assert countdown_key(COUNTDOWN, "3+7+4") == countdown_key(COUNTDOWN, "4+7+3") == "14"
    assert countdown_key(COUNTDOWN, "3+7") is None


@pytest.mark.parametrize(
    ("text", "value", "numbers"),
    [("8/(3-8/3)", 24, [8, 3, 8, 3]), ("2-3-4", -5, [2, 3, 4]), ("8/4/2", 1, [8, 4, 2]), ("((3))", 3, [3])],
)
def test_strict_arithmetic_is_exact(text, value, numbers):
    found = calculation(text, strict=True)
    assert found is not None and found.value == Fraction(value) and found.numbers == numbers


@pytest.mark.parametrize(
    "text",
    ["1+", "()", "1 2", "2^3", "1/0", "(" * 1_000, "1+" * 1_000 + "1", "-1", "2(3)", "1.5", "50%", "1,000", "2x3"],
    ids=lambda text: text[:5],
)
def test_strict_arithmetic_refuses_the_rest(text):
    assert calculation(text, strict=True) is None


def test_bases_accept_the_base_they_asked_for_and_no_other():
    item = problem("131", base=7)
    for text in ("131", "131_7", "131_{7}", "131 in base 7", "131 (base 7)", r"\boxed{131_7}"):
        assert bases_key(item, text) == "131"
    assert bases_key(item, "131_8") != "131" and bases_key(item, "1 3 1") != "131"


def test_bases_read_a_long_run_of_blanks_in_no_time():
    with takes_at_most(1):
        assert bases_key(problem("131", base=7), f"x{' ' * 100_000}131   base 7") in (None, "131")
    assert bases_key(problem("131", base=7), "131   base 7") == "131"


def test_ordering_takes_one_name_of_the_problem():
    item = problem("Bo", names=["Al", "Bo", "Cy"])
    assert ordering_key(item, "Bo.") == ordering_key(item, "It is Bo") == "Bo"
    assert all(ordering_key(item, text) is None for text in ("Bo or Al", "Zoe", "bo", ""))


@pytest.mark.parametrize("name", ["countdown", "cipher", "bases", "ordering"])
def test_prompts_are_short_and_targets_vary(name):
    task = load_task(name, size=200)
    problems = [task[i] for i in range(200)]
    assert max(len(p.text.encode()) for p in problems) <= 100
    assert len({p.target for p in problems}) >= 20


def test_ordering_facts_leave_one_order():
    task = load_task("ordering", size=40)
    for i in range(40):
        facts, _, question = task[i].text.partition(". ")
        above = dict(pair.split(">")[::-1] for pair in facts.split())
        place, name = 1, task[i].target
        while name in above:
            place, name = place + 1, above[name]
        assert question == f"Who is number {place}?"
