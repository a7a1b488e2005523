"""Monitors read the hidden reasoning while it is written: `await monitor(segment, context) -> Judgement`.

allow, flag (noted, counted, shown to the administrator) or stop (the response fails with a policy code). A monitor has
a deadline; one that is late or raises counts as "error", which allows unless the server is set to fail closed.
Verdicts never reach training: optimising against a monitor teaches to hide (arXiv:2503.11926).

    class Mine:
        name = "mine"
        async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement: ...
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ponder.config import lookup

Action = Literal["allow", "flag", "stop", "error"]


@dataclass(frozen=True)
class Judgement:
    action: Action
    note: str = ""  # for the administrator; it should not quote the reasoning


class Monitor(Protocol):
    name: str

    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement: ...


class Rules:
    """Flags or stops on patterns. The shipped ones speak of deceiving the user or the overseer; a rule reads words, not
    intentions, and is a floor under better monitors."""

    name = "rules"
    FLAG = (
        r"\b(?:deceive|mislead|trick|fool|manipulate) (?:the )?(?:user|human|developer|them)\b",
        r"\b(?:hide|conceal) (?:this|it|that|my \w+) from (?:the )?(?:user|human|developer|them)\b",
        r"\bpretend (?:that )?i (?:did|have|ran|checked|looked)\b",
        r"\bmake up (?:a|the|some) (?:source|reference|citation|link|url)s?\b",
        r"\b(?:disable|evade|avoid) (?:the )?(?:monitor|oversight|logging)\b",
        r"\b(?:hard-?code|special-?case) the tests?\b",
    )

    def __init__(self, flag: Sequence[str] = FLAG, stop: Sequence[str] = ()) -> None:
        self._rules: list[tuple[Action, re.Pattern[str]]] = [
            *(("stop", re.compile(rule, re.IGNORECASE)) for rule in stop),  # type: ignore[list-item]
            *(("flag", re.compile(rule, re.IGNORECASE)) for rule in flag),  # type: ignore[list-item]
        ]

    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement:
        for number, (action, pattern) in enumerate(self._rules):
            if pattern.search(segment):
                return Judgement(action, f"rule {number}")
        return Judgement("allow")


MONITORS: dict[str, type[Monitor]] = {"rules": Rules}


def load_monitors(names: Sequence[str]) -> tuple[Monitor, ...]:
    """Monitors by name, or anything importable as module:attr that makes one when called; "none" is no monitor."""
    return tuple(lookup(MONITORS, name, what="monitor")() for name in names if name != "none")


async def ask_monitor(
    monitor: Monitor, segment: str, context: Mapping[str, str], *, deadline: float, fail_closed: bool
) -> Judgement:
    """A monitor's judgement within its deadline."""
    try:
        async with asyncio.timeout(deadline):
            return await monitor(segment, context)
    except TimeoutError:
        note = f"no verdict within {deadline:g} s"
    except Exception as error:  # a plug-in: whatever it raises is its failure, not the response's
        note = type(error).__name__
    return Judgement("stop" if fail_closed else "error", note)
