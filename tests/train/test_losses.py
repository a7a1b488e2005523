"""Policy losses: what does not change the loss, what does, and by how much (float64, finite differences)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ponder.train.losses import LossConfig, cross_entropy, policy, token_weights
from ponder.train.presets import PRESETS

MAX_TOKENS = 16
CONFIGS = {name: LossConfig(**preset["loss"]) for name, preset in PRESETS.items()} | {
    "everything": LossConfig(kl=0.1, mismatch_cap=1.5, clip_low=0.1, clip_high=0.3, average="constant"),
    "gspo with kl": LossConfig(ratio="sequence", kl=0.1, average="sequence"),
    "uncorrected": LossConfig(mismatch_cap=0.0, average="token"),
}
parametrize_configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def make_rows(seed: int, B: int = 5, T: int = 7, spread: float = 0.3) -> dict[str, Tensor]:
    """Rows as `policy` takes them, with ratios on both sides of every clip."""
    g = torch.Generator().manual_seed(seed)
    now = -torch.rand(B, T, generator=g, dtype=torch.float64) * 3
    noise = lambda: torch.randn(B, T, generator=g, dtype=torch.float64) * spread
    mask = torch.rand(B, T, generator=g) < 0.7
    mask[0] = False  # a completion that was forced altogether
    return {
        "logprobs_BT": now,
        "old_logprobs_BT": now + noise(),
        "sampler_logprobs_BT": now + noise(),
        "ref_logprobs_BT": now + noise(),
        "mask_BT": mask,
        "advantages_BT": torch.randn(B, generator=g, dtype=torch.float64)[:, None].expand(B, T),
    }


def weigh(rows: dict[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    weights = token_weights(rows["mask_BT"].sum(-1).tolist(), config, max_tokens=MAX_TOKENS)
    return rows | {"weights_B": torch.tensor(weights, dtype=torch.float64)}


def loss_and_gradient(rows: dict[str, Tensor], config: LossConfig) -> tuple[float, Tensor]:
    logprobs = rows["logprobs_BT"].clone().requires_grad_()
    loss, _ = policy(config=config, **{**rows, "logprobs_BT": logprobs})
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad


def one_token(*, log_ratio: float, advantage: float, config: LossConfig, **more: float) -> tuple[float, float]:
    """Loss and derivative of a single trained token of weight 1."""
    now = torch.tensor([[-1.0]], dtype=torch.float64)
    rows: dict[str, Any] = {
        "logprobs_BT": now,
        "old_logprobs_BT": now - log_ratio,
        "advantages_BT": torch.tensor([[advantage]], dtype=torch.float64),
        "mask_BT": torch.ones(1, 1, dtype=torch.bool),
        "weights_B": torch.ones(1, dtype=torch.float64),
    }
    rows |= {name: torch.tensor([[value]], dtype=torch.float64) for name, value in more.items()}
    loss, gradient = loss_and_gradient(rows, config)
    return loss, gradient.item()


# what must not change the loss


@parametrize_configs
@given(seed=st.integers(0, 999), extra=st.integers(1, 5), bad=st.sampled_from([0.0, 50.0, math.inf, math.nan]))
@settings(max_examples=20, deadline=None)
def test_padding_and_whatever_it_holds_leave_loss_and_gradient_unchanged(
    config: LossConfig, seed: int, extra: int, bad: float
) -> None:
    rows = weigh(make_rows(seed), config)
    padded = dict(rows)
    for name, tensor in rows.items():
        if name.endswith("_BT"):
            fill = False if name == "mask_BT" else bad
            tail = torch.full((len(tensor), extra), fill, dtype=tensor.dtype)
            padded[name] = torch.cat([tensor, tail], dim=1)
    loss, gradient = loss_and_gradient(rows, config)
    padded_loss, padded_gradient = loss_and_gradient(padded, config)
    assert padded_loss == pytest.approx(loss, rel=1e-12, abs=1e-15)
    torch.testing.assert_close(padded_gradient[:, :-extra], gradient, rtol=1e-12, atol=1e-15)
    assert (padded_gradient[:, -extra:] == 0).all()


@parametrize_configs
@given(seed=st.integers(0, 999), bad=st.sampled_from([-1e30, math.inf, -math.inf, math.nan]))
@settings(max_examples=20, deadline=None)
def test_masked_positions_may_hold_garbage_without_effect(config: LossConfig, seed: int, bad: float) -> None:
    rows = weigh(make_rows(seed), config)
    dirty = dict(rows)
    for name in ("logprobs_BT", "old_logprobs_BT", "sampler_logprobs_BT", "ref_logprobs_BT"):
        dirty[name] = rows[name].masked_fill(~rows["mask_BT"], bad)
    loss, gradient = loss_and_gradient(rows, config)
    dirty_loss, dirty_gradient = loss_and_gradient(dirty, config)
    assert dirty_loss == loss
    assert torch.equal(dirty_gradient, gradient)
    assert (gradient[~rows["mask_BT"]] == 0).all()
    _, sums = policy(config=config, **dirty)
    assert all(math.isfinite(value) for value in sums.values())


@parametrize_configs
@given(seed=st.integers(0, 999), cut=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_cutting_the_batch_leaves_the_sums_unchanged(config: LossConfig, seed: int, cut: int) -> None:
    rows = weigh(make_rows(seed), config)
    loss, gradient = loss_and_gradient(rows, config)
    parts = [{k: v[:cut] for k, v in rows.items()}, {k: v[cut:] for k, v in rows.items()}]
    results = [loss_and_gradient(part, config) for part in parts]
    assert sum(part_loss for part_loss, _ in results) == pytest.approx(loss, rel=1e-12, abs=1e-15)
    torch.testing.assert_close(torch.cat([part_gradient for _, part_gradient in results]), gradient, rtol=0, atol=0)
    _, whole = policy(config=config, **rows)
    halves = [policy(config=config, **part)[1] for part in parts]
    for key, value in whole.items():
        pieces = torch.stack([half[key] for half in halves])
        torch.testing.assert_close(pieces.max() if key.endswith("_max") else pieces.sum(), value)


@parametrize_configs
@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(config: LossConfig, seed: int) -> None:
    rows = make_rows(seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    loss, gradient = loss_and_gradient(weigh(rows, config), config)
    moved_loss, moved_gradient = loss_and_gradient(weigh({k: v[order] for k, v in rows.items()}, config), config)
    assert moved_loss == pytest.approx(loss, rel=1e-12)
    assert torch.equal(moved_gradient, gradient[order])


# what the gradient is


@parametrize_configs
@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_zero_advantage_gives_exactly_zero_gradient(config: LossConfig, seed: int) -> None:
    config = replace(config, kl=0.0)
    rows = weigh(make_rows(seed), config)
    loss, gradient = loss_and_gradient(rows | {"advantages_BT": torch.zeros(5, 1, dtype=torch.float64)}, config)
    assert loss == 0 and (gradient == 0).all()


@parametrize_configs
def test_the_first_update_is_the_plain_policy_gradient(config: LossConfig) -> None:
    """old = now and no other correction: d loss / d logprob = -A * weight, whatever the ratio or clip."""
    config = replace(config, kl=0.0)
    rows = weigh(make_rows(7), config)
    rows |= {"old_logprobs_BT": rows["logprobs_BT"], "sampler_logprobs_BT": rows["logprobs_BT"]}
    _, gradient = loss_and_gradient(rows, config)
    expected = -rows["advantages_BT"] * rows["weights_B"][:, None] * rows["mask_BT"]
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("log_ratio", "advantage"), list(product([-0.5, -0.25, -0.1, 0.1, 0.2, 0.23, 0.26, 0.5], [-1.5, 1.5]))
)
def test_the_clip_stops_gain_beyond_its_bounds_and_never_stops_repair(log_ratio: float, advantage: float) -> None:
    config = LossConfig(clip_low=0.2, clip_high=0.28, average="token")
    loss, gradient = one_token(log_ratio=log_ratio, advantage=advantage, config=config)
    h = 1e-6
    above, _ = one_token(log_ratio=log_ratio + h, advantage=advantage, config=config)
    below, _ = one_token(log_ratio=log_ratio - h, advantage=advantage, config=config)
    assert gradient == pytest.approx((above - below) / (2 * h), abs=1e-6)

    ratio = math.exp(log_ratio)
    is_clipped = (advantage > 0 and ratio > 1.28) or (advantage < 0 and ratio < 0.8)
    assert gradient == pytest.approx(0 if is_clipped else -ratio * advantage)
    bound = 1.28 if advantage > 0 else 0.8
    assert loss == pytest.approx(-(bound if is_clipped else ratio) * advantage)


def test_clip_higher_lets_a_rising_token_rise_further_than_it_may_fall() -> None:
    narrow, wide = LossConfig(clip_high=0.2), LossConfig(clip_high=0.28)
    assert one_token(log_ratio=math.log(1.25), advantage=1.0, config=narrow)[1] == 0
    assert one_token(log_ratio=math.log(1.25), advantage=1.0, config=wide)[1] == pytest.approx(-1.25)
    for config in (narrow, wide):
        assert one_token(log_ratio=math.log(0.79), advantage=-1.0, config=config)[1] == 0


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_gspo_is_the_clipped_objective_on_one_ratio_a_completion(seed: int) -> None:
    """Against the paper's equations 5 and 7 written down plainly; gradients included."""
    config = LossConfig(ratio="sequence", average="sequence", clip_low=0.05, clip_high=0.05, mismatch_cap=0.0)
    rows = weigh(make_rows(seed, B=6), config)
    loss, gradient = loss_and_gradient(rows, config)

    logprobs = rows["logprobs_BT"].clone().requires_grad_()
    objectives = []
    for row in range(6):
        chosen = rows["mask_BT"][row]
        gap = (logprobs[row] - rows["old_logprobs_BT"][row])[chosen]
        ratio = (gap.sum() / max(int(chosen.sum()), 1)).exp()
        A = rows["advantages_BT"][row, 0]
        term = torch.minimum(ratio * A, ratio.clamp(0.95, 1.05) * A)
        objectives.append(term if chosen.any() else term * 0)
    plain = -torch.stack(objectives).mean()
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-12)
    torch.testing.assert_close(gradient, logprobs.grad)


