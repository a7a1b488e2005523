"""Wilson's interval is what its definition says: the shares from which the seen one is less than t errors away."""

from __future__ import annotations

import math

import pytest

from ponder.intervals import Z, student, wilson


@pytest.mark.parametrize("size", [1, 3.5, 10, 1000])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.98])
@pytest.mark.parametrize("t", [Z, student(4)])
def test_the_seen_share_is_t_errors_away_from_both_ends(share, size, t):
    for end in wilson(share, size, t=t):
        assert abs(share - end) == pytest.approx(t * math.sqrt(end * (1 - end) / size))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_values_that_are_all_the_same_still_leave_a_width(share):
    low, high = wilson(share, 10)
    assert low <= share <= high and high - low == pytest.approx(Z * Z / (10 + Z * Z))
