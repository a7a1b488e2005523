"""Worked solutions -> rows for `ponder sft`: {"problem", "reasoning", "answer"}, each one checked before it is written.

    ponder data gsm8k/train.jsonl.gz words:level=1-5 --style equations --out rows.jsonl

Two kinds of solution are known: those with calculator marks, "half is 48/2 = <<48/2=24>>24 clips" (GSM8K,
arXiv:2110.14168), and those that end in a box, "so it is $\\boxed{24}$" (MATH, arXiv:2103.03874). The styles:

    marks        the solution as it stands
    plain        the sentences, without the marks
    equations    the calculations only, one a line, in one fixed way of writing:  48/2=24
    operations   the same, one single operation a line: 2+3+4=9 becomes 2+3=5 and 5+4=9

A small model does not spend its capacity on sentences in the last two, and its slips can be seen. A row is written only
where its own reasoning ends at the target: what is left out is counted, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, lookup
from ponder.files import jsonl, write_atomic
from ponder.grading import grade
from ponder.grading.plain_arithmetic import calculation, number
from ponder.rewarding import rewarding
from ponder.tasks import load_task
from ponder.tasks.calculations import comes_out, equation, operations
from ponder.types import Problem, Task

Row = dict[str, str]
_MARK = re.compile(r"<<([^<>]*)>>")
_BEFORE = re.compile(r"[-+*/xX×÷−–().,$%\d\s]*$")


class Unusable(ValueError):
    """Why a solution gives no row in a style; the text is what the counts are kept by."""


def make_rows(
    sources: Sequence[str], style: str, *, count: int | None = None, seed: int = 0, no_exam: bool = False
) -> tuple[list[Row], Counter[str]]:
    """Rows of every source in turn, none twice, with what was left out and why.

    A source is a file of worked solutions or a task reference (`words:level=1-4`); `count` is how many problems of
    each are taken.
    """
    lookup(STYLES, style, what="style")
    rows: dict[tuple[str, str], Row] = {}
    dropped: Counter[str] = Counter()
    with rewarding("the choice of rows"):
        for source in sources:
            for row in from_solutions(open_source(source, count, seed, no_exam=no_exam), style, dropped):
                if rows.setdefault((row["problem"], row["reasoning"]), row) is not row:
                    dropped["a row that was there already"] += 1
    refuse_none(rows, dropped, sources, style)
    return list(rows.values()), dropped


def refuse_none(rows: Collection[Any], dropped: Counter[str], sources: Sequence[str], style: str) -> None:
    """ConfigError where no row was made, with what was dropped and why."""
    if not rows:
        reasons = "; ".join(f"{number}: {reason}" for reason, number in dropped.most_common())
        raise ConfigError(f"no row can be made of {', '.join(sources)} in the style {style!r} ({reasons})")


def open_source(source: str, count: int | None, seed: int, *, no_exam: bool = False) -> Task:
    """The train split of a task, or a file that may be trained on."""
    if not source.startswith("file:") and Path(source).exists():
        source = f"file:{source}"
    if source.startswith("file:") and not no_exam and "train" not in Path(source[5:]).name.lower():
        raise ConfigError(  # exams lie beside training files, in the same form
            f"{source[5:]} does not say `train` in its name, so it may be an exam; "
            "rename it, or add --no-exam if it is none"
        )
    dials: dict[str, Any] = {} if count is None else {"size": count}
    task = load_task(source, split="train", seed=seed, **dials)
    if task.split != "train":
        raise ConfigError(f"{source} is the {task.split} split; rows to train on come from the train split")
    return task


def from_solutions(task: Task, style: str, dropped: Counter[str]) -> Iterator[Row]:
    """A row for every problem whose solution can be written in the style; the others are counted in `dropped`."""
    make = lookup(STYLES, style, what="style")
    for i in range(len(task)):
        problem = task[i]
        try:
            reasoning = make(problem)
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        if not task.verify(problem, problem.target).is_correct:
            dropped["the verifier does not accept the target"] += 1
            continue
        yield {"problem": problem.text, "reasoning": reasoning, "answer": problem.target}


def write_rows(rows: Sequence[Row], out: str | Path) -> None:
    """Write rows as JSON Lines, whole or not at all."""
    write_atomic(Path(out), jsonl(rows))


# ---- the styles ----------------------------------------------------------------------------------------------------


def marks(problem: Problem) -> str:
    """The solution as it stands, when it ends at the target."""
    text = solution(problem)
    if "\\boxed" in text:
        if not grade(problem.target, text).is_correct:
            raise Unusable("the solution's box does not hold the target")
    elif not ends_at_target(problem, text):
        raise Unusable("the solution's last line does not hold the target")
    return text


def plain(problem: Problem) -> str:
    """The sentences, without calculator marks."""
    return _MARK.sub("", marks(problem))


def equations(problem: Problem) -> str:
    """The calculations only, in order, none twice."""
    return "\n".join(dict.fromkeys(worked(problem)))


def single_operations(problem: Problem) -> str:
    """The calculations, each as single operations, one a line. Unusable where one rounds or does not end."""
    lines: dict[str, None] = {}
    for line in worked(problem):
        left = line.rpartition("=")[0]
        parts = operations(left)
        if parts is None:
            raise Unusable("an operation whose result has no end")
        if parts and not comes_out(number(line.rpartition("=")[2]) or 0, parts[-1].rpartition("=")[2]):  # type: ignore[arg-type]
            raise Unusable("an operation whose result is rounded")
        lines |= dict.fromkeys(parts)
    return "\n".join(lines)


STYLES: dict[str, Callable[[Problem], str]] = {
    "marks": marks,
    "plain": plain,
    "equations": equations,
    "operations": single_operations,
}


def solution(problem: Problem) -> str:
    """The problem's own worked solution. Unusable where it has none."""
    text = problem.meta.get("solution")
    if not isinstance(text, str) or not text.strip():
        raise Unusable("no worked solution")
    return text.strip()


