"""Rows of programs that read and write: what counts as shown, limits, checkers, and rows that cannot be judged."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.sandbox import executions
from ponder.sandbox.base import Ran
from ponder.sandbox.scripted import ScriptedSandbox
from ponder.tasks import load_task
from ponder.tasks.codeforces import stdio_row
from ponder.tasks.stdio import MAX_MEMORY_MB, MAX_SECONDS, StdioTask
from tests.tasks.test_codeforces import hub_row

TEST = {"input": "1 2\n", "output": "3\n"}
ADDS = "```python\nprint(sum(map(int, input().split())))\n```"


class LimitedSandbox(ScriptedSandbox):
    """A fake that keeps the limits it was given, and prints what was asked for."""

    def __init__(self, output: str = "3\n") -> None:
        super().__init__(lambda *_: output)
        self.limits: list[Any] = []

    def run(self, *args: Any, **options: Any) -> Ran:
        self.limits.append(options["limits"])
        return super().run(*args, **options)


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[LimitedSandbox]:
    before = dict(executions._shared)
    fake = LimitedSandbox()
    executions.use(fake)
    yield fake
    executions._shared.clear()
    executions._shared.update(before)


def load(tmp_path: Path, *rows: dict[str, Any], dials: str = "") -> StdioTask:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task(f"stdio:{path}{dials}")
    assert isinstance(task, StdioTask)
    return task


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "problem": "Add.", "tests": [TEST], **changes}


def shown(tmp_path: Path, problem: str, **test: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = load(tmp_path, row(problem=problem, tests=[{**TEST, **test}]))
    return any(test.group == "sample" for test in task.item(task[0]).tests)


# ---- what is shown ---------------------------------------------------------------------------------------------------

LABELLED = "Add 1 2 numbers, 5 at most.\n\nExample\n\nInput\n2\n1 2\n\nOutput\n7\n"


@pytest.mark.parametrize("text", ["", "\n", "2\n", "5", "1", "1 2\n", "7", "2\n1 2\n\n7\n", "Input"])
def test_an_input_whose_words_stand_in_the_text_is_hidden(tmp_path: Path, text: str) -> None:
    assert not shown(tmp_path, LABELLED, input=text)


@pytest.mark.parametrize(
    "problem",
    [
        LABELLED,
        LABELLED.replace("\n", "\r\n").replace("1 2", " 1  2 "),
        "-----Input-----\nNumbers.\n\n-----Examples-----\nInput\n2\n1 2\n\nOutput\n7\n\n-----Note-----\n",
        "-----Sample Input:-----\n2\n1 2\n\n-----Sample Output:-----\n7\n",
        "### Sample Input 1\n\n```\n2\n1 2\n```\n\n### Sample Output 1\n\n```\n7\n```\n",
        "**Example 1:**\n\n**Input:**\n2\n1 2\n**Output:** 7\n",
        "Examples\n\nInputCopy\n2\n1 2\nOutputCopy\n7\n",
        "Sample\n\n Input\n\n Output\n\n```\n2\n1 2\n\n```\n\n```\n3\n```\n",
        "For example:\n\n```\n2\n1 2\n```\n",
        "Example\n```\nInput:\n2\n1 2\nOutput:\n7\n```\n",
        "Examples\n\n2\n1 2\n3\n",
    ],
)
def test_an_input_that_is_an_example_as_a_whole_is_shown(tmp_path: Path, problem: str) -> None:
    assert shown(tmp_path, problem, input="2\n1 2\n")
    assert not any(shown(tmp_path, problem, input=text) for text in ("2\n", "1 2\n", "7\n", ""))


def test_one_word_is_shown_only_where_it_is_an_input(tmp_path: Path) -> None:
    assert shown(tmp_path, "Example\nInput\n5\nOutput\n8\n", input="5\n")
    assert shown(tmp_path, "Example 1:\nInput: -5\nOutput: 8\n", input="-5\n")
    assert not shown(tmp_path, "Example\nInput\n5\nOutput\n8\n", input="8\n")
    assert not shown(tmp_path, "Example\n\n5\n", input="5\n")
    assert shown(tmp_path, "Example\n\n5\n8\n", input="5\n", output="8\n"), "with its output it is an example"


def test_an_empty_line_ends_no_input(tmp_path: Path) -> None:
    problem = "Sample Input\n\n2\n\n1 2\n\nSample Output\n\n7\n"
    assert shown(tmp_path, problem, input="2\n\n1 2\n")
    assert not shown(tmp_path, problem, input="2\n")


def test_a_group_of_its_own_keeps_a_test_hidden_and_a_group_may_be_a_number(tmp_path: Path) -> None:
    task = load(tmp_path, row(problem=LABELLED, tests=[{"input": "2\n1 2\n", "output": "3", "group": 0}]))
    assert [test.name for test in task.item(task[0]).tests] == ["0/1"]
    for group in (["sample"], True, {"a": 1}, 1.5):
        with pytest.raises(ConfigError, match="line 1: the group of a test is"):
            load(tmp_path, row(tests=[{**TEST, "group": group}]))


def test_a_hidden_test_decides_no_vote_and_pays_although_its_words_stand_in_the_text(tmp_path: Path) -> None:
    tests = [{"input": "1\n", "output": "3\n", "points": 5}, {"input": "9\n", "output": "4\n", "points": 5}]
    task = load(tmp_path, row(problem="Print 3 for 1.", tests=tests), dials=":reward=weighted")
    assert task.public(task[0], ADDS).outcome == "undecided", "nothing is shown"
    assert task.verify(task[0], ADDS).reward == 0.5


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "megabytes"),
    [
        ({}, 10, 1024),
        ({"time_limit": 2.5, "memory_limit": 256}, 2.5, 256),
        ({"time_limit": None, "memory_limit": None}, 10, 1024),
        ({"time_limit": 10**400, "memory_limit": 1 << 40}, MAX_SECONDS, MAX_MEMORY_MB),
        ({"time_limit": 0.01, "memory_limit": 0.5}, 0.01, 16),
    ],
)
def test_a_program_has_the_limits_of_its_row_within_bounds(
    tmp_path: Path, sandbox: LimitedSandbox, limits: dict[str, Any], seconds: float, megabytes: int
) -> None:
    task = load(tmp_path, row(**limits))
    assert task.verify(task[0], ADDS).is_correct
    task.key(task[0], ADDS)
    assert {(each.cpu_seconds, each.memory_mb) for each in sandbox.limits} == {(seconds, megabytes)}
    assert task.patience > 2 * sandbox.limits[0].wall_seconds


def test_the_dial_is_in_place_of_every_rows_time(tmp_path: Path, sandbox: LimitedSandbox) -> None:
    task = load(tmp_path, row(time_limit=1), row(id="b"), dials=":cpu=3")
    for number in range(2):
        task.verify(task[number], ADDS)
    assert {each.cpu_seconds for each in sandbox.limits} == {3}
    with pytest.raises(ConfigError, match="cpu=0 must be a number of seconds"):
        load(tmp_path, row(), dials=":cpu=0")


@pytest.mark.parametrize("value", ["2 seconds", 0, -1, float("nan"), float("inf"), True, [1], {"seconds": 1}])
@pytest.mark.parametrize("name", ["time_limit", "memory_limit"])
def test_a_limit_that_is_no_number_above_0_is_an_error_with_its_line(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"p\.jsonl, line 2: {name} is .*must be a number of"):
        load(tmp_path, row(), row(id="b", **{name: value}))


def test_a_right_program_may_print_as_much_as_the_longest_answer(tmp_path: Path) -> None:
    output = "x" * (17 << 20)
    executions.use(LimitedSandbox(output))
    task = load(tmp_path, row(tests=[{"input": "1", "output": output}]))
    assert task.verify(task[0], ADDS).is_correct


# ---- checkers and rows that cannot be judged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checker": "token"}, "no checker 'token'; there are tokens"),
        ({"checker": ["tokens"]}, "there are tokens"),
        ({"checker": 7}, "there are tokens"),
        ({"checker": "floats"}, "write floats:1e-6"),
        ({"checker": "floats:-1e-6"}, "between 0 and 1"),
        *(({"float_tolerance": value}, "floats:1e-6|between 0 and 1, such as 1e-6")
          for value in ("small", -1e-6, 5, float("nan"), float("inf"), True, [1e-6], {"rel": 1e-6})),
    ],
)  # fmt: skip
def test_a_wrong_checker_or_tolerance_is_an_error_with_file_line_and_fix(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"p\.jsonl, line 2: checker or float_tolerance .*({says})"):
        load(tmp_path, row(), row(id="b", **changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"checker_program": "print(1)"}, "a checker program decides"),
        ({"generated_checker": "print(1)", "checker": None}, "a checker program decides"),
        ({"checker": "#include <x>\nint main() {}\n"}, "a checker program decides"),
        ({"interactive": True}, "interactive"),
        ({"interactive": True, "checker": "tokens"}, "interactive"),
        ({"interactor": "int main() {}"}, "interactive"),
        ({"incomplete": "interactive", "complete": False}, "interactive"),
        ({"problem": "This is an interactive problem. Guess."}, "interactive"),
        ({"incomplete": "reads and writes by file"}, "files in place of stdin"),
        ({"input_mode": "file"}, "files in place of stdin"),
        ({"tests": [{"input": "1", "output": " \n"}]}, "no test expects any output"),
        ({"tests": [], "incomplete": "official tests are missing or cut"}, "no test expects any output"),
        ({"tests": [{"input": "1", "output": "nan"}], "float_tolerance": 1e-6}, "their own checker turns down"),
        ({"tests": [{"input": "1", "output": "Case #2: 1"}], "checker": "cases"}, "their own checker turns down"),
    ],
)
def test_a_row_that_comparing_outputs_would_misjudge_is_left_out_and_counted(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.warns(UserWarning, match=rf"1 problems left out, .*{why}.*: b"):
        assert [problem.id for problem in load(tmp_path, row(), row(id="b", **changes))] == ["a"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes",
    [
        {"interactive": False, "checker_program": "", "interactor": None, "input_mode": "stdio"},
        {"interactive": "false", "checker_program": float("nan")},
        {"checker_program": "print(1)", "checker": "tokens"},  # whoever names one has decided
        {"incomplete": "official tests are missing or cut", "complete": False},  # what is there may teach
        {"problem": "The interactive version of this problem is harder."},
        {"tests": [TEST, {"input": "0", "output": ""}]},
        {"tests": [{"input": "1", "output": "Case #2: 1"}]},
    ],
)
def test_a_row_that_comparing_outputs_judges_well_is_kept(tmp_path: Path, changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(tmp_path, row(**changes))) == 1


def test_rows_of_codeforces_that_need_more_than_a_comparison_are_left_out_for_their_reasons(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"interaction_format": "Ask."}, {"input_mode": "file"}, {"generated_checker": "print(1)"},
        {"generated_checker": "print(1)", "official_tests_complete": False},
        {"official_tests": [], "examples": []},
    ]  # fmt: skip
    rows = [stdio_row(hub_row(**each), f"1349/{'ABCDEF'[number]}") for number, each in enumerate(changes)]
    with pytest.warns(UserWarning) as told:
        task = load(tmp_path, *rows)
    assert [problem.id for problem in task] == ["1349/A"]  # type: ignore[attr-defined]
    said = "\n".join(str(each.message) for each in told)
    assert all(
        each in said for each in ("interactive: 1349/B", "stdout: 1349/C", "decides: 1349/D, 1349/E", ": 1349/F")
    )
    assert task.item(task[0]).limits.cpu_seconds == 2 and task.item(task[0]).limits.memory_mb == 256


@pytest.mark.parametrize(
    "changes", [{"id": None}, {"id": True}, {"problem": None}, {"problem": ["Add."]}, {"problem": " "}, {"tests": []}]
)
def test_a_row_without_its_fields_is_an_error_with_its_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"p\.jsonl, line 1: a row needs id, problem and tests"):
        load(tmp_path, row(**changes))


def test_line_ends_of_windows_reach_no_program(tmp_path: Path, sandbox: LimitedSandbox) -> None:
    task = load(tmp_path, row(tests=[{"input": "1\r\n2\r\n", "output": "3\r\n"}]))
    assert task.verify(task[0], ADDS).is_correct
    assert [stdin for _, stdin, _ in sandbox.calls] == [b"1\n2\n"]
