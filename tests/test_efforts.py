"""Effort levels: points of a measured curve, written by one room and read by another."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ponder.config import ConfigError
from ponder.efforts import LEVELS, Efforts, Point, find, frontier


def point(tokens, accuracy, cap=64, n=1, noise=0.001):
    return Point(max_reasoning_tokens=cap, n=n, tokens=tokens, accuracy=accuracy,
                 low=max(0.0, accuracy - noise), high=min(1.0, accuracy + noise))  # fmt: skip


def chosen(*points, policy="abc", **more):
    return Efforts.choose(points, task="t", num_problems=9, policy=policy, **more)


def test_a_level_costs_more_than_the_one_before_it_and_is_more_often_right():
    points = [point(cost, 1 - 1 / cost, cap=cost) for cost in range(2, 12)]
    points += [point(12 * n, 0.91 + n / 1000, cap=11, n=n) for n in (4, 8, 16, 32)]
    points += [point(10, 0.1), point(50, 0.2)]
    levels = [chosen(*points).levels[name] for name in LEVELS]
    assert [level.tokens for level in levels] == sorted({level.tokens for level in levels})
    assert [level.accuracy for level in levels] == sorted(level.accuracy for level in levels)
    assert levels[0].tokens == 2 and levels[-1].n == 32


def test_what_costs_more_and_gives_no_more_is_no_level():
    assert [p.tokens for p in frontier([point(5, 0.5), point(6, 0.5), point(7, 0.4), point(9, 0.6)])] == [5, 9]
    assert set(chosen(point(5, 0.5), point(6, 0.4)).levels.values()) == {point(5, 0.5)}


def test_the_default_is_one_sample_that_pays_and_never_a_vote_of_two():
    # what `ponder scale` measured once: the vote of two cost 1.7 times as much for 0.01 points more
    short, long = point(84, 0.686, cap=128, noise=0.02), point(90, 0.72188, cap=256, noise=0.02)
    two, eight = point(146, 0.72199, cap=256, n=2, noise=0.02), point(600, 0.80, cap=256, n=8, noise=0.02)
    levels = chosen(short, long, two, eight).levels
    assert levels["medium"] == long and levels["minimal"] == short
    assert {level.n for level in levels.values()} == {1, 8} and levels["max"] == eight
    assert all(levels[name].n == 1 for name in ("minimal", "low", "medium"))


def test_a_gain_within_noise_is_no_gain_however_it_is_known():
    cheap, dear = point(10, 0.60, noise=0.08), point(20, 0.64, noise=0.08, n=4)
    assert set(chosen(cheap, dear).levels.values()) == {cheap}  # two intervals are all that is known
    assert dear in chosen(cheap, dear, pays=lambda a, b: True).levels.values()  # paired, it may be sure
    assert set(chosen(cheap, point(20, 0.9, n=4), pays=lambda a, b: False).levels.values()) == {cheap}


def test_noise_is_measured_from_the_last_point_that_was_kept_so_small_gains_add_up():
    points = [point(cost, 0.5 + cost / 1000, cap=cost, noise=0.02) for cost in range(0, 100, 10)]
    kept = frontier(points)
    assert [p.tokens for p in kept] == [0, 30, 60, 90]


def test_levels_are_read_as_they_were_written_and_only_for_their_weights(tmp_path):
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step_00010"
    checkpoint.mkdir(parents=True)
    assert find(checkpoint, policy=lambda: "abc") is None
    efforts = chosen(point(5, 0.5), point(9, 0.6, n=4), verifier="choice")
    efforts.write(run / "scale" / "efforts.json")
    assert find(checkpoint, policy=lambda: "abc") == efforts and efforts.verifier == "choice"
    assert find(checkpoint, policy=lambda: "other") is None
    chosen(point(1, 0.1)).write(checkpoint / "efforts.json")
    assert find(checkpoint, policy=lambda: "abc") == chosen(point(1, 0.1))


def test_levels_of_an_older_file_are_chosen_again_from_its_points(tmp_path):
    points = [point(84, 0.68, cap=128), point(146, 0.72, cap=256, n=2), point(600, 0.8, cap=256, n=8)]
    levels = {name: asdict(points[place // 2]) for place, name in enumerate(LEVELS)}
    for level in levels.values():
        del level["answer_tokens"]
    old = {"format": 1, "task": "t", "num_problems": 9, "policy": "abc", "levels": levels}
    (tmp_path / "efforts.json").write_text(json.dumps(old))
    read = find(tmp_path, policy=lambda: "abc")
    assert read is not None and read.verifier == "" and read.num_problems == 9
    assert read.levels["medium"].n == 1 and read.levels["max"].n == 8
    assert 2 not in {level.n for level in read.levels.values()}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1, "levels": 3}', '{"format": 2}', '{"format": 3}', "\x00"]
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "efforts.json").write_text(text)
    with pytest.raises(ConfigError, match=r"efforts\.json"):
        find(tmp_path, policy=lambda: "abc")


def test_a_measurement_is_one():
    for bad in ({"n": 0}, {"accuracy": 2.0}, {"low": 0.9}, {"max_reasoning_tokens": -1}):
        with pytest.raises(ValueError, match="no measurement"):
            Point(**{"max_reasoning_tokens": 1, "tokens": 1, "accuracy": 0.5, "low": 0.1, "high": 1.0} | bad)
