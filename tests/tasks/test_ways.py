"""Ways of thinking: demonstrations are what they claim, and reasoning is classified by its marks."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.tasks import load_task
from ponder.tasks.arithmetic import parse
from ponder.tasks.base import split_of
from ponder.tasks.ways import WAYS, DemonstrationConfig, count, demonstrate, demonstration


def problems(n: int = 40):
    task = load_task("arithmetic", split="train", size=n)
    return [task[i] for i in range(n)]


@pytest.mark.parametrize("way", WAYS)
def test_a_demonstration_without_slips_is_right_and_recognised(way):
    for problem in problems():
        reasoning, answer = demonstrate(problem, way, Random(problem.id), slip=0.0)
        assert answer == problem.target
        assert count(reasoning).way == way
        assert count(reasoning).backtracks == 0


def test_slips_spoil_steps_and_are_caught_by_checks():
    right = {"steps": 0, "checked": 0}
    caught = 0
    for way in right:
        for problem in problems(200):
            reasoning, answer = demonstrate(problem, way, Random(problem.id), slip=0.2)
            right[way] += answer == problem.target
            caught += count(reasoning).backtracks
    assert right["checked"] == 200
    assert right["steps"] < 120
    assert caught > 50


def test_demonstrations_come_from_the_train_split_alone():
    for index in range(60):
        problem, _, _ = demonstration(DemonstrationConfig(), index, seed=0)
        assert split_of(problem.text) == "train"


def test_the_shares_of_a_mixture_are_kept():
    config = DemonstrationConfig(guess=0.5, steps=0.3, checked=0.2)
    ways = [count(demonstration(config, index, seed=1)[1]).way for index in range(600)]
    assert ways.count("guess") / 600 == pytest.approx(0.5, abs=0.07)
    assert ways.count("checked") / 600 == pytest.approx(0.2, abs=0.07)


@given(st.text(max_size=200))
def test_any_text_is_classified_without_failing(text):
    counts = count(text)
    assert counts.way in (*WAYS, "other")
    assert counts.backtracks <= counts.checks
    assert parse(text) is None or text.startswith("What is ")
