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

import re
from collections.abc import Sequence
from random import Random

from ponder.config import ConfigError
from ponder.grading.plain_arithmetic import show
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks.base import Item, ProceduralTask, level_range
from ponder.tasks.stories import STORIES, Again, Story, tell
from ponder.tasks.stories import wordbook as book

LEVELS, HARDEST = (1, 2, 3, 4, 5), 8
_ASIDES = (
    "{p} is {n} years old.|{p} has {m} cousins.|It is {n} degrees outside.|{p} lives at number {n}.|"
    "{p} woke up at {m} o'clock that day.|It is a {n}-minute walk from {p}'s home.|{p} has lived "
    "in this town for {n} years.|"
    "{p}'s {kin} is {t} years old.|{p} lives {m} blocks from the school.|{p} has been doing this "
    "for {m} years.|"
    "{p} has {m} pets at home.|{p} was born on the {n}th of the month."
).split("|")
_NO_ASIDES = {"ages", "minutes", "average"}  # stories in which years or minutes would not stand aside


def make(rng: Random, level: int) -> Item:
    """A story of `level` steps."""
    for _ in range(10_000):
        name = rng.choices(list(STORIES), list(STORIES.values()))[0]
        story = Story(rng, level)
        try:
            tell(story, name)
        except Again:
            continue
        if story.left or not story.question or story.value.denominator != 1 or story.value > 20_000:
            continue
        if name not in _NO_ASIDES and story.people and story.chance(0.12):
            aside = story.pick(_ASIDES).format(
                p=story.people[0],
                n=rng.randint(13, 19),
                m=rng.randint(2, 9),
                t=rng.randint(28, 70),
                kin=rng.choice(("aunt", "uncle", "teacher", "neighbor")),
            )
            story.sentences.insert(rng.randint(1, len(story.sentences)) if story.sentences else 0, aside)
        text = dress(story)
        return Item(text=text, target=show(story.value), meta={"solution": "\n".join(story.lines), "story": name})
    raise ConfigError(f"words has no story of level {level}")  # pragma: no cover


_OPENERS = (
    "{p} likes to be exact about numbers.|{p} has a busy week.|It is the last day of summer vacation.|"
    "{p} lives in a small town near a lake.|{p} is planning ahead.|Everyone in {p}'s family "
    "knows how careful {p.he} is.|"
    "{p} is trying to work something out.|{p} and {p.his} family live in an apartment in the "
    "city.|{p} loves {hobby}.|"
    "{p} just got home from school.|{p} has been thinking about this for a while.|Today is "
    "{day}.|{p} keeps a list of everything.|"
    "It was a sunny morning in {month}.|{p} is very good at {hobby}.|{p} writes everything down "
    "in a small book."
).split("|")
_PLAIN = {
    "buys": "buy",
    "bought": "buy",
    "sells": "sell",
    "sold": "sell",
    "gives": "give",
    "gave": "give",
    "rents": "rent",
    "rented": "rent",
    "spends": "spend",
    "spent": "spend",
    "shares": "share",
    "shared": "share",
    "saves": "save",
    "saved": "save",
    "donates": "donate",
    "donated": "donate",
    "orders": "order",
    "ordered": "order",
}
_VERB = re.compile(rf" ({'|'.join(_PLAIN)}) ")


def _ends_with(text: str, names: Sequence[str]) -> bool:
    """Whether a text ends with one of these names, as a word."""
    return any(text.endswith(name) and not text[: -len(name)][-1:].isalnum() for name in names)


def dress(story: Story) -> str:
    """The text of a story: now and then with an opening sentence, a verb drawn out, or a request as question."""
    sentences, question, person = list(story.sentences), story.question, story.people[0] if story.people else None
    if person and sentences and str(person) in sentences[0] and story.chance(0.1):
        opener = story.pick(_OPENERS).format(
            p=person, hobby=story.pick(book.HOBBIES), day=story.pick(book.WEEKDAYS), month=story.pick(book.MONTHS)
        )
        sentences.insert(0, opener)
    if story.chance(0.25):
        names = ("He", "She", "he", "she", *map(str, story.people))
        decide = "decided" if story.past else "decides"
        begin = story.pick(
            [decide, decide, "wanted" if story.past else "wants", "was able" if story.past else "is able"]
        )

        def drawn_out(found: re.Match[str]) -> str:
            has_name = _ends_with(found.string[: found.start()], names)
            return f" {begin} to {_PLAIN[found[1]]} " if has_name and story.chance(0.5) else found[0]

        sentences = [_VERB.sub(drawn_out, one) for one in sentences]
    if question.startswith("What is the") and story.chance(0.3):
        question = f"{story.pick(['Calculate', 'Find'])} {question[8:-1]}."
    return " ".join([*sentences, question])


def words(*, split: str = "test", seed: int = 0, level: int | str | None = None, size: int = 500) -> ProceduralTask:
    """The task; `level` is a number of calculations or a range such as "2-6"."""
    levels = level_range(level, LEVELS)
    if not 1 <= levels[0] <= levels[-1] <= HARDEST:
        raise ConfigError(f"words has levels 1 to {HARDEST}, not {level}")
    verifier = VERIFIERS["integer"]
    return ProceduralTask("words", make, verifier, verifier.key, levels=levels, split=split, seed=seed, size=size)
