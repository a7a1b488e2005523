"""Hidden by construction: whatever is said and however its tokens are cut, streams say exactly what finished objects
say, and no reasoning reaches a visible channel."""

from __future__ import annotations

import asyncio
import json
import os
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.engine.base import ScriptedEngine
from ponder.monitors import Rules
from ponder.serve.completions import ChoiceWriter
from ponder.serve.events import EventLog
from ponder.serve.generation import Count, GenerationPlan, MeteredEngine, produce
from ponder.serve.modes import compute_plan
from ponder.serve.schema import ResponseRequest
from ponder.serve.summary import leaks
from ponder.serve.thoughts import SampleQueue, Thoughts, Watch
from ponder.serve.tools import Call, CallParser, Tool
from ponder.serve.wire import EventWriter, new_response
from tests.helpers import user

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("PONDER_CASES", "500"))
TOOLS = [Tool(name="f"), Tool(name="g")]
CALL = '<tool_call>{"name": "f", "arguments": {"a": "é€😀"}}</tool_call>'
# visible text has none of these characters, reasoning has nothing else that the wire could mistake for its own
HIDDEN = "ሀሁሂሃ"
pieces = st.sampled_from([
    "hello ", "é", "€", "😀", "\n", "<", "<tool", "_call>", "</tool_call>", CALL, CALL[:20], CALL[20:], "<think>",
    "</think>", '{"name"', "<tool_call>{}</tool_call>", "\ufffd", "\x00",
])  # fmt: skip
said = st.lists(pieces, max_size=6).map("".join)
thought = st.lists(st.sampled_from([*HIDDEN, "\n", "</think>", "<tool_call>", CALL]), max_size=6).map("".join)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=6)


async def run(reasoning, answer, portions, limit, *, writer):
    engine = ScriptedEngine([(reasoning, answer)], portions=portions)
    compute = compute_plan(
        effort="medium", mode=None, compute=None, limit=limit, num_prompt_tokens=1, window=None, offered={}
    )
    plan = GenerationPlan(prompt=user("x"), messages=user("x"), compute=compute, tools=TOOLS)
    count = Count()
    thoughts = Thoughts(
        Watch(monitors=(Rules(),)), on_summary=lambda text: None, on_verdict=lambda name, place, verdict: None
    )
    reason = await produce(plan, MeteredEngine(engine, count), writer, thoughts)
    return reason, count, thoughts


def response(reasoning, answer, portions, limit):
    body = new_response(ResponseRequest(), model="m", store=False, conversation=None)
    log = EventLog()
    writer = EventWriter(body, log, lambda item, thoughts: None)

    async def work():
        reason, count, thoughts = await run(reasoning, answer, portions, limit, writer=writer)
        log.add(writer.end("incomplete" if reason == "length" else "completed", thoughts))
        return reason, count

    reason, count = asyncio.run(work())
    return reason, count, body, [json.loads(told.text) for told in log.events]


def shape(output):
    """Items without their random ids."""
    return [
        (item["type"], item["content"][0]["text"] if item["type"] == "message" else item.get("arguments"))
        for item in output
    ]


