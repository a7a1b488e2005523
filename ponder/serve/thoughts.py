"""The hidden channel of one sample: raw reasoning comes in, only summaries and verdicts go out.

Reasoning is cut into segments; each sealed segment goes to the monitors and, if one was asked for, to the summariser,
while thinking goes on. `close` waits for both, within their deadlines, before any answer is released. The raw text is
read through `raw()` alone, by the vault.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ponder.serve.monitor import Judgement, Monitor, judge
from ponder.serve.summary import Summarizer, leaks, plain_summary, says_something

SEGMENT = 800  # characters after which a segment is sealed at the next line
SUMMARY_WAIT = 5.0  # seconds that an answer waits for the last summary


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks at the reasoning of a request."""

    monitors: Sequence[Monitor] = ()
    monitor_deadline: float = 2.0
    fail_closed: bool = False
    summarizer: Summarizer | None = None
    private: Sequence[str] = ()  # what no summary may repeat besides the reasoning: the developer's messages
    context: Mapping[str, str] | None = None


class Thoughts:
    def __init__(
        self,
        watch: Watch,
        *,
        on_summary: Callable[[str], None],
        on_verdict: Callable[[str, int, Judgement], None],
    ) -> None:
        self._watch = watch
        self._on_summary, self._on_verdict = on_summary, on_verdict
        self._parts: list[str] = []
        self._open, self._open_tokens = "", 0
        self._num_segments = 0
        self._segments: asyncio.Queue[tuple[int, str, int] | None] = asyncio.Queue()
        self._summaries: asyncio.Task[None] | None = None
        self._verdicts: list[asyncio.Task[None]] = []
        self.num_tokens = self.summary_tokens = 0
        self.is_stopped = asyncio.Event()  # a monitor said stop
        self.chosen: str | None = None  # where several samples thought: the reasoning behind the answer
        self.started: float | None = None
        self.seconds = 0.0  # from the first thought to the end of the last

    def __repr__(self) -> str:
        return f"Thoughts({self.num_tokens} tokens)"

    def raw(self) -> str:
        return "".join(self._parts)

    def begin(self) -> None:
        if self.started is None:
            self.started = time.monotonic()

    def hear(self, text: str, num_tokens: int) -> None:
        self._parts.append(text)
        self._open += text
        self._open_tokens += num_tokens
        self.num_tokens += num_tokens
        if len(self._open) >= SEGMENT:
            cut = self._open.rfind("\n", SEGMENT // 2) + 1 or (len(self._open) if len(self._open) > 2 * SEGMENT else 0)
            if cut:
                self._seal(cut)

    def _seal(self, cut: int) -> None:
        segment, self._open = self._open[:cut], self._open[cut:]
        tokens, self._open_tokens = self._open_tokens, 0
        number = self._num_segments
        self._num_segments += 1
        if self._watch.monitors:
            self._verdicts.append(asyncio.create_task(self._judge(number, segment)))
        if self._watch.summarizer is not None:
            self._segments.put_nowait((number, segment, tokens))
            if self._summaries is None:
                self._summaries = asyncio.create_task(self._summarize())

    async def _judge(self, number: int, segment: str) -> None:
        for monitor in self._watch.monitors:
            verdict = await judge(
                monitor, segment, self._watch.context or {},
                deadline=self._watch.monitor_deadline, fail_closed=self._watch.fail_closed,
            )  # fmt: skip
            self._on_verdict(monitor.name, number, verdict)
            if verdict.action == "stop":
                self.is_stopped.set()

    async def _summarize(self) -> None:
        summarizer = self._watch.summarizer
        assert summarizer is not None
        while (job := await self._segments.get()) is not None:
            number, segment, tokens = job
            try:
                text, cost = await summarizer(segment)
            except Exception:  # another model's failure is not this response's: the plain summary stands in
                text, cost = "", 0
            self.summary_tokens += cost
            if not says_something(text) or leaks(text, [self.raw(), *self._watch.private]):
                text = plain_summary(number, tokens)
            self._on_summary(text)

    async def close(self) -> None:
        """The reasoning is over: seal the rest, wait for verdicts and summaries."""
        if self.started is not None:
            self.seconds = time.monotonic() - self.started
        if self._open:
            self._seal(len(self._open))
        if self._verdicts:
            await asyncio.gather(*self._verdicts)
        if self._summaries is not None and not self.is_stopped.is_set():
            self._segments.put_nowait(None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._summaries, SUMMARY_WAIT)

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self.started is not None and not self.seconds:
            self.seconds = time.monotonic() - self.started
        for task in (*self._verdicts, *([self._summaries] if self._summaries else [])):
            task.cancel()
