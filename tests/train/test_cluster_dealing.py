"""Requests to engines that are slow, silent or gone: each is answered once, whatever happens, and nobody waits long.

Time is made up: the loop's clock jumps to whatever comes next, so hours pass in milliseconds.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from dataclasses import dataclass, field

import pytest

from ponder.engine.base import EngineLost
from ponder.train.dealing import ClusterConfig, Dealer, Draw, WorkerLost, WrongVersion
from ponder.types import SamplingParams

CALM = ClusterConfig(engines=2, patience=8.0, hedge=4.0, outage=60.0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its clock moves to the next timer."""

    now = 0.0

    def __init__(self):
        super().__init__(selectors.SelectSelector())
        select = self._selector.select

        def jump(timeout):
            if timeout is None:
                raise AssertionError("everybody waits, and nothing will come")
            self.now += timeout
            return select(0)

        self._selector.select = jump

    def time(self):
        return self.now


@dataclass
class Double:
    """A remote engine that draws `pace` samples a second, one after the other, and can be slow, silent or dead."""

    pace: float = 16.0
    version: int | None = 1
    is_dead: bool = False
    is_silent: bool = False
    loses_weights: bool = False
    asked: list = field(default_factory=list)
    answered: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    restarts: int = 0
    is_closed: bool = False
    free_at: float = 0.0

    async def generate(self, request, version):
        self.asked.append((request.problem, version))
        is_other = version != self.version  # of the moment when it arrives
        await asyncio.sleep(0.01)
        await self._is_there()
        if is_other:
            raise WrongVersion(f"{self.version}")
        loop = asyncio.get_running_loop()
        self.free_at = max(self.free_at, loop.time()) + request.n / self.pace
        await asyncio.sleep(self.free_at - loop.time())
        await self._is_there()
        self.answered.append(request.problem)
        return [f"{request.problem}:{i}" for i in range(request.first, request.first + request.n)]

    async def _is_there(self):
        if self.is_silent:
            await asyncio.sleep(1e6)
        if self.is_dead:
            raise WorkerLost("it died")

    async def ping(self):
        await self._is_there()
        return {"version": self.version}

    def update(self, weights, version):
        self.sent.append((weights, version))
        if not self.loses_weights:
            self.version = version

    def restart(self):
        self.restarts += 1

    def close(self):
        self.is_closed = True


def play(script, config=CALM, **doubles):
    """Run a script with a dealer over doubles; what it returns, the dealer and the rows of the ledger."""
    rows = []
    dealer = Dealer(doubles, config, rows.append)
    for worker in dealer.workers:
        dealer.ready(worker, {"version": worker.remote.version})

    async def go():
        dealer.update("weights", version=1)
        return await script(dealer)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(go()), dealer, rows


def request(name, n=16, **more):
    return Draw(prompt=(), params=SamplingParams(seed=hash(name) % 1000), n=n, problem=str(name), **more)


async def step(dealer, number=12, at=None, then=None, names=None):
    """Ask for many at once; something happens after some seconds. Returns (seconds, answers)."""
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    if at is not None:
        loop.call_later(at, then)
    names = names or [f"{dealer.version}/{i}" for i in range(number)]
    answers = await asyncio.gather(*(dealer.answer(request(name, step=dealer.version)) for name in names))
    return loop.time() - begun, dict(zip(names, answers, strict=True))


def once(answers, rows, number=12):
    """Each sample of each problem came once, and the ledger has a row of it."""
    told = [row for row in rows if "seed" in row]
    counts = Counter((row["step"], row["problem"], row["first"] + i) for row in told for i in range(row["n"]))
    assert set(counts.values()) == {1} and len(counts) == 16 * number
    return all(answer == [f"{name}:{i}" for i in range(16)] for name, answer in answers.items())


def test_a_step_is_dealt_evenly_to_engines_that_nobody_has_measured():
    a, b = Double(), Double()
    (seconds, answers), dealer, rows = play(step, a=a, b=b)
    assert len(a.answered) == len(b.answered) == 6 and seconds == pytest.approx(6, abs=0.1)
    assert once(answers, rows) and dealer.counts["again"] == dealer.counts["hedged"] == 0


def test_later_steps_are_dealt_by_the_speed_that_was_measured():
    fast, slow = Double(pace=48), Double(pace=16)

    async def script(dealer):
        return [(await step(dealer, number=48))[0] for _ in range(3)]

    seconds, *_ = play(script, ClusterConfig(engines=2, hedge=0), fast=fast, slow=slow)
    assert seconds[0] == pytest.approx(24, abs=0.1)  # half for each
    assert seconds[1] == pytest.approx(12, abs=1.5)  # three quarters for one
    assert seconds[2] == pytest.approx(12, abs=1.5)