def test_gspo_under_mismatch_weighs_each_tokens_own_gradient() -> None:
    """The value is one ratio a completion, the gradient goes through each token's own log-probability (GSPO-token)."""
    config = LossConfig(ratio="sequence", average="sequence", clip_low=0.9, clip_high=9.0, mismatch_cap=2.0)
    rows = weigh(make_rows(5), config)
    _, gradient = loss_and_gradient(rows, config)
    mask = rows["mask_BT"]
    gap = (rows["logprobs_BT"] - rows["old_logprobs_BT"]) * mask
    ratio = (gap.sum(-1) / mask.sum(-1).clamp(min=1)).exp()
    mismatch = (rows["old_logprobs_BT"] - rows["sampler_logprobs_BT"]).exp().clamp(max=2.0)
    expected = -ratio[:, None] * rows["advantages_BT"] * rows["weights_B"][:, None] * mismatch * mask
    torch.testing.assert_close(gradient, expected)


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_cispo_gradient_goes_through_the_logprob_alone(seed: int) -> None:
    config = LossConfig(clip="cispo", clip_high=0.1, average="token", mismatch_cap=0.0)
    rows = weigh(make_rows(seed), config)
    _, gradient = loss_and_gradient(rows, config)
    ratio = (rows["logprobs_BT"] - rows["old_logprobs_BT"]).exp()
    expected = -ratio.clamp(max=1.1) * rows["advantages_BT"] * rows["weights_B"][:, None] * rows["mask_BT"]
    torch.testing.assert_close(gradient, expected)
    assert (ratio[rows["mask_BT"]] > 1.1).any()  # clipped tokens are among them, and they still learn
    assert (gradient[rows["mask_BT"]] != 0).all()


