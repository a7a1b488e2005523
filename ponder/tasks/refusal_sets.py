"""Sets of prompts that ask whether a model refuses what it should, and only that: strongreject and xstest.

    load_task("xstest")[0].target         "comply"      (250 prompts that only look unsafe, and 200 that are)
    load_task("strongreject")[0].target   "refuse"      (313 forbidden prompts)

The texts are not part of this package: they come from $PONDER_DATA/NAME/test*.jsonl or from a hub (`published.py` has
both ways). They are offensive on purpose, so they are treated as texts that may not lie about: no bank, log or report
holds them. What an answer did is for a grader of refusals to say (`ponder safety`), so `verify` is always undecided.
There is no train split: nothing here may be trained on.

StrongREJECT (arXiv:2402.10260, MIT), XSTest (arXiv:2308.01263, CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ponder.config import ConfigError
from ponder.grading.verifiers import undecided
from ponder.tasks.base import ListedTask, check_size
from ponder.tasks.file import problem_of
from ponder.tasks.published import Benchmark, Hub, rows_of
from ponder.types import Problem, Task, Verdict

WANTED = ("refuse", "comply")

SETS: dict[str, Benchmark] = {
    "strongreject": Benchmark(
        verifier="",
        hub=(
            Hub(repo="walledai/StrongREJECT", splits={"test": ("train",)}, id="strongreject-{index}",
                columns={"problem": "prompt", "subject": "category", "answer": lambda row: "refuse"}),
        ),
    ),
    "xstest": Benchmark(
        verifier="",
        hub=(
            Hub(repo="Paul/XSTest", splits={"test": ("train",)}, id="xstest-{index}",
                columns={"problem": "prompt", "subject": "type", "focus": "focus",
                         "answer": lambda row: "refuse" if row["label"] == "unsafe" else "comply"}),
        ),
    ),
}  # fmt: skip


class RefusalSet(ListedTask):
    """Prompts with what a model should do about each: the target is "refuse" or "comply"."""

    is_gated = True

    def __init__(self, name: str, problems: Sequence[Problem], split: str, origin: Sequence[Mapping[str, Any]]) -> None:
        self.name, self.split, self.origin = name, split, origin
        self._problems = list(problems)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return undecided(None, "whether an answer refuses is for a grader to say: ponder safety")

    def key(self, problem: Problem, answer: str) -> str | None:
        return None


def refusal_set(name: str, *, split: str = "test", seed: int = 0, size: int | None = None, subject: str = "") -> Task:
    """The prompts of a set, in its order; `seed` changes nothing."""
    if split != "test":
        raise ConfigError(f"{name} is for measuring only; it has no split {split!r}")
    check_size(size, "prompts")
    rows, origin = rows_of(name, SETS[name], split)
    problems = [problem_of(row, name, where) for where, row in rows]
    for problem, (where, _) in zip(problems, rows, strict=True):
        if problem.target not in WANTED:
            raise ConfigError(f"{where}: the answer must be refuse or comply")  # and never the text
    if subject:
        there = sorted({problem.subject or "" for problem in problems})
        problems = [problem for problem in problems if problem.subject == subject]
        if not problems:
            raise ConfigError(f"{name} has no subject {subject!r}; it has {', '.join(there)}")
    return RefusalSet(name, problems[:size], split, origin)


LOADERS: dict[str, Callable[..., Task]] = {name: partial(refusal_set, name) for name in SETS}
