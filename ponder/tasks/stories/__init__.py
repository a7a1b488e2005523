"""Everyday stories in numbers, told step by step; `ponder/tasks/words.py` makes a task of them.

A story says sentences, notes the steps that solve them, asks, and uses up exactly the steps it was given, or gives up
(`Again`). Most are data: the `.story` files, whose notation `script.py` explains. Those with a shape of their own are
functions. The number of a story is how often it is told.
"""

from __future__ import annotations

from collections.abc import Callable

from ponder.tasks.stories import script
from ponder.tasks.stories.lists import at_first, average, days, missing_part, points, relations
from ponder.tasks.stories.story import Again, Story

STORIES = {
    "things": 18, "earning": 12, "shopping": 16, "relations": 9, "days": 6, "crowds": 9, "ages": 7, "minutes": 7,
    "progress": 5, "travel": 5, "proportion": 6, "area": 4, "average": 3, "points": 3, "tank": 2, "animals": 4,
    "machines": 4, "at_first": 5, "missing_part": 4, "of_the_rest": 3, "profit": 3, "sum_and_difference": 2,
    "sum_and_ratio": 3, "two_offers": 4, "slices": 4, "loads": 4, "lengths": 4, "calories": 4, "buildings": 4,
    "subscriptions": 4, "installments": 3, "raises": 5, "ratios": 4, "growth": 4, "rates_by_the_minute": 3,
    "combined": 5, "weekly_habit": 6,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[[Story], None]] = {
    function.__name__: function for function in (relations, days, average, points, at_first, missing_part)
}


def tell(s: Story, name: str) -> None:
    """Tell the story of this name up to its question; raises Again where its numbers do not work out."""
    if name in FUNCTIONS:
        FUNCTIONS[name](s)
    else:
        script.tell(s, name)


__all__ = ["STORIES", "Again", "Story", "tell"]
