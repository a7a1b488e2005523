"""Hidden means hidden: whatever marks a model sets, no thought is in an answer, streamed or whole, local or remote."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from ponder.engine.local import LocalEngine
from ponder.engine.marked import split_marked
from ponder.engine.remote import RemoteEngine
from ponder.engine.stream import Splitter
from ponder.models.tokenizer import ByteTokenizer, split_reasoning
from ponder.train.batches import Example, collate
from ponder.train.distributed import Trainer
from ponder.types import Piece, SamplingParams
from tests.helpers import chain_model, tiny_model, user

BYTES = ByteTokenizer()
OPEN, CLOSE, END = BYTES.think_id, BYTES.unthink_id, BYTES.end_id
COUNT = 5_000
TEXT_MARKS = {OPEN: ("<think>", "<THINK>", "< think >", "<thinking>"), CLOSE: ("</think>", "</Think >", "</thinking>")}


def sequence(number: int) -> list[int]:
    """Marks at will between bytes of which no two are the same, so that each can be told in a text."""
    random = Random(f"thoughts/{number}")
    letters = [*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]
    random.shuffle(letters)
    ids = [
        random.choice((OPEN, CLOSE)) if random.random() < 0.3 else letters.pop() for _ in range(random.randrange(30))
    ]
    return ids + [END] * random.randrange(2)


def hidden(ids: list[int], *, opened: bool) -> set[int]:
    """What must not be shown, written as the promise is: looked for from every mark, with no state."""
    found: set[int] = set()
    starts = [-1] * opened + [place for place, token in enumerate(ids) if token == OPEN]
    for start in starts:
        end = next((place for place in range(start + 1, len(ids)) if ids[place] == CLOSE), len(ids))
        found |= set(ids[start + 1 : end])
    for place, token in enumerate(ids):
        marks = [one for one in ids[:place] if one in (OPEN, CLOSE)]
        is_open = marks[-1] == OPEN if marks else opened
        if token == CLOSE and not is_open:  # it closes what nothing opened
            found |= set(ids[:place])
    return {token for token in found if token < 256}


def portions(random: Random, ids: list[int]) -> list[list[int]]:
    cuts = sorted(random.randrange(len(ids) + 1) for _ in range(random.randrange(6)))
    return [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]


def splitter(*, opened: bool, closes_once: bool = False) -> Splitter:
    return Splitter(
        BYTES.decode, think_id=OPEN, unthink_id=CLOSE, end_ids=(END,), opened=opened, closes_once=closes_once
    )


def test_no_thought_is_in_an_answer_of_ids_whole_or_in_any_portions() -> None:
    for number in range(COUNT):
        ids, opened = sequence(number), number % 3 > 0
        secret = set(map(chr, hidden(ids, opened=opened)))
        reasoning, answer = (BYTES.decode(part) for part in split_reasoning(BYTES, ids, opened=opened))
        assert not secret & set(answer) and secret <= set(reasoning), (ids, opened)
        assert sorted(reasoning + answer) == sorted(BYTES.decode(ids))

        reader = splitter(opened=opened)
        pieces = [reader.feed(part) for part in portions(Random(number), ids)] + [reader.finish()]
        whole = sum(pieces, Piece())
        assert (whole.reasoning, whole.answer) == (reasoning, answer)
        # a client that has left before the end has seen no thought either
        assert not any(secret & set(piece.answer) for piece in pieces)
        counted = whole.num_reasoning + whole.num_answer
        assert counted <= len(ids) and whole.num_answer == len(answer)


def test_where_a_closing_mark_comes_once_the_answer_is_told_as_it_comes_and_is_the_same() -> None:
    for number in range(1_000):
        ids = sequence(number)
        places = [place for place, token in enumerate(ids) if token == CLOSE]
        first = places[0] if places else len(ids)
        ids = [token for place, token in enumerate(ids) if place <= first or token not in (OPEN, CLOSE)]
        live, late = splitter(opened=True, closes_once=True), splitter(opened=True)
        pieces = [live.feed([token]) for token in ids]
        whole = sum(pieces, Piece()) + live.finish()
        assert whole == late.finish(ids)
        assert sum(bool(piece.answer) for piece in pieces) == whole.num_answer
        assert not set(map(chr, hidden(ids, opened=True))) & set(whole.answer)


class Scripted(RemoteEngine):
    """A server whose next answer is given."""

    message: dict[str, object]
    finish = "stop"

    async def _post(self, body):
        return 200, {"choices": [{"message": self.message, "finish_reason": self.finish}]}, 0.0


def spelled(random: Random, ids: list[int]) -> str:
    return "".join(random.choice(TEXT_MARKS[one]) if one in TEXT_MARKS else chr(one) for one in ids if one != END)


def test_no_thought_is_in_an_answer_of_a_remote_engine_whole_or_streamed() -> None:
    engine = Scripted("http://127.0.0.1:9/v1", "m", "key")

    async def ask() -> tuple[str, str]:
        whole = Piece()
        stream = engine.stream(user("x"), SamplingParams())
        async for piece in stream:
            whole += piece
        (completion,) = await engine.generate(user("x"), SamplingParams())
        assert (whole.reasoning, whole.answer) == (completion.reasoning, completion.answer)
        return completion.reasoning, completion.answer

    async def all_of_them() -> None:
        for number in range(COUNT):
            random, ids = Random(number), sequence(number)
            text, secret = spelled(random, ids), set(map(chr, hidden(ids, opened=False)))
            reasoning, answer = split_marked(text)
            assert not secret & set(answer) and secret <= set(reasoning), text
            if number % 10:
                continue
            engine.message = {"content": text, "reasoning_content": random.choice((None, "0"))}
            reasoning, answer = await ask()
            assert not secret & set(answer) and secret <= set(reasoning), text

    asyncio.run(all_of_them())


PARAMS = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=12, seed=3)


def draw(model, *, closes_once: bool, params: SamplingParams = PARAMS, n: int = 60):
    with LocalEngine(model, BYTES, num_workers=0, closes_once=closes_once) as engine:

        async def work():
            whole = await engine.generate(user("hello"), params, n=n)
            streams = [engine.stream(user("hello"), params, first=j) for j in range(8)]
            for stream, expected in zip(streams, whole, strict=False):
                told = Piece()
                async for piece in stream:
                    told += piece
                assert stream.completion == expected
                assert (told.reasoning, told.answer) == (expected.reasoning, expected.answer)
            return whole

        return asyncio.run(work())


@pytest.mark.parametrize("closes_once", [True, False])
def test_an_engine_never_shows_a_thought_of_a_model_that_sets_marks_at_will(closes_once: bool) -> None:
    model = tiny_model()
    model.model.embed_tokens.weight.data[[OPEN, CLOSE]] *= 1.5  # tied: marks are drawn more often
    for one in draw(model, closes_once=closes_once):
        reasoning, answer = split_reasoning(BYTES, one.token_ids, opened=True)
        assert (one.reasoning, one.answer) == (BYTES.decode(reasoning), BYTES.decode(answer))
        said = one.token_ids[one.num_reasoning_tokens + 1 :]
        assert OPEN not in said and CLOSE not in said
        assert CLOSE not in one.token_ids or one.token_ids[one.num_reasoning_tokens] == CLOSE
        if closes_once:
            assert one.token_ids.count(CLOSE) <= 1


def test_drawing_again_changes_no_token_before_a_mark_and_no_log_probability() -> None:
    model = tiny_model()
    model.model.embed_tokens.weight.data[[OPEN, CLOSE]] *= 1.5
    free, held = draw(model, closes_once=False), draw(model, closes_once=True)
    changed, trainer = 0, Trainer(model, num_workers=0)
    for one, other in zip(free, held, strict=True):
        closings = [place for place, token in enumerate(one.token_ids) if token == CLOSE]
        until = closings[1] if len(closings) > 1 else len(one.token_ids)
        assert other.token_ids[:until] == one.token_ids[:until]
        assert other.sampler_logprobs[:until] == pytest.approx(one.sampler_logprobs[:until], abs=1e-5)
        changed += len(closings) > 1
        n = len(other.token_ids)
        example = Example(prompt_ids=other.prompt_ids, token_ids=other.token_ids, trained=(True,) * n)
        (expected,) = trainer.logprobs([collate([example])], 1.0)[0]
        assert other.sampler_logprobs == pytest.approx(expected.tolist(), abs=2e-5)
    assert changed > 5


def test_a_model_that_would_think_again_in_its_answer_answers_on() -> None:
    """plan [/think] Y [think] -> the likeliest token that is no mark comes in the second mark's place."""
    x, y, z = b"xyz"
    model = chain_model({OPEN: [x], x: [CLOSE], CLOSE: [y], y: [OPEN, CLOSE, z], z: [END]})
    (one,) = draw(model, closes_once=True, params=replace(PARAMS, temperature=0.0), n=1)
    assert (one.reasoning, one.answer, one.finish_reason) == ("x", "yz", "stop")
    assert one.token_ids == (x, CLOSE, y, z, END)


class Markless(ByteTokenizer):
    think_id = unthink_id = None  # type: ignore[assignment]

    def render(self, messages):
        return [self.bos_id, *self.encode(messages[-1].content)]


def test_the_answer_of_a_model_without_marks_is_told_as_it_comes() -> None:
    with LocalEngine(tiny_model(), Markless(), num_workers=0) as engine:
        splitter = engine._splitter(engine._request(engine.prompt_ids(user("hi")), PARAMS, n=1, first=0))
        assert [splitter.feed([token]).answer for token in b"abc"] == ["a", "b", "c"]
