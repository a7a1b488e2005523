"""Producing an answer: engine -> hidden channel and visible channel -> a writer that puts it on the wire.

`MeteredEngine` is the engine as one request sees it: every sample runs as a stream through it, so that all of them are
counted, stopped and answered early together, whatever strategy draws them. `produce` makes one choice: it reads the
channels, holds the answer back until the monitors have seen the reasoning, parses calls and checks JSON. A writer has
no method that takes reasoning: it gets text of the answer, calls, and summaries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ponder.config import ConfigError
from ponder.engine.base import RedrawingWrapper, gather_or_cancel
from ponder.serve.modes import ComputePlan
from ponder.serve.thoughts import SampleQueue, Thoughts
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
        """A sample that ended; without completion it was stopped, and counts as far as it came."""
        marks = int(whole.is_closed and whole.num_answer > 0)
        special = completion.num_tokens - whole.num_reasoning - whole.num_answer if completion else marks
        assert special >= 0, f"a sample of {completion and completion.num_tokens} tokens has {whole.num_answer} more"
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


MODEL_FAILED = ("server_error", "The model failed to produce a response.")  # whatever an engine or a plug-in raised


class ResponseWriter(Protocol):
    """Where the visible part of a response goes."""

    def begin_reasoning(self) -> None:
        """Called for every piece of reasoning; only the first call of a round opens anything."""
        ...

    def add_summary(self, text: str) -> None:
        """The summary of one segment of the reasoning."""
        ...

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None:
        """The reasoning is over; the writer seals it and publishes nothing of it."""

    def add_text(self, text: str) -> None: ...

    def add_call(self, call: Call) -> None: ...


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """What a request asks to be generated."""

    prompt: Sequence[Message] | Sequence[int]
    messages: Sequence[Message]  # the same, for strategies and scorers
    compute: ComputePlan
    thinks: bool = False  # the model has marks for reasoning, and may reason; clients see that even if it does not
    tools: Sequence[Tool] = ()
    parallel_calls: bool = True
    wants_json: bool = False
    schema: Mapping[str, Any] | None = None  # with wants_json; None = any object
    form: str = ""  # where the engine can hold an answer to it
    is_strict: bool = True  # an answer that does not fit fails; False: the last one is given as it is
    needs_call: bool = False  # tool_choice "required", or a name
    key: Callable[[str], str | None] = field(default_factory=answer_key)
    scorer: Scorer | None = None


@dataclass
class MeteredEngine(RedrawingWrapper):
    """An Engine whose samples can be counted, stopped and answered early."""

    engine: Engine
    count: Count
    on_piece: Callable[[int, Piece], None] = lambda number, piece: None
    queue: SampleQueue | None = None  # orders the reasoning of samples that are drawn side by side
    rendered: tuple[Any, Any] | None = None  # (messages, what they are for the engine): strategies know messages only
    as_ids: Callable[[Any], Awaitable[Any]] | None = None  # messages -> ids, away from the event loop
    answered_early: bool = False
    _streams: set[CompletionStream] = field(default_factory=set)

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        return await gather_or_cancel([self._sample(prompt, params, index) for index in range(first, first + n)])

    async def _sample(self, prompt: Any, params: SamplingParams, index: int) -> Completion:
        completion: list[Completion] = []
        number = self.queue.begin() if self.queue is not None else 0
        try:
            async for piece in self.pieces(prompt, params, index, completion):
                self.on_piece(number, piece)
        finally:
            if self.queue is not None:
                self.queue.finish(number)
        return completion[0]

    async def pieces(self, prompt: Any, params: SamplingParams, index: int, into: list[Completion]) -> Any:
        """The pieces of one sample; its completion is appended to `into`. Leaving early stops the work."""
        if self.rendered is not None and prompt is self.rendered[0]:
            prompt = self.rendered[1]
        if self.as_ids is not None:
            prompt = await self.as_ids(prompt)
        stream = self.engine.stream(prompt, params, first=index)
        self._streams.add(stream)
        if self.answered_early:
            stream.answer_now()
        counted = Piece()
        try:
            async for piece in stream:
                counted += replace(piece, reasoning="", answer="")
                yield piece
            if stream.completion is None:
                raise asyncio.CancelledError
            into.append(stream.completion)
        finally:
            self._streams.discard(stream)
            self.count.add(counted, stream.completion)
            stream.close()

    def answer_now(self) -> None:
        """Close the reasoning of all samples that run, and of those that begin later."""
        self.answered_early = True
        for stream in list(self._streams):
            stream.answer_now()

    def stop(self) -> None:
        """Stop all samples that run: whoever reads them gets CancelledError."""
        for stream in list(self._streams):
            stream.close()


async def produce(
    plan: GenerationPlan, engine: MeteredEngine, writer: ResponseWriter, thoughts: Thoughts, *, first: int = 0
) -> str:
    """One choice, from sample `first` on; why it ended: stop, length or tool_calls."""
    if plan.thinks:
        thoughts.begin()
        writer.begin_reasoning()
    timer = None
    if plan.compute.deadline is not None:
        timer = asyncio.get_running_loop().call_later(plan.compute.deadline, engine.answer_now)
    try:
        if plan.compute.strategy is not None:
            return await _by_strategy(plan, engine, writer, thoughts)
        if plan.wants_json or plan.needs_call:
            return await _until_it_fits(plan, engine, writer, thoughts, first)
        return await _streamed(plan, engine, writer, thoughts, first)
    finally:
        if timer is not None:
            timer.cancel()


async def _streamed(
    plan: GenerationPlan, engine: MeteredEngine, writer: ResponseWriter, thoughts: Thoughts, first: int
) -> str:
    parser = CallParser(plan.tools, parallel=plan.parallel_calls)
    done: list[Completion] = []
    is_open, calls = True, 0

    pieces = engine.pieces(plan.prompt, plan.compute.params, first, done)
    try:
        async for piece in pieces:
            _on_reasoning(piece, writer, thoughts)
            if piece.is_closed and is_open:
                is_open = False
                await _close_reasoning(thoughts, writer, cut=False)
            if piece.answer:
                calls += _write(await _parsed(parser, piece.answer, plan), writer)
    finally:
        await pieces.aclose()
    if is_open:
        await _close_reasoning(thoughts, writer, cut=done[0].finish_reason != "stop")
    calls += _write(parser.finish(), writer)
    return _reason(done[0], calls)


async def _parsed(parser: CallParser, text: str, plan: GenerationPlan) -> list[str | Call]:
    """What a parser makes of the next text; where arguments are checked, beside the event loop."""
    if any(tool.strict for tool in plan.tools):
        return await asyncio.to_thread(parser.feed, text)
    return parser.feed(text)


def _reason(completion: Completion, calls: int) -> str:
    if calls and completion.finish_reason == "stop":
        return "tool_calls"
    return "stop" if completion.finish_reason == "stop" else "length"


STOPPED_BY_MONITOR = ("misalignment_policy_violation", "A monitor of the model's reasoning stopped this response.")
HELD_BY_MONITOR = ("held_for_review", "A monitor of the model's reasoning holds this response for a person to review.")


def _on_reasoning(piece: Piece, writer: ResponseWriter, thoughts: Thoughts) -> None:
    """A piece's reasoning goes to the thoughts and nowhere else; a monitor's stop ends the response."""
    if piece.num_reasoning or piece.reasoning:
        thoughts.begin()
        writer.begin_reasoning()
        thoughts.add(piece.reasoning, piece.num_reasoning)
    if thoughts.is_stopped.is_set():
        raise Failed(*STOPPED_BY_MONITOR)


async def _close_reasoning(thoughts: Thoughts, writer: ResponseWriter, *, cut: bool) -> None:
    await thoughts.close()
    if thoughts.is_stopped.is_set():
        raise Failed(*STOPPED_BY_MONITOR)
    if thoughts.started is not None:
        writer.end_reasoning(thoughts, cut=cut)
    if thoughts.is_held:  # what it thought is sealed by now, so that whoever reviews it can read it
        raise Failed(*HELD_BY_MONITOR)


async def _until_it_fits(
    plan: GenerationPlan, engine: MeteredEngine, writer: ResponseWriter, thoughts: Thoughts, first: int
) -> str:
    """Draw until an answer is the JSON (or the call) that was asked for; nothing is written before."""
    problem, left = "", plan.compute.params.max_tokens
    for attempt in range(JSON_TRIES):
        if left is not None and left < 1:
            await _close_reasoning(thoughts, writer, cut=True)
            return "length"
        if attempt:
            thoughts.next_sample()  # or a segment would be the end of one sample and the beginning of the next
        params = replace(plan.compute.params, max_tokens=left, form=plan.form)
        completion = await _whole_sample(plan, engine, writer, thoughts, params, first + attempt)
        left = None if left is None else left - completion.num_tokens
        parts, found = await asyncio.to_thread(_checked, plan, completion.answer)
        thoughts.chosen = completion.reasoning
        if found is None or (attempt == JSON_TRIES - 1 and not plan.is_strict):
            await _close_reasoning(thoughts, writer, cut=False)
            return _reason(completion, _write(parts, writer))
        # a limit cut it: that of the request would cut the next too, that of an answer perhaps
        if completion.finish_reason != "stop" and (left is not None or attempt == JSON_TRIES - 1):
            await _close_reasoning(thoughts, writer, cut=not completion.answer)
            return "length"
        problem = found
        engine.count.discarded += completion.num_tokens
    await _close_reasoning(thoughts, writer, cut=False)
    raise Failed("server_error", f"The model's answer did not fit in {JSON_TRIES} tries: {problem}.", status=422)


async def _whole_sample(
    plan: GenerationPlan,
    engine: MeteredEngine,
    writer: ResponseWriter,
    thoughts: Thoughts,
    params: SamplingParams,
    index: int,
) -> Completion:
    """One whole sample, its reasoning watched while it runs."""
    done: list[Completion] = []
    pieces = engine.pieces(plan.prompt, params, index, done)
    try:
        async for piece in pieces:
            _on_reasoning(piece, writer, thoughts)
    finally:
        await pieces.aclose()
    return done[0]


def _checked(plan: GenerationPlan, answer: str) -> tuple[list[str | Call], str | None]:
    """A whole answer's parts, and why they are not what was asked for."""
    parser = CallParser(plan.tools, parallel=plan.parallel_calls)
    parts = parser.feed(unfenced(answer) if plan.wants_json else answer) + parser.finish()
    return parts, _misfit(plan, parts)


