"""Problems from files: every mistake is one error with its line and the fix."""

from __future__ import annotations

import gzip
import json

import pytest

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks import load_task

GOOD = {"id": "1", "problem": "1+1?", "answer": "2"}


def write(tmp_path, *rows, name="problems.jsonl"):
    path = tmp_path / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return f"file:{path}"


@pytest.mark.parametrize("name", ["problems.jsonl", "problems.jsonl.gz", "a+b, c=d.jsonl"])
def test_a_file_becomes_a_task(tmp_path, name):
    full = GOOD | {"id": "2", "level": "Level 3", "subject": 7, "solution": "easy", "source": "me", "extra": [1]}
    task = load_task(write(tmp_path, GOOD, "", full, GOOD | {"id": 3, "answer": 5, "level": 2}, name=name))
    assert len(task) == 3 and [task[i].id for i in range(3)] == ["1", "2", "3"]
    assert task[1].level == 3 and task[1].subject == "7" and task[1].meta["extra"] == [1] and task[2].level == 2
    assert task[0].text == "1+1?" and task[0].task == task.name
    assert all(task.verify(task[i], task[i].target).is_correct for i in range(3))
    with pytest.raises(IndexError):
        task[3]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([GOOD], "integer"), ([GOOD, GOOD | {"id": "2", "answer": "1/2"}], "math"),
     ([GOOD | {"choices": ["1", "2"], "answer": "B"}], "choice")],
)  # fmt: skip
def test_the_verifier_follows_from_the_answers_and_can_be_chosen(tmp_path, rows, expected):
    spec = write(tmp_path, *rows)
    assert load_task(spec)._verifier is VERIFIERS[expected]
    assert load_task(spec, verifier="exact")._verifier is VERIFIERS["exact"]
    assert load_task(spec + ",verifier=exact,size=1")._verifier is VERIFIERS["exact"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "line 2: not JSON"),
        ("[1]", "line 2: not an object"),
        ({"id": "2", "problem": "?"}, "line 2: the field 'answer' is missing"),
        ({"id": "2", "problem": "?", "anwser": "3"}, "did you mean 'answer'"),
        (GOOD | {"id": "2", "choises": ["a"]}, "did you mean 'choices'"),
        (GOOD, "line 2: the id '1' is that of line 1"),
        (GOOD | {"id": "2", "problem": " "}, "'problem' is empty"),
        (GOOD | {"id": "2", "answer": True}, "must be a text"),
        (GOOD | {"id": "2", "problem": ["a"]}, "must be a text"),
        (GOOD | {"id": "2", "choices": "ab"}, "choices must be a list"),
        (GOOD | {"id": "2", "choices": ["a", "b"], "answer": "C"}, "must be one of AB"),
        ("[" * 50_000, "line 2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_one_error_with_its_number(tmp_path, row, message):
    with pytest.raises(ConfigError) as caught:
        load_task(write(tmp_path, GOOD, row))
    assert message in str(caught.value) and len(str(caught.value)) < 1_000


def test_problems_without_an_answer_are_left_out_and_counted(tmp_path):
    unanswered = GOOD | {"id": "2", "answer": ""}
    with pytest.warns(UserWarning, match=r"1 problems without an answer left out \(lines 2\)"):
        assert len(load_task(write(tmp_path, GOOD, unanswered))) == 1
    with pytest.raises(ConfigError, match="every answer is empty"):
        load_task(write(tmp_path, unanswered))


def test_files_that_hold_nothing_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="holds no problems"):
        load_task(write(tmp_path))
    with pytest.raises(ConfigError, match="no file at"):
        load_task("file:none.jsonl")
    with pytest.raises(ConfigError, match="is a folder"):
        load_task("file:")
    (tmp_path / "x.gz").write_bytes(b"not gzip")
    with pytest.raises(ConfigError, match="gzip"):
        load_task(f"file:{tmp_path / 'x.gz'}")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 1_000)[:-20])
    with pytest.raises(ConfigError, match=r"gzip|JSON"):
        load_task(f"file:{tmp_path / 'cut.gz'}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_task(f"file:{tmp_path / 'latin.jsonl'}")


def test_dials_and_verifiers_are_checked(tmp_path):
    spec = write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match="did you mean 'integer'"):
        load_task(spec, verifier="intger")
    with pytest.raises(ConfigError, match="no dial 'level'"):
        load_task(spec, level=3)
    with pytest.raises(ConfigError, match="size=0"):
        load_task(spec, size=0)


def test_without_a_level_the_calculator_marks_of_the_solution_are_counted(tmp_path):
    marked = GOOD | {"id": "2", "solution": "1+1 = <<1+1=2>>2, and 2*1 = <<2*1=2>>2"}
    told, other = marked | {"id": "3", "level": 5}, GOOD | {"id": "4", "solution": "2"}
    task = load_task(write(tmp_path, GOOD, marked, told, other))
    assert [task[i].level for i in range(4)] == [None, 2, 5, None]
