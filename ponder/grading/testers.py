"""Testers: a model's program against the examples of a question, in the sandbox. One for each kind of examples.

    testers = sandbox_testers(Programs(num_workers=2))
    testers["calls"].passes("def f(x): return x + 1", examples_of(">>> f(1)\\n2"))      # [True]
    testers["texts"].outputs("print(input()[::-1])", examples, ["abc\\n"])              # ["cba\\n"]

Calls go by the protocol of sandbox/calls.py, so that a program cannot pass by ending early or by objects that equal
everything; texts are compared word by word (judging.py). A program that came to a limit is not run on further inputs:
one that never ends costs one limit, not twenty. A run that the machine lost counts as one that gave nothing: whoever
asked is waiting. Only Python is run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ponder.grading.code_blocks import extract_code
from ponder.grading.examples import Examples, arguments_of
from ponder.grading.judging import checker
from ponder.sandbox.base import Limits, Program, Sandbox
from ponder.sandbox.calls import Asserts, Calls, Unit, call
from ponder.sandbox.inside.wire import NotPlain

LIMITS = Limits(cpu_seconds=2, memory_mb=256, output_bytes=1 << 16)
VALUE = b'{"v":'  # how a reply begins that is one
GOES_ON = ("ok", "crashed")  # after which the next input is worth a run


class CallTester:
    """Examples that are calls of a function."""

    def __init__(self, calls: Calls, limits: Limits = LIMITS) -> None:
        self._calls, self._limits = calls, limits

    def program(self, answer: str, examples: Examples) -> str | None:
        return extract_code(answer, defines=examples.name)

    def passes(self, program: str, examples: Examples) -> list[bool]:
        units = tuple(Unit(code=f"assert {examples.name}({s.given}) == {s.wanted}") for s in examples.items)
        asserts = Asserts(names=(examples.name,), units=units)
        tested = self._calls.check(program, asserts, limits=self._limits, stop=False)
        return [result == "" for result in tested.results]

    def outputs(self, program: str, examples: Examples, inputs: Sequence[str]) -> list[str | None]:
        """The replies as they came; an exception is no output, whatever its message."""
        sent: dict[str, bytes] = {}
        for text in inputs:
            values = arguments_of(text)
            if values is not None:
                try:
                    sent[text] = call(examples.name, *values)
                except NotPlain:
                    continue
        replies = self._calls.behave(program, list(sent.values()), limits=self._limits) or [None] * len(sent)
        found = dict(zip(sent, map(value_of, replies), strict=True))
        return [found.get(text) for text in inputs]


def value_of(reply: bytes | None) -> str | None:
    """A reply to a call as a text to compare; None where it is an exception, or there is none."""
    return reply.decode(errors="replace") if reply and reply.startswith(VALUE) else None


class TextTester:
    """Examples that are texts: what a program reads, and what it should print."""

    def __init__(self, sandbox: Sandbox, limits: Limits = LIMITS) -> None:
        self._sandbox, self._limits, self._same = sandbox, limits, checker("tokens")

    def program(self, answer: str, examples: Examples) -> str | None:
        return extract_code(answer)

    def passes(self, program: str, examples: Examples) -> list[bool]:
        printed = self._printed(program, [shown.given for shown in examples.items])
        pairs = zip(printed, examples.items, strict=True)
        return [output is not None and self._same(output, shown.wanted.encode()).score == 1 for output, shown in pairs]

    def outputs(self, program: str, examples: Examples, inputs: Sequence[str]) -> list[str | None]:
        """Words alone, so that blanks do not part programs that say the same."""
        printed = self._printed(program, inputs)
        return [None if output is None else " ".join(output.decode(errors="replace").split()) for output in printed]

    def _printed(self, program: str, inputs: Sequence[str]) -> Iterator[bytes | None]:
        """What it prints on each input, None where it did not end well, and for all after it came to a limit."""
        goes_on = True
        for text in inputs:
            if not goes_on:
                yield None
                continue
            ran = self._sandbox.run(Program(source=program), text.encode(errors="replace"), limits=self._limits)
            goes_on = ran.status in GOES_ON
            yield ran.stdout if ran.status == "ok" else None


def sandbox_testers(
    sandbox: Sandbox, *, num_workers: int = 1, limits: Limits = LIMITS
) -> dict[str, CallTester | TextTester]:
    """Testers of Python programs, by the kind of examples. num_workers: programs that are called at once. limits: of a
    run; a program that is called has them for all calls together."""
    calls = Calls(sandbox, num_workers=num_workers)
    return {"calls": CallTester(calls, limits), "texts": TextTester(sandbox, limits)}
