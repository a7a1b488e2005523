"""Percentiles of a rating, in populations that have a name.

    [str(each) for each in percentiles(1673)]
    -> ["above 92.8 % of 717,421 rated users (CodeElo's list, published 2025-01)", "above 83.6 % of 60,139 rows ..."]

The population matters more than anything else: 808 is above 31 % of everybody who was ever rated, above 1 % of those
who took part in six rounds, and published as the 11th percentile. So a percentile is never shown without the name of
its population, and always beside the other one. The tables are 50 quantiles each: within 0.1 points of percent of the
full lists almost everywhere, and within 2.4 where many people stand at one value (newcomers).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Population:
    """Quantiles of ratings: `values[i]` is the rating that `SHARES[i]` percent do not exceed."""

    name: str
    date: str
    size: int
    source: str
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Which share of a population a rating is above; at the ends of the table only that it is beyond."""

    percent: float
    low: float  # of the ends of the rating's interval; of a rating without one, percent itself
    high: float
    beyond: str  # "below" or "above" the ends of the table; else ""
    population: str
    date: str
    size: int

    def __str__(self) -> str:
        sign = {"below": "less than ", "above": "more than ", "": ""}[self.beyond]
        ends = f" ({_shown(self.low)} to {_shown(self.high)})" if self.low < self.high else ""
        return f"above {sign}{_shown(self.percent)}{ends} % of {self.size:,} {self.population} ({self.date})"


SHARES = (
    0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 82.5, 85, 87.5,
    90, 91, 92, 93, 94, 95, 95.5, 96, 96.5, 97, 97.5, 98, 98.5, 99, 99.3, 99.5, 99.7, 99.8, 99.9, 99.95, 99.98, 99.99,
)  # fmt: skip

# made by `python bench/contest.py --populations`
POPULATIONS = (
    Population(
        name="rated users", date="CodeElo's list, published 2025-01", size=717_421,
        source="QwenLM/CodeElo @ 0bffc84, sorted_ratings.json",
        values=(
            335, 336, 342, 345, 348, 351, 353, 356, 359, 366, 383, 478, 621, 724, 794, 858, 928, 1000, 1073, 1147, 1218,
            1276, 1338, 1382, 1418, 1442, 1478, 1530, 1603, 1624, 1648, 1678, 1712, 1752, 1779, 1812, 1861, 1916, 1959,
            2019, 2107, 2157, 2215, 2266, 2368, 2434, 2587, 2746, 2944, 3070,
        ),
    ),
    Population(
        name="rows of six rounds' standings", date="March to May 2020", size=60_139,
        source="meooow25/carrot @ e615e17, tests/data: rounds 1305, 1326, 1342, 1349, 1350, 1352",
        values=(
            430, 561, 640, 741, 811, 883, 927, 960, 986, 1028, 1075, 1134, 1179, 1221, 1257, 1288, 1322, 1359, 1382,
            1415, 1465, 1500, 1500, 1536, 1614, 1654, 1698, 1752, 1821, 1852, 1886, 1919, 1956, 2002, 2030, 2058, 2095,
            2129, 2166, 2213, 2282, 2385, 2469, 2557, 2683, 2775, 2920, 3095, 3268, 3353,
        ),
    ),
)  # fmt: skip


def percentile(rating: float, population: Population) -> float:
    """The percent of a population that a rating is above, by a straight line between the quantiles around it."""
    values = population.values
    low, high = bisect.bisect_left(values, rating), bisect.bisect_right(values, rating)
    if low < high:  # at a quantile, or in the middle of several that are the same
        return (SHARES[low] + SHARES[high - 1]) / 2
    if low in (0, len(values)):
        return SHARES[0] if low == 0 else SHARES[-1]
    part = (rating - values[low - 1]) / (values[low] - values[low - 1])
    return SHARES[low - 1] + part * (SHARES[low] - SHARES[low - 1])


def percentiles(
    rating: float, low: float | None = None, high: float | None = None, populations: Sequence[Population] = POPULATIONS
) -> tuple[Percentile, ...]:
    """In each population; `low` and `high` are the ends of the rating's interval."""
    return tuple(
        Percentile(
            percent=percentile(rating, each),
            low=percentile(rating if low is None else low, each),
            high=percentile(rating if high is None else high, each),
            beyond="below" if rating < each.values[0] else "above" if rating > each.values[-1] else "",
            population=each.name,
            date=each.date,
            size=each.size,
        )
        for each in populations
    )


def _shown(percent: float) -> str:
    return f"{percent:.{1 if 0.5 <= percent <= 99.5 else 2}f}"