# corrections


@pytest.mark.parametrize("gap", [-3.0, -0.5, 0.0, 0.5, math.log(2), 3.0])
def test_the_mismatch_weight_is_truncated_at_its_cap_and_is_a_constant(gap: float) -> None:
    config, off = LossConfig(mismatch_cap=2.0), LossConfig(mismatch_cap=0.0)
    # now = -1, old = -1.1, sampler = old - gap
    corrected = one_token(log_ratio=0.1, advantage=1.0, config=config, sampler_logprobs_BT=-1.1 - gap)
    plain = one_token(log_ratio=0.1, advantage=1.0, config=off, sampler_logprobs_BT=-1.1 - gap)
    weight = min(math.exp(gap), 2.0)
    assert corrected == pytest.approx((weight * plain[0], weight * plain[1]))
    assert plain == one_token(log_ratio=0.1, advantage=1.0, config=off)


@given(seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_kl_estimates_are_never_negative_and_vanish_where_policies_agree(seed: int) -> None:
    config = LossConfig(kl=1.0)
    rows = weigh(make_rows(seed, spread=1.0), config)
    _, sums = policy(config=config, **rows)
    assert sums["ref_kl"] > 0 and sums["old_kl"] > 0 and sums["mismatch_kl"] > 0
    same = {name: rows["logprobs_BT"] for name in rows if name.endswith("logprobs_BT")}
    _, sums = policy(config=config, **rows | same)
    assert sums["ref_kl"] == sums["old_kl"] == sums["mismatch_kl"] == sums["mismatch_max"] == 0


def test_k3_is_an_unbiased_estimate_of_the_kl_to_the_reference() -> None:
    """Sum over the whole distribution instead of sampling: the estimate's mean is the KL itself."""
    g = torch.Generator().manual_seed(0)
    now, reference = (torch.randn(2, 11, generator=g, dtype=torch.float64)).log_softmax(-1)
    exact = (now.exp() * (now - reference)).sum()
    config = LossConfig(kl=1.0, average="token")
    total = torch.zeros((), dtype=torch.float64)
    for token in range(11):
        _, sums = policy(
            now[token].view(1, 1), now[token].view(1, 1), torch.zeros(1), torch.ones(1, 1, dtype=torch.bool),
            torch.ones(1), config, ref_logprobs_BT=reference[token].view(1, 1),
        )  # fmt: skip
        total += now[token].exp() * sums["ref_kl"]
    torch.testing.assert_close(total, exact)


@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.7])
def test_the_kl_term_pulls_towards_the_reference(gap: float) -> None:
    config = LossConfig(kl=0.5)
    _, gradient = one_token(log_ratio=0.0, advantage=0.0, config=config, ref_logprobs_BT=-1.0 + gap)
    assert gradient == pytest.approx(0.5 * (1 - math.exp(gap)))  # gap > 0: raise the logprob


