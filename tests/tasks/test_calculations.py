"""Written calculations: read exactly, written in one way, and never evaluated by Python."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ponder.grading.plain_arithmetic import MAX_DIGITS, calculation, number, show
from ponder.tasks.calculations import equation, operations
from tests.helpers import takes_at_most


@pytest.mark.parametrize(
    ("text", "expected"),
    [("48/2=24", "48/2=24"), ("10*.5=5.00", "10*0.5=5"),
     ("$1,050 x 2 = $2,100.00", "1050*2=2100"), ("2(3+4)=14", "2*(3+4)=14"),
     ("20%*50=10", "0.2*50=10"), ("10/3=3.33", "10/3=3.33"), ("007+1=8", "7+1=8"),
     ("5 – 2 = 3", "5-2=3"), ("-5+8=3", "-5+8=3"),
     ("3 × 4 ÷ 6 = 2", "3*4/6=2"), ("5.=5", None), ("5=5", None), ("2+2=5", None), ("10/3=3.34", None), ("1/0=0", None),
     ("x+1=2", None), ("2^3=8", None), ("2**3=8", None), ("", None), ("=", None), ("3=", None), ("(3=3", None)],
)  # fmt: skip
def test_an_equation_is_written_in_one_way_or_refused(text, expected):
    assert equation(text) == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [("5*(3+4)-2", ["3+4=7", "5*7=35", "35-2=33"]), ("1/3*90", ["90/3=30"]), ("2/3*90", ["2*90=180", "180/3=60"]),
     ("90*1/3", ["90*1=90", "90/3=30"]), ("7", []), ("10/3", None),
     ("2-5", ["2-5=-3"]), ("4-(2-5)", ["2-5=-3", "4-(-3)=7"])],
)  # fmt: skip
def test_a_calculation_comes_apart_into_single_operations(text, lines):
    assert operations(text) == lines


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), min_size=1, max_size=8), st.integers(0, 99))
@example([("*", 99)] * 8, 99)  # more digits than are read back
def test_values_are_those_of_ordinary_arithmetic(rest, first):
    text = str(first) + "".join(f"{sign}{value}" for sign, value in rest)
    found = calculation(text)
    assert found is not None and found.text == text and found.value == eval(text) and found.num_operations == len(rest)
    whole = f"{text}={show(found.value)}"
    can_be_read = len(show(abs(found.value))) <= MAX_DIGITS
    assert equation(whole) == (whole if can_be_read else None)
    if lines := operations(text):
        assert lines[-1].rpartition("=")[2] == show(found.value)


def test_numbers_are_shown_exactly_or_rounded_to_two_places():
    assert [show(Fraction(x)) for x in ("24", "1/2", "-3", "1/8", "10/3", "-1/4")] == [
        "24",
        "0.5",
        "-3",
        "0.125",
        "3.33",
        "-0.25",
    ]
    small = ["0.12345678", "-0.00000001", "0.0000001", "123456789012.345"]
    assert [show(Fraction(x)) for x in small] == small and show(Fraction(-1, 3000)) == "0"
    assert equation("0.12345678*2=0.24691356") == "0.12345678*2=0.24691356"
    assert number("$1,050.00") == 1050 and number("20%") == Fraction(1, 5) and number("-.5") == Fraction(-1, 2)


@pytest.mark.parametrize(
    "junk",
    ["(" * 50_000, "1+" * 50_000, "9" * 50_000, "9*" * 30 + "9", "-" * 50_000, "٣+٤", "\ud800", "\x00",
     "__import__('os')", "9**9**9**9", "1e999", "." * 9_999, "1" + "," * 9_999, "%", "1%%"],
    ids=lambda text: repr(text[:8]),
)  # fmt: skip
def test_junk_is_no_calculation_and_takes_no_time(junk):
    with takes_at_most(1):
        assert equation(f"{junk}=1") is None and number(junk) is None
        operations(junk)
