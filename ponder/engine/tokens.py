"""What engines over token ids share: a prompt becomes ids, and the ids of a sample become a Completion or a stream.

A subclass says how samples are drawn (`_draw`) and how one is while it is drawn (`_begin`).
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from ponder.engine.base import BaseEngine
from ponder.engine.scheduler import Request, Sample
from ponder.engine.stream import Splitter, Stream
from ponder.models.tokenizer import Tokenizer, reasoning_is_open
from ponder.models.transformer import ModelConfig
from ponder.types import Completion, Message, SamplingParams, sample_seed

LONG_PROMPT, LONGEST_KEPT = 20_000, 1_000_000  # characters


class EngineError(RuntimeError):
    """What samples died or was closed while a request was running; or it has failed for good."""


class TokenEngine(BaseEngine):
    """`closes_once=False` lets a policy draw the closing mark in its answers: a trainer must see what it does
    (models/tokenizer.py says how it is read); streams of such an engine emit their answers at the end."""

    tokenizer: Tokenizer

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig, *, closes_once: bool, policy_version: int) -> None:
        self.tokenizer, self.config, self._closes_once = tokenizer, config, closes_once
        self.window = config.max_position_embeddings
        self.policy_version = policy_version
        # whoever counts a prompt asks it next, often many times
        self._rendered = functools.lru_cache(maxsize=16)(lambda messages: tuple(tokenizer.render(messages)))
        self._ids = itertools.count()

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        """n completions of one prompt, in order of their sample index."""
        return await self._generate(prompt, params, n, first)

    async def _generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, n: int, first: int, **more: Any
    ) -> list[Completion]:
        if n < 1:
            raise ValueError(f"n={n} asks for no samples; use at least 1")
        request = self._request(await self._encoded(prompt), params, n=n, first=first, **more)
        return [self._completion(request, sample) for sample in await self._draw(request)]

    def stream(self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0) -> Stream:
        """Sample `first` of a request, emitted while it is drawn; in the end the completion that generate returns."""
        stream = Stream()
        if num_characters(prompt) <= LONG_PROMPT:
            self._begin(stream, self.prompt_ids(prompt), params, first)
            return stream
        answer_now: list[None] = []

        async def begin() -> None:
            try:
                self._begin(stream, await self._encoded(prompt), params, first)
            except Exception as error:  # the prompt's, or the engine's: the stream's reader gets it
                stream.fail(error)
            if answer_now:
                stream.answer_now()

        task = asyncio.ensure_future(begin())
        stream.on_close = task.cancel
        stream.on_answer_now = lambda: answer_now.append(None)
        return stream

    @abstractmethod
    async def _draw(self, request: Request) -> list[Sample]:
        """The samples of a request, in order of their index."""

    @abstractmethod
    def _begin(self, stream: Stream, prompt_ids: tuple[int, ...], params: SamplingParams, first: int) -> None:
        """Start drawing sample `first` into a stream."""

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        """A prompt that cannot fit into the window may come back as ids that only show its length."""
        if prompt and isinstance(prompt[0], Message):
            messages = tuple(cast("Sequence[Message]", prompt))
            # one that is longer is hardly ever read, and sixteen of them would take memory
            kept = num_characters(messages) <= LONGEST_KEPT
            return self._rendered(messages) if kept else tuple(self.tokenizer.render(messages))
        ids = tuple(int(token) for token in cast("Sequence[int]", prompt))
        bad = next((token for token in ids if not 0 <= token < self.config.vocab_size), None)
        if bad is not None or not ids:
            raise ValueError(f"prompt ids must be 1 or more numbers below {self.config.vocab_size}, got {bad}")
        return ids

    async def _encoded(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        """A long text is encoded in a thread, while the event loop goes on."""
        if num_characters(prompt) > LONG_PROMPT:
            return await asyncio.to_thread(self.prompt_ids, prompt)
        return self.prompt_ids(prompt)

    def _completion(self, request: Request, sample: Sample) -> Completion:
        piece = self._splitter(request).finish(sample.token_ids)
        versions = tuple(sample.versions)
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(sample.token_ids),
            sampler_logprobs=tuple(sample.logprobs),
            sampled=tuple(sample.sampled),
            finish_reason=sample.finish_reason,
            reasoning=piece.reasoning,
            answer=piece.answer,
            num_reasoning_tokens=piece.num_reasoning,
            policy_version=versions[0][0] if versions else self.policy_version,
            versions=versions if len(versions) > 1 else (),
            seed=sample_seed(request.params.seed, sample.index),
            hidden=sample.hidden,
        )

    def _request(self, prompt_ids: tuple[int, ...], params: SamplingParams, **more: Any) -> Request:
        marks = {self.tokenizer.think_id, self.tokenizer.unthink_id}
        return Request(
            id=next(self._ids), prompt_ids=prompt_ids, params=params,
            opened=reasoning_is_open(self.tokenizer, prompt_ids), guarded=not marks.isdisjoint(prompt_ids), **more,
        )  # fmt: skip

    def _splitter(self, request: Request) -> Splitter:
        """What reads a completion of this request, whole or piece by piece."""
        return Splitter(
            self.tokenizer.decode,
            think_id=self.tokenizer.think_id,
            unthink_id=self.tokenizer.unthink_id,
            end_ids=self.tokenizer.end_ids,
            opened=request.opened,
            stop=request.params.stop,
            closes_once=self.tokenizer.unthink_id is None or (self._closes_once and request.guarded),
        )


def num_characters(prompt: Sequence[Message] | Sequence[int]) -> int:
    """Characters of a prompt's messages, roles left out; 0 for a prompt of ids."""
    return sum(len(part.content) for part in prompt if isinstance(part, Message))
