"""Programming problems that tests decide: HumanEval and MBPP, as exams and for reinforcement learning.

    load_task("humaneval")                                164 functions to complete (119 are held as `test_dev`)
    load_task("mbpp", split="train", differential=20)     374 functions; one assert is shown, the others decide too
    load_task("mbpp:shown=3,reward=fraction")             the usual prompt; a share of the tests as reward
    load_task("mbpp:sanitized=1")                         the checked part

The texts come from $PONDER_DATA/NAME/*.jsonl or a hub, as `published.py` tells; `stdio.py` has programs that read and
write. The answer's program (`grading/code_blocks.py`) runs in the sandbox and is judged by calls (`sandbox/calls.py`):
expected values never enter its process.

A verdict is right where every test passes, and the reward is 1 or 0; `reward=fraction` is the share of the tests that
pass, `reward=weighted` the share of the hidden ones, so that a program which spells out what it was shown earns
nothing. No program, one that does not compile and one that is wrong are worth 0 alike. A run that the machine lost is
undecided. `parts` has public, hidden, fraction and cpu (seconds).

`differential=N` adds up to N inputs for a problem whose data set has a solution: variations of the arguments in its
tests, with what the solution returns for them (`variations.py`). Three asserts let one wrong program in six pass.

The key by which answers vote is the digest of what the program returns for the inputs that are shown, never of hidden
ones; where none can be read it is the program itself.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ponder.config import ConfigError
from ponder.grading.code_blocks import defines_name, extract_code
from ponder.sandbox.base import Limits
from ponder.sandbox.calls import Asserts, Tested, Unit, call_of
from ponder.sandbox.executions import shared
from ponder.sandbox.inside import wire
from ponder.tasks.asserts import FunctionTests, calls_of, check_fields, humaneval_tests, mbpp_tests
from ponder.tasks.base import BaseTask, ListedTask, check_size
from ponder.tasks.published import Benchmark, Hub, rows_of
from ponder.tasks.variations import variations
from ponder.types import Message, Problem, Task, Verdict

REWARDS = ("all", "fraction", "weighted")
ASK = "Answer with the whole program in one ```python block."

HUMANEVAL = Benchmark(
    verifier="",
    hub=(
        Hub(repo="openai/openai_humaneval", configs=("openai_humaneval",), splits={"test": ("test",)}, id="{task_id}",
            columns={"problem": "prompt", "answer": lambda row: "", "solution": "canonical_solution",
                     "entry_point": "entry_point", "test": "test"}),
    ),
)  # fmt: skip
MBPP = Benchmark(
    verifier="",
    files={"train": ("train*",), "dev": ("train*",), "test": ("test*",)},
    hub=(
        Hub(repo="google-research-datasets/mbpp", configs=("full",), id="mbpp-{task_id}",
            splits={"train": ("train", "prompt"), "dev": ("validation",), "test": ("test",)},
            columns={"problem": "text", "answer": lambda row: "", "solution": "code", "test_list": "test_list",
                     "test_setup_code": "test_setup_code", "challenge_test_list": "challenge_test_list"}),
    ),
)  # fmt: skip
SANITIZED = Benchmark(
    verifier="",
    folder="mbpp",
    files={"test": ("sanitized_test*",)},
    hub=(
        Hub(repo="google-research-datasets/mbpp", configs=("sanitized",), id="mbpp-sanitized-{task_id}",
            splits={"train": ("train", "prompt"), "dev": ("validation",), "test": ("test",)},
            columns={"problem": "prompt", "answer": lambda row: "", "solution": "code", "test_list": "test_list",
                     "test_imports": "test_imports"}),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CodeItem:
    """A problem with all that its verifier knows. `head` stands before every program, `source` is the reference."""

    problem: Problem
    tests: FunctionTests
    head: str = ""
    prompt: str = ""  # of a function to complete: what an answer that is only its body continues
    source: str = ""


class ProgramItem(Protocol):
    """A problem, and what only its verifier knows of it."""

    @property
    def problem(self) -> Problem: ...


Item = TypeVar("Item", bound=ProgramItem)


class ProgramTask(ListedTask, Generic[Item]):
    """Programs that tests decide; a problem says which by `meta["tests"]`, a digest of them."""

    def __init__(self, name: str, items: Sequence[Item], *, split: str, reward: str) -> None:
        if reward not in REWARDS:
            raise ConfigError(f"reward={reward!r} is none of {', '.join(REWARDS)}")
        self.name, self.split, self.reward, self.grader_version = name, split, reward, grader()
        self._problems = [item.problem for item in items]
        self._by_digest = {item.problem.meta["tests"]: item for item in items}

    def item(self, problem: Problem) -> Item:
        """What the verifier knows of a problem, also of one that a mixture or a prompting changed."""
        found = self._by_digest.get(problem.meta.get("tests", ""))
        if found is None:
            raise ConfigError(f"the problem {problem.id!r} is not of the task {self.name}")
        return found


class CodeTask(ProgramTask[CodeItem]):
    """Functions that asserts decide."""

    def __init__(
        self,
        name: str,
        items: Sequence[CodeItem],
        *,
        split: str = "test",
        reward: str = "all",
        differential: int = 0,
        cpu: float = 10.0,
        fresh: bool = False,
    ) -> None:
        super().__init__(name, items, split=split, reward=reward)
        if not 0 <= differential <= 200:
            raise ConfigError(f"differential={differential} must lie between 0 and 200")
        self.differential, self.fresh = differential, fresh
        self.limits = Limits(cpu_seconds=float(cpu), memory_mb=512)
        self.patience = 2 * self.limits.wall_seconds + 60  # a starved run is repeated once; only then it is undecided
        self._extra: dict[str, tuple[Unit, ...]] = {}

    def verify(self, problem: Problem, answer: str) -> Verdict:
        item = self.item(problem)
        program = self.program(problem, answer)
        if program is None:
            return Verdict(outcome="wrong", reward=0.0, note="no program in the answer")
        asserts = item.tests.asserts(extra=self.extra_tests(problem))
        return self._verdict(item, asserts, self._tested(item, program, asserts), program)

    def key(self, problem: Problem, answer: str) -> str | None:
        item, program = self.item(problem), self.program(problem, answer)
        if program is None:
            return None
        probes = _probes(item.tests)
        asserts = item.tests.asserts(extra=self._extra.get(problem.meta["tests"], ()))
        if not probes:
            return _digest(program)
        known = self._known(item, program, asserts)
        replies: Sequence[bytes | None] | None = known.replies if known else None
        if not replies or None in replies:  # not verified before, or it did not live to see the probes
            make = partial(shared().calls.behave, program, probes, limits=self.limits)
            replies = shared().once(("behave", _digest(program), tuple(probes), self.limits), make)
        return _digest(*(reply or b"-" for reply in replies)) if replies else _digest(program)

    def public(self, problem: Problem, answer: str) -> Verdict:
        """The verdict of what is shown alone: what a strategy may ask before it submits."""
        item, program = self.item(problem), self.program(problem, answer)
        if program is None:
            return Verdict(outcome="wrong", reward=0.0, note="no program in the answer")
        if not item.tests.public:
            return Verdict(outcome="undecided", reward=0.0, extracted=program, note="nothing is shown")
        asserts = item.tests.asserts(hidden=False)
        tested = self._tested(item, program, asserts)
        if tested.is_undecided:
            return Verdict(outcome="undecided", reward=0.0, extracted=program, note=tested.note)
        share = _share(tested.results)
        return Verdict(outcome="correct" if share == 1 else "wrong", reward=float(share == 1), extracted=program,
                       parts={"public": share, "cpu": tested.cpu_seconds}, note=_first(tested))  # fmt: skip

    # ---- what else may be asked

    def program(self, problem: Problem, answer: str) -> str | None:
        """The program that is run for an answer; None where it has none."""
        item = self.item(problem)
        code = extract_code(answer, defines=item.tests.entry)
        if code is None:
            return None
        if item.prompt and not defines_name(code, item.tests.entry):
            return item.prompt + (code if code[0] in " \t" else textwrap.indent(code, "    "))
        return f"{item.head}\n{code}" if item.head else code

    def reference(self, problem: Problem) -> str:
        """The data set's own solution as a program; "" where there is none."""
        item = self.item(problem)
        return f"{item.head}\n{item.source}" if item.head and item.source else item.source

    def extra_tests(self, problem: Problem) -> tuple[Unit, ...]:
        """The differential tests of a problem; its solution is run once for them."""
        digest = problem.meta["tests"]
        if self.differential and digest not in self._extra:
            item, source = self.item(problem), self.reference(problem)
            make = partial(differential_tests, item, source, self.differential, self.limits)
            made = shared().once(("differential", digest, self.differential, self.limits), make)
            if made is None:  # tried again with the next answer
                return ()
            self._extra[digest] = made
        return self._extra.get(digest, ())

    def _tested(self, item: CodeItem, program: str, asserts: Asserts) -> Tested:
        probes = _probes(item.tests)
        check = partial(
            shared().calls.check, program, asserts, limits=self.limits, stop=False, fresh=self.fresh, probes=probes
        )
        return shared().once(self._name_of(item, program, asserts), check)

    def _known(self, item: CodeItem, program: str, asserts: Asserts) -> Tested | None:
        return shared().known(self._name_of(item, program, asserts))

    def _name_of(self, item: CodeItem, program: str, asserts: Asserts) -> tuple[Any, ...]:
        size = len(asserts.units)
        return ("check", _digest(program), item.problem.meta["tests"], size, self.differential, self.limits, self.fresh)

    def _verdict(self, item: CodeItem, asserts: Asserts, tested: Tested, program: str) -> Verdict:
        if tested.is_undecided:
            return Verdict(outcome="undecided", reward=0.0, extracted=program, note=tested.note)
        shown = len(item.tests.public)
        public, hidden = tested.results[:shown], tested.results[shown:]
        decisive = tested.results if item.tests.decides else hidden
        parts = {"hidden": _share(hidden), "fraction": _share(decisive), "cpu": tested.cpu_seconds}
        if public:
            parts = {"public": _share(public), **parts}
        is_right = bool(decisive) and all(result == "" for result in decisive)
        share = {"all": float(is_right), "fraction": parts["fraction"], "weighted": parts["hidden"]}[self.reward]
        return Verdict(outcome="correct" if is_right else "wrong", reward=1.0 if is_right else share,
                       extracted=program, parts=parts, note=_first(tested))  # fmt: skip


