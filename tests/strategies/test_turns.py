"""The loop over turns: what is kept reads as one completion, tools may speak, nobody waits, a cancelled one is told."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest

from ponder.engine.base import CLOSE, ScriptedEngine
from ponder.strategies.base import Work
from ponder.strategies.turns import Trajectory, Walk, diversity, is_final, run, trajectory_row
from ponder.types import Budget, Completion, Ending, Message, SamplingParams, Turn

PROMPT = (Message(role="user", content="go"),)
PARAMS = SamplingParams(max_reasoning_tokens=60, max_answer_tokens=6)


def work(engine: ScriptedEngine, **options: object) -> Work:
    return Work(PROMPT, engine, params=PARAMS, key=lambda answer: answer or None, **options)  # type: ignore[arg-type]


async def calculator(walk: Walk) -> Ending:
    """A tool: after "a*b=" the product is put in, which nobody sampled."""
    while walk.number < 4:
        drawn = await walk.draw(1, pause=("=",), spare=7)
        if not drawn:
            return "window"
        walk.keep(drawn[0])
        if is_final(drawn[0].completion):
            return "answer"
        left, _, right = drawn[0].completion.reasoning.strip(" =\n").partition("*")
        told = f"{int(left) * int(right)}\n"
        walk.say(told, list(told.encode()))
    return "turns"


def sums(text: str, seed: int) -> tuple[str, str]:
    said = text.partition("go")[2]
    if not said:
        return "6*7=", "no"
    last = said.split()[-1].partition("=")[2]
    return ("", last) if said.count("=") == 2 else (f"{last}*2=", "no")


def test_a_tool_speaks_between_the_pieces_and_is_never_trained_on() -> None:
    trajectory = asyncio.run(run(calculator, work(ScriptedEngine(sums))))
    whole = trajectory.whole
    assert (trajectory.ended, trajectory.answer, trajectory.num_turns) == ("answer", "84", 3)
    assert whole.reasoning == "6*7=42\n42*2=84\n" == bytes(whole.token_ids[: whole.num_reasoning_tokens]).decode()
    unsampled = bytes(i for i, drawn in zip(whole.token_ids, whole.sampled, strict=True) if not drawn)
    assert unsampled == b"42\n84\n"
    assert len(whole.token_ids) == len(whole.sampled) == len(whole.sampler_logprobs)
    for turn in trajectory.turns:  # each piece was drawn in the state that the pieces before it make
        state = (*whole.prompt_ids, *whole.token_ids)
        assert state[: len(turn.completion.prompt_ids)] == turn.completion.prompt_ids


def test_what_a_tool_says_is_paid_for() -> None:
    whole_work = work(ScriptedEngine(sums))
    trajectory = asyncio.run(run(calculator, whole_work))
    assert whole_work.usage.completion_tokens == len(trajectory.whole.token_ids)
    assert whole_work.usage.samples == 3
    # the state is read again at every turn
    assert whole_work.usage.prompt_tokens == sum(len(turn.completion.prompt_ids) for turn in trajectory.turns)


def test_a_tool_that_never_ends_meets_the_limit_and_one_without_budget_the_window() -> None:
    endless = ScriptedEngine(lambda text, seed: ("3*3=", "no"))
    trajectory = asyncio.run(run(calculator, work(endless)))
    assert (trajectory.ended, trajectory.answer, trajectory.whole.finish_reason) == ("turns", "", "length")
    short = asyncio.run(run(calculator, work(endless, budget=Budget(max_samples=2))))
    assert (short.ended, short.whole.finish_reason, len(short.turns)) == ("window", "window", 1)
    nothing = asyncio.run(run(calculator, work(endless, budget=Budget(max_samples=1))))
    assert nothing.turns == () and nothing.answer == "" and nothing.whole.token_ids == ()


def test_trajectories_run_at_once_and_none_waits_for_another() -> None:
    engine = ScriptedEngine(sums, delay=0.001)
    slow = asyncio.Event()
    order: list[int] = []

    async def one(index: int) -> None:
        async def environment(walk: Walk) -> Ending:
            if walk.index == 0:
                await slow.wait()
            return await calculator(walk)

        await run(environment, work(engine), index=index)
        order.append(index)
        if len(order) == 7:
            slow.set()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(index) for index in range(8)))

    asyncio.run(all_of_them())
    assert order[-1] == 0 and engine.most_in_flight == 7


def test_rollouts_of_one_prompt_draw_something_else_each_and_the_same_again() -> None:
    def seeds(index: int) -> list[int]:
        trajectory = asyncio.run(run(calculator, work(ScriptedEngine(sums)), index=index))
        return [turn.completion.seed for turn in trajectory.turns]

    assert seeds(0) == seeds(0) != seeds(1)
    assert len(set(seeds(0))) == 3


def test_a_cancelled_rollout_is_told_as_far_as_it_came() -> None:
    told: list[Trajectory] = []

    async def play() -> None:
        engine = ScriptedEngine(sums, delay=0.02)
        task = asyncio.ensure_future(run(calculator, work(engine), told=told.append))
        while len(engine.calls) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.num_in_flight == 0 and engine.num_cancelled == 1

    asyncio.run(play())
    assert told[0].ended == "cancelled" and told[0].whole.finish_reason == "cancelled"
    assert told[0].whole.reasoning == "6*7=42\n" and told[0].answer == ""


def test_an_environment_may_not_speak_before_the_first_turn() -> None:
    with pytest.raises(ValueError, match="into the prompt"):
        Walk(work(ScriptedEngine(sums))).say("x", [1])


def test_an_engine_without_token_ids_is_refused() -> None:
    class Endpoint(ScriptedEngine):
        async def generate(self, *arguments: object, **options: object) -> list[Completion]:
            drawn = await super().generate(*arguments, **options)  # type: ignore[arg-type]
            return [replace(piece, prompt_ids=(), token_ids=()) for piece in drawn]

    with pytest.raises(ValueError, match="token ids"):
        asyncio.run(run(calculator, work(Endpoint(sums))))


def test_forced_answers_are_marked_as_forced() -> None:
    async def environment(walk: Walk) -> Ending:
        (turn,) = await walk.draw(1, pause=("=",))
        walk.keep(turn)
        await walk.finish(max_reasoning_tokens=0)
        return "turns"

    trajectory = asyncio.run(run(environment, work(ScriptedEngine(lambda text, seed: ("6*7=and so on", "42")))))
    whole = trajectory.whole
    assert (trajectory.answer, whole.reasoning) == ("42", "6*7=")
    assert whole.token_ids[4] == CLOSE and not whole.sampled[4]
    assert [turn.kind for turn in trajectory.turns] == ["candidate", "answer"]
    assert not is_final(trajectory.turns[-1].completion)


def test_pieces_of_a_real_engine_join_to_one_completion_whose_logprobs_are_the_models() -> None:
    import torch

    from ponder.engine.local import LocalEngine
    from ponder.models.tokenizer import ByteTokenizer
    from tests.helpers import tiny_model

    model, tokenizer = tiny_model(window=128), ByteTokenizer()

    async def environment(walk: Walk) -> Ending:
        for _ in range(2):
            drawn = await walk.draw(3, max_tokens=6, pause=("a",))
            walk.keep(drawn[1])
            walk.say("=7", tokenizer.encode("=7"))
            await walk.draw(1, kind="choice", shown=tokenizer.encode("Best: "), max_tokens=4)
        await walk.finish(max_reasoning_tokens=0)
        return "turns"

    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        trajectory = asyncio.run(run(environment, Work(PROMPT, engine, params=PARAMS, key=lambda answer: answer)))
    whole = trajectory.whole
    with torch.no_grad():
        ids = torch.tensor([[*whole.prompt_ids, *whole.token_ids]])
        logprobs = model(ids).log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[len(whole.prompt_ids) - 1 :, 0]
    pairs = zip(logprobs.tolist(), whole.sampler_logprobs, whole.sampled, strict=True)
    assert all(abs(one - other) < 1e-4 for one, other, drawn in pairs if drawn)
    assert sum(not drawn for drawn in whole.sampled) == 5  # "=7" twice and the mark
    assert whole.reasoning == tokenizer.decode(whole.token_ids[: whole.num_reasoning_tokens])


def test_diversity_is_the_share_of_distinct_candidates() -> None:
    def turns(number: int, *texts: str) -> list[Turn]:
        engine = ScriptedEngine([(text, "") for text in texts])
        drawn = asyncio.run(engine.generate(PROMPT, SamplingParams(pause=("\n",)), n=len(texts)))
        return [Turn(completion=piece, number=number, kind="candidate") for piece in drawn]

    assert diversity(turns(1, "a\n", "a \n", "b\n", "c\n")) == 0.75
    assert diversity([*turns(1, "a\n", "a\n"), *turns(2, "a\n", "b\n")]) == 0.75  # over turns
    assert math.isnan(diversity(turns(1, "a\n"))) and math.isnan(diversity([]))


def test_a_row_holds_what_the_report_draws_and_is_json() -> None:
    trajectory = asyncio.run(run(calculator, work(ScriptedEngine(sums))))
    row = json.loads(json.dumps(trajectory_row(trajectory.turns, trajectory.ended), allow_nan=False))
    assert (row["ended"], row["num_turns"], row["distinct"]) == ("answer", 3, None)
    assert [turn["text"] for turn in row["turns"]] == ["6*7=", "42*2=", ""]
    assert row["turns"][-1]["answer"] == "84" and all(turn["chosen"] for turn in row["turns"])
