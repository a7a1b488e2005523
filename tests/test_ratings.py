"""Ratings: Codeforces' own update, the likelihood rating, and intervals that cover."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ponder.ratings import (
    CONTEST_SD,
    FEWEST,
    HIGHEST,
    HumanField,
    Placing,
    codeelo_rating,
    contest_rating,
    likelihood_rating,
    ranks,
    rating_changes,
    win_chance,
)
from tests.helpers import takes_at_most


def slow_changes(ratings: list[int], places: list[int]) -> list[int]:
    """Codeforces' update as it is written down: every sum in full, every search from one end."""

    def seed(at: int, me: int) -> float:
        others = [r for j, r in enumerate(ratings) if j != me]
        return 1 + sum(1 / (1 + 10 ** ((at - other) / 400)) for other in others)

    changes = []
    for me, rating in enumerate(ratings):
        wanted = math.sqrt(places[me] * seed(rating, me))
        need = 1
        while need + 1 < HIGHEST and seed(need + 1, me) >= wanted:
            need += 1
        changes.append(math.trunc((need - rating) / 2))
    lower = math.trunc(-sum(changes) / len(changes)) - 1
    changes = [change + lower for change in changes]
    best = sorted(range(len(ratings)), key=lambda i: -ratings[i])[: 4 * round(math.sqrt(len(ratings)))]
    lower = min(0, max(-10, math.trunc(-sum(changes[i] for i in best) / len(best))))
    return [change + lower for change in changes]


def placings_of(rng: np.random.Generator, rating: float, field: HumanField, num_contests: int) -> list[Placing]:
    """Contests in which everybody's performance is the rating plus luck that makes Elo's chances exact."""
    luck = lambda size: rng.gumbel(scale=400 / math.log(10), size=size)
    return [
        Placing(
            field=field, beaten=float((field.ratings + luck(len(field)) < rating + luck(1)).sum())
        )
        for _ in range(num_contests)
    ]  # fmt: skip


def normal_field(rng: np.random.Generator, size: int = 400) -> HumanField:
    return HumanField.of(rng.normal(1500, 350, size))


def test_chances_are_elos():
    assert win_chance(1800, 1400) == pytest.approx(10 / 11)
    assert win_chance(1500, 1500) == 0.5
    assert float(win_chance(1e6, 0)) == 1.0  # no overflow


def test_who_ties_has_the_worst_of_the_places_shared():
    assert ranks([10, 20, 20, 30]).tolist() == [4, 3, 3, 1]
    assert ranks([20, 20, 20], [9, 5, 5]).tolist() == [3, 2, 2]
    assert ranks([]).tolist() == []


def test_changes_are_those_of_the_formula_written_out():
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 14):
        ratings = rng.integers(0, 3600, size).tolist()
        places = ranks(rng.integers(0, 12, size)).tolist()
        assert rating_changes(ratings, places).tolist() == (slow_changes(ratings, places) if size > 1 else [-1])


def test_changes_sum_to_just_below_zero():
    rng = np.random.default_rng(1)
    changes = rating_changes(rng.normal(1500, 300, 500), ranks(rng.normal(size=500)))
    assert -12 * 500 < changes.sum() <= 0


def test_an_unrated_person_counts_as_1400():
    assert (
        rating_changes([None, 1600, 900], [1, 2, 3]).tolist() == rating_changes([1400, 1600, 900], [1, 2, 3]).tolist()
    )
    assert HumanField.of([None, math.nan]).ratings.tolist() == [1400, 1400]


def test_a_round_of_15000_takes_well_under_a_second():
    rng = np.random.default_rng(2)
    ratings, places = rng.normal(1400, 400, 15_000), ranks(rng.integers(0, 9000, 15_000))
    with takes_at_most(0.5):
        rating_changes(ratings, places)
        likelihood_rating([Placing(field=HumanField.of(ratings), beaten=9_000)])


def test_the_rating_is_where_the_likelihood_is_highest():
    rng = np.random.default_rng(3)
    placings = [Placing(field=normal_field(rng, 20 * (1 + i)), beaten=7.0 + 9 * i) for i in range(3)]

    def log_likelihood(rating: float) -> float:
        total = 0.0
        for placing in placings:
            chance, share = win_chance(rating, placing.field.ratings), placing.share
            total += float(np.mean(share * np.log(chance) + (1 - share) * np.log(1 - chance)))
        return total

    value = likelihood_rating(placings).value
    assert value is not None
    assert log_likelihood(value) > max(log_likelihood(value - 1), log_likelihood(value + 1))


def test_a_tie_is_half_a_win_and_equal_play_is_equal_rating():
    field = HumanField.of([1700] * 10)
    assert contest_rating(Placing(field=field, beaten=5)) == pytest.approx(1700, abs=0.01)


def test_one_contest_gives_codeelos_rating():
    rng = np.random.default_rng(4)
    placing = Placing(field=normal_field(rng), beaten=250)
    seed = 1 + (1 - win_chance(likelihood_rating([placing]).value, placing.field.ratings)).sum()
    assert seed == pytest.approx(placing.place, abs=1e-3)
    assert codeelo_rating([placing]) == (pytest.approx(likelihood_rating([placing]).value), 0)