def ends_at_target(problem: Problem, text: str) -> bool:
    """The last line holds the target among its numbers."""
    target = number(problem.target)
    last = (_MARK.sub("", text).splitlines() or [""])[-1]  # nothing is left of a solution that is marks alone
    numbers = re.findall(r"-?(?:\d[\d,]*\.?\d*|\.\d+)", last)
    return target is not None and any(number(found.rstrip(",.")) == target for found in numbers)


def worked(problem: Problem) -> list[str]:
    """The equations of a solution: its marks, and what is calculated without one; the last gives the target."""
    text = solution(problem)
    if "\\boxed" in text:
        raise Unusable("a boxed solution: its sentences and formulas are one, use --style plain")
    found: list[str] = []
    for line in text.splitlines():
        found += marked(line) if "<<" in line else unmarked(line)
    target = number(problem.target)
    if target is None:
        raise Unusable("the target is not a number")
    while found and number(found[-1].rpartition("=")[2]) != target:
        found.pop()  # a remark after the answer
    if not found:
        raise Unusable("no equation gives the target")
    if not is_sourced(problem.text, found):
        raise Unusable("a number that comes from nowhere")
    return found


_UNITS = {24, 25, 28, 30, 31, 36, 40, 48, 50, 52, 60, 80, 90, 100, 128, 180, 360, 365, 366, 1000, 2000, 3600, 5280}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million score".split()


def is_sourced(text: str, lines: list[str]) -> bool:
    """Whether every number used is in the problem, an earlier result, a small number or one of everyday units.

    Solutions skip steps in their sentences; a model that learns from what is left learns to make numbers up.
    """
    if any(word in text.lower() for word in _TENS):
        return True  # numbers written in words: not read here
    known: set[Any] = {number(found.rstrip(".,")) for found in re.findall(r"\d[\d,]*\.?\d*|\.\d+", text)} | _UNITS
    for line in lines:
        left, _, right = line.rpartition("=")
        for found in re.findall(r"\d+\.?\d*", left):
            value = number(found)
            if value is None or (value > 20 and value not in known and value / 100 not in known):
                return False
        known.add(number(right.lstrip("-")))
    return True


def marked(line: str) -> list[str]:
    """The equations of the marks of a line. `2(32)=<<64=64>>64` has the calculation before the mark."""
    found = []
    for match in _MARK.finditer(line):
        inside = match[1]
        written = equation(inside)
        if written is None:
            left, _, right = inside.rpartition("=")
            value = calculation(left)
            before = _MARK.sub("", line[: match.start()]).rstrip().rstrip("$").rstrip()
            if value is not None and before.endswith("="):
                tail = _BEFORE.search(before[:-1])
                written = equation(f"{tail[0]}={right}") if tail and tail[0].strip() else None
            if written is None and (value is None or value.num_operations or "=" not in inside):
                raise Unusable("a calculation that does not come out")
            if written is None:
                raise Unusable("a result that nothing calculates")
        found.append(written)
    return found


def unmarked(line: str) -> list[str]:
    """Equations of a line without marks, units left out: `800 calories/rabbit * 2 rabbits = 1600` -> 800*2=1600."""
    bare = re.sub(r"/?[A-Za-z]{2,}(?:/[A-Za-z]+)?", " ", line)
    found: list[str] = []
    end = 0
    for match in re.finditer(r"(?=([$\d.(][-+*/xX×÷−–().,$%\d\s]*)=\s*(\$?\s*-?[\d.,]+))", bare):
        if match.start() >= end:
            written = equation(f"{match[1]}={match[2].rstrip('.,')}")
            if written is not None:
                found.append(written)
                end = match.end(2)
    return found
