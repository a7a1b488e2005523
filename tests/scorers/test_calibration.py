"""Calibration, ranking and choice, against definitions spelt out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.scorers.calibration import auc, auc_within, brier, ece, fit_platt, measure, reliability, rerank_at
from ponder.scorers.logistic import fit

pairs = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9])), min_size=1, max_size=7)


@given(pairs, st.data())
def test_rerank_at_is_the_share_of_all_subsets_whose_best_is_right(samples, data):
    k = data.draw(st.integers(1, len(samples)))
    y, s = [float(a) for a, _ in samples], [b for _, b in samples]
    shares = []
    for subset in itertools.combinations(range(len(y)), k):
        top = max(s[i] for i in subset)
        best = [y[i] for i in subset if s[i] == top]
        shares.append(sum(best) / len(best))
    assert rerank_at(y, s, k) == pytest.approx(np.mean(shares))


def test_rerank_at_does_not_overflow_at_a_thousand():
    generator = np.random.default_rng(0)
    y, s = (generator.random(1000) < 0.3).astype(float), generator.random(1000)
    assert rerank_at(y, s, 1) == pytest.approx(y.mean())
    assert rerank_at(y, s, 1000) == y[s.argmax()]
    assert rerank_at(y, np.where(y > 0, 1.0, np.nan), 500) == pytest.approx(1.0)


@given(pairs)
def test_auc_is_the_share_of_pairs_in_the_right_order(samples):
    right, wrong = [b for a, b in samples if a], [b for a, b in samples if not a]
    found = auc([a for a, _ in samples], [b for _, b in samples])
    if not right or not wrong:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.mean([(r > w) + 0.5 * (r == w) for r in right for w in wrong]))


def test_a_score_that_is_not_known_ranks_below_all_others():
    assert auc([1, 0, 1], [0.5, float("nan"), 0.2]) == 1.0 and auc([1, 0], [float("nan"), -3.0]) == 0.0
    assert auc([1, 0], [float("nan"), float("nan")]) == 0.5


def test_auc_within_leaves_out_problems_of_one_kind():
    assert auc_within([[1, 0], [1, 1], [0, 0]], [[0.9, 0.1], [0.1, 0.2], [0.9, 0.8]]) == (1.0, 1)
    value, count = auc_within([[1, 1]], [[0.1, 0.2]])
    assert math.isnan(value)
    assert count == 0


def test_brier_and_ece_of_the_worked_examples():
    assert brier([1, 0], [0.9, 0.2]) == pytest.approx(0.025)
    assert ece([1, 0], [0.9, 0.2]) == pytest.approx(0.15)
    assert ece([1, 0, 1, 0], [0.5] * 4) == 0.0
    assert [row["count"] for row in reliability([1, 0], [0.0, 1.0])] == [1, 1]


def test_platt_gives_back_the_truth_of_distorted_logits():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=20_000) * 2
    y = generator.random(20_000) < 1 / (1 + np.exp(-logits))
    scale, shift = fit_platt([y], [3 * logits + 1])
    assert scale == pytest.approx(1 / 3, rel=0.05)
    assert shift == pytest.approx(-1 / 3, abs=0.05)


@pytest.mark.parametrize(("y", "x"), [([1, 1], [0.0, 1.0]), ([0, 0], [0.0, 1.0]), ([0, 1], [2.0, 2.0])])
def test_platt_leaves_alone_what_cannot_be_fitted(y, x):
    assert fit_platt([y], [x]) == (1.0, 0.0)


def test_logistic_regression_survives_separation_and_constant_features():
    x = np.column_stack([np.r_[np.zeros(50), np.ones(50)], np.full(100, 7.0)])
    model = fit(x, x[:, 0], l2=1.0)
    assert np.isfinite(model.weights).all()
    assert model.weights[1] == 0
    assert (model.logits(x) > 0).tolist() == (x[:, 0] > 0).tolist()


def test_a_weight_counts_like_copies():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 2)), generator.random(30) < 0.5
    copies = np.repeat(np.arange(30), 3)
    a, b = fit(x[copies], y[copies].astype(float)), fit(x, y.astype(float), weight_N=np.full(30, 3.0))
    np.testing.assert_allclose(a.logits(x), b.logits(x), atol=1e-6)


def test_measure_includes_problems_where_all_fail():
    result = measure([[0, 0], [0]], [[0.1, 0.2], [0.3]])
    assert result["pass@1"] == 0
    assert result["mixed_problems"] == 0
