"""Who won against whom: whether votes determine strengths at all, before any number is computed.

    WinGraph(wins=..., met=...).components       [0, 0, 1]: nothing is known of the third against the other two
    .unbounded_above                             {0}: nobody has ever beaten it, so no finite strength is enough

Strengths are finite exactly if no group has only won, or only lost, against the rest (Ford 1957): if the graph of wins
is strongly connected within each component. A tie counts as a win of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class WinGraph:
    """wins[i, j]: i has won against j. met[i, j]: they have met."""

    wins: Bools
    met: Bools

    @cached_property
    def components(self) -> Ints:
        """The number of each player's component: players whom some chain of votes connects."""
        return _groups(_closure(self.met))

    @cached_property
    def strong(self) -> Ints:
        """The same for chains of wins that lead there and back."""
        return _groups(self.reaches & self.reaches.T)

    @cached_property
    def reaches(self) -> Bools:
        """[i, j]: a chain of wins leads from i to j, so that the difference i - j is bounded below."""
        return _closure(self.wins)

    @property
    def num_components(self) -> int:
        return len(set(self.components.tolist()))

    @property
    def num_strong(self) -> int:
        """Where it is 1, every fitted difference of strengths is finite, without a prior."""
        return len(set(self.strong.tolist()))

    @cached_property
    def unbounded_above(self) -> frozenset[int]:
        """Players that nobody outside of their group has beaten, where there is somebody."""
        is_below = self.reaches & ~self.reaches.T  # [i, j]: i is above j
        return frozenset(np.flatnonzero(is_below.any(axis=1) & ~is_below.any(axis=0)).tolist())

    @cached_property
    def unbounded_below(self) -> frozenset[int]:
        """Players that have beaten nobody outside of their group."""
        is_below = self.reaches & ~self.reaches.T
        return frozenset(np.flatnonzero(is_below.any(axis=0) & ~is_below.any(axis=1)).tolist())


def _closure(edges: Bools) -> Bools:
    """Which players some path leads to; everybody reaches himself."""
    reached = edges | np.eye(len(edges), dtype=bool)
    while True:
        further = (reached.astype(np.float32) @ reached.astype(np.float32)) > 0
        if (further == reached).all():
            return reached
        reached = further


def _groups(same: Bools) -> Ints:
    """Numbers from an equivalence: each player has that of the first equivalent one, counted from 0."""
    first = same.argmax(axis=1)
    return np.unique(first, return_inverse=True)[1].astype(np.int64)
