"""Estimates grow as the cost does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ponder.cli.show import print_plan
from ponder.train import estimate, scorer_probe
from ponder.train.estimate import estimate_rl, estimate_scorer, estimate_sft
from ponder.train.recipe import EvalConfig, RLConfig
from ponder.train.scorer import configure
from ponder.train.sft import SFTConfig


def test_time_is_work_over_speed_and_longer_reasoning_takes_more_memory(monkeypatch):
    def minutes(run: RLConfig, speed: float) -> float:
        monkeypatch.setattr(estimate, "matrix_speed", lambda dtype: speed)
        return estimate_rl(run)["minutes"]

    run = RLConfig(out="o", num_workers=1)
    base = minutes(run, 1e8)  # slow, so that rounding to a tenth of a minute is nothing
    assert base > 100
    assert minutes(replace(run, num_steps=10 * run.num_steps), 1e8) == pytest.approx(10 * base, rel=1e-2)
    assert minutes(run, 5e7) == minutes(replace(run, num_workers=2), 2.5e7) == pytest.approx(2 * base, rel=1e-2)
    assert base / 2 < minutes(replace(run, lora_rank=4), 1e8) < base  # no gradient of the weights
    evaluated = replace(run, eval=EvalConfig(every=10))
    assert base < minutes(evaluated, 1e8) < minutes(replace(run, eval=EvalConfig(every=1)), 1e8)
    base = estimate_rl(run)
    assert estimate_rl(replace(run, max_reasoning_tokens=900))["memory_gib"] > base["memory_gib"]


def test_probabilities_wait_for_backward_only_where_the_head_is_trained(monkeypatch):
    def gib(run: RLConfig, most: int) -> float:
        monkeypatch.setattr(estimate, "KEPT_BYTES", most)
        return estimate_rl(run)["memory_gib"]

    run = RLConfig(out="o", num_workers=1, max_tokens_per_batch=2**16)
    assert gib(run, 2**40) > gib(run, 0)
    adapter = replace(run, lora_rank=4)
    assert gib(adapter, 2**40) == gib(adapter, 0)


def test_a_fresh_model_is_estimated_from_its_architecture():
    plan = estimate_sft(SFTConfig(out="o", num_workers=1))
    assert 1e6 < plan["parameters"] < 2e6
    assert 0.1 < plan["memory_gib"] < 4


def test_a_plan_says_whether_it_fits_into_memory(monkeypatch, capsys):
    run = SFTConfig(out="o", num_workers=1)
    for free, fits in ((10**13, True), (10**6, False)):
        monkeypatch.setattr(estimate, "free_memory", lambda device, free=free: free)
        plan = estimate_sft(run)
        assert plan["fits"] is fits
        print_plan(run, plan, as_json=False)
        assert ("does NOT fit" in capsys.readouterr().out) is not fits


def test_a_scorer_costs_what_its_kind_reads(monkeypatch):
    """Drawing is one pass over the samples, a joined scorer's reading one, an epoch three; half of each labelled step
    goes on. A probe reads again only what earlier checkpoints of a run drew."""
    monkeypatch.setattr(estimate, "matrix_speed", lambda dtype: 1e7)  # slow enough for minutes of many digits
    options = {"process": {"continuations": 8, "steps_per_sample": 4}}

    def minutes(kind, **more):
        return estimate_scorer(configure({"out": "o", "kind": kind, "num_epochs": 2, "num_workers": 1} | more))[
            "minutes"
        ]

    drawn = minutes("features")
    passes = {kind: minutes(kind, **options.get(kind, {})) / drawn for kind in ("probe", "outcome", "process")}
    assert {kind: round(value, 2) for kind, value in passes.items()} == {"probe": 1, "outcome": 7, "process": 23}
    assert round(minutes("features", joined="a run") / drawn, 2) == 1
    monkeypatch.setattr(scorer_probe, "policies", lambda model: ["early", "middle", "last"])
    assert round(minutes("probe") / drawn, 2) == 1.5


def test_what_is_only_read_needs_no_memory_for_gradients():
    def memory(kind):
        return estimate_scorer(configure({"out": "o", "kind": kind, "num_workers": 1}))["memory_gib"]

    assert memory("probe") == memory("features") < memory("outcome")
