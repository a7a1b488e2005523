"""What is no JSON of the wire is refused where it enters: other encodings, numbers that cannot be written down."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import httpx
import pytest
from pydantic import ValidationError

from ponder.serve import schema
from ponder.serve.approvals import ApprovalAnswers, settle
from ponder.serve.errors import ApiError
from ponder.serve.items import conversation, normalised
from ponder.serve.messages_schema import MessagesRequest
from ponder.serve.strict_json import strict_json
from tests.serve.serving import KEY

MANY = [1] * 2000


def post(server, content, path="/v1/responses", **headers):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    return httpx.post(server.url + path, content=content, timeout=30, headers=headers)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1"])
def test_a_body_that_is_not_utf_8_is_refused(server, encoding):
    answer = post(server, '{"input": "\\ud800 é"}'.encode(encoding))
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"


def test_a_body_in_utf_8_is_taken_with_its_mark_and_with_half_characters(server):
    for body in (b"\xef\xbb\xbf" + b'{"input": "x"}', b'{"input": "\\ud800"}', b'{"input": "\xed\xa0\x80"}'):
        assert post(server, body).status_code == 200


def test_a_packed_body_is_refused_with_the_reason(server):
    answer = post(server, gzip.compress(b'{"input": "x"}'), **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415 and "Content-Encoding" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", ["1e999", "-1e400", "NaN", "Infinity"])
@pytest.mark.parametrize(
    "body",
    [
        '{"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"maximum": %s}}}}',
        '{"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"maximum": %s}}]}',
        '{"input": [{"type": "mcp_list_tools", "server_label": "a", "tools": [{"a": %s}]}]}',
        '{"input": "x", "client_metadata": {"a": %s}}',
    ],
)
def test_a_number_that_no_json_can_hold_is_refused_and_never_comes_back(server, body, number):
    answer = post(server, (body % number).encode())
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"


def test_numbers_are_read_as_they_are_written():
    assert strict_json("[1e3, -0.5, 12345678901234567890]") == [1000.0, -0.5, 12345678901234567890]
    for text in ("1e999", "[NaN]", "-Infinity"):
        with pytest.raises(ValueError, match="no number of JSON"):
            strict_json(text)
    assert json.loads("1e999") == float("inf")  # what Python would do


class Noted:
    """A store that keeps the order of the rows that were asked for."""

    def __init__(self):
        self.order = []

    async def do(self, work):
        return work()

    def add_approval(self, name):
        self.order.append(name)
        return self.order.count(name) == 1


def test_requests_that_answer_the_same_calls_in_any_order_write_them_in_one():
    """PostgreSQL locks each row when it is written: in two orders, two requests would wait for each other."""
    orders = []
    for names in (["b", "a", "c"], ["c", "b", "a"]):
        store = Noted()
        asyncio.run(settle(store, ApprovalAnswers([{"id": name} for name in names[:2]], names[2:])))
        orders.append(store.order)
    assert orders[0] == orders[1] == ["a", "b", "c"]
    with pytest.raises(ApiError, match="answered before"):
        asyncio.run(settle(store, ApprovalAnswers([{"id": "a"}], [])))


@pytest.mark.parametrize("depth", [3000, *range(880, 1001, 8)])
def test_arguments_of_a_call_that_are_too_deep_for_json_are_a_text_like_any_other(server, depth):
    arguments = "[" * depth + ("]" * depth if depth < 2000 else "")
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": arguments}
    asked = [{"role": "user", "content": "x"}, call, {"type": "function_call_output", "call_id": "c", "output": "y"}]
    assert post(server, json.dumps({"input": asked}).encode()).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (schema.ResponseRequest, {"input": [{"role": "user", "content": MANY}]}),
        (schema.ResponseRequest, {"input": [{"type": "reasoning", "summary": MANY}]}),
        (schema.ResponseRequest, {"input": "x", "include": MANY}),
        (schema.ResponseRequest, {"input": "x", "metadata": dict.fromkeys(map(str, range(2000)), 1)}),
        (schema.ResponseRequest, {"input": "x", "reasoning": dict.fromkeys(map(str, range(2000)), 1)}),
        (schema.ChatRequest, {"model": "x", "messages": [{"role": "assistant", "tool_calls": [{}] * len(MANY)}]}),
        (MessagesRequest, {"model": "x", "max_tokens": 1, "messages": [{"role": "user", "content": MANY}]}),
    ],
)
def test_a_request_of_many_mistakes_is_refused_at_the_first(model, data):
    """Each as an object would take a kilobyte, and a request has room for millions."""
    with pytest.raises(ValidationError) as told:
        model.model_validate(data)
    assert told.value.error_count() < 20


def test_a_long_conversation_is_put_together_in_time_that_grows_with_it():
    items = [normalised({"role": "assistant", "content": "a" * 1000}) for _ in range(4000)]
    begun = time.process_time()
    messages, _ = conversation(items, {})
    assert [len(message.content) for message in messages] == [4000 * 1001 - 1] and time.process_time() - begun < 1
