"""Verifiers of users: a bool, a number or a verdict, and one clear error for anything else."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.grading import VERIFIERS, as_verdict
from ponder.grading.handed_in import keyed, tried
from ponder.types import Problem, Verdict

ITEM = Problem(id="0", prompt=(), target="1/2", task="test")


def test_a_bool_is_correct_or_wrong():
    assert as_verdict(True).is_correct and as_verdict(True).reward == 1.0
    assert as_verdict(False).outcome == "wrong" and as_verdict(False).reward == 0.0
    assert as_verdict(np.bool_(True)).is_correct and not as_verdict(np.bool_(False)).is_correct


@pytest.mark.parametrize("number", [0, 1, 0.0, 0.25, 1.0, np.float32(0.5), np.float64(1)])
def test_a_number_is_the_reward_and_only_one_is_correct(number):
    found = as_verdict(number)
    assert found.reward == number and found.is_correct == (number == 1)
    assert found.outcome in ("correct", "wrong")


def test_a_verdict_stays_as_it_is():
    undecided = Verdict(outcome="undecided", reward=0.0, note="no target")
    assert as_verdict(undecided) is undecided


@pytest.mark.parametrize("value", [None, "yes", [1.0], {"reward": 1}, -0.1, 1.5, 2, float("nan"), float("inf")])
def test_anything_else_is_one_error_that_names_the_function_and_what_is_accepted(value):
    with pytest.raises((TypeError, ValueError), match=r"my:check returned .*bool.*0 to 1.*Verdict"):
        as_verdict(value, "my:check")


def test_a_function_without_a_key_votes_by_the_mathematics_of_the_answer():
    check = keyed(lambda problem, answer: "0.5" in answer)
    assert check(ITEM, "0.5").is_correct and not check(ITEM, "0.6").is_correct
    assert check.key(ITEM, "0.5") == check.key(ITEM, r"\frac12") != check.key(ITEM, "0.6")
    assert check.key(ITEM, "") is None


def test_a_key_that_was_handed_in_is_used_and_ponders_own_stay_themselves():
    class Length:
        def __call__(self, problem, answer):
            return len(answer) / 10

        def key(self, problem, answer):
            return str(len(answer))

    assert keyed(Length()).key(ITEM, "abc") == "3" and keyed(Length())(ITEM, "abcde").reward == 0.5
    assert keyed(VERIFIERS["math"]) is VERIFIERS["math"]


@pytest.mark.parametrize("thing", [5, "text", dict])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(ConfigError, match="is no function"):
        keyed(thing)


def test_a_coroutine_function_is_awaited_and_tried_at_the_door_too():
    async def share(problem: Problem, answer: str) -> float:
        await asyncio.sleep(0)
        return 1.0 if answer == problem.target else 0.25

    async def broken(problem: Problem, answer: str) -> str:
        return "yes"

    verifier = tried(keyed(share), ITEM, "mine")
    assert asyncio.run(verifier(ITEM, "1/2")).is_correct and asyncio.run(verifier(ITEM, "3")).reward == 0.25
    with pytest.raises(ConfigError, match="mine failed on its first call.*must return"):
        tried(keyed(broken), ITEM, "mine")
