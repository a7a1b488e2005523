"""Outputs against answers, and points by subtasks."""

import json
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.grading.judging import checker, read_checker_output
from ponder.grading.points import Subtask, best_of, judge_subtasks
from tests.helpers import takes_at_most

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_checkers.jsonl").read_text().splitlines()]
NAMES = ("tokens", "lines", "floats:1e-6", "cases", "cases:floats:1e-6")
SMALL = Subtask(name="small", points=10, tests=("1", "2"))
FULL = Subtask(name="full", points=90, tests=("1", "2", "3", "4"))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['checker']}: {row['why']}")
def test_checkers_say_what_the_golden_file_says(row):
    found = checker(row["checker"])(row["output"].encode(), row["answer"].encode())
    assert found.score == row["score"], found.note
    assert found.score == 1 or found.note  # what is not right says why


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_right_against_itself_and_no_prefix_of_its_words_is(name):
    answer = b"Case #1: 12 7.5\nCase #2: abc\nCase #3: -3\n"
    assert checker(name)(answer, answer).score == 1
    words = answer.split(b" ")
    for count in range(len(words)):
        assert checker(name)(b" ".join(words[:count]), answer).score == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "output",
    [
        b"9" * 60_000,
        b"-" * 60_000,
        b"1e" + b"9" * 60_000,
        b" " * 60_000,
        b"\n" * 60_000,
        b"Case #1: 1\n" * 5_000,
        b"Case #" * 10_000,
        bytes(range(256)) * 200,
        b"\xff\xfe\x00",
        b"\x1b[2J",
    ],
    ids=["digits", "signs", "exponent", "blanks", "ends", "cases", "marks", "bytes", "no-text", "escapes"],
)
def test_hostile_outputs_are_wrong_and_quickly_so(name, output):
    with takes_at_most(1):
        found = checker(name)(output, b"Case #1: 0.5\n")
        assert found.score == 0
        assert len(found.note) < 300
        assert found.note.isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_too_much_output_is_wrong_and_not_cut_to_the_answer(name):
    answer = b"Case #1: 0.5\n"
    found = checker(name)(answer + b" " * 100_000, answer)
    assert found.score == 0
    assert "too much output" in found.note


@pytest.mark.parametrize(
    "name", ["", "token", "floats", "floats:", "floats:nan", "floats:2", "floats:0", "cases:lines"]
)
def test_an_unknown_checker_is_an_error_that_names_those_there_are(name):
    with pytest.raises(ConfigError, match=r"1e-6"):
        checker(name)


@pytest.mark.parametrize(
    ("stdout", "score"),
    [
        (b"1.0\n", 1.0),
        (b"0\n", 0.0),
        (b" 0.5 and more", 0.5),
        (b"", None),
        (b"ok", None),
        (b"nan", None),
        (b"inf", None),
        (b"2", None),
        (b"-0.1", None),
        (b"1e99999", None),
        (b"1" * 1_000_000, None),
        (b"\xff", None),
    ],
)
def test_a_checking_program_says_a_score_from_0_to_1_or_nothing_is_known(stdout, score):
    found = read_checker_output(stdout, b"because\xff\x1b of this\n")
    assert found.score == score
    assert found.note.isprintable()
    assert "because" in found.note


# ---- points --------------------------------------------------------------------------------------------------------


def runner(scores):
    """A `run` that remembers what it was asked."""
    asked = []

    def run(test):
        asked.append(test)
        return scores[test]

    return run, asked


def test_a_subtask_is_worth_its_points_times_its_least_score():
    run, _ = runner({"1": 1.0, "2": 0.5, "3": 1.0, "4": 0.25})
    judged = judge_subtasks([SMALL, FULL], run)
    assert judged.points == (5.0, 22.5)
    assert judged.total == 27.5
    assert judged.share == 0.275


def test_full_points_are_a_share_of_exactly_1():
    thirds = [Subtask(name=str(i), points=100 / 3, tests=(str(i),)) for i in range(3)]
    assert judge_subtasks(thirds, lambda test: 1.0).share == 1.0
    assert judge_subtasks(thirds, lambda test: 1 - 1e-12).share < 1.0


def test_a_shared_test_runs_once():
    run, asked = runner(dict.fromkeys("1234", 1.0))
    assert judge_subtasks([SMALL, FULL], run).points == (10, 90)
    assert asked == ["1", "2", "3", "4"]


def test_after_a_zero_the_rest_of_the_subtask_is_not_run():
    run, asked = runner({"1": 0.0, "2": 1.0, "3": 1.0, "4": 1.0})
    assert judge_subtasks([SMALL, FULL], run).points == (0, 0)
    assert asked == ["1"]


def test_stopping_early_changes_no_points():
    for pattern in range(3**4):
        scores = {str(i + 1): (0.0, 0.5, 1.0)[pattern // 3**i % 3] for i in range(4)}
        early = judge_subtasks([SMALL, FULL], scores.__getitem__)
        late = judge_subtasks([SMALL, FULL], scores.__getitem__, stop_early=False)
        assert early.points == late.points
        assert set(late.tests) == set("1234")


def test_an_undecided_test_leaves_its_subtasks_undecided_unless_another_is_zero():
    judged = judge_subtasks([SMALL, FULL], {"1": 1.0, "2": None, "3": 0.0, "4": 1.0}.__getitem__)
    assert judged.points == (None, 0.0)
    assert judged.is_undecided
    assert judged.total == 0


def test_submissions_are_joined_by_the_best_of_each_subtask_never_by_their_sum():
    assert best_of([(5.0, 0.0), (0.0, 90.0), (10.0, 0.0)]) == (10.0, 90.0)
    assert best_of([(None, 3.0), (2.0, None)]) == (2.0, 3.0)
    assert sum(best_of([(5.0, 5.0), (5.0, 5.0)])) == 10
    assert best_of([]) == ()
