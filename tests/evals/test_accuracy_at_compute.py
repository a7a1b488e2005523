"""The table of strategies counts every token once, compares at equal cost, and says what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exams import exam
from test_replay import table

from ponder.engine.base import ScriptedEngine
from ponder.evals.accuracy_at_compute import accuracy_at_compute, controlled, headline, headline_lines
from ponder.evals.bank import Bank, Samples
from ponder.evals.replay import Replay
from ponder.evals.report import report
from ponder.evals.results import AccuracyAtCompute, Headline, ReadingCost, ScorerFacts, Strategies, StrategyPoint
from ponder.evals.scaling import compare_strategies

FULL = ScorerFacts(name="s")
FREE = ScorerFacts(name="s", cost=ReadingCost(prompt=0, sample=0))


def tables(n: int = 16, **changes: Any) -> list[Samples]:
    """Eight problems; the scorer is right about what is right, mostly."""
    made = []
    for i in range(8):
        rng = np.random.default_rng(i)
        right = rng.random(n) < 0.3
        rows = [("a" if y else str(rng.integers(4)), bool(y), float(0.6 * y + 0.4 * rng.random())) for y in right]
        made.append(table(rows, f"p{i}", tokens=np.full(n, 20), **changes))
    return made


def row(found: AccuracyAtCompute, strategy: str, scorer: str | None = None) -> dict[int, StrategyPoint]:
    [curve] = [r for r in found.rows if (r.strategy, r.scorer) == (strategy, scorer)]
    return {point.k: point for point in curve.points}


def test_costs_are_the_prompt_once_k_samples_and_what_the_scorer_reads() -> None:
    found = accuracy_at_compute(tables(), {"s": FULL}, per_token=(100.0, 0.0))
    assert found.unit == "flops" and found.num_problems == 8
    votes, rerank = row(found, "consensus"), row(found, "rerank", "s")
    assert list(votes) == [1, 2, 4, 8, 16]
    assert (votes[4].tokens, votes[4].scorer_tokens, votes[4].flops) == (90, 0, 9000)
    assert (rerank[4].tokens, rerank[4].scorer_tokens, rerank[4].flops) == (90, 90, 18000)
    same = row(found, "adaptive consensus")[4]
    assert (same.samples, same.tokens, same.flops) == (4, 90, 9000)
    assert row(found, "adaptive consensus")[16].samples < 16
    assert row(found, "adaptive consensus")[16].flops < votes[16].flops


def test_later_tokens_cost_what_their_place_costs() -> None:
    found = accuracy_at_compute(tables(), {}, per_token=(0.0, 1.0))
    prompt = sum(range(10))
    assert row(found, "consensus")[2].flops == prompt + 2 * sum(range(10, 30))


def test_the_matched_vote_is_of_as_many_samples_as_the_cost_pays_for() -> None:
    found = accuracy_at_compute(tables(), {"s": FULL}, per_token=(100.0, 0.0))
    matched = {k: point.matched for k, point in row(found, "rerank", "s").items()}
    assert {k: same.k for k, same in matched.items()} == {1: 3, 2: 5, 4: 9, 8: 16, 16: 16}
    assert matched[16].is_all and not matched[4].is_all
    free = accuracy_at_compute(tables(), {"s": FREE}, per_token=None)
    assert free.unit == "tokens"
    assert all(point.matched.k == k for k, point in row(free, "rerank", "s").items())
    quarter = ScorerFacts(name="s", cost=ReadingCost(flops_per_token=25.0))
    cheap = accuracy_at_compute(tables(), {"s": quarter}, per_token=(100.0, 0.0))
    assert row(cheap, "rerank", "s")[4].flops == 9000 + 90 * 25


def test_a_scorer_that_knows_gains_and_everything_agrees_at_one_sample() -> None:
    found = accuracy_at_compute(tables(), {"s": FREE}, per_token=(100.0, 0.0))
    assert row(found, "rerank", "s")[16].gain.low > 0
    one = [row(found, r.strategy, r.scorer)[1].accuracy.value for r in found.rows]
    assert one == pytest.approx([one[0]] * len(one))
    exact = {r.strategy: r.exact for r in found.rows}
    assert exact["pass@k"] and exact["consensus"] and exact["rerank"] and exact["most confident"]
    assert not exact["weighted vote"] and not exact["adaptive consensus"]
    for r in found.rows:
        for point in r.points:
            assert point.mc_sd == 0 or not r.exact
            assert point.mc_sd < 1e-9 or 1 < point.k < 16 or r.strategy == "adaptive consensus"


def test_the_control_leaves_less_noise_and_no_bias() -> None:
    found = [accuracy_at_compute(tables(64), {"s": FREE}, draws=draws) for draws in (4000, 50)]
    many, few = (row(each, "weighted vote", "s")[8] for each in found)
    assert few.accuracy.value == pytest.approx(many.accuracy.value, abs=4 * few.mc_sd)
    assert 0 < many.mc_sd < few.mc_sd < 0.03


def test_the_control_never_adds_noise_and_takes_it_away_where_two_votes_agree() -> None:
    replay = Replay(tables(64)[0])
    plain = replay.plain(8)
    luck = np.random.default_rng(0).random(replay.draws)
    for rates in (luck, plain, 0.5 * plain + 0.5 * luck, 1 - plain):
        assert controlled(rates, replay, 8)[1] <= rates.var(ddof=1) / replay.draws + 1e-12
    assert controlled(plain, replay, 8) == pytest.approx((replay.consensus(8), 0.0), abs=1e-12)


def test_a_scorer_that_has_not_scored_all_is_left_out_and_named() -> None:
    some = tables()
    some[3].scores["s"][5:] = np.nan
    found = accuracy_at_compute(some, {"s": FULL})
    assert found.scorers == {} and "117 of 128 samples are scored" in found.left_out["s"]
    assert all(r.scorer is None for r in found.rows)
    assert "117 of 128" in headline_lines(headline(some, {"s": FULL}))[0]


def test_scores_that_look_at_all_samples_are_shown_at_the_largest_k_alone() -> None:
    found = accuracy_at_compute(tables(), {"s": replace(FREE, joint=True)})
    assert list(row(found, "rerank", "s")) == [16]


def test_the_headline_has_scores_that_look_at_all_samples_only_where_all_are_ranked() -> None:
    joint = {"s": replace(FREE, joint=True)}
    assert list(headline(tables(), joint).rerank_at[16]) == ["s"]
    for ranked, more in ((16, [*tables(16)[:7], tables(20)[7]]), (1000, tables(1001))):
        found = headline(more, joint)
        assert found.rerank_at == {ranked: {}} and f"more than {ranked}" in found.left_out["s"]
        assert list(headline(more, {"s": FREE}).rerank_at[ranked]) == ["s"]


def test_a_vote_weighted_by_points_is_shown_too() -> None:
    points = tables()
    for each in points:
        each.scores["s"][:] = 10 * each.scores["s"] - 5
    assert row(accuracy_at_compute(points, {"s": FREE}), "weighted vote", "s")[16].gain.low > 0


def test_unknown_logprobs_leave_out_confidence() -> None:
    found = accuracy_at_compute(tables(mean_logprob=np.full(16, np.nan)), {})
    assert [r.strategy for r in found.rows] == ["pass@k", "consensus", "adaptive consensus"]
    assert "not known" in found.left_out["confidence"]


def test_more_samples_than_there_are_and_no_samples_at_all_are_clear_errors() -> None:
    with pytest.raises(ValueError, match="k=32: every problem of the bank has 16 samples; draw more"):
        accuracy_at_compute(tables(), {}, ks=[4, 32])
    with pytest.raises(ValueError, match="holds no sample yet"):
        accuracy_at_compute([], {})
    assert headline([], {}) == Headline() and headline_lines(Headline()) == ["the bank holds no sample yet"]


def test_where_every_sample_fails_or_none_finishes_there_are_zeros() -> None:
    for key in ("x", None):
        failed = [table([(key, False, 0.5)] * 8, f"p{i}") for i in range(5)]
        found = accuracy_at_compute(failed, {"s": FULL}, per_token=(1.0, 0.0))
        for r in found.rows:
            assert [point.accuracy.value for point in r.points] == [0.0] * 4
            assert all(point.accuracy.high > 0 for point in r.points)
        assert headline_lines(headline(failed, {"s": FULL}))[0].startswith("pass@1 0.0 % (0.0 to ")


def test_the_headline_is_one_line_and_names_the_k_it_has() -> None:
    [line] = headline_lines(headline(tables(), {"s": FULL}))
    assert line.startswith("pass@1 ") and " / cons@16 " in line and " / rerank@16 " in line and line.endswith("(s)")
    [line] = headline_lines(headline(tables(100), {}))
    assert " / cons@64 " in line and "rerank@100: no scores yet" in line
    assert "rerank@1000" in headline_lines(headline(tables(1200), {}))[0]


def right_often(prompt: str, seed: int) -> tuple[str, str]:
    return "think", prompt if seed % 3 else str(seed % 7 + 90)


def test_a_bank_is_compared_without_a_run_and_without_a_model(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    engine, cost = ScriptedEngine(right_often), lambda index: 10.0 + index
    result = exam(make_task(), engine, tmp_path, num_samples=8, flops_per_token=cost)
    assert result.flops.per_token == (10.0, 1.0)
    assert (list(result.headline.cons_at), result.headline.rerank_at) == ([8], {8: {}})
    bank = Bank.read(tmp_path)
    bank.add_scores(FREE, {p.id: bank.samples(p.id).correct.astype(float) for p in bank.problems})
    strategies = compare_strategies(tmp_path)
    strategies.write(tmp_path / "strategies.json")
    assert Strategies.read(tmp_path / "strategies.json") == strategies
    assert strategies.unit == "flops" and strategies.num_problems == 6
    votes, flops = row(strategies, "consensus")[8], result.flops
    assert votes.flops == pytest.approx(flops.prompt + 8 * flops.sample)
    assert vars(votes.accuracy) == pytest.approx(vars(result.metrics.cons_at[8]))
    assert row(strategies, "rerank", "s")[8].accuracy.value == result.metrics.pass_at[8].value
    page = report(tmp_path).read_text()
    assert "Ways of choosing" in page and "rerank@8" in page and (tmp_path / "figures/strategies.png").exists()
    (tmp_path / "result.json").unlink()
    assert compare_strategies(tmp_path).unit == "tokens"
