"""The bench that examines models in every exam of o1's announcement."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest

from ponder.evals.bank import Bank
from ponder.tasks import load_task

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import every_exam


def test_a_long_exam_is_taken_at_even_steps_and_a_short_one_whole():
    task = load_task("arithmetic:size=100", split="test")
    few = every_exam.spread(task, 4)
    assert [few[i].id for i in range(len(few))] == [task[i].id for i in (0, 25, 50, 75)]
    assert len(every_exam.spread(task, 1000)) == 100
    with pytest.raises(IndexError):
        few[4]


@pytest.mark.slow
def test_the_same_command_with_more_samples_goes_on(tmp_path):
    exam = every_exam.exam_of("arithmetic:size=6", 3)
    for samples in (2, 4):
        options = Namespace(
            model=["nano"], prompting=["none"], samples=samples, temperature=0.7, tokens=48, int8=False, out=tmp_path
        )
        [(folder, note)] = every_exam.drawn_by_all("arithmetic:size=6", exam, options)
        assert [len(table) for table in Bank.read(folder).tables()] == [samples] * 3
        assert note.startswith("contamination:")
