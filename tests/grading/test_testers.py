"""Programs against the examples of a question, behind the fence of this machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ponder.grading.examples import examples_of
from ponder.grading.testers import CallTester, TextTester, sandbox_testers
from ponder.sandbox.base import Limits, Ran
from ponder.sandbox.programs import Programs
from ponder.sandbox.scripted import ScriptedSandbox

CALLS = examples_of(">>> f(1)\n2\n>>> f([3])\n[3, 1]\n")
TEXTS = examples_of("Input:\n3 4\nOutput:\n7\n\nInput:\n1 1\nOutput:\n2\n")


@pytest.fixture(scope="module")
def testers():
    sandbox = Programs(num_workers=1)
    yield sandbox_testers(sandbox, limits=Limits(cpu_seconds=0.2))
    sandbox.close()


def test_a_function_passes_the_examples_that_it_does(testers):
    right = "def f(x):\n    return x + [1] if isinstance(x, list) else x + 1\n"
    assert testers["calls"].passes(right, CALLS) == [True, True]
    assert testers["calls"].passes("def f(x):\n    return x + 1\n", CALLS) == [True, False]
    assert testers["calls"].passes("def g(x):\n    return 2\n", CALLS) == [False, False]


def test_outputs_tell_functions_apart_and_a_crash_is_none(testers):
    outputs = testers["calls"].outputs
    inputs = ["1", "2", "'a'", "x", ""]
    plain = outputs("def f(x):\n    return x + 1\n", CALLS, inputs)
    assert plain == outputs("def f(y):\n    return 1 + y\n", CALLS, inputs)
    assert plain[:2] != outputs("def f(x):\n    return x\n", CALLS, inputs)[:2]
    assert plain[2:4] == [None, None]  # it crashes on a text, and what is no plain value is not sent


def test_examples_are_checked_within_the_limits_that_were_given():
    limits, asked = Limits(cpu_seconds=30, memory_mb=2048), []

    class Watched:
        def check(self, source, asserts, *, limits, stop):
            asked.append(limits)
            return SimpleNamespace(results=[""] * len(asserts.units))

    CallTester(Watched(), limits).passes("def f(x): return x", CALLS)
    assert asked == [limits]


@pytest.mark.parametrize(
    "hack",
    ["import os\nos._exit(0)", "import sys\nsys.exit(0)", "while True: pass",
     "class E:\n    def __eq__(self, o):\n        return True\nf = lambda x: E()",
     "def f(x):\n    while True: pass", "import os\ndef f(x): os.kill(os.getppid(), 9)"],
)  # fmt: skip
def test_a_program_cannot_pass_an_example_by_a_trick(testers, hack):
    assert testers["calls"].passes(hack + "\n", CALLS) == [False, False]
    assert testers["texts"].passes(hack + "\n", TEXTS) == [False, False]


def test_a_program_passes_the_texts_whose_words_it_prints(testers):
    add = "a, b = map(int, input().split())\nprint(' ', a + b)\n"
    assert testers["texts"].passes(add, TEXTS) == [True, True]
    assert testers["texts"].passes("print(7)", TEXTS) == [True, False]
    assert testers["texts"].outputs(add, TEXTS, ["1 2", "x", "5 6\n"]) == ["3", None, "11"]


def test_a_program_that_never_ends_costs_one_limit_and_not_one_an_input():
    scripted = ScriptedSandbox(lambda program, stdin, args: Ran(status="time"))
    assert TextTester(scripted).outputs("while 1: pass", TEXTS, ["1"] * 9) == [None] * 9
    assert len(scripted.calls) == 1


def test_a_crash_on_one_input_does_not_keep_the_others_from_being_tried():
    said = {b"1": "one", b"2": Ran(status="crashed"), b"3": "three\n"}
    scripted = ScriptedSandbox(lambda program, stdin, args: said[stdin])
    assert TextTester(scripted).outputs("p", TEXTS, ["1", "2", "3"]) == ["one", None, "three"]


def test_programs_are_found_in_answers_and_prose_is_none(testers):
    answer = "Here:\n```python\ndef f(x):\n    return x\n```\n```python\nprint(f(1))\n```"
    assert testers["calls"].program(answer, CALLS) == "def f(x):\n    return x\n"
    assert testers["texts"].program(answer, TEXTS) == "print(f(1))\n"
    assert testers["calls"].program("I cannot.", CALLS) is None
