"""What is left of a worked solution without announcements and repetitions: its own lines, and where the answer is."""

from __future__ import annotations

import random
import time

import pytest

from ponder.train.brevity import brief

SUM = "\\[ 2 + 3 = 5 \\]"


@pytest.mark.parametrize(
    ("work", "answer", "left"),
    [
        (
            f"To find the sum, we follow these steps:\n\nFirst we add 2 and 3:\n\n{SUM}",
            "5",
            f"First we add 2 and 3:\n{SUM}",
        ),
        ("Let's see.\n\n1. Add.\n2. Subtract.\n\n2 + 3 = 5\n\n5 - 1 = 4", "4", "2 + 3 = 5\n5 - 1 = 4"),
        ("2 + 3 = 5\n\nTherefore, it is \\boxed{5}.", "5", "2 + 3 = 5"),
        ("\\[\n  2 + 3\n  = 5\n\\]", "5", "\\[ 2 + 3\n  = 5 \\]"),
        ("Cost = 1,200\n\nSo it costs $1,200.", "1200", "Cost = 1,200"),
        ("There are 12 in a box.\n\n12 * 2 = 24", "24", "There are 12 in a box.\n12 * 2 = 24"),  # facts stay
        ("2 + 3 = 5\n\nSo twice that is 10.", "10", "2 + 3 = 5\nSo twice that is 10."),  # it comes to the answer first
        ("2 + 3 = 15\n\nTherefore, it is 5.", "5", "2 + 3 = 15\nTherefore, it is 5."),  # 15 is not 5
        ("2 + 3 = 5.5\n\nThus 5.", "5", "2 + 3 = 5.5\nThus 5."),
        ("x = -5\n\nSo 5.", "5", "x = -5\nSo 5."),
        ("x = 5/2\n\nSo 5.", "5", "x = 5/2\nSo 5."),
        ("x = 5\\%\n\nSo 5.", "5", "x = 5\\%\nSo 5."),
        ("x = \\$1,750 \\text{ a year} \\]\n\nSo 1,750.", "1,750", "x = \\$1,750 \\text{ a year} \\]"),
        # the conclusion is where it is worked out
        ("She has x = 12.\n\nSo she has 12 - 3 + 3 = 12.", "12", "She has x = 12.\nSo she has 12 - 3 + 3 = 12."),
        ("We have 3 boxes.\n\n3 * 12 = 36", "36", "We have 3 boxes.\n3 * 12 = 36"),
        ("Let's call it x.\n\nx = 5", "5", "x = 5"),
        ("Let x be the price of it.\n\nx = 5", "5", "Let x be the price of it.\nx = 5"),
        ("To add we say 5.\n\nThe answer is 5.", "5", "To add we say 5.\n\nThe answer is 5."),  # work in words
        ("", "5", ""),
    ],
)
def test_work_and_facts_stay_announcements_and_repeated_results_go(work, answer, left):
    assert brief(work, answer) == left


def test_whatever_a_model_writes_some_of_it_is_left_and_nothing_is_added():
    rng = random.Random(0)
    pieces = [
        "To find x:",
        "Let's go",
        "Therefore, 5",
        "2 + 3 = 5",
        "1. Add",
        "\\[",
        "\\]",
        "(",
        "[5",
        "$5",
        "5.",
        "So\n5",
        "",
        " ",
    ]
    for _ in range(2000):
        work = "\n\n".join(rng.choices(pieces, k=rng.randint(1, 6)))
        found = brief(work, rng.choice(["5", "(", "1/2", "\\", ""]))
        assert bool(found) == bool(work.strip())
        assert set(found.split()) <= set(work.split())


@pytest.mark.parametrize(
    "text", ["x=5 \\[" * 3000, "\\[" + " " * 20_000, "-\n" * 20_000, "x = 5" + " \\text" * 9000 + "1"]
)
def test_a_text_that_a_model_lost_itself_in_is_done_in_a_moment(text):
    began = time.process_time()
    brief(f"{text}\n\nx = 5\n\n{text}\n\nSo 5", "5")
    assert time.process_time() - began < 2
