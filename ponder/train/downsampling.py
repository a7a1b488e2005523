"""Which samples of a group are trained on, where learning from one costs more than drawing it.

    most_varied([0, 0, 1, 0, 0, 0, 1, 0], 4)  ->  [0, 1, 2, 6]    two right, two wrong

Many samples share one decoding step; each one that is learnt from takes a forward and a backward pass of its own. Right
and wrong samples side by side carry most of what a group teaches, the seventh wrong one adds little. So of many samples
those few are trained on whose rewards have the largest variance ("max-variance down-sampling", arXiv:2504.13818), and
the baseline is the mean of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ponder.types import Group


def most_varied(rewards: Sequence[float], count: int) -> list[int]:
    """The places of the `count` rewards (of G) that together have the largest variance, in ascending order.

    They are always some of the lowest and some of the highest. Among equal ones the order of drawing decides: a choice
    by length would reward length.
    """
    order = sorted(range(len(rewards)), key=lambda place: rewards[place])
    most = min(count, len(order))
    subsets = [order[: most - high] + order[len(order) - high :] for high in range(most + 1)]
    # of those that vary alike (0 0 1 and 0 1 1) the one with fewer of the highest, whatever rounding says
    return sorted(max(subsets, key=lambda subset: round(float(np.var([rewards[i] for i in subset])), 12)))


def downsampled(group: Group, count: int, *, by: Group | None = None) -> Group:
    """The group with `count` of its rollouts, those whose rewards vary most; count=0 or a smaller group: all.

    by: the same group before a KL was paid, whose rewards choose. A KL is a sum over tokens, so a choice by it would be
    one by length. What is left counts as mixed where the whole group did, however far its extremes lie apart.
    """
    if not count or len(group.rollouts) <= count:
        return group
    places = most_varied((by or group).rewards, count)
    min_spread = 0.0 if group.is_mixed else math.inf
    return replace(group, rollouts=tuple(group.rollouts[i] for i in places), min_spread=min_spread)
