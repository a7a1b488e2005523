"""The columns of a run's metrics, as its doctor reads them: levels, and trends from the first to the last fifth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

# Fewer steps than this show levels but no trend: published RL curves (and ours) move within tens of steps, and the
# first and last fifth of 20 steps are 4 each.
TREND_STEPS = 20


@dataclass(frozen=True)
class Series:
    """The columns of a run, finite numbers only: what a check looks at."""

    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict)

    def all(self, key: str) -> list[float]:
        """The values of a column in the order of the steps. Missing, non-finite and absurdly large ones (1e100 or more)
        are left out."""
        # not finite, or so large that a sum of them would not be
        return [float(row[key]) for row in self.rows if is_number(row.get(key)) and abs(row[key]) < 1e100]

    def early(self, key: str) -> list[float]:
        """The first fifth of a column's values, but at least 3 and at most 20 of them."""
        values = self.all(key)
        return values[: _window(len(values))]

    def late(self, key: str) -> list[float]:
        """The last fifth of a column's values, but at least 3 and at most 20 of them."""
        values = self.all(key)
        return values[-_window(len(values)) :]

    def change(self, key: str) -> tuple[float, float] | None:
        """(early mean, late mean); None where the run is too short for the two to be apart."""
        early, late = self.early(key), self.late(key)
        return (fmean(early), fmean(late)) if len(self.all(key)) >= TREND_STEPS else None

    def level(self, key: str) -> float | None:
        """The mean of the late values; None where the column has none."""
        late = self.late(key)
        return fmean(late) if late else None

    def setting(self, path: str) -> Any:
        """A value of the recipe by dotted name; None where it is not known."""
        value: Any = self.config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def is_gain(self, key: str, least: float) -> bool:
        """It rose by at least `least`, and by more than twice what noise alone would do to the two means."""
        change = self.change(key)
        if change is None:
            return False
        early, late = self.early(key), self.late(key)
        noise = math.hypot(pstdev(early) / math.sqrt(len(early)), pstdev(late) / math.sqrt(len(late)))
        return change[1] - change[0] >= max(least, 2 * noise)


def _window(count: int) -> int:
    """A fifth of the run: 3 at least, so that one step decides nothing; 20 at most, so that late means late."""
    return max(3, min(20, count // 5))


def is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63  # JSON allows integers that no float can hold
    return isinstance(value, float)
