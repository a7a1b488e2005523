"""The real thing: `ponder serve --model nano` as a process, and reasoning that goes back into a real prompt."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.serve.items import Thought, prompt_of
from ponder.serve.terminal import Chat, shown, talk
from ponder.types import Message
from tests.helpers import tiny_model
from tests.serve.serving import KEY, Served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
AUTH = {"Authorization": f"Bearer {KEY}"}
BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    command = [
        sys.executable, "-m", "ponder.cli", "serve", "--model", "nano", "--port", "0", "--api-key", KEY,
        "--db", str(folder / "serve.db"),
    ]  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, text=True)
    line = process.stdout.readline()
    assert re.fullmatch(r"ponder serves nano at http://127\.0\.0\.1:\d+/v1\n", line), (folder / "log").read_text()
    told = (folder / "log").read_text()
    assert f"{line.split()[-1].removesuffix('/v1')}/\n" in told and f"keys create --db {folder / 'serve.db'}" in told
    yield line.split()[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stdout.read() == ""  # one line, and no more


def test_nano_answers_over_both_apis(nano):
    with httpx.Client(base_url=nano, headers=AUTH, timeout=60) as client:
        body = {"input": "What is 2+3?", "compute": {"seed": 1}}
        response = client.post("/responses", json=body).json()
        assert response["status"] == "completed" and response["model"] == "nano"
        details = response["usage"]["output_tokens_details"]
        parts = ("reasoning_tokens", "answer_tokens", "special_tokens")
        assert sum(details[name] for name in parts) == response["usage"]["output_tokens"]
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
        assert response["output"][0]["thinking_seconds"] >= 0
        text = response["output"][-1]["content"][0]["text"]
        chat = {"model": "nano", "messages": [{"role": "user", "content": "What is 2+3?"}], "seed": 1}
        told = client.post("/chat/completions", json=chat).json()
        assert told["choices"][0]["message"]["content"] == text
        streamed = client.post("/chat/completions", json={**chat, "stream": True}).text
        chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
        vote = {**body, "reasoning": {"mode": "consensus", "effort": "low"}, "compute": {"n": 8}}
        assert client.post("/responses", json=vote).json()["usage"]["output_tokens_details"]["samples"] == 8


def test_nano_which_never_saw_json_answers_in_it_and_calls_functions(nano):
    schema = {
        "type": "object", "properties": {"answer": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"], "additionalProperties": False,
    }  # fmt: skip
    with httpx.Client(base_url=nano, headers=AUTH, timeout=60) as client:
        form = {"type": "json_schema", "name": "a", "schema": schema, "strict": True}
        body = {"input": "What is 2+3?", "text": {"format": form}, "compute": {"seed": 1}}
        response = client.post("/responses", json=body).json()
        assert response["status"] == "completed", response
        value = json.loads(response["output"][-1]["content"][0]["text"])
        assert list(value) == ["answer", "sure"] and type(value["answer"]) is int and type(value["sure"]) is bool
        tool = {"type": "function", "name": "weather", "parameters": schema, "strict": True}
        body = {"input": "What is 2+3?", "tools": [tool], "tool_choice": "required", "compute": {"seed": 1}}
        response = client.post("/responses", json=body).json()
        assert response["output"][-1]["type"] == "function_call", response
        assert list(json.loads(response["output"][-1]["arguments"])) == ["answer", "sure"]


@pytest.mark.parametrize(
    "schema",
    [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {"type": "string"}, "minItems": 2},
     {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "number"}}, "required": ["city"]}],
    ids=str,
)  # fmt: skip
def test_nano_closes_what_it_would_go_on_with_for_ever(nano, schema):
    form = {"type": "json_schema", "name": "a", "schema": schema, "strict": True}
    tool = {"type": "function", "name": "weather", "strict": True, "parameters": {
        "type": "object", "properties": {"what": schema}, "required": ["what"],
    }}  # fmt: skip
    with httpx.Client(base_url=nano, headers=AUTH, timeout=60) as client:
        for seed in range(2):
            body = {"input": "What is 2+3?", "compute": {"seed": seed}}
            response = client.post("/responses", json=body | {"text": {"format": form}}).json()
            assert response["status"] == "completed", response
            json.loads(response["output"][-1]["content"][0]["text"])
            response = client.post("/responses", json=body | {"tools": [tool], "tool_choice": "required"}).json()
            assert response["status"] == "completed", response
            assert response["output"][-1]["type"] == "function_call"


def test_two_hundred_streams_of_nano_lose_nothing(nano):
    async def one(client, number):
        body = {"input": f"What is {number}+3?", "stream": True, "reasoning": {"effort": "minimal"}}
        events = []
        async with client.stream("POST", "/responses", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
        last = events[-1]
        assert last["type"] in ("response.completed", "response.incomplete")
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        messages = [item for item in last["response"]["output"] if item["type"] == "message"]
        assert text == "".join(item["content"][0]["text"] for item in messages)
        details = last["response"]["usage"]["output_tokens_details"]
        parts = ("reasoning_tokens", "answer_tokens", "special_tokens")
        assert sum(details[name] for name in parts) == last["response"]["usage"]["output_tokens"]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))

    async def work():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=nano, headers=AUTH, timeout=120, limits=limits) as client:
            await asyncio.gather(*(one(client, number) for number in range(200)))

    asyncio.run(work())


def test_the_terminal_chat_talks_to_it(nano):
    chat = Chat(nano, KEY, model=None, effort="low", mode=None)
    questions, said = iter(["What is 2+3?", "What is 4+4?", ""]), []
    talk(chat, read=lambda: next(questions), write=said.append)
    chat.close()
    text = "".join(said)
    assert len(text.strip()) > 1 and "cannot" not in text


def test_what_a_model_says_cannot_steer_a_terminal():
    event = {"type": "response.output_text.delta", "delta": "a\x1b[2Jb\x07\n"}
    assert shown(event) == "a[2Jb\n"


def test_a_kept_thought_goes_between_the_marks_before_its_call():
    messages = [
        Message(role="user", content="weather?"), Message(role="assistant", content="CALL"),
        Message(role="tool", content="sunny"),
    ]  # fmt: skip
    plain = BYTES.render(messages)
    ids = prompt_of(BYTES, messages, {1: Thought("I call </think>")})
    inner = [BYTES.think_id, *b"I call </think>", BYTES.unthink_id]
    place = ids.index(BYTES.assistant_id) + 1
    assert ids[place : place + len(inner)] == inner
    assert ids[:place] + ids[place + len(inner) :] == plain and ids[-1] == BYTES.think_id
    assert prompt_of(BYTES, messages, {}) is messages


def test_kept_reasoning_is_part_of_the_next_prompt_of_a_real_engine():
    with LocalEngine(tiny_model(window=4000), BYTES, num_workers=0, num_slots=8) as engine, Served(engine) as served:  # noqa: SIM117
        with httpx.Client(base_url=f"{served.url}/v1", headers=AUTH, timeout=60) as client:
            body = {"input": "x", "compute": {"max_reasoning_tokens": 20, "seed": 1}, "max_output_tokens": 30}
            first = client.post("/responses", json=body).json()
            reasoning = first["output"][0]
            call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
            output = {"type": "function_call_output", "call_id": "c", "output": "y"}
            asked = {"role": "user", "content": "x"}
            with_thought = {"input": [asked, reasoning, call, output], "compute": {"seed": 1}, "max_output_tokens": 4}
            without = {**with_thought, "input": [asked, call, output]}
            counted = [client.post("/responses", json=each).json() for each in (with_thought, without)]
            more = counted[0]["usage"]["input_tokens"] - counted[1]["usage"]["input_tokens"]
            assert "input_transformations" not in counted[0] and more > 2


def test_a_scorer_that_reads_hidden_states_gets_them_behind_the_server():
    class Probe:
        name, policy, kind = "probe", "", "probe"
        seen = []

        async def __call__(self, prompt, completions):
            self.seen += [completion.hidden for completion in completions]
            return [float(completion.hidden.sum()) for completion in completions]

        def cost(self, completions):
            return 0

    probe = Probe()
    tiny = LocalEngine(tiny_model(window=400), BYTES, num_workers=0, num_slots=8, keep_hidden=True)
    with tiny as engine, Served(engine, scorer=probe) as served:
        body = {"input": "x", "reasoning": {"mode": "best_of_n"}, "compute": {"n": 3, "max_reasoning_tokens": 8}}
        answer = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=body, timeout=60).json()
    assert answer["status"] in ("completed", "incomplete") and answer["usage"]["output_tokens_details"]["samples"] == 3
    assert len(probe.seen) == 3 and all(hidden is not None for hidden in probe.seen)