def test_an_engine_that_dies_loses_only_what_it_had_and_the_rest_is_asked_again():
    a, b = Double(), Double()

    def die():
        b.is_dead = True

    (seconds, answers), dealer, rows = play(lambda d: step(d, at=2.5, then=die), a=a, b=b)
    assert once(answers, rows) and len(a.answered) == 10 and len(b.answered) == 2
    assert dealer.counts["again"] == 4 and dealer.counts["lost"] == 1
    assert seconds == pytest.approx(10, abs=0.1) and b.restarts == 0  # Ray starts a dead one by itself
    assert [row["engine"] for row in rows if row.get("event") == "lost"] == ["b"]


def test_the_ledger_tells_how_many_requests_a_dead_engine_held_when_all_of_them_fail_at_once():
    a, b = Double(), Double()

    async def script(dealer):
        died = asyncio.Event()

        async def until_it_dies(request, version):
            await died.wait()
            b.is_dead = True
            raise WorkerLost("it died")

        b.generate = until_it_dies
        return await step(dealer, at=2.5, then=died.set)

    (_, answers), _dealer, rows = play(script, a=a, b=b)
    assert once(answers, rows)
    (lost,) = (row for row in rows if row.get("event") == "lost")
    again = [row for row in rows if row.get("attempts", 1) > 1]
    assert len(again) == lost["open"] == 6


def test_nobody_waits_for_a_silent_engine_longer_than_patience_and_it_is_ended():
    a, b = Double(pace=64), Double()

    def hang():
        b.is_silent = True

    config = ClusterConfig(engines=2, patience=8, hedge=0)
    (seconds, answers), _dealer, rows = play(lambda d: step(d, at=0.5, then=hang), config, a=a, b=b)
    assert once(answers, rows) and b.restarts == 1 and len(a.answered) == 12
    assert 8 < seconds < 8 + 2 + 2  # its patience, one look at every engine, and the work itself


def test_silence_of_half_the_patience_is_forgiven():
    a, b = Double(), Double()

    async def script(dealer):
        b.is_silent, free = True, asyncio.Event()
        b._is_there = free.wait
        return await step(dealer, at=4.0, then=lambda: free.set())

    (_, answers), dealer, rows = play(script, ClusterConfig(engines=2, patience=8, hedge=0), a=a, b=b)
    assert once(answers, rows) and dealer.counts["lost"] == dealer.counts["again"] == b.restarts == 0


def test_time_in_which_the_driver_itself_was_busy_is_no_silence_of_the_engines():
    a, b = Double(), Double()

    async def script(dealer):
        await step(dealer, number=2)
        asyncio.get_running_loop().now += 1000.0  # a long training step in the loop's own thread
        return await step(dealer, names=[f"2/{i}" for i in range(12)])

    _, dealer, _ = play(script, a=a, b=b)
    assert dealer.counts["lost"] == 0


def test_a_request_of_a_slow_engine_is_given_to_an_idle_one_too_and_counts_once():
    fast, slow = Double(pace=32), Double(pace=0.1)
    (seconds, answers), dealer, rows = play(step, fast=fast, slow=slow)
    assert once(answers, rows) and len(fast.answered) == 12
    assert dealer.counts["hedged"] == 6 and seconds <= 4 + 3 + 1  # hedge, its own half, the other half


def test_in_a_calm_step_nothing_is_asked_twice_however_long_it_takes():
    (seconds, answers), dealer, rows = play(lambda d: step(d, number=100), a=Double(), b=Double())
    assert seconds > 10 * CALM.hedge and dealer.counts["hedged"] == 0 and once(answers, rows, 100)


def test_a_slow_engine_is_dealt_little_from_then_on_but_still_something():
    fast, slow = Double(pace=32), Double(pace=0.5)

    async def script(dealer):
        await step(dealer, number=48)
        before = len(slow.asked)
        seconds, _ = await step(dealer, names=[f"2/{i}" for i in range(48)])
        return seconds, len(slow.asked) - before

    (seconds, asked), *_ = play(script, fast=fast, slow=slow)
    assert 1 <= asked <= 6 and seconds < 1.5 * 24


