"""A completion while it is being written: pieces of reasoning and of answer, split on token ids, then the Completion.

    stream = engine.stream(prompt, params)        # every engine has it; `one_piece` makes one of `generate`
    async for piece in stream:
        ...piece.answer, piece.num_reasoning      # text and counts since the last piece
    stream.completion                             # what generate would have returned

A piece never holds half a character, nor text that may turn out to be part of a stop string; whoever reads slowly gets
fewer and longer pieces, and nobody waits for them. `answer_now` closes the reasoning of a running completion, `close`
gives its slot back. Reasoning that never closes is reasoning to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ponder.models.tokenizer import ReasoningParser
from ponder.types import Completion, Engine, Message, Piece, SamplingParams

_CONTEXT = 4  # tokens before a piece that are decoded with it: some tokenizers drop a space at the start of a text
_HELD = 16  # tokens held back at most while they end in half a character; none is longer than 4 bytes


class Stream:
    """An async iterator of pieces, fed by an engine in the same event loop. Pieces that wait are joined into one."""

    def __init__(self) -> None:
        self.completion: Completion | None = None
        self._waiting: Piece | None = None
        self._error: BaseException | None = None
        self._is_over = False
        self._wake = asyncio.Event()
        self.on_close: Callable[[], object] = lambda: None  # the engine's ways of stopping the work
        self.on_answer_now: Callable[[], object] = lambda: None

    def emit(self, piece: Piece) -> None:
        """Hand a piece to the reader; ignored once the stream is over."""
        if not self._is_over:
            self._waiting = piece if self._waiting is None else self._waiting + piece
            self._wake.set()

    def finish(self, completion: Completion) -> None:
        """The completion is whole: reading ends after the pieces that wait. Ignored once the stream is over."""
        if not self._is_over:
            self.completion, self._is_over = completion, True
            self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Reading raises this error after the pieces that wait. Ignored once the stream is over."""
        if not self._is_over:
            self._error, self._is_over = error, True
            self._wake.set()

    def answer_now(self) -> None:
        """Close the reasoning where it is; the answer follows. Nothing happens once it is closed."""
        if not self._is_over:
            self.on_answer_now()

    def close(self) -> None:
        """Stop the work, unless it is done. Reading on ends at once."""
        if not self._is_over:
            self._is_over = True
            self._waiting = None
            self._wake.set()
            self.on_close()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Piece:
        while self._waiting is None:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        piece, self._waiting = self._waiting, None
        return piece


class Splitter:
    """Token ids of one completion, in any portions -> pieces, by the rule of `models.tokenizer.ReasoningParser`.

    A closing mark in an answer makes what came before it reasoning. So an answer is emitted as it comes only where
    the engine draws no such mark (`closes_once`), and else at the end. Whole completions are read by it too.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        think_id: int | None,
        unthink_id: int | None,
        end_ids: Sequence[int],
        opened: bool,
        stop: Sequence[str] = (),
        closes_once: bool = False,
    ) -> None:
        self.num_fed = 0
        self._parser = ReasoningParser(think_id=think_id, unthink_id=unthink_id, end_ids=end_ids, opened=opened)
        self._closes_once = closes_once
        self._num_emitted = [0, 0]  # tokens of reasoning and of answer
        self._reasoning, self._answer = TextStream(decode), TextStream(decode, stop)

    def feed(self, ids: Sequence[int]) -> Piece:
        """Take the next ids; what can be told of them now, perhaps nothing."""
        self.num_fed += len(ids)
        self._parser.take(ids)
        return self._piece(is_over=False)

    def finish(self, rest: Sequence[int] = ()) -> Piece:
        """The last ids, and whatever was held back."""
        if self.num_fed:
            return self.feed(rest) + self._piece(is_over=True)
        self.num_fed = len(rest)
        self._parser.take(rest)
        return self._piece(is_over=True)

    def _piece(self, *, is_over: bool) -> Piece:
        parser, (num_reasoning, num_answer) = self._parser, self._num_emitted
        is_closed = not parser.is_thinking and (is_over or self._closes_once)
        reasoning = parser.reasoning[num_reasoning:]
        answer = parser.answer[num_answer:] if is_over or self._closes_once else []
        self._num_emitted = [num_reasoning + len(reasoning), num_answer + len(answer)]
        return Piece(
            reasoning=self._reasoning.feed(reasoning) + (self._reasoning.finish() if is_closed or is_over else ""),
            answer=self._answer.feed(answer) + (self._answer.finish() if is_over else ""),
            num_reasoning=len(reasoning),
            num_answer=len(answer),
            is_closed=is_closed,
        )


class TextStream:
    """Ids in, text out, never half a character. What it gives in all is the decoded whole, cut at a stop string."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(text for text in stop if text)
        self._before: list[int] = []  # the last ids whose text was given
        self._new: list[int] = []  # ids whose text was not
        self._held = ""  # text that may be the beginning of a stop string
        self._is_stopped = False

    def feed(self, ids: Sequence[int]) -> str:
        """Take the next ids; the text that no later id can change, perhaps ""."""
        self._new += ids
        count = len(self._new)
        text = self._text(count)
        if text.endswith("\ufffd"):
            # the end may be half a character: cut where the text falls apart into the same two texts
            full, counts = text, range(count - 1, max(0, count - _HELD), -1)
            count = next((c for c in counts if full == self._text(c) + self._decode(self._new[c:])), 0)
            text = self._text(count)
        self._take(count)
        return self._pass(text)

    def finish(self) -> str:
        """The rest of the text: what was held back, half a character as U+FFFD."""
        text = self._text(len(self._new))
        self._take(len(self._new))
        text = self._pass(text) + self._held
        self._held = ""
        return text

    def _text(self, count: int) -> str:
        if not count:
            return ""
        known = self._decode(self._before)
        return self._decode([*self._before, *self._new[:count]])[len(known) :]

    def _take(self, count: int) -> None:
        self._before = [*self._before, *self._new[:count]][-_CONTEXT:]
        del self._new[:count]

    def _pass(self, text: str) -> str:
        """Text up to a stop string; what may be the beginning of one waits."""
        if not self._stop:
            return text
        if self._is_stopped:
            return ""
        text = self._held + text
        self._held = ""
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stop if stop in text]
        if found:
            self._is_stopped = True
            return text[: min(found)[1]]  # the one that was complete first, as for an engine that stops there
        longest = max(map(len, self._stop)) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stop):
                self._held = text[-size:]
                return text[:-size]
        return text


def one_piece(
    engine: Engine, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0
) -> Stream:
    """The stream of an engine that has only `generate`: its completion in one piece."""
    stream = Stream()

    async def work() -> None:
        try:
            (completion,) = await engine.generate(prompt, params, n=1, first=first)
        except Exception as error:  # whatever it is, it belongs to whoever reads the stream
            stream.fail(error)
            return
        stream.emit(piece_of(completion))
        stream.finish(completion)

    task = asyncio.ensure_future(work())
    stream.on_close = task.cancel
    return stream


def piece_of(completion: Completion) -> Piece:
    """A whole completion as one piece."""
    return Piece(
        reasoning=completion.reasoning,
        answer=completion.answer,
        num_reasoning=completion.num_reasoning_tokens,
        num_answer=num_answer_tokens(completion),
        is_closed=bool(completion.answer) or completion.finish_reason == "stop",
    )


def num_answer_tokens(completion: Completion) -> int:
    """Answer tokens without marks; where the ids are not known, all that is not reasoning."""
    return completion.num_tokens - completion.num_reasoning_tokens
