"""What is left of a worked solution without announcements and repetitions: its own lines, and where the answer is."""

from __future__ import annotations

import random

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
        ("To add we say 5.", "5", "To add we say 5."),  # all that there is
        ("Let's think.\n\nTherefore, five.", "5", "Therefore, five."),
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
