"""Prompts that cannot fit: refused by a bound or by their beginning, never encoded whole; others come out exactly."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from ponder.engine.local import EngineError, LocalEngine
from ponder.models import hf_tokenizer
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.types import SamplingParams
from tests.helpers import takes_at_most, tiny_model
from tests.models.test_hf_tokenizer import byte_level, user, write

pytestmark = pytest.mark.slow

WINDOW = 256
TEXTS = {
    "words": "the answer is forty two ",
    "one letter": "a",
    "spaces": " ",
    "lines": "\n",
    "digits": "7",
    "letters that take several tokens": "漢é",
    "half of a pair": "\ud800 x",
}


@pytest.fixture
def tokenizer(tmp_path: Path) -> HFTokenizer:
    folder = write(tmp_path / "model", byte_level())
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": WINDOW}))
    return HFTokenizer(folder)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_prompts_that_fit_are_encoded_as_ever_and_longer_ones_are_known_to_be_too_long(
    tokenizer: HFTokenizer, text: str, tmp_path: Path
) -> None:
    plain = HFTokenizer(write(tmp_path / "plain", byte_level()))  # no window, so no bound
    for times in (1, 10, 60, 200, 1000, 5000, 20000):
        exact, ids = plain.render(user(text * times)), tokenizer.render(user(text * times))
        assert (len(ids) > WINDOW) == (len(exact) > WINDOW)
        if len(exact) <= WINDOW:
            assert ids == exact
        assert ids[-1] == tokenizer.think_id


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_of_a_text_as_long_as_a_request_may_be_a_beginning_is_encoded_at_most(
    tokenizer: HFTokenizer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = hf_tokenizer._ids
    monkeypatch.setattr(hf_tokenizer, "_ids", lambda v, text: encoded.append(len(text)) or encode(v, text))
    monkeypatch.setattr(tokenizer, "_plain", lambda *_: pytest.fail("it was encoded whole"))
    long = text * (4_000_000 // len(text))
    with takes_at_most(0.25):  # of copying and cutting four million characters
        assert len(tokenizer.render(user(long))) > WINDOW
    assert sum(encoded) < 40 * WINDOW
    # many short messages are one long prompt
    assert len(tokenizer.render(user(*[text * (200_000 // len(text))] * 18))) > WINDOW


def test_what_the_template_trims_away_does_not_count(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ '<|im_start|>' + m.content | trim + '<|im_end|>' }}{% endfor %}"
    folder = write(tmp_path / "model", byte_level(), template)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": WINDOW}))
    tokenizer = HFTokenizer(folder)
    assert tokenizer.render(user(" " * 4_000_000 + "a")) == tokenizer.render(user("a"))


def test_the_event_loop_answers_while_a_long_text_is_encoded(tokenizer: HFTokenizer) -> None:
    gaps: list[float] = []

    async def ticks() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    async def work() -> tuple[float, int]:
        watch = asyncio.ensure_future(ticks())
        await asyncio.sleep(0.02)
        gaps.clear()
        begun = time.perf_counter()
        ids = await asyncio.to_thread(hf_tokenizer._ids, tokenizer._start, "the answer is forty two " * 60_000)
        wall = time.perf_counter() - begun
        watch.cancel()
        return wall, len(ids)

    wall, count = asyncio.run(work())
    assert count > 60_000 and len(gaps) > 5 and max(gaps) < wall / 2


def test_an_engine_says_window_to_a_prompt_that_is_refused_unread_and_reads_a_prompt_once(
    tokenizer: HFTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[int] = []
    render = HFTokenizer.render
    monkeypatch.setattr(HFTokenizer, "render", lambda self, m: rendered.append(1) or render(self, m))
    model = tiny_model(vocab_size=tokenizer.vocab_size, window=WINDOW)
    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        params = SamplingParams(max_reasoning_tokens=2, max_answer_tokens=2)
        for text in ("a" * 900_000, "hello"):
            rendered.clear()
            count = len(engine.prompt_ids(user(text)))
            (one,) = asyncio.run(engine.generate(user(text), params))
            assert (count > WINDOW) == (one.finish_reason == "window") == (len(text) > 9)
            assert len(rendered) == 1


def test_a_stream_of_a_long_prompt_is_its_completion_and_tells_what_went_wrong(
    tokenizer: HFTokenizer,
) -> None:
    model = tiny_model(vocab_size=tokenizer.vocab_size, window=WINDOW)
    params = SamplingParams(max_reasoning_tokens=90, min_reasoning_tokens=90, max_answer_tokens=4)

    async def go(engine: LocalEngine) -> None:
        prompt = user(" " * 30_000 + "a")
        (expected,) = await engine.generate(prompt, params)
        stream = engine.stream(prompt, params)
        assert [piece.answer async for piece in stream] == [""] and stream.completion == expected
        hurried = engine.stream(prompt, params)
        hurried.answer_now()
        hurried.close()
        assert [piece async for piece in hurried] == []
        engine.failure, engine._closed = "no memory", True
        with pytest.raises(EngineError, match="no memory"):
            await anext(engine.stream(prompt, params))

    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        asyncio.run(go(engine))
