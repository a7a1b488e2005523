"""Worker processes that die: who was with them is told why, and the next request finds another worker."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from dataclasses import replace
from multiprocessing.connection import wait

import pytest

from ponder.engine import local
from ponder.engine.local import EngineError, LocalEngine
from ponder.models import hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.helpers import tiny_model, until, user

pytestmark = pytest.mark.slow

TOKENIZER = ByteTokenizer()
PARAMS = SamplingParams(max_reasoning_tokens=20, max_answer_tokens=6, seed=3)
LONG = replace(PARAMS, max_reasoning_tokens=90_000, min_reasoning_tokens=90_000)


def killed(engine: LocalEngine, number: int = 0) -> None:
    process = engine.worker_processes[number]
    os.kill(process.pid, signal.SIGKILL)
    assert wait([process.sentinel], timeout=30)


async def ids(engine: LocalEngine, text: str = "p", n: int = 2) -> list[tuple[int, ...]]:
    return [c.token_ids for c in await asyncio.wait_for(engine.generate(user(text), PARAMS, n=n), 60)]


def test_a_killed_worker_fails_what_it_had_and_the_next_request_finds_another_with_the_latest_weights():
    async def go(engine: LocalEngine, other) -> None:
        await ids(engine)
        engine.update_weights(other.state_dict(), version=1)
        expected = await ids(engine)
        lost = asyncio.ensure_future(engine.generate(user("p"), LONG))
        await asyncio.sleep(0.1)
        begun = time.process_time()
        killed(engine)
        with pytest.raises(EngineError, match=r"worker died \(exit code -9\); out of memory\?"):
            await asyncio.wait_for(lost, 60)
        assert await ids(engine) == expected
        assert time.process_time() - begun < 15 and engine.failure is None
        killed(engine)  # idle: nobody is told, and nobody notices
        assert await ids(engine) == expected
        assert engine._load == [0] and not engine._pending

    other = tiny_model(seed=1, window=100_000)
    with LocalEngine(tiny_model(window=100_000), TOKENIZER, num_workers=1) as engine:
        asyncio.run(go(engine, other))


def test_requests_of_other_workers_go_on():
    async def go(engine: LocalEngine) -> None:
        await ids(engine)
        calls = [asyncio.ensure_future(engine.generate(user(str(i)), LONG)) for i in range(2)]
        await asyncio.sleep(0.1)
        assert all(engine._load)
        killed(engine, 0)
        done, rest = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert len(done) == 1 and isinstance(done.pop().exception(), EngineError)
        await ids(engine, n=8)
        (kept,) = rest
        assert not kept.done()
        kept.cancel()

    with LocalEngine(tiny_model(window=100_000), TOKENIZER, num_workers=2) as engine:
        asyncio.run(go(engine))


@pytest.mark.parametrize("is_noticed", [True, False])
def test_an_update_does_not_wait_for_a_worker_that_dies_and_the_next_one_has_the_new_weights(is_noticed):
    async def go(engine: LocalEngine, other) -> None:
        await ids(engine)
        lost = asyncio.ensure_future(engine.generate(user("p"), LONG))
        await asyncio.sleep(0.1)
        killed(engine)
        if is_noticed:
            with pytest.raises(EngineError):
                await asyncio.wait_for(lost, 60)
        await asyncio.wait_for(asyncio.to_thread(engine.update_weights, other.state_dict(), version=1), 60)
        [completion] = await asyncio.wait_for(engine.generate(user("p"), PARAMS), 60)
        assert completion.policy_version == 1
        assert completion.token_ids == expected
        await asyncio.gather(lost, return_exceptions=True)

    other = tiny_model(seed=1, window=100_000)
    with LocalEngine(other, TOKENIZER, num_workers=0) as engine:
        [expected] = asyncio.run(ids(engine, n=1))
    with LocalEngine(tiny_model(window=100_000), TOKENIZER, num_workers=1) as engine:
        asyncio.run(go(engine, other))


def test_closing_an_engine_ends_an_update_that_waits():
    async def go(engine: LocalEngine) -> threading.Thread:
        await ids(engine)
        running = asyncio.ensure_future(engine.generate(user("p"), LONG))
        await asyncio.sleep(0.1)
        os.kill(engine.worker_processes[0].pid, signal.SIGSTOP)  # it never pauses
        weights = tiny_model(window=100_000).state_dict()
        update = threading.Thread(target=lambda: engine.update_weights(weights, version=1))
        update.start()
        until(lambda: engine._paused)
        running.cancel()
        return update

    with LocalEngine(tiny_model(window=100_000), TOKENIZER, num_workers=1) as engine:
        update = asyncio.run(go(engine))
    update.join(30)
    assert not update.is_alive()


def _dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_engine_whose_workers_die_at_once_fails_with_the_reason(monkeypatch, caplog):
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=1) as engine:
        asyncio.run(ids(engine))
        monkeypatch.setattr(local, "worker_process", _dies)
        killed(engine)
        until(lambda: engine.failure, 60)
        assert "worker died (exit code -9)" in str(engine.failure)
        with pytest.raises(EngineError, match="worker died"):
            asyncio.run(ids(engine))
    assert "the engine has failed" in caplog.text


def test_a_request_that_waits_for_a_worker_when_the_engine_fails_is_told_why(monkeypatch):
    async def go(engine: LocalEngine) -> None:
        await ids(engine)
        waiting = asyncio.ensure_future(engine.generate(user("p"), LONG))
        await asyncio.sleep(0.1)
        monkeypatch.setattr(local, "worker_process", _dies)
        killed(engine)
        with pytest.raises(EngineError, match="worker died"):
            await asyncio.wait_for(waiting, 60)
        with pytest.raises(EngineError, match="worker died"):
            await asyncio.wait_for(engine.generate(user("p"), PARAMS), 60)

    with LocalEngine(tiny_model(window=100_000), TOKENIZER, num_workers=1) as engine:
        asyncio.run(go(engine))


def test_nano_under_load_survives_the_death_of_all_its_workers():
    async def go(engine: LocalEngine) -> None:
        params = replace(PARAMS, max_reasoning_tokens=900, min_reasoning_tokens=900)
        expected = await ids(engine)
        calls = [asyncio.ensure_future(engine.generate(user(str(i)), params, n=2)) for i in range(6)]
        await asyncio.sleep(0.2)
        assert all(engine._load)
        killed(engine, 0)
        killed(engine, 1)
        told = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 120)
        assert {type(one) for one in told} == {EngineError} and all("exit code -9" in str(one) for one in told)
        assert await ids(engine) == expected and engine.failure is None

    with LocalEngine(*hub.load("nano", dtype=None), num_workers=2) as engine:
        asyncio.run(go(engine))
