"""The bench that asks how many distinct problems RL needs, and whether choosing among them helps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ponder.train.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from practice import Arm, Practised, arms, practise, table


def test_what_is_compared_with_comes_first_and_no_pool_twice():
    assert arms([8, 100, 8], adaptive=True) == [Arm("uniform", 100), Arm("uniform", 8), Arm("adaptive", 100)]
    assert arms([8], adaptive=False) == [Arm("uniform", 8)]


def test_seeds_are_averaged_problem_by_problem():
    large, small = Arm("uniform", 100), Arm("uniform", 8)
    made = [Practised(distinct=8, drawn=16, mixed=0.25, tokens=1000)] * 2
    rates = {large: {0: [1.0, 0.0], 1: [1.0, 1.0]}, small: {1: [0.0, 0.0], 0: [1.0, 0.0]}}
    *_, first, second = table([0.0, 0.0], rates, {large: made, small: made})
    assert first.startswith("| uniform, pool of 100 | 8 | 2.0x | 25.0 | 1,000 | 75.0 ")
    assert "| 50.0, 100.0 | +75.0 " in first and first.endswith("|  |")
    assert "| 50.0, 0.0 | +25.0 " in second and "-50.0 " in second.rpartition(" | ")[2]


@pytest.mark.slow
def test_a_finished_run_says_how_many_problems_it_practised_and_is_not_run_again(tmp_path):
    changes = ["num_steps=3", "problems_per_step=4", "group_size=2", "max_reasoning_tokens=16", "num_workers=0"]
    config = load_recipe("demo_nano_cpu", [f"out={tmp_path}", *changes])
    arm = Arm("uniform", 4)
    checkpoint = practise(arm, config, tmp_path, seed=1)
    written = (checkpoint / "checkpoint.json").stat().st_mtime_ns
    found = Practised.of(arm.run(tmp_path, 1), problems_per_step=4)
    assert (found.distinct, found.drawn) == (4, 12) and found.tokens > 0
    assert practise(arm, config, tmp_path, seed=1) == checkpoint
    assert (checkpoint / "checkpoint.json").stat().st_mtime_ns == written
