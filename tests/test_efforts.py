"""Effort levels: points of a measured curve, written by one room and read by another."""

from __future__ import annotations

import pytest

from ponder.config import ConfigError
from ponder.efforts import LEVELS, Efforts, Point, find, frontier


def point(tokens, accuracy, cap=64, n=1):
    return Point(max_reasoning_tokens=cap, n=n, tokens=tokens, accuracy=accuracy, low=accuracy / 2, high=1.0)


def chosen(*points, policy="abc"):
    return Efforts.choose(points, task="t", num_problems=9, policy=policy)


def test_a_level_costs_more_than_the_one_before_it_and_is_more_often_right():
    points = [point(cost, 1 - 1 / cost, cap=cost) for cost in range(2, 30)] + [point(10, 0.1), point(50, 0.2)]
    levels = [chosen(*points).levels[name] for name in LEVELS]
    assert [level.tokens for level in levels] == sorted({level.tokens for level in levels})
    assert [level.accuracy for level in levels] == sorted(level.accuracy for level in levels)
    assert levels[0].tokens == 2 and levels[-1].tokens == 29


def test_what_costs_more_and_gives_no_more_is_no_level():
    assert [p.tokens for p in frontier([point(5, 0.5), point(6, 0.5), point(7, 0.4), point(9, 0.6)])] == [5, 9]
    assert set(chosen(point(5, 0.5), point(6, 0.4)).levels.values()) == {point(5, 0.5)}


def test_levels_are_read_as_they_were_written_and_only_for_their_weights(tmp_path):
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step_00010"
    checkpoint.mkdir(parents=True)
    assert find(checkpoint, policy=lambda: "abc") is None
    efforts = chosen(point(5, 0.5), point(9, 0.6, n=4))
    efforts.write(run / "scale" / "efforts.json")
    assert find(checkpoint, policy=lambda: "abc") == efforts
    assert find(checkpoint, policy=lambda: "other") is None
    chosen(point(1, 0.1)).write(checkpoint / "efforts.json")
    assert find(checkpoint, policy=lambda: "abc") == chosen(point(1, 0.1))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "levels": 3}', '{"format": 2}', "\x00"])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "efforts.json").write_text(text)
    with pytest.raises(ConfigError, match=r"efforts\.json"):
        find(tmp_path, policy=lambda: "abc")


def test_a_measurement_is_one():
    for bad in ({"n": 0}, {"accuracy": 2.0}, {"low": 0.9}, {"max_reasoning_tokens": -1}):
        with pytest.raises(ValueError, match="no measurement"):
            Point(**{"max_reasoning_tokens": 1, "tokens": 1, "accuracy": 0.5, "low": 0.1, "high": 1.0} | bad)