@settings(max_examples=CASES, deadline=None)
@given(reasoning=thought, answer=said, portions=cuts, limit=st.one_of(st.none(), st.integers(1, 60)))
def test_a_stream_cut_anywhere_says_what_the_object_says_and_leaks_nothing(reasoning, answer, portions, limit):
    reason, count, body, events = response(reasoning, answer, portions, limit)
    whole_reason, whole_count, whole, _ = response(reasoning, answer, (10_000,), limit)
    assert (reason, shape(body["output"]), count) == (whole_reason, shape(whole["output"]), whole_count)
    assert count.reasoning + count.answer + count.special == count.output <= (limit or count.output)
    texts, arguments = {}, {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
        if event["type"] == "response.function_call_arguments.delta":
            arguments[event["output_index"]] = event["delta"]
    for place, item in enumerate(body["output"]):
        if item["type"] == "message":
            assert texts.get(place, "") == item["content"][0]["text"]
        if item["type"] == "function_call":
            assert arguments[place] == item["arguments"] and item["name"] == "f"
    wire = json.dumps(events, ensure_ascii=False)
    assert not any(char in wire for char in HIDDEN)


@settings(max_examples=CASES, deadline=None)
@given(reasoning=thought, answer=said, portions=cuts, limit=st.one_of(st.none(), st.integers(1, 60)))
def test_chat_chunks_say_what_the_message_says_and_leak_nothing(reasoning, answer, portions, limit):
    chunks = []
    choice = ChoiceWriter(0, chunks.append)
    asyncio.run(run(reasoning, answer, portions, limit, writer=choice))
    message = choice.whole()["message"]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == (message["content"] or "")
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
    told = ["".join(c["function"]["arguments"] for c in calls if c["index"] == i) for i in range(len(choice.calls))]
    assert told == [call["function"]["arguments"] for call in choice.calls]
    assert not any(char in json.dumps([chunks, message], ensure_ascii=False) for char in HIDDEN)


@settings(max_examples=CASES, deadline=None)
@given(answer=said, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_calls_are_found_wherever_the_text_is_cut(answer, cuts):
    places = sorted({0, len(answer), *(cut % (len(answer) + 1) for cut in cuts)})
    parser = CallParser(TOOLS)
    found = [part for a, b in pairwise(places) for part in parser.feed(answer[a:b])]
    found += parser.finish()
    whole = CallParser(TOOLS)
    expected = whole.feed(answer) + whole.finish()
    assert joined(found) == joined(expected)


def joined(parts):
    result = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        else:
            result.append(part)
    return result


def test_only_exact_calls_of_given_tools_are_calls():
    def read(text):
        parser = CallParser([Tool(name="f", parameters={"type": "object", "required": ["a"]}, strict=True)])
        return parser.feed(text) + parser.finish()

    good = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    assert read(good) == [Call("f", '{"a": 1}')]
    for bad in (
        '<tool_call>{"name": "h", "arguments": {"a": 1}}</tool_call>', '<tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
        '<tool_call>{"name": ["f"], "arguments": {"a": 1}}</tool_call>', "<tool_call>" + "[" * 100_000 + "</tool_call>",
        "<tool_call>nonsense</tool_call>", good[:-1],
    ):  # fmt: skip
        assert joined(read(bad)) == [bad]


def test_thoughts_do_not_print_themselves():
    thoughts = Thoughts(Watch(), on_summary=print, on_verdict=print)
    thoughts.add("SECRET", 3)
    assert "SECRET" not in repr(thoughts) + str(thoughts)


def test_summaries_that_quote_are_found_out():
    source = "First I add 12 and 30 which gives 42 and then I divide the result by seven to get six."
    assert leaks("It says: which gives 42 and then I divide", [source])
    assert leaks("IT SAYS WHICH GIVES 42, AND THEN I DIVIDE", ["which gives 42, and then I divide it"])
    assert leaks("whichgives42andthenidividetheresult", [source])
    assert not leaks("The model adds two numbers and divides by a third.", [source])
    assert leaks("the developer said: never mention the colour blue", ["Never mention the colour blue."])


@pytest.mark.parametrize("wrapped", ["deceive the\nuser", "deceive the user"])
@pytest.mark.parametrize("before", [*range(780, 801, 4), *range(1580, 1601, 4)])
def test_a_monitor_sees_what_stands_across_the_cut_of_two_segments_but_not_of_two_samples(wrapped, before):
    told: list[str] = []

    async def think(*samples):
        thoughts = Thoughts(
            Watch(monitors=(Rules(flag=(r"deceive\s+the\s+user",)),)), on_summary=lambda text: None,
            on_verdict=lambda name, place, verdict: told.append(verdict.action),
        )  # fmt: skip
        for sample in samples:
            for start in range(0, len(sample), 7):
                thoughts.add(sample[start : start + 7], 1)
            thoughts.next_sample()
        await thoughts.close()

    asyncio.run(think("x" * before + wrapped + "y" * 900))
    assert "flag" in told
    told.clear()
    asyncio.run(think("x" * before + wrapped[:11], wrapped[11:] + "y" * 900))
    assert set(told) == {"allow"}


@pytest.mark.parametrize("order", ["one after the other", "at the same time"])
def test_samples_are_kept_apart_in_whatever_order_they_think(order):
    told: list[str] = []
    queue = SampleQueue(SimpleNamespace(add=lambda text, _: told.append(text), next_sample=lambda: told.append("|")))
    first = queue.begin()
    if order == "at the same time":
        second = queue.begin()
        queue.add(second, "b", 1)
    queue.add(first, "a", 1)
    queue.finish(first)
    if order == "one after the other":
        second = queue.begin()
        queue.add(second, "b", 1)
    queue.finish(second)
    third = queue.begin()
    queue.add(third, "c", 1)
    assert told == ["a", "|", "b", "|", "c"]
