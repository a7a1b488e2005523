"""Selection agrees with counting by hand, survives any score, and the adaptive vote keeps its guarantee."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.strategies.select import (
    best_of,
    classes_of,
    confidence,
    leader_is_safe,
    mean_logprob,
    overturn_probability,
    ranking,
    rerank_vote,
    stops_at,
    vote,
    weighted_vote,
    worst_window,
)

KEYS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12)
SCORES = st.floats(0, 1) | st.just(float("nan"))


def test_classes_are_numbered_by_first_appearance() -> None:
    assert classes_of(["7", "4", None, "4"]).tolist() == [0, 1, -1, 1]
    assert classes_of([]).tolist() == []


@given(st.data(), KEYS)
def test_the_weighted_vote_is_the_class_with_most_weight(data: st.DataObject, keys: list[str | None]) -> None:
    weights = data.draw(st.lists(SCORES, min_size=len(keys), max_size=len(keys)))
    chosen = weighted_vote(classes_of(keys), weights)
    totals: dict[str, float] = defaultdict(float)
    for key, weight in zip(keys, weights, strict=True):
        if key is not None:
            totals[key] += 0 if weight != weight else weight
    if not totals:
        assert chosen == 0
    elif max(totals.values()) > 0:
        assert totals[keys[chosen]] >= max(totals.values()) * (1 - 1e-9)  # type: ignore[index]
        same = [weight for key, weight in zip(keys, weights, strict=True) if key == keys[chosen] and weight == weight]
        assert weights[chosen] == max(same)
    else:
        assert chosen == vote(classes_of(keys))


def test_equal_weights_are_the_plain_vote_and_a_tie_goes_to_the_class_seen_first() -> None:
    assert vote(classes_of(["7", "4", None, "4", "7"])) == 0
    assert vote(classes_of([None, "4", "7", "7", "4"])) == 1
    assert vote([3, 1, 1, 3]) == 0  # numbers of a shuffled bank are in no order
    assert vote([-1, -1]) == 0


def test_the_order_of_summing_does_not_break_a_tie() -> None:
    weights = [0.1, 0.2, 0.3]
    assert weighted_vote([0, 0, 0, 1, 1, 1], weights + weights[::-1]) == 2


def test_best_of_prefers_an_answer_and_survives_nan() -> None:
    nan = float("nan")
    assert best_of([0.9, 0.3, 0.95, 0.4], [0, 1, -1, 1]) == 0
    assert best_of([nan, 0.1, nan]) == 1
    assert best_of([nan, nan], [-1, 0]) == 1
    assert best_of([0.1, 0.2], [-1, -1]) == 1
    assert best_of([float("-inf"), nan]) == 0
    assert ranking([1, 2, nan, 2], [0, 0, 0, -1]).tolist() == [1, 0, 2, 3]


@given(st.data(), KEYS)
def test_a_vote_of_the_top_one_is_best_of_and_of_all_is_the_vote(data: st.DataObject, keys: list[str | None]) -> None:
    scores = data.draw(st.lists(SCORES, min_size=len(keys), max_size=len(keys)))
    classes = classes_of(keys)
    assert rerank_vote(classes, scores, 1) == best_of(scores, classes)
    everyone = rerank_vote(classes, scores, len(keys))
    votes = np.bincount(classes[classes >= 0], minlength=1)
    if (classes >= 0).any():
        assert votes[classes[everyone]] == votes.max()


def test_a_top_vote_limits_the_harm_of_a_deceived_scorer() -> None:
    assert rerank_vote([0, 1, 1, 2, 2, 2], [0.99, 0.9, 0.8, 0.1, 0.1, 0.1], 3) == 1


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, float("inf")], [1.0]])
def test_weights_that_cannot_vote_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights|samples"):
        weighted_vote([0, 1], weights)


def test_confidence_falls_with_logprob_and_keeps_the_most_confident() -> None:
    weights = confidence([-0.1, -0.2, float("nan"), -0.3], temperature=0.1)
    assert weights.tolist() == pytest.approx([1, np.exp(-1), 0, np.exp(-2)])
    assert confidence([-0.1, -0.2, -0.3, -0.4], keep=0.5).astype(bool).tolist() == [True, True, False, False]
    assert confidence([-5.0, -1.0], keep=0.01).astype(bool).tolist() == [False, True]
    assert confidence([float("nan")]).tolist() == [0]


def test_mean_logprob_is_over_the_tokens_that_were_sampled() -> None:
    assert mean_logprob([-1, -9, -3], [True, False, True]) == -2
    assert np.isnan(mean_logprob([])) and np.isnan(mean_logprob([-1], [False]))
    assert worst_window([-1, -1, -5, -5, -1], size=2) == -5
    assert worst_window([-1, -2], size=8) == -1.5 and np.isnan(worst_window([]))


def test_the_probability_of_being_overtaken_is_that_of_drawing_it() -> None:
    rng = np.random.default_rng(0)
    leader, rival, left = 5, 2, 9
    share = rng.beta(1 + rival, 1 + leader, size=200_000)
    gained = rng.binomial(left, share)
    simulated = (rival + gained >= leader + left - gained).mean()
    unseen = overturn_probability([leader], left)
    assert overturn_probability([leader, rival], left) - unseen == pytest.approx(simulated, abs=0.003)


def test_a_lead_that_cannot_be_caught_up_is_safe_without_any_risk() -> None:
    assert leader_is_safe([5, 1], left=3, risk=0)
    assert not leader_is_safe([5, 1], left=4, risk=0)  # it could draw level
    assert leader_is_safe([3, 3], left=0, risk=0)  # nothing is left to draw
    assert not leader_is_safe([], left=4, risk=0.99)  # nobody has voted
    with pytest.raises(ValueError, match="risk"):
        leader_is_safe([1], left=1, risk=1)


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 40))
def test_the_order_of_the_classes_does_not_matter_and_a_probability_comes(counts: list[int], left: int) -> None:
    chance = overturn_probability(counts, left)
    assert 0 <= chance <= 1
    assert chance == overturn_probability(counts[::-1], left)


def shares(rng: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """(size, 6) answer shares of made-up problems."""
    if kind == "uniform":
        return rng.dirichlet(np.ones(6), size)
    if kind == "peaked":
        return rng.dirichlet(np.full(6, 0.3), size)
    flat = np.full((size, 6), 0.05)  # "torn": two answers share nearly all
    flat[:, :2] = 0.4
    return flat


@pytest.mark.parametrize("risk", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("kind", ["uniform", "peaked"])
def test_the_adaptive_vote_differs_from_the_full_one_no_more_often_than_promised(kind: str, risk: float) -> None:
    rng = np.random.default_rng(1)
    problems, n = 1500, 64
    drawn = np.array([rng.choice(6, n, p=p) for p in shares(rng, problems, kind)])
    stops = stops_at(drawn, risk=risk)
    assert isinstance(stops, np.ndarray)
    early = np.array([row[vote(row[:stop])] for row, stop in zip(drawn, stops, strict=True)])
    full = np.array([row[vote(row)] for row in drawn])
    assert (early != full).mean() <= risk + 2 * np.sqrt(risk / problems)
    assert stops.mean() < 0.8 * n


def test_where_two_answers_are_equally_likely_stopping_loses_no_accuracy() -> None:
    rng = np.random.default_rng(2)
    drawn = np.array([rng.choice(6, 64, p=p) for p in shares(rng, 1500, "torn")])
    stops = stops_at(drawn)
    assert isinstance(stops, np.ndarray)
    early = np.array([row[vote(row[:stop])] for row, stop in zip(drawn, stops, strict=True)])
    full = np.array([row[vote(row)] for row in drawn])
    assert abs((early == 0).mean() - (full == 0).mean()) < 0.05


@settings(max_examples=30)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(1, 8), st.floats(0, 0.5))
def test_the_vectorised_rule_is_the_plain_one(classes: list[int], wave: int, risk: float) -> None:
    expected = len(classes)
    for drawn in range(wave, len(classes), wave):
        votes = [classes[:drawn].count(name) for name in range(4)]
        if leader_is_safe(votes, left=len(classes) - drawn, risk=risk):
            expected = drawn
            break
    assert stops_at(classes, wave=wave, risk=risk) == expected
    rows = np.array([classes, classes[::-1]])
    assert np.asarray(stops_at(rows, wave=wave, risk=risk))[0] == expected