def _misfit(plan: GenerationPlan, parts: Sequence[str | Call]) -> str | None:
    """Why an answer is not what was asked for."""
    if any(isinstance(part, Call) for part in parts):
        return None
    if plan.needs_call:
        return "it calls no function"
    return json_problem("".join(map(str, parts)), plan.schema) if plan.wants_json else None


def _write(parts: Sequence[str | Call], writer: ResponseWriter) -> int:
    """Write an answer; how many calls it has."""
    for part in parts:
        if isinstance(part, Call):
            writer.add_call(part)
        else:
            writer.add_text(part)
    return sum(isinstance(part, Call) for part in parts)


async def _by_strategy(plan: GenerationPlan, engine: MeteredEngine, writer: ResponseWriter, thoughts: Thoughts) -> str:
    """Many samples, one answer. The monitors and the summary follow all of them."""
    assert plan.compute.strategy is not None

    queue = SampleQueue(thoughts)

    def on_piece(number: int, piece: Piece) -> None:
        if piece.num_reasoning or piece.reasoning:
            thoughts.begin()
            writer.begin_reasoning()
            queue.add(number, piece.reasoning, piece.num_reasoning)
        if thoughts.is_stopped.is_set():
            engine.stop()

    engine.on_piece, engine.queue, engine.rendered = on_piece, queue, (plan.messages, plan.prompt)
    try:
        solution: Solution = await plan.compute.strategy(
            plan.messages, engine, params=replace(plan.compute.params, form=plan.form), key=plan.key,
            scorer=plan.scorer, budget=plan.compute.budget,
        )  # fmt: skip
    except ConfigError as error:  # what this mode cannot do with this engine or this limit, in ponder's own words
        raise Failed("server_error", f"This mode cannot serve the request: {error}"[:300], status=422) from None
    except asyncio.CancelledError:
        if thoughts.is_stopped.is_set():
            raise Failed(*STOPPED_BY_MONITOR) from None
        raise
    chosen = next((c for c in solution.completions if c.answer == solution.answer), None)
    # a chosen one may hold tokens that were put into it and not drawn, so the difference can fall below nothing
    engine.count.discarded += max(0, engine.count.output - (chosen.num_tokens if chosen else 0))
    for drawn in solution.completions if thoughts.started is None else ():
        if drawn.reasoning:  # of a model without marks (`strategies.PlainTextEngine`): it was counted as answer
            if thoughts.started is not None:
                thoughts.next_sample()
            thoughts.begin()
            writer.begin_reasoning()
            thoughts.add(drawn.reasoning, drawn.num_reasoning_tokens)
    thoughts.chosen = solution.reasoning
    engine.count.scorer += solution.usage.scorer_tokens
    await _close_reasoning(thoughts, writer, cut=False)
    parts, problem = await asyncio.to_thread(_checked, plan, solution.answer)
    if problem and plan.is_strict:
        raise Failed("server_error", f"The model's answer did not fit: {problem}.", status=422)
    calls = _write(parts, writer)
    return _reason(chosen, calls) if chosen else "stop"
