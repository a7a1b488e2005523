"""Steps and states: reasoning that pauses goes on as if it had not, and hidden states are those of the model."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from ponder.engine.base import ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.helpers import tiny_model, user

TOKENIZER = ByteTokenizer()
GREEDY = SamplingParams(temperature=0, max_reasoning_tokens=40, max_answer_tokens=6)


class StepsOfFive(ByteTokenizer):
    """A tokenizer in whose texts every fifth token ends a step, so that a model that says anything pauses."""

    def decode(self, ids):
        return "".join("|" if place % 5 == 4 else "x" for place in range(len(ids)))


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(tiny_model(), StepsOfFive(), num_workers=0, num_slots=8, keep_hidden=True) as engine:
        yield engine


def test_a_completion_taken_step_by_step_is_the_completion_taken_at_once(engine):
    prompt = TOKENIZER.render(user("What is 2+3?"))

    async def by_steps():
        ids, left, pauses = [], GREEDY.max_reasoning_tokens, 0
        while True:
            params = replace(GREEDY, pause=("|",), max_reasoning_tokens=left)
            [part] = await engine.generate([*prompt, *ids], params)
            ids += part.token_ids
            if part.finish_reason != "pause":
                return ids, pauses
            left -= len(part.token_ids)
            pauses += 1

    [whole] = asyncio.run(engine.generate(prompt, GREEDY))
    ids, pauses = asyncio.run(by_steps())
    assert tuple(ids) == whole.token_ids
    assert pauses > 0, "the tiny model never ended a step: the test shows nothing"


def test_a_paused_completion_is_reasoning_without_an_answer_and_ends_with_its_step(engine):
    prompt = TOKENIZER.render(user("What is 2+3?"))
    params = SamplingParams(max_reasoning_tokens=40, max_answer_tokens=6, pause=("|",))
    drawn = asyncio.run(engine.generate(prompt, params, n=8))
    paused = [completion for completion in drawn if completion.finish_reason == "pause"]
    assert paused
    for completion in paused:
        assert completion.reasoning.index("|") == len(completion.reasoning) - 1
        assert completion.answer == "" and completion.num_reasoning_tokens == len(completion.token_ids)


@torch.no_grad()
def test_hidden_states_are_those_of_the_plain_model(engine):
    model, prompt = tiny_model(), TOKENIZER.render(user("What is 2+3?"))
    params = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=6, seed=1)
    # more samples than slots: rows end, move and are taken again
    for completion in asyncio.run(engine.generate(prompt, params, n=24)):
        states = model.hidden(torch.tensor([[*prompt, *completion.token_ids]]))[0].float().numpy()
        behind = states[len(prompt) - 1 : -1]  # the state before each token of the completion
        assert len(behind) == completion.num_tokens
        expected = np.concatenate((behind[-1], behind.mean(axis=0)))
        np.testing.assert_allclose(completion.hidden, expected, atol=2e-4)


def test_an_engine_that_was_not_asked_keeps_no_hidden_states():
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        [completion] = asyncio.run(engine.generate(TOKENIZER.render(user("2+3")), GREEDY))
    assert completion.hidden is None


def test_the_scripted_engine_pauses_after_each_step():
    engine = ScriptedEngine([("\none\ntwo\n", "3")])
    [first] = asyncio.run(engine.generate(user("1+2"), SamplingParams(pause=("\n",))))
    assert (first.reasoning, first.answer, first.finish_reason) == ("\none\n", "", "pause")
    [whole] = asyncio.run(engine.generate(user("1+2"), SamplingParams()))
    assert (whole.reasoning, whole.answer, whole.finish_reason) == ("\none\ntwo\n", "3", "stop")
