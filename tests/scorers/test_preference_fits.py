"""Bradley-Terry fits: the loss as others write it, ties and noise as they should be, the optimum where it is."""

from __future__ import annotations

import numpy as np
import pytest

from ponder.scorers.bradley_terry import fit, pair_losses, smoothed

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 6))
TRUE = np.array([1.0, -0.5, 0.25, 0, 0, 0])
FIRST, SECOND = rng.integers(0, 400, 1500), rng.integers(0, 400, 1500)
SECOND[FIRST == SECOND] = (SECOND[FIRST == SECOND] + 1) % 400
WON = (rng.random(1500) < 1 / (1 + np.exp(-(X @ TRUE)[FIRST] + (X @ TRUE)[SECOND]))).astype(float)


def slope(model, feature):
    return model.weights[feature] / model.scale[feature]


def test_weights_that_made_the_comparisons_are_found():
    model = fit(X, FIRST, SECOND, WON, l2=0.1)
    np.testing.assert_allclose(model.weights / model.scale, TRUE, atol=0.2)
    assert abs(model.rewards(X[np.unique([FIRST, SECOND])]).mean()) < 1e-4


def test_the_gradient_is_zero_at_the_fit_and_swapping_sides_changes_nothing():
    model = fit(X, FIRST, SECOND, WON, l2=10.0, centre=0.02)
    turned = fit(X, SECOND, FIRST, 1 - WON, l2=10.0, centre=0.02)
    np.testing.assert_allclose(model.weights, turned.weights, atol=1e-4)
    z = (X - model.mean) / model.scale

    def loss(w):
        r = z @ w
        return (pair_losses(r[FIRST] - r[SECOND], WON) + 0.02 * (r[FIRST] + r[SECOND]) ** 2).sum() + 5.0 * w @ w

    for i in range(6):
        step = np.eye(6)[i] * 1e-4
        slope_i = (loss(model.weights + step) - loss(model.weights - step)) / 2e-4
        assert abs(slope_i) < 0.05
    assert loss(model.weights) < loss(0.9 * model.weights)


def test_a_tie_is_half_a_win_each_way():
    assert pair_losses(0.7, 0.5) == pytest.approx(0.5 * (pair_losses(0.7, 1) + pair_losses(0.7, 0)))
    with_ties = fit(X, FIRST, SECOND, np.full(1500, 0.5), l2=1.0)
    np.testing.assert_allclose(with_ties.weights, 0, atol=1e-6)


def test_smoothing_keeps_ties_and_bounds_what_a_label_can_ask_for():
    np.testing.assert_allclose(smoothed([1, 0, 0.5], 0.25), [0.75, 0.25, 0.5])
    sure, unsure = fit(X, FIRST, SECOND, WON, l2=1.0), fit(X, FIRST, SECOND, smoothed(WON, 0.25), l2=1.0)
    assert 0 < slope(unsure, 0) < slope(sure, 0)


def test_a_margin_asks_the_preferred_side_for_more_and_never_a_tie():
    assert pair_losses(2.0, 1.0, 0.5) == pytest.approx(np.log1p(np.exp(-1.5)))
    assert pair_losses(-2.0, 0.0, 0.5) == pytest.approx(np.log1p(np.exp(-1.5)))
    assert pair_losses(2.0, 0.5, 0.5) == pytest.approx(pair_losses(2.0, 0.5))
    plain, wide = (fit(X, FIRST, SECOND, WON, l2=1.0, margin=np.full(1500, m)) for m in (0.0, 1.0))
    assert slope(wide, 0) > slope(plain, 0)


def test_no_difference_overflows():
    assert np.isfinite(pair_losses([-1e5, 1e5], [1, 1])).all() and pair_losses(-1e5, 1) == pytest.approx(1e5)


def test_weights_of_zero_leave_pairs_out_and_a_constant_feature_counts_nothing():
    x = np.column_stack([X, np.full(400, 3.0)])
    half = np.arange(1500) < 700
    weighted = fit(x, FIRST, SECOND, WON, l2=1.0, weight=half.astype(float))
    fewer = fit(x, FIRST[half], SECOND[half], WON[half], l2=1.0)
    np.testing.assert_allclose(weighted.weights, fewer.weights, atol=1e-4)
    assert weighted.weights[6] == 0 and np.isfinite(weighted.rewards(x)).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": [2.0]}, r"\[0, 1\]"), ({"weight": [-1.0]}, "0 or more"), ({"first": [0, 1]}, "every pair"),
        ({"target": [], "first": [], "second": []}, "at least one"),
    ],
)  # fmt: skip
def test_pairs_that_say_nothing_are_refused(changes, says):
    given = {"first": [0], "second": [1], "target": [1.0]} | changes
    with pytest.raises(ValueError, match=says):
        fit(X, given.pop("first"), given.pop("second"), given.pop("target"), **given)
    with pytest.raises(ValueError, match="not finite"):
        fit(np.array([[np.nan], [1.0]]), [0], [1], [1.0])
