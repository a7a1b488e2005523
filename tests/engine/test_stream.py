"""Streams: pieces add up to the completion, however the tokens are cut, and running work can be stopped or hurried."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.engine.base import BaseEngine, ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.engine.stream import Splitter, TextStream
from ponder.models.tokenizer import ByteTokenizer, split_reasoning
from ponder.types import Piece, SamplingParams
from tests.helpers import tiny_model, user

BYTES = ByteTokenizer()
PARAMS = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=12, seed=3)


async def read(stream, delay=0.0):
    whole = Piece()
    async for piece in stream:
        whole += piece
        await asyncio.sleep(delay)
    return whole, stream.completion


def splitter_of(**options):
    marks = {"think_id": BYTES.think_id, "unthink_id": BYTES.unthink_id, "end_ids": BYTES.end_ids}
    return Splitter(BYTES.decode, **marks, **options)


def portions(ids, cuts):
    places = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    return [ids[a:b] for a, b in pairwise(places)]


@settings(max_examples=500, deadline=None)
@given(ids=st.lists(st.integers(0, 255), max_size=40), cuts=st.lists(st.integers(0, 100), max_size=10))
def test_any_bytes_cut_anywhere_decode_as_the_whole(ids, cuts):
    text = TextStream(BYTES.decode)
    assert "".join(map(text.feed, portions(ids, cuts))) + text.finish() == BYTES.decode(ids)


@settings(max_examples=500, deadline=None)
@given(
    text=st.text(st.sampled_from("aé€😀\n\nb"), max_size=30),
    stops=st.lists(st.text(st.sampled_from("aé€\nb"), min_size=1, max_size=3), max_size=2),
    cuts=st.lists(st.integers(0, 100), max_size=10),
)
def test_the_stop_string_that_is_complete_first_ends_the_text_wherever_it_is_cut(text, stops, cuts):
    stream = TextStream(BYTES.decode, stops)
    told = "".join(map(stream.feed, portions(BYTES.encode(text), cuts))) + stream.finish()
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert told == text[: min(ends, default=(0, len(text)))[1]]


@settings(max_examples=500, deadline=None)
@given(
    thought=st.text(max_size=8), said=st.text(max_size=8), closes=st.booleans(), ends=st.booleans(),
    cuts=st.lists(st.integers(0, 100), max_size=8),
)  # fmt: skip
def test_channels_split_on_ids_as_the_finished_completion_does(thought, said, closes, ends, cuts):
    ids = BYTES.encode(thought) + ([BYTES.unthink_id, *BYTES.encode(said)] if closes else []) + [BYTES.end_id] * ends
    splitter = splitter_of(opened=True)
    whole = sum(map(splitter.feed, portions(ids, cuts)), Piece()) + splitter.finish()
    reasoning, answer = split_reasoning(BYTES, ids, opened=True)
    assert (whole.reasoning, whole.answer) == (BYTES.decode(reasoning), BYTES.decode(answer))
    assert (whole.num_reasoning, whole.num_answer) == (len(reasoning), len(answer))


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(tiny_model(), BYTES, num_workers=0, num_slots=4) as engine:
        yield engine


def test_a_stream_tells_what_generate_returns(engine):
    async def work():
        (expected,) = await engine.generate(user("hello"), PARAMS, first=2)
        return expected, await read(engine.stream(user("hello"), PARAMS, first=2))

    expected, (whole, completion) = asyncio.run(work())
    assert completion == expected
    assert (whole.reasoning, whole.answer) == (expected.reasoning, expected.answer)
    assert whole.num_reasoning == expected.num_reasoning_tokens


def test_many_streams_and_a_slow_reader_all_end_whole(engine):
    async def work():
        streams = [engine.stream(user("hello"), PARAMS, first=j) for j in range(9)]
        told = await asyncio.gather(*(read(s, delay=0.02 * (j == 0)) for j, s in enumerate(streams)))
        return told, await engine.generate(user("hello"), PARAMS, n=9)

    told, expected = asyncio.run(work())
    assert [completion for _, completion in told] == expected


def test_a_closed_stream_frees_its_slot():
    with LocalEngine(tiny_model(window=100_000), BYTES, num_workers=0, num_slots=1) as engine:

        async def work():
            endless = SamplingParams(max_reasoning_tokens=90_000, min_reasoning_tokens=90_000)
            stream = engine.stream(user("hello"), endless)
            await anext(stream)
            stream.close()
            assert [piece async for piece in stream] == []
            return await asyncio.wait_for(engine.generate(user("hello"), PARAMS), 20)

        assert len(asyncio.run(work())) == 1


def test_answer_now_closes_the_reasoning_where_it_is():
    with LocalEngine(tiny_model(window=100_000), BYTES, num_workers=0, num_slots=2) as engine:

        async def work():
            endless = SamplingParams(max_reasoning_tokens=90_000, min_reasoning_tokens=90_000, max_answer_tokens=4)
            stream = engine.stream(user("hello"), endless)
            first = await anext(stream)
            stream.answer_now()
            whole, completion = await asyncio.wait_for(read(stream), 20)
            return first + whole, completion

        whole, completion = asyncio.run(work())
        assert whole.is_closed and whole.num_reasoning < 90_000
        assert completion.sampled[completion.num_reasoning_tokens] is False


def test_max_tokens_cuts_a_completion_hard(engine):
    async def work(limit):
        params = SamplingParams(max_reasoning_tokens=40, min_reasoning_tokens=20, max_answer_tokens=9, max_tokens=limit)
        return (await engine.generate(user("hello"), params))[0]

    cut = asyncio.run(work(7))
    assert (cut.num_tokens, cut.num_reasoning_tokens, cut.finish_reason, cut.answer) == (7, 7, "length", "")


def test_the_scripted_stream_is_its_completion_in_any_portions_and_can_be_hurried():
    async def work():
        engine = ScriptedEngine([("thinking é€", "an answer 😀")], portions=(1, 2, 3))
        (expected,) = await engine.generate(user("x"), SamplingParams())
        whole, completion = await read(engine.stream(user("x"), SamplingParams()))
        assert completion == expected and (whole.reasoning, whole.answer) == (expected.reasoning, expected.answer)
        stream = ScriptedEngine([("a" * 200, "42")], portions=(4,)).stream(user("x"), SamplingParams())
        first = await anext(stream)
        stream.answer_now()
        whole, _ = await read(stream)
        assert (first + whole).num_reasoning < 200 and whole.answer == "42"

    asyncio.run(work())


def test_an_engine_without_streams_gives_one_piece():
    class Plain(BaseEngine):
        async def generate(self, prompt, params, *, n=1, first=0):
            return await ScriptedEngine([("because", "42")]).generate(prompt, params, n=n, first=first)

    async def work():
        return await read(Plain().stream(user("x"), SamplingParams()))

    whole, completion = asyncio.run(work())
    assert (whole.reasoning, whole.answer, completion.answer) == ("because", "42", "42")
