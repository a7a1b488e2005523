"""Search follows the scorer, forcing inserts the word, revision shows the former answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ponder.engine.base import CLOSE, ScriptedEngine
from ponder.strategies import STRATEGIES, flops
from ponder.strategies.base import joined
from ponder.types import Completion, Message, SamplingParams, Solution, Usage

PROMPT = (Message(role="user", content="go"),)
PARAMS = SamplingParams(max_reasoning_tokens=30, max_answer_tokens=6)


def solve(name: str, engine: ScriptedEngine, params: SamplingParams = PARAMS, **options: Any) -> Solution:
    key = lambda answer: answer.strip() or None
    return asyncio.run(STRATEGIES[name](PROMPT, engine, params=params, key=key, **options))


def letters(text: str, seed: int) -> tuple[str, str]:
    """Each step is one letter of two; after four steps the answer is the whole."""
    written = text.partition("go")[2].split()
    step = "ab"[seed % 2]
    return ("", "".join(written)) if len(written) >= 4 else (f"{step}\n" + "x\n" * 3, "early")


class CountsA:
    """A process scorer that likes the letter a."""

    name, policy = "a", ""

    def __init__(self) -> None:
        self.num_scored = 0

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        self.num_scored += len(completions)
        return [completion.reasoning.count("a") / 5 for completion in completions]

    def cost(self, completions: Sequence[Completion]) -> int:
        return 7 * len(completions)


@pytest.mark.parametrize(("name", "options"), [("search", {"n": 16}), ("dvts", {"n": 16}), ("mcts", {"n": 60})])
def test_search_finds_what_the_scorer_wants_where_sampling_does_not(name: str, options: dict[str, int]) -> None:
    scorer = CountsA()
    solution = solve(name, ScriptedEngine(letters), scorer=scorer, **options)
    assert solution.answer.count("a") >= 3
    assert solution.usage.scorer_tokens == 7 * scorer.num_scored > 0
    plain = solve("consensus", ScriptedEngine(letters), n=16)
    assert plain.answer == "early"


def test_a_level_is_one_batch_and_its_solutions_are_one_completion_each() -> None:
    engine = ScriptedEngine(letters, delay=0.001)
    solution = solve("dvts", engine, scorer=CountsA(), n=16)
    assert engine.most_in_flight == 4  # four trees at once
    for completion in solution.completions:
        assert completion.prompt_ids == solution.completions[0].prompt_ids
        assert len(completion.token_ids) == len(completion.sampler_logprobs) == len(completion.sampled)
        assert bytes(completion.token_ids[: completion.num_reasoning_tokens]).decode() == completion.reasoning


def test_the_mean_of_hidden_states_is_that_of_the_joined_completion() -> None:
    engine = ScriptedEngine(["aaa"])
    one, two = asyncio.run(engine.generate(PROMPT, PARAMS, n=2))
    first = replace(one, hidden=np.array([1, 1, 4, 4], np.float32), token_ids=one.token_ids[:1])
    second = replace(two, hidden=np.array([2, 2, 8, 8], np.float32), token_ids=two.token_ids[:3])
    assert joined(first, second).hidden.tolist() == [2, 2, 7, 7]
    # every token keeps the version that drew it
    stale = replace(first, policy_version=3, versions=((3, 0, 1), (4, 1, len(first.token_ids))))
    fresh = replace(second, policy_version=4, versions=())
    whole = joined(stale, fresh)
    assert whole.policy_version == 3 and whole.token_versions == stale.token_versions + fresh.token_versions
    assert len(whole.versions) == 2
    assert joined(replace(first, policy_version=4), fresh).versions == ()
    assert joined(replace(one, hidden=None), second).hidden is None


def test_forcing_removes_the_mark_and_inserts_the_word() -> None:
    engine = ScriptedEngine(lambda text, seed: ("more", "2") if "Wait" in text else ("first", "1"))
    solution = solve("forced", engine, word=" Wait ", word_ids=list(b" Wait "), minimum=12)
    assert (solution.reasoning, solution.answer) == ("first Wait more", "2")
    chosen = solution.completions[-1]
    assert bytes(chosen.token_ids[:15]).decode() == "first Wait more" and chosen.token_ids[15] == CLOSE
    assert [i for i, drawn in enumerate(chosen.sampled) if not drawn] == list(range(5, 11))
    assert chosen.num_reasoning_tokens == 15
    first = solution.completions[0]
    # the answer that was thrown away is paid for, the reasoning that was kept is paid for once
    assert solution.usage.completion_tokens == first.num_tokens + chosen.num_tokens - 5
    assert solution.usage.samples == 2


def test_forcing_stops_at_the_minimum_and_at_the_maximum() -> None:
    engine = ScriptedEngine([("a" * 20, "1")])
    assert solve("forced", engine, word_ids=[33], minimum=12).usage.samples == 1
    endless = ScriptedEngine([("a" * 99, "1")])  # closed by force: there is no mark of its own to take off
    assert solve("forced", endless, word_ids=[33], minimum=30).usage.samples == 1
    short = ScriptedEngine([("a", "1")])
    assert solve("forced", short, word_ids=[33], minimum=30, n=3).usage.samples == 4
    with_engine = solve("forced", ScriptedEngine([("a", "1")]), minimum=9)  # no word: the engine holds the mark back
    assert with_engine.reasoning == "a........" and with_engine.usage.samples == 1


def test_revision_shows_the_former_answer_and_keeps_the_later_of_equals() -> None:
    answers = {"go": "1", "Check": "2"}
    engine = ScriptedEngine(lambda text, seed: answers["go" if text == "go" else "Check"])
    solution = solve("revise", engine, n=2)
    assert solution.answer == "2" and [call[0][:5] for call in engine.calls] == ["go", "Check"]
    shown = bytes(solution.completions[1].prompt_ids).decode()
    assert "assistant: 1" in shown
    assert solve("revise", engine, n=4).answer == "2"


def test_the_judge_is_shown_one_candidate_an_answer() -> None:
    class Judge(CountsA):
        async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
            assert sorted(completion.answer for completion in completions) == ["1", "2"]
            return [float(completion.answer == "2") for completion in completions]

    solution = solve("judge", ScriptedEngine(["1", "2", "1", "1"]), scorer=Judge(), n=4)
    assert solution.answer == "2" and solution.usage.scorer_tokens == 14
    assert solve("judge", ScriptedEngine(["1"]), scorer=CountsA(), n=4).usage.scorer_tokens == 0  # nothing to compare


def test_adaptive_stops_early_where_all_agree_and_not_where_they_do_not() -> None:
    assert solve("adaptive", ScriptedEngine(["7"]), n=64).usage.samples <= 8
    assert solve("adaptive", ScriptedEngine(["7", "8"]), n=16).usage.samples == 16


def test_weights_are_scores_where_these_are_probabilities() -> None:
    class Says(CountsA):
        async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
            return [0.9 if completion.answer == "b" else 0.2 for completion in completions]

    engine = ScriptedEngine(["a", "a", "a", "b"])
    assert solve("consensus", engine, n=4).answer == "a"
    assert solve("weighted", engine, scorer=Says(), n=4).answer == "b"
    assert solve("best_of_n", engine, scorer=Says(), n=4).answer == "b"
    assert solve("rerank_vote", engine, scorer=Says(), n=4, m=4).answer == "a"


def test_flops_are_tokens_times_their_cost_scorer_included() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5, scorer_tokens=4)
    assert flops(usage, per_token=2.0, scorer_per_token=3.0) == 42.0
