"""Runners see what a contestant sees; hidden points are somebody else's."""

from __future__ import annotations

import asyncio
import json
from random import Random

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.evals.bank import Bank
from ponder.evals.entries import entries_of
from ponder.evals.exams import run_exam
from ponder.evals.executions import execute_bank
from ponder.evals.ladder import RUNGS, ladder, scores_by_problem
from ponder.evals.program_runners import PipesRunner, open_runner, pipes_points
from ponder.evals.submissions import IOI
from ponder.strategies.programs import NOTHING
from ponder.tasks import load_task
from ponder.tasks.pipes_language import STAGES
from ponder.types import Completion, SamplingParams

TASK = load_task("pipes:level=2,examples=2")


class Guessing:
    """Programs near the right one, the right one now and then, and what is none."""

    def __init__(self):
        self.targets = {TASK[i].text: TASK[i].target.split() for i in range(8)}

    async def generate(self, prompt, params, *, n=1, first=0):
        return [
            self.one(Random(f"{params.seed}/{i}"), self.targets[prompt[-1].content]) for i in range(first, first + n)
        ]

    def one(self, rng, target):
        near = [rng.choice(list(STAGES)) if rng.random() < 0.5 else stage for stage in target]
        answer = rng.choices([target, near, ["print", "it"]], [0.1, 0.8, 0.1])[0]
        return Completion(
            prompt_ids=(1,), token_ids=(2, 3), sampler_logprobs=(0.0, 0.0), sampled=(True, True), finish_reason="stop",
            reasoning="", answer=" ".join(answer), num_reasoning_tokens=0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    out = tmp_path_factory.mktemp("bank")
    exam = run_exam(
        TASK, Guessing(), model="guessing", name="pipes:level=2,examples=2", num_samples=30, params=SamplingParams(),
        out=out, limit=8,
    )  # fmt: skip
    asyncio.run(exam)
    return Bank.read(out)


def test_a_runner_works_without_the_hidden_tests_of_a_problem():
    problem = TASK[0]

    class Nothing(dict):
        def __getitem__(self, name):
            assert name == "public", f"it asked for {name}"
            return problem.meta[name]

    seen = problem.__class__(**{**vars(problem), "meta": Nothing(problem.meta), "target": ""})
    runner = PipesRunner()
    program = runner.program(seen, "answer: sort rev")
    inputs = runner.inputs(seen)
    assert program == "sort rev" and len(set(inputs)) == runner.num_inputs == len(inputs)
    assert runner.outputs(seen, program, inputs) == [
        " ".join(map(str, sorted(map(int, text.split()), reverse=True))) for text in inputs
    ]
    assert len(runner.examples(seen, program)) == 2
    assert inputs == runner.inputs(seen)


def test_inputs_belong_to_the_subtasks_whose_constraints_they_keep():
    runner = PipesRunner()
    inputs, (positive, in_order, all_) = runner.inputs(TASK[1]), runner.goals(TASK[1])
    assert [goal.points for goal in (positive, in_order, all_)] == [20, 30, 50]
    values = [list(map(int, text.split())) for text in inputs]
    assert {i for i, value in enumerate(values) if all(v > 0 for v in value)} == set(positive.inputs)
    assert {i for i, value in enumerate(values) if value == sorted(value)} == set(in_order.inputs)
    assert len(all_.inputs) == len(inputs) and all_.includes == (0, 1)
    assert min(map(len, (positive.inputs, in_order.inputs))) >= 10


def test_the_right_program_has_all_points_and_one_that_is_right_on_positive_numbers_those_alone():
    assert pipes_points(TASK[0], TASK[0].target) == (20, 30, 50)
    problem = next(p for p in (TASK[i] for i in range(200)) if p.target.split()[0] == "abs")
    assert pipes_points(problem, problem.target.removeprefix("abs "))[0] == 20
    assert pipes_points(problem, "no program") == (0, 0, 0)


def test_full_points_are_the_verdict_that_the_bank_holds(bank):
    runner, points_of = open_runner(bank.spec.task)
    table = execute_bank(bank, runner, "pipes").table
    for entry, told in zip(
        entries_of(bank, table, runner, points_of=points_of), entries_of(bank, table, runner), strict=True
    ):
        assert ((entry.hidden.sum(axis=1) == 100) == (told.hidden[:, 0] == 1)).all()
        assert (entry.hidden[entry.pools[""].programs < 0] == 0).all()
        right = entry.hidden.sum(axis=1) == 100
        assert entry.pools[""].examples[right].all()  # what is right on all tests is right on those that are shown


def test_a_made_up_olympiad_is_played_from_a_bank_to_its_table(bank):
    runner, points_of = open_runner(bank.spec.task)
    entries = entries_of(bank, execute_bank(bank, runner, "pipes").table, runner, points_of=points_of)
    found = ladder(entries, rules=IOI, budgets=(1, 10), draws=4)
    scores = {row.name: row.points[10].score.value for row in found.rows}
    assert scores["random"] < scores["public + clusters"] <= found.coverage.value
    assert np.isfinite(list(scores.values())).all()
    for name, way in (("random", NOTHING), ("public + clusters", RUNGS["public + clusters"])):
        by_problem = scores_by_problem(entries, way, rules=IOI, budgets=(1, 10), draws=4)
        told = next(row for row in found.rows if row.name == name)
        assert by_problem.mean(axis=0) == pytest.approx([told.points[b].score.value for b in (1, 10)])


ROW = {
    "id": "mbpp-1", "problem": "Write a function that sorts.", "solution": "def order(x):\n    return sorted(x)\n",
    "test_list": ["assert order([3, 1, 2]) == [1, 2, 3]", "assert order([9]) == [9]", "assert order([]) == []"],
}  # fmt: skip


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "test.jsonl").write_text(json.dumps(ROW) + "\n")
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    runner, points_of = open_runner("mbpp")
    assert points_of is None
    return runner, load_task("mbpp")[0]


def test_functions_are_called_with_variations_of_the_public_calls_and_judged_by_the_public_tests(functions):
    runner, problem = functions
    inputs = runner.inputs(problem)
    assert inputs[0] == "[3, 1, 2]" and len(inputs) > 10 and inputs == runner.inputs(problem)
    assert "[9]" not in inputs  # of a hidden test
    right, other = "def order(x):\n    return sorted(x)\n", "def order(x):\n    return [1, 2, 3]\n"
    assert runner.examples(problem, right) == runner.examples(problem, other) == [True]
    assert runner.examples(problem, "def order(x):\n    raise ValueError(x)\n") == [False]
    assert runner.outputs(problem, right, inputs)[0] == runner.outputs(problem, other, inputs)[0]
    assert runner.outputs(problem, right, inputs) != runner.outputs(problem, other, inputs)
    assert runner.outputs(problem, "raise SystemExit", inputs) == [None] * len(inputs)
    assert "fence" in runner.facts and runner.program(problem, "no code") is None


def test_a_bank_of_one_part_is_run_as_the_whole_task_is(functions):
    runner, problem = functions
    of_part, _ = open_runner("mbpp, dev part")
    assert of_part.inputs(problem) == runner.inputs(problem)
    assert isinstance(open_runner("pipes:level=2, report part")[0], PipesRunner)


def test_samples_that_are_no_programs_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="no programs that ponder runs"):
        open_runner("arithmetic:level=3")
