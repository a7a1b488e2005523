"""Verifiers: undecided is an outcome of its own, and a file of pairs is graded to its end."""

from __future__ import annotations

import gzip
import json
import threading

import pytest

from ponder.config import ConfigError
from ponder.grading import killable
from ponder.grading.handed_in import keyed
from ponder.grading.verifiers import VERIFIERS, _opinion, grade, grade_file, grade_row
from ponder.types import Problem
from tests.helpers import takes_at_most


def problem(target: str, *choices: str) -> Problem:
    return Problem(id="0", prompt=(), target=target, task="test", choices=choices)


@pytest.mark.parametrize("status", ["timeout", "crashed", "memory"])
def test_a_child_that_fails_makes_the_answer_undecided_and_not_wrong(status, monkeypatch):
    class Broken:
        def run(self, *arguments, **options):
            return killable.CallOutcome(status=status, note="test")

    monkeypatch.setattr(killable, "shared", Broken)
    _opinion.cache_clear()
    for target, answer in ((r"\sum_{k=1}^9 k", "44"), ("44", r"\sum_{k=1}^9 k")):
        found = grade(target, answer)
        assert found.outcome == "undecided" and found.reward == 0.0 and status in found.note
    _opinion.cache_clear()


def test_a_child_that_did_not_start_is_asked_again_the_next_time(monkeypatch):
    class Slow:
        starts = iter([False, True])

        def run(self, *arguments, **options):
            if next(self.starts):
                return killable.CallOutcome(status="ok", value="n:45")
            return killable.CallOutcome(status="timeout", note="it did not start", has_started=False)

    monkeypatch.setattr(killable, "shared", Slow)
    _opinion.cache_clear()
    found = grade("45", r"\sum_{k=1}^9 k")
    assert found.outcome == "undecided" and "did not start" in found.note
    assert grade("45", r"\sum_{k=1}^9 k").outcome == "correct"
    _opinion.cache_clear()


def test_integer_is_fast_and_never_starts_a_child(monkeypatch):
    monkeypatch.setattr(killable, "shared", lambda: pytest.fail("a child was asked for"))
    verifier, item = VERIFIERS["integer"], problem("42")
    with takes_at_most(1.0):
        for n in range(2_000):
            assert verifier(item, str(n)).is_correct == (n == 42)
    for text in (r"\int_0^1 x dx", r"\boxed{9^{9^{9^{9}}}}", "x" * 1_000):
        assert not verifier(item, text).is_correct


def test_a_verifier_works_off_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(grade("1/2", "0.5").outcome))
    thread.start()
    thread.join()
    assert found == ["correct"]


@pytest.mark.parametrize("verifier", sorted(VERIFIERS))
def test_correct_means_the_same_key_as_the_target(verifier):
    check = VERIFIERS[verifier]
    item = problem("B", *"ABC") if verifier == "choice" else problem("7")
    for answer in ("7", " 7", "8", "B", "(B)", "C", "", "It is 7.", r"\boxed{7}", r"\boxed{B}"):
        key = check.key(item, answer)
        assert check(item, answer).is_correct == (key is not None and key == check.key(item, item.target)), answer
        assert (check(item, answer).extracted is None) == (key is None), answer


@pytest.mark.parametrize(
    "target", ["Answer: a", "The answer is 5", r"\boxed{3}", "#### 5", "<answer>a</answer>", "**b**"]
)
def test_exact_accepts_a_target_that_is_repeated_with_its_own_marker(target):
    check = VERIFIERS["exact"]
    assert check(problem(target), target).is_correct
    assert check(problem(target), check.key(problem(target), target)).is_correct
    assert not check(problem(target), "c").is_correct


def test_a_choice_may_be_named_by_its_text_but_not_by_a_letter_beyond_the_choices():
    item = problem("B", "red", "green", "blue")
    assert VERIFIERS["choice"](item, "green").is_correct
    assert VERIFIERS["choice"](item, "The answer is Green.").is_correct
    assert VERIFIERS["choice"].key(item, "D") is None
    assert VERIFIERS["choice"].key(problem("B", "same", "same"), "same") is None


