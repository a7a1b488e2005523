"""PPO: rewards of tokens that add up, GAE against a plain recursion, a critic that learns, an exact resume."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ponder.files import read_jsonl
from ponder.rollouts.collect import Collected
from ponder.rollouts.preferences import RewardConfig
from ponder.train.batches import collate, from_completion
from ponder.train.credit import credit
from ponder.train.critic import (
    Critic,
    CriticConfig,
    CriticReading,
    centred,
    critic_metrics,
    gae,
    to_come,
    token_rewards,
)
from ponder.train.distributed import Trainer
from ponder.train.kl import measured, reference_logprobs
from ponder.train.losses import LossConfig
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl
from tests.helpers import group_of, tiny_model
from tests.train.killing import untimed, whole_and_broken
from tests.train.test_kl import Flat, narrow, run_config  # noqa: F401 - a fixture
from tests.train.test_rl import weights

PPO = LossConfig(average="token", kl=0.3, kl_in="reward")


def ppo_config(base: str, out: Path, **changes: object) -> RLConfig:
    critic = CriticConfig(warmup_steps=2)
    ppo = {"advantage": "gae", "loss": PPO, "critic": critic, "updates_per_step": 2}
    return run_config(base, out, **(ppo | changes))


def test_the_rewards_of_the_tokens_add_up_to_the_reward_with_its_kl():
    rng = np.random.default_rng(0)
    for trial in range(20):
        completion = group_of([0.0], num_tokens=5).rollouts[0].completion
        sampled = tuple(bool(x) for x in rng.random(5) < 0.7)
        completion = replace(completion, sampled=sampled)
        k1 = np.where(sampled, rng.normal(size=5), 0.0)
        reward, beta = float(rng.normal()), 0.3
        found = token_rewards(completion, reward, beta * k1)
        expected = reward * any(sampled) - beta * k1.sum()
        assert found.sum() == pytest.approx(expected, abs=1e-12), trial
        if any(sampled):  # the reward itself is where the last sampled token is, and nowhere else
            last = max(i for i, x in enumerate(sampled) if x)
            assert np.flatnonzero(np.abs(found + beta * k1) > 1e-12).tolist() == [last]


class Silent:
    """A learner whose states say nothing; it keeps what it was asked to read."""

    num_shares = 1

    def __init__(self) -> None:
        self.asked = []

    def values(self, batches, reading):
        self.asked += batches
        return [torch.zeros(batch.mask_BT.numel() + 2 * 3) for batch in batches]


def test_in_the_loop_tokens_add_up_to_what_the_rollout_was_paid():
    groups, config = [group_of([1.0, 0.25], num_tokens=4)], RLConfig(out="o", advantage="gae", loss=PPO)
    told = reference_logprobs(Flat(-5.7), groups, config)
    paid, _ = measured(Collected(groups), told, config)
    learner = Silent()
    due = credit(paid.groups, told, learner, config, Critic(1))
    [batch] = learner.asked
    rewards = [rollout.reward for rollout in paid.groups[0].rollouts]
    assert batch.returns_BT[:, 0].tolist() == pytest.approx(rewards)  # before its first token all is to come
    assert rewards == pytest.approx([1.0 - 0.3 * 4 * 0.7, 0.25 - 0.3 * 4 * 0.7], rel=1e-5)
    whole = due.values[0][0] - due.values[0][1]
    assert (np.diff(whole) > 0).all()  # with V = 0 everywhere a reward fades towards the first token


def plain_gae(rewards, values, lam):
    """A_t as the sum that the paper writes."""
    T = len(rewards)
    deltas = [rewards[t] + (values[t + 1] if t + 1 < T else 0.0) - values[t] for t in range(T)]
    return [sum(lam**k * deltas[t + k] for k in range(T - t)) for t in range(T)]


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_the_sum_of_its_paper_over_sampled_tokens(lam):
    rng = np.random.default_rng(1)
    rewards, values, sampled = rng.normal(size=9), rng.normal(size=9), rng.random(9) < 0.7
    found = gae(np.where(sampled, rewards, 0.0), values, sampled, lam)
    np.testing.assert_allclose(found[sampled], plain_gae(rewards[sampled], values[sampled], lam), atol=1e-12)
    returns = to_come(np.where(sampled, rewards, 0.0), sampled)
    np.testing.assert_allclose(returns[sampled], np.cumsum(rewards[sampled][::-1])[::-1], atol=1e-12)
    assert not found[~sampled].any() and not returns[~sampled].any()
    if lam == 1:  # what really came, less what was expected
        np.testing.assert_allclose(found[sampled], (returns - values)[sampled], atol=1e-12)


def test_advantages_are_centred_and_divided_only_above_the_floor():
    values, masks = [np.array([1.0, 5.0, 9.0]), np.array([3.0])], [[True, False, True], [True]]
    one, other = centred(values, masks, 0.0)
    every = np.array([one[0], one[2], other[0]])
    assert every.mean() == pytest.approx(0) and every.std() == pytest.approx(1) and one[1] == 0
    one, other = centred(values, masks, 100.0)
    assert [one[0], one[2], other[0]] == pytest.approx([1 - 13 / 3, 9 - 13 / 3, 3 - 13 / 3])
    assert centred([], [], 0.0) == []


def test_values_are_read_where_tokens_are_predicted_and_moments_are_those_of_the_states():
    group = group_of([1.0, 0.0], num_tokens=3)
    examples = [
        replace(from_completion(r.completion, advantage=0.0), returns=(0.5, 1.0, 1.5), token_ids=ids)
        for r, ids in zip(group.rollouts, [(97, 98, 99), (97, 99, 98)], strict=True)
    ]
    batch = collate(examples)
    head = np.random.default_rng(0).normal(size=33).astype(np.float32)
    for num_workers in (0, 1):
        with Trainer(tiny_model(), num_workers=num_workers) as trainer:
            [said] = trainer.values([batch], CriticReading(head))
            states = []
            for example in examples:  # the dense pass
                ids = torch.tensor([[*example.prompt_ids, *example.token_ids]])
                with torch.no_grad():
                    first = len(example.prompt_ids) - 1
                    states.append(trainer.model.hidden(ids)[0][first : first + 3].double())
        values, moments = said[:6].reshape(2, 3), said[6:].reshape(33, 34)
        x = torch.cat([torch.cat(states), torch.ones(6, 1)], 1)
        torch.testing.assert_close(values, (x @ torch.tensor(head).double()).reshape(2, 3), rtol=1e-4, atol=1e-4)
        wanted = x.T @ torch.cat([x, batch.returns_BT.reshape(6, 1).double()], 1)
        torch.testing.assert_close(moments, wanted, rtol=1e-4, atol=1e-4)
        assert said.dtype == torch.float64


def states_and_returns(rng, rollouts: int, *, share: float = 0.4, width: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """As a language model's: sizes from 0.1 to 30, most of them moving together, far from 0; all tokens of a rollout
    have one return, of whose variance the states know `share`."""
    tokens = 30
    mixing = np.random.default_rng(7).normal(size=(width, width)) * np.geomspace(1, 0.02, width)
    states = rng.normal(size=(rollouts, 1, width)) + 0.3 * rng.normal(size=(rollouts, tokens, width))
    known = states[:, 0, 3] * share**0.5 + rng.normal(size=rollouts) * (1 - share) ** 0.5
    x = (states @ mixing.T) * np.geomspace(0.1, 30, width) + 20 * np.cos(np.arange(width))
    return x.reshape(-1, width), np.repeat(0.5 + 0.2 * known, tokens)


def learned(critic: Critic, x: np.ndarray, returns: np.ndarray) -> None:
    own = np.column_stack([x, np.ones(len(x))])
    critic.learn(own.T @ np.column_stack([own, returns]))


def explained(critic: Critic, x: np.ndarray, returns: np.ndarray) -> float:
    head = critic.head()
    return critic_metrics(x @ head[:-1] + head[-1], returns)["critic/explained"]


def test_after_one_step_of_badly_scaled_states_the_critic_explains_returns_it_has_not_seen():
    rng, critic = np.random.default_rng(0), Critic(24)
    found = []
    for _ in range(6):
        x, returns = states_and_returns(rng, 128)
        found.append(explained(critic, x, returns))  # before it learns from them
        learned(critic, x, returns)
    assert found[0] < -1 and min(found[1:]) > 0.2, found


def test_states_that_say_nothing_leave_the_level_and_few_tokens_are_no_error():
    rng, critic = np.random.default_rng(1), Critic(24)
    assert not critic.head().any()
    x, returns = states_and_returns(rng, 2)  # fewer rollouts than numbers
    x[:, 5] = 3.0  # one of them never changes
    learned(critic, x[:7], returns[:7])
    assert np.isfinite(critic.head()).all() and critic.head()[5] == pytest.approx(0, abs=1e-6)
    for _ in range(10):
        x, returns = states_and_returns(rng, 64, share=0.0)
        learned(critic, x, returns)
    x, returns = states_and_returns(rng, 256, share=0.0)
    assert explained(critic, x, returns) > -0.25
    learned(critic, x, returns)
    head = critic.head()
    assert (x @ head[:-1] + head[-1]).mean() == pytest.approx(returns.mean(), abs=0.02)  # the level is not shrunk


def test_a_critic_comes_back_from_its_state_to_the_last_bit():
    rng, one, other = np.random.default_rng(2), Critic(24), Critic(24)
    for _ in range(3):
        learned(one, *states_and_returns(rng, 5))
    other.restore(json.loads(json.dumps(one.state())))
    assert (one.head() == other.head()).all()
    more = states_and_returns(rng, 5)
    learned(one, *more)
    learned(other, *more)
    assert one.state() == other.state()
    with pytest.raises(ValueError, match="the saved critic has"):
        Critic(8).restore(one.state())


class Knowing:
    """A learner whose state of a token says whether it is a 100 or a 97, among numbers that say nothing."""

    num_shares = 1

    def values(self, batches, reading):
        rng, found = np.random.default_rng(0), []
        for batch in batches:
            ids = batch.tokens_N.numpy()
            sign = (ids == 100).astype(float) - (ids == 97)
            hidden = np.column_stack([rng.normal(size=(len(ids), 4)), sign, 50 + rng.normal(size=len(ids))])
            found.append(reading.values(torch.tensor(hidden), {}, batch))
        return found


def test_a_step_after_the_first_the_loop_judges_by_what_the_critic_has_learned():
    """What is being written tells the reward: from the second token on the critic knows, before the first it cannot."""
    rng, critic, config, found = np.random.default_rng(0), Critic(6), RLConfig(out="o", advantage="gae"), []
    for _ in range(4):
        groups = []
        for _ in range(8):
            rewards = rng.integers(2, size=8).astype(float).tolist()
            group, rollouts = group_of(rewards, num_tokens=12), []
            for rollout in group.rollouts:
                ids = tuple(rng.choice([100, 97] if rollout.reward else [97, 100], size=12, p=[0.9, 0.1]).tolist())
                completion = replace(rollout.completion, token_ids=ids)
                turns = (replace(rollout.turns[0], completion=completion),)
                rollouts.append(replace(rollout, turns=turns))
            groups.append(replace(group, rollouts=tuple(rollouts)))
        due = credit(groups, {}, Knowing(), config, critic)
        found.append(due.metrics["critic/explained"])
    assert found[0] < -0.5 and min(found[1:]) > 0.3, found
    first = [abs(values[0]) for group in due.values for values in group]
    later = [abs(values[2]) for group in due.values for values in group]
    assert np.mean(first) > 1.5 * np.mean(later)  # what is known already is no news: credit is where it was decided


def test_the_policy_stands_still_while_the_critic_warms_up_and_then_both_learn(narrow, tmp_path):  # noqa: F811
    rl(ppo_config(narrow, tmp_path / "run", num_steps=5, checkpoint_steps=(0, 2, 3)))
    assert weights(tmp_path / "run", 2) == weights(tmp_path / "run", 0) != weights(tmp_path / "run", 3)
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert all({"critic/error", "kl/k1", "kl/k3", "reward/kl"} <= row.keys() for row in rows)


def test_a_run_with_a_critic_that_was_stopped_goes_on_bit_for_bit(narrow, tmp_path):  # noqa: F811
    config = ppo_config(narrow, tmp_path / "run", num_steps=5, save_every=100)
    rl(replace(config, out=str(tmp_path / "whole")))

    def interrupt(step):
        if step.step == 3:  # after the warm-up: weights, their moments and what the critic has seen matter
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        rl(config, on_step=interrupt)
    with safe_open(tmp_path / "run" / "state" / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["critic"]
    rl(config)
    assert weights(tmp_path / "run", 5) == weights(tmp_path / "whole", 5)
    assert untimed(tmp_path / "run") == untimed(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_with_a_critic_that_was_killed_goes_on_bit_for_bit(narrow, tmp_path):  # noqa: F811
    """While the critic warms up alone, and later; the KL is in the reward."""
    config = ppo_config(narrow, tmp_path, num_steps=6, num_workers=2, save_every=2)
    whole, broken = whole_and_broken(config, tmp_path, kills=(1, 5))
    assert weights(broken, 6) == weights(whole, 6) != weights(whole, 0)
    critics = []
    for run in (broken, whole):
        with safe_open(run / "state" / "state.safetensors", framework="pt") as file:
            critics.append(json.loads(file.metadata()["facts"])["critic"])
    assert critics[0] == critics[1]
    assert all("critic/error" in row for row in untimed(whole))


def test_a_targeted_preference_trains_answers_only():
    """Two rollouts, equally right; one is liked. Three reasoning tokens with their mark, then two of the answer."""
    [group] = [group_of([1.0, 1.4], num_tokens=5)]
    rollouts = []
    for rollout, liked in zip(group.rollouts, (0.0, 0.4), strict=True):
        completion = replace(rollout.completion, num_reasoning_tokens=2)
        verdict = replace(rollout.verdict, parts={"preference": liked})
        rollouts.append(replace(rollout, verdict=verdict, turns=(replace(rollout.turns[0], completion=completion),)))
    group = replace(group, rollouts=tuple(rollouts))
    reward = RewardConfig(preference="ponder.scorers.judge:Judge", preference_weight=0.4, targeted=True)
    config = RLConfig(out="o", advantage="dr_grpo", reward=reward)
    [[less, more]] = credit([group], {}, None, config).values
    np.testing.assert_allclose(more, [0, 0, 0, 0.2, 0.2], atol=1e-12)
    np.testing.assert_allclose(less, [0, 0, 0, -0.2, -0.2], atol=1e-12)
    with pytest.raises(ValueError, match=r"reward\.targeted is of single completions"):
        replace(config, advantage="gae")


def test_a_critic_is_of_single_completions():
    with pytest.raises(ValueError, match="'gae' is of single completions"):
        RLConfig(out="o", advantage="gae", environment="deliberate")
