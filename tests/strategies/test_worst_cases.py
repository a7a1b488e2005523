"""Every strategy, whatever goes wrong: an answer within the budget, its whole cost, and nothing left running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.engine.base import ScriptedEngine
from ponder.strategies import STRATEGIES
from ponder.strategies.base import fit_params, max_sample_tokens
from ponder.types import Budget, Completion, Message, SamplingParams, Solution

PROMPT = (Message(role="user", content="2+2?"),)
PARAMS = SamplingParams(max_reasoning_tokens=40, max_answer_tokens=6)
FREE = sorted(set(STRATEGIES) - {"judge", "controller", "submit"})  # these need something first


class Length:
    """Likes what is short; judges anything, finished or not."""

    name, policy = "length", ""

    def __init__(self, *values: float) -> None:
        self.values = values

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        await asyncio.sleep(0)
        if self.values:
            return [self.values[i % len(self.values)] for i in range(len(completions))]
        return [1 / (1 + completion.num_tokens) for completion in completions]

    def cost(self, completions: Sequence[Completion]) -> int:
        return sum(completion.num_tokens for completion in completions)


class Wrong(Length):
    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return [0.5]


class Broken(Length):
    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        raise RuntimeError("out of memory")


class Counting(ScriptedEngine):
    """Knows what it really produced, prompts included."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tokens = self.samples = self.prompts = 0

    async def generate(self, prompt: Any, params: SamplingParams, *, n: int = 1, first: int = 0) -> list[Completion]:
        drawn = await super().generate(prompt, params, n=n, first=first)
        self.tokens += sum(len(completion.token_ids) for completion in drawn)
        self.prompts += len(drawn[0].prompt_ids)
        self.samples += len(drawn)
        return drawn


def stepper(text: str, seed: int) -> tuple[str, str]:
    """Three steps, then an answer; a continuation says what is left."""
    done = text.count("\n")
    return "".join(f"s{seed % 5}\n" for _ in range(max(0, 3 - done))), str(seed % 3)


def key(answer: str) -> str | None:
    return answer.strip() or None


