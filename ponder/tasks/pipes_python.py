"""`pipes:form=python`: the same problems for a language model, answered with a Python function.

    Write a Python function f(x) ...            ->   ```python
    f([6, 8, -2]) == [-2, 8, 6]                      def f(x):
    f([5, 1]) == [1, 5]                                  return x[::-1]
    f([7, 3]) == [3, 7]                              ```

The tests, the subtasks and the levels are those of `pipes_problems.py`; no problem is cut to the bounds of the
language, so that plain Python comes to the same. The function is called from outside, an input at a time, in the
sandbox (`sandbox/calls.py`): it never sees an expected value. A list of whole numbers is an output, anything else is
none. A group of equal programs is run once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random

from ponder.grading.code_blocks import extract_code
from ponder.grading.verifiers import undecided
from ponder.sandbox.base import Limits
from ponder.sandbox.calls import call_of
from ponder.sandbox.executions import shared
from ponder.sandbox.inside import wire
from ponder.tasks.base import Item
from ponder.tasks.pipes_language import PROBES, Value, as_python, digest
from ponder.tasks.pipes_problems import PARTS, draw, hidden_tests, judge, public_examples
from ponder.types import Problem, Verdict

LIMITS = Limits(cpu_seconds=2.0)
ASK = (
    "Write a Python function f(x) that takes a list of integers and returns a list of integers. It does the same "
    "simple thing to every list, in at most {level} steps such as sorting, filtering, or changing numbers. Examples:"
)


def make(rng: Random, level: int, *, num_examples: int) -> Item:
    pipe, shown, hidden = draw(rng, level, num_examples=num_examples, is_bounded=True)
    lines = [f"f({list(value)}) == {list(output)}" for value, output in shown]
    text = "\n".join([ASK.format(level=level), *lines, "Answer with the whole function in one ```python block."])
    target = f"```python\n{as_python(pipe)}```"
    return Item(text=text, target=target, meta={"public": shown, "hidden": hidden, "program": " ".join(pipe)})


def outputs_of(program: str, inputs: Sequence[Value]) -> tuple[Value | None, ...] | None:
    """What its function makes of inputs, None for what is no list of whole numbers; None = the machine lost the run."""
    name = hashlib.blake2b(program.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    calls = [call_of("f", [list(value)]) for value in inputs]
    replies = shared().once(
        ("pipes", name, tuple(inputs)), lambda: shared().calls.behave(program, calls, limits=LIMITS)
    )
    return None if replies is None else tuple(_read(reply) for reply in replies)


def _read(reply: bytes | None) -> Value | None:
    try:
        value = wire.read(reply).get("v")
    except (wire.Malformed, AttributeError):
        return None
    is_output = isinstance(value, list) and len(value) <= 1_000 and all(type(number) is int for number in value)
    return tuple(value) if is_output else None


def verify(problem: Problem, answer: str, *, reward: str = "all") -> Verdict:
    """Call the answer's function on the tests."""
    program = extract_code(answer, defines="f")
    if program is None:
        return Verdict(outcome="wrong", reward=0.0, parts=dict.fromkeys(PARTS, 0.0), note="no program in the answer")
    inputs = [value for value, _ in public_examples(problem) + hidden_tests(problem)]
    outputs = outputs_of(program, inputs)
    if outputs is None:
        return undecided(program, "the run was lost")
    return judge(problem, dict(zip(inputs, outputs, strict=True)), program, reward=reward)


def key(problem: Problem, answer: str) -> str | None:
    """Functions that do the same on the probes of the language are the same answer; one that does nothing is none."""
    program = extract_code(answer, defines="f")
    outputs = None if program is None else outputs_of(program, PROBES)
    return None if outputs is None or not any(value is not None for value in outputs) else digest(outputs)
