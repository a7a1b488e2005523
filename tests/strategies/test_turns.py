"""Episodes: what is kept is one completion, tools insert text, none waits for another, cancelled ones are recorded."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest

from ponder.config import ConfigError
from ponder.engine.base import CLOSE, ScriptedEngine
from ponder.strategies.base import Work, strategy
from ponder.strategies.turns import Episode, Trajectory, diversity, is_final, run_episode, trajectory_row
from ponder.types import Budget, Completion, Ending, Message, SamplingParams, Turn

PROMPT = (Message(role="user", content="go"),)
PARAMS = SamplingParams(max_reasoning_tokens=60, max_answer_tokens=6)


def work(engine: ScriptedEngine, **options: object) -> Work:
    return Work(PROMPT, engine, params=PARAMS, key=lambda answer: answer or None, **options)  # type: ignore[arg-type]


async def calculator(episode: Episode) -> Ending:
    """A tool: after "a*b=" the product is inserted, which was not sampled."""
    while episode.turn_number < 4:
        drawn = await episode.draw(1, pause=("=",), reserve=7)
        if not drawn:
            return "window"
        episode.keep(drawn[0])
        if is_final(drawn[0].completion):
            return "answer"
        left, _, right = drawn[0].completion.reasoning.strip(" =\n").partition("*")
        product = f"{int(left) * int(right)}\n"
        episode.append(product, list(product.encode()))
    return "turns"


def sums(text: str, seed: int) -> tuple[str, str]:
    written = text.partition("go")[2]
    if not written:
        return "6*7=", "no"
    last = written.split()[-1].partition("=")[2]
    return ("", last) if written.count("=") == 2 else (f"{last}*2=", "no")


def test_text_of_a_tool_is_inserted_and_never_trained_on() -> None:
    trajectory = asyncio.run(run_episode(calculator, work(ScriptedEngine(sums))))
    completion = trajectory.completion
    assert (trajectory.ended, trajectory.answer, trajectory.num_turns) == ("answer", "84", 3)
    reasoning_ids = completion.token_ids[: completion.num_reasoning_tokens]
    assert completion.reasoning == "6*7=42\n42*2=84\n" == bytes(reasoning_ids).decode()
    unsampled = bytes(i for i, drawn in zip(completion.token_ids, completion.sampled, strict=True) if not drawn)
    assert unsampled == b"42\n84\n"
    assert len(completion.token_ids) == len(completion.sampled) == len(completion.sampler_logprobs)
    for turn in trajectory.turns:  # each turn was drawn in the state that the turns before it make
        state = (*completion.prompt_ids, *completion.token_ids)
        assert state[: len(turn.completion.prompt_ids)] == turn.completion.prompt_ids


def test_text_of_a_tool_is_paid_for() -> None:
    call = work(ScriptedEngine(sums))
    trajectory = asyncio.run(run_episode(calculator, call))
    assert call.usage.completion_tokens == len(trajectory.completion.token_ids)
    assert call.usage.samples == 3
    # the state is processed again at every turn
    assert call.usage.prompt_tokens == sum(len(turn.completion.prompt_ids) for turn in trajectory.turns)


def test_a_tool_that_never_ends_meets_the_limit_and_one_without_budget_the_window() -> None:
    endless = ScriptedEngine(lambda text, seed: ("3*3=", "no"))
    trajectory = asyncio.run(run_episode(calculator, work(endless)))
    assert (trajectory.ended, trajectory.answer, trajectory.completion.finish_reason) == ("turns", "", "length")
    short = asyncio.run(run_episode(calculator, work(endless, budget=Budget(max_samples=2))))
    assert (short.ended, short.completion.finish_reason, len(short.turns)) == ("window", "window", 1)
    nothing = asyncio.run(run_episode(calculator, work(endless, budget=Budget(max_samples=1))))
    assert nothing.turns == () and nothing.answer == "" and nothing.completion.token_ids == ()


def test_trajectories_run_at_once_and_none_waits_for_another() -> None:
    engine = ScriptedEngine(sums, delay=0.001)
    slow = asyncio.Event()
    order: list[int] = []

    async def one(index: int) -> None:
        async def environment(episode: Episode) -> Ending:
            if episode.index == 0:
                await slow.wait()
            return await calculator(episode)

        await run_episode(environment, work(engine), index=index)
        order.append(index)
        if len(order) == 7:
            slow.set()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(index) for index in range(8)))

    asyncio.run(all_of_them())
    assert order[-1] == 0 and engine.most_in_flight == 7


def test_an_environment_that_forgets_its_ending_or_its_async_is_one_clear_error() -> None:
    async def endless(episode: Episode) -> None:
        await episode.draw(1)

    for environment, message in ((endless, "returned None; .* answer, window"), (lambda episode: "answer", "async")):
        with pytest.raises(ConfigError, match=message):
            asyncio.run(run_episode(environment, work(ScriptedEngine(sums))))  # type: ignore[arg-type]


def test_a_strategy_that_is_no_async_function_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="longest must be an async function"):

        @strategy  # type: ignore[arg-type]
        def longest(work: Work) -> None: ...


def test_rollouts_of_one_prompt_have_different_seeds_and_the_same_again() -> None:
    def seeds(index: int) -> list[int]:
        trajectory = asyncio.run(run_episode(calculator, work(ScriptedEngine(sums)), index=index))
        return [turn.completion.seed for turn in trajectory.turns]

    assert seeds(0) == seeds(0) != seeds(1)
    assert len(set(seeds(0))) == 3


def test_a_cancelled_rollout_is_recorded_as_far_as_it_came() -> None:
    recorded: list[Trajectory] = []

    async def play() -> None:
        engine = ScriptedEngine(sums, delay=0.02)
        task = asyncio.ensure_future(run_episode(calculator, work(engine), on_end=recorded.append))
        while len(engine.calls) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.num_in_flight == 0 and engine.num_cancelled == 1

    asyncio.run(play())
    assert recorded[0].ended == "cancelled" and recorded[0].completion.finish_reason == "cancelled"
    assert recorded[0].completion.reasoning == "6*7=42\n" and recorded[0].answer == ""


def test_an_environment_may_not_insert_text_before_the_first_turn() -> None:
    with pytest.raises(ValueError, match="into the prompt"):
        Episode(work(ScriptedEngine(sums))).append("x", [1])


def test_an_engine_without_token_ids_is_refused() -> None:
    class Endpoint(ScriptedEngine):
        async def generate(self, *arguments: object, **options: object) -> list[Completion]:
            drawn = await super().generate(*arguments, **options)  # type: ignore[arg-type]
            return [replace(piece, prompt_ids=(), token_ids=()) for piece in drawn]

    with pytest.raises(ValueError, match="token ids"):
        asyncio.run(run_episode(calculator, work(Endpoint(sums))))


def test_forced_answers_are_marked_as_forced() -> None:
    async def environment(episode: Episode) -> Ending:
        (turn,) = await episode.draw(1, pause=("=",))
        episode.keep(turn)
        await episode.finish(max_reasoning_tokens=0)
        return "turns"

    trajectory = asyncio.run(run_episode(environment, work(ScriptedEngine(lambda text, seed: ("6*7=and so on", "42")))))
    completion = trajectory.completion
    assert (trajectory.answer, completion.reasoning) == ("42", "6*7=")
    assert completion.token_ids[4] == CLOSE and not completion.sampled[4]
    assert [turn.kind for turn in trajectory.turns] == ["candidate", "answer"]
    assert not is_final(trajectory.turns[-1].completion)


def test_turns_of_a_real_engine_join_to_one_completion_whose_logprobs_are_the_models() -> None:
    import torch

    from ponder.engine.local import LocalEngine
    from ponder.models.tokenizer import ByteTokenizer
    from tests.helpers import tiny_model

    model, tokenizer = tiny_model(window=128), ByteTokenizer()

    async def environment(episode: Episode) -> Ending:
        for _ in range(2):
            drawn = await episode.draw(3, max_tokens=6, pause=("a",))
            episode.keep(drawn[1])
            episode.append("=7", tokenizer.encode("=7"))
            await episode.draw(1, kind="choice", suffix_ids=tokenizer.encode("Best: "), max_tokens=4)
        await episode.finish(max_reasoning_tokens=0)
        return "turns"

    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        call = Work(PROMPT, engine, params=PARAMS, key=lambda answer: answer)
        trajectory = asyncio.run(run_episode(environment, call))
    completion = trajectory.completion
    with torch.no_grad():
        ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
        logprobs = model(ids).log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[len(completion.prompt_ids) - 1 :, 0]
    pairs = zip(logprobs.tolist(), completion.sampler_logprobs, completion.sampled, strict=True)
    assert all(abs(one - other) < 1e-4 for one, other, drawn in pairs if drawn)
    assert sum(not drawn for drawn in completion.sampled) == 5  # "=7" twice and the mark
    assert completion.reasoning == tokenizer.decode(completion.token_ids[: completion.num_reasoning_tokens])


def test_diversity_is_the_share_of_distinct_candidates() -> None:
    def turns(number: int, *texts: str) -> list[Turn]:
        engine = ScriptedEngine([(text, "") for text in texts])
        drawn = asyncio.run(engine.generate(PROMPT, SamplingParams(pause=("\n",)), n=len(texts)))
        return [Turn(completion=piece, number=number, kind="candidate") for piece in drawn]

    assert diversity(turns(1, "a\n", "a \n", "b\n", "c\n")) == 0.75
    assert diversity([*turns(1, "a\n", "a\n"), *turns(2, "a\n", "b\n")]) == 0.75  # over turns
    assert math.isnan(diversity(turns(1, "a\n"))) and math.isnan(diversity([]))


def test_a_row_holds_what_the_report_draws_and_is_json() -> None:
    trajectory = asyncio.run(run_episode(calculator, work(ScriptedEngine(sums))))
    row = json.loads(json.dumps(trajectory_row(trajectory.turns, trajectory.ended), allow_nan=False))
    assert (row["ended"], row["num_turns"], row["distinct"]) == ("answer", 3, None)
    assert [turn["text"] for turn in row["turns"]] == ["6*7=", "42*2=", ""]
    assert row["turns"][-1]["answer"] == "84" and all(turn["chosen"] for turn in row["turns"])
