"""Extraction: where the answer stands, and whether more tokens could have changed it."""

from __future__ import annotations

import pytest

from ponder.grading import ends_in_answer

CUT = [
    "12", "The answer is 12", "12,", "The answer is 12,", "3.1", r"\frac{1}{2", r"$\frac{1}{2", r"\boxed{12",
    "It is 12.", "<answer>12", "#### 12", "x^2+1", "1/", "**12", "The answer is (B", "Answer: 12 eggs", "So 5 + 7 = 1",
]  # fmt: skip
WHOLE = [
    r"\boxed{12}", r"so \boxed{12}", r"$\boxed{12}$", "It is 12. ", "It is 12.\n", "12\n", "", "It is 12. I used",
    "The answer is 12. So", "The answer is 12 because 5+7", "Answer: $12$", "**12**", r"\(12\)", "hmm, I do not know",
    "The length is $\\sqrt{2}$.\n\nIt",
]  # fmt: skip


@pytest.mark.parametrize("text", CUT)
def test_an_answer_that_runs_up_to_the_end_of_the_text_may_be_cut(text):
    assert ends_in_answer(text)


@pytest.mark.parametrize("text", WHOLE)
def test_an_answer_with_something_behind_it_is_whole(text):
    assert not ends_in_answer(text)
