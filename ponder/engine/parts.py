"""Completions out of requests that end at given tokens: what engines share that sample on a server.

A completion is one or two requests: the reasoning until its closing mark, its end or its cap; then, with the mark in
the prompt (forced where the cap was reached, and recorded as not sampled), the answer. Every sample is a request with a
seed of its own. A subclass says how one request is asked (`_ask`).
"""

from __future__ import annotations

import asyncio
import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ponder.engine.base import gather_or_cancel, refuse_form
from ponder.engine.scheduler import Request, Sample
from ponder.engine.stream import Stream
from ponder.engine.tokens import TokenEngine
from ponder.types import SamplingParams, sample_seed

REDRAWS = 4  # of an answer that a mark broke off; then marks are ruled out where that is possible

Enough = Callable[[list[int]], bool]  # of the tokens of a request so far: whether no more are wanted


@dataclass
class StreamListener:
    """Takes the tokens of one sample as they are drawn, and may ask for its answer at once."""

    on_tokens: Callable[[list[int]], None] | None = None
    answer_now: bool = False

    def emit(self, ids: list[int]) -> None:
        if self.on_tokens is not None:
            self.on_tokens(ids)


@dataclass
class DrawnPart:
    """What one request drew."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[tuple[int, int, int]] = field(default_factory=list)


class PartsEngine(TokenEngine):
    """`_load` counts the tokens that may still have to be sampled."""

    _load = 0

    @property
    def outstanding_tokens(self) -> int:
        return self._load

    @abstractmethod
    async def _ask(
        self, request: Request, sample: Sample, *, seed: int, limit: int, stops: Sequence[int | None], least: int = 0,
        ruled_out: Sequence[int] = (), enough: Enough | None = None,
    ) -> DrawnPart:  # fmt: skip
        """One request: what follows the prompt and the sample so far, with the first of `stops`. At least one token
        comes, none of the first `least` ends it; `enough` is asked after each."""

    async def _draw(self, request: Request) -> list[Sample]:
        indices = range(request.first, request.first + request.n)
        return await gather_or_cancel([self._sample(request, index, StreamListener()) for index in indices])

    def _begin(self, stream: Stream, prompt_ids: tuple[int, ...], params: SamplingParams, first: int) -> None:
        request = self._request(prompt_ids, params, n=1, first=first, streamed=True)
        splitter = self._splitter(request)
        listener = StreamListener(lambda ids: stream.emit(splitter.feed(ids)))

        async def work() -> None:
            try:
                sample = await self._sample(request, first, listener)
            except Exception as error:  # whatever it is, it belongs to whoever reads the stream
                return stream.fail(error)
            stream.emit(splitter.finish(sample.token_ids[splitter.num_fed :]))
            stream.finish(self._completion(request, sample))

        def answer_now() -> None:
            listener.answer_now = True

        stream.on_close = asyncio.ensure_future(work()).cancel
        stream.on_answer_now = answer_now

    async def _sample(self, request: Request, index: int, listener: StreamListener) -> Sample:
        """One sample, under the rules of a completion that engine/scheduler.py has."""
        params, sample = request.params, Sample(index=index, finish_reason="window")
        refuse_form(params)
        room = self.config.max_position_embeddings - len(request.prompt_ids)
        if room < 1:
            return sample
        limit, seed = min(room, params.max_tokens or room), sample_seed(params.seed, index)
        load = min(params.max_reasoning_tokens + 1 + params.max_answer_tokens, limit)
        self._load += load
        try:
            is_open = request.opened and self.tokenizer.unthink_id is not None
            is_over = is_open and await self._reason(request, sample, listener, seed=seed, room=room, limit=limit)
            begun = len(sample.token_ids)
            left = 0 if is_over else min(params.max_answer_tokens, limit - begun)
            if is_over:
                pass
            elif left and await self._answer(request, sample, listener, seed=seed, left=left):
                sample.finish_reason = "stop"
            elif len(sample.token_ids) - begun >= params.max_answer_tokens or limit < room:
                sample.finish_reason = "length"
        finally:
            self._load -= load
        if sample.versions:  # a forced token at the end goes with what came before it
            sample.versions[-1] = *sample.versions[-1][:2], len(sample.token_ids)
        return sample

    async def _reason(
        self, request: Request, sample: Sample, listener: StreamListener, *, seed: int, room: int, limit: int
    ) -> bool:
        """Draw the reasoning and its closing mark; whether the completion ended with it."""
        params, close, ends = request.params, self.tokenizer.unthink_id, self.tokenizer.end_ids
        kept = 1 + min(params.max_answer_tokens, room // 2)  # of the window, for the mark and the answer
        cap = min(params.max_reasoning_tokens, room - kept, limit)

        def enough(ids: list[int]) -> bool:
            listener.emit(ids[-1:])
            if params.pause and ids[-1] not in (close, *ends):
                step = self.tokenizer.decode(ids).lstrip()  # a step has words before what ends it
                if any(pause in step for pause in params.pause):
                    sample.finish_reason = "pause"
            return listener.answer_now or sample.finish_reason == "pause"

        if cap > 0 and not listener.answer_now:
            part = await self._ask(
                request, sample, seed=seed, limit=cap, stops=(close, *ends), least=params.min_reasoning_tokens,
                enough=enough if listener.on_tokens or params.pause else None,
            )  # fmt: skip
            add(sample, part)
        last = sample.token_ids[-1] if sample.token_ids else None
        if last in ends:
            sample.finish_reason = "stop"
        if last in ends or sample.finish_reason == "pause":
            return True
        if last != close and len(sample.token_ids) < limit:  # the budget is spent
            assert close is not None
            listener.emit([close])
            sample.token_ids.append(close)
            sample.logprobs.append(0.0)
            sample.sampled.append(False)
        return False

    async def _answer(
        self, request: Request, sample: Sample, listener: StreamListener, *, seed: int, left: int
    ) -> bool:
        """Draw the answer; whether it ended by itself. What breaks off at a mark that no answer may hold goes on with
        another seed: that draws from all tokens but marks, and log-probabilities stay those of the whole vocabulary."""
        params, tokenizer, begun = request.params, self.tokenizer, len(sample.token_ids)
        marks = tuple(mark for mark in (tokenizer.think_id, tokenizer.unthink_id) if mark is not None)
        unwanted = () if not request.guarded else marks if self._closes_once else marks[:1]
        is_stopped = False

        def enough(ids: list[int]) -> bool:
            nonlocal is_stopped
            if ids[-1] in unwanted:
                return False  # the server stops there itself
            listener.emit(ids[-1:])
            if params.stop:
                answer = tokenizer.decode([*sample.token_ids[begun:], *ids])
                is_stopped = any(stop in answer for stop in params.stop)
            return is_stopped

        for number in itertools.count(1):
            part = await self._ask(
                request, sample, seed=sample_seed(seed, number), limit=begun + left - len(sample.token_ids),
                stops=(*tokenizer.end_ids, *unwanted), enough=enough if listener.on_tokens or params.stop else None,
                ruled_out=marks if unwanted and number > 1 and (number > REDRAWS or params.temperature == 0) else (),
            )  # fmt: skip
            is_broken = part.token_ids[-1] in unwanted
            add(sample, part, count=len(part.token_ids) - is_broken)
            if not is_broken or number > 2 * REDRAWS:
                break
        return is_stopped or any(token in tokenizer.end_ids for token in sample.token_ids[-1:])


def add(sample: Sample, part: DrawnPart, *, count: int | None = None) -> None:
    """Append the first `count` tokens of a part to a sample, with the versions that drew them."""
    count, begun = len(part.token_ids) if count is None else count, len(sample.token_ids)
    for version, _, end in part.versions:
        reached = sample.versions[-1][2] if sample.versions else 0  # a forced token goes with what follows it
        if sample.versions and sample.versions[-1][0] == version:
            sample.versions[-1] = version, sample.versions[-1][1], begun + min(end, count)
        elif begun + min(end, count) > reached:
            sample.versions.append((version, reached, begun + min(end, count)))
    sample.token_ids += part.token_ids[:count]
    sample.logprobs += part.logprobs[:count]
    sample.sampled += [True] * count
