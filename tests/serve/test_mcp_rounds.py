"""`mcp` tools of the Responses API: calls of servers that the operator named, inside a response."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve.mcp import ServerSpec, make_server
from tests.serve.serving import KEY, Served

MCP = {"type": "mcp", "server_label": "desk", "require_approval": "never"}


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def broken() -> str:
    """Fail."""
    raise RuntimeError("hunter2")


async def slow() -> str:
    """Wait."""
    await asyncio.sleep(30)
    return "late"


def call(name: str, arguments: str = "{}") -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def script(text: str, seed: int):
    """Calls by words of the question; an answer that quotes the last result. Reasoning is marked by SECRET."""
    if "<tool_response>" in text:
        result = text.split("\n")[1]
        if result == "3":
            return "SECRET once more", call("desk.add", '{"a": 3, "b": 4}')
        return "SECRET done", f"It is {result}."
    if "forever" in text:
        return "SECRET", call("desk.add", '{"a": 1, "b": 1}')
    if "broken" in text:
        return "SECRET", call("desk.broken")
    if "slow" in text:
        return "SECRET", call("desk.slow")
    if "mixed" in text:
        return "SECRET", call("desk.add", '{"a": 5, "b": 5}') + call("mine", '{"x": 1}')
    if "hidden call" in text:
        return f"SECRET {call('desk.add', '{}')}", "I only thought of it."
    return "SECRET first", "Let me add. " + call("desk.add", '{"a": 1, "b": 2}')


@pytest.fixture(scope="module")
def server():
    desk = make_server("desk", [add, broken, slow], instructions="")
    with Served(ScriptedEngine(script), mcp=[ServerSpec(label="desk", address=desk)]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0)


def made(client, text, *tools, **more):
    return client.responses.create(model="scripted", input=text, tools=list(tools) or [MCP], **more)


def test_calls_are_made_here_round_by_round_until_an_answer_calls_nothing(client):
    response = made(client, "sum")
    kinds = [item.type for item in response.output]
    assert kinds == [
        "mcp_list_tools", "reasoning", "message", "mcp_call", "reasoning", "mcp_call", "reasoning", "message",
    ]  # fmt: skip
    first, second = (item for item in response.output if item.type == "mcp_call")
    assert (first.server_label, first.name, first.output, first.status) == ("desk", "add", "3", "completed")
    assert json.loads(second.arguments) == {"a": 3, "b": 4} and second.output == "7"
    assert response.output[-1].content[0].text == "It is 7." and response.status == "completed"
    assert [tool.name for tool in response.output[0].tools] == ["add", "broken", "slow"]


def test_reasoning_of_every_round_stays_hidden_and_is_counted(client):
    response = made(client, "sum")
    assert "SECRET" not in response.model_dump_json()
    details = response.usage.output_tokens_details
    assert details.reasoning_tokens > len("SECRET first") and response.usage.input_tokens > 0
    assert details.samples == 3
    sealed = [item.encrypted_content for item in response.output if item.type == "reasoning"]
    assert len(set(sealed)) == 3 and all(sealed)


def test_reasoning_that_spells_a_call_calls_nothing(client):
    response = made(client, "a hidden call")
    assert [item.type for item in response.output] == ["mcp_list_tools", "reasoning", "message"]


def test_a_stream_tells_the_same_in_order(client):
    events = list(made(client, "sum", stream=True))
    kinds = [event.type for event in events]
    for kind in ("mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_call.in_progress",
                 "mcp_call_arguments.done", "mcp_call.completed"):  # fmt: skip
        assert f"response.{kind}" in kinds
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    done = [event.item.id for event in events if event.type == "response.output_item.done"]
    assert added == [item.id for item in final.output] and sorted(added) == sorted(done)
    assert "SECRET" not in "".join(event.model_dump_json() for event in events)


def test_what_goes_wrong_is_told_to_the_model_and_shown_without_the_cause(client):
    response = made(client, "broken")
    (failed,) = (item for item in response.output if item.type == "mcp_call")
    assert failed.status == "failed" and failed.output is None and failed.error.type == "mcp_tool_execution_error"
    assert "hunter2" not in response.model_dump_json()
    assert response.output[-1].content[0].text.startswith("It is error: ")


def test_a_conversation_goes_on_after_calls_stored_or_sent_back(client):
    first = made(client, "sum")
    stored = made(client, "sum again", previous_response_id=first.id)
    assert stored.output[-1].content[0].text == "It is 7."
    assert "mcp_list_tools" not in [item.type for item in stored.output]  # they were told before
    items = [{"role": "user", "content": "sum"}, *(item.model_dump(exclude_none=True) for item in first.output)]
    sent = client.responses.create(
        model="scripted", store=False, tools=[MCP], input=[*items, {"role": "user", "content": "sum again"}]
    )
    assert sent.output[-1].content[0].text == "It is 7."


def test_a_request_may_allow_fewer_tools_and_fewer_calls(client):
    only = made(client, "broken", {**MCP, "allowed_tools": ["add"]})
    assert [item.type for item in only.output] == ["mcp_list_tools", "reasoning", "message"]  # the call stays text
    assert [tool.name for tool in only.output[0].tools] == ["add"]
    limited = made(client, "sum", max_tool_calls=1)
    assert [item.type for item in limited.output].count("mcp_call") == 1
    assert limited.status == "completed" and limited.output[-1].type == "message"


def test_rounds_end_where_a_model_never_does(client):
    calls = iter(range(10**6))
    engine = ScriptedEngine(lambda text, seed: ("SECRET", call("desk.add", f'{{"a": {next(calls)}, "b": 1}}')))
    desk = make_server("desk", [add], instructions="")
    with Served(engine, mcp=[ServerSpec(label="desk", address=desk)]) as server:
        own = openai.OpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0)
        response = made(own, "x")
    assert [item.type for item in response.output].count("mcp_call") == 16
    assert response.status == "completed" and response.output[-1].type == "message"


def test_a_limit_on_output_is_one_of_all_rounds(client):
    response = made(client, "sum", max_output_tokens=110)
    assert response.status == "incomplete" and response.usage.output_tokens <= 110


def test_functions_of_the_client_are_called_by_the_client(client):
    function = {"type": "function", "name": "mine", "parameters": {"type": "object"}}
    response = made(client, "mixed", MCP, function)
    assert [item.type for item in response.output][-2:] == ["mcp_call", "function_call"]
    assert response.output[-2].output == "10"
    (mine,) = (item for item in response.output if item.type == "function_call")
    after = client.responses.create(
        model="scripted", tools=[MCP, function], previous_response_id=response.id,
        input=[{"type": "function_call_output", "call_id": mine.call_id, "output": "eleven"}],
    )  # fmt: skip
    assert after.output[-1].content[0].text == "It is eleven."


def test_a_response_that_is_left_ends_while_its_tool_runs(client):
    response = made(client, "slow", background=True)
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    for item in cancelled.output:
        if item.type == "mcp_call":
            assert item.status == "failed"


REFUSED = [
    ({**MCP, "server_url": "http://169.254.169.254/"}, "tools[0].server_url", "do not say where"),
    ({**MCP, "connector_id": "connector_gmail"}, "tools[0].connector_id", "do not say where"),
    ({**MCP, "authorization": "token"}, "tools[0].authorization", "do not say where"),
    ({**MCP, "headers": {"x": "y"}}, "tools[0].headers", "do not say where"),
    ({**MCP, "server_label": "other"}, "tools[0].server_label", "there is 'desk'"),
    ({**MCP, "allowed_tools": ["rm"]}, "tools[0].allowed_tools", "'rm' is no tool of 'desk'"),
    ({**MCP, "unheard_of": 1}, "tools[0].unheard_of", "Unknown parameter"),
]


@pytest.mark.parametrize("tool, param, words", REFUSED)
def test_a_request_decides_neither_where_to_connect_nor_what_is_allowed(client, tool, param, words):
    with pytest.raises(openai.BadRequestError) as error:
        made(client, "sum", tool)
    assert error.value.body["param"] == param and words in error.value.body["message"]


def test_without_servers_mcp_tools_are_refused_or_left_out_with_a_note():
    for lenient in (False, True):
        with Served(ScriptedEngine(lambda text, seed: "plain"), strict_params=not lenient) as server:
            own = openai.OpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0)
            if not lenient:
                with pytest.raises(openai.BadRequestError, match="'mcp' is not run here"):
                    made(own, "x")
                continue
            raw = own.responses.with_raw_response.create(model="scripted", input="x", tools=[MCP])
            assert "mcp is not run here" in raw.headers["x-ponder-note"]
