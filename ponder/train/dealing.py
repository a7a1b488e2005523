"""Scheduling of requests over many engines, any of which may be slow, unresponsive or lost.

    dealer = Dealer({"engine 0": remote, "engine 1": remote}, ClusterConfig(patience=20, hedge=10), record)
    dealer.update(weights, version=3)
    completions = await dealer.answer(Draw(prompt, params, n=16, step=3, problem="arithmetic/train/17"))

A completion depends on weights, prompt, seed and index alone. So a request whose engine is lost is asked again, and is
the same; of two answers the first is taken, and is as good as the other. Rules:

    deal        at once, to the engine expected to be done first, by the speed that was measured of it
    patience    an engine that answers no ping for so long is lost: its requests are asked again, it is ended, and Ray
                starts it again. Time in which this process itself was busy does not count
    hedge       a request open for longer is also given to an engine that would answer in half the time
    versions    a request names the version of its weights; an engine of another refuses, and is sent the weights
    quarantine  a lost engine is dealt nothing until it answers a ping; after the fourth loss without an answer, never
    floor       fewer than `min_engines` for longer than `outage` seconds end the run; what it reached is saved

Nothing here knows Ray (train/cluster.py does): a `Remote` is anything that can be asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ponder.config import check, setting
from ponder.engine.base import EngineLost
from ponder.types import Completion, Message, SamplingParams

TICKS = 8  # looks at every engine within its patience
SLOWEST = 1 / 8  # of the fastest engine's speed: what a slower one is dealt as, so that it is measured again
HORIZON = 60.0  # seconds of work after which what was measured before counts half
MOST_LOSSES = 3  # of an engine, without an answer between them


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Engines and ranks on the nodes of a Ray cluster, and how long the run waits for one that is silent."""

    address: str = setting("", "of a Ray cluster, HOST:PORT or auto; empty = Ray is started on this machine alone")
    engines: int = setting(2, "that sample, each an actor on one node", least=1, also="num_engines vllm_num_engines")
    cores: int = setting(1, "of an engine", least=1)
    gpus: int = setting(0, "of an engine, and of a rank", least=0)
    ranks: int = setting(0, "processes that train in shards; 0 = the driver trains, as on one machine", least=0)
    patience: float = setting(20.0, "seconds of silence after which an engine is lost", above=0)
    hedge: float = setting(10.0, "seconds after which a request is given to a faster engine too; 0 = never", least=0)
    min_engines: int = setting(1, "with fewer the run waits, then saves and stops", least=1)
    outage: float = setting(120.0, "seconds for which it waits for engines", above=0)

    def __post_init__(self) -> None:
        check(self)
        if self.min_engines > self.engines:
            raise ValueError(f"cluster.min_engines={self.min_engines} cannot exceed cluster.engines={self.engines}")


class WorkerLost(Exception):
    """An engine's process, node or answer is gone. `is_running`: it has to be ended before it can begin anew."""

    def __init__(self, why: str, *, is_running: bool = False) -> None:
        super().__init__(why)
        self.is_running = is_running


class WrongVersion(Exception):
    """An engine has other weights than a request asks for."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What is asked, and by whom: (step, problem, seed of the params, first, n) is its identity in the ledger."""

    prompt: Sequence[Message] | Sequence[int]
    params: SamplingParams
    n: int
    first: int = 0
    step: int = 0
    problem: str = ""


class Remote(Protocol):
    """An engine somewhere else. A request is looked at after the weights that were sent before it."""

    async def generate(self, request: Draw, version: int) -> list[Completion]:
        """Raises WorkerLost and WrongVersion. Cancelling it stops the work there."""
        ...

    async def ping(self) -> Mapping[str, Any]:
        """{"version": of its weights or None, and facts for the log}. Raises WorkerLost."""
        ...

    def update(self, weights: Any, version: int) -> None:
        """Sent, and not waited for: whatever is asked afterwards is asked of these weights, or refused."""
        ...

    def restart(self) -> None:
        """End an engine that is lost but still runs, so that it starts again, without weights."""
        ...

    def close(self) -> None:
        """End it for good: it does not start again."""
        ...


