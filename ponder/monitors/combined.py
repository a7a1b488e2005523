"""Several monitors under one review budget: the share of clean completions that may be flagged for people.

    monitor = await combine([rules, trigrams, model], clean, budget=0.02)

A member's suspicion is replaced by how few clean completions reach it, so that unlike scales can be compared, and the
largest of them counts: each member catches what the others miss (arXiv:2507.15886). The threshold is set so that at
most the budget of the clean completions is flagged. A member that cannot tell is left out of that judgement; where none
can, neither can the whole ("error").
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from ponder.config import ConfigError
from ponder.monitors.base import Judgement, Monitor, Suspicion, Transcript
from ponder.monitors.learned import lowest_threshold


class Combined(Monitor):
    """What `combine` makes. threshold: of `rare`, so from 0 to 2."""

    view = "both"  # each member reads its own

    def __init__(
        self, members: Sequence[Monitor], clean: Sequence[Sequence[float]], threshold: float, *, name: str = "combined"
    ) -> None:
        """clean: for each member, its suspicions of clean completions, sorted."""
        self._members, self._clean, self.threshold, self.name = tuple(members), clean, threshold, name

    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement:
        return self._joined([await member(segment, context) for member in self._members])

    async def read(self, transcript: Transcript) -> Judgement:
        return self._joined([await member.read(transcript) for member in self._members])

    def _joined(self, judgements: Sequence[Judgement]) -> Judgement:
        rarity = [
            rare(value, clean)
            for each, clean in zip(judgements, self._clean, strict=True)
            if clean and (value := _opened(each)) is not None
        ]
        if not rarity:
            return Judgement("error", "no member could tell")
        value = max(rarity)
        return Judgement("flag" if value >= self.threshold else "allow", suspicion=Suspicion(value))


def rare(value: float, clean: Sequence[float]) -> float:
    """The share of clean suspicions below this one; beyond all of them 1 and up to 1 more, by how far.

    Without the last, everything beyond would be as suspicious as anything else there, and no threshold could part it.
    """
    beyond = value - clean[-1]
    return 2 - 1 / (1 + beyond) if beyond > 0 else bisect_left(clean, value) / len(clean)  # infinity is 2


def _opened(judgement: Judgement) -> float | None:
    """Its number; None where it could not tell."""
    value = math.nan if judgement.suspicion is None else judgement.suspicion.open()
    return None if math.isnan(value) else value


async def combine(members: Sequence[Monitor], clean: Sequence[Transcript], *, budget: float) -> Combined:
    """The members' suspicions of clean completions, and the threshold that keeps to the budget on them."""
    if not members or not clean:
        raise ConfigError("a combination needs monitors, and clean completions to set its threshold by")
    if not 0 <= budget < 1:
        raise ConfigError(f"budget={budget} must lie in [0, 1): the share of clean completions that may be looked at")
    judged = [[await member.read(each) for each in clean] for member in members]
    known = [sorted(value for each in row if (value := _opened(each)) is not None) for row in judged]
    whole = Combined(members, known, threshold=2.0)
    values = [
        each.suspicion.open() for row in zip(*judged, strict=True) if (each := whole._joined(row)).suspicion is not None
    ]
    return Combined(members, known, lowest_threshold(values, budget))
