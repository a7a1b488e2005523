"""A discrete-event simulation of reinforcement learning: engines that sample, a trainer, and transfers of weights.

    simulate(Pools(num_engines=4, slots=256, token_seconds=..., train_seconds=..., sync_seconds=2.0, ...), lengths_GS)

An engine decodes all of its sequences at one rate, which falls with their number and length. So an engine is one
counter of tokens: a sequence ends when the counter has gone on by its length, and only ends are events. A step of 8,192
sequences costs 8,192 events, however long they are.

When a group may be dealt is the capacity rule (arXiv:2505.24298): of the batches of `version` and of the next
`max_lag`, all; of later ones, none. Where a run drains, an update waits until what was dealt is drawn; else the weights
change while sequences run. Pure Python; knows nothing of GPUs (`train/plan.py` does).

Shapes: G groups in the order in which they are dealt, S samples of a group.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TokenSeconds = Callable[
    [int, float], float
]  # sequences, tokens that lie in the cache -> seconds until each has one more


@dataclass(frozen=True, kw_only=True)
class Pools:
    """What samples and trains."""

    num_engines: int
    slots: int  # sequences that an engine decodes at a time
    token_seconds: TokenSeconds
    train_seconds: Callable[[float], float]  # completion tokens of a batch -> seconds
    sync_seconds: float  # in which neither samples nor trains
    batch_groups: int
    prompt_tokens: int = 0
    max_lag: int = 0
    drains: bool = False
    window: float = 0.0  # batches that a batch may reach past the oldest unused group; 0 = its own groups, in order
    num_steps: int = 8
    skipped_steps: int = 2  # at the beginning: a pipeline fills


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Means over the steps that count; seconds."""

    step: float
    sampling: float  # in which an engine had work, a step
    training: float
    engines_waiting: float  # share of the time; pauses for weights are no work
    trainers_waiting: float
    mean_lag: float  # updates between the deal of a group and the one that it is used for
    largest_lag: int
    tokens: float  # of completions, a step
    dealt_to_drawn: float  # of a group


class _Engine:
    """Sequences that go on together."""

    def __init__(self, pools: Pools) -> None:
        self._seconds, self._prompt = pools.token_seconds, pools.prompt_tokens
        self._counter = self._at = self._context = 0.0  # context: tokens drawn so far, of all sequences
        self._next_end = math.inf
        self.ends: list[tuple[float, int, int, int]] = []  # (counter, order, group, length)
        self.busy = 0.0

    def add(self, now: float, order: int, group: int, length: int) -> None:
        self.advance(now)
        heapq.heappush(self.ends, (self._counter + length, order, group, length))

    def advance(self, now: float) -> None:
        """The counter goes evenly to the next end."""
        if self.ends and now > self._at:
            left = self._next_end - self._at
            share = min(1.0, (now - self._at) / left) if left > 0 else 1.0
            gone = share * (self.ends[0][0] - self._counter)
            self._counter += gone
            self._context += gone * len(self.ends)
            self.busy += now - self._at
        self._at = max(self._at, now)

    def plan(self) -> float:
        """When the next sequence ends, if none is added: at the rate in the middle of the way there."""
        n = len(self.ends)
        if not n:
            self._next_end = math.inf
        else:
            way = max(0.0, self.ends[0][0] - self._counter)
            context = self._context + n * (self._prompt + way / 2)
            self._next_end = self._at + way * self._seconds(n, context)
        return self._next_end

    def pop(self, now: float) -> int:
        """The sequence that ends now; its group."""
        self.advance(now)
        counter, _, group, length = heapq.heappop(self.ends)
        self._counter = max(self._counter, counter)
        self._context = max(0.0, self._context - length)
        return group

    def sleep(self, until: float) -> None:
        self._at = until


