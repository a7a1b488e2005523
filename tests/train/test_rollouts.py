"""What the reward holds beside the verifier's word, and what a mixture's rollouts say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ponder.engine.base import ScriptedEngine
from ponder.tasks import load_task
from ponder.train.metrics import rollout_metrics
from ponder.train.rl import RLConfig, shaping
from ponder.train.rollouts import collect, unended
from ponder.types import Completion, SamplingParams, Verdict

RIGHT, WRONG = Verdict(outcome="correct", reward=1.0, parts={"correct": 1.0}), Verdict(outcome="wrong", reward=0.0)
ENDED = Completion(
    prompt_ids=(1,), token_ids=(2, 3), sampler_logprobs=(0.0, 0.0), sampled=(True, True), finish_reason="stop",
    reasoning="r", answer="a", num_reasoning_tokens=1,
)  # fmt: skip
CLOSED_BY_FORCE = replace(ENDED, sampled=(False, True))
CUT = replace(ENDED, finish_reason="length")


@pytest.mark.parametrize("cost", [0.01, 0.1, 0.5, 0.99])
def test_no_wrong_answer_is_ever_worth_more_than_a_right_one(cost):
    shape = unended(cost)
    worst_right = min(shape(RIGHT, c).reward for c in (ENDED, CLOSED_BY_FORCE, CUT))
    best_wrong = max(shape(WRONG, c).reward for c in (ENDED, CLOSED_BY_FORCE, CUT))
    assert worst_right > best_wrong == 0


def test_the_term_stands_in_the_verdict_and_asks_only_who_ended_it():
    shape = unended(0.2)
    assert shape(RIGHT, ENDED).reward == 1 and shape(RIGHT, ENDED).parts == {"correct": 1.0, "unended": 0.0}
    for cut in (CLOSED_BY_FORCE, CUT, replace(ENDED, finish_reason="window")):
        assert shape(RIGHT, cut).reward == 0.8 and shape(RIGHT, cut).parts["unended"] == -0.2
        assert shape(WRONG, cut).reward == 0
    longer = replace(ENDED, num_reasoning_tokens=999)
    assert shape(RIGHT, longer) == shape(RIGHT, ENDED)  # nothing pays for length, nor against it


def test_terms_of_the_reward_add_up_and_none_is_none():
    assert shaping(RLConfig(out="x")) is None
    shape = shaping(RLConfig(out="x", unended_cost=0.2, overlong_tokens=4, max_reasoning_tokens=8))
    found = shape(RIGHT, replace(CUT, num_reasoning_tokens=6))
    assert found.reward == pytest.approx(1 - 0.2 - 0.5) and found.parts["overlong"] == -0.5
    for cost in (-0.1, 1.0):
        with pytest.raises(ValueError, match="unended_cost"):
            RLConfig(out="x", unended_cost=cost)


def test_the_metrics_of_a_mixture_name_its_tasks_and_levels():
    task = load_task("arithmetic:level=1,size=4+words:level=2-3,size=4", split="train")
    problems = [task[i] for i in range(8)]
    targets = {p.text: p.target for p in problems}
    engine = ScriptedEngine(lambda text, seed: ("so", targets[text] if text.startswith("What is") else "no"))
    params = SamplingParams(max_answer_tokens=32)
    found = asyncio.run(collect(engine, task, problems, params, group_size=2, seed=0, step=0))
    metrics = rollout_metrics(found)
    assert metrics["task/arithmetic/correct"] == metrics["task/arithmetic/level_1"] == 1
    assert metrics["task/words/correct"] == metrics["task/words/level_2"] == metrics["task/words/level_3"] == 0
    alone = asyncio.run(collect(engine, task, problems[::2], params, group_size=2, seed=0, step=0))
    assert not any(key.startswith("task/") for key in rollout_metrics(alone))
