"""Inputs that a model wrote: asked for once, kept where three quarters of the validators agree, behind the fence."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from ponder.evals.bank import Bank, BankSpec, SampleRow
from ponder.evals.cms_runner import CmsRunner
from ponder.evals.entries import entries_of
from ponder.evals.executions import execute_bank
from ponder.evals.files import BankError
from ponder.evals.program_runners import PipesRunner, open_runner, pipes_points
from ponder.evals.written_inputs import Asking, WithInputs, in_the_sandbox, read_inputs, write_inputs
from ponder.tasks import load_task
from ponder.tasks.cms import CmsTask
from ponder.tasks.packages import read_package
from ponder.types import Completion, SamplingParams
from tests.cpp import RELAY, TWICE, cpp, folder_of  # noqa: F401 - a fixture

ASKING = Asking(model="scripted", generators=2, validators=4, inputs=6)


def answered(text):
    return Completion(
        prompt_ids=(1,), token_ids=(2, 3), sampler_logprobs=(0.0, 0.0), sampled=(True, True), finish_reason="stop",
        reasoning="", answer=text, num_reasoning_tokens=0,
    )  # fmt: skip


class Writer:
    """Answers requests for generators and for validators, each with its own programs, and remembers what was asked."""

    def __init__(self, generators, validators):
        self.generators, self.validators, self.asked = generators, validators, []

    async def generate(self, prompt, params, *, n=1, first=0):
        self.asked.append(prompt[-1].content)
        texts = self.generators if "makes one random input" in prompt[-1].content else self.validators
        return [answered(f"```python\n{texts[i % len(texts)]}\n```") for i in range(n)]


def bank_of(task, answers, folder, name, count):
    spec = BankSpec(task=name, split="test", model="m", fingerprint="f", params=SamplingParams(), seed=0, grader="g")
    with Bank.open(folder, spec) as bank:
        for i in range(count):
            rows = [SampleRow(problem=task[i].id, sample=j, answer=a, outcome="wrong") for j, a in enumerate(answers)]
            bank.append(task[i], rows, prompt_ids=(1,))
    return Bank.read(folder)


def write(bank, runner, engine, execute, name="by_model", asking=ASKING):
    return asyncio.run(write_inputs(bank, runner, engine, execute, name, asking, SamplingParams()))


@pytest.fixture
def pipes(tmp_path):
    return bank_of(load_task("pipes:level=2"), ["sort", "rev", "none"], tmp_path / "bank", "pipes:level=2", 3)


def of_lists(program, stdin):
    """A stand-in for the sandbox. `numbers SIGN` prints a list; `all` and `positive` call inputs valid, whatever word
    stands behind them to make them other programs."""
    word, *rest = program.split()
    if word == "numbers":
        return f"{'-' * (rest == ['negative'])}{1 + int(stdin) % 9} 3 2\n"
    if word == "positive":
        return "valid" if "-" not in stdin else "invalid"
    return {"all": "valid", "nonsense": "print this: valid", "code": "__import__('os')", "flood": "9" * 5000}.get(word)


def test_what_was_written_is_asked_for_once_and_goes_on_where_it_stopped(pipes):
    engine = Writer(["numbers negative", "numbers"], ["all"])
    told = write(pipes, PipesRunner(), engine, of_lists)
    assert len(told.by_contest) == 3 and len(engine.asked) == 3 * 2 * 3  # problems, kinds of program, subtasks
    assert read_inputs(pipes, "by_model") == told
    idle = Writer([], [])
    assert write(pipes, PipesRunner(), idle, of_lists) == told and idle.asked == []
    path = pipes.folder / "inputs" / "by_model.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    again = Writer(["numbers negative", "numbers"], ["all"])
    assert write(pipes, PipesRunner(), again, of_lists).by_contest == told.by_contest and len(again.asked) == 6
    with pytest.raises(BankError, match="another validators"):
        write(pipes, PipesRunner(), idle, of_lists, asking=replace(ASKING, validators=5))
    with pytest.raises(BankError, match="it has by_model"):
        read_inputs(pipes, "other")
    with pytest.raises(BankError, match="letters, digits"):
        read_inputs(pipes, "../other")


def test_an_input_needs_three_quarters_of_its_subtasks_validators(pipes):
    runner = PipesRunner()
    three_of_four = write(
        pipes, runner, Writer(["numbers negative"], ["all a", "all b", "all c", "positive"]), of_lists, "three"
    )
    two_of_three = write(
        pipes, runner, Writer(["numbers negative"], ["all a", "all b", "nonsense", "positive"]), of_lists, "two"
    )
    assert all(len(each.inputs) == 6 and each.rejected == 0 for each in three_of_four.by_contest.values())
    assert len(two_of_three.without) == 3
    assert all(each.made > 0 and each.rejected == each.made for each in two_of_three.by_contest.values())


def test_subtasks_have_their_own_inputs_and_those_of_what_they_include(pipes):
    class BySubtask(Writer):
        async def generate(self, prompt, params, *, n=1, first=0):
            self.generators = ["numbers" if "all numbers are positive" in prompt[-1].content else "numbers negative"]
            return await super().generate(prompt, params, n=n, first=first)

    runner = WithInputs(PipesRunner(), write(pipes, PipesRunner(), BySubtask([], ["all"]), of_lists))
    problem = pipes.problems[0]
    positive, in_order, whole = runner.goals(problem)
    inputs = runner.inputs(problem)
    assert all("-" not in inputs[i] for i in positive.inputs) and all("-" in inputs[i] for i in in_order.inputs)
    assert set(whole.inputs) == set(positive.inputs) | set(in_order.inputs)
    entries = entries_of(pipes, execute_bank(pipes, runner, "x").table, runner, points_of=pipes_points)
    assert entries[0].pools[""].outputs.shape[1] == len(inputs) == 12


@pytest.mark.parametrize("text", ["code", "flood", "crashes", "all"])
def test_what_is_no_input_is_never_one_and_the_runners_own_inputs_stand_in(pipes, text):
    written = write(pipes, PipesRunner(), Writer([text], ["all"]), of_lists)
    assert len(written.without) == 3
    runner = WithInputs(PipesRunner(), written)
    problem = pipes.problems[0]
    assert list(runner.inputs(problem)) == list(PipesRunner().inputs(problem))
    assert runner.goals(problem) == PipesRunner().goals(problem)
    assert "scripted" in runner.facts["inputs"]


def test_a_problem_that_nobody_was_asked_about_is_an_error_and_not_another_ladder(pipes):
    written = write(pipes, PipesRunner(), Writer(["numbers negative"], ["all"]), of_lists)
    lacking = replace(written, by_contest=dict(list(written.by_contest.items())[:1]))
    with pytest.raises(BankError, match="run `ponder inputs` again"):
        execute_bank(pipes, WithInputs(PipesRunner(), lacking), "x")


ROW = {
    "id": "mbpp-1", "problem": "Write a function that sorts.", "solution": "def order(x):\n    return sorted(x)\n",
    "test_list": ["assert order([3, 1, 2]) == [1, 2, 3]", "assert order([9]) == [9]", "assert order([]) == []"],
}  # fmt: skip
GENERATES = "import random\nrandom.seed(int(input()))\nprint([random.randint(-99, 99) for _ in range(4)])"
ALLOWS = "import ast\nprint('valid' if isinstance(ast.literal_eval(input()), list) else 'invalid')"
HOSTILE = [
    "import os\nos.system('touch /tmp/was_here')\nprint([1])", "print(open('/etc/passwd').read())",
    "print('__import__(\"os\").getpid()')", "while True: pass",
]  # fmt: skip


def test_programs_of_a_model_write_arguments_of_functions_behind_the_fence(tmp_path, monkeypatch):
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "test.jsonl").write_text(json.dumps(ROW) + "\n")
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    runner, _ = open_runner("mbpp")
    answers = ["```python\ndef order(x):\n    return sorted(x)\n```", "```python\ndef order(x):\n    return x\n```"]
    bank = bank_of(load_task("mbpp"), answers, tmp_path / "bank", "mbpp", 1)
    engine = Writer([GENERATES, *HOSTILE], [ALLOWS])
    asking = replace(ASKING, generators=5)
    [found] = write(bank, runner, engine, in_the_sandbox, asking=asking).by_contest.values()
    assert len(found.inputs) == 6 and found.voting == 1 and found.generators == 5
    assert all(isinstance(json.loads(text), list) for text in found.inputs)
    assert all("[9]" not in asked and "order([])" not in asked for asked in engine.asked)  # hidden tests are not told
    table = execute_bank(bank, WithInputs(runner, read_inputs(bank, "by_model")), "python-by_model").table
    pool = entries_of(bank, table, runner)[0].pools[""]
    assert pool.outputs.shape == (2, 6) and (pool.outputs[0] != pool.outputs[1]).any()


def test_a_batch_package_tells_its_constraints_and_a_communication_problem_cannot_be_written_for(cpp, tmp_path):  # noqa: F811
    package = read_package(folder_of(TWICE, tmp_path / "twice"))
    statement = "Twice.\n\n| 1 | 40 | n is at most 100 |\n| 2 | 60 | No additional constraints. |\n"
    task = CmsTask("cms/twice", [package], statements={"twice": statement}, by="subtask", sandbox=cpp)
    runner = CmsRunner(task, cpp)
    spec = runner.input_spec(task[1])
    assert spec.statement == statement
    assert spec.constraints == ("n is at most 100", "No additional constraints.") and "1" in spec.form
    bank = bank_of(task, ["x"], tmp_path / "bank", "cms:twice", 2)
    write(bank, runner, Writer(["number"], ["all"]), lambda program, stdin: "7\n" if "number" in program else "valid")
    assert list(WithInputs(runner, read_inputs(bank, "by_model")).inputs(task[0])) == ["7\n"]
    relay = CmsTask("cms/relay", [read_package(folder_of(RELAY, tmp_path / "relay"))], statements={}, sandbox=cpp)
    lonely = bank_of(relay, ["x"], tmp_path / "other", "cms:relay", 1)
    with pytest.raises(BankError, match="only its manager knows"):
        write(lonely, CmsRunner(relay, cpp), Writer([], []), of_lists)
