"""Sampling ahead of training: in order, by a bounded number of versions, repeatable with one step of lag."""

from __future__ import annotations

import asyncio

import pytest

from ponder.files import read_jsonl
from ponder.rollouts.collect import Collected
from ponder.train.ahead import Ahead
from ponder.train.rl import rl
from tests.train.test_rl import base, config, weights  # noqa: F401 - a fixture


async def steps_begun(max_lag: int, num_steps: int = 6) -> list[tuple[int, int]]:
    """(step, versions that were there when its sampling began) of every step, in the order in which they came."""
    version, begun = 0, {}

    async def sample(step: int) -> Collected:
        begun[step] = version
        await asyncio.sleep(0)
        return Collected()

    stream, came = Ahead(sample, range(num_steps), max_lag=max_lag), []
    async for step, _ in stream:
        await stream.train(dict)
        await stream.before_update()
        version = step + 1
        came.append((step, begun[step]))
    return came


@pytest.mark.parametrize("max_lag", [0, 1, 2, 5, 100])
def test_every_step_comes_once_in_order_and_was_asked_for_as_early_as_the_bound_allows(max_lag):
    came = asyncio.run(steps_begun(max_lag))
    assert came == [(step, max(0, step - max_lag)) for step in range(6)]


def test_leaving_the_loop_cancels_what_was_asked_ahead():
    cancelled = []

    async def sample(step: int) -> Collected:
        try:
            await asyncio.sleep(0 if step == 0 else 1000)
        except asyncio.CancelledError:
            cancelled.append(step)
            raise
        return Collected()

    async def go() -> None:
        stream = Ahead(sample, range(9), max_lag=3)
        async for _ in stream:
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(go())
    assert sorted(cancelled) == [1, 2, 3]


def test_a_step_whose_sampling_fails_stops_the_run_with_its_error():
    async def sample(step: int) -> Collected:
        if step == 2:
            raise RuntimeError("the verifier failed")
        return Collected()

    async def go() -> None:
        async for _ in Ahead(sample, range(9), max_lag=1):
            pass

    with pytest.raises(RuntimeError, match="the verifier failed"):
        asyncio.run(go())


@pytest.mark.slow
def test_with_one_step_of_lag_a_run_repeats_itself_and_with_more_its_tokens_say_how_stale_they_are(base, tmp_path):  # noqa: F811
    for name, max_lag in (("in_turn", 0), ("one", 1), ("again", 1), ("three", 3)):
        rl(config(base, tmp_path / name, max_lag=max_lag, selection="adaptive"))
    assert weights(tmp_path / "one", 6) == weights(tmp_path / "again", 6) != weights(tmp_path / "in_turn", 6)
    lags = [row["rollout/lag"] for row in read_jsonl(tmp_path / "one" / "metrics.jsonl")]
    assert lags == [0.0] + [1.0] * 5
    most = [row["rollout/lag_max"] for row in read_jsonl(tmp_path / "three" / "metrics.jsonl")]
    assert max(most) <= 3 and any(most)
    assert "rollout/lag" not in next(iter(read_jsonl(tmp_path / "in_turn" / "metrics.jsonl")))
