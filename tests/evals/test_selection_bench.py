"""The bench that asks how many rollout tokens a run needed to reach an accuracy."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import selection


def test_what_a_run_could_do_at_first_cost_it_no_tokens():
    fell_and_rose = [(0.0, 0.5), (10.0, 0.4), (20.0, 0.6)]
    assert selection.tokens_to_reach(fell_and_rose, 0.45) == 0.0
    assert selection.tokens_to_reach(fell_and_rose, 0.55) == pytest.approx(17.5)
    assert math.isnan(selection.tokens_to_reach(fell_and_rose, 0.7))
