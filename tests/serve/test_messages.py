"""Anthropic's Messages API, by the shapes that the `anthropic` package sends and reads."""

from __future__ import annotations

import json

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve.message_writer import StopScanner
from tests.serve.serving import KEY, Served, script

HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
ASKED = [{"role": "user", "content": "2+2?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "d", "input_schema": CITY}
SUMMARY = "**Going on**\n\nGoes over the problem once more."
ANSWER = "The answer to 2+2? is 42. 😀"
THINKS = {"type": "enabled", "budget_tokens": 500}


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def lenient():
    with (
        Served(ScriptedEngine(script, window=20_000), strict_params=False) as served,
        httpx.Client(base_url=served.url, headers=HEADERS, timeout=20) as client,
    ):
        yield client


@pytest.fixture
def read_by_model(server, monkeypatch):
    """What the model was given, request by request: (messages, thoughts put between them)."""
    seen, encode = [], server.service.encoder.encode

    async def spy(model, prompt, placed=None):
        if placed is not None:
            seen.append((prompt, [thought.text for thought in placed.values()]))
        return await encode(model, prompt, placed)

    monkeypatch.setattr(server.service.encoder, "encode", spy)
    return seen


def post(http, path="/v1/messages", **body):
    body = {"model": "scripted", "messages": ASKED, **({} if "count" in path else {"max_tokens": 900}), **body}
    return http.post(path, json=body)


def events(http, **body):
    """(kind, data) of a stream; the kind stands in the data too."""
    found = []
    for block in post(http, stream=True, **body).text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            data = json.loads(lines["data"])
            assert data["type"] == lines["event"]
            found.append(data)
    return found


def put_together(stream):
    """A message out of its events, as that package's client does it."""
    message = None
    for event in stream:
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
        elif kind == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            partial = ""
        elif kind == "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                partial += delta["partial_json"]
                block["input"] = json.loads(partial)
            else:
                (name,) = set(delta) - {"type"}
                block[name] += delta[name]
        elif kind == "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
    assert stream[-1]["type"] == "message_stop"
    return message


def error_of(response, status, kind):
    told = response.json()
    assert (response.status_code, told["type"], told["error"]["type"]) == (status, "error", kind), told
    assert told["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    return told["error"]["message"]


def test_who_did_not_ask_for_thinking_gets_the_answer_alone(http):
    response = post(http)
    told = response.json()
    assert told["content"] == [{"type": "text", "text": ANSWER}] and "THOUGHT" not in response.text
    assert (told["type"], told["role"], told["model"]) == ("message", "assistant", "scripted")
    assert (told["stop_reason"], told["stop_sequence"]) == ("end_turn", None)
    usage, details = told["usage"], told["usage"]["output_tokens_details"]
    assert details["thinking_tokens"] == len("THOUGHT about it é€😀".encode())
    assert usage["output_tokens"] == sum(details[f"{part}_tokens"] for part in ("thinking", "answer", "special"))


def test_a_thinking_block_holds_the_summary_and_a_signature(http):
    response = post(http, thinking=THINKS)
    thinking, text = response.json()["content"]
    assert (thinking["type"], thinking["thinking"], text["text"]) == ("thinking", SUMMARY, ANSWER)
    assert len(thinking["signature"]) > 300 and "THOUGHT" not in response.text
    thinking, text = post(http, thinking={"type": "adaptive", "display": "omitted"}).json()["content"]
    assert thinking["thinking"] == "" and len(thinking["signature"]) > 300


def test_the_beta_address_is_the_same(http):
    told = post(http, "/v1/messages?beta=true").json()
    assert told["content"][0]["text"] == ANSWER


def test_disabled_thinking_does_not_think(http):
    told = post(http, thinking={"type": "disabled"}, output_config={"effort": "high"}).json()
    assert told["usage"]["output_tokens_details"]["thinking_tokens"] == 0
    assert [block["type"] for block in told["content"]] == ["text"]


def test_a_budget_and_an_effort_are_taken(http):
    given = post(http, thinking={"type": "enabled", "budget_tokens": 7}).json()
    assert given["compute"]["max_reasoning_tokens"] == given["usage"]["output_tokens_details"]["thinking_tokens"] == 7
    given = post(http, thinking={"type": "adaptive"}, output_config={"effort": "low"}).json()["compute"]
    assert (given["effort"], given["max_reasoning_tokens"]) == ("low", 128)


def test_a_stream_has_the_events_in_their_order(http):
    stream = events(http, thinking=THINKS)
    kinds = [event["type"] for event in stream]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    deltas = [e["delta"]["type"] for e in stream if e["type"] == "content_block_delta"]
    assert deltas[:3] == ["thinking_delta", "signature_delta", "text_delta"] and set(deltas[2:]) == {"text_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    opened, closed = kinds.count("content_block_start"), kinds.count("content_block_stop")
    assert opened == closed == 2 and "THOUGHT" not in json.dumps(stream)
    assert stream[0]["message"]["content"] == [] and stream[0]["message"]["stop_reason"] is None


@pytest.mark.parametrize(
    "more", [{}, {"thinking": THINKS}, {"tools": [WEATHER], "messages": [{"role": "user", "content": "weather"}]}]
)
def test_a_stream_and_a_whole_message_say_the_same(http, more):
    whole, streamed = post(http, **more).json(), put_together(events(http, **more))
    hide = lambda block: {k: v for k, v in block.items() if k not in ("signature", "id")}
    assert [hide(block) for block in streamed["content"]] == [hide(block) for block in whole["content"]]
    assert streamed["stop_reason"] == whole["stop_reason"] and streamed["usage"] == whole["usage"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_the_answer_and_is_named(http, stream):
    more = {"stop_sequences": ["never said", " is 42"]}
    told = put_together(events(http, **more)) if stream else post(http, **more).json()
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", " is 42")
    assert told["content"] == [{"type": "text", "text": "The answer to 2+2?"}]


def test_the_stop_scanner_finds_the_same_in_any_portions():
    text, stops = "aab abab aabb", ("abb", "bab")
    for size in range(1, len(text)):
        scanner, said = StopScanner(stops), ""
        for at in range(0, len(text), size):
            if scanner.found is None:
                said += scanner.feed(text[at : at + size])
        assert (said, scanner.found) == ("aab a", "bab")
    scanner = StopScanner(("xy",))
    assert scanner.feed("abx") + scanner.finish() == "abx" and scanner.found is None


def test_a_limit_that_the_thinking_uses_up_is_told(http):
    response = post(http, max_tokens=5, thinking={"type": "adaptive"})
    assert response.json()["stop_reason"] == "max_tokens" and response.headers["x-reasoning-starved"] == "1"
    assert [block["type"] for block in response.json()["content"]] == ["thinking"]


def test_thinking_goes_on_across_a_tool_and_no_further(http, read_by_model):
    asked = [{"role": "user", "content": "weather?"}]
    first = post(http, tools=[WEATHER], thinking={"type": "adaptive", "display": "omitted"}, messages=asked).json()
    thinking, call = first["content"]
    assert first["stop_reason"] == "tool_use" and call["input"] == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "sun"}]}
    asked += [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    more = {"tools": [WEATHER], "thinking": {"type": "disabled"}}
    assert post(http, messages=asked, **more).json()["content"][0]["text"] == "It is sunny."
    assert read_by_model[-1][1] == ["THOUGHT I call"]
    redacted = {"type": "redacted_thinking", "data": thinking["signature"]}
    asked[1] = {"role": "assistant", "content": [redacted, call]}
    assert post(http, messages=asked, **more).status_code == 200
    assert read_by_model[-1][1] == ["THOUGHT I call"]
    # the same in an earlier turn, and changed in this one
    later = [*asked, {"role": "assistant", "content": "It is sunny."}, {"role": "user", "content": "and now?"}]
    assert post(http, messages=later, **more).status_code == 200
    assert read_by_model[-1][1] == []
    changed = {"type": "thinking", "thinking": "other words", "signature": thinking["signature"]}
    asked[1] = {"role": "assistant", "content": [changed, call]}
    assert "signature" in error_of(post(http, messages=asked, **more), 400, "invalid_request_error")
    asked[0] = {"role": "user", "content": "weather elsewhere?"}
    asked[1] = {"role": "assistant", "content": [thinking, call]}
    moved = post(http, messages=asked, **more)
    assert moved.headers["x-ponder-note"] == "thinking left out: prefix_mismatch"
    assert read_by_model[-1][1] == []


def test_a_tool_can_be_asked_for(http):
    tools = [{**WEATHER, "type": "custom", "cache_control": {"type": "ephemeral"}}]
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}):
        told = post(http, tools=tools, tool_choice=choice, messages=[{"role": "user", "content": "weather"}]).json()
        assert [block["type"] for block in told["content"]] == ["tool_use"]
    told = post(http, tools=tools, tool_choice={"type": "none"}, messages=[{"role": "user", "content": "weather"}])
    assert told.json()["content"][0]["type"] == "text"


def test_an_answer_of_a_given_form_fits_it(http):
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    asked = [{"role": "user", "content": "json always"}]
    told = post(http, messages=asked, output_config={"format": {"type": "json_schema", "schema": schema}}).json()
    assert json.loads(told["content"][0]["text"]) == {"answer": 42}


def test_system_and_blocks_reach_the_model(http, read_by_model):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert post(http, system=system, messages=[{"role": "user", "content": blocks}]).status_code == 200
    said = [(message.role, message.content) for message in read_by_model[-1][0]]
    assert said == [("developer", "Be brief."), ("user", "one\ntwo")]


def test_tokens_are_counted_as_the_request_would_be(http):
    more = {"system": "Be brief.", "tools": [WEATHER]}
    count = post(http, "/v1/messages/count_tokens", **more).json()
    assert count == {"input_tokens": post(http, **more).json()["usage"]["input_tokens"]}


REFUSED = [
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "Images are not supported"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "Documents are not supported"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "'web_search_20250305' are not run here"),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ({"messages": [*ASKED, {"role": "assistant", "content": "The"}]}, "prefill"),
    ({"thinking": {"type": "enabled", "budget_tokens": 900}}, "must be greater than"),
    ({"thinking": {"type": "enabled"}}, "budget_tokens: Field required"),
    ({"temperature": 0.2}, "`ponder serve --lenient` takes it"),
    ({"top_k": 5}, "`ponder serve --lenient` takes it"),
    ({"frobnicate": 1}, "Unknown parameter: 'frobnicate'"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]}, "No tool call found"),
]  # fmt: skip