def humaneval(*, split: str = "test", seed: int = 0, size: int | None = None, reward: str = "all",
              cpu: float = 10.0, fresh: int = 0) -> CodeTask:  # fmt: skip
    """HumanEval (arXiv:2107.03374): complete a function from its head and docstring."""
    rows, origin = rows_of("humaneval", HUMANEVAL, split)
    items = [_humaneval_item(row, where) for where, row in rows]
    return _task("humaneval", items, origin, size, split=split, reward=reward, cpu=cpu, fresh=bool(fresh))


def mbpp(*, split: str = "test", seed: int = 0, size: int | None = None, shown: int = 1, sanitized: int = 0,
         reward: str = "all", differential: int = 0, cpu: float = 10.0, fresh: int = 0) -> CodeTask:  # fmt: skip
    """MBPP (arXiv:2108.07732): write a function from a sentence and `shown` of its asserts."""
    if not 0 <= shown <= 3:
        raise ConfigError(f"shown={shown} must lie between 0 and 3: the asserts that the prompt has")
    of_train = sanitized and split != "test"  # the held train file marks its sanitized rows
    rows, origin = rows_of("mbpp", SANITIZED if sanitized and not of_train else MBPP, split)
    wanted = {"train": ("train", "prompt"), "dev": ("validation",)}.get(split)
    chosen = [(where, row) for where, row in rows if wanted is None or row.get("split", wanted[0]) in wanted]
    chosen = [(where, row) for where, row in chosen if not of_train or row.get("in_sanitized", True)]
    items = [_mbpp_item(row, where, shown) for where, row in chosen]
    return _task("mbpp", items, origin, size, split=split, reward=reward, differential=differential, cpu=cpu,
                 fresh=bool(fresh))  # fmt: skip


