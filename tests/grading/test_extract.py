"""Extraction: where the answer stands, and whether more tokens could have changed it."""

from __future__ import annotations

import pytest

from ponder.grading import ends_in_answer

CUT = [
    "12", "The answer is 12", "12,", "The answer is 12,", "3.1", r"\frac{1}{2", r"$\frac{1}{2", r"\boxed{12",
    "It is 12.", "<answer>12", "#### 12", "x^2+1", "1/", "**12", "The solutions are 1 and 3",
    "<answer>12,", "Answer: 12 eggs", "So 5 + 7 = 1",
]  # fmt: skip
WHOLE = [
    "<answer>12</answer>",
    r"\boxed{12}", r"so \boxed{12}", r"$\boxed{12}$", "It is 12. ", "It is 12.\n", "12\n", "", "It is 12. I used",
    "The answer is 12. So", "The answer is 12 because 5+7", "Answer: $12$", "**12**", r"\(12\)", "hmm, I do not know",
    "The length is $\\sqrt{2}$.\n\nIt",
    "The answer is (B", "The answer is x", "Paris",  # a letter or a word is compared as it stands
]  # fmt: skip


@pytest.mark.parametrize("text", CUT)
def test_an_answer_that_runs_up_to_the_end_of_the_text_may_be_cut(text):
    assert ends_in_answer(text)


@pytest.mark.parametrize("text", WHOLE)
def test_an_answer_with_something_behind_it_is_whole(text):
    assert not ends_in_answer(text)


@pytest.mark.parametrize("number", ["1234", "12,345", "3.14159", "-17", "1/2048", r"\frac{12}{35}", "2^{10}"])
@pytest.mark.parametrize("before", ["", "The answer is ", "So it is ", r"\boxed{", "<answer>", "#### "])
def test_every_beginning_of_an_answer_that_holds_a_digit_may_be_cut(number, before):
    for cut in range(1, len(number)):
        head = before + number[:cut]
        is_between = head[-1] in " ^{/"  # no answer can be read yet, or another number begins
        assert ends_in_answer(head) or is_between or not any(char.isdigit() for char in head), head