@pytest.mark.parametrize("body, words", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(http, body, words):
    assert words in error_of(post(http, **body), 400, "invalid_request_error")


def test_errors_have_that_apis_shape(http, server):
    error_of(post(http, model="claude"), 404, "not_found_error")
    error_of(http.get("/v1/messages"), 405, "invalid_request_error")
    error_of(http.post("/v1/messages/batches", json={}), 404, "not_found_error")
    error_of(httpx.post(f"{server.url}/v1/messages", json={}), 401, "authentication_error")
    error_of(httpx.post(f"{server.url}/v1/messages", headers={"x-api-key": "sk-wrong"}), 401, "authentication_error")
    read_only = {"x-api-key": server.key("read")}
    error_of(httpx.post(f"{server.url}/v1/messages", headers=read_only, json={}), 403, "permission_error")
    error_of(post(http, messages=[{"role": "user", "content": "fail"}]), 500, "api_error")
    *_, last = events(http, messages=[{"role": "user", "content": "fail"}])
    assert (last["type"], last["error"]["type"]) == ("error", "api_error") and "SECRET" not in json.dumps(last)


def test_the_other_api_keeps_its_errors_and_takes_that_key_too(http):
    listed = http.get("/v1/models").json()
    (card,) = listed["data"]
    assert (card["id"], card["type"], card["lifecycle"], listed["has_more"]) == ("scripted", "model", "active", False)
    assert card["created_at"].endswith("Z") and card["display_name"] == "scripted"
    told = http.post("/v1/responses", json={"input": 5}).json()
    assert set(told) == {"error"}


def test_a_lenient_server_says_what_it_ignored(lenient):
    response = post(lenient, temperature=0.2, top_k=5, top_p=1)
    assert response.status_code == 200 and response.headers["x-ponder-note"] == "temperature ignored; top_k ignored"


def test_a_lenient_server_ignores_how_a_conversation_is_kept(http, lenient):
    kept = {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}
    assert "--lenient" in error_of(post(http, **kept), 400, "invalid_request_error")
    response = post(lenient, **kept)
    assert (response.status_code, response.headers["x-ponder-note"]) == (200, "context_management ignored")