@dataclass(eq=False)
class Worker:
    """An engine as the driver sees it."""

    name: str
    remote: Remote
    is_able: bool = False  # it is there and may be dealt requests
    is_retired: bool = False
    load: int = 0  # samples it was asked for and has not answered
    attempts: set[asyncio.Task[Any]] = field(default_factory=set)
    num_sent: int = 0  # times that it was sent weights
    losses: int = 0  # since its last answer
    silence: int = 0  # ticks since its last sign of life
    ping: asyncio.Task[Any] | None = None
    _samples: float = 0.0  # answered, and in how many seconds of work
    _busy: float = 0.0
    _since: float = 0.0

    def note(self, now: float, *, asked: int = 0, answered: int = 0, over: int = 0) -> None:
        """Samples were asked for, answered, or are over with or without an answer: measure its speed."""
        self._busy += now - self._since if self.load else 0.0
        self._since, self._samples = now, self._samples + answered
        self.load += asked - over
        if self._busy > HORIZON:
            self._busy, self._samples = self._busy / 2, self._samples / 2

    def speed(self, now: float) -> float | None:
        """Samples a second of work, one where there was none yet; None = it has not worked."""
        self.note(now)
        return max(1.0, self._samples) / self._busy if self._busy else None

    def forget(self, now: float) -> None:
        """Another life on perhaps another node begins: what was measured does not count."""
        self._samples, self._busy, self._since = 0.0, 0.0, now


