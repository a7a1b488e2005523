"""What a task is: the facts that all have, adapters for tasks from elsewhere, wrappers, mixtures, procedural families.

A task is a sequence of problems (`task[17]` is the same problem on any machine) with a verifier; `specs.py` loads one
by its name. Splits of procedural families are disjoint by construction: a problem belongs to a split by a hash of its
text, so no seed and no difficulty can bring an evaluation item into training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from ponder import __version__
from ponder.config import ConfigError
from ponder.grading.handed_in import now_or_later
from ponder.grading.verifiers import VERIFIERS, name_of
from ponder.types import Message, Problem, Task, Verdict, Verifier

SPLITS = ("train", "dev", "test")
_SHARES = (("test", 0.1), ("dev", 0.2), ("train", 1.0))  # upper bounds on the hash of the text


def split_of(text: str) -> str:
    """The split a problem text belongs to: 80 % train, 10 % dev, 10 % test, by hash and nothing else."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return next(split for split, bound in _SHARES if share < bound)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A procedural problem before it is given an id: what `make(rng, level)` of a family returns."""

    text: str
    target: str
    meta: dict[str, Any]


VOTE = "math"  # when answers are the same where a task does not say


class BaseTask:
    """The default facts of a task."""

    name: str
    split: str
    origin: Sequence[Mapping[str, Any]] = ()
    is_gated: bool = False
    prompting: str = "none"
    grader_version: str = f"ponder {__version__}"
    verifier: str = ""
    patience: float = 0.0  # seconds that one verification may take, where that is more than `grade` allows anyway


class ListedTask(BaseTask):
    """A task whose problems are all there, in their order."""

    _problems: Sequence[Problem]

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._problems[index]


class AdaptedTask(BaseTask):
    """A task from elsewhere, with defaults for facts that it lacks; its `verify` may return what `as_verdict` takes."""

    def __init__(self, made: Any, *, name: str, split: str) -> None:
        self._made = made
        self.name, self.split = getattr(made, "name", name), getattr(made, "split", split)
        self._has_key = hasattr(made, "key")
        self.origin = getattr(made, "origin", self.origin)
        self.is_gated = getattr(made, "is_gated", self.is_gated)
        self.prompting = getattr(made, "prompting", self.prompting)
        self.grader_version = str(getattr(made, "grader_version", self.grader_version))
        self.patience = float(getattr(made, "patience", self.patience))
        named = getattr(made, "verifier", "" if self._has_key else VOTE)
        self.verifier = named if isinstance(named, str) else ""  # a user's own may hold the function

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index: int) -> Problem:
        problem: Problem = self._made[index]
        # a mixture finds the task of a problem by its name
        return problem if hasattr(self._made, "name") else replace(problem, task=self.name)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        found: Verdict = now_or_later(self._made.verify(problem, answer), f"the verifier of {self.name}")
        return found

    def key(self, problem: Problem, answer: str) -> str | None:
        key: str | None = (self._made if self._has_key else VERIFIERS[VOTE]).key(problem, answer)
        return key


def as_task(made: Any, *, name: str = "", split: str = "test") -> Task:
    """A task with all that `Task` declares: one of ponder's as it is, any other adapted.

    name, split: of one that does not say them. Without a key of its own answers are the same by their mathematics.
    """
    if isinstance(made, BaseTask):
        return made  # type: ignore[return-value]
    return AdaptedTask(made, name=name or type(made).__name__, split=split)


class TaskWrapper(BaseTask):
    """Another task's problems, checked as there. A subclass says which, or how they are asked."""

    def __init__(self, task: Task) -> None:
        self._task = task = as_task(task)
        self.name, self.split, self.origin, self.is_gated = task.name, task.split, task.origin, task.is_gated
        self.grader_version, self.verifier, self.prompting = task.grader_version, task.verifier, task.prompting
        self.patience = task.patience

    def __len__(self) -> int:
        return len(self._task)

    def __getitem__(self, index: int) -> Problem:
        return self._task[index]

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self._task.verify(problem, answer)

    def key(self, problem: Problem, answer: str) -> str | None:
        return self._task.key(problem, answer)


class SelectedTask(TaskWrapper):
    """Some of another task's problems, in the order of these indices."""

    def __init__(self, task: Task, indices: Sequence[int]) -> None:
        super().__init__(task)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._task[self._indices[index]]