LOADERS: dict[str, Callable[..., Task]] = {"humaneval": humaneval, "mbpp": mbpp}


def differential_tests(item: CodeItem, reference: str, count: int, limits: Limits) -> tuple[Unit, ...] | None:
    """Calls with varied arguments and what the reference returns; none where there is no reference. None = the machine
    lost its run."""
    entry = item.tests.entry
    seeds = calls_of([*item.tests.public, *(unit.code for unit in item.tests.hidden)], entry)
    inputs = variations(seeds, count=2 * count, seed=item.problem.meta["tests"]) if reference else []
    encoded = [[wire.encode(arg) for arg in args] for args in inputs]
    quarter = replace(limits, cpu_seconds=limits.cpu_seconds / 4)  # a program needs the rest for the other tests
    replies = shared().calls.behave(reference, [call_of(entry, args) for args in encoded], limits=quarter)
    if replies is None:
        return None
    units = []
    for args, reply in zip(encoded, replies, strict=False):
        returned = wire.read(reply) if reply else {}  # of the reference, which is the data set's
        if list(returned) == ["v"] and not _has_handle(returned["v"]):  # no exception, and no argument that it changed
            units.append(Unit(on=entry, args=tuple(args), want=returned["v"]))
    return tuple(units[:count])


# ---- rows ----------------------------------------------------------------------------------------------------------


