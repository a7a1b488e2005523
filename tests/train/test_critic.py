"""PPO: rewards of tokens that add up, GAE against a plain recursion, a critic that learns, an exact resume."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ponder.rollouts.collect import Collected
from ponder.rollouts.preferences import RewardConfig
from ponder.runs import read_jsonl
from ponder.train.batches import collate, from_completion
from ponder.train.credit import credit
from ponder.train.critic import ValueLoss, centred, critic_metrics, gae, new_value_head, token_rewards
from ponder.train.distributed import PolicyLoss, Trainer
from ponder.train.kl import measured, reference_logprobs
from ponder.train.losses import LossConfig
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl
from tests.helpers import group_of, tiny_model
from tests.train.test_kl import Flat, narrow, run_config  # noqa: F401 - a fixture
from tests.train.test_rl import weights

PPO = LossConfig(average="token", kl=0.3, kl_in="reward")


def ppo_config(base: str, out: Path, **changes: object) -> RLConfig:
    critic = replace(RLConfig(out="o").critic, warmup_steps=2, lr=0.05)
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


def test_in_the_loop_tokens_add_up_to_what_the_rollout_was_paid():
    groups, config = [group_of([1.0, 0.25], num_tokens=4)], RLConfig(out="o", advantage="gae", loss=PPO)
    told = reference_logprobs(Flat(-5.7), groups, config)
    paid, _ = measured(Collected(groups), told, config)

    class Silent:
        def values(self, batches, of):
            return [torch.zeros(batch.mask_BT.shape) for batch in batches]

    config = replace(config, critic=replace(config.critic, lam=1.0))
    due = credit([paid.groups[0]], told, Silent(), config)
    [returns_T] = due.returns.values()  # equal completions: what the last of them was told
    assert returns_T[0] == pytest.approx(paid.groups[0].rollouts[-1].reward, abs=1e-12)
    assert paid.groups[0].rollouts[-1].reward == pytest.approx(0.25 - 0.3 * 4 * 0.7)


def plain_gae(rewards, values, lam):
    """A_t as the sum that the paper writes."""
    T = len(rewards)
    deltas = [rewards[t] + (values[t + 1] if t + 1 < T else 0.0) - values[t] for t in range(T)]
    return [sum(lam**k * deltas[t + k] for k in range(T - t)) for t in range(T)]


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_the_sum_of_its_paper_over_sampled_tokens(lam):
    rng = np.random.default_rng(1)
    rewards, values, sampled = rng.normal(size=9), rng.normal(size=9), rng.random(9) < 0.7
    found, returns = gae(np.where(sampled, rewards, 0.0), values, sampled, lam)
    expected = plain_gae(rewards[sampled], values[sampled], lam)
    np.testing.assert_allclose(found[sampled], expected, atol=1e-12)
    np.testing.assert_allclose(returns[sampled], np.add(expected, values[sampled]), atol=1e-12)
    assert not found[~sampled].any() and not returns[~sampled].any()
    if lam == 1:  # what really came
        np.testing.assert_allclose(returns[sampled], np.cumsum(rewards[sampled][::-1])[::-1], atol=1e-12)


def test_advantages_are_centred_and_divided_only_above_the_floor():
    values, masks = [np.array([1.0, 5.0, 9.0]), np.array([3.0])], [[True, False, True], [True]]
    one, other = centred(values, masks, 0.0)
    every = np.array([one[0], one[2], other[0]])
    assert every.mean() == pytest.approx(0) and every.std() == pytest.approx(1) and one[1] == 0
    one, other = centred(values, masks, 100.0)
    assert [one[0], one[2], other[0]] == pytest.approx([1 - 13 / 3, 9 - 13 / 3, 3 - 13 / 3])
    assert centred([], [], 0.0) == []


def test_values_are_read_where_tokens_are_predicted_and_the_loss_has_their_gradient():
    group = group_of([1.0, 0.0], num_tokens=3)
    examples = [
        replace(from_completion(r.completion, advantage=0.0), returns=(0.5, 1.0, 1.5), weight=0.25, token_ids=ids)
        for r, ids in zip(group.rollouts, [(97, 98, 99), (97, 99, 98)], strict=True)
    ]
    batch = collate(examples)
    with Trainer(tiny_model(), num_workers=0, head=new_value_head(32), head_speed=10.0) as trainer:
        trainer.head["value.weight"].normal_(generator=torch.Generator().manual_seed(0))
        said = trainer.values([batch], ValueLoss())[0]
        ids = torch.tensor([[*examples[0].prompt_ids, *examples[0].token_ids]])
        with torch.no_grad():  # the dense pass
            dense = trainer.model.hidden(ids)[0] @ trainer.head["value.weight"] + trainer.head["value.bias"]
        torch.testing.assert_close(said[0], dense[1:4], rtol=1e-4, atol=1e-4)
        sums = trainer.backward([batch], PolicyLoss(LossConfig(), 1.0, ValueLoss(0.1, True)))
        expected = 0.1 * 0.5 * 0.25 * ((said - batch.returns_BT) ** 2).sum().item()
        assert sums["loss"] == pytest.approx(expected, rel=1e-4)
        assert critic_metrics(sums)["critic/return"] == pytest.approx(1.0)
        before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
        first = critic_metrics(sums)["critic/error"]
        for _ in range(20):
            trainer.step(lr=1e-3, max_norm=1.0)
            sums = trainer.backward([batch], PolicyLoss(LossConfig(), 1.0, ValueLoss(0.1, True)))
        assert critic_metrics(sums)["critic/error"] < 0.5 * first
        assert {n for n, p in trainer.parameters.items() if not torch.equal(p, before[n])} == set(new_value_head(1))
        trainer.backward([batch], PolicyLoss(LossConfig(), 1.0, ValueLoss(0.1)))
        assert trainer.parameters["model.embed_tokens.weight"].grad.abs().max() > 0


def test_the_policy_stands_still_while_the_critic_warms_up_and_then_both_learn(narrow, tmp_path):  # noqa: F811
    rl(ppo_config(narrow, tmp_path / "run", num_steps=5, checkpoint_steps=(0, 2, 3)))
    assert weights(tmp_path / "run", 2) == weights(tmp_path / "run", 0) != weights(tmp_path / "run", 3)
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert all({"critic/error", "kl/k1", "kl/k3", "reward/kl"} <= row.keys() for row in rows)


def test_a_run_with_a_critic_that_was_stopped_goes_on_bit_for_bit(narrow, tmp_path):  # noqa: F811
    config = ppo_config(narrow, tmp_path / "run", num_steps=5, save_every=100)
    rl(replace(config, out=str(tmp_path / "whole")))

    def interrupt(step):
        if step.step == 3:  # after the warm-up: weights, head and both moments matter
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        rl(config, on_step=interrupt)
    state = (tmp_path / "run" / "state" / "state.safetensors").read_bytes()
    assert b"weights/value.weight" in state and b"exp_avg/value.weight" in state
    rl(config)
    assert weights(tmp_path / "run", 5) == weights(tmp_path / "whole", 5)
    kept = [
        [{k: v for k, v in row.items() if not k.startswith(("time/", "seconds"))} for row in read_jsonl(path)]
        for path in (tmp_path / "run" / "metrics.jsonl", tmp_path / "whole" / "metrics.jsonl")
    ]
    assert kept[0] == kept[1]


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
