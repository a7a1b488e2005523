"""What every engine shares (`BaseEngine`, `EngineWrapper`), and the fake one that ships: `ScriptedEngine`.

    engine = ScriptedEngine(lambda prompt, seed: ("two and two", "4"))
    engine = ScriptedEngine([("slow", "4"), "5"])    # sample j takes item j, round and round; a str has no reasoning
    completions = await engine.generate(problem.prompt, SamplingParams(), n=8)

The fake keeps every promise of a real engine, so code tested with it meets no surprise later: token ids (bytes, and two
marks that no text can encode), one logprob a token, budgets enforced with forced tokens marked as not sampled, seeds by
`sample_seed`, `first`, pauses between steps, a context window, cancellation. It has no model: its logprobs are numbers
of the right sign, and its tokens are bytes whatever the tokenizer of a real model would do. Nothing here imports torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from ponder.config import ConfigError
from ponder.engine.stream import Splitter, Stream, one_piece
from ponder.types import (
    Capabilities,
    Completion,
    CompletionStream,
    Engine,
    FinishReason,
    Message,
    SamplingParams,
    sample_seed,
)

CLOSE, END = 256, 257  # the fake's marks: end of reasoning, end of completion; bytes are 0 to 255

T = TypeVar("T")
Response = str | tuple[str, str]  # an answer, or (reasoning, answer)


async def gather_or_cancel(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order. If one fails, or this call is cancelled, all are cancelled, and waited for: until what they
    opened is closed, and what they drew is counted."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def refuse_form(params: SamplingParams) -> None:
    """ValueError for what an engine without `Capabilities.forms` cannot do."""
    if params.form:
        raise ValueError("answers are not held to a form here; leave it out and check what comes")


class EngineLost(RuntimeError):
    """Nobody is left who could sample. A run that meets it keeps what it reached."""


class BaseEngine(ABC):
    """An engine that implements `generate`; the rest is here, for an engine that can do no more."""

    capabilities: Capabilities = Capabilities()
    tokenizer: Any = None
    window: int | None = None
    failure: str | None = None

    @property
    def outstanding_tokens(self) -> int:
        return 0

    @abstractmethod
    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]: ...

    def stream(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0
    ) -> CompletionStream:
        return one_piece(self, prompt, params, first=first)

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        raise ConfigError("this engine has no token ids; use a local one")

    def encode(self, text: str) -> Sequence[int]:
        if self.tokenizer is None:
            raise ConfigError("this engine has no token ids; use a local one")
        ids: Sequence[int] = self.tokenizer.encode(text)
        return ids

    def supports_form(self, form: str) -> bool:
        return False

    async def aclose(self) -> None:  # noqa: B027 - many have nothing to stop
        """Nothing to stop."""


class EngineWrapper:
    """Another engine, all of it. A subclass overrides what it changes."""

    engine: Engine

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    @property
    def tokenizer(self) -> Any:
        return self.engine.tokenizer

    @property
    def window(self) -> int | None:
        return self.engine.window

    @property
    def failure(self) -> str | None:
        return self.engine.failure

    @property
    def outstanding_tokens(self) -> int:
        return self.engine.outstanding_tokens

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        return await self.engine.generate(prompt, params, n=n, first=first)

    def stream(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0
    ) -> CompletionStream:
        return self.engine.stream(prompt, params, first=first)

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        return self.engine.prompt_ids(prompt)

    def encode(self, text: str) -> Sequence[int]:
        return self.engine.encode(text)

    def supports_form(self, form: str) -> bool:
        return self.engine.supports_form(form)

    async def aclose(self) -> None:
        await self.engine.aclose()


class RedrawingWrapper(EngineWrapper, ABC):
    """A wrapper whose completions are others than its engine's: its stream is its own `generate`, in one piece."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.engine.capabilities, streaming=False)

    @abstractmethod
    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]: ...

    stream = BaseEngine.stream  # not the engine's, which EngineWrapper would hand on


