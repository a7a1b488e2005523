"""How robust the first place is: the fewest votes whose removal puts another model there.

    smallest_removal(found)      Influence(num_votes=9, num_all=2997, top="o", instead="m")

Removing a vote moves a difference by its score times the inverse information, to first order; the votes that hold the
gap up most are removed together, and the fit is made again to see whether the first place has changed (after
arXiv:2508.11847, which finds 0.003 % of the votes of a public board enough). What is found is an upper bound: perhaps
fewer would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ponder.evals.bradley_terry import BradleyTerry, fit

_RIVALS = 3  # the nearest by first order are tried in full


@dataclass(frozen=True, kw_only=True)
class Influence:
    """The fewest votes found whose removal puts another model first (arXiv:2508.11847)."""

    num_votes: int  # to remove
    num_all: int
    top: str
    instead: str
    removed: tuple[int, ...]  # places of the votes


def smallest_removal(found: BradleyTerry) -> Influence | None:
    """None where one player is alone, or no removal changes the first place."""
    strengths, games = found.strengths, found.games
    own = np.flatnonzero(found.graph.components == np.bincount(found.graph.components).argmax())
    if len(own) < 2:
        return None
    top = int(own[strengths[own].argmax()])
    rivals: list[tuple[int, int, np.ndarray]] = []
    for other in own.tolist():
        if other != top:
            pull = found.scores @ (found.bread[top] - found.bread[other])  # what each vote adds to the gap
            order = np.argsort(-pull)
            gap = strengths[top] - strengths[other]
            enough = np.flatnonzero(np.cumsum(np.maximum(pull[order], 0)) >= gap)
            rivals.append((int(enough[0]) + 1 if len(enough) else len(games), other, order))
    best: tuple[int, int, np.ndarray] | None = None
    for estimate, other, order in sorted(rivals, key=lambda rival: rival[0])[:_RIVALS]:
        num = _fewest(found, top, other, order, estimate, at_most=best[0] - 1 if best else len(games) - 1)
        if num is not None:
            best = (num, other, order)
    if best is None:
        return None
    num, other, order = best
    return Influence(
        num_votes=num, num_all=len(games), top=games.names[top], instead=games.names[other],
        removed=tuple(order[:num].tolist()),
    )  # fmt: skip


def _fewest(found: BradleyTerry, top: int, other: int, order: np.ndarray, estimate: int, *, at_most: int) -> int | None:
    """How many of the votes in this order must go: the first order says about how many, fits say it exactly."""

    def is_enough(num: int) -> bool:
        kept = np.ones(len(order), bool)
        kept[order[:num]] = False
        if not kept.any():
            return False
        without = fit(found.games.where(kept), ties=found.ties)
        if without.graph.components[top] != without.graph.components[other]:
            return False  # nothing is known of the two any more
        return bool(without.strengths[top] <= without.strengths[other])

    least, most = 0, min(estimate, at_most)
    while most >= 1 and not is_enough(most):
        least = most
        if most >= at_most:
            return None
        most = min(at_most, most + max(1, most // 4))
    if most < 1:
        return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return most
