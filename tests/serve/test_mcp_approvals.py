"""Approvals of MCP tool calls: nothing is called before a yes, a yes is for one call, of one owner, once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve import approvals
from ponder.serve.mcp import ServerSpec, make_server
from tests.serve.serving import KEY, Served

ASK = {"type": "mcp", "server_label": "desk"}  # as in the Responses API: what is not said needs approval
MADE: list[str] = []  # what was really called


async def read(name: str) -> str:
    """Read a note."""
    MADE.append(f"read {name}")
    return f"note {name}"


async def drop(name: str) -> str:
    """Delete a note."""
    MADE.append(f"drop {name}")
    return f"dropped {name}"


def call(name: str, arguments: str) -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


def script(text: str, seed: int):
    """Calls by words of the question; an answer that quotes the last result, and how much reasoning came back."""
    if "<tool_response>" in text:
        return "SECRET after", f"It says: {text.split(chr(10))[1]}"
    if "forever" in text:
        return "SECRET", call("desk.drop", '{"name": "c"}')
    if "both" in text:
        return "SECRET", call("desk.drop", '{"name": "a"}') + call("desk.drop", '{"name": "b"}')
    if "mixed" in text:
        return "SECRET", call("desk.read", '{"name": "a"}') + call("desk.drop", '{"name": "a"}')
    return "SECRET first", "Shall I? " + call("desk.drop", '{"name": "a"}')


@pytest.fixture(scope="module")
def server():
    desk = make_server("desk", [read, drop], instructions="")
    with Served(ScriptedEngine(script), mcp=[ServerSpec(label="desk", address=desk)]) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh():
    MADE.clear()


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


def client_of(server, key=KEY):
    return openai.OpenAI(api_key=key, base_url=f"{server.url}/v1", max_retries=0)


def made(client, given, *tools, **more):
    return client.responses.create(model="scripted", input=given, tools=list(tools) or [ASK], **more)


def asked(response):
    return [item for item in response.output if item.type == "mcp_approval_request"]


def answer(request, approve=True, **more):
    name = request if isinstance(request, str) else request.id
    return {"type": "mcp_approval_response", "approval_request_id": name, "approve": approve, **more}


def unused(response):
    """Why reasoning that was sent is not used. Newer clients have a field for it."""
    return [each["reason"] for each in response.model_dump(mode="json").get("input_transformations") or []]


def refused(client, given, *tools, **more):
    with pytest.raises(openai.BadRequestError) as error:
        made(client, given, *tools, **more)
    return error.value.body["message"]


# --- the round trip --------------------------------------------------------------------------------------------------


def test_a_call_waits_for_its_approval_and_is_made_once_it_has_it(client):
    first = made(client, "drop it")
    assert [item.type for item in first.output] == ["mcp_list_tools", "reasoning", "message", "mcp_approval_request"]
    (request,) = asked(first)
    assert first.status == "completed" and MADE == []
    assert (request.server_label, request.name, json.loads(request.arguments)) == ("desk", "drop", {"name": "a"})
    second = made(client, [answer(request)], previous_response_id=first.id)
    assert [item.type for item in second.output] == ["mcp_call", "reasoning", "message"]
    ran = second.output[0]
    assert (ran.output, ran.approval_request_id, ran.arguments) == ("dropped a", request.id, request.arguments)
    assert second.output[-1].content[0].text == "It says: dropped a" and MADE == ["drop a"]
    assert "SECRET" not in first.model_dump_json() + second.model_dump_json()


def test_a_refusal_is_told_to_the_model_and_nothing_is_called(client):
    first = made(client, "drop it")
    second = made(client, [answer(asked(first)[0], False, reason="I need it")], previous_response_id=first.id)
    assert second.output[-1].content[0].text.endswith("the user refused it: I need it")
    assert MADE == [] and "mcp_call" not in [item.type for item in second.output]


def test_a_call_that_nobody_answers_is_not_made(client):
    first = made(client, "drop it")
    second = made(client, "what now?", previous_response_id=first.id)
    assert second.status == "completed" and MADE == []


def test_items_that_a_client_keeps_itself_do_as_well_and_the_talk_goes_on(client):
    asking = {"role": "user", "content": "drop it"}
    first = made(client, [asking], store=False)
    items = [asking, *(item.model_dump(exclude_none=True) for item in first.output), answer(asked(first)[0])]
    second = made(client, items, store=False)
    assert MADE == ["drop a"] and second.output[-1].content[0].text == "It says: dropped a"
    items += [item.model_dump(exclude_none=True) for item in second.output]
    third = made(client, [*items, {"role": "user", "content": "drop it again"}], store=False)
    assert MADE == ["drop a"] and third.status == "completed"  # an answer that was acted on is history


def test_reasoning_of_the_turn_is_kept_over_an_approval_and_dropped_at_its_end(client):
    asking = {"role": "user", "content": "drop it"}
    first = made(client, [asking], store=False)
    items = [asking, *(item.model_dump(exclude_none=True) for item in first.output)]
    second = made(client, [*items, answer(asked(first)[0])], store=False)
    assert unused(second) == []
    third = made(client, [*items, {"role": "user", "content": "drop it"}], store=False)
    assert unused(third) == ["turn_boundary"]
    # of the second round too: it is bound to what was approved and to what came of it
    items += [answer(asked(first)[0]), *(item.model_dump(exclude_none=True) for item in second.output)]
    sent = made(client, [*items, {"role": "user", "content": "drop it"}], store=False)
    assert unused(sent) == 2 * ["turn_boundary"]


def test_a_stream_tells_of_the_request_and_the_call(client):
    events = list(made(client, "drop it", stream=True))
    (request,) = asked(events[-1].response)
    for kind in ("response.output_item.added", "response.output_item.done"):
        assert request.id in [event.item.id for event in events if event.type == kind]
    events = list(made(client, [answer(request)], previous_response_id=events[-1].response.id, stream=True))
    assert "response.mcp_call.completed" in [event.type for event in events] and MADE == ["drop a"]


def test_of_several_calls_each_has_its_own_answer(client):
    first = made(client, "both")
    one, two = asked(first)
    second = made(client, [answer(two), answer(one, False)], previous_response_id=first.id)
    assert MADE == ["drop b"] and second.status == "completed"


RULES = [
    ("always", {"read", "drop"}), (None, {"read", "drop"}), ("never", set()),
    ({"never": {"tool_names": ["read"]}}, {"drop"}), ({"always": {"tool_names": ["drop"]}}, {"read", "drop"}),
]  # fmt: skip


@pytest.mark.parametrize("rule, waiting", RULES)
def test_the_tools_that_need_no_approval_are_called_at_once(client, rule, waiting):
    response = made(client, "mixed", {**ASK, **({} if rule is None else {"require_approval": rule})})
    assert {request.name for request in asked(response)} == waiting
    assert {word.split()[0] for word in MADE} == {"read", "drop"} - waiting


def test_a_background_response_stops_and_goes_on_too(client):
    def ended(response):
        until = time.monotonic() + 20
        while response.status in ("queued", "in_progress") and time.monotonic() < until:
            time.sleep(0.02)
            response = client.responses.retrieve(response.id)
        return response

    first = ended(made(client, "drop it", background=True))
    second = ended(made(client, [answer(asked(first)[0])], previous_response_id=first.id, background=True))
    assert second.output[-1].content[0].text == "It says: dropped a" and MADE == ["drop a"]


def test_a_conversation_keeps_what_was_asked_and_answered(client):
    talk = client.conversations.create()
    first = made(client, "drop it", conversation=talk.id)
    made(client, [answer(asked(first)[0])], conversation=talk.id)
    kinds = [item.type for item in client.conversations.items.list(talk.id, order="asc")]
    assert kinds[-5:] == ["mcp_approval_request", "mcp_approval_response", "mcp_call", "reasoning", "message"]
    assert MADE == ["drop a"]


# --- answers that do not count ---------------------------------------------------------------------------------------


def test_an_approval_counts_once(client):
    first = made(client, "drop it")
    yes = answer(asked(first)[0])
    second = made(client, [yes], previous_response_id=first.id)
    assert "was answered before" in refused(client, [yes], previous_response_id=first.id)
    assert "was answered before" in refused(client, [yes], previous_response_id=second.id)
    assert MADE == ["drop a"]


def test_after_a_no_a_yes_counts_no_more(client):
    first = made(client, "drop it")
    made(client, [answer(asked(first)[0], False)], previous_response_id=first.id)
    assert "was answered before" in refused(client, [answer(asked(first)[0])], previous_response_id=first.id)
    assert MADE == []


def test_of_approvals_that_come_at_the_same_moment_one_is_acted_on(client):
    first = made(client, "drop it")

    def approve(_):
        try:
            return made(client, [answer(asked(first)[0])], previous_response_id=first.id).status
        except openai.BadRequestError:
            return "refused"

    with ThreadPoolExecutor(6) as threads:
        found = sorted(threads.map(approve, range(6)))
    assert found.count("completed") == 1 and set(found) <= {"completed", "failed", "refused"}
    assert MADE == ["drop a"]


def test_two_answers_to_one_request_are_refused(client):
    first = made(client, "drop it")
    message = refused(client, [answer(asked(first)[0]), answer(asked(first)[0], False)], previous_response_id=first.id)
    assert "was answered before" in message and MADE == []


def posted(server, body):
    """A body as it is, half surrogates too, which no client's JSON would carry."""
    return httpx.post(
        f"{server.url}/v1/responses", content=json.dumps({"model": "scripted", "tools": [ASK], **body}),
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mcpr_never", "", "x" * 500, "mcpr_\ud800", "'; DROP TABLE approvals; --"])
def test_an_id_that_never_was_is_refused(client, server, name):
    first = made(client, "drop it")
    found = posted(server, {"previous_response_id": first.id, "input": [answer(name)]})
    assert found.status_code == 400 and "does not stand before" in found.json()["error"]["message"]
    assert MADE == []


def items_of(response):
    return [item.model_dump(exclude_none=True) for item in response.output]


CHANGES = [
    {"arguments": '{"name": "everything"}'}, {"name": "read"}, {"id": "mcpr_" + "0" * 58},
    {"arguments": '{"name": "\ud800"}'}, {"id": "abcd"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_call_that_is_not_the_one_that_was_asked_for_is_never_made(client, server, change):
    asking = {"role": "user", "content": "drop it"}
    first = made(client, [asking], store=False)
    items = [item | change if item["type"] == "mcp_approval_request" else item for item in items_of(first)]
    name = change.get("id", asked(first)[0].id)
    found = posted(server, {"store": False, "input": [asking, *items, answer(name)]})
    assert found.status_code == 400 and "was not asked here" in found.json()["error"]["message"], found.text
    assert MADE == []


def test_what_was_asked_of_one_owner_nobody_else_approves(server):
    mine, theirs = (client_of(server, server.key("infer", owner=owner)) for owner in ("me", "them"))
    asking = {"role": "user", "content": "drop it"}
    first = made(mine, [asking])
    assert "not found" in refused(theirs, [answer(asked(first)[0])], previous_response_id=first.id)
    items = [item for item in items_of(first) if item["type"] != "reasoning"]
    assert "was not asked here" in refused(theirs, [asking, *items, answer(asked(first)[0])])
    message = refused(mine, [answer(asked(first)[0])], previous_response_id=first.id, safety_identifier="another user")
    assert "was not asked here of this key and user" in message and MADE == []


def test_an_approval_does_not_bring_back_a_tool_that_the_request_leaves_out(client):
    first = made(client, "drop it")
    message = refused(client, [answer(asked(first)[0])], {**ASK, "allowed_tools": ["read"]},
                      previous_response_id=first.id)  # fmt: skip
    assert "which the tools of this request do not have" in message and MADE == []


def test_more_approvals_than_calls_are_allowed_are_refused(client):
    first = made(client, "both")
    message = refused(client, [answer(each) for each in asked(first)], previous_response_id=first.id, max_tool_calls=1)
    assert "2 calls are approved, and 1 are the most" in message and MADE == []


def test_a_request_for_more_calls_does_not_raise_how_many_it_may_approve(client, monkeypatch):
    monkeypatch.setattr(approvals, "MOST_AT_ONCE", 1)
    first = made(client, "both")
    message = refused(client, [answer(each) for each in asked(first)], previous_response_id=first.id, max_tool_calls=99)
    assert "2 calls are approved, and 1 are the most" in message and MADE == []


def test_an_old_request_is_refused_and_so_is_one_of_another_secret(client, server, monkeypatch):
    first = made(client, "drop it")
    monkeypatch.setattr(approvals, "LIFETIME", -1)
    assert "ask again" in refused(client, [answer(asked(first)[0])], previous_response_id=first.id)
    monkeypatch.undo()
    monkeypatch.setattr(server.service.vault, "_secret", b"another secret of thirty-two bytes")
    assert "was not asked here" in refused(client, [answer(asked(first)[0])], previous_response_id=first.id)
    assert MADE == []


BAD = [
    ({**ASK, "require_approval": "sometimes"}, "require_approval"),
    ({**ASK, "require_approval": {"never": {"tool_names": ["rm"]}}}, "'rm' is none of its tools"),
    ({**ASK, "require_approval": {"never": {"read_only": True}}}, "read_only"),
    ({**ASK, "require_approval": {key: {"tool_names": ["read"]} for key in ("always", "never")}}, "under both"),
]


@pytest.mark.parametrize("tool, words", BAD)
def test_a_rule_that_cannot_be_held_is_refused(client, tool, words):
    assert words in refused(client, "drop it", tool)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_an_answer_that_is_neither_yes_nor_no_is_refused(client, value):
    first = made(client, "drop it")
    message = refused(client, [answer(asked(first)[0], value)], previous_response_id=first.id)
    assert "approve" in message and MADE == []
