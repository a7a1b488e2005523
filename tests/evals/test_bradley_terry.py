"""Strengths from votes: known figures, known strengths, intervals that cover, and what no votes can tell."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.evals.bradley_terry import POINTS, Games, NoFiniteFit, fit, two_sided
from ponder.evals.influence import smallest_removal
from ponder.intervals import student

sys.path.append(str(Path(__file__).parent.parent.parent / "bench"))

import arena as bench

PANDALM = {  # 2,997 votes, a tie half a win: what four public programs find too
    "llama-7b": 1120.8, "pythia-6.9b": 1015.0, "bloom-7b": 997.8, "opt-7b": 962.8, "cerebras-gpt-6.7B": 903.6,
}  # fmt: skip


def pandalm():
    """(first, second, score, the prompt, the row) of each vote."""
    path = Path(os.environ.get("PONDER_DATA", "")) / "preference" / "pandalm_test.jsonl"
    if not os.environ.get("PONDER_DATA") or not path.exists():
        pytest.skip("PONDER_DATA holds no PandaLM")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        first, second = re.fullmatch(r"pandalm-\d+-(.+)_(.+)", row["id"]).groups()
        for vote in row["votes"]:
            yield first, second, (0.5, 1.0, 0.0)[vote], row["problem"], row["id"]


def of_two(score, times=1, questions=None):
    """Games of a against b."""
    scores = list(score) * times
    return Games.of((("a", "b", s, f"q{questions[i] if questions else i}", "") for i, s in enumerate(scores)))


def rating(found, name):
    return found.rating(found.games.names.index(name))


def half_widths(found):
    return [(found.rating(i).high - found.rating(i).low) / 2 for i in range(len(found.games.names))]


def test_pandalm_gets_the_ratings_that_public_programs_give_it():
    votes = list(pandalm())
    found = fit(Games.of((a, b, score, prompt, "") for a, b, score, prompt, _ in votes))
    assert {name: round(rating(found, name).value, 1) for name in PANDALM} == PANDALM
    assert len(votes) == 2997 and found.num_questions == 170 and not found.has_prior
    by_row = fit(Games.of((a, b, score, row, "") for a, b, score, _, row in votes))
    per_vote = fit(Games.of((a, b, score, str(i), "") for i, (a, b, score, _, _) in enumerate(votes)))
    assert all(14 < half < 17 for half in half_widths(per_vote))
    assert all(24 < half < 28 for half in half_widths(by_row))  # votes on one pair of answers belong together
    assert all(35 < half < 42 for half in half_widths(found))  # and so do pairs that share a prompt
    assert [found.rank(i) for i in range(5)] == [2, 5, 1, 2, 2]


def test_the_rating_of_two_is_the_log_odds_of_their_wins():
    found = fit(of_two([1, 1, 1, 0], times=10))
    assert found.difference(0, 1).value == pytest.approx(POINTS * math.log(3))
    assert found.chance(0, 1).value == pytest.approx(0.75)
    assert found.rating(0).value + found.rating(1).value == pytest.approx(2000)
    half = fit(of_two([1, 0.5, 1, 0.5], times=10))
    assert half.chance(0, 1).value == pytest.approx(0.75)


def test_davidsons_ties_have_a_parameter_of_their_own():
    found = fit(of_two([1, 1, 0, 0.5, 0.5], times=20), ties="davidson")
    strong, v = math.exp(found.strengths[0] - found.strengths[1]), found.tie_parameter
    chances = np.array([strong, 1, v * math.sqrt(strong)])
    assert chances / chances.sum() == pytest.approx([0.4, 0.2, 0.4])
    assert fit(of_two([1, 1, 0], times=5), ties="davidson").ties == "half"  # without a tie there is no parameter


def test_the_scores_are_the_gradient_and_the_information_the_curvature():
    from ponder.evals.bradley_terry import _davidson, _design, _half

    rng = np.random.default_rng(0)
    games = bench.draw(replace(bench.DESIGNS[1], questions=20), rng)
    games = replace(games, covariates={"x": rng.normal(size=len(games))})
    design = _design(games)
    for model, size in ((_half, 6), (_davidson, 7)):
        at, told = rng.normal(size=size), (design, games.score, rng.uniform(0.2, 3, len(games)))
        _, scores, information = model(at, *told)
        for i, step in enumerate(1e-5 * np.eye(size)):
            up, down = model(at + step, *told), model(at - step, *told)
            assert scores.sum(axis=0)[i] == pytest.approx((up[0] - down[0]) / 2e-5, abs=1e-4)
            slope = (up[1].sum(axis=0) - down[1].sum(axis=0)) / 2e-5
            assert information[i] == pytest.approx(-slope, abs=1e-4)


def test_synthetic_players_are_found_again():
    design = replace(bench.DESIGNS[0], questions=20_000, answer_sd=0.0, ties=0.2)
    found = fit(bench.draw(design, np.random.default_rng(3)))
    expected = bench.truth(design)
    assert np.abs(POINTS * found.strengths - (expected - expected.mean())).max() < 12  # three standard errors
    assert [found.rank(i) for i in range(5)] == [1, 2, 3, 4, 5]


def test_clustered_intervals_cover_what_they_claim_and_separate_ones_do_not():
    per_vote, clustered, error = bench.coverage(bench.DESIGNS[3], 80)
    assert clustered == pytest.approx(0.95, abs=3 * error + 0.01) and per_vote < 0.85
    _, three, error = bench.coverage(bench.DESIGNS[1], 60, seed=1)  # the bench has the figure from 1,000
    assert three == pytest.approx(0.95, abs=3 * error + 0.01)


def test_votes_that_are_copied_tell_nothing_more():
    once = fit(of_two([1, 1, 0, 1, 0, 1] * 10, questions=range(60)))
    nine = fit(of_two([1, 1, 0, 1, 0, 1] * 10, times=9, questions=[*range(60)] * 9))
    assert half_widths(nine) == pytest.approx(half_widths(once))
    assert half_widths(fit(of_two([1, 1, 0, 1, 0, 1] * 10, times=9)))[0] < 0.4 * half_widths(once)[0]


def test_a_voter_who_votes_often_widens_the_intervals():
    rng = np.random.default_rng(0)
    bias = rng.normal(0, 2, 40)  # of each voter towards a
    won = rng.random(1200) < 1 / (1 + np.exp(-np.tile(bias, 30)))
    rows = [("a", "b", float(each), f"q{i}", f"v{i % 40}") for i, each in enumerate(won)]
    known, unknown = fit(Games.of(rows)), fit(Games.of((*row[:4], "") for row in rows))
    assert half_widths(known)[0] > 2 * half_widths(unknown)[0]
    assert known.freedom == 39 and unknown.freedom == 1199


def test_who_never_lost_has_no_upper_end_and_the_interval_is_not_of_no_width():
    for times in (1, 3, 30):
        found = fit(of_two([1], times=times))
        assert found.has_prior
        best, other = found.rating(0), found.rating(1)
        assert best.high == math.inf and other.low == -math.inf and math.isfinite(best.value)
        assert found.difference(0, 1).high == math.inf
        is_certain = found.difference(0, 1).low > 0
        assert is_certain == (times == 30)  # one win is no proof; thirty questions are
    copied = fit(of_two([1], times=30, questions=[0] * 15 + [1] * 15))  # two questions, fifteen votes each
    assert not copied.difference(0, 1).low > 0


def test_a_covariate_without_end_and_one_that_is_the_players_are_refused():
    games = of_two([1, 0, 1, 0], times=5)
    with pytest.raises(NoFiniteFit):
        fit(replace(games, covariates={"separates": np.array([1.0, -1, 1, -1] * 5)}))
    with pytest.raises(NoFiniteFit):
        fit(replace(games, covariates={"always": np.ones(20)}))  # a is always the first


def test_players_that_never_met_have_scales_of_their_own():
    rows = [("a", "b", s, f"q{i}", "") for i, s in enumerate([1, 1, 0] * 20)]
    rows += [("c", "d", s, f"r{i}", "") for i, s in enumerate([1, 0] * 30)]
    found = fit(Games.of(rows))
    assert not found.has_prior and found.graph.components.tolist() == [0, 0, 1, 1]
    assert rating(found, "a").value + rating(found, "b").value == pytest.approx(2000)
    assert rating(found, "c").value == pytest.approx(1000)
    assert found.difference(0, 2).low == -math.inf and found.difference(0, 2).high == math.inf
    assert found.rank(2) == 1


def test_a_covariate_takes_out_its_effect():
    rng = np.random.default_rng(5)
    longer = rng.choice([-1.0, 1.0], 4000) + 0.3  # a writes more
    won = rng.random(4000) < 1 / (1 + np.exp(-0.6 * longer))  # and voters like that, and nothing else
    swap = rng.random(4000) < 0.5
    games = Games(
        names=("a", "b"), first=swap.astype(int), second=1 - swap, score=np.where(swap, ~won, won) * 1.0,
        questions=np.arange(4000), voters=np.arange(4000), covariates={"length": np.where(swap, -longer, longer)},
    )  # fmt: skip
    styled, plain = fit(games), fit(replace(games, covariates={}))
    assert plain.difference(0, 1).low > 0
    assert styled.difference(0, 1).low < 0 < styled.difference(0, 1).high
    effect = styled.effect("length")
    assert effect.low < 0.6 * POINTS < effect.high and effect.low > 0


def test_the_fewest_votes_that_change_the_first_place_do_change_it():
    rng = np.random.default_rng(2)
    games = bench.draw(replace(bench.DESIGNS[0], questions=300, ties=0.0), rng)
    found = fit(games)
    few = smallest_removal(found)
    kept = np.ones(300, bool)
    kept[list(few.removed)] = False
    assert len(few.removed) == few.num_votes < 60 and few.top == "a"
    without = fit(games.where(kept))
    assert without.strengths.argmax() != 0 and games.names[without.strengths.argmax()] == few.instead
    kept[few.removed[-1]] = True  # one fewer is not enough
    assert fit(games.where(kept)).strengths.argmax() == 0
    even = smallest_removal(fit(of_two([1, 1, 1, 0, 0])))
    assert (even.num_votes, even.top, even.instead) == (1, "a", "b")


def test_students_t_is_exact_where_few_degrees_of_freedom_are_left():
    for freedom in (1, 2, 3, 10, 30, 1000):
        assert two_sided(student(freedom), freedom) == pytest.approx(0.05, rel=5e-3)
    assert two_sided(0, 5) == pytest.approx(1)


@pytest.mark.parametrize("oracle", ["choix", "evalica"])
def test_another_program_finds_the_same(oracle):
    module = pytest.importorskip(oracle)
    games = bench.draw(replace(bench.DESIGNS[0], questions=500, ties=0.0), np.random.default_rng(0))
    is_first = games.score == 1
    won, lost = np.where(is_first, games.first, games.second), np.where(is_first, games.second, games.first)
    if oracle == "choix":
        theirs = module.ilsr_pairwise(5, list(zip(won.tolist(), lost.tolist(), strict=True)))
    else:
        names = [[games.names[i] for i in side] for side in (won, lost)]
        scores = module.bradley_terry(*names, [module.Winner.X] * len(won)).scores
        theirs = np.log([scores[name] for name in games.names])
    assert POINTS * (theirs - theirs.mean()) == pytest.approx(POINTS * fit(games).strengths, abs=0.1)


def test_more_models_than_there_is_memory_for_their_pairs_are_refused():
    """A log of a million votes, each on two models of its own, would ask for terabytes."""
    with pytest.raises(ConfigError, match="5,000 models cannot be rated together"):
        Games.of((f"a{i}", f"b{i}", 1.0, f"q{i}", "") for i in range(2_500))
