"""Problems from files: every mistake is one error with its line and the fix."""

from __future__ import annotations

import gzip
import json

import pytest

from ponder.config import ConfigError
from ponder.grading import killable
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks import load_task
from ponder.tasks.specs import with_verifier

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
        (GOOD | {"id": "2\ud800"}, "holds half a character"),
        ('{"id": "2", "problem": "p", "answer": 1e999}', "line 2: the field 'answer' is an infinite number"),
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
    with pytest.raises(ConfigError, match=r"has no dial 'level'; a file takes verifier= and size="):
        load_task(spec + ",level=3")


def test_a_bank_is_called_by_its_verifier_too_and_that_name_loads_the_same_task(tmp_path):
    rows = [GOOD | {"id": str(i)} for i in range(3)]
    spec, other = write(tmp_path, *rows), write(tmp_path, *rows, name="other.jsonl")
    for given, wanted in (
        (spec, f"{spec},verifier=exact"),
        (spec.removeprefix("file:"), f"{spec},verifier=exact"),
        (f"{spec},verifier=math,size=1", f"{spec},size=1,verifier=exact"),
        (f"0.6*{spec}+0.4*{other}", f"0.6*{spec},verifier=exact+0.4*{other},verifier=exact"),
    ):
        assert with_verifier(given, None) == given and (named := with_verifier(given, "exact")) == wanted
        assert load_task(named).verifier == load_task(given, verifier="exact").verifier


def test_a_task_whose_verifier_may_ask_a_child_waits_for_its_start(tmp_path):
    task = load_task(write(tmp_path, GOOD | {"answer": "1/2"}))
    assert task.verifier == "math" and task.patience > killable.START_SECONDS


def test_a_tilde_behind_file_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert len(load_task("file:~/p.jsonl,size=1")) == 1


def test_a_path_in_place_of_a_name_is_said_to_be_no_file_or_of_no_known_kind(tmp_path):
    for spec in ("none.jsonl", str(tmp_path / "none.csv"), "data/none"):
        with pytest.raises(ConfigError, match="no task and no file is called .*none"):
            load_task(spec)
    (tmp_path / "rows.json").write_text(json.dumps(GOOD) + "\n")
    with pytest.raises(ConfigError, match=r"ends in neither .jsonl, .csv nor .tsv; .* write file:"):
        load_task(str(tmp_path / "rows.json"))
    assert len(load_task(f"file:{tmp_path / 'rows.json'}")) == 1
    with pytest.raises(ConfigError, match="unknown task"):
        load_task("arithmetik:level=1")


def test_without_a_level_the_calculator_marks_of_the_solution_are_counted(tmp_path):
    marked = GOOD | {"id": "2", "solution": "1+1 = <<1+1=2>>2, and 2*1 = <<2*1=2>>2"}
    told, other = marked | {"id": "3", "level": 5}, GOOD | {"id": "4", "solution": "2"}
    task = load_task(write(tmp_path, GOOD, marked, told, other))
    assert [task[i].level for i in range(4)] == [None, 2, 5, None]


def test_a_verifier_by_its_place_may_return_a_bool_or_a_number(tmp_path, monkeypatch):
    (tmp_path / "my_checks.py").write_text(
        "from ponder.types import Problem\n"
        "def strict(problem, answer): return answer == problem.target\n"
        "def partial(problem, answer): return 1.0 if answer == problem.target else 0.5\n"
        "def broken(problem, answer): return None\n"
        "def swapped(answer): return True\n"
        "def raising(problem, answer): return answer[99]\n"
        "def ask(i): return Problem(id=str(i), prompt=(), target=str(i), task='mine')\n"
        "def problems(*, split, seed): return [ask(i) for i in range(3)]\n"
        "def numbers(*, split, seed): return [1, 2]\n"
        "def nothing(*, split, seed): return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = write(tmp_path, GOOD)
    task = load_task(spec, verifier="my_checks:strict")
    assert task.verify(task[0], "2").is_correct and task.verify(task[0], "3").outcome == "wrong"
    assert task.key(task[0], "2") == task.key(task[0], "2.0") != task.key(task[0], "3")
    assert load_task(spec + ",verifier=my_checks:partial").verify(task[0], "3").reward == 0.5
    for name, message in (
        ("broken", "my_checks:broken returned None .*it must return a bool"),
        ("swapped", "my_checks:swapped failed on its first call.*TypeError"),
        ("raising", "my_checks:raising failed on its first call.*IndexError"),
        ("ask", "my_checks:ask failed on its first call"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_task(spec, verifier=f"my_checks:{name}")
    wrapped = load_task("my_checks:problems")
    assert len(wrapped) == 3 and wrapped.verify(wrapped[2], "It is 2.").is_correct and wrapped.key(wrapped[0], "0")
    for name, kind in (("numbers", "list"), ("nothing", "NoneType")):
        with pytest.raises(ConfigError, match=f"returned {kind}, .*it must return a Task .*or a list of ponder.types"):
            load_task(f"my_checks:{name}")


@pytest.mark.parametrize("choices", [["A. red", "B. blue"], ["A) red", "B) blue"], ["(A) red", "(B) blue"]])
def test_choices_that_bring_their_letters_are_not_lettered_twice(tmp_path, choices):
    task = load_task(write(tmp_path, {"id": "1", "problem": "Which?", "choices": choices, "answer": "B"}))
    assert task[0].text == "Which?\nA. red\nB. blue" and task[0].choices == ("red", "blue")
    assert task.verify(task[0], "blue").is_correct


def test_choices_that_only_begin_like_letters_stay_whole(tmp_path):
    for choices in (["A. Smith", "C. Jones"], ["B. red", "A. blue"], ["A", "B"], ["A.", "B."]):
        task = load_task(write(tmp_path, {"id": "1", "problem": "Which?", "choices": choices, "answer": "B"}))
        assert task[0].choices == tuple(choices)


def test_nan_is_a_missing_value_as_pandas_writes_it(tmp_path):
    with pytest.raises(ConfigError, match="line 2: the field 'answer' is missing"):
        load_task(write(tmp_path, GOOD, '{"id": "2", "problem": "?", "answer": NaN}'))
    row = '{"id": "1", "problem": "1+1?", "answer": 2, "subject": NaN, "level": NaN, "choices": NaN, "source": NaN}'
    problem = load_task(write(tmp_path, row))[0]
    assert problem.subject is None and problem.level is None and problem.choices == () and "source" not in problem.meta


def test_files_of_one_name_in_two_folders_are_two_tasks(tmp_path):
    specs = []
    for folder in ("A", "B"):
        (tmp_path / folder / "t").mkdir(parents=True)
        specs.append(write(tmp_path / folder / "t", GOOD, name="p.jsonl"))
    task = load_task("+".join(specs))
    assert [problem.task for problem in (task[0], task[1])] == ["A/t/p", "B/t/p"] and task[0].id != task[1].id
    assert task.verify(task[1], "2").is_correct and load_task(specs[0])[0].task == "t/p"
    assert [p.name for p in load_task(f"0.5*{specs[0]}+0.5*{specs[1]},size=1").tasks] == ["A/t/p", "B/t/p"]
    with pytest.raises(ConfigError, match=r"names t/p twice; a share says how often, as in 2\*file:"):
        load_task(f"{specs[0]}+{specs[0]}")
    with pytest.raises(ConfigError, match="use its dials instead"):
        load_task("arithmetic+arithmetic")
