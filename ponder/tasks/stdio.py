r"""Programs that read and write: `stdio:PATH`, problems whose tests are inputs with their outputs.

    load_task("stdio:codejam_stdio")                        a folder of $PONDER_DATA
    load_task("stdio:mine.jsonl:cpu=5,reward=weighted")     a file; dials after a second colon
    {"id": "1", "problem": "Add two numbers.", "tests": [{"input": "1 2\n", "output": "3\n"}]}     a line of it

A test may have a `group` ("sample" = shown) and `points` for its group; a row may have `float_tolerance` or `checker`
(`grading/judging.py`), else outputs are compared word by word, or case by case where they are lists of `Case #i:`.
Shown are the tests of the group "sample" and, of those without a group, the ones that the text has as whole examples;
without any of them the text's own "Sample Input" and "Sample Output". All tests must pass; `reward=fraction` is the
share of tests, `reward=weighted` the share of the points that are not for samples. The key by which answers vote is a
digest of what they print for what is shown.

Limits of a test are the row's `time_limit` (seconds) and `memory_limit` (MB), at most MAX_SECONDS and MAX_MEMORY_MB,
else 10 s and 1 GB; the dial `cpu` is in place of all time limits. Line ends of Windows in inputs are read as here.

Rows that comparing outputs would judge wrongly are left out, and counted in a warning by the reason: `unfit` has them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ponder.config import ConfigError
from ponder.files import file_hash
from ponder.grading.code_blocks import extract_code
from ponder.grading.examples import shown_in
from ponder.grading.judging import Checker, cases, checker
from ponder.grading.points import Subtask, judge_subtasks
from ponder.sandbox.base import Language, Limits, Program, Ran
from ponder.sandbox.executions import shared
from ponder.tasks.base import parse_spec
from ponder.tasks.code import ProgramTask
from ponder.tasks.file import read_rows
from ponder.types import Message, Problem, Verdict

ASK = "It reads standard input and writes standard output. Answer with the whole program in one ```{tag} block."
SAMPLE = "sample"
SECONDS, MAX_SECONDS = 10.0, 30.0  # of processor time for a test: where nothing is said, and whatever a row says
MEMORY_MB, MAX_MEMORY_MB = 1024, 4096
OUTPUT_BYTES = 16 << 20  # or twice the longest answer

_SEVERAL = re.compile(
    r"(?:print|output|return|display|give|report|provide)\s+any\b(?:\s+(?:one|of|valid|such|correct|possible|answer"
    r"|solution)|[.,])|\bany\s+(?:valid\s+(?:answer|solution|output)|correct\s+(?:answer"
    r"|solution)|(?:answer|solution)s?\s+(?:will|is|are)\s+accepted)|(?:multiple|several|many|more\s+than\s+one)\s+"
    r"(?:\w+\s+){0,2}(?:answers?|solutions?|outputs?)\b[^.]{0,120}\b(?:any|arbitrary)\b",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"Sample Input\s*```\n((?:(?!```).)*)```\s*Sample Output\s*```\n((?:(?!```).)*)```", re.DOTALL)
_INTERACTIVE = re.compile(r"\b(?:this|it)(?:'s|’s|\s+is)\s+an?\s+\W{0,3}interactive\b", re.IGNORECASE)
MAX_STATEMENT = 100_000  # characters that are looked through for what they say of tests
CHECKERS = ("checker_program", "generated_checker")  # fields with a program that decides; nothing here runs it
TALKS = ("interactive", "interactor", "interaction_format")  # fields of problems that are a conversation


@dataclass(frozen=True, kw_only=True)
class StdioTest:
    """An input with its output. group: "sample" = shown in the text."""

    name: str
    input: bytes
    output: bytes
    group: str
    points: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StdioItem:
    """A problem with its tests and what compares outputs."""

    problem: Problem
    tests: tuple[StdioTest, ...]  # the shown ones first
    check: Checker
    limits: Limits
    source: str = ""


class StdioTask(ProgramTask[StdioItem]):
    """Programs judged by what they print."""

    def __init__(self, name: str, items: Sequence[StdioItem], *, split: str, reward: str, language: Language) -> None:
        super().__init__(name, items, split=split, reward=reward)
        self.language = language
        # every test may be starved and repeated once, and the verdict is still not the verifier's failure
        most = max((len(item.tests) * item.limits.wall_seconds for item in items), default=1)
        self.patience = min(3_600.0, 2 * most + 60)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self._judged(problem, answer, lambda test: True)

    def public(self, problem: Problem, answer: str) -> Verdict:
        """The verdict of what is shown alone."""
        return self._judged(problem, answer, lambda test: test.group == SAMPLE)

    def key(self, problem: Problem, answer: str) -> str | None:
        """Runs the shown tests: programs that print the same words on them are the same answer. None = no program."""
        program = self.program(problem, answer)
        if program is None:
            return None
        item = self.item(problem)
        printed = [self._run(program, test, item.limits) for test in item.tests if test.group == SAMPLE]
        if any(ran.is_undecided for ran in printed):  # what the machine lost makes no two programs the same
            printed = []
        outputs = [f"{ran.status} ".encode() + b" ".join(ran.stdout.split()) for ran in printed] or [program.encode()]
        return hashlib.sha256(b"\0".join(outputs)).hexdigest()[:32]

    def program(self, problem: Problem, answer: str) -> str | None:
        """The program that is run for an answer; None where it has none."""
        return extract_code(answer, self.language)

    def _run(self, program: str, test: StdioTest, limits: Limits) -> Ran:
        return shared().run(Program(source=program, language=self.language), test.input, limits=limits)

    def _judged(self, problem: Problem, answer: str, wanted: Any) -> Verdict:
        program, item = self.program(problem, answer), self.item(problem)
        tests = {test.name: test for test in item.tests if wanted(test)}
        if program is None:
            return Verdict(outcome="wrong", reward=0.0, note="no program in the answer")
        if not tests:
            return Verdict(outcome="undecided", reward=0.0, extracted=program, note="nothing is shown")
        notes: list[str] = []
        failed: list[str] = []
        seconds = [0.0]

        def score(name: str) -> float | None:
            if self.reward == "all" and failed:
                return 0.0  # it decides nothing more, and is not run
            ran = self._run(program, tests[name], item.limits)
            seconds.append(ran.cpu_seconds)
            if ran.status != "ok":
                notes.append(f"{name}: {ran.status} {ran.note}")
                failed.extend([] if ran.is_undecided else [name])
                return None if ran.is_undecided else 0.0
            found = item.check(ran.stdout, tests[name].output)
            notes.extend([f"{name}: {found.note}"] if found.score != 1 else [])
            failed.extend([name] if found.score is not None and found.score < 1 else [])
            return None if found.score is None else float(found.score == 1)

        is_all = self.reward == "all"
        judged = judge_subtasks(_subtasks(tests.values()), score, stop_early=is_all)
        note = notes[0] if notes else ""
        if None in judged.tests.values() and not (is_all and 0.0 in judged.tests.values()):
            return Verdict(outcome="undecided", reward=0.0, extracted=program, note=note)
        scores = {name: judged.tests.get(name) == 1 for name in tests}
        groups = {
            "public": [right for name, right in scores.items() if tests[name].group == SAMPLE],
            "hidden": [right for name, right in scores.items() if tests[name].group != SAMPLE],
            "fraction": [*scores.values()],
        }
        parts = {name: sum(found) / len(found) for name, found in groups.items() if found}
        is_right = all(scores.values())
        share = {"all": float(is_right), "fraction": parts["fraction"], "weighted": judged.share}[self.reward]
        parts |= {"points": judged.total, "cpu": max(seconds)}
        return Verdict(outcome="correct" if is_right else "wrong", reward=1.0 if is_right else share,
                       extracted=program, parts=parts, note=note)  # fmt: skip


def stdio(path: str, *, split: str = "test", seed: int = 0, size: int | None = None, reward: str = "all",
          language: str = "python", cpu: float | None = None) -> StdioTask:  # fmt: skip
    """The problems of a file, or of a folder of PONDER_DATA. The split train is there where a file's name says so.

    cpu: seconds a test; None = what each row says, see `SECONDS`."""
    if language not in get_args(Language):
        raise ConfigError(f"language={language!r} is none of {', '.join(get_args(Language))}")
    cpu = None if cpu is None else float(cpu)
    if cpu is not None and not 0 < cpu < 3_600:
        raise ConfigError(f"cpu={cpu:g} must be a number of seconds above 0 and below 3600")
    files = _files(path, split)
    items: dict[str, StdioItem] = {}
    dropped: dict[str, list[str]] = {}
    for file in files:
        for where, row in read_rows(str(file)):
            why = unfit(row)
            item = None if why else _item(row, where, language, cpu)
            if item is None or any(item.check(test.output, test.output).score != 1 for test in item.tests):
                dropped.setdefault(why or "outputs that their own checker turns down", []).append(str(row.get("id")))
                continue
            if item.problem.id in items:
                raise ConfigError(f"{where}: the id {item.problem.id!r} is that of another problem")
            items[item.problem.id] = item
    for why, names in dropped.items():
        warnings.warn(f"{path}: {len(names)} problems left out, {why}: {', '.join(names[:5])}", stacklevel=2)
    if not items or (size is not None and size < 1):
        raise ConfigError(f"stdio:{path} has no problems in the split {split}")
    name = f"stdio:{Path(path).name.removesuffix('.gz').removesuffix('.jsonl')}"
    task = StdioTask(name, [*items.values()][:size], split=split, reward=reward, language=language)  # type: ignore[arg-type]  # fmt: skip
    task.origin = [{"file": str(file), "sha256": file_hash(file)} for file in files]
    return task


def path_and_dials(spec: str) -> tuple[str, dict[str, Any]]:
    """What follows `stdio:`, as in "codejam_stdio:size=5" -> ("codejam_stdio", {"size": 5}); or "mine.jsonl"."""
    path, _, rest = (spec, "", "") if Path(spec).exists() else spec.rpartition(":") if "=" in spec else (spec, "", "")
    _, own = parse_spec(f"{path or spec}:{rest}" if rest else "stdio")
    return path or spec, own


def _files(path: str, split: str) -> list[Path]:
    root = os.environ.get("PONDER_DATA", "")
    places = [Path(path), *([Path(root) / path] if root else [])]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ConfigError(f"stdio:{path}: no such file or folder; looked at {' and '.join(map(str, places))}")
    if found.is_file():
        if split == "train" and "train" not in found.name:
            raise ConfigError(f"stdio:{path} is for measuring: a file to train on has train in its name")
        return [found]
    files = [file for file in sorted(found.glob(f"{split}*")) if file.name.endswith((".jsonl", ".jsonl.gz"))]
    if not files:
        raise ConfigError(f"{found} has no {split}*.jsonl: no {split} split of it is known")
    return files


def unfit(row: Mapping[str, Any]) -> str:
    """Why comparing outputs would judge programs for this row wrongly; "" where it would not."""
    tests, why = row.get("tests"), str(row.get("incomplete") or "")  # as tasks/codeforces.py says it
    if isinstance(tests, list) and not all(
        isinstance(test, dict) and isinstance(test.get("input"), str) and isinstance(test.get("output"), str)
        for test in tests
    ):
        return "tests that are no texts"
    if isinstance(tests, list) and not any(test["output"].strip() for test in tests) and (tests or why):
        return "no test expects any output"
    text = str(row.get("problem"))[:MAX_STATEMENT]
    if why == "interactive" or any(_says(row.get(name)) for name in TALKS) or _INTERACTIVE.search(text):
        return "interactive"
    if why.startswith("reads and writes by") or str(row.get("input_mode")).lower() in ("file", "files"):
        return "files in place of stdin and stdout"
    own = row.get("checker")
    if (isinstance(own, str) and "\n" in own.strip()) or (not own and any(_says(row.get(name)) for name in CHECKERS)):
        return "a checker program decides"
    return "several right answers" if not own and _SEVERAL.search(text) else ""


def _says(value: Any) -> bool:
    """Whether an optional field says something: missing values are written in many ways."""
    return str(value).strip().lower() not in ("none", "null", "nan", "", "false", "no", "0", "[]", "{}")


def _item(row: Mapping[str, Any], where: str, language: str, cpu: float | None) -> StdioItem:
    text, name = row.get("problem"), row.get("id")
    is_named = isinstance(name, str | int) and not isinstance(name, bool) and str(name)
    if not isinstance(text, str) or not text.strip() or not is_named or not isinstance(row.get("tests"), list):
        raise ConfigError(f"{where}: a row needs id, problem and tests [{{input, output}}]")
    if not row["tests"]:
        raise ConfigError(f"{where}: a row needs id, problem and tests [{{input, output}}]; there is no test")
    text, name = text.strip(), str(name)
    tests = _tests(row["tests"], text, where)
    tag = "python" if language == "python" else "cpp"
    digest = hashlib.sha256(repr((name, tests)).encode()).hexdigest()[:32]
    problem = Problem(
        id=name, prompt=(Message(role="user", content=f"{text}\n\n{ASK.format(tag=tag)}"),), target="",
        task="stdio", subject=row.get("subject"), meta={"tests": digest, "num_tests": len(tests)},
    )  # fmt: skip
    try:
        check = checker(_checker(row, tests))
    except ConfigError as error:
        raise ConfigError(f"{where}: checker or float_tolerance of the row: {error}") from None
    limits = Limits(
        cpu_seconds=cpu or min(_limit(row, "time_limit", where, "seconds") or SECONDS, MAX_SECONDS),
        memory_mb=max(16, int(min(_limit(row, "memory_limit", where, "MB") or MEMORY_MB, MAX_MEMORY_MB))),
        output_bytes=max(OUTPUT_BYTES, 2 * max(len(test.output) for test in tests)),
    )
    return StdioItem(problem=problem, tests=tests, check=check, limits=limits, source=str(row.get("solution", "")))


def _limit(row: Mapping[str, Any], name: str, where: str, unit: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{where}: {name} is {str(value)[:40]!r}; it must be a number of {unit} above 0")
    return float(min(value, 1e9))


def _tests(rows: Sequence[Mapping[str, Any]], text: str, where: str) -> tuple[StdioTest, ...]:
    is_shown = shown_in(text)
    tests = []
    for number, row in enumerate(rows, 1):
        own = row.get("group")
        if isinstance(own, bool) or not isinstance(own, str | int | None):
            raise ConfigError(f"{where}: the group of a test is {str(own)[:40]!r}; it must be a name or a number")
        guessed = SAMPLE if is_shown(row["input"], row["output"]) else f"test{number}"
        group = guessed if own in (None, "") else str(own)
        given, wanted = (_bytes(row[side], where) for side in ("input", "output"))
        tests.append(
            StdioTest(name=f"{group}/{number}", input=given, output=wanted, group=group, points=_points(row, where))
        )
    if not any(test.group == SAMPLE for test in tests):
        tests += [
            StdioTest(
                name=f"{SAMPLE}/text{number}",
                input=_bytes(found[1], where),
                output=_bytes(found[2], where),
                group=SAMPLE,
            )
            for number, found in enumerate(_EXAMPLE.finditer(text[:MAX_STATEMENT].replace("\r\n", "\n")), 1)
        ]
    return tuple(sorted(tests, key=lambda test: test.group != SAMPLE))


def _bytes(text: str, where: str) -> bytes:
    try:
        return text.replace("\r\n", "\n").encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: a test has half a surrogate pair, which no program can read; fix it") from None


def _points(row: Mapping[str, Any], where: str) -> float:
    value = row.get("points") or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
        raise ConfigError(f"{where}: points of a test are {str(value)[:40]!r}; they must be a number from 0 to 1e6")
    return float(value)


def _checker(row: Mapping[str, Any], tests: Sequence[StdioTest]) -> str:
    if row.get("checker"):
        return str(row["checker"])
    is_cases = all(cases()(test.output, test.output).score == 1 for test in tests)
    floats = f"floats:{row['float_tolerance']}" if row.get("float_tolerance") else ""
    return ":".join(filter(None, ["cases" if is_cases else "", floats])) or "tokens"


def _subtasks(tests: Any) -> list[Subtask]:
    """A subtask a group, the samples' first and worth nothing where others have points; 1 each where none has any."""
    groups: dict[str, list[StdioTest]] = {}
    for test in tests:
        groups.setdefault(test.group, []).append(test)
    has_points = any(test.points for test in tests)
    hidden = [name for name in groups if name != SAMPLE]

    def points(name: str) -> float:
        if name == SAMPLE and hidden:
            return 0.0
        return max(test.points for test in groups[name]) if has_points else 1.0

    return [
        Subtask(name=name, points=points(name), tests=tuple(test.name for test in group))
        for name, group in groups.items()
    ]
