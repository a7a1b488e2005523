"""An olympiad judges what is submitted and nothing else; subtasks asked for apart are one problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ponder.evals.bank import Bank, BankSpec, SampleRow
from ponder.evals.cms_runner import CmsRunner
from ponder.evals.entries import entries_of
from ponder.evals.executions import execute_bank
from ponder.evals.olympiad import olympiad, percentile
from ponder.evals.submissions import IOI
from ponder.tasks.cms import CmsTask
from ponder.tasks.packages import read_package
from ponder.types import SamplingParams
from tests.cpp import RELAY, TWICE, cpp, folder_of  # noqa: F401 - a fixture

SOURCES = {
    name: f"```cpp\n{TWICE[f'solutions/{name}.cpp']}```"
    for name in ("correct/sum", "incorrect/overflow", "partial/one_more")
}


def bank_of(task, answers, folder):
    """A bank with these answers to every problem of a task; all are called wrong, as nobody asks."""
    spec = BankSpec(
        task="cms:twice", split="test", model="m", fingerprint="f", params=SamplingParams(), seed=0, grader="g"
    )
    with Bank.open(folder, spec) as bank:
        for i in range(len(task)):
            rows = [
                SampleRow(problem=task[i].id, sample=j, answer=answer, outcome="wrong")
                for j, answer in enumerate(answers)
            ]
            bank.append(task[i], rows, prompt_ids=(1,))
    return Bank.read(folder)


@pytest.fixture
def twice(cpp, tmp_path):  # noqa: F811
    package = read_package(folder_of(TWICE, tmp_path / "twice"))
    tasks = {by: CmsTask("cms/twice", [package], statements={}, by=by, sandbox=cpp) for by in ("problem", "subtask")}
    return {by: (task, CmsRunner(task, cpp, num_inputs=6)) for by, task in tasks.items()}


def test_an_olympiad_on_a_package_judges_only_what_is_submitted(twice, tmp_path):
    task, runner = twice["problem"]
    answers = [SOURCES["incorrect/overflow"], "no program", SOURCES["correct/sum"], SOURCES["incorrect/overflow"]]
    bank = bank_of(task, answers, tmp_path / "bank")
    table = execute_bank(bank, runner, "c++").table
    judged = []

    def points_of(problem, program):
        judged.append(program)
        return runner.points(problem, program)

    [one] = olympiad(bank, table, runner, points_of, rules=replace(IOI, limit=1))
    assert (one.submissions, len(judged)) == (1, 1)
    judged.clear()
    [whole] = olympiad(bank, table, runner, points_of)
    assert (whole.problem, whole.score, whole.full, whole.subtasks) == ("twice", 100, 100, (40, 60))
    assert len(judged) == whole.submissions <= 2 and whole.samples == 4  # the same program is not submitted twice
    [entry] = entries_of(bank, table, runner, points_of=runner.points)
    assert entry.hidden[[1, 2]].tolist() == [[0, 0], [40, 60]]


def test_subtasks_that_were_asked_for_apart_are_one_problem_whose_samples_know_theirs(twice, tmp_path):
    task, runner = twice["subtask"]
    assert len(task) == 2
    bank = bank_of(task, [SOURCES["partial/one_more"], SOURCES["correct/sum"]], tmp_path / "bank")
    table = execute_bank(bank, runner, "c++").table
    [entry] = entries_of(bank, table, runner, points_of=runner.points)
    assert entry.id == "twice" and len(entry.hidden) == 4
    assert entry.pools[""].goals.tolist() == [0, 0, 1, 1]
    assert [goal.points for goal in entry.goals] == [40, 60] and entry.goals[1].includes == (0,)
    assert entry.hidden.tolist() == [[20, 30], [40, 60]] * 2
    pool = entry.pools[""]
    assert pool.examples[:, 0].tolist() == [False, True] * 2  # the samples of the statement, not its hidden tests
    assert pool.outputs.shape[1] > 0 and (pool.outputs[0] == pool.outputs[2]).all()
    assert (pool.outputs[0] != pool.outputs[1]).any()


def test_a_communication_problem_has_no_generated_inputs(cpp, tmp_path):  # noqa: F811
    package = read_package(folder_of(RELAY, tmp_path / "relay"))
    task = CmsTask("cms/relay", [package], statements={}, sandbox=cpp)
    assert CmsRunner(task, cpp).inputs(task[0]) == []


def test_a_percentile_is_a_place_among_those_who_took_part():
    assert percentile(213, [600, 400, 213, 100]) == 37.5
    assert percentile(700, [1, 2]) == 100 and percentile(0, [1, 2]) == 0
    with pytest.raises(ValueError, match="without a contestant"):
        percentile(1, [])
    assert np.isfinite(percentile(1, [1]))