def test_big_contests_do_not_outweigh_small_ones():
    small, big = HumanField.of([1500] * 10), HumanField.of([1500] * 1000)
    placings = [Placing(field=small, beaten=9), Placing(field=big, beaten=100)]
    assert likelihood_rating(placings).value == pytest.approx(1500, abs=0.01)


def test_who_beat_everybody_gets_a_bound_and_no_number():
    field = HumanField.of(np.linspace(1000, 2000, 50))
    won = likelihood_rating([Placing(field=field, beaten=50)] * 2)
    lost = likelihood_rating([Placing(field=field, beaten=0)] * 2)
    assert won.value is None and lost.value is None
    assert won.bound is not None and won.low < won.bound < won.high == math.inf
    assert lost.bound is not None and lost.low == -math.inf < lost.bound < lost.high
    # at the bound all of it has a chance of exp(-1.92)
    chance = float(np.prod(win_chance(won.bound, field.ratings) ** 2))
    assert chance == pytest.approx(math.exp(-1.92), rel=0.15)
    assert codeelo_rating([Placing(field=field, beaten=50)]) == (2100, 1)


def test_more_contests_won_prove_more():
    field = HumanField.of([1500] * 100)
    bounds = [likelihood_rating([Placing(field=field, beaten=100)] * k).bound for k in (1, 2, 4)]
    assert bounds == sorted(bounds) and len(set(bounds)) == 3


def test_few_contests_have_the_assumed_interval_and_more_their_own_spread():
    rng = np.random.default_rng(5)
    placings = placings_of(rng, 1600, normal_field(rng), FEWEST)
    few, more = likelihood_rating(placings[:-1]), likelihood_rating(placings)
    assert few.high - few.low == pytest.approx(2 * 1.96 * CONTEST_SD / math.sqrt(FEWEST - 1), rel=1e-3)
    assert "270" in few.interval and "k = 5" in few.interval
    assert more.interval == "jackknife over 6 contests"


def test_equal_contests_have_no_spread_and_contests_without_a_finite_rest_have_the_assumed_one():
    field = HumanField.of([1500] * 100)
    same = likelihood_rating([Placing(field=field, beaten=60)] * 8)
    assert same.low == pytest.approx(same.high, abs=0.01)
    lucky = likelihood_rating([Placing(field=field, beaten=99)] + [Placing(field=field, beaten=100)] * 7)
    assert lucky.value is not None and "270" in lucky.interval


def test_a_known_rating_comes_back():
    rng = np.random.default_rng(6)
    for rating in (900, 1500, 2300):
        found = likelihood_rating(placings_of(rng, rating, normal_field(rng), 60))
        assert found.value == pytest.approx(rating, abs=100)


def test_intervals_cover_in_a_made_up_population():
    rng = np.random.default_rng(7)
    field = normal_field(rng, 200)
    covered = 0
    people = 300
    for rating in rng.normal(1500, 350, people):
        found = likelihood_rating(placings_of(rng, rating, field, 8))
        covered += found.low <= rating <= found.high
    assert 0.91 <= covered / people <= 0.985  # 95 % and the noise of 300 people; bench/contest.py has thousands


@pytest.mark.parametrize("rating", [math.inf, -math.inf, 1e9, -3000])
def test_impossible_ratings_are_refused(rating):
    with pytest.raises(ValueError, match="ratings must be"):
        HumanField.of([1500, rating])
    with pytest.raises(ValueError, match="ratings must be"):
        rating_changes([1500, rating], [1, 2])


def test_nonsense_is_refused_with_the_reason():
    field = HumanField.of([1500])
    for call, words in [
        (lambda: HumanField.of([]), "without humans"),
        (lambda: Placing(field=field, beaten=2), "impossible"),
        (lambda: Placing(field=field, beaten=math.nan), "impossible"),
        (lambda: likelihood_rating([]), "at least one contest"),
        (lambda: codeelo_rating([]), "at least one contest"),
        (lambda: rating_changes([1500, 1600], [1]), "one for each rating"),
        (lambda: rating_changes([1500], [0]), "from 1"),
        (lambda: ranks([1, math.nan]), "numbers"),
        (lambda: ranks([1, 2], [1]), "one of each"),
        (lambda: HumanField.of([[1500.0, 1600.0]]), "a list of numbers"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_ratings_need_nothing_but_numpy():
    code = (
        "import sys, ponder.ratings; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'rich', 'typer')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_recorded_changes_of_real_rounds_are_reproduced():
    path = Path(os.environ.get("PONDER_DATA", "")) / "codeforces" / "rounds.jsonl"
    if not os.environ.get("PONDER_DATA") or not path.exists():
        pytest.skip("no recorded Codeforces rounds under PONDER_DATA")
    rows = right = 0
    for line in path.open():
        points, penalty, before, change = np.array(json.loads(line)["rows"], float).T
        found = rating_changes(before, ranks(points, penalty))
        rows, right = rows + len(found), right + int((found == change).sum())
    assert right >= rows - 3