class _Run:
    """The state of a simulation; `lengths_GS` must hold every group that may be dealt."""

    def __init__(self, pools: Pools, lengths_GS: Sequence[Sequence[int]]) -> None:
        self._pools, self._lengths = pools, lengths_GS
        self._engines = [_Engine(pools) for _ in range(pools.num_engines)]
        self._loads = [(0, i) for i in range(pools.num_engines)]  # a heap; entries that are out of date are skipped
        self._ends: list[tuple[float, int, int]] = []  # (when, stamp, engine)
        self._stamps = [0] * pools.num_engines
        self._free = pools.num_engines * pools.slots
        self._waiting: deque[tuple[int, int]] = deque()
        self._num_dealt = self._order = self._num_running = 0  # groups, sequences, sequences
        self._left: dict[int, int] = {}
        self._dealt: dict[int, tuple[int, float]] = {}  # group -> version, and when; once drawn: how long it took
        self._drawn: list[int] = []  # a heap of groups that nothing has used
        self._oldest = 0
        self._used: set[int] = set()
        self._batch: list[int] = []
        self._training: list[int] = []
        self._train_end, self._train_seconds = math.inf, 0.0
        self.now, self.version = 0.0, 0
        self.lags: list[int] = []
        self.waits: list[float] = []
        self.tokens, self.train_busy = 0, 0.0

    def forget(self) -> None:
        """What was counted so far does not count."""
        for engine in self._engines:
            engine.advance(self.now)
            engine.busy = 0.0
        self.lags, self.waits, self.tokens, self.train_busy = [], [], 0, 0.0

    @property
    def engines_busy(self) -> float:
        """Seconds in which an engine had work, on average."""
        return sum(engine.busy for engine in self._engines) / len(self._engines)

    def step(self) -> None:
        """Until the next update."""
        pools = self._pools
        while True:
            self._deal()
            self._train()
            while self._ends and self._ends[0][1] != self._stamps[self._ends[0][2]]:
                heapq.heappop(self._ends)
            next_end = self._ends[0][0] if self._ends else math.inf
            may_update = not pools.drains or not (self._num_running or self._waiting)
            if self._training and may_update and self._train_end <= next_end:
                return self._update()
            assert self._ends, "nothing runs and nothing trains"
            self.now, _, i = heapq.heappop(self._ends)
            self._ended(i, self._engines[i].pop(self.now))

    def _ended(self, engine: int, group: int) -> None:
        self._plan(engine)
        self._free += 1
        self._num_running -= 1
        heapq.heappush(self._loads, (len(self._engines[engine].ends), engine))
        self._left[group] -= 1
        if not self._left[group]:
            heapq.heappush(self._drawn, group)
            version, when = self._dealt[group]
            self._dealt[group] = version, self.now - when

    def _deal(self) -> None:
        """Groups that the capacity rule allows, to the engine with least to do."""
        pools, touched = self._pools, set()
        limit = (self.version + pools.max_lag + 1) * pools.batch_groups
        while self._free:
            if not self._waiting:
                if self._num_dealt >= limit:
                    break
                group = self._num_dealt
                self._num_dealt += 1
                lengths = self._lengths[group]
                self._left[group] = len(lengths)
                self._dealt[group] = self.version, self.now
                self._waiting.extend((group, length) for length in lengths)
            load, i = heapq.heappop(self._loads)
            if load != len(self._engines[i].ends):
                continue
            group, length = self._waiting.popleft()
            self._engines[i].add(self.now, self._order, group, length)
            self._order += 1
            self._free -= 1
            self._num_running += 1
            touched.add(i)
            if load + 1 < pools.slots:
                heapq.heappush(self._loads, (load + 1, i))
        for i in touched:
            self._plan(i)

    def _plan(self, i: int) -> None:
        self._stamps[i] += 1
        when = self._engines[i].plan()
        if when < math.inf:
            heapq.heappush(self._ends, (when, self._stamps[i], i))

    def _train(self) -> None:
        """Fill the next batch with groups that are drawn, the oldest first, as far as the window shows; train it."""
        pools = self._pools
        while self._drawn and len(self._batch) < pools.batch_groups:
            if self._drawn[0] >= self._first_unused() + pools.window * pools.batch_groups:
                break
            group = heapq.heappop(self._drawn)
            self._batch.append(group)
            self._used.add(group)
            while self._oldest in self._used:
                self._used.discard(self._oldest)
                self._oldest += 1
        if not self._training and len(self._batch) == pools.batch_groups:
            self._training, self._batch = self._batch, []
            tokens = sum(sum(self._lengths[group]) for group in self._training)
            self._train_seconds = pools.train_seconds(tokens)
            self._train_end = self.now + self._train_seconds
            self.tokens += tokens

    def _first_unused(self) -> int:
        """Where the window begins. A batch of its own groups ends where the batch does, whichever are drawn first."""
        size = self._pools.batch_groups
        if self._pools.window:
            return self._oldest + size
        return (self.version + bool(self._training) + 1) * size

    def _update(self) -> None:
        end = max(self.now, self._train_end)
        for engine in self._engines:
            engine.advance(end)
            engine.sleep(end + self._pools.sync_seconds)
        self.now = end + self._pools.sync_seconds
        for version, seconds in map(self._dealt.pop, self._training):
            self.lags.append(self.version - version)
            self.waits.append(seconds)
        self.train_busy += self._train_seconds
        self.version += 1
        self._training, self._train_end = [], math.inf
        for i in range(len(self._engines)):
            self._plan(i)


def simulate(pools: Pools, lengths_GS: Sequence[Sequence[int]]) -> Simulated:
    """`lengths_GS`: completion tokens, of at least (num_steps + max_lag + 1) * batch_groups groups."""
    needed = (pools.num_steps + pools.max_lag + 1) * pools.batch_groups
    if len(lengths_GS) < needed:
        raise ValueError(f"{len(lengths_GS)} groups of lengths; this simulation deals up to {needed}")
    run = _Run(pools, lengths_GS)
    for _ in range(pools.skipped_steps):
        run.step()
    run.forget()
    begun, steps = run.now, pools.num_steps - pools.skipped_steps
    for _ in range(steps):
        run.step()
    step = (run.now - begun) / steps
    return Simulated(
        step=step,
        sampling=run.engines_busy / steps,
        training=run.train_busy / steps,
        engines_waiting=max(0.0, 1 - run.engines_busy / steps / step),
        trainers_waiting=max(0.0, 1 - run.train_busy / steps / step),
        mean_lag=sum(run.lags) / len(run.lags),
        largest_lag=max(run.lags),
        tokens=run.tokens / steps,
        dealt_to_drawn=sum(run.waits) / len(run.waits),
    )
