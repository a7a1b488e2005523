"""Votes are counted by class, ties are broken the same way every time, and no budget is exceeded."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.engine.base import ScriptedEngine
from ponder.strategies import STRATEGIES
from ponder.strategies.base import max_sample_tokens
from ponder.strategies.sampling import consensus, single
from ponder.strategies.select import classes_of, vote
from ponder.types import Budget, Message, SamplingParams, Solution

PROMPT = (Message(role="user", content="2+2?"),)
PARAMS = SamplingParams(max_reasoning_tokens=10, max_answer_tokens=5)


def key(answer: str) -> str | None:
    return answer.strip().lower() or None


def solve(strategy: Any, engine: ScriptedEngine, params: SamplingParams = PARAMS, **options: Any) -> Solution:
    return asyncio.run(strategy(PROMPT, engine, params=params, key=key, **options))


def test_single_is_the_first_sample() -> None:
    engine = ScriptedEngine([("r0", "a"), ("r1", "b")])
    solution = solve(single, engine)
    assert (solution.answer, solution.reasoning, solution.usage.samples) == ("a", "r0", 1)


def test_classes_vote_not_texts_and_the_first_sample_of_the_winner_is_returned() -> None:
    engine = ScriptedEngine([("r0", "b"), ("r1", " A"), ("r2", "b"), ("r3", "a"), ("r4", "A ")])
    solution = solve(consensus, engine, n=5)
    assert (solution.answer, solution.reasoning) == (" A", "r1")
    assert engine.calls == [("2+2?", 0, 5)]  # all at once
    assert solution.usage.samples == 5 and len(solution.completions) == 5
    assert solution.usage.completion_tokens == sum(len(c.token_ids) for c in solution.completions)
    assert solution.usage.prompt_tokens == len(solution.completions[0].prompt_ids)


def test_no_answer_never_wins() -> None:
    assert solve(consensus, ScriptedEngine(["", " ", "", "x"]), n=4).answer == "x"
    assert solve(consensus, ScriptedEngine(["", " "]), n=2).answer == ""


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12))
def test_the_winner_has_most_votes(keys: list[str | None]) -> None:
    votes = Counter(keys)
    del votes[None]
    chosen = keys[vote(classes_of(keys))]
    assert chosen is None if not votes else votes[chosen] == max(votes.values())
    assert keys.index(chosen) == vote(classes_of(keys))


@settings(deadline=None)
@given(st.integers(2, 200), st.integers(1, 20), st.integers(0, 12), st.integers(1, 8))
def test_no_token_budget_is_ever_exceeded_and_an_answer_always_comes(
    max_tokens: int, n: int, reasoning: int, answer: int
) -> None:
    params = SamplingParams(max_reasoning_tokens=10, min_reasoning_tokens=4, max_answer_tokens=6)
    engine = ScriptedEngine([("r" * reasoning, "a" * answer), ("", "b")])
    solution = solve(consensus, engine, params, n=n, budget=Budget(max_tokens=max_tokens))
    assert 1 <= solution.usage.samples <= n
    assert 0 < solution.usage.completion_tokens <= max_tokens
    left = max_tokens - solution.usage.completion_tokens
    # it stopped only where one more might not fit
    assert solution.usage.samples == n or left < max_sample_tokens(params)


def test_waves_draw_new_samples_not_the_same_ones() -> None:
    engine = ScriptedEngine(lambda prompt, seed: ("", str(seed % 1000)))
    solution = solve(consensus, engine, n=6, budget=Budget(max_tokens=40))
    assert len({c.seed for c in solution.completions}) == solution.usage.samples > 2


def test_a_sample_budget_is_kept_and_sets_n() -> None:
    assert solve(consensus, ScriptedEngine(["a"]), n=9, budget=Budget(max_samples=3)).usage.samples == 3
    assert solve(consensus, ScriptedEngine(["a"]), budget=Budget(max_samples=12)).usage.samples == 12
    assert solve(consensus, ScriptedEngine(["a"])).usage.samples == 8


@pytest.mark.parametrize("budget", [Budget(max_samples=0), Budget(max_tokens=1), Budget(max_tokens=0)])
def test_a_budget_for_nothing_is_refused(budget: Budget) -> None:
    with pytest.raises(ValueError, match="at least"):
        solve(consensus, ScriptedEngine(["a"]), budget=budget)


def test_the_registry_names_them() -> None:
    assert STRATEGIES["single"] is single and STRATEGIES["consensus"] is consensus