def test_an_engine_that_comes_back_without_weights_is_sent_them_before_it_is_dealt_anything():
    a, b = Double(), Double()

    async def script(dealer):
        b.is_dead = True
        await step(dealer)
        b.is_dead, b.version, b.asked[:] = False, None, []
        await asyncio.sleep(CALM.patience)
        return await step(dealer, names=[f"2/{i}" for i in range(12)])

    (_, _answers), dealer, rows = play(script, a=a, b=b)
    assert b.sent[-1] == ("weights", 1) and len(b.answered) >= 5 and dealer.counts["refused"] == 0
    assert [row["event"] for row in rows if row.get("engine") == "b" and "event" in row] == ["ready", "lost", "ready"]


def test_an_engine_of_another_version_refuses_and_is_sent_the_weights_once_for_all_that_it_refused():
    a, b = Double(), Double()

    async def script(dealer):
        b.version = None  # it was started again, and no ping has told yet
        return await step(dealer)

    (_, answers), dealer, rows = play(script, a=a, b=b)
    assert once(answers, rows) and dealer.counts["refused"] == 6 and dealer.counts["lost"] == 0
    assert len(b.sent) == 2 and len(b.answered) == 6


def test_an_engine_that_never_takes_its_weights_is_lost_and_the_others_go_on():
    a, b = Double(), Double(version=None, loses_weights=True)
    (_, answers), _dealer, rows = play(step, a=a, b=b)
    assert once(answers, rows) and b.restarts >= 1 and not b.answered


def test_new_weights_are_sent_to_all_and_requests_name_their_version():
    a, b = Double(), Double()

    async def script(dealer):
        await step(dealer)
        dealer.update("newer", version=2)
        await step(dealer)

    play(script, a=a, b=b)
    assert a.sent == b.sent == [("weights", 1), ("newer", 2)]
    assert [version for _, version in a.asked] == [1] * 6 + [2] * 6


def test_an_engine_that_dies_again_and_again_is_given_up():
    class Crashing(Double):
        async def generate(self, request, version):
            raise WorkerLost("out of memory", is_running=True)

    a, b = Double(), Crashing()

    async def script(dealer):
        for number in range(1, 9):
            dealer.update("weights", version=number)
            await step(dealer, number=4)
            await asyncio.sleep(CALM.patience)

    _, dealer, _rows = play(script, a=a, b=b)
    assert b.is_closed and b.restarts == 3 and dealer.counts["lost"] == 4
    assert len(a.answered) == 32


def test_below_the_floor_everyone_who_waits_is_told_why_after_the_outage():
    a, b = Double(), Double()
    config = ClusterConfig(engines=2, min_engines=2, patience=8, outage=30)

    async def script(dealer):
        begun = asyncio.get_running_loop().time()
        b.is_dead = a.is_silent = True
        results = await asyncio.gather(*(dealer.answer(request(i)) for i in range(4)), return_exceptions=True)
        return asyncio.get_running_loop().time() - begun, results

    (seconds, results), dealer, _ = play(script, config, a=a, b=b)
    assert all(isinstance(result, EngineLost) for result in results) and 30 < seconds < 45
    assert "fewer than cluster.min_engines=2" in str(results[0]) and dealer.failure == str(results[0])


def test_a_node_that_comes_back_within_the_outage_ends_the_wait():
    a = Double(is_dead=True)

    async def script(dealer):
        def back():
            a.is_dead = False

        return await step(dealer, at=40.0, then=back)

    (seconds, answers), dealer, rows = play(script, a=a)
    assert once(answers, rows) and 40 < seconds < 60 and dealer.failure is None


def test_an_error_of_the_request_itself_is_the_callers():
    class Refusing(Double):
        async def generate(self, request, version):
            raise ValueError("prompt ids must be below 512")

    a = Refusing()

    async def script(dealer):
        with pytest.raises(ValueError, match="prompt ids"):
            await dealer.answer(request("x"))

    _, dealer, _ = play(script, a=a)
    assert dealer.counts["lost"] == 0 and dealer.workers[0].load == 0


def test_a_request_that_is_given_up_stops_the_work_for_it():
    stopped = []

    class Watched(Double):
        async def generate(self, request, version):
            try:
                return await super().generate(request, version)
            except asyncio.CancelledError:
                stopped.append(request.problem)
                raise

    async def script(dealer):
        task = asyncio.ensure_future(dealer.answer(request("x", n=1600)))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(0.1)

    _, dealer, _ = play(script, a=Watched(), b=Watched())
    assert stopped == ["x"] and [worker.load for worker in dealer.workers] == [0, 0]


@pytest.mark.parametrize("wrong", [{"min_engines": 3}, {"engines": 0}, {"patience": 0}, {"hedge": -1}])
def test_a_table_that_cannot_be_used_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClusterConfig(**wrong)
