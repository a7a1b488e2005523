"""Effort levels as points of a measured curve: what `ponder scale` publishes and `ponder serve` reads.

    efforts = Efforts.choose(points, task="arithmetic", policy=fingerprint)      # points: what was measured
    efforts.write("runs/demo/scale/efforts.json")
    find(Path("runs/demo/checkpoints/step_00120"), policy=lambda: fingerprint)   # -> Efforts, or None

A point is a way of spending (reasoning at most, samples voted over) with the accuracy it gave and the tokens it cost,
prompt included. Levels are points of the frontier only: each costs more than the one before it and is more often right.
Where the frontier has fewer points than there are levels, neighbours share one. No effort at all, `none`, is no level.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.runs import write_atomic

LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
FILE = "efforts.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way of spending, measured."""

    max_reasoning_tokens: int
    n: int = 1  # samples, of which a vote is taken
    tokens: float  # a problem's mean cost
    accuracy: float
    low: float  # its 95 % interval
    high: float

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_reasoning_tokens < 0 or not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(f"{self} is no measurement")

    @property
    def mode(self) -> str:
        return "standard" if self.n == 1 else "consensus"


@dataclass(frozen=True, kw_only=True)
class Efforts:
    """The point of each level, and what it was measured on."""

    task: str
    num_problems: int
    policy: str  # fingerprint of the weights
    levels: dict[str, Point]

    @classmethod
    def choose(cls, points: Sequence[Point], *, task: str, num_problems: int, policy: str) -> Efforts:
        """Levels spread evenly over the frontier, its ends included."""
        ends = frontier(points)
        places = [round(place * (len(ends) - 1) / (len(LEVELS) - 1)) for place in range(len(LEVELS))]
        levels = {level: ends[place] for level, place in zip(LEVELS, places, strict=True)}
        return cls(task=task, num_problems=num_problems, policy=policy, levels=levels)

    def write(self, path: Path) -> None:
        write_atomic(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))

    @classmethod
    def read(cls, path: Path) -> Efforts:
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            if data.pop("format") != FORMAT:
                raise ValueError("it has another format")
            levels = {name: Point(**data["levels"][name]) for name in LEVELS}
            return cls(**{**data, "levels": levels})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} holds no effort levels ({error}); delete it or run ponder scale again") from None


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that are worth their cost, cheapest first."""
    if not points:
        raise ValueError("no point was measured")
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.tokens, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def find(folder: Path, *, policy: Callable[[], str]) -> Efforts | None:
    """The levels of a model: beside its weights, or in the run that it is a checkpoint of. Levels that were measured on
    other weights are not this model's."""
    for path in (folder / FILE, folder.parent.parent / "scale" / FILE):
        if path.exists():
            efforts = Efforts.read(path)
            if efforts.policy == policy():
                return efforts
    return None
