"""Effort levels as points of a measured curve: what `ponder scale` publishes and `ponder serve` reads.

    efforts = Efforts.choose(points, pays=pays, task="arithmetic", num_problems=120, policy=fingerprint)
    efforts.write("runs/demo/scale/efforts.json")
    find(Path("runs/demo/checkpoints/step_00120"), policy=lambda: fingerprint)   # -> Efforts, or None

A point is a way of spending (reasoning at most, samples voted over) with the accuracy it gave and the tokens it cost,
prompt included. Levels are points of the frontier only: each costs more than the one before it and gives more by more
than noise. `medium`, the default, is the best single sample that pays; below it are shorter ones, above it votes.
Where there are fewer points than levels, neighbours share one. No effort at all, `none`, is no level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import write_atomic

LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
FILE = "efforts.json"
FORMAT = 2  # 1: levels of any gain, votes of two among them; they are chosen again when read
MIN_VOTE = 3  # a vote of two is a vote of one, and a tie


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way of spending, measured."""

    max_reasoning_tokens: int
    n: int = 1  # samples, of which a vote is taken
    tokens: float  # a problem's mean cost
    accuracy: float
    low: float  # its 95 % interval
    high: float
    answer_tokens: float | None = None  # a sample's mean after the reasoning, marks included

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_reasoning_tokens < 0 or not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(f"{self} is no measurement")

    @property
    def mode(self) -> str:
        """The strategy that spends so: one sample, or a vote."""
        return "standard" if self.n == 1 else "consensus"


Pays = Callable[[Point, Point], bool]  # whether the second gives more than the first, beyond noise


def beyond_intervals(cheap: Point, dear: Point) -> bool:
    """Where nothing but the two intervals is known: the gain is larger than 95 % of the noise of both together."""
    noise = math.hypot(cheap.high - cheap.low, dear.high - dear.low) / 2
    return dear.accuracy - cheap.accuracy > noise


@dataclass(frozen=True, kw_only=True)
class Efforts:
    """The point of each level, and what it was measured on."""

    task: str
    num_problems: int
    policy: str  # fingerprint of the weights
    levels: dict[str, Point]
    verifier: str = ""  # that it was measured with, so that a served vote goes by its key; "" = not recorded

    @classmethod
    def choose(
        cls,
        points: Sequence[Point],
        *,
        task: str,
        num_problems: int,
        policy: str,
        verifier: str = "",
        pays: Pays = beyond_intervals,
    ) -> Efforts:
        """`medium` is the last single sample of the frontier; the others are spread evenly on either side of it, the
        ends included."""
        kept = frontier(points, pays)
        middle = max((index for index, point in enumerate(kept) if point.n == 1), default=0)
        default = LEVELS.index("medium")
        indices = [round(level * middle / default) for level in range(default)]
        above = len(LEVELS) - 1 - default
        indices += [middle + round(level * (len(kept) - 1 - middle) / above) for level in range(above + 1)]
        levels = {level: kept[index] for level, index in zip(LEVELS, indices, strict=True)}
        return cls(task=task, num_problems=num_problems, policy=policy, verifier=verifier, levels=levels)

    def write(self, path: Path) -> None:
        write_atomic(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))

    @classmethod
    def read(cls, path: Path) -> Efforts:
        """ConfigError where the file is missing or damaged. Levels of an older format are chosen again from their
        points."""
        try:
            data: dict[str, Any] = json.loads(path.read_bytes())
            written = data.pop("format")
            if written not in (1, FORMAT):
                raise ValueError("it has another format")
            levels = {name: Point(**data["levels"][name]) for name in LEVELS}
            if written == 1:
                del data["levels"]
                return cls.choose(list(dict.fromkeys(levels.values())), **data)
            return cls(**{**data, "levels": levels})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{path} holds no effort levels ({error}); delete it or run ponder scale again") from None


def frontier(points: Sequence[Point], pays: Pays = beyond_intervals) -> list[Point]:
    """The points that are worth their cost, cheapest first: each is better than the one before it by more than noise.
    Between two that are equally good the cheaper one stands, and votes of two are not looked at."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.tokens, -point.accuracy)):
        if 1 < point.n < MIN_VOTE:
            continue
        if not kept or (point.accuracy > kept[-1].accuracy and pays(kept[-1], point)):
            kept.append(point)
    if not kept:
        raise ValueError("no point was measured")
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
