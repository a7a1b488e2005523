"""The queue between sampling and training, held to closed forms."""

from __future__ import annotations

import pytest

from ponder.train.simulate import Pools, simulate


def pools(**changes: object) -> Pools:
    """Engines whose sequences draw a token a second each, however many there are."""
    values: dict[str, object] = {
        "num_engines": 2, "slots": 64, "token_seconds": lambda n, context: 1.0, "train_seconds": lambda tokens: 30.0,
        "sync_seconds": 2.0, "batch_groups": 8,
    }  # fmt: skip
    return Pools(**(values | changes))  # type: ignore[arg-type]


def lengths(groups: int, size: int = 4, *, seed: int = 0) -> list[list[int]]:
    """Even between 20 and 180: 100 on average."""
    return [[20 + (7919 * (g * size + s) + seed) % 161 for s in range(size)] for g in range(groups)]


def test_in_turn_a_step_takes_its_longest_completion_then_training_then_the_sync():
    found = simulate(pools(num_steps=5, skipped_steps=1), [[50, 50], [10, 20]] * 24)
    assert found.step == pytest.approx(50 + 30 + 2)
    assert found.sampling == pytest.approx(50)
    assert found.engines_waiting == pytest.approx(32 / 82)


def test_drained_sampling_and_training_overlap_and_every_group_is_one_update_old():
    found = simulate(pools(max_lag=1, drains=True, num_steps=8), [[50]] * 80)
    assert found.step == pytest.approx(max(50, 30) + 2)
    assert (found.mean_lag, found.largest_lag) == (1, 1)
    slow = pools(max_lag=1, drains=True, num_steps=8, train_seconds=lambda tokens: 70.0)
    assert simulate(slow, [[50]] * 80).step == pytest.approx(72)


@pytest.mark.parametrize("max_lag", [1, 2, 5])
def test_a_trainer_that_is_the_bottleneck_keeps_staleness_at_the_bound(max_lag):
    """The capacity rule is at its limit: a group dealt at version v belongs to the batch of version v + max_lag."""
    slow = pools(max_lag=max_lag, num_steps=20, skipped_steps=8, train_seconds=lambda tokens: 500.0)
    found = simulate(slow, lengths(8 * 30))
    assert found.mean_lag == found.largest_lag == max_lag
    assert found.step == pytest.approx(502)
    assert found.trainers_waiting == pytest.approx(2 / 502, abs=1e-6)


@pytest.mark.parametrize("slots", [8, 16, 32])
@pytest.mark.parametrize("train", [0.5, 20.0])
def test_staleness_is_sequences_under_way_over_the_batch_where_engines_are_the_bottleneck(slots, train):
    """Little's law: engines always full, groups of one. A sequence is under way for slots / rate; updates come at rate
    / batch; and between start and end of training there is a share (train + sync) / step of an update more."""
    free = pools(
        slots=slots, max_lag=30, window=1e9, batch_groups=24, num_steps=80, skipped_steps=30, sync_seconds=1.0,
        train_seconds=lambda tokens: train,
    )  # fmt: skip
    found = simulate(free, lengths(24 * 112, 1))
    expected = 2 * slots / 24 + (train + 1.0) / found.step
    assert found.mean_lag == pytest.approx(expected, rel=0.06, abs=0.06)
    # and a step draws its tokens at a token a second and sequence
    assert found.step == pytest.approx(24 * 100 / (2 * slots) + 1.0, rel=0.05)


def test_the_closed_form_from_the_time_that_groups_take():
    """Of groups of several, which end with their longest: (time from deal to drawn + training + sync) / step."""
    found = simulate(
        pools(max_lag=20, window=1e9, slots=20, num_steps=80, skipped_steps=20, train_seconds=lambda tokens: 10.0),
        lengths(8 * 102),
    )
    assert found.mean_lag == pytest.approx((found.dealt_to_drawn + 10 + 2) / found.step, rel=0.05)


def test_a_window_bounds_the_largest_lag_and_costs_time():
    """Rare completions of twenty times the length: in order, everybody waits for them; as they end, they grow old."""
    rare = [[2000 if g % 16 == 5 else 100] for g in range(8 * 60)]
    kept = {
        window: simulate(pools(max_lag=3, window=window, num_steps=40, skipped_steps=10, sync_seconds=0.5), rare)
        for window in (0.0, 1.0, 1e9)
    }
    assert kept[0.0].largest_lag <= 3
    assert kept[0.0].step >= kept[1.0].step >= kept[1e9].step
    assert kept[1e9].step < kept[0.0].step
    assert kept[1e9].largest_lag > kept[0.0].largest_lag


def test_nothing_is_dealt_beyond_the_capacity_and_too_few_lengths_are_refused():
    with pytest.raises(ValueError, match="39 groups of lengths; this simulation deals up to 40"):
        simulate(pools(num_steps=4, skipped_steps=1), [[5]] * 39)
    assert simulate(pools(num_steps=4, skipped_steps=1), [[5]] * 40).tokens == 40


def test_sequences_share_an_engine_and_slow_each_other_down():
    shared = pools(num_engines=1, token_seconds=lambda n, context: 0.1 * n, batch_groups=1, sync_seconds=0.0,
                   train_seconds=lambda tokens: 0.0, num_steps=3, skipped_steps=0)  # fmt: skip
    # two of 10 and one of 30: 10 tokens at 0.3 s, then 20 at 0.1 s
    assert simulate(shared, [[10, 10, 30]] * 4).step == pytest.approx(10 * 0.3 + 20 * 0.1)


def test_a_growing_context_slows_decoding_as_its_integral_says():
    growing = pools(num_engines=1, token_seconds=lambda n, context: 0.01 * context, batch_groups=1, sync_seconds=0.0,
                    train_seconds=lambda tokens: 0.0, num_steps=3, skipped_steps=0, prompt_tokens=10)  # fmt: skip
    # one sequence over 100 tokens: the sum of 0.01 * (10 + i)
    assert simulate(growing, [[100]] * 4).step == pytest.approx(0.01 * (10 * 100 + 100 * 100 / 2))
