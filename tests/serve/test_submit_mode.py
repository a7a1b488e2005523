"""Mode submit through the API: the best program comes back, all samples are counted, and no thought is shown."""

from __future__ import annotations

import itertools

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.tasks.pipes_tester import PipesTester
from tests.serve.serving import KEY, Served

SECRET = "xyzzy was thought"
QUESTION = "3 1 2>1 2 3\n5>5"


def asked(served, question=QUESTION, **more):
    body = {"model": "scripted", "messages": [{"role": "user", "content": question}], "seed": 1, **more}
    body.setdefault("compute", {"mode": "submit", "n": 4})
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def guesses():
    answers = itertools.cycle(["rev", "rev", "rev", "sort"])
    return ScriptedEngine(lambda text, seed: (SECRET, next(answers)))


def test_the_program_that_passes_the_examples_is_returned_and_its_thoughts_are_not():
    with Served(guesses(), testers={"pairs": PipesTester()}) as served:
        reply = asked(served)
        assert reply.status_code == 200, reply.text
        found = reply.json()
        assert found["choices"][0]["message"]["content"] == "sort"
        assert found["usage"]["completion_tokens_details"]["samples"] == 4
        assert "xyzzy" not in reply.text
        streamed = asked(served, stream=True)
        assert "sort" in streamed.text and "xyzzy" not in streamed.text


@pytest.mark.parametrize("question", ["What is 2 + 2?", ">>> f(1)\n2"])
def test_what_nothing_here_can_run_is_a_vote(question):
    with Served(guesses(), testers={"pairs": PipesTester()}) as served:
        assert asked(served, question).json()["choices"][0]["message"]["content"] == "rev"


def test_a_tester_that_breaks_fails_the_request_and_tells_nothing():
    class Broken(PipesTester):
        def passes(self, program, examples):
            raise RuntimeError(f"while testing {program}: {SECRET}")

    with Served(guesses(), testers={"pairs": Broken()}) as served:
        reply = asked(served)
        assert reply.status_code == 500 and "xyzzy" not in reply.text and "rev" not in reply.text


def test_a_server_that_may_run_nothing_does_not_offer_the_mode():
    with Served(guesses()) as served:
        reply = asked(served)
        assert reply.status_code == 400 and "is no mode here" in reply.text
        headers = {"Authorization": f"Bearer {KEY}"}
        [card] = httpx.get(f"{served.url}/v1/models", headers=headers).json()["data"]
        assert "submit" not in card["modes"]
