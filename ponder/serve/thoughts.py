"""The hidden channel of one sample: raw reasoning comes in, only summaries and verdicts go out.

Reasoning is cut into segments; each sealed segment goes to the monitors and, if one was asked for, to the summariser,
while thinking goes on. A summary waits for the verdict on its segment; what comes faster than a summariser follows has
none. `close` waits for both, within their deadlines, before any answer is released. The raw text is read through
`raw()` alone, by the vault. Where several samples think at a time, `SampleQueue` puts them one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ponder.monitors import Judgement, Monitor, ask_monitor
from ponder.serve.summary import Summarizer, leaks, plain_summary, says_something

SEGMENT = 800  # characters after which a segment is sealed at the next line
OVERLAP = 200  # characters before a segment that its monitors read again: what stands across a cut is seen whole
SUMMARY_WAIT = 5.0  # seconds that an answer waits for the last summary
_BEHIND = 4  # segments that may wait for the summariser
_LONG = 5_000  # characters of reasoning from which on the search for quotations leaves the event loop


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks at the reasoning of a request."""

    monitors: Sequence[Monitor] = ()
    monitor_deadline: float = 2.0
    fail_closed: bool = False
    summarizer: Summarizer | None = None
    private: Sequence[str] = ()  # what no summary may repeat besides the reasoning: the developer's messages
    context: Mapping[str, str] = field(default_factory=dict)  # what monitors get to know of the request


class Thoughts:
    """The reasoning of one sample, or of several one after the other; used in a running event loop. on_summary: (text).
    on_verdict: (monitor, number of the segment, judgement)."""

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
        self._before = ""  # the end of what was sealed of this sample
        self._num_segments = 0
        self._segments: asyncio.Queue[tuple[int, str, int, asyncio.Task[None] | None] | None] = asyncio.Queue()
        self._summaries: asyncio.Task[None] | None = None
        self._verdicts: list[asyncio.Task[None]] = []
        self.num_tokens = self.summary_tokens = 0
        self.is_stopped = asyncio.Event()  # a monitor said stop
        self.is_held = False  # one said hold: the reasoning goes on, no answer is given out
        self.chosen: str | None = None  # where several samples thought: the reasoning behind the answer
        self.started: float | None = None
        self.seconds = 0.0  # from the first thought to the end of the last

    def __repr__(self) -> str:
        return f"Thoughts({self.num_tokens} tokens)"

    def raw(self) -> str:
        """All reasoning so far, in clear: for `Vault.seal` and the check of summaries."""
        return "".join(self._parts)

    def begin(self) -> None:
        """Start the clock; later calls do nothing."""
        if self.started is None:
            self.started = time.monotonic()

    def add(self, text: str, num_tokens: int) -> None:
        """Add reasoning of the present sample. From `SEGMENT` characters on a segment is sealed at a line's end, and
        beyond twice that wherever it stands."""
        self._parts.append(text)
        self._open += text
        self._open_tokens += num_tokens
        self.num_tokens += num_tokens
        if len(self._open) >= SEGMENT:
            cut = self._open.rfind("\n", SEGMENT // 2) + 1 or (len(self._open) if len(self._open) > 2 * SEGMENT else 0)
            if cut:
                self._seal(cut)

    def next_sample(self) -> None:
        """What is added from here on is of another sample."""
        if self._open:
            self._seal(len(self._open))
        self._before = ""
        self._parts.append("\n\n")

    def _seal(self, cut: int) -> None:
        segment, self._open = self._open[:cut], self._open[cut:]
        tokens, self._open_tokens = self._open_tokens, 0
        number = self._num_segments
        self._num_segments += 1
        verdict = None
        if self._watch.monitors:
            verdict = asyncio.create_task(self._ask_monitors(number, self._before + segment))
            self._verdicts.append(verdict)
        self._before = (self._before + segment)[-OVERLAP:]
        if self._watch.summarizer is not None and self._segments.qsize() < _BEHIND:
            self._segments.put_nowait((number, segment, tokens, verdict))
            if self._summaries is None:
                self._summaries = asyncio.create_task(self._summarize())

    async def _ask_monitors(self, number: int, segment: str) -> None:
        for monitor in self._watch.monitors:
            verdict = await ask_monitor(
                monitor, segment, self._watch.context,
                deadline=self._watch.monitor_deadline, fail_closed=self._watch.fail_closed,
            )  # fmt: skip
            self._on_verdict(monitor.name, number, verdict)
            if verdict.action == "stop":
                self.is_stopped.set()
            self.is_held |= verdict.action == "hold"

    async def _summarize(self) -> None:
        summarizer = self._watch.summarizer
        assert summarizer is not None
        while (job := await self._segments.get()) is not None:
            number, segment, tokens, verdict = job
            try:
                text, cost = await summarizer(segment)
            except Exception:  # another model's failure is not this response's: the plain summary stands in
                text, cost = "", 0
            self.summary_tokens += cost
            if not says_something(text) or await self._quotes(text):
                text = plain_summary(number, tokens)
            if verdict is not None:
                await asyncio.wait({verdict})
            if self.is_stopped.is_set() or self.is_held:  # nothing of it is given out before a person has looked
                return
            self._on_summary(text)

    async def _quotes(self, text: str) -> bool:
        sources = [self.raw(), *self._watch.private]
        if sum(map(len, sources)) > _LONG:
            return await asyncio.to_thread(leaks, text, sources)
        return leaks(text, sources)

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
                async with asyncio.timeout(SUMMARY_WAIT):
                    await self._summaries

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self.started is not None and not self.seconds:
            self.seconds = time.monotonic() - self.started
        for task in (*self._verdicts, *([self._summaries] if self._summaries else [])):
            task.cancel()


class SampleQueue:
    """Samples that think at the same time, put one after the other in the order they began, as no monitor can read a
    mixture. The first that has not finished is passed on while it thinks, the others are held until their turn."""

    def __init__(self, thoughts: Thoughts) -> None:
        self._thoughts = thoughts
        self._waiting: list[list[tuple[str, int]]] = []
        self._finished: set[int] = set()
        self._turn = 0

    def begin(self) -> int:
        """A new sample's number."""
        self._waiting.append([])
        if 0 < self._turn == len(self._waiting) - 1:  # all before it have finished
            self._thoughts.next_sample()
        return len(self._waiting) - 1

    def add(self, number: int, text: str, num_tokens: int) -> None:
        if number == self._turn:
            self._thoughts.add(text, num_tokens)
        else:
            self._waiting[number].append((text, num_tokens))

    def finish(self, number: int) -> None:
        """A sample has ended or was stopped. If it was its turn, the next one has it, and what was held is passed
        on."""
        self._finished.add(number)
        while self._turn in self._finished:
            self._turn += 1
            if self._turn < len(self._waiting):
                self._thoughts.next_sample()
                for text, num_tokens in self._waiting[self._turn]:
                    self._thoughts.add(text, num_tokens)
                self._waiting[self._turn] = []
