"""pipes in Python: a stage means the same in both languages, and functions are judged by what they return."""

from __future__ import annotations

from random import Random

import pytest

from ponder.sandbox.executions import shared
from ponder.tasks import load_task
from ponder.tasks.pipes_language import MAX_STAGES, STAGES, as_python, run, stays_within
from ponder.tasks.pipes_problems import hidden_tests, public_examples, random_inputs
from ponder.tasks.pipes_python import outputs_of

pytestmark = pytest.mark.slow  # programs run behind the fence


@pytest.fixture(scope="module")
def task():
    return load_task("pipes:form=python,level=1-2", size=12)


def block(program: str) -> str:
    return f"```python\n{program}```"


def test_every_stage_means_the_same_in_python():
    rng = Random(3)
    inputs = random_inputs(rng, 12)
    for first in STAGES:
        pipe = (first, *rng.choices(sorted(STAGES), k=rng.randrange(MAX_STAGES)))
        found = outputs_of(as_python(pipe), inputs)
        assert found is not None
        for value, output in zip(inputs, found, strict=True):
            if stays_within(pipe, value):
                assert output == run(pipe, value), (pipe, value)


def test_a_target_is_right_and_its_prompt_shows_the_public_examples_alone(task):
    for index in range(len(task)):
        problem = task[index]
        verdict = task.verify(problem, problem.target)
        assert verdict.is_correct and verdict.parts["points"] == 1
        assert problem.text.count("f([") == len(public_examples(problem)) == 3
        assert not any(f"f({list(value)})" in problem.text for value, _ in hidden_tests(problem)
                       if value not in dict(public_examples(problem)))  # fmt: skip


def test_other_code_that_does_the_same_is_right_and_votes_alike(task):
    problem = next(task[i] for i in range(12) if task[i].level == 1)
    body = problem.target.removeprefix("```python\n").removesuffix("```").replace("f(x)", "inner(x)")
    answer = f"Sure.\n{block(body + 'f = lambda x: list(inner(list(x)))')}\nThat is all."
    assert task.verify(problem, answer).is_correct
    assert task.key(problem, answer) == task.key(problem, problem.target)
    assert task.key(problem, block("def f(x):\n    return [len(x), 77]\n")) != task.key(problem, problem.target)


WRONG = {
    "nothing": "",
    "prose": "I cannot tell.",
    "syntax": block("def f(x) return x"),
    "other name": block("def g(x):\n    return x\n"),
    "raises": block("def f(x):\n    raise ValueError\n"),
    "exits": block("import sys\ndef f(x):\n    sys.exit(0)\n"),
    "no list": block("def f(x):\n    return 'abc'\n"),
    "equal to everything": block(
        "class E(list):\n    def __eq__(self, o): return True\ndef f(x):\n    return E([1])\n"
    ),
    "true for one": block("def f(x):\n    return [True] * len(x)\n"),
    "prints": block("def f(x):\n    print(x)\n"),
    "endless output": block("def f(x):\n    return [0] * 10**6\n"),
    "a file": block("def f(x):\n    return list(open('/etc/passwd'))\n"),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_what_is_no_right_function_is_wrong(task, answer):
    verdict = task.verify(task[0], answer)
    assert verdict.outcome == "wrong" and verdict.reward == 0


def test_the_expected_values_are_not_in_the_process():
    """A function that looks through its own memory for lists finds inputs, and no output that it did not make."""
    program = (
        "import gc\n"
        "def f(x):\n"
        "    return [n for o in gc.get_objects() if type(o) is list and len(o) == 2 and o[0] == 777 for n in o]\n"
    )
    assert outputs_of(program, [(1, 2)]) == ((),)


def test_equal_programs_are_run_once(task):
    problem, answer = task[0], block("def f(x):\n    return [len(x), 5, 5, 5]\n")
    task.verify(problem, answer)
    made = shared().num_made
    task.verify(problem, answer)
    assert shared().num_made == made