def test_kl_without_a_reference_is_an_error_that_says_what_to_do() -> None:
    rows = weigh(make_rows(0), LossConfig())
    rows["ref_logprobs_BT"] = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="kl=0"):
        policy(config=LossConfig(kl=0.1), **rows)


# averages


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_token_weights_are_the_averages_their_papers_write(counts: list[int]) -> None:
    per_token = token_weights(counts, LossConfig(average="token"), max_tokens=50)
    assert sum(w * n for w, n in zip(per_token, counts, strict=True)) == pytest.approx(1)
    assert len(set(per_token)) == 1
    per_sequence = token_weights(counts, LossConfig(average="sequence"), max_tokens=50)
    for weight, n in zip(per_sequence, counts, strict=True):
        assert weight * n == pytest.approx(1 / len(counts) if n else 0)
    constant = token_weights(counts, LossConfig(average="constant"), max_tokens=50)
    assert constant == [1 / (len(counts) * 50)] * len(counts)


@pytest.mark.parametrize("average", ["token", "sequence", "constant"])
def test_a_step_in_which_no_group_counts_has_no_weights(average) -> None:
    assert token_weights([], LossConfig(average=average), max_tokens=50) == []


def test_dr_grpo_does_not_prefer_long_wrong_completions() -> None:
    """GRPO divides a wrong completion's push by its length, so long ones are pushed less a token; Dr. GRPO does not."""
    short, long = 2, 40
    grpo = token_weights([short, long], LossConfig(average="sequence"), max_tokens=64)
    dr_grpo = token_weights([short, long], LossConfig(average="constant"), max_tokens=64)
    assert grpo[0] == pytest.approx(20 * grpo[1])
    assert dr_grpo[0] == dr_grpo[1]


def test_metrics_count_only_trained_tokens() -> None:
    config = LossConfig(clip_low=0.2, clip_high=0.2)
    rows = weigh(make_rows(3, B=64, T=32), config)
    _, sums = policy(config=config, **rows)
    ratio = (rows["logprobs_BT"] - rows["old_logprobs_BT"]).exp()
    A = rows["advantages_BT"]
    clipped = ((ratio > 1.2) & (A > 0)) | ((ratio < 0.8) & (A < 0))
    assert sums["tokens"] == rows["mask_BT"].sum()
    assert sums["clipped"] == (clipped & rows["mask_BT"]).sum() > 0
    assert sums["ratio"] == pytest.approx(ratio[rows["mask_BT"]].sum().item())


@pytest.mark.parametrize(
    "bad", [{"clip_low": 1.0}, {"clip_low": -0.1}, {"clip_high": -0.1}, {"kl": -1.0}, {"mismatch_cap": -1.0}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        LossConfig(**bad)  # type: ignore[arg-type]


# supervised


def test_cross_entropy_is_torchs_on_the_trained_tokens() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=g)
    targets = torch.randint(7, (3, 5), generator=g)
    mask = torch.rand(3, 5, generator=g) < 0.6
    logprobs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    loss, sums = cross_entropy(logprobs.masked_fill(~mask, -math.inf), mask, torch.full((3,), 1 / int(mask.sum())))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[mask], targets[mask]))
    torch.testing.assert_close(sums["nll"] / sums["tokens"], loss)
