"""Of many samples the few are trained on that differ most: which they are, what is left out, and what that saves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.train import estimate
from ponder.train.advantages import advantages
from ponder.train.batches import from_groups
from ponder.train.downsampling import downsampled, most_varied
from ponder.train.estimate import estimate_rl
from ponder.train.metrics import trained_flops
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl
from tests.helpers import group_of, tiny_model


def test_no_other_samples_of_a_group_differ_more():
    rng = np.random.default_rng(0)
    kinds = [lambda n: rng.integers(0, 2, n).astype(float), lambda n: rng.choice([0.0, 0.9, 1.0], n), rng.random]
    for trial in range(300):
        rewards = kinds[trial % 3](int(rng.integers(2, 8))).tolist()
        count = int(rng.integers(1, len(rewards) + 1))
        found = most_varied(rewards, count)
        assert len(set(found)) == count and found == sorted(found)
        best = max(np.var(chosen) for chosen in itertools.combinations(rewards, count))
        assert np.var([rewards[i] for i in found]) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize(
    ("rewards", "count", "left"),
    [
        ([0, 0, 1, 0, 0, 0, 1, 0], 4, [0, 0, 1, 1]),
        ([0, 0, 0, 1], 2, [0, 1]),  # a rare success is never left out
        ([1, 1, 0, 1], 2, [0, 1]),  # nor a rare failure
        ([1, 0.9, 0, 0], 2, [0, 1]),
        ([1, 1, 1], 2, [1, 1]),
        ([0, 1], 4, [0, 1]),  # some were dropped: fewer than are asked for
        ([0, 1, 1, 0], 0, [0, 0, 1, 1]),  # 0 = all
    ],
)
def test_right_and_wrong_samples_are_left_in_equal_shares_as_far_as_there_are(rewards, count, left):
    assert sorted(downsampled(group_of(rewards), count).rewards) == left


def test_the_baseline_is_of_the_samples_that_are_left():
    group = downsampled(group_of([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), 2)
    (values,) = advantages("dr_grpo", [group])
    assert [float(value) for value in values] == [-0.5, 0.5]
    assert group.is_mixed and group.problem == group_of([0.0]).problem


def test_all_samples_are_counted_and_fewer_are_paid_for_in_training(tmp_path, monkeypatch):
    base = tmp_path / "base"
    save_model(tiny_model(), base)
    ByteTokenizer().save(str(base))
    run = RLConfig(
        out=str(tmp_path / "all"), model=str(base), task="tests.helpers:LowercaseTask", num_steps=2, pool_size=16,
        problems_per_step=6, group_size=8, max_reasoning_tokens=3, max_answer_tokens=4, num_workers=0,
    )  # fmt: skip
    few = replace(run, out=str(tmp_path / "few"), trained_per_group=2)
    rl(run)
    rl(few)
    whole, less = (next(iter(read_jsonl(tmp_path / name / "metrics.jsonl"))) for name in ("all", "few"))
    assert whole["group/frac_mixed"] > 0.3
    same = ("tokens/rollout", "reward/mean", "rollout/correct", "group/frac_mixed")  # of all that was drawn
    assert [less[key] for key in same] == [whole[key] for key in same]
    assert 0 < less["tokens/trained"] < 0.5 * whole["tokens/trained"]
    assert less["train_flops"] < whole["train_flops"]
    monkeypatch.setattr(estimate, "matrix_speed", lambda dtype: 1e4)  # slow, so that minutes are not rounded to none
    few, run = (replace(each, max_reasoning_tokens=400) for each in (few, run))
    assert estimate_rl(few)["minutes"] < 0.6 * estimate_rl(run)["minutes"]


def test_floating_point_operations_of_training_are_of_the_samples_that_are_left():
    group, model = group_of([0.0, 0.0, 0.0, 1.0]), tiny_model().config

    def flops(group):
        return trained_flops(model, [from_groups([group], [group.rewards])], passes=3)

    assert flops(downsampled(group, 2)) == pytest.approx(flops(group_of([0.0, 1.0])))
    assert flops(downsampled(group, 2)) < flops(group)


def test_a_group_counts_as_mixed_where_the_whole_of_it_did():
    """Its extremes alone lie further apart than all of it."""
    narrow = replace(group_of([0.0] * 15 + [0.15]), min_spread=0.05)
    assert not narrow.is_mixed and not downsampled(narrow, 4).is_mixed
    wide = replace(group_of([0.0] * 8 + [0.15] * 8), min_spread=0.05)
    assert wide.is_mixed and downsampled(wide, 4).is_mixed


def test_after_a_kl_was_paid_the_verdicts_choose_and_not_the_lengths():
    drawn = group_of([0.0, 0.0, 0.0, 1.0])
    paid = [-0.1, -0.2, -0.9, 0.5]  # the third wrote most
    rollouts = tuple(replace(r, reward=x) for r, x in zip(drawn.rollouts, paid, strict=True))
    assert downsampled(replace(drawn, rollouts=rollouts), 2, by=drawn).rewards == (-0.1, 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trained_per_group": 1}, "between 2 and group_size=16"),
        ({"trained_per_group": 17}, "between 2 and group_size=16"),
        ({"trained_per_group": -1}, "trained_per_group"),
        ({"trained_per_group": 4, "advantage": "gae"}, "not of gae"),
    ],
)
def test_what_leaves_no_baseline_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        RLConfig(out="o", **changes)
