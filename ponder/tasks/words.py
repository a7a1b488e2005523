"""Word problems made on the spot: everyday stories whose level is the number of calculations that solve them.

    Nina starts the week with 105 figs. She shares them equally among 3 grandchildren. Each of them already has 8 figs.
    How many figs does each of them have now?                                              level 2, answer 43

In the manner of GSM8K and MAWPS: buying, earning, sharing, comparing, rates, ages, percentages that come out exact, and
now and then a number that has nothing to do with the question (as in SVAMP, arXiv:2103.07191). All texts were written
for ponder. Every intermediate result is positive and comes out; the answer is a whole number. `meta["solution"]` works
the problem out in GSM8K's notation, `105/3=<<105/3=35>>35`, one operation a line, so that demonstrations in any style
can be made of it (`ponder data`). More varied data of this kind is what lifts small models (TinyGSM, arXiv:2312.09241).
"""

from __future__ import annotations

from random import Random

from ponder.config import ConfigError
from ponder.tasks.base import Item, ProceduralTask, level_range
from ponder.tasks.calculations import show
from ponder.tasks.stories import STORIES, Again, Story
from ponder.tasks.verifiers import VERIFIERS

LEVELS, HARDEST = (1, 2, 3, 4, 5), 8
_ASIDES = (
    "{p} is {n} years old.|{p} has {m} cousins.|It is {n} degrees outside.|{p} lives at number {n}.|"
    "{p} woke up at {m} o'clock that day.|It is a {n}-minute walk from {p}'s home.|{p} has lived in this town for {n} years.|"
    "{p}'s {kin} is {t} years old.|{p} lives {m} blocks from the school.|{p} has been doing this for {m} years.|"
    "{p} has {m} pets at home.|{p} was born on the {n}th of the month.".replace("{n}th", "{n}th")
).split("|")
_NO_ASIDES = {"ages", "minutes", "average"}  # stories in which years or minutes would not stand aside


def make(rng: Random, level: int) -> Item:
    """A story of `level` steps."""
    for _ in range(10_000):
        tell = rng.choices(list(STORIES), list(STORIES.values()))[0]
        story = Story(rng, level)
        try:
            tell(story)
        except Again:
            continue
        if story.left or not story.question or story.value.denominator != 1 or story.value > 20_000:
            continue
        if tell.__name__ not in _NO_ASIDES and story.people and story.chance(0.12):
            aside = story.pick(_ASIDES).format(
                p=story.people[0], n=rng.randint(13, 19), m=rng.randint(2, 9), t=rng.randint(28, 70),
                kin=rng.choice(("aunt", "uncle", "teacher", "neighbor")),
            )  # fmt: skip
            story.sentences.insert(rng.randint(1, len(story.sentences)) if story.sentences else 0, aside)
        text = " ".join([*story.sentences, story.question])
        return Item(
            text=text, target=show(story.value), meta={"solution": "\n".join(story.lines), "story": tell.__name__}
        )
    raise ConfigError(f"words has no story of level {level}")  # pragma: no cover


def words(
    *, split: str = "test", seed: int = 0, level: int | str | None = None, size: int = 500
) -> ProceduralTask:  # fmt: skip
    """The task; `level` is a number of calculations or a range such as "2-6"."""
    levels = level_range(level, LEVELS)
    if not 1 <= levels[0] <= levels[-1] <= HARDEST:
        raise ConfigError(f"words has levels 1 to {HARDEST}, not {level}")
    verifier = VERIFIERS["integer"]
    return ProceduralTask("words", make, verifier, verifier.key, levels=levels, split=split, seed=seed, size=size)
