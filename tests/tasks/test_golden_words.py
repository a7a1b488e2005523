"""Word problems stay the same to the last character: models were trained on them, and a hash of the text splits them.

`golden_words.json` was recorded before the stories became data (3,000 problems of two seeds were compared then; fewer
are here, for time). To record it again, after a change that is meant to
change the problems: `python -m tests.tasks.test_golden_words`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import pytest

from ponder.tasks import load_task
from ponder.tasks.base import SPLITS
from ponder.tasks.stories import STORIES, Again, Story, tell
from ponder.tasks.words import HARDEST

FILE = Path(__file__).with_name("golden_words.json")
SEEDS, ITEMS, FIRST = (0,), 100, 20
LEVELS = range(1, HARDEST + 1)


def hash_of_problems(level: int, split: str, seed: int, items: int) -> str:
    task = load_task(f"words:level={level},size={items}", split=split, seed=seed)
    digest = hashlib.sha256()
    for i in range(items):
        problem = task[i]
        row = [problem.text, problem.target, problem.meta["solution"], problem.meta["story"]]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def hash_of_tellings(name: str) -> str:
    """Whatever comes of a story, the ones given up too: they draw from the same numbers as the next one."""
    digest = hashlib.sha256()
    for i in range(160 * HARDEST):
        rng = Random(f"{name}/{i}")
        story = Story(rng, 1 + i % HARDEST)
        try:
            tell(story, name)
            row = [story.sentences, story.question, story.lines, str(story.value)]
        except Again:
            row = []
        digest.update(json.dumps([row, rng.random()]).encode())
    return digest.hexdigest()


def record() -> None:
    stories = {name: hash_of_tellings(name) for name in STORIES}
    problems = {
        f"{level}/{split}/{seed}/{items}": hash_of_problems(level, split, seed, items)
        for level in LEVELS
        for split in SPLITS
        for seed in SEEDS
        for items in (FIRST, ITEMS)
    }
    FILE.write_text(json.dumps({"stories": stories, "problems": problems}, indent=1) + "\n")


@pytest.mark.parametrize("name", STORIES)
def test_every_story_draws_and_tells_what_it_always_did(name):
    assert hash_of_tellings(name) == json.loads(FILE.read_text())["stories"][name]


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_problems_are_the_same(split):
    golden = json.loads(FILE.read_text())["problems"]
    for level in LEVELS:
        assert hash_of_problems(level, split, 0, FIRST) == golden[f"{level}/{split}/0/{FIRST}"], level


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_hundreds_of_problems_are_the_same(level, split, seed):
    golden = json.loads(FILE.read_text())["problems"]
    assert hash_of_problems(level, split, seed, ITEMS) == golden[f"{level}/{split}/{seed}/{ITEMS}"]


if __name__ == "__main__":
    record()
