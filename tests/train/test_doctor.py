"""The doctor: every symptom is found for what it is, and healthy runs, noisy ones too, are left in peace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.train.doctor import EXPLAINS, diagnose, render
from ponder.train.series import Series
from ponder.train.symptoms import CHECKS, Finding

Row = dict[str, float]
Curve = Callable[[float], float]  # progress 0..1 -> value


def line(start: float, end: float) -> Curve:
    return lambda x: start + (end - start) * x


def flat(value: float) -> Curve:
    return lambda x: value


HEALTHY: dict[str, Curve] = {
    "rollout/correct": lambda x: 0.1 + 0.4 * (1 - math.exp(-4 * x)),
    "group/frac_all_good": line(0.02, 0.15),
    "group/frac_all_bad": line(0.4, 0.15),
    "rollout/truncated_frac": line(0.12, 0.03),
    "rollout/closed_frac": line(0.85, 0.95),
    "rollout/no_answer_frac": line(0.12, 0.02),
    "rollout/undecided": flat(0.0),
    "rollout/failed": flat(0.0),
    "rollout/reasoning_tokens": line(70, 85),
    "rollout/answer_tokens": flat(5),
    "policy/entropy": line(0.6, 0.3),
    "policy/clip_frac": flat(0.004),
    "policy/old_kl": flat(1e-4),
    "policy/mismatch_kl": flat(1e-7),
    "policy/mismatch_max": flat(1e-4),
    "policy/grad_norm": line(0.4, 0.6),
    "policy/lr": flat(1e-4),
}


def run(
    steps: int = 80, seed: int = 0, noise: float = 0.1, curves: dict[str, Curve] | None = None, **more: Curve
) -> list[Row]:
    """Metrics of a run: healthy but for `curves`. Noise is relative, and the groups follow from what is given."""
    rng = random.Random(seed)
    named = {**HEALTHY, **{key.replace("__", "/"): curve for key, curve in ((curves or {}) | more).items()}}
    rows = []
    for step in range(steps):
        x = step / max(steps - 1, 1)
        row = {key: curve(x) * max(0.0, 1 + noise * rng.gauss(0, 1)) for key, curve in named.items()}
        for key in row:
            if key.endswith("_frac") or key.startswith(("group/", "rollout/correct", "rollout/e", "rollout/u")):
                row[key] = min(row[key], 1.0)
        row.setdefault("reward/mean", row["rollout/correct"])
        row.setdefault("group/frac_mixed", max(0.0, 1 - row["group/frac_all_good"] - row["group/frac_all_bad"]))
        rows.append({"step": step, **row, "tokens/rollout": 1e4 * (step + 1), "train_flops": 1e9 * (step + 1)})
    return rows


def names(rows: list[Row], config: dict[str, Any] | None = None) -> list[str]:
    return [finding.name for finding in diagnose(rows, config)]


# healthy


@given(seed=st.integers(0, 10_000), noise=st.floats(0, 0.3), steps=st.integers(30, 300))
@settings(max_examples=150, deadline=None)
def test_a_healthy_run_however_noisy_has_nothing_wrong(seed: int, noise: float, steps: int) -> None:
    assert names(run(steps, seed, noise)) == ["healthy"]


@pytest.mark.parametrize(
    "curves",
    [
        {"policy__entropy": line(0.05, 0.02)},  # bytes of arithmetic: little entropy, and enough of it
        {"policy__entropy": line(0.2, 0.5)},  # clip-higher explores more as it goes
        {"rollout__reasoning_tokens": line(50, 240)},  # thinks longer and is right more often
        {"rollout__reasoning_tokens": line(200, 40)},
        {
            "rollout__truncated_frac": line(0.9, 0.05),
            "rollout__no_answer_frac": line(0.8, 0.02),  # learned to finish
            "rollout__closed_frac": line(0.05, 0.95),
        },
        {"policy__ref_kl": line(0.0, 0.25)},
        {"policy__grad_norm": line(2.0, 0.2)},
        {"policy__clip_frac": flat(0.15)},  # GSPO
        {"policy__mismatch_kl": flat(2e-3), "policy__mismatch_max": flat(0.8)},  # bfloat16
        {"rollout__correct": lambda x: 0.1 + 0.5 * min(1.0, 3 * x)},  # rises, then stays
        {"rollout__correct": line(0.5, 0.97), "policy__entropy": line(0.6, 0.02)},  # mastered: may be certain
        {"rollout__undecided": flat(0.01), "rollout__error": flat(0.001)},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_unusual_but_healthy_runs_are_left_in_peace(curves: dict[str, Curve], seed: int) -> None:
    assert names(run(seed=seed, curves=curves)) == ["healthy"]


def test_int8_may_differ_more_than_bfloat16_but_not_as_another_policy_does() -> None:
    int8 = {"sampling_dtype": "int8"}
    apart = run(policy__mismatch_kl=flat(1.4e-2), policy__mismatch_max=flat(3.0))
    assert names(apart, int8) == ["healthy"] and "mismatch" in names(apart)
    assert "mismatch" in names(run(policy__mismatch_kl=flat(0.2)), int8)


def test_healthy_comes_with_its_evidence() -> None:
    (finding,) = diagnose(run(noise=0))
    assert finding.severity == "ok"
    for words in ("80 steps", "reward 0.2", "mixed groups", "entropy", "nats"):
        assert words in finding.evidence


# symptoms


STUCK = {"rollout__correct": flat(0.3)}
SICK: dict[str, tuple[str, dict[str, Curve]]] = {
    "too hard": ("too_hard", {"group__frac_all_bad": flat(0.9), "rollout__correct": flat(0.01)}),
    "mastered": ("too_easy", {"group__frac_all_good": line(0.3, 0.95), "group__frac_all_bad": flat(0.02),
                              "rollout__correct": line(0.6, 0.98)}),
    "easy from the start": ("too_easy", {"group__frac_all_good": flat(0.93), "group__frac_all_bad": flat(0.01),
                                         "rollout__correct": flat(0.97)}),
    "hopeless or mastered": ("too_uneven", {"group__frac_all_good": flat(0.45), "group__frac_all_bad": flat(0.45),
                                            "rollout__correct": line(0.4, 0.5)}),
    "marks that mean nothing": ("never_closes", {"rollout__closed_frac": flat(0.02),
                                                 "rollout__truncated_frac": flat(0.9)}),
    "budget closes the reasoning": ("truncation", {"rollout__truncated_frac": flat(0.6)}),
    "cut, so no answer": ("truncation", {"rollout__truncated_frac": flat(0.8), "rollout__no_answer_frac": flat(0.7),
                                         "group__frac_all_bad": flat(0.95), "rollout__correct": flat(0.02)}),
    "no format": ("no_format", {"rollout__no_answer_frac": flat(0.9), "group__frac_all_bad": flat(0.95),
                                "rollout__correct": flat(0.02)}),
    "entropy collapse": ("entropy_collapse", {"policy__entropy": lambda x: 0.6 * math.exp(-8 * x), **STUCK}),
    "entropy collapse, groups all the same": (
        "entropy_collapse",
        {"policy__entropy": lambda x: 0.6 * math.exp(-8 * x), **STUCK,
         "group__frac_all_good": line(0.1, 0.3), "group__frac_all_bad": line(0.2, 0.65)},
    ),
    "entropy blow-up": ("entropy_blowup", {"policy__entropy": line(0.5, 4.0), "rollout__correct": line(0.3, 0.02)}),
    "stale weights": ("mismatch", {"policy__mismatch_kl": line(0.0, 0.2)}),
    "one token apart": ("mismatch", {"policy__mismatch_max": flat(5.0), "policy__mismatch_kl": flat(1e-3)}),
    "verifier fails": ("verifier_errors", {"rollout__failed": flat(0.05)}),
    "verifier cannot tell": ("undecided", {"rollout__undecided": flat(0.2)}),
    "gradient explodes": ("exploding", {"policy__grad_norm": lambda x: 0.3 * math.exp(5 * x)}),
    "everything clipped": ("exploding", {"policy__clip_frac": flat(0.5)}),
    "runs from the reference": ("kl_runaway", {"policy__ref_kl": lambda x: 1.5 * x**3}),
    "far from the reference": ("kl_runaway", {"policy__ref_kl": flat(4.0)}),
    "liked more and right less often": (
        "preference_over_truth", {"reward__preference": line(0.4, 0.8), "rollout__correct": line(0.5, 0.3)}
    ),
    "longer and not better": ("length_hacking", {"rollout__reasoning_tokens": line(60, 200), **STUCK}),
    "does not move": ("step_too_small", {"policy__entropy": flat(0.6), **STUCK}),
    "moves and learns nothing": ("step_too_large", {"policy__entropy": line(0.6, 0.15), **STUCK}),
    "moves a little and learns nothing": ("flat_reward", {"policy__entropy": line(0.6, 0.42), **STUCK}),
    "destroyed": ("reward_fell", {"rollout__correct": lambda x: 0.4 if x < 0.4 else 0.05}),
    "destroyed, and it rambles": ("reward_fell", {"rollout__correct": lambda x: 0.4 if x < 0.4 else 0.05,
                                                  "rollout__reasoning_tokens": line(60, 200)}),
    "destroyed by the first step": (
        "reward_fell",
        {"rollout__correct": lambda x: 0.3 if x < 0.02 else 0.01,
         "group__frac_all_bad": lambda x: 0.3 if x < 0.02 else 0.95},
    ),
}  # fmt: skip


@pytest.mark.parametrize("symptom", SICK)
@pytest.mark.parametrize("seed", range(5))
def test_each_symptom_is_found_and_nothing_else_is(symptom: str, seed: int) -> None:
    expected, curves = SICK[symptom]
    # entropy within 10 % is itself the evidence of a policy that does not move: that needs a steadier run
    assert names(run(seed=seed, noise=0.04, curves=curves)) == [expected]


def test_a_number_that_is_not_finite_is_named_with_its_step() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        rows = run()
        rows[57]["policy/grad_norm"] = bad
        (finding,) = diagnose(rows)
        assert (finding.name, finding.severity) == ("non_finite", "serious")
        assert "policy/grad_norm" in finding.evidence and "step 57" in finding.evidence


@pytest.mark.parametrize("steps", [0, 1, 5, 19])
def test_a_run_too_short_to_judge_says_so(steps: int) -> None:
    assert names(run(steps)) == ["too_short"]


def test_warm_up_is_not_counted_as_evidence() -> None:
    assert names(run(30), {"warmup_steps": 5}) == ["healthy"]
    assert names(run(30), {"warmup_steps": 15}) == ["too_short"]


def test_a_short_run_still_shows_what_needs_no_trend() -> None:
    rows = run(5, rollout__no_answer_frac=flat(0.9), group__frac_all_bad=flat(0.95), rollout__correct=flat(0.0))
    assert names(rows) == ["no_format", "too_short"]


def test_two_faults_that_do_not_explain_each_other_are_both_reported_serious_first() -> None:
    rows = run(rollout__undecided=flat(0.2), policy__mismatch_kl=flat(0.5))
    assert names(rows) == ["mismatch", "undecided"]


def test_flat_reward_under_adaptive_sampling_is_a_note_and_none_where_levels_rise() -> None:
    flat_run = run(noise=0.04, policy__entropy=flat(0.6), curves=STUCK)
    assert [(f.name, f.severity) for f in diagnose(flat_run)] == [("step_too_small", "warning")]
    assert [(f.name, f.severity) for f in diagnose(flat_run, {"selection": "adaptive"})] == [("step_too_small", "note")]
    rising = run(noise=0.04, policy__entropy=flat(0.6), pool__level_3=line(0.2, 0.5), curves=STUCK)
    assert names(rising, {"selection": "adaptive"}) == ["healthy"]


def test_adaptive_sampling_that_moves_on_to_harder_problems_is_no_fault() -> None:
    """Rewards fall and texts grow because the problems changed; the estimates of each level say so."""
    curves = {"rollout__correct": line(0.9, 0.35), "rollout__reasoning_tokens": line(40, 120)}
    better = run(noise=0.04, curves=curves, pool__level_1=line(0.7, 0.98), pool__level_5=line(0.1, 0.35))
    assert names(better, {"selection": "adaptive"}) == ["healthy"]
    worse = run(noise=0.04, curves=curves, pool__level_1=line(0.9, 0.4), pool__level_5=line(0.3, 0.05))
    assert names(worse, {"selection": "adaptive"}) == ["reward_fell"]


# any input


def test_steps_without_a_mixed_group_lack_policy_metrics_and_are_read_all_the_same() -> None:
    rows = run()
    for row in rows[::3]:
        for key in [key for key in row if key.startswith("policy/")]:
            del row[key]
    assert names(rows) == ["healthy"]


value = st.none() | st.text(max_size=3) | st.booleans() | st.floats() | st.integers() | st.just(10**400)
KEYS = [*HEALTHY, "reward/mean", "group/frac_mixed", "policy/ref_kl", "pool/level_1", "step"]
SETTINGS = ["lr", "loss", "loss.kl", "max_reasoning_tokens", "warmup_steps", "selection"]


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(KEYS), value, max_size=8), max_size=50),
    config=st.dictionaries(st.sampled_from(SETTINGS), value | st.dictionaries(st.just("kl"), value)),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_file_holds_there_is_an_answer(rows: list[dict[str, Any]], config: dict[str, Any]) -> None:
    findings = diagnose(rows, config)
    assert findings and render(findings)


def test_numbers_whose_sum_overflows_do_not_end_the_doctor() -> None:
    assert diagnose([{"rollout/correct": 0.1, "rollout/undecided": 9e307}] * 40, {})


def test_metrics_of_another_kind_of_run_are_not_diagnosed() -> None:
    assert names([{"step": i, "loss": 1.0} for i in range(50)]) == ["no_metrics"]


# what is said


def test_advice_names_a_step_size_to_try_where_the_recipe_is_known() -> None:
    rows = run(rollout__correct=lambda x: 0.4 if x < 0.4 else 0.05)
    assert "lr=2e-05, now 0.0001" in diagnose(rows, {"lr": 1e-4})[0].advice
    assert "lr=" not in diagnose(rows)[0].advice


def test_findings_are_rendered_whole_within_a_terminals_width() -> None:
    findings = diagnose(run(rollout__undecided=flat(0.2), policy__mismatch_kl=flat(0.5)), {"lr": 1e-4})
    text = render(findings)
    assert max(map(len, text.splitlines())) <= 100
    flat_text = " ".join(text.split())
    for finding in findings:
        for part in (finding.evidence, finding.cause, finding.advice):
            assert " ".join(part.split()) in flat_text
    assert text.index("mismatch") < text.index("undecided")


def test_no_two_findings_explain_each_other_away() -> None:
    left = dict(EXPLAINS)
    while leaves := [name for name, symptoms in left.items() if not symptoms & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left


def test_every_finding_says_what_was_seen_why_and_what_to_do() -> None:
    """Over all symptoms together, which also shows that the names in EXPLAINS exist."""
    seen: dict[str, Finding] = {}
    for _, curves in SICK.values():
        for check in CHECKS:
            if finding := check(Series(run(noise=0.04, curves=curves))):
                seen[finding.name] = finding
    assert {name for pair in EXPLAINS.items() for name in (pair[0], *pair[1])} <= seen.keys()
    for finding in seen.values():
        assert any(c.isdigit() for c in finding.evidence) and finding.cause and finding.advice.endswith(".")
