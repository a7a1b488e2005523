"""The preference term: it reads answers only, never outbids truth, and what it cannot tell is no number."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.rollouts.collect import collect, single
from ponder.rollouts.grade import refuse_failing
from ponder.rollouts.preferences import RewardConfig, open_preference, preference_term, visible
from ponder.scorers.judge import _KNOWN_COSTS, Judge
from ponder.strategies.turns import Trajectory
from ponder.types import SamplingParams, Verdict
from tests.helpers import LowercaseTask, user


class Nosy:
    """Likes whatever it can find of a completion beside its answer, and long answers."""

    name, policy = "rule: nosy", ""

    async def __call__(self, prompt, completions):
        beside = [c.reasoning + str(c.token_ids) + str(c.hidden) + str(c.num_tokens) for c in completions]
        return [(hash(more) % 7 + len(c.answer)) / 100 for more, c in zip(beside, completions, strict=True)]


class Broken:
    name, policy = "rule: broken", ""

    async def __call__(self, prompt, completions):
        raise ConnectionError("no route")


class Says:
    name, policy = "rule: says", ""

    def __init__(self, *values: float) -> None:
        self.values = values

    async def __call__(self, prompt, completions):
        return list(self.values[: len(completions)])


def completions(*pairs: tuple[str, str]):
    engine = ScriptedEngine(lambda prompt, seed: pairs[seed % len(pairs)])
    drawn = []
    for i in range(len(pairs)):
        engine = ScriptedEngine(lambda prompt, seed, i=i: pairs[i])
        drawn += asyncio.run(engine.generate(user("p"), SamplingParams(), n=1))
    return drawn


def rewards(scorer, drawn, verified=None, weight=0.5):
    verdicts = [Verdict(outcome="wrong", reward=r) for r in (verified or [0.0] * len(drawn))]
    term = preference_term(scorer, weight)
    return asyncio.run(term(LowercaseTask()[0], [Trajectory.of(c) for c in drawn], verdicts))


def test_swapping_the_reasoning_changes_no_reward():
    one, other = completions(("12*3=36", "36"), ("it is a secret plan, wait", "7"))
    swapped = [
        replace(one, reasoning=other.reasoning, num_reasoning_tokens=5, token_ids=other.token_ids, hidden=[1.0],
                sampled=other.sampled, sampler_logprobs=other.sampler_logprobs),
        replace(other, reasoning=one.reasoning, num_reasoning_tokens=2, token_ids=one.token_ids, hidden=[2.0],
                sampled=one.sampled, sampler_logprobs=one.sampler_logprobs),
    ]  # fmt: skip
    assert rewards(Nosy(), [one, other]) == rewards(Nosy(), swapped) != [0.0, 0.0]
    assert visible(one).answer == "36" and not visible(one).token_ids and visible(one).num_tokens == 0


def test_preference_never_outbids_a_share_of_the_verifier():
    drawn = completions(("", "a"), ("", "b"), ("", "c"))
    liked = rewards(Says(1.0, 0.0, 1.0), drawn, verified=[0.0, 0.1, 0.25], weight=0.9)
    assert liked == pytest.approx([0.09, 0.0, 0.09])  # 0.9 of the smallest difference, 0.1
    assert 0.0 + liked[0] < 0.1 + liked[1]
    assert rewards(Says(1.0, 0.0, 1.0), drawn, weight=0.9) == [0.9, 0.0, 0.9]  # all alike: nothing to outbid


def test_what_a_scorer_cannot_tell_leaves_the_group_as_undecided_and_is_counted():
    task = LowercaseTask(size=1)
    terms = {"preference": preference_term(Says(0.2, math.nan, 0.8, math.nan), 0.5)}
    play = single(ScriptedEngine(lambda prompt, seed: ("", "a")))
    got = asyncio.run(collect(play, task, [task[0]], SamplingParams(), group_size=4, seed=0, step=0, terms=terms))
    assert [round(r, 9) for r in got.groups[0].rewards] == [1.1, 1.4] and got.groups[0].num_dropped == 2
    assert got.tally.counts == {"correct": 2, "undecided": 2}


def test_a_scorer_that_raises_fails_its_rollouts_and_stops_a_run_that_fails_often():
    task = LowercaseTask(size=1)
    terms = {"preference": preference_term(Broken(), 0.5)}
    play = single(ScriptedEngine(lambda prompt, seed: ("", "a")))
    got = asyncio.run(collect(play, task, [task[0]], SamplingParams(), group_size=4, seed=0, step=0, terms=terms))
    assert got.tally.counts == {"failed": 4} and not got.groups[0].rollouts
    with pytest.raises(RuntimeError, match="reward term 'preference' failed.*ConnectionError: no route"):
        refuse_failing(got.tally, few=1)


def test_without_the_verifiers_reward_the_preference_is_all_and_the_undecided_stay():
    class Shrugs(LowercaseTask):
        def verify(self, problem, answer):
            return Verdict(outcome="undecided", reward=0.0)

    task, terms = Shrugs(size=1), {"preference": preference_term(Says(0.2, 0.8), 2.0)}
    play = single(ScriptedEngine(lambda prompt, seed: ("", "a")))
    got = asyncio.run(
        collect(play, task, [task[0]], SamplingParams(), group_size=2, seed=0, step=0, terms=terms, verified=False)
    )
    assert got.groups[0].rewards == (0.4, 1.6)
    strict = asyncio.run(collect(play, task, [task[0]], SamplingParams(), group_size=2, seed=0, step=0, terms=terms))
    assert not strict.groups[0].rollouts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference": "x:y"}, "belong together"), ({"preference_weight": 0.1}, "belong together"),
        ({"verified": False}, "leaves no reward"), ({"preference": "x:y", "preference_weight": 1.0}, "below 1"),
    ],
)  # fmt: skip
def test_a_reward_that_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RewardConfig(**changes)


def test_a_scorer_that_reads_reasoning_is_refused_at_the_door(tmp_path: Path, monkeypatch):
    with pytest.raises(ConfigError, match="no scorer in"):
        open_preference(str(tmp_path))

    class Outcome:
        kind = "outcome"

    (tmp_path / "scorer.json").write_text("{}")
    monkeypatch.setattr("ponder.rollouts.preferences.load_scorer", lambda name: Outcome())
    with pytest.raises(ConfigError, match="reads the reasoning too"):
        open_preference(str(tmp_path))


def judging(*replies: str) -> Judge:
    """It replies to what holds <0>, <1>, ..."""
    return Judge(
        ScriptedEngine(lambda prompt, seed: ("", next(r for i, r in enumerate(replies) if f"<{i}>" in prompt)))
    )


def test_a_judge_guesses_at_test_time_and_says_nan_in_a_reward():
    judge = judging("7", "who knows", "3")
    drawn = completions(("", "<0>"), ("", "<1>"), ("", "<2>"))
    with pytest.warns(UserWarning, match="cannot be read"):
        assert asyncio.run(judge(user("p"), drawn)) == [0.7, 0.5, 0.3]
    with pytest.warns(UserWarning, match="cannot be read"):
        strict = asyncio.run(judging("7", "who knows", "3").strict()(user("p"), drawn))
    assert strict[0] == 0.7 and math.isnan(strict[1]) and strict[2] == 0.3


def test_the_costs_that_a_judge_remembers_are_bounded():
    judge = Judge(ScriptedEngine(lambda prompt, seed: ("", "7")))
    [one] = completions(("", "a"))

    async def many():
        for seed in range(_KNOWN_COSTS + 20):
            await judge(user("p"), [replace(one, seed=seed)])

    asyncio.run(many())
    assert len(judge._cost_of) == _KNOWN_COSTS
    assert judge.cost([replace(one, seed=_KNOWN_COSTS + 19)]) > one.num_tokens + one.num_prompt_tokens  # the last one
