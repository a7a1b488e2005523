"""Two parts of every set of exam problems: one to choose by, one to report.

    task = Part(load_task("gsm8k"), "report")         # ponder eval --task gsm8k --part report

What chose something (a step, a checkpoint, a temperature, a cap) is too good on the problems that it was chosen by: a
number of ours fell from 11.4 to 8.0 % on others. So what chooses looks at `dev`, and what is printed is measured once,
at the end, on `report`. Which is which depends on a problem's own id alone, so that it never moves: two fifths are dev,
by a hash. Where problems had chosen things before there were parts, they are dev (`CHOSEN`).
"""

from __future__ import annotations

import hashlib
import re

from ponder.config import ConfigError, lookup
from ponder.tasks.base import SelectedTask
from ponder.types import Problem, Task

PARTS = ("dev", "report")
DEV_SHARE = 0.4
CHOSEN = {r"(.*/)?gsm8k-test-(\d+)": 390}  # ids, the number that is their second group -> the last that chose anything


def part_of(problem: Problem) -> str:
    """dev or report: by a hash of the id, or by what was chosen on before there were parts (CHOSEN)."""
    own = problem.id.removeprefix(f"{problem.task}/")  # a mixture puts the task before it
    for pattern, last in CHOSEN.items():
        if match := re.fullmatch(pattern, own):
            return "dev" if int(match[2]) <= last else "report"
    number = int.from_bytes(hashlib.blake2b(own.encode(), digest_size=8).digest(), "big")
    return "dev" if number < DEV_SHARE * 2**64 else "report"


def with_part(task: str, part: str) -> str:
    """What an exam of a part is called: "gsm8k, dev part"."""
    return f"{task}, {part} part"


def split_part(name: str) -> tuple[str, str | None]:
    """ "gsm8k, dev part" -> ("gsm8k", "dev"); a name without a part -> (name, None)."""
    for part in PARTS:
        if name.endswith(own := with_part("", part)):
            return name.removesuffix(own), part
    return name, None


class Part(SelectedTask):
    """The problems of one part of a task, in its order."""

    def __init__(self, task: Task, part: str) -> None:
        lookup(dict.fromkeys(PARTS, True), part, what="part")
        super().__init__(task, [index for index in range(len(task)) if part_of(task[index]) == part])
        if not len(self):
            raise ConfigError(f"none of the {len(task)} problems of {task.name} is in the part {part!r}; leave it out")
