"""Everyday stories in numbers, told step by step; `ponder/tasks/words.py` makes a task of them.

A story is a function of a `Story`: it says sentences, notes the steps that solve them, asks, and uses up exactly the
steps it was given, or gives up (`Again`). The number behind a story is how often it is told.
"""

from __future__ import annotations

from collections.abc import Callable

from ponder.tasks.stories.money import earning, shopping
from ponder.tasks.stories.people import ages, crowds, days, relations
from ponder.tasks.stories.quantities import (
    animals, area, average, machines, minutes, points, progress, proportion, tank, travel,
)  # fmt: skip
from ponder.tasks.stories.story import Again, Story
from ponder.tasks.stories.things import things
from ponder.tasks.stories.unknowns import (
    at_first, missing_part, of_the_rest, profit, sum_and_difference, sum_and_ratio, two_offers,
)  # fmt: skip

STORIES: dict[Callable[[Story], None], int] = {
    things: 20, earning: 12, shopping: 16, relations: 12, days: 7, crowds: 9, ages: 5, minutes: 6, progress: 6, travel: 5,
    proportion: 4, area: 4, average: 2, points: 5, tank: 3, animals: 4, machines: 3, at_first: 4, missing_part: 4,
    of_the_rest: 4, profit: 3, sum_and_difference: 2, sum_and_ratio: 2, two_offers: 2,
}  # fmt: skip

__all__ = ["STORIES", "Again", "Story"]