def _humaneval_item(row: Mapping[str, Any], where: str) -> CodeItem:
    tests, prompt = humaneval_tests(row, where), str(row["problem"])
    text = f"Complete this Python function.\n\n```python\n{prompt.rstrip()}\n```\n\n{ASK}"
    head = prompt[: found.start()] if (found := re.search(rf"^def {re.escape(tests.entry)}\b", prompt, re.M)) else ""
    solution = str(row.get("solution", ""))
    source = prompt[len(head) :] + solution if solution.strip() else ""
    problem = _problem(row, "humaneval", text, tests, where)
    return CodeItem(problem=problem, tests=tests, head=head.rstrip(), prompt=prompt, source=source)


def _mbpp_item(row: Mapping[str, Any], where: str, shown: int) -> CodeItem:
    check_fields(row, where, "problem", "test_list")
    tests = mbpp_tests(row, where, shown=shown)
    lines = "\n".join(test.replace("\r", "") for test in tests.public)
    which = "this test" if shown == 1 else "these tests"
    wanted = f"It must pass {which}:\n\n```python\n{lines}\n```" if lines else f"The function is called {tests.entry}."
    text = f"{str(row['problem']).strip()}\n\n{wanted}\n\n{ASK}"
    problem = _problem(row, "mbpp", text, tests, where)
    return CodeItem(problem=problem, tests=tests, source=str(row.get("solution", "")).replace("\r", ""))


def _problem(row: Mapping[str, Any], task: str, text: str, tests: FunctionTests, where: str) -> Problem:
    """The problem without its tests: what lies about (a bank, a log) shows none of them, only their digest."""
    name = str(row.get("id", "")).replace("/", "-")
    if not name:
        raise ConfigError(f"{where}: the row has no id")
    digest = _digest(name, repr(tests))
    meta = {"tests": digest, "entry_point": tests.entry, "num_tests": tests.asserts().num_tests}
    return Problem(id=name, prompt=(Message(role="user", content=text),), target="", task=task,
                   subject=row.get("subject"), meta=meta)  # fmt: skip


def _task(name: str, items: list[CodeItem], origin: Any, size: int | None, **options: Any) -> CodeTask:
    check_size(size)
    if not items:
        raise ConfigError(f"{name} has no problems in the split {options['split']}")
    task = CodeTask(name, items[:size], **options)
    task.origin = origin
    return task


def grader() -> str:
    """Which code judges, and that it did so without a fence where that was asked for."""
    return BaseTask.grader_version + (", unfenced" if shared().sandbox.fence == "unfenced" else "")


def _probes(tests: FunctionTests) -> list[bytes]:
    """The calls of what is shown, by whose results programs are told apart."""
    return [call_of(tests.entry, [wire.encode(arg) for arg in args]) for args in calls_of(tests.public, tests.entry)]


def _has_handle(data: Any) -> bool:
    if isinstance(data, dict):
        return "h" in data or any(map(_has_handle, data.values()))
    return isinstance(data, list) and any(map(_has_handle, data))


def _share(results: Sequence[str | None]) -> float:
    return sum(result == "" for result in results) / len(results) if results else 0.0


def _first(tested: Tested) -> str:
    """For people: what went wrong first."""
    return tested.note or next((result for result in tested.results if result), "")


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:32]