class ScriptedEngine(BaseEngine):
    """A Sampler whose completions are written by `respond(prompt_text, seed)`, or read from a list by sample index.

    `delay` seconds pass before the completions return. A stream comes in `portions` of tokens, round and round,
    with `pace` seconds a token. `calls` holds (prompt text, first, n) of every request, and
    `most_in_flight` and `num_cancelled` say what happened to them, for tests of concurrency and cancellation.
    """

    capabilities = Capabilities(token_ids=True, streaming=True)

    def __init__(
        self,
        respond: Callable[[str, int], Response] | Sequence[Response],
        *,
        delay: float = 0.0,
        window: int | None = None,
        policy_version: int = 0,
        portions: Sequence[int] = (8,),
        pace: float = 0.0,
    ) -> None:
        self._respond = respond
        self.portions, self.pace = portions, pace
        self.delay, self.window, self.policy_version = delay, window, policy_version
        self.calls: list[tuple[str, int, int]] = []
        self.num_in_flight = self.most_in_flight = self.num_cancelled = 0

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        text, prompt_ids = _read_prompt(prompt)
        version = self.policy_version  # of the moment the request arrived, like the weights a real engine would use
        with self._counted(text, first, n):
            await asyncio.sleep(self.delay)
        return [self._complete(text, prompt_ids, params, j, version) for j in range(first, first + n)]

    def stream(self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0) -> Stream:
        """The completion that generate returns, emitted in portions."""
        text, prompt_ids = _read_prompt(prompt)
        stream = Stream()
        answer_now = asyncio.Event()
        stream.on_answer_now = answer_now.set
        task = asyncio.ensure_future(self._play(stream, answer_now, text, prompt_ids, params, first))
        stream.on_close = task.cancel
        return stream

    async def _play(
        self,
        stream: Stream,
        answer_now: asyncio.Event,
        text: str,
        prompt_ids: tuple[int, ...],
        params: SamplingParams,
        index: int,
    ) -> None:
        try:
            with self._counted(text, index, 1):
                whole = self._complete(text, prompt_ids, params, index, self.policy_version)
                splitter = Splitter(
                    _decode, think_id=None, unthink_id=CLOSE, end_ids=(END,), opened=True, stop=params.stop,
                    closes_once=True,
                )  # fmt: skip
                await asyncio.sleep(self.delay)
                for portion in itertools.cycle(self.portions):
                    done = splitter.num_fed
                    if answer_now.is_set() and CLOSE not in whole.token_ids[:done]:
                        answer_now.clear()
                        least = min(params.min_reasoning_tokens, done)
                        params = replace(params, max_reasoning_tokens=done, min_reasoning_tokens=least)
                        whole = self._complete(text, prompt_ids, params, index, whole.policy_version)
                    stream.emit(splitter.feed(whole.token_ids[done : done + portion]))
                    if splitter.num_fed == len(whole.token_ids):
                        break
                    await asyncio.sleep(self.pace * portion)
            stream.emit(splitter.finish())
            stream.finish(whole)
        except Exception as error:  # a script that raises fails its own request
            stream.fail(error)

    @contextlib.contextmanager
    def _counted(self, text: str, first: int, n: int) -> Iterator[None]:
        self.calls.append((text, first, n))
        self.num_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.num_in_flight)
        try:
            yield
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_in_flight -= 1

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        return _read_prompt(prompt)[1]

    def encode(self, text: str) -> list[int]:
        return list(_encode(text))

    def update_weights(self, weights: object, *, version: int) -> None:
        """Nothing to load; later completions carry the new version."""
        self.policy_version = version

    def _complete(
        self, text: str, prompt_ids: tuple[int, ...], params: SamplingParams, index: int, version: int
    ) -> Completion:
        seed = sample_seed(params.seed, index)
        if callable(self._respond):
            # greedy decoding has no use for a seed: every sample of the request is the same one
            response = self._respond(text, seed if params.temperature > 0 else sample_seed(params.seed, 0))
        else:
            response = self._respond[index % len(self._respond)]
        reasoning, answer = ("", response) if isinstance(response, str) else response
        left = None if self.window is None else max(0, self.window - len(prompt_ids))
        ids, sampled, finish = _spell(reasoning, answer, params, left)
        if params.max_tokens is not None and len(ids) > params.max_tokens:
            ids, sampled, finish = ids[: params.max_tokens], sampled[: params.max_tokens], "length"
        ids, sampled, finish = _paused(ids, sampled, finish, params.pause)
        closed = ids.index(CLOSE) if CLOSE in ids else None
        rng = Random(seed)
        return Completion(
            prompt_ids=prompt_ids,
            token_ids=tuple(ids),
            sampler_logprobs=tuple(-rng.random() for _ in ids),
            sampled=tuple(sampled),
            finish_reason=finish,
            reasoning=_decode(ids[:closed]),
            answer="" if closed is None else _decode(ids[closed + 1 :]),
            num_reasoning_tokens=len(ids) if closed is None else closed,
            policy_version=version,
            seed=seed,
        )


def _spell(
    reasoning: str, answer: str, params: SamplingParams, left: int | None
) -> tuple[list[int], list[bool], FinishReason]:
    """The token ids of one scripted sample under its budgets, which of them were sampled, and why it ended."""
    cuts = [start for start in (answer.find(stop) for stop in params.stop) if start >= 0]
    answer = answer[: min(cuts)] if cuts else answer
    # a script shorter than the minimum goes on with dots, as a model that cannot close must say something
    thought = list(_encode(reasoning).ljust(params.min_reasoning_tokens, b"."))
    forced_close = len(thought) > params.max_reasoning_tokens
    answer_ids = [*_encode(answer), END]
    finish: FinishReason = "stop" if len(answer_ids) <= params.max_answer_tokens else "length"
    thought, answer_ids = thought[: params.max_reasoning_tokens], answer_ids[: params.max_answer_tokens]
    ids = [*thought, CLOSE, *answer_ids]
    sampled = [True] * len(thought) + [not forced_close] + [True] * len(answer_ids)
    if left is not None and len(ids) > left:
        return ids[:left], sampled[:left], "window"
    return ids, sampled, finish


def _paused(
    ids: list[int], sampled: list[bool], finish: FinishReason, pauses: Sequence[str]
) -> tuple[list[int], list[bool], FinishReason]:
    """The first step of the reasoning, up to and with the first string that ends one after some words."""
    end = ids.index(CLOSE) if CLOSE in ids else len(ids)
    for length in range(1, end + 1) if pauses else ():
        step = _decode(ids[:length]).lstrip()
        if any(pause in step for pause in pauses):
            return ids[:length], sampled[:length], "pause"
    return ids, sampled, finish


def _read_prompt(prompt: Sequence[Message] | Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """The text a script answers (the last message, or the decoded ids) and the token ids of the whole prompt."""
    if prompt and isinstance(prompt[0], Message):
        messages = [message for message in prompt if isinstance(message, Message)]
        whole = "\n".join(f"{message.role}: {message.content}" for message in messages)
        return messages[-1].content, tuple(_encode(whole))
    ids = tuple(token for token in prompt if isinstance(token, int))
    return _decode(ids), ids


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # text from a file may hold half a surrogate pair


def _decode(ids: Sequence[int]) -> str:
    """Bytes to text; marks are not text, and a character cut in half becomes the replacement character."""
    return bytes(token for token in ids if token < 256).decode(errors="replace")
