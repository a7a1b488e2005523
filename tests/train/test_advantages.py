"""Advantages: what each estimator promises, for any rewards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.train import advantages as estimators
from ponder.train.advantages import ADVANTAGES
from tests.helpers import group_of

NAMES = sorted(ADVANTAGES)
reward = st.floats(-10, 10).map(lambda value: round(value, 3))
group = st.lists(reward, min_size=2, max_size=9)
batch = st.lists(group, min_size=1, max_size=5)


def advantages(name: str, groups: list[list[float]]) -> list[np.ndarray]:
    """Of groups with these rewards, a number a rollout."""
    return [np.array(values) for values in estimators.advantages(name, [group_of(rewards) for rewards in groups])]


@pytest.mark.parametrize("name", NAMES)
@given(value=st.floats(-1e6, 1e6), size=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_equal_rewards_give_exactly_zero_advantage(name: str, value: float, size: int) -> None:
    alone, beside_others = advantages(name, [[value] * size]), advantages(name, [[0.0, 1.0], [value] * size])
    assert alone[0].tolist() == [0.0] * size
    assert beside_others[1].tolist() == [0.0] * size
    assert (beside_others[0] != 0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", [0.8659, -0.8659, -0.8659, 0.8659]),
        ("dr_grpo", [0.5, -0.5, -0.5, 0.5]),
        ("rloo", [2 / 3, -2 / 3, -2 / 3, 2 / 3]),
        ("reinforce_pp", [1.0, -1.0, -1.0, 1.0]),
    ],
)
def test_half_right_group_gives_the_published_numbers(name: str, expected: list[float]) -> None:
    assert advantages(name, [[1.0, 0.0, 0.0, 1.0]])[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
@given(groups=batch)
@settings(max_examples=50, deadline=None)
def test_advantages_of_a_group_sum_to_zero_and_keep_the_order_of_its_rewards(
    name: str, groups: list[list[float]]
) -> None:
    for rewards, values in zip(groups, advantages(name, groups), strict=True):
        assert len(values) == len(rewards)
        assert values.sum() == pytest.approx(0, abs=1e-6)
        order = np.argsort(rewards, kind="stable")
        assert (np.diff(values[order]) >= -1e-9).all()


@pytest.mark.parametrize("name", NAMES)
@given(groups=batch, shift=st.integers(-5, 5))
@settings(max_examples=50, deadline=None)
def test_adding_a_constant_to_every_reward_changes_nothing(name: str, groups: list[list[float]], shift: int) -> None:
    moved = advantages(name, [[value + shift for value in rewards] for rewards in groups])
    for before, after in zip(advantages(name, groups), moved, strict=True):
        assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(rewards=group, seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_rollout_keeps_its_advantage_wherever_it_stands(name: str, rewards: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rewards))
    straight = advantages(name, [rewards])[0]
    shuffled = advantages(name, [[rewards[i] for i in order]])[0]
    assert shuffled == pytest.approx(straight[order], abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"reinforce_pp"}))
@given(groups=batch)
@settings(max_examples=30, deadline=None)
def test_groups_do_not_see_each_other(name: str, groups: list[list[float]]) -> None:
    together = advantages(name, groups)
    for rewards, values in zip(groups, together, strict=True):
        assert values.tolist() == advantages(name, [rewards])[0].tolist()


@given(rewards=group)
@settings(max_examples=50, deadline=None)
def test_rloo_is_the_reward_minus_the_mean_of_the_others(rewards: list[float]) -> None:
    total = sum(rewards)
    naive = [value - (total - value) / (len(rewards) - 1) for value in rewards]
    assert advantages("rloo", [rewards])[0] == pytest.approx(naive, abs=1e-9)


@given(groups=batch.filter(lambda groups: any(len(set(rewards)) > 1 for rewards in groups)))
@settings(max_examples=50, deadline=None)
def test_reinforce_pp_has_unit_spread_over_the_batch(groups: list[list[float]]) -> None:
    assert np.concatenate(advantages("reinforce_pp", groups)).std() == pytest.approx(1, abs=1e-3)


def test_grpo_weighs_a_rare_success_more_than_a_common_one() -> None:
    rare, common = advantages("grpo", [[1.0] + [0.0] * 7, [1.0] * 7 + [0.0]])
    assert rare[0] > 5 * common[0] > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_an_error_that_names_it(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        advantages("grpo", [[0.0, 1.0], [1.0, bad]])


@pytest.mark.parametrize("name", NAMES)
def test_empty_groups_and_empty_batches_pass_through(name: str) -> None:
    assert advantages(name, []) == []
    assert [len(values) for values in advantages(name, [[], [1.0], [0.0, 1.0]])] == [0, 1, 2]


@pytest.mark.parametrize(
    "bad",
    [
        lambda groups: [],
        lambda groups: [[0.0] * len(group.rollouts) for group in groups[:1]],
        lambda groups: [[0.0] for _ in groups],
        lambda groups: [[np.nan] * len(group.rollouts) for group in groups],
        lambda groups: [[np.zeros(3)] * len(group.rollouts) for group in groups],  # of completions of two tokens
    ],
)
def test_an_advantage_of_ones_own_that_does_not_fit_the_groups_is_refused(monkeypatch, bad):
    monkeypatch.setitem(ADVANTAGES, "bad", bad)
    with pytest.raises(ValueError, match="one finite number a rollout, or one a token"):
        advantages("bad", [[1.0, 0.0], [0.0, 1.0]])


def test_an_advantage_may_be_a_number_a_token_and_may_look_at_the_tokens(monkeypatch):
    def half_way(groups):  # the first half of a completion earns nothing
        return [
            [rollout.reward * (np.arange(len(rollout.completion.token_ids)) >= 2) for rollout in group.rollouts]
            for group in groups
        ]

    monkeypatch.setitem(ADVANTAGES, "half", half_way)
    [values] = estimators.advantages("half", [group_of([1.0, -1.0], num_tokens=4)])
    assert [value.tolist() for value in values] == [[0, 0, 1, 1], [0, 0, -1, -1]]
