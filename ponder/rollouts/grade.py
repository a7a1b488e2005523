"""Verdicts on the completions of a problem: many at once, with a timeout and one error policy.

    verdicts = await grade(task, problem, completions)            # one a completion, in their order
    verdicts = await grade(task, problem, completions, keys=True) # with the equivalence class of each answer

Every verdict is one of four, and every caller counts the same four:

    correct    the verifier says so
    wrong      the verifier says so; or there is no answer; or a budget cut the completion inside its answer
    undecided  the verifier says that it cannot tell; or the completion was given up, so there is nothing to tell
    failed     the verifier raised, took longer than the timeout, or gave back something that is no verdict

Undecided and failed are never a reward of 0: the rollout leaves its group. `refuse_failing` stops a job whose verifier
keeps failing.

A verifier is a plain function, called in threads (so it must not change what it shares), or a coroutine function,
awaited here: one that asks a model or runs programs. Many calls are under way at once, so a verifier that waits a
second a completion holds up neither others nor the sampling of other groups. A plain function that hangs cannot be
stopped from outside: its thread is abandoned. What may hang for good belongs in a child process that can be killed
(`grading/killable.py`), as ponder's own verifiers do it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from ponder.grading import counted_answer
from ponder.rewarding import MonitorInReward, rewarding
from ponder.rollouts.threads import call_each
from ponder.types import Completion, Outcome, Problem, Task, Verdict

TIMEOUT = 60.0  # seconds for one call of a verifier, from its start
CONCURRENCY = 512  # coroutines of verifiers under way at once
MAX_FAILED = 0.1  # of the completions graded so far: more failures stop a job
FEW = 16  # ... once so many were graded
CUT = "a budget cut the completion inside its answer"
GIVEN_UP = "the completion was given up before its end"

_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass
class Tally:
    """How many verdicts there were of each outcome, and what the last failure was."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    last_failure: str = ""

    def add(self, verdict: Verdict) -> None:
        self.counts[verdict.outcome] += 1
        if verdict.outcome == "failed":
            self.last_failure = verdict.note

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.counts + other.counts, other.last_failure or self.last_failure)

    @property
    def total(self) -> int:
        return self.counts.total()


async def grade(
    task: Task, problem: Problem, completions: Sequence[Completion], *, keys: bool = False, timeout: float = TIMEOUT
) -> list[Verdict]:
    """One verdict a completion. keys: also the equivalence class of each answer, for votes (`Verdict.key`).

    A task that runs programs may say that it takes longer: `patience`, in seconds. A verifier that asks a monitor is
    refused (MonitorInReward), whoever grades.
    """
    with rewarding("verification"):
        return await _graded(task, problem, completions, keys=keys, timeout=timeout)


async def _graded(
    task: Task, problem: Problem, completions: Sequence[Completion], *, keys: bool, timeout: float
) -> list[Verdict]:
    timeout = max(timeout, task.patience)
    answers = [counted_answer(completion) for completion in completions]
    is_given_up = [completion.finish_reason == "cancelled" for completion in completions]
    there = [i for i, answer in enumerate(answers) if answer.strip() and not is_given_up[i]]
    found = await call_each(lambda i: task.verify(problem, answers[i]), there, timeout=timeout)
    if any(map(inspect.isawaitable, found)):
        found = await asyncio.gather(*(_awaited(value, timeout) for value in found))
    verdicts = [
        Verdict(outcome="undecided", reward=0.0, note=GIVEN_UP) if given_up
        else Verdict(outcome="wrong", reward=0.0, note=CUT if completion.answer.strip() else "")
        for completion, given_up in zip(completions, is_given_up, strict=True)
    ]  # fmt: skip
    for i, value in zip(there, found, strict=True):
        verdicts[i] = value if isinstance(value, Verdict) else _failed(problem, value)
    if keys:
        known = [i for i in there if verdicts[i].outcome != "failed"]
        classes = await call_each(lambda i: task.key(problem, answers[i]), known, timeout=timeout)
        for i, key in zip(known, classes, strict=True):
            verdicts[i] = _failed(problem, key) if isinstance(key, Exception) else replace(verdicts[i], key=key)
    return verdicts


async def _awaited(value: Any, timeout: float) -> Any:
    """What a coroutine comes to, or the Exception it raises; anything else as it is."""
    if not inspect.isawaitable(value):
        return value
    try:
        async with _limit(), asyncio.timeout(timeout):
            return await value
    except TimeoutError:
        return TimeoutError(f"it took longer than {timeout:g} s")
    except Exception as error:  # whatever a verifier may raise
        return error


def _failed(problem: Problem, result: Any) -> Verdict:
    """result: what came instead of a verdict, an Exception or a value of another type."""
    if isinstance(result, MonitorInReward):
        raise result
    error = result if isinstance(result, Exception) else TypeError(f"it returned {type(result).__name__}, no Verdict")
    note = f"the verifier failed on problem {problem.id}: {type(error).__name__}: {error}"
    return Verdict(outcome="failed", reward=0.0, note=note[:500])


def refuse_failing(tally: Tally, *, most: float = MAX_FAILED, few: int = FEW) -> None:
    """Raise RuntimeError where more than the share `most` failed: a fault to fix, not something to learn from."""
    failed, total = tally.counts["failed"], tally.total
    if failed > most * total and total >= few:
        raise RuntimeError(f"the verifier failed on {failed} of {total} completions. The last: {tally.last_failure}")


def _limit() -> asyncio.Semaphore:
    """Of the running event loop: a semaphore belongs to one."""
    return _limits.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(CONCURRENCY))
