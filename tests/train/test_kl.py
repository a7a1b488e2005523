"""The distance to the reference: exact sums, in the reward or the loss, logged at weight 0, never cut off, a budget."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.rollouts.collect import Collected
from ponder.train.batches import from_groups
from ponder.train.kl import measured, of, reference_logprobs
from ponder.train.recipe import RLConfig
from ponder.train.rl import groups_to_train, rl
from tests.helpers import group_of, tiny_model
from tests.train.test_rl import TOY


class Flat:
    """A reference that gives every trained token the same log-probability."""

    def __init__(self, value: float) -> None:
        self.value = value

    def logprobs(self, batches, temperature):
        return [batch.mask_BT * self.value for batch in batches]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("narrow")
    save_model(tiny_model(hidden_size=16, intermediate_size=16, num_hidden_layers=1, head_dim=4), folder)
    ByteTokenizer().save(str(folder))
    return str(folder)


def run_config(base: str, out: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(out), "model": base, "task": TOY, "num_steps": 3, "pool_size": 8, "problems_per_step": 4,
        "group_size": 4, "max_reasoning_tokens": 3, "max_answer_tokens": 3, "lr": 1e-2, "warmup_steps": 0,
        "num_workers": 0, "num_slots": 16, "reference": "first",
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


def test_k1_may_be_negative_k3_never_and_both_are_nats_a_completion():
    groups, config = [group_of([1.0, 0.0])], RLConfig(out="o", reference="first")  # logprobs of -5, two tokens each
    for ref in (-5.5, -4.0):
        told = reference_logprobs(Flat(ref), groups, config)
        _, metrics = measured(Collected(groups), told, config)
        gap = ref + 5
        assert metrics["kl/k1"] == pytest.approx(-2 * gap)  # at weight 0 too
        assert metrics["kl/k3"] == pytest.approx(2 * (math.exp(gap) - gap - 1))


def test_in_the_reward_every_rollout_pays_for_its_own_kl_and_says_so():
    groups = [group_of([1.0, 0.0]), group_of([0.5, 0.5], num_tokens=4)]
    config = replace(RLConfig(out="o"), loss=replace(RLConfig(out="o").loss, kl=0.1, kl_in="reward"))
    paid, _ = measured(Collected(groups), reference_logprobs(Flat(-6.0), groups, config), config)
    assert [r for group in paid.groups for r in group.rewards] == pytest.approx([0.8, -0.2, 0.1, 0.1])
    assert paid.groups[1].rollouts[0].verdict.parts["kl"] == pytest.approx(-0.4)
    in_loss = replace(config, loss=replace(config.loss, kl_in="loss"))
    kept, _ = measured(Collected(groups), reference_logprobs(Flat(-6.0), groups, in_loss), in_loss)
    assert kept.groups == groups


def test_a_group_that_was_replaced_stays_replaced_when_its_rollouts_have_paid_for_their_kl():
    groups = [group_of([1.0, 0.0]), group_of([1.0, 1.0])]
    paid = Collected([groups[0], group_of([0.9, 0.8])])
    counted = lambda config, sampled: groups_to_train(paid, sampled, config)
    assert counted(RLConfig(out="o", max_refills=3), Collected(groups)) == paid.groups[:1]
    assert (
        counted(RLConfig(out="o"), Collected(groups)) == paid.groups == counted(RLConfig(out="o", max_refills=3), paid)
    )


def test_forced_tokens_are_nobodys_and_cost_no_kl():
    [group] = [group_of([1.0])]
    completion = replace(group.rollouts[0].completion, sampled=(True, False))
    turn = replace(group.rollouts[0].turns[0], completion=completion)
    group = replace(group, rollouts=(replace(group.rollouts[0], turns=(turn,)),))
    config = RLConfig(out="o", reference="first")
    _, metrics = measured(Collected([group]), reference_logprobs(Flat(-6.0), [group], config), config)
    assert metrics["kl/k1"] == pytest.approx(1.0)


def test_k1_in_the_reward_has_the_gradient_of_the_kl_and_k3_in_the_loss_has_not():
    """One token, exact expectations over a vocabulary of three."""
    softmax = lambda logits: np.exp(logits) / np.exp(logits).sum()
    logits, q = np.array([0.3, -0.2, 0.5]), softmax(np.array([-1.0, 0.5, 0.1]))
    kl = lambda logits: (softmax(logits) * np.log(softmax(logits) / q)).sum()
    exact = np.array([(kl(logits + step) - kl(logits - step)) / 2e-5 for step in 1e-5 * np.eye(3)])
    p = softmax(logits)
    score = np.eye(3) - p  # of each token: d log p / d logits
    k1, ratio = np.log(p / q), q / p
    np.testing.assert_allclose((p * k1) @ score, exact, atol=1e-8)
    assert np.abs((p * (1 - ratio)) @ score - exact).max() > 0.05  # d k3 / d log p = 1 - ratio


def test_the_reference_is_the_first_checkpoint_and_kl_is_logged_at_weight_0(narrow, tmp_path):
    rl(run_config(narrow, tmp_path / "run"))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert rows[0]["kl/k1"] == pytest.approx(0.0, abs=1e-3)  # sampler and reference round differently
    assert rows[2]["kl/k3"] > 1e-3 and math.isfinite(rows[2]["kl/k1"])
    other = tiny_model(5, hidden_size=16, intermediate_size=16, num_hidden_layers=1, head_dim=4)
    save_model(other, tmp_path / "other")
    ByteTokenizer().save(str(tmp_path / "other"))
    rl(run_config(narrow, tmp_path / "far", reference=str(tmp_path / "other"), num_steps=1))
    assert next(iter(read_jsonl(tmp_path / "far" / "metrics.jsonl")))["kl/k3"] > 0.1
    rl(run_config(narrow, tmp_path / "without", reference="", num_steps=1))
    assert "kl/k1" not in next(iter(read_jsonl(tmp_path / "without" / "metrics.jsonl")))


def test_a_reference_of_another_vocabulary_is_refused(narrow, tmp_path):
    save_model(tiny_model(vocab_size=300), tmp_path / "other")
    ByteTokenizer().save(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="must share a vocabulary"):
        rl(run_config(narrow, tmp_path / "run", reference=str(tmp_path / "other")))


def test_a_budget_stops_the_run_with_its_checkpoint_and_the_same_stop_again(narrow, tmp_path):
    config = run_config(narrow, tmp_path / "run", reference="", kl_budget=1e-4, num_steps=50)
    with pytest.warns(UserWarning, match=r"stopped after \d+ of 50 steps: kl/k1 is .* above kl_budget=0.0001"):
        folder = rl(config)
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert rows[-1]["kl/k1"] > 1e-4 and "policy/loss" not in rows[-1]
    assert folder.name == f"step_{rows[-1]['step']:05d}" and (folder / "checkpoint.json").exists()
    assert len(rows) < 50
    before = (folder / "model.safetensors").read_bytes()
    with pytest.warns(UserWarning, match=f"stopped after {rows[-1]['step']} of 50"):
        assert rl(config) == folder
    assert (folder / "model.safetensors").read_bytes() == before
    assert [row["kl/k1"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")] == [row["kl/k1"] for row in rows]


@pytest.mark.parametrize("place", ["loss", "reward"])
def test_a_large_weight_holds_the_policy_near_its_reference(place, narrow, tmp_path):
    reached = []
    for weight in (0.0, 20.0):
        loss = replace(RLConfig(out="o").loss, kl=weight, kl_in=place, average="token")
        out = tmp_path / f"{weight:g}"
        rl(run_config(narrow, out, loss=loss, num_steps=5, advantage="rloo", problems_per_step=8, group_size=8))
        reached.append(list(read_jsonl(out / "metrics.jsonl"))[-1]["kl/k3"])
    assert reached[1] < 0.7 * reached[0]


def test_groups_below_the_floor_teach_nothing_and_nothing_is_divided_by_less():
    from ponder.train.advantages import advantages

    near, apart = group_of([0.500, 0.501, 0.500, 0.501]), group_of([0.2, 0.6, 0.2, 0.6])
    blown_up = advantages("grpo", [near])[0]
    assert abs(blown_up[0]) > 0.7  # a thousandth becomes nearly 1
    floored = [replace(group, min_spread=0.05) for group in (near, apart)]
    assert [group.is_mixed for group in floored] == [False, True]
    for name in ("grpo", "dr_grpo", "rloo", "reinforce_pp"):
        quiet, loud = advantages(name, floored)
        assert not np.any(quiet) and np.all(loud)
    examples = from_groups(floored, advantages("grpo", floored))
    assert sum(example.has_advantage for example in examples) == 4


def test_no_warning_comes_where_the_budget_holds(narrow, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rl(run_config(narrow, tmp_path / "run", kl_budget=1e6, num_steps=1))


def test_what_was_said_is_found_by_prompt_and_completion():
    [group] = [group_of([1.0])]
    config = RLConfig(out="o", reference="first")
    [example] = from_groups([group], [[0.0]])
    assert reference_logprobs(Flat(-3.0), [group], config)[of(example)].tolist() == [-3.0, -3.0]
