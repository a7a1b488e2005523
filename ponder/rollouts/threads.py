"""Call a plain function on every item in threads: quick calls share one, slow ones get more, one that hangs is left.

    results = await call_each(check, items, timeout=60.0)    # a value or an Exception an item, in their order

A call takes its own thread only where it must: a thread a call costs a tenth of a millisecond and more, most verifiers
less; and where every core is busy sampling, starting one keeps the event loop waiting for milliseconds, so threads wait
for the next call when they are done. The first thread works through the items; if they are not done after `PATIENCE`,
further threads take from the rest. A call that lasts longer than `timeout` is a TimeoutError, and its thread, which
nothing can stop, is abandoned: threads are daemons, so it keeps neither others waiting nor the process from ending.

A call runs in a copy of the context of whoever asked: what is marked there (`ponder/rewarding.py`) is marked in the
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from ponder.sandbox.waiting import watch

PATIENCE = 0.02  # seconds before more threads help the first
MOST = 512  # further threads at once, over all calls of `call_each` in this process

_further = threading.BoundedSemaphore(MOST)
_idle: list[SimpleQueue[Callable[[], None]]] = []  # of each thread that waits for something to do


def _run(work: Callable[[], None]) -> None:
    """In a thread that waits, or a new one. list.append and pop are atomic."""
    try:
        _idle.pop().put(work)
    except IndexError:
        threading.Thread(target=_stay, args=(work,), name="verifier", daemon=True).start()


def _stay(work: Callable[[], None]) -> None:
    own: SimpleQueue[Callable[[], None]] = SimpleQueue()
    while True:
        work()
        _idle.append(own)
        work = own.get()


async def call_each(function: Callable[[Any], Any], items: Sequence[Any], *, timeout: float) -> list[Any]:
    """function(item) of every item, or the Exception it raised: a TimeoutError where it took more than `timeout` s."""
    calls = _Calls(function, items)
    calls.start()
    while not calls.is_done:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):  # not wait_for: in Python 3.11 it may swallow a Ctrl-C
                await calls.done.wait()
        calls.give_up_after(timeout)
        calls.add_threads()
    return calls.results


class _Calls:
    """The items of one `call_each`: what is still to do, what is under way since when, what came of it."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.results: list[Any] = [None] * len(items)
        self.done = asyncio.Event()
        self._function = function
        self._todo: Iterator[tuple[int, Any]] = enumerate(items)
        self._num_waiting = self._num_open = len(items)  # not begun; not settled
        self._since: dict[int, float] = {}  # index -> when its call began; of those under way
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    @property
    def is_done(self) -> bool:
        return self._num_open == 0

    def start(self, release: Callable[[], None] | None = None) -> None:
        context = contextvars.copy_context()
        _run(lambda: context.run(self._work, release))

    def add_threads(self) -> None:
        """One for every waiting item, as far as the limit goes."""
        for _ in range(self._num_waiting):
            if not _further.acquire(blocking=False):
                return
            try:
                self.start(_further.release)
            except RuntimeError:  # a container may allow few: those that there are do the rest
                _further.release()
                return

    def give_up_after(self, timeout: float) -> None:
        late = [index for index, begun in list(self._since.items()) if time.monotonic() - begun > timeout]
        for index in late:
            self._settle(index, TimeoutError(f"it took longer than {timeout:g} s"))

    def _work(self, release: Callable[[], None] | None) -> None:
        try:
            while True:
                with self._lock:
                    index, item = next(self._todo, (None, None))
                    if index is None:
                        return
                    self._num_waiting -= 1
                    self._since[index] = time.monotonic()
                watch(partial(self._clock, index, math.inf), partial(self._clock, index, None))
                try:
                    value = self._function(item)
                except Exception as error:
                    value = error
                except BaseException as error:  # SystemExit and its like end neither the thread nor the job
                    value = RuntimeError(f"{type(error).__name__}: {error}")
                watch(None, None)
                if not self._settle(index, value):
                    return  # given up meanwhile: others do the rest
        finally:
            if release is not None:
                release()

    def _clock(self, index: int, since: float | None) -> None:
        """The call of this thread waits for its turn in the sandbox (inf), or goes on: its time begins anew."""
        with self._lock:
            if index in self._since:
                self._since[index] = time.monotonic() if since is None else since

    def _settle(self, index: int, value: Any) -> bool:
        """Note what came of a call, once; False where somebody else did before."""
        with self._lock:
            if self._since.pop(index, None) is None:
                return False
            self.results[index] = value
            self._num_open -= 1
            is_last = self._num_open == 0
        if is_last:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.done.set)
        return True