class ProceduralTask(BaseTask):
    """A family of generated problems with a difficulty dial.

    Item i is drawn from `Random(f"{seed}/{name}/{split}/{i}")`; its level cycles through `levels`, so any prefix is
    balanced. Draws whose text hashes to another split are thrown away.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Random, int], Item],
        verifier: Verifier,
        key: Callable[[Problem, str], str | None],
        *,
        levels: Sequence[int],
        split: str = "test",
        seed: int = 0,
        size: int = 500,
    ) -> None:
        check_split(split)
        for dial, value, min_value in (("size", size, 1), ("seed", seed, 0)):
            if not isinstance(value, int) or value < min_value:
                raise ConfigError(f"{dial}={value} must be a whole number of {min_value} or more")
        self.name, self.split, self.seed, self.levels, self._size = name, split, seed, tuple(levels), size
        self._make, self._verifier, self._key = make, verifier, key
        self.verifier = name_of(verifier)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self._size:
            raise IndexError(index)
        level = self.levels[index % len(self.levels)]
        rng = Random(f"{self.seed}/{self.name}/{self.split}/{index}")
        for _ in range(10_000):
            item = self._make(rng, level)
            if split_of(item.text) == self.split:
                break
        else:
            raise ConfigError(f"{self.name} level {level} has too few problems for the split {self.split!r}")
        return Problem(
            id=f"{self.name}/{self.split}/{self.seed}/{index}",
            prompt=(Message(role="user", content=item.text),),
            target=item.target,
            task=self.name,
            level=level,
            meta=item.meta,
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self._verifier(problem, answer)

    def key(self, problem: Problem, answer: str) -> str | None:
        return self._key(problem, answer)


class Mixture(BaseTask):
    """Several tasks as one; items are taken in turn from each (weights: how many of each per turn)."""

    def __init__(self, tasks: Sequence[Task], weights: Sequence[int] | None = None) -> None:
        weights = list(weights or [1] * len(tasks))
        if not tasks or len(weights) != len(tasks) or min(weights) < 1:
            raise ConfigError("a mixture needs at least one task, and a whole weight of 1 or more for each")
        self.tasks = [as_task(task) for task in tasks]
        self.name, self.split = "+".join(task.name for task in tasks), tasks[0].split
        self.origin = [row for task in self.tasks for row in task.origin]
        self.is_gated = any(task.is_gated for task in self.tasks)
        self.patience = max(task.patience for task in self.tasks)
        self.grader_version = ", ".join(sorted({task.grader_version for task in self.tasks}))
        rules = {task.verifier for task in self.tasks}  # one rule for all of it, or none
        self.verifier = rules.pop() if len(rules) == 1 else ""
        self._turn = [i for i, weight in enumerate(weights) for _ in range(weight)]
        self._offsets = [self._turn[:j].count(i) for j, i in enumerate(self._turn)]
        self._weights = weights
        # the mixture ends with the first task that runs out, so no task is seen more often than its weight says
        self._rounds = min(len(task) // weight for task, weight in zip(tasks, weights, strict=True))
        if self._rounds == 0:
            raise ConfigError("a task of the mixture has fewer items than its weight")

    def __len__(self) -> int:
        return self._rounds * len(self._turn)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        turn, position = divmod(index, len(self._turn))
        which = self._turn[position]
        problem = self.tasks[which][turn * self._weights[which] + self._offsets[position]]
        # two files may both have a problem "1"; procedural ids begin with the name of their task anyway
        is_named = problem.id.startswith(f"{problem.task}/")
        return problem if is_named else replace(problem, id=f"{problem.task}/{problem.id}")

    def _task_of(self, problem: Problem) -> Task:
        found = next((task for task in self.tasks if task.name == problem.task), None)
        if found is None:
            raise ConfigError(f"{problem.id} is of {problem.task!r}, and the mixture of {self.name}")
        return found

    def verify(self, problem: Problem, answer: str) -> Verdict:
        return self._task_of(problem).verify(problem, answer)

    def key(self, problem: Problem, answer: str) -> str | None:
        return self._task_of(problem).key(problem, answer)


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """ "arithmetic:level=3-6,size=200" -> ("arithmetic", {"level": "3-6", "size": 200})."""
    name, _, dials = spec.partition(":")
    values: dict[str, Any] = {}
    for part in filter(None, dials.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"task {spec!r}: {part!r} is not dial=value, as in {name}:level=3-6,size=200")
        values[key.strip()] = int(value) if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value) else value.strip()
    return name, values


def check_split(split: str) -> None:
    """ConfigError for a split that no task has."""
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")


def check_size(size: Any, what: str = "problems") -> None:
    """ConfigError for a number of first problems that leaves none; None is all of them."""
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ConfigError(f"size={size} leaves no {what}; use at least 1")


def level_range(level: int | str | None, default: Sequence[int]) -> tuple[int, ...]:
    """The levels of a dial: None -> default, 4 -> (4,), "3-6" -> (3, 4, 5, 6)."""
    if level is None:
        return tuple(default)
    low, _, high = str(level).partition("-")
    if not all(0 < len(end) < 4 and end.isdecimal() for end in (low, high or low)):  # no task has so many
        raise ConfigError(f"level={str(level)[:40]} is not a level or a range such as 3-6")
    levels = tuple(range(int(low), int(high or low) + 1))
    if not levels:
        raise ConfigError(f"level={level} is an empty range; put the smaller level first")
    return levels


def problems_hash(problems: Iterable[Problem]) -> str:
    """Of everything that is asked and checked, in its order."""
    digest = hashlib.sha256()
    for problem in problems:
        prompt = [(message.role, message.content) for message in problem.prompt]
        row = [problem.id, prompt, problem.target, problem.level, problem.subject, problem.choices, dict(problem.meta)]
        # what is not plain data has an address in its text, which is another one in the next process
        digest.update(json.dumps(row, skipkeys=True, default=lambda value: type(value).__name__).encode() + b"\n")
    return digest.hexdigest()
