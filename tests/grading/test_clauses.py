"""Which part of a text is its answer: not the rest of its sentence, no check and no reason, and nothing denied."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.grading.verifiers import grade

pairs = st.lists(st.integers(13, 999), min_size=2, max_size=2, unique=True)
few = settings(max_examples=4, deadline=None)
bare = pytest.mark.parametrize("verifier", ["math", "integer"])

BEHIND = (
    "{}, whereas {} counts unordered pairs", "{}, obtained by adding 2 to {}", "{}, with {} left over",
    "{}, up from {}",
    "{}, even though {} is tempting", "{}, a number greater than {}", "{}, of which {} are odd",
    "{}, {} of which are odd",
    "{} apples, up from {} last year", "{}, the other root being {}", "{} after removing {}", "{} by formula {}",
    "{} and the book gives {}", "{}, but the key says {}", "{}: she had {} and bought the rest", "{} (the sum is {})",
    "{}, so {} is wrong", "**{}**, while {} is the count without order", "${}$, whereas ${}$ ignores the order",
)  # fmt: skip


@bare
@pytest.mark.parametrize("form", BEHIND)
@pytest.mark.parametrize("lead", ["The answer is ", "**Answer:** ", "#### "])
@given(pairs)
@few
def test_the_first_value_behind_a_marker_is_the_answer_whatever_clause_follows(verifier, form, lead, two):
    answer, other = two
    text = lead + form.format(answer, other) + "."
    assert grade(str(answer), text, verifier).outcome == "correct"
    assert grade(str(other), text, verifier).outcome == "wrong"


AFTER = (
    ". Check: {}/4 is whole.", ". Check: {} = 3 + 5.", ".\n\nVerification: we get {}.", ". To check, the half is {}.",
    ". We can verify this: x = {}.", ". Indeed, 3 + 5 = {}.", " because the sum is {}.", ", since the sum is {}.",
    ", as the sum is {}.", ", given that the sum is {}.",
    ". This is because the sum is {}.", ". Reason: the sum is {}.",
)  # fmt: skip


@bare
@pytest.mark.parametrize("form", AFTER)
@pytest.mark.parametrize("lead", ["The number is {}", "So the mean is **{}**", "x = {}"])
@given(pairs)
@few
def test_a_check_or_a_reason_behind_a_result_is_not_the_answer(verifier, form, lead, two):
    answer, other = two
    text = lead.format(answer) + form.format(other)
    assert grade(str(answer), text, verifier).outcome == "correct"
    assert grade(str(other), text, verifier).outcome == "wrong"


def test_a_result_that_a_check_or_a_reason_leads_to_is_the_answer():
    for text in (
        "One side is 5 because the other is 7, so the perimeter is 24.",
        "x = 5. Check: 3 + 5 = 9 is false. So x = 24.",
        "The side is 5. Indeed, 5 * 5 = 25, so the answer is 24.",
    ):
        assert grade("24", text).outcome == "correct", text


REACHED = (
    "The maximum value {} occurs at x = {}.", "The maximum value of {} is attained at x = {}.",
    "The maximum, {}, occurs when x = {}.", "f reaches its minimum value {} at x = {}.",
    "The maximum value is {}. It occurs at x = {}.", "The largest value is {} and it occurs when x = {}.",
)  # fmt: skip


@bare
@pytest.mark.parametrize("form", REACHED)
@given(pairs)
@few
def test_where_an_extreme_is_attained_is_not_its_value(verifier, form, two):
    assert grade(str(two[0]), form.format(*two), verifier).outcome == "correct"
    assert grade(str(two[1]), form.format(*two), verifier).outcome == "wrong"


DENIED = (
    "the negative of {}", "It is the opposite of {}.", "The answer is the reciprocal of {}.", "the complement of {}",
    "{} is excluded", "The value {} is excluded.", "{} must be avoided", "any number but {}", "anything besides {}",
    "the number after {}", "the successor of {}", "minus ${}$", "{} [or 7001]", "{} together with 7001",
    "{} or perhaps more", "The answer is {}, maybe more.", "{} or thereabouts", "{} give or take", "{} if not more",
    "{} doubled", "It is {} halved.", r"\boxed{{{}\text{{ tripled}}}}", "The answer is ${}$ negated.", "{} pairs",
    "It is {} couples.", "{} grand", "{} R3", "{} R 6", "{} with remainder 3", "{} less two", "{} point five",
    "{} reversed", "{} plus", "{} increased by 2",
)  # fmt: skip


@bare
@pytest.mark.parametrize("form", DENIED)
@given(pairs)
@few
def test_a_number_that_is_negated_left_open_or_made_another_is_not_the_answer(verifier, form, two):
    assert grade(str(two[0]), form.format(two[0]), verifier).outcome == "wrong"


def test_what_is_outside_a_set_is_not_that_set():
    forms = (
        "x is not in {}", "x is outside {}", "the complement of {}", "The complement of the interval {}.",
        "x does not lie in {}.", "the interior of {}", "R minus {}", "The answer is outside {}.", "x ∉ {}",
    )  # fmt: skip
    for form in forms:
        for interval in ("[-2,2]", "[0, 7)", "$[-2,2]$"):
            assert grade(interval.strip("$"), form.format(interval)).outcome == "wrong", (form, interval)
    for form in ("x is in {}", "x must lie in {}", "The answer is {}.", "the interval {}"):
        assert grade("[-2,2]", form.format("[-2,2]")).outcome == "correct", form


@pytest.mark.parametrize("before", ["the day after ", "two weeks before ", "the eve of ", "not ", "after "])
def test_a_day_that_another_is_counted_from_is_not_the_answer(before):
    assert grade("March 14", f"It is {before}March 14.").outcome == "wrong"
    assert grade("March 14", "It is March 14.").outcome == "correct"


@given(st.integers(2, 999), st.sampled_from(["books", "ordered pairs", "pairs of socks", "hours", "people in all"]))
@few
def test_what_a_number_counts_changes_nothing(number, noun):
    assert grade(str(number), f"{number} {noun}").outcome == "correct"
    assert grade(str(number), f"There are {number} pairs.").outcome == "correct"
    assert (
        grade(f"{number} pairs", f"{number}").outcome
        == grade(f"{number} pairs", f"{number} pairs").outcome
        == "correct"
    )


@given(st.integers(2, 99))
@few
def test_a_condition_or_a_value_before_the_equation_that_answers_is_no_second_answer(number):
    for text in ("Since x > 0, x = {}.", "Since $x > 0$, $x = {}$.", "Since 2y = 14, x = {}.", "For x > 1, x = {}.",
                 "So the probability is 8/9 and m+n = {}.", "So $m=8$, $n=9$, and $m+n={}$."):  # fmt: skip
        assert grade(str(number), text.format(number)).outcome == "correct", text
    assert grade("8/9", f"So the probability is 8/9 and m+n = {number}.").outcome == "wrong"
    for text in ("x > 0 or x = {}", "3 or x = {}", "x = 1 or x = {}"):
        assert grade(str(number), text.format(number)).outcome == "wrong", text


def test_bounds_in_a_sentence_are_an_interval():
    for text in (
        "So -2 <= x <= 2.",
        "The solution is -2 <= x <= 2.",
        "We need -2 ≤ x ≤ 2.",
        "Thus x satisfies -2 <= x <= 2.",
    ):
        assert grade("[-2,2]", text).outcome == "correct", text
        assert grade("(-2,2)", text).outcome == grade("-2", text).outcome == grade("2", text).outcome == "wrong", text
