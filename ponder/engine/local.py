"""The local engine: one single-thread worker process a core over shared weights, or one thread on a GPU.

    engine = LocalEngine(model, tokenizer)
    completions = await engine.generate([Message(role="user", content="What is 2+2?")], SamplingParams(), n=8)
    async for piece in engine.stream([Message(role="user", content="What is 2+2?")], SamplingParams()): ...
    engine.update_weights(model.state_dict(), version=1)     # copies into the shared memory the workers read

Weights may be replaced while requests run: the workers pause between two tokens while they are copied, and go on.

Calls made in one turn of the event loop travel together and are dealt so that every worker has as much to do; a call
for many samples is split over workers where that needs it. A completion does not depend on who else is in its batch, so
the deal decides only how soon it comes. Two threads in one process stall each other on small products; two processes
of one thread do not.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import math
import multiprocessing
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.multiprocessing  # shared tensors can be sent to workers
from torch import Tensor

from ponder import processes
from ponder.engine.arranging import write
from ponder.engine.form import form_problem
from ponder.engine.network import WeightLayout
from ponder.engine.scheduler import Request, Sample
from ponder.engine.serving import RunnerArgs, serve, worker_process
from ponder.engine.stream import Stream
from ponder.engine.tokens import EngineError, TokenEngine
from ponder.models.tokenizer import Tokenizer, is_byte_level
from ponder.models.transformer import Transformer
from ponder.types import Capabilities, Completion, Message, SamplingParams

_log = logging.getLogger("ponder.engine")
LONG_LIFE = 60.0  # seconds: a worker that lived so long had no trouble to begin with
MOST_DEATHS = 3  # of a worker, one after the other without a result between them: then the engine gives up


@dataclass(eq=False)
class _Call:
    """A request on its way: dealt to workers as pieces, complete when all its samples are back."""

    request: Request
    future: concurrent.futures.Future[list[Sample]]
    pieces: dict[int, tuple[int, int]] = field(default_factory=dict)  # piece id -> (worker, samples)
    samples: list[Sample] = field(default_factory=list)
    on_tokens: tuple[asyncio.AbstractEventLoop, Callable[[list[int]], None]] | None = None  # of a streamed request
    lock: threading.Lock = field(default_factory=threading.Lock)  # its end may come from several threads

    def end(self, samples: list[Sample] | None = None, error: EngineError | None = None) -> None:
        """Settle the future, unless it is settled already or was cancelled."""
        with self.lock:
            if self.future.done() or not self.future.set_running_or_notify_cancel():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(samples or [])


_open: weakref.WeakSet[LocalEngine] = weakref.WeakSet()


@atexit.register
def _close_open() -> None:
    """A program that ends without closing its engines: their workers have not died."""
    for engine in list(_open):
        engine.close()


class LocalEngine(TokenEngine):
    """Samples from a Transformer. `num_workers=0` runs in a thread of this process (GPU, tests).

    `dtype` is the one to sample in; None keeps the model's. `int8` multiplies with weights in int8, on a CPU
    (docs/engine.md). `update_weights` converts as it copies. With `keep_hidden` completions carry hidden states, for a
    probe (scorers/probe.py).
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        num_workers: int | None = None,
        num_slots: int = 128,
        dtype: torch.dtype | None = None,
        int8: bool = False,
        policy_version: int = 0,
        keep_hidden: bool = False,
        closes_once: bool = True,
    ) -> None:
        super().__init__(tokenizer, model.config, closes_once=closes_once, policy_version=policy_version)
        self.capabilities = Capabilities(
            token_ids=True, hidden_states=keep_hidden, forms=is_byte_level(self.tokenizer), streaming=True
        )
        self._outbox: list[_Call] = []
        self._pending: dict[int, _Call] = {}  # of each piece that a worker has
        self._lock = threading.Lock()
        self._closed = False
        if num_workers is None:
            num_workers = 0 if model.device.type == "cuda" else processes.num_cores()
        self._layout = WeightLayout.of(model.config, dtype or model.dtype, model.device, int8=int8)
        self.worker_processes: list[Any] = []
        self._thread: threading.Thread | None = None
        self._paused: dict[int, threading.Event] = {}  # of each worker that was asked to wait for new weights
        self._updating = threading.RLock()  # while weights are written: no worker joins, none is given a request
        self._sending = threading.Lock()  # a long message goes out in parts, and another thread's would come between
        self._load = [0] * max(1, num_workers)  # tokens each worker may still have to sample
        self._workers: list[Connection | None] = []  # None: it died, and the next one is on its way
        self._num_workers = num_workers
        self._runner_args = RunnerArgs(
            self._layout, self.tokenizer, num_slots, keep_hidden, closes_once, policy_version
        )
        try:
            for _ in range(num_workers):  # they get ready while the weights are arranged
                connection, process = self._start_process()
                self._workers.append(connection)
                self.worker_processes.append(process)
            self._weights = self._layout.in_memory(model.state_dict(), model.device, shared=num_workers > 0)
            for waiting in self._workers:
                assert waiting is not None
                self._hand_over(waiting)
            if not num_workers:
                self._workers.append(self._start_thread())
        except BaseException:
            self.close()
            raise
        for number, started in enumerate(self._workers):
            assert started is not None
            threading.Thread(target=self._look_after, args=(number, started), daemon=True).start()
        _open.add(self)

    def _start_process(self) -> tuple[Connection, Any]:
        return processes.start(worker_process, (self._runner_args,), name="ponder-engine")

    def _hand_over(self, connection: Connection) -> None:
        """The memory of the weights, as a file descriptor that travels through a socket."""
        try:
            with contextlib.suppress(ConnectionError):  # a dead worker: the thread that looks after it finds out
                connection.send(self._weights)
        except OSError as error:
            raise EngineError(
                f"the weights could not be shared with a worker ({error}); set TMPDIR to a short path on a local disk"
            ) from error

    def _start_thread(self) -> Connection:
        here, there = multiprocessing.Pipe()
        arguments = (there, self._runner_args, self._weights)
        self._thread = threading.Thread(target=serve, args=arguments, daemon=True, name="ponder-engine")
        self._thread.start()
        return here

    async def generate_until(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, end_ids: Sequence[int], *, n: int = 1
    ) -> list[Completion]:
        """`generate` with other tokens than the model's end marks to end a completion."""
        return await self._generate(prompt, params, n, 0, end_ids=tuple(end_ids))

    async def _draw(self, request: Request) -> list[Sample]:
        return await asyncio.wrap_future(self._submit(request).future)

    def _begin(self, stream: Stream, prompt_ids: tuple[int, ...], params: SamplingParams, first: int) -> None:
        request = self._request(prompt_ids, params, n=1, first=first, streamed=True)
        splitter = self._splitter(request)

        def on_tokens(ids: list[int]) -> None:
            stream.emit(splitter.feed(ids))

        def done(future: asyncio.Future[list[Sample]]) -> None:
            if future.cancelled():
                return stream.fail(asyncio.CancelledError())
            if error := future.exception():
                return stream.fail(error)
            (sample,) = future.result()
            stream.emit(splitter.finish(sample.token_ids[splitter.num_fed :]))
            stream.finish(self._completion(request, sample))

        call = self._submit(request, on_tokens=(asyncio.get_running_loop(), on_tokens))
        future = asyncio.wrap_future(call.future)
        future.add_done_callback(done)
        stream.on_close = future.cancel
        stream.on_answer_now = lambda: self._answer_now(call)

    def supports_form(self, form: str) -> bool:
        """Whether answers can be held to this form: the tokens' bytes are known, and the schema can be followed.
        Raises ConfigError where the library for it is missing."""
        return is_byte_level(self.tokenizer) and form_problem(form) is None

    @property
    def outstanding_tokens(self) -> int:
        """Tokens that the workers may still have to sample, at most."""
        return sum(self._load)

    def _submit(self, request: Request, on_tokens: Any = None) -> _Call:
        """Queue a request for the batch that leaves at the end of this turn of the event loop."""
        if request.params.form and not self.supports_form(request.params.form):
            raise ValueError("answers of this model cannot be held to this form; leave it out and check what comes")
        call = _Call(request, concurrent.futures.Future(), on_tokens=on_tokens)
        with self._lock:
            if self._closed:
                raise EngineError(self.failure or "the engine is closed")
            self._outbox.append(call)
        asyncio.get_running_loop().call_soon(self._flush)  # not the first alone: the loop of that one may have ended
        call.future.add_done_callback(lambda done: self._cancel(call) if done.cancelled() else None)
        return call

    def _flush(self) -> None:
        """Deal what has gathered: each call to the worker with least to do, up to an even share of the whole; what a
        call has beyond that goes to the next worker. From an idle engine the same calls make the same batches. Where no
        worker is alive they wait for the next one."""
        with self._updating:
            self._deal()

    def _deal(self) -> None:
        with self._lock:
            alive = [worker for worker in range(len(self._workers)) if self._is_alive(worker)] if self._outbox else []
            if not alive:
                return
            calls, self._outbox = self._outbox, []
            calls = [call for call in calls if not call.future.done()]  # cancelled before it left, or the engine died
            new = sum(call.request.n * self._cost(call.request) for call in calls)
            share = (sum(self._load) + new) / len(alive)
            batches: list[list[Any]] = [[] for _ in self._workers]
            for call in calls:
                first, left = call.request.first, call.request.n
                while left:
                    worker = min(alive, key=self._load.__getitem__)
                    n = min(left, max(1, math.ceil((share - self._load[worker]) / self._cost(call.request))))
                    piece = replace(call.request, id=next(self._ids), first=first, n=n)
                    batches[worker].append(("add", piece))
                    self._pending[piece.id] = call
                    call.pieces[piece.id] = worker, n
                    self._load[worker] += n * self._cost(call.request)
                    first, left = first + n, left - n
            workers = list(self._workers)  # these: what is sent to one that has died meanwhile has failed with it
        for connection, batch in zip(workers, batches, strict=True):
            if batch:
                self._send(connection, batch)

    def _is_alive(self, worker: int) -> bool:
        if self._workers[worker] is None:
            return False
        # the thread that looks after it may not have noticed; `is_alive` would take the exit code away from it
        return not self.worker_processes or not wait([self.worker_processes[worker].sentinel], timeout=0)

    def _cancel(self, call: _Call) -> None:
        with self._lock:
            pieces = dict(call.pieces)
            for piece_id in pieces:
                self._take_back(piece_id)
        for piece_id, (worker, _) in pieces.items():
            self._send(self._workers[worker], [("cancel", piece_id)])

    def _answer_now(self, call: _Call) -> None:
        with self._lock:
            pieces = dict(call.pieces)
            if call in self._outbox:
                params = replace(call.request.params, max_reasoning_tokens=0, min_reasoning_tokens=0)
                call.request = replace(call.request, params=params)
        for piece_id, (worker, _) in pieces.items():
            self._send(self._workers[worker], [("close_reasoning", piece_id)])

    def _take_back(self, piece_id: int) -> _Call | None:
        """A piece is with its worker no longer; None if it was cancelled. The lock is held."""
        call = self._pending.pop(piece_id, None)
        if call is not None:
            worker, n = call.pieces.pop(piece_id)
            self._load[worker] -= n * self._cost(call.request)
        return call

    def _take_calls(self) -> set[_Call]:
        """All that wait for an answer, which nobody else will now give them. The lock is held."""
        calls = {*self._outbox, *self._pending.values()}
        self._pending, self._outbox = {}, []
        return calls

    def _cost(self, request: Request) -> int:
        """Tokens that one sample takes at most."""
        params, left = request.params, self.config.max_position_embeddings - len(request.prompt_ids)
        return max(1, min(params.max_reasoning_tokens + 1 + params.max_answer_tokens, left))

    def _send(self, connection: Connection | None, message: Any) -> None:
        with self._sending, contextlib.suppress(OSError):  # a dead worker: the requests it had have failed
            if connection is not None:
                connection.send(message)

    def _look_after(self, number: int, connection: Connection) -> None:
        """One worker's thread here: hands on its results, and puts a new worker in the place of one that died."""
        deaths = 0
        while True:
            begun = time.monotonic()
            was_useful, why = self._receive(number, connection)
            if self._closed:
                return self._is_gone(number)
            deaths = 1 if was_useful or time.monotonic() - begun > LONG_LIFE else deaths + 1
            self._lost(number, why)
            if deaths == MOST_DEATHS:
                return self._give_up(f"{why}; {MOST_DEATHS} in a row, so no other is started: start the server again")
            try:
                connection = self._start_next(number)
            except (OSError, RuntimeError) as error:  # no memory for a process, no descriptor, no weights handed over
                return self._give_up(f"{why}; no other could be started ({type(error).__name__}: {error})")

    def _receive(self, number: int, connection: Connection) -> tuple[bool, str]:
        """Hand results to their futures until the worker is gone: (whether there were any, why it is gone)."""
        was_useful = False
        try:
            while True:
                results = connection.recv()
                if isinstance(results, str):
                    return was_useful, results
                if results is None:
                    self._paused[number].set()
                    continue
                was_useful = True
                tokens, finished = results
                self._emit(tokens)
                for piece_id, samples in finished:
                    self._arrived(piece_id, samples)
        except (EOFError, OSError):
            if self._closed or not self.worker_processes:
                return was_useful, "the engine was closed"
            why = processes.why_ended(self.worker_processes[number], "try fewer slots")
            return was_useful, f"an engine worker died {why}"

    def _lost(self, number: int, why: str) -> None:
        """A worker is gone, and with it the calls of which it had a part; their other parts are taken back."""
        _log.error("%s", why)
        self._is_gone(number)
        with self._lock:
            calls = {
                call for call in self._pending.values() if number in (worker for worker, _ in call.pieces.values())
            }
        for call in calls:
            call.end(error=EngineError(why))
            self._cancel(call)

    def _is_gone(self, number: int) -> None:
        """Nobody waits for this worker any more."""
        with self._lock:
            self._workers[number] = None
            if number in self._paused:
                self._paused[number].set()

    def _start_next(self, number: int) -> Connection:
        """A new worker, with the weights of this moment: they are read where `update_weights` writes them."""
        process: Any = None
        if self._num_workers:
            connection, process = self._start_process()
            self._hand_over(connection)
        else:
            connection = self._start_thread()
        with self._updating:  # the weights are whole; what it read of them before may not have been
            with self._lock:
                self._workers[number] = connection
                if process is not None:
                    self.worker_processes[number] = process
                is_closed = self._closed
            self._send(connection, None if is_closed else [("reload", self.policy_version)])
            self._flush()
        return connection

    def _give_up(self, why: str) -> None:
        """No request can be served any more: all that wait fail with the reason, and so does every new one."""
        with self._lock:
            self.failure = self.failure or why  # the first reason is the cause
            self._closed = True
            calls = self._take_calls()
        _log.error("the engine has failed: %s", why)
        for call in calls:
            call.end(error=EngineError(why))

    def _emit(self, tokens: Sequence[tuple[int, list[int]]]) -> None:
        """Tokens of running streams, each in its event loop, which is woken up once for all of them."""
        calls: dict[asyncio.AbstractEventLoop, list[tuple[Callable[[list[int]], None], list[int]]]] = {}
        for piece_id, ids in tokens:
            call = self._pending.get(piece_id)
            if call is not None and call.on_tokens is not None:
                loop, on_tokens = call.on_tokens
                calls.setdefault(loop, []).append((on_tokens, ids))

        def emit(batch: list[tuple[Callable[[list[int]], None], list[int]]]) -> None:
            for on_tokens, ids in batch:
                on_tokens(ids)

        for loop, batch in calls.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(emit, batch)

    def _arrived(self, piece_id: int, samples: list[Sample]) -> None:
        with self._lock:
            call = self._take_back(piece_id)
            if call is None:
                return
            call.samples += samples
            complete = not call.pieces
        if complete:
            call.end(sorted(call.samples, key=lambda sample: sample.index))

    def update_weights(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Copy new weights into the memory that the workers read, while they pause between two tokens. What is running
        goes on with them."""
        with self._updating:
            workers = self._pause()
            try:
                write(self._layout.arranged(weights), self._weights.views())
                self.policy_version = version
            finally:  # weights that do not fit are the caller's error, and nobody's who waits for a completion
                for connection in workers:
                    self._send(connection, [("reload", self.policy_version)])

    def _pause(self) -> list[Connection]:
        """Return when no worker reads the weights any more, until it is asked to reload; which those are. Idle ones do
        not, and are given nothing meanwhile."""
        with self._lock:
            if self._closed:
                return []
            workers = {number: one for number, one in enumerate(self._workers) if one is not None}
            self._paused = {number: threading.Event() for number in workers} if self._pending else {}
        if not self._paused:
            return list(workers.values())
        for connection in workers.values():
            self._send(connection, [("pause", None)])
        for event in self._paused.values():
            event.wait()
        return list(workers.values())

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stop the workers and wait for them: a thread that still computes while Python exits aborts the process."""
        with self._lock:
            self._closed = True
            calls = self._take_calls()
            workers = list(self._workers)
        for connection in workers:
            self._send(connection, None)
        for call in calls:
            call.end(error=EngineError(self.failure or "the engine was closed"))
        if self._thread is not None:
            self._thread.join(30)
        for worker in self.worker_processes:
            worker.join(5)
            if worker.is_alive():
                worker.kill()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
