"""Reward terms, and what the metrics say of a mixture's rollouts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ponder.engine.base import ScriptedEngine
from ponder.rollouts.collect import collect, single
from ponder.rollouts.rewards import RewardTerm, add_terms, truncation_penalty
from ponder.strategies.turns import Trajectory
from ponder.tasks import load_task
from ponder.train.metrics import rollout_metrics
from ponder.train.recipe import RLConfig
from ponder.train.rl import reward_terms
from ponder.types import Completion, SamplingParams, Verdict

RIGHT, WRONG = Verdict(outcome="correct", reward=1.0, parts={"correct": 1.0}), Verdict(outcome="wrong", reward=0.0)
ENDED = Completion(
    prompt_ids=(1,), token_ids=(2, 3), sampler_logprobs=(0.0, 0.0), sampled=(True, True), finish_reason="stop",
    reasoning="r", answer="a", num_reasoning_tokens=1,
)  # fmt: skip
CLOSED_BY_FORCE = replace(ENDED, sampled=(False, True))
CUT = replace(ENDED, finish_reason="length")
PROBLEM = load_task("arithmetic:level=1,size=1")[0]


def rewarded(terms: dict[str, RewardTerm], verdict: Verdict, completion: Completion) -> Verdict:
    [found] = asyncio.run(add_terms(terms, PROBLEM, [Trajectory.of(completion)], [verdict]))
    return found


@pytest.mark.parametrize("cost", [0.01, 0.1, 0.5, 0.99])
def test_no_wrong_answer_is_ever_worth_more_than_a_right_one(cost):
    terms = {"truncation": truncation_penalty(cost)}
    worst_right = min(rewarded(terms, RIGHT, c).reward for c in (ENDED, CLOSED_BY_FORCE, CUT))
    best_wrong = max(rewarded(terms, WRONG, c).reward for c in (ENDED, CLOSED_BY_FORCE, CUT))
    assert worst_right > best_wrong == 0


def test_the_term_stands_in_the_verdict_and_asks_only_who_ended_it():
    terms = {"truncation": truncation_penalty(0.2)}
    good = rewarded(terms, RIGHT, ENDED)
    assert good.reward == 1 and good.parts == {"correct": 1.0, "truncation": 0.0}
    for cut in (CLOSED_BY_FORCE, CUT, replace(ENDED, finish_reason="window")):
        found = rewarded(terms, RIGHT, cut)
        assert found.reward == 0.8 and found.parts["truncation"] == -0.2
        assert rewarded(terms, WRONG, cut).reward == 0
    longer = replace(ENDED, num_reasoning_tokens=999)
    assert rewarded(terms, RIGHT, longer) == good  # nothing pays for length, nor against it


def test_terms_of_the_reward_add_up_and_none_is_none():
    assert reward_terms(RLConfig(out="x")) == {}
    terms = reward_terms(RLConfig(out="x", truncation_penalty=0.2, overlong_tokens=4, max_reasoning_tokens=8))
    found = rewarded(terms, RIGHT, replace(CUT, num_reasoning_tokens=6))
    assert found.reward == pytest.approx(1 - 0.2 - 0.5) and found.parts["overlong"] == -0.5
    for cost in (-0.1, 1.0):
        with pytest.raises(ValueError, match="truncation_penalty"):
            RLConfig(out="x", truncation_penalty=cost)


@pytest.mark.parametrize("said", [[], [1.0, 2.0], [float("nan")], [float("inf")]])
def test_a_term_that_does_not_say_one_finite_number_a_rollout_is_named(said):
    with pytest.raises(ValueError, match=r"reward term 'mine' returned .* one finite number"):
        rewarded({"mine": lambda *_: said}, RIGHT, ENDED)


def test_the_metrics_of_a_mixture_name_its_tasks_and_levels():
    task = load_task("arithmetic:level=1,size=4+words:level=2-3,size=4", split="train")
    problems = [task[i] for i in range(8)]
    targets = {p.text: p.target for p in problems}
    engine = ScriptedEngine(lambda text, seed: ("so", targets[text] if text.startswith("What is") else "no"))
    params = SamplingParams(max_answer_tokens=32)
    found = asyncio.run(collect(single(engine), task, problems, params, group_size=2, seed=0, step=0))
    metrics = rollout_metrics(found)
    assert metrics["task/arithmetic/correct"] == metrics["task/arithmetic/level_1"] == 1
    assert metrics["task/words/correct"] == metrics["task/words/level_2"] == metrics["task/words/level_3"] == 0
    alone = asyncio.run(collect(single(engine), task, problems[::2], params, group_size=2, seed=0, step=0))
    assert not any(key.startswith("task/") for key in rollout_metrics(alone))
