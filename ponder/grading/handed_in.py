"""Verifiers handed in by users: what they may return, and the key by which their answers vote.

    as_verdict(True)  -> correct, reward 1.0
    as_verdict(0.25)  -> not correct, reward 0.25
    keyed(function)   -> function as a verifier with a key

A verifier is any function, or coroutine function, (problem, answer) -> bool, a number from 0 to 1, or a Verdict.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from numbers import Real
from typing import Any

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS, KeyedVerifier, verdict
from ponder.types import Problem, Verdict

ACCEPTED = "a bool, a number from 0 to 1 (the reward; 1 is correct), or a ponder.types.Verdict"


def as_verdict(value: object, name: str = "the verifier") -> Verdict:
    """The verdict that a verifier's return value stands for; TypeError or ValueError names the function otherwise.

    A number between 0 and 1 is a partial reward of an answer that is not correct.
    """
    if isinstance(value, Verdict):
        return value
    if hasattr(value, "item") and getattr(value, "size", 2) == 1:  # a number of numpy
        value = value.item()
    if isinstance(value, bool):
        return verdict(value, None)
    if not isinstance(value, Real):
        raise TypeError(f"{name} returned {value!r:.80} ({type(value).__name__}); it must return {ACCEPTED}")
    reward = float(value)
    if math.isnan(reward) or not 0 <= reward <= 1:
        raise ValueError(f"{name} returned {value!r}; it must return {ACCEPTED}")
    return replace(verdict(reward == 1, None), reward=reward)


def now_or_later(returned: Any, name: str) -> Any:
    """`as_verdict` of what a verifier returned; of a coroutine one that comes to it, which `rollouts.grade` awaits."""

    async def later() -> Verdict:
        return as_verdict(await returned, name)

    return later() if inspect.isawaitable(returned) else as_verdict(returned, name)


class _HandedIn:
    """A function of a user as a verifier. Without a key of its own answers vote by their mathematics, as in `math`."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function, self._name = function, name
        self._key = getattr(function, "key", None)

    def __call__(self, problem: Problem, answer: str) -> Any:
        return now_or_later(self._function(problem, answer), self._name)

    def key(self, problem: Problem, answer: str) -> str | None:
        return self._key(problem, answer) if self._key is not None else VERIFIERS["math"].key(problem, answer)


def keyed(function: Callable[..., Any], name: str = "") -> KeyedVerifier:
    """A function (problem, answer) as a verifier with a key; one of ponder's own as it is."""
    if any(function is own for own in VERIFIERS.values()):
        return function  # type: ignore[return-value]
    name = name or f"the verifier {getattr(function, '__name__', type(function).__name__)}"
    if not callable(function) or isinstance(function, type):
        raise ConfigError(f"{name} is no function; a verifier is called as (problem, answer) and returns {ACCEPTED}")
    return _HandedIn(function, name)


def tried(verifier: KeyedVerifier, problem: Problem, name: str) -> KeyedVerifier:
    """The same verifier, after one call on a problem's own target: what fails there fails at the door."""
    try:
        returned: Any = verifier(problem, problem.target)
        if inspect.iscoroutine(returned):
            with ThreadPoolExecutor(max_workers=1) as thread:  # an event loop may be running in this one
                thread.submit(asyncio.run, returned).result()
    except Exception as error:  # a user's code may raise anything; here it is told with its name, later it is counted
        raise ConfigError(
            f"{name} failed on its first call, (problem {problem.id!r}, its own target): "
            f"{type(error).__name__}: {error}"
        ) from error
    return verifier