def test_a_choice_may_be_named_by_a_sentence_or_by_what_it_is_worth():
    planets = problem("D", "mercury", "venus", "earth", "mars")
    for answer in ("The red planet is Mars.", r"\boxed{\text{Mars}}", "D) Mars", "mars!"):
        assert VERIFIERS["choice"](planets, answer).is_correct, answer
    for answer in ("The red planet is not Mars", "B) Venus", "Mars or Venus", "not Mars", "Jupiter"):
        assert not VERIFIERS["choice"](planets, answer).is_correct, answer
    numbers = problem("B", "2/3", "3/4", "5/6", "1")
    for answer in ("0.75", r"\boxed{\frac34}", "75%", "x = 3/4", "B) 3/4"):
        assert VERIFIERS["choice"](numbers, answer).is_correct, answer
    for answer in ("4/3", "0.7", "2/3", "3/4 or 5/6", "not 3/4"):
        assert not VERIFIERS["choice"](numbers, answer).is_correct, answer
    truths = problem("B", "True", "False")
    assert VERIFIERS["choice"](truths, "B) False").is_correct and VERIFIERS["choice"](truths, "It is false.").is_correct
    assert VERIFIERS["choice"].key(problem("A", "5 m", "5 cm"), "5") is None  # it may be either
    assert VERIFIERS["choice"].key(problem("A", "1/2", "50%"), "0.5") is None


@pytest.mark.parametrize(
    ("verifier", "target"),
    [("math", ""), ("exact", " "), ("integer", "1/2"), ("integer", ""), ("choice", "42"), ("choice", "A or B")],
)
def test_a_target_that_the_verifier_cannot_read_is_undecided_and_not_wrong(verifier, target):
    for answer in (target, "5", "A", ""):
        found = grade(target, answer, verifier)
        assert (found.outcome, found.reward) == ("undecided", 0.0) and "target" in found.note


@pytest.mark.parametrize("zipped", [False, True])
def test_a_broken_line_is_one_error_row_and_the_rest_is_graded(tmp_path, zipped):
    lines = [
        b'{"target": "1/2", "answer": "0.5", "id": "a"}', b"{broken", b'{"target": "5"}', b'["a list"]', b"",
        b"\xff\xfe", b'{"target": 5, "answer": 6}', b'{"target": "B", "answer": "(B)", "verifier": "choice"}',
        b'{"target": "B", "answer": "B", "verifier": "choise"}', b'{"target": "5", "answer": null}', b"[" * 100_000,
        b'{"target": "5", "answer": "\\\\boxed{9^{9^{9^{9}}}}"}', b'{"target": "\\ud800", "answer": "\\ud800"}',
    ]  # fmt: skip
    path = tmp_path / ("pairs.jsonl.gz" if zipped else "pairs.jsonl")
    path.write_bytes((gzip.compress if zipped else bytes)(b"\n".join(lines)))
    rows = list(grade_file(path))
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13]
    outcomes = {row["line"]: "error" if "error" in row else row["verdict"] for row in rows}
    assert outcomes == {
        1: "correct", 2: "error", 3: "error", 4: "error", 6: "error", 7: "wrong", 8: "correct", 9: "error", 10: "error",
        11: "error", 12: "wrong", 13: "correct",
    }  # fmt: skip
    assert rows[0]["id"] == "a" and all(len(row["error"].splitlines()) == 1 for row in rows if "error" in row)
    assert "did you mean 'choice'" in rows[7]["error"]
    json.dumps(rows)


def test_grading_takes_a_verifier_of_ones_own_but_never_one_that_a_line_of_a_file_names(tmp_path):
    async def later(problem, answer):
        return answer == problem.target

    def half(problem, answer):
        return {"7": 1.0, "8": 0.5}[answer]

    assert grade_row("7", "7", keyed(later))["verdict"] == "correct"
    assert (found := grade_row("7", "8", keyed(half)))["verdict"] == "wrong" and found["reward"] == 0.5
    assert (found := grade_row("7", "9", keyed(half)))["verdict"] == "failed" and found["note"] == "KeyError: '9'"
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"target": "7", "answer": "8", "verifier": "os:system"}\n{"target": "7", "answer": "7"}\n')
    first, second = grade_file(path, keyed(half))
    assert "--verifier takes your own" in first["error"] and second["verdict"] == "correct"


def test_a_file_that_is_not_there_or_not_gzip_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="no file at"):
        list(grade_file(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="is a folder"):
        list(grade_file(tmp_path))
    (tmp_path / "no.jsonl.gz").write_text("{}")
    with pytest.raises(ConfigError, match="not a whole gzip file"):
        list(grade_file(tmp_path / "no.jsonl.gz"))
    with pytest.raises(ConfigError, match="did you mean 'math'"):
        list(grade_file(tmp_path, verifier="maths"))
