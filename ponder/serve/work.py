"""One request's work: engine -> hidden channel and visible channel -> a sink that says it on the wire.

`Meter` is the engine as one request sees it: every sample runs as a stream through it, so that all of them are counted,
stopped and hurried together, whatever strategy draws them. `produce` makes one choice: it reads the channels, holds the
answer back until the monitors have seen the reasoning, parses calls and checks JSON. A sink has no method that takes
reasoning: what it is told is text of the answer, calls, and summaries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ponder.config import ConfigError
from ponder.engine.base import RedrawingWrapper
from ponder.serve.modes import Spending
from ponder.serve.thoughts import InTurn, Thoughts
from ponder.serve.tools import Call, CallParser, Tool, json_problem, unfenced
from ponder.strategies.keys import answer_key
from ponder.types import Completion, CompletionStream, Engine, Message, Piece, SamplingParams, Scorer, Solution

JSON_TRIES = 3  # samples drawn until one fits its schema


@dataclass
class Count:
    """Exact usage: reasoning + answer + special = output, over all samples, summaries and scorers apart."""

    prompt: int = 0
    reasoning: int = 0
    answer: int = 0
    special: int = 0  # closing and end marks
    discarded: int = 0  # of output: samples that were drawn and not chosen
    samples: int = 0
    summary: int = 0
    scorer: int = 0

    @property
    def output(self) -> int:
        return self.reasoning + self.answer + self.special

    def add(self, whole: Piece, completion: Completion | None) -> None:
        """A sample that ended; without completion it was stopped, and counts as far as it was told."""
        marks = int(whole.is_closed and whole.num_answer > 0)
        special = completion.num_tokens - whole.num_reasoning - whole.num_answer if completion else marks
        assert special >= 0, f"a sample of {completion and completion.num_tokens} tokens told {whole.num_answer} more"
        self.reasoning += whole.num_reasoning
        self.answer += whole.num_answer
        self.special += special
        self.samples += 1
        if completion and not self.prompt:  # a remote engine counts its prompts itself
            self.prompt = completion.num_prompt_tokens


class Failed(Exception):
    """The response fails: a code of the API's list, and a message. `status`: the HTTP status where there is one."""

    def __init__(self, code: str, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


BROKEN = ("server_error", "The model failed to produce a response.")  # whatever an engine or a plug-in raised


class Sink(Protocol):
    """What may be said aloud."""

    def thinking(self) -> None: ...

    def summary(self, text: str) -> None: ...

    def thought(self, thoughts: Thoughts, *, cut: bool) -> None:
        """The reasoning is over; the sink seals it and tells nothing of it."""

    def say(self, text: str) -> None: ...

    def call(self, call: Call) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be produced."""

    prompt: Sequence[Message] | Sequence[int]
    messages: Sequence[Message]  # the same, for strategies and scorers
    compute: Spending
    thinks: bool = False  # the model has a place to think, and may; it is told even if it uses none of it
    tools: Sequence[Tool] = ()
    parallel_calls: bool = True
    wants_json: bool = False
    schema: Mapping[str, Any] | None = None  # with wants_json; None = any object
    form: str = ""  # where the engine can hold an answer to it
    insists: bool = True  # an answer that does not fit fails; False: the last one is given as it is
    needs_call: bool = False  # tool_choice "required", or a name
    key: Callable[[str], str | None] = field(default_factory=answer_key)
    scorer: Scorer | None = None


@dataclass
class Meter(RedrawingWrapper):
    """An Engine whose samples can be counted, stopped and hurried."""

    engine: Engine
    count: Count
    on_piece: Callable[[int, Piece], None] = lambda number, piece: None
    turns: InTurn | None = None  # where the reasoning of samples that are drawn side by side is heard
    rendered: tuple[Any, Any] | None = None  # (messages, what they are for the engine): strategies know messages only
    as_ids: Callable[[Any], Awaitable[Any]] | None = None  # messages -> ids, away from the event loop
    hurried: bool = False
    _streams: set[CompletionStream] = field(default_factory=set)

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        tasks = [asyncio.create_task(self._sample(prompt, params, index)) for index in range(first, first + n)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # until all of them are counted

    async def _sample(self, prompt: Any, params: SamplingParams, index: int) -> Completion:
        completion: list[Completion] = []
        number = self.turns.begin() if self.turns is not None else 0
        try:
            async for piece in self.pieces(prompt, params, index, completion):
                self.on_piece(number, piece)
        finally:
            if self.turns is not None:
                self.turns.over(number)
        return completion[0]

    async def pieces(self, prompt: Any, params: SamplingParams, index: int, into: list[Completion]) -> Any:
        """The pieces of one sample; its completion is appended to `into`. Leaving early stops the work."""
        if self.rendered is not None and prompt is self.rendered[0]:
            prompt = self.rendered[1]
        if self.as_ids is not None:
            prompt = await self.as_ids(prompt)
        stream = self.engine.stream(prompt, params, first=index)
        self._streams.add(stream)
        if self.hurried:
            stream.answer_now()
        told = Piece()
        try:
            async for piece in stream:
                told += Piece(num_reasoning=piece.num_reasoning, num_answer=piece.num_answer, is_closed=piece.is_closed)
                yield piece
            if stream.completion is None:
                raise asyncio.CancelledError
            into.append(stream.completion)
        finally:
            self._streams.discard(stream)
            self.count.add(told, stream.completion)
            stream.close()

    def answer_now(self) -> None:
        self.hurried = True
        for stream in list(self._streams):
            stream.answer_now()

    def stop(self) -> None:
        for stream in list(self._streams):
            stream.close()


async def produce(order: Order, meter: Meter, sink: Sink, thoughts: Thoughts, *, first: int = 0) -> str:
    """One choice, from sample `first` on; why it ended: stop, length or tool_calls."""
    if order.thinks:
        thoughts.begin()
        sink.thinking()
    timer = None
    if order.compute.deadline is not None:
        timer = asyncio.get_running_loop().call_later(order.compute.deadline, meter.answer_now)
    try:
        if order.compute.strategy is not None:
            return await _by_strategy(order, meter, sink, thoughts)
        if order.wants_json or order.needs_call:
            return await _until_it_fits(order, meter, sink, thoughts, first)
        return await _streamed(order, meter, sink, thoughts, first)
    finally:
        if timer is not None:
            timer.cancel()


async def _streamed(order: Order, meter: Meter, sink: Sink, thoughts: Thoughts, first: int) -> str:
    parser = CallParser(order.tools, parallel=order.parallel_calls)
    done: list[Completion] = []
    is_open, calls = True, 0

    pieces = meter.pieces(order.prompt, order.compute.params, first, done)
    try:
        async for piece in pieces:
            _think(piece, sink, thoughts)
            if piece.is_closed and is_open:
                is_open = False
                await _close(thoughts, sink, cut=False)
            if piece.answer:
                calls += _tell(await _fed(parser, piece.answer, order), sink)
    finally:
        await pieces.aclose()
    if is_open:
        await _close(thoughts, sink, cut=done[0].finish_reason != "stop")
    calls += _tell(parser.finish(), sink)
    return _reason(done[0], calls)


async def _fed(parser: CallParser, text: str, order: Order) -> list[str | Call]:
    """What a parser makes of the next text; where arguments are checked, beside the event loop."""
    if any(tool.strict for tool in order.tools):
        return await asyncio.to_thread(parser.feed, text)
    return parser.feed(text)


def _reason(completion: Completion, calls: int) -> str:
    if calls and completion.finish_reason == "stop":
        return "tool_calls"
    return "stop" if completion.finish_reason == "stop" else "length"


STOPPED = ("misalignment_policy_violation", "A monitor of the model's reasoning stopped this response.")


def _think(piece: Piece, sink: Sink, thoughts: Thoughts) -> None:
    """What a piece says in its reasoning goes to the thoughts and nowhere else; a monitor's stop ends the response."""
    if piece.num_reasoning or piece.reasoning:
        thoughts.begin()
        sink.thinking()
        thoughts.hear(piece.reasoning, piece.num_reasoning)
    if thoughts.is_stopped.is_set():
        raise Failed(*STOPPED)


async def _close(thoughts: Thoughts, sink: Sink, *, cut: bool) -> None:
    await thoughts.close()
    if thoughts.is_stopped.is_set():
        raise Failed(*STOPPED)
    if thoughts.started is not None:
        sink.thought(thoughts, cut=cut)


async def _until_it_fits(order: Order, meter: Meter, sink: Sink, thoughts: Thoughts, first: int) -> str:
    """Draw until an answer is the JSON (or the call) that was asked for; nothing is said before."""
    problem, left = "", order.compute.params.max_tokens
    for attempt in range(JSON_TRIES):
        if left is not None and left < 1:
            await _close(thoughts, sink, cut=True)
            return "length"
        params = replace(order.compute.params, max_tokens=left, form=order.form)
        completion = await _heard(order, meter, sink, thoughts, params, first + attempt)
        left = None if left is None else left - completion.num_tokens
        parts, found = await asyncio.to_thread(_judged, order, completion.answer)
        thoughts.chosen = completion.reasoning
        if found is None or (attempt == JSON_TRIES - 1 and not order.insists):
            await _close(thoughts, sink, cut=False)
            return _reason(completion, _tell(parts, sink))
        # a limit cut it: that of the request would cut the next too, that of an answer perhaps
        if completion.finish_reason != "stop" and (left is not None or attempt == JSON_TRIES - 1):
            await _close(thoughts, sink, cut=not completion.answer)
            return "length"
        problem = found
        meter.count.discarded += completion.num_tokens
    await _close(thoughts, sink, cut=False)
    raise Failed("server_error", f"The model's answer did not fit in {JSON_TRIES} tries: {problem}.", status=422)


async def _heard(
    order: Order, meter: Meter, sink: Sink, thoughts: Thoughts, params: SamplingParams, index: int
) -> Completion:
    """One whole sample, its reasoning watched while it runs."""
    done: list[Completion] = []
    pieces = meter.pieces(order.prompt, params, index, done)
    try:
        async for piece in pieces:
            _think(piece, sink, thoughts)
    finally:
        await pieces.aclose()
    return done[0]


def _judged(order: Order, answer: str) -> tuple[list[str | Call], str | None]:
    """A whole answer's parts, and why they are not what was asked for."""
    parser = CallParser(order.tools, parallel=order.parallel_calls)
    parts = parser.feed(unfenced(answer) if order.wants_json else answer) + parser.finish()
    return parts, _misfit(order, parts)


def _misfit(order: Order, parts: Sequence[str | Call]) -> str | None:
    """Why an answer is not what was asked for."""
    if any(isinstance(part, Call) for part in parts):
        return None
    if order.needs_call:
        return "it calls no function"
    return json_problem("".join(map(str, parts)), order.schema) if order.wants_json else None


def _tell(parts: Sequence[str | Call], sink: Sink) -> int:
    """Say an answer aloud; how many calls it has."""
    for part in parts:
        if isinstance(part, Call):
            sink.call(part)
        else:
            sink.say(part)
    return sum(isinstance(part, Call) for part in parts)


async def _by_strategy(order: Order, meter: Meter, sink: Sink, thoughts: Thoughts) -> str:
    """Many samples, one answer. The monitors and the summary follow all of them."""
    assert order.compute.strategy is not None

    turns = InTurn(thoughts)

    def on_piece(number: int, piece: Piece) -> None:
        if piece.num_reasoning or piece.reasoning:
            thoughts.begin()
            sink.thinking()
            turns.hear(number, piece.reasoning, piece.num_reasoning)
        if thoughts.is_stopped.is_set():
            meter.stop()

    meter.on_piece, meter.turns, meter.rendered = on_piece, turns, (order.messages, order.prompt)
    try:
        solution: Solution = await order.compute.strategy(
            order.messages, meter, params=replace(order.compute.params, form=order.form), key=order.key,
            scorer=order.scorer, budget=order.compute.budget,
        )  # fmt: skip
    except ConfigError as error:  # what this mode cannot do with this engine or this limit, in ponder's own words
        raise Failed("server_error", f"This mode cannot serve the request: {error}"[:300], status=422) from None
    except asyncio.CancelledError:
        if thoughts.is_stopped.is_set():
            raise Failed(*STOPPED) from None
        raise
    chosen = next((c for c in solution.completions if c.answer == solution.answer), None)
    # a chosen one may hold tokens that were put into it and not drawn, so the difference can fall below nothing
    meter.count.discarded += max(0, meter.count.output - (chosen.num_tokens if chosen else 0))
    for drawn in solution.completions if thoughts.started is None else ():
        if drawn.reasoning:  # of a model without marks (`strategies.PlainTextEngine`): to the meter it was answer
            if thoughts.started is not None:
                thoughts.next_sample()
            thoughts.begin()
            sink.thinking()
            thoughts.hear(drawn.reasoning, drawn.num_reasoning_tokens)
    thoughts.chosen = solution.reasoning
    meter.count.scorer += solution.usage.scorer_tokens
    await _close(thoughts, sink, cut=False)
    parts, problem = await asyncio.to_thread(_judged, order, solution.answer)
    if problem and order.insists:
        raise Failed("server_error", f"The model's answer did not fit: {problem}.", status=422)
    calls = _tell(parts, sink)
    return _reason(chosen, calls) if chosen else "stop"