class Dealer:
    """Deals requests to workers until each is answered once."""

    def __init__(
        self, remotes: Mapping[str, Remote], config: ClusterConfig, record: Callable[[dict[str, Any]], None]
    ) -> None:
        """record: called with every answer and every event, as rows of the ledger."""
        self.workers = [Worker(name, remote) for name, remote in remotes.items()]
        self.counts: Counter[str] = Counter()  # asked, answered, again, hedged, refused, lost
        self.failure: str | None = None
        self.version: int | None = None
        self._config, self._record = config, record
        self._weights: Any = None
        self._there_is_one = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._ticks_below = 0

    # ---- requests

    async def answer(self, request: Draw) -> list[Completion]:
        """Its completions, from whichever engine is first. Raises EngineLost where too few are left."""
        self._watch()
        self.counts["asked"] += 1
        loop = asyncio.get_running_loop()
        begun, attempts, num_attempts = loop.time(), dict[asyncio.Task[Any], Worker](), 0
        try:
            while True:
                if not attempts:
                    worker = await self._best(request)
                    attempts[self._ask(worker, request)] = worker
                    num_attempts += 1
                    look = loop.time() + self._config.hedge
                timeout = max(0.0, look - loop.time()) if self._config.hedge else None
                done, _ = await asyncio.wait(attempts, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    worker = attempts.pop(task)
                    if not task.cancelled() and not isinstance(task.exception(), WorkerLost):
                        completions = task.result()
                        self._answered(worker, request, num_attempts, loop.time() - begun)
                        return completions
                    self.counts["again"] += not attempts  # its engine was lost
                if not done:
                    look = loop.time() + self._config.hedge / 4
                    if second := self._faster(request, attempts):
                        attempts[self._ask(second, request)] = second
                        num_attempts += 1
                        self.counts["hedged"] += 1
        finally:
            for task in attempts:
                task.cancel()

    async def _best(self, request: Draw) -> Worker:
        """The engine that is expected to be done first, once there is one."""
        while True:
            if self.failure:
                raise EngineLost(self.failure)
            if able := [worker for worker in self.workers if worker.is_able]:
                return min(able, key=partial(self._wait, more=request.n))
            await self._there_is_one.wait()

    def _wait(self, worker: Worker, more: int = 0) -> float:
        """Seconds until it has answered all that it was asked, and so many samples more."""
        now = asyncio.get_running_loop().time()
        known = [speed for one in self.workers if one.is_able and (speed := one.speed(now))]
        usual = sum(known) / len(known) if known else 1.0
        return (worker.load + more) / max(worker.speed(now) or usual, SLOWEST * max(known, default=usual))

    def _faster(self, request: Draw, attempts: Mapping[Any, Worker]) -> Worker | None:
        """An engine that would answer in half the time that the one with this request still needs."""
        others = [worker for worker in self.workers if worker.is_able and worker not in attempts.values()]
        if len(attempts) > 1 or not others:
            return None
        best = min(others, key=partial(self._wait, more=request.n))
        return best if 2 * self._wait(best, request.n) < min(map(self._wait, attempts.values())) else None

    def _ask(self, worker: Worker, request: Draw) -> asyncio.Task[Any]:
        """Counted at once: the requests of a step are all dealt in one turn of the loop."""
        loop = asyncio.get_running_loop()
        worker.note(loop.time(), asked=request.n)
        task = loop.create_task(self._attempt(worker, request))
        worker.attempts.add(task)

        def over(task: asyncio.Task[Any]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, WorkerLost):  # here, while what was lost with it still counts as open
                self._lose(worker, str(error), restart=error.is_running)
            worker.attempts.discard(task)
            worker.note(loop.time(), answered=request.n * _is_answer(task), over=request.n)
            if not worker.is_able:  # an instant of work would count as great speed
                worker.forget(loop.time())

        task.add_done_callback(over)
        return task

    async def _attempt(self, worker: Worker, request: Draw) -> list[Completion]:
        for _ in range(MOST_LOSSES):
            assert self.version is not None, "the weights come before the first request"
            num_sent = worker.num_sent
            try:
                return await worker.remote.generate(request, self.version)
            except WrongVersion as error:
                why = str(error)
                self.counts["refused"] += 1
                if worker.num_sent == num_sent:  # else another request that it refused has seen to it
                    self._send(worker)
        raise WorkerLost(f"it does not take the weights that it is sent: {why}", is_running=True)

    def _answered(self, worker: Worker, request: Draw, num_attempts: int, seconds: float) -> None:
        self.counts["answered"] += 1
        worker.losses = 0
        self._record(
            {"step": request.step, "problem": request.problem, "seed": request.params.seed, "first": request.first,
             "n": request.n, "version": self.version, "engine": worker.name, "attempts": num_attempts,
             "seconds": round(seconds, 3)}
        )  # fmt: skip

    # ---- weights

    def update(self, weights: Any, *, version: int) -> None:
        """What is asked from now on is drawn from these. Waits for nobody."""
        self._weights, self.version = weights, version
        for worker in self.workers:
            if worker.is_able:
                self._send(worker)

    def _send(self, worker: Worker) -> None:
        assert self.version is not None
        worker.num_sent += 1
        worker.remote.update(self._weights, self.version)

    # ---- lives

    def ready(self, worker: Worker, facts: Mapping[str, Any]) -> None:
        """It is there, with the weights of `facts["version"]`: from now on it is dealt requests."""
        worker.silence, worker.is_able = 0, True
        self._event(worker, "ready", **facts)
        if self.version is not None and facts["version"] != self.version:
            self._send(worker)
        self._there_is_one.set()

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():  # a loop that ended took its watcher with it
            self._watcher = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            for worker in self.workers:
                if not worker.is_retired:
                    self._look_at(worker)
            self._see_to_floor()
            await asyncio.sleep(self._config.patience / TICKS)

    def _look_at(self, worker: Worker) -> None:
        if worker.ping is None or worker.ping.done():
            return self._ping(worker)
        worker.silence += 1
        if worker.silence < TICKS:
            return
        if worker.is_able:
            self._lose(worker, f"no sign of life for {self._config.patience:g} s", restart=True)
        else:
            self._ping(worker)  # the last one may have gone astray

    def _ping(self, worker: Worker) -> None:
        if worker.ping is not None:
            worker.ping.cancel()
        worker.silence = 0
        worker.ping = asyncio.get_running_loop().create_task(worker.remote.ping())  # type: ignore[arg-type]
        worker.ping.add_done_callback(partial(self._on_ping_done, worker))

    def _on_ping_done(self, worker: Worker, ping: asyncio.Task[Any]) -> None:
        if ping.cancelled() or ping is not worker.ping:
            return
        if error := ping.exception():
            if not isinstance(error, WorkerLost):
                return self._fail(f"{worker.name}: {error}")
            return self._lose(worker, str(error), restart=error.is_running) if worker.is_able else None
        worker.silence = 0
        if not worker.is_able and not worker.is_retired:
            self.ready(worker, ping.result())

    def _lose(self, worker: Worker, why: str, *, restart: bool) -> None:
        """Quarantine: its requests are asked again elsewhere, and it is dealt nothing until it answers a ping."""
        if not worker.is_able:
            return  # many requests tell of the same loss
        worker.is_able = False
        worker.losses += 1
        worker.is_retired = worker.losses > MOST_LOSSES
        self.counts["lost"] += 1
        num_open = sum(not _is_answer(task) for task in worker.attempts)
        self._event(worker, "lost", why=why, open=num_open, is_retired=worker.is_retired)
        if not any(one.is_able for one in self.workers):
            self._there_is_one.clear()
        for task in list(worker.attempts):
            task.cancel()
        worker.forget(asyncio.get_running_loop().time())
        if worker.is_retired:
            return worker.remote.close()
        if restart:
            worker.remote.restart()
        self._ping(worker)

    def _see_to_floor(self) -> None:
        able, config = sum(worker.is_able for worker in self.workers), self._config
        self._ticks_below = 0 if able >= config.min_engines else self._ticks_below + 1
        if self._ticks_below * config.patience / TICKS > config.outage:
            self._fail(
                f"{able} of {len(self.workers)} engines are left, fewer than cluster.min_engines={config.min_engines} "
                f"for {config.outage:g} s; start nodes in place of those that are gone, and run the same command again"
            )

    def _fail(self, why: str) -> None:
        """Nothing can be answered any more: all waiting requests fail with this."""
        self.failure = self.failure or why
        for worker in self.workers:
            worker.is_able = False
            for task in list(worker.attempts):
                task.cancel()
        self._there_is_one.set()

    def _event(self, worker: Worker, event: str, **more: Any) -> None:
        step = -1 if self.version is None else self.version
        self._record({"step": step, "event": event, "engine": worker.name, **more})


def _is_answer(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