def solve(name: str, engine: ScriptedEngine, params: SamplingParams = PARAMS, **options: Any) -> Solution:
    options = {"key": key, **options}
    return asyncio.run(STRATEGIES[name](PROMPT, engine, params=params, **options))


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("scorer", [None, Length()])
def test_an_answer_comes_and_all_that_was_drawn_is_paid_for(name: str, scorer: Any) -> None:
    engine = Counting(stepper)
    reported: list[Solution] = []
    solution = solve(name, engine, scorer=scorer, watch=reported.append)
    assert solution.answer in ("0", "1", "2")
    usage = solution.usage
    assert (usage.completion_tokens, usage.samples, usage.prompt_tokens) == (
        engine.tokens, engine.samples, engine.prompts
    )  # fmt: skip
    assert reported[-1] == solution
    costs = [one.usage.completion_tokens for one in reported]
    assert costs == sorted(costs)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FREE), st.integers(2, 260), st.none() | st.integers(1, 30), st.integers(0, 50), st.booleans(),
    st.integers(1, 9),
)  # fmt: skip
def test_no_budget_is_ever_exceeded(
    name: str, tokens: int, samples: int | None, length: int, judged: bool, answer: int
) -> None:
    def respond(text: str, seed: int) -> tuple[str, str]:
        return ("ab\n" * length)[: (seed % 7 + 1) * 9], "9" * answer

    engine = Counting(respond)
    options: dict[str, Any] = {"word": "\nWait", "word_ids": list(b"\nWait")} if name == "forced" else {}
    solution = solve(
        name, engine, budget=Budget(max_tokens=tokens, max_samples=samples), scorer=Length() if judged else None,
        **options,
    )  # fmt: skip
    assert solution.usage.completion_tokens <= tokens
    assert 1 <= solution.usage.samples <= (samples or 1 << 30)
    assert solution.usage.completion_tokens >= engine.tokens
    assert solution.usage.samples == engine.samples


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("scorer", [None, Length()])
@pytest.mark.parametrize("watch", [None, lambda solution: None])
def test_no_key_is_computed_on_the_event_loop(name: str, scorer: Any, watch: Any) -> None:
    threads: set[int] = set()

    def slow_key(answer: str) -> str | None:
        threads.add(threading.get_ident())
        return key(answer)

    solve(name, ScriptedEngine(stepper), key=slow_key, scorer=scorer, watch=watch)
    assert threading.get_ident() not in threads
    votes = name not in ("single", "forced", "deliberate") and (name != "mcts" or scorer is None)
    assert bool(threads) == votes, "the check checks nothing"


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 4000), st.integers(1, 3000), st.integers(1, 3000))
def test_a_budget_shortens_the_reasoning_and_never_ends_it(tokens: int, reasoning: int, answer: int) -> None:
    fitted = fit_params(SamplingParams(max_reasoning_tokens=reasoning, max_answer_tokens=answer), tokens)
    assert max_sample_tokens(fitted) <= tokens
    assert fitted.max_reasoning_tokens >= min(reasoning, tokens // 2) > 0
    assert fitted.max_answer_tokens >= min(answer, tokens // 4)


def test_params_that_fit_are_unchanged() -> None:
    assert fit_params(PARAMS, 47) == PARAMS and fit_params(PARAMS, 46) != PARAMS
    cut = replace(PARAMS, max_answer_tokens=1024, max_tokens=30)  # a hard cut fits by itself
    assert fit_params(cut, 30) == cut


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("budget", [Budget(max_samples=0), Budget(max_tokens=1)])
def test_a_budget_for_nothing_is_refused_before_anything_is_drawn(name: str, budget: Budget) -> None:
    engine = ScriptedEngine(stepper)
    with pytest.raises(ValueError, match="at least"):
        solve(name, engine, budget=budget, scorer=Length())
    assert not engine.calls


@pytest.mark.parametrize("name", FREE)
def test_no_number_of_samples_below_one(name: str) -> None:
    if name not in ("single", "forced", "revise"):
        with pytest.raises(ValueError, match="1 or more|at least 1"):
            solve(name, ScriptedEngine(stepper), n=0)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("scorer", [None, Length(), Length(float("nan"))])
def test_if_no_sample_has_an_answer_one_comes_back_without(name: str, scorer: Any) -> None:
    engine = ScriptedEngine(lambda text, seed: ("thought\n", "x"))
    solution = solve(name, engine, key=lambda answer: None, scorer=scorer)
    assert solution.answer == "x" and solution.usage.samples >= 1
    assert solve(name, ScriptedEngine(lambda text, seed: ""), scorer=scorer).answer == ""


@pytest.mark.parametrize("name", FREE)
def test_if_none_finishes_the_cost_is_still_reported(name: str) -> None:
    engine = Counting(lambda text, seed: ("z" * 200, "never"), window=20)  # the window ends every one of them
    solution = solve(name, engine)
    assert solution.answer == "" and solution.usage.completion_tokens == engine.tokens > 0


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("values", [(float("nan"),), (float("nan"), 0.9), (float("-inf"), 0.5), (-3.0, -2.0), (7.0,)])
def test_any_score_will_do(name: str, values: tuple[float, ...]) -> None:
    assert solve(name, ScriptedEngine(stepper), scorer=Length(*values)).answer in ("0", "1", "2")


SCORED = ["best_of_n", "weighted", "rerank_vote", "judge", "search", "dvts", "mcts"]


@pytest.mark.parametrize("name", SCORED)
def test_a_scorer_with_too_few_scores_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="'length' gave 1 scores for"):
        solve(name, ScriptedEngine(stepper), scorer=Wrong())


@pytest.mark.parametrize("name", [*SCORED, "revise"])
def test_a_scorer_that_fails_fails_the_call_and_leaves_nothing_running(name: str) -> None:
    engine = ScriptedEngine(stepper, delay=0.001)
    with pytest.raises(RuntimeError, match="out of memory"):
        solve(name, engine, scorer=Broken())
    assert engine.num_in_flight == 0


@pytest.mark.parametrize("name", FREE)
def test_cancelling_cancels_the_engine_and_the_best_answer_so_far_is_known(name: str) -> None:
    engine = ScriptedEngine(stepper, delay=0.01)
    reported: list[Solution] = []

    async def run() -> None:
        call = STRATEGIES[name](
            PROMPT, engine, params=PARAMS, key=key, watch=reported.append, **({"n": 500} if name != "single" else {})
        )
        task = asyncio.ensure_future(call)
        while not reported and not task.done():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engine.num_in_flight == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert reported[-1].answer in ("0", "1", "2") and reported[-1].usage.samples >= 1


def test_an_engine_that_fails_in_one_part_ends_the_other_parts() -> None:
    class Failing(ScriptedEngine):
        async def generate(self, prompt: Any, params: Any, *, n: int = 1, first: int = 0) -> list[Completion]:
            if first:
                raise RuntimeError("a worker died")
            return await super().generate(prompt, params, n=n, first=first)

    engine = Failing(stepper, delay=10)
    with pytest.raises(RuntimeError, match="a worker died"):
        solve("consensus", engine, watch=lambda solution: None, n=16)
    assert engine.num_cancelled == 1 and engine.num_in_flight == 0


@pytest.mark.parametrize("name", ["judge", "controller"])
def test_a_missing_part_is_an_error_that_says_how_to_make_it(name: str) -> None:
    with pytest.raises(ValueError, match="makes one"):
        solve(name, ScriptedEngine(stepper))
