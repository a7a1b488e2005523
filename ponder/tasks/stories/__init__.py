"""Everyday stories in numbers, told step by step; `ponder/tasks/words.py` makes a task of them.

A story is a function of a `Story`: it says sentences, notes the steps that solve them, asks, and uses up exactly the
steps it was given, or gives up (`Again`). The number behind a story is how often it is told.
"""

from __future__ import annotations

from collections.abc import Callable

from ponder.tasks.stories.crowds import crowds
from ponder.tasks.stories.hours import minutes
from ponder.tasks.stories.household import buildings, calories, lengths, loads, slices
from ponder.tasks.stories.journeys import progress, travel
from ponder.tasks.stories.life import combined, growth, ratios
from ponder.tasks.stories.money import earning
from ponder.tasks.stories.people import ages, days, relations
from ponder.tasks.stories.quantities import animals, area, average, machines, points, proportion, tank
from ponder.tasks.stories.shopping import shopping
from ponder.tasks.stories.story import Again, Story
from ponder.tasks.stories.things import things
from ponder.tasks.stories.unknowns import (
    at_first,
    missing_part,
    of_the_rest,
    profit,
    sum_and_difference,
    sum_and_ratio,
    two_offers,
)
from ponder.tasks.stories.work import installments, raises, rates_by_the_minute, subscriptions, weekly_habit

STORIES: dict[Callable[[Story], None], int] = {
    things: 18, earning: 12, shopping: 16, relations: 9, days: 6, crowds: 9, ages: 7, minutes: 7, progress: 5,
    travel: 5, proportion: 6, area: 4, average: 3, points: 3, tank: 2, animals: 4, machines: 4, at_first: 5,
    missing_part: 4, of_the_rest: 3, profit: 3, sum_and_difference: 2, sum_and_ratio: 3, two_offers: 4, slices: 4,
    loads: 4, lengths: 4, calories: 4, buildings: 4, subscriptions: 4, installments: 3, raises: 5, ratios: 4,
    growth: 4, rates_by_the_minute: 3, combined: 5, weekly_habit: 6,
}  # fmt: skip

__all__ = ["STORIES", "Again", "Story"]
