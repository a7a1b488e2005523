"""The shipped base of `pipes`: small, complete, and it mixes guessing with trying programs."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.tasks import load_task
from ponder.tasks.ways import count
from ponder.types import SamplingParams

pytestmark = pytest.mark.slow


def test_nano_pipes_is_as_small_as_nano_and_has_its_card():
    folder = hub.resolve("nano-pipes")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2.6e6
    assert hub.describe("nano-pipes")["parameters"] == hub.describe("nano")["parameters"]
    assert (folder / "README.md").exists()


def test_nano_pipes_guesses_often_tries_rarely_and_finds_some_programs():
    model, tokenizer = hub.load("nano-pipes")
    task = load_task("pipes:level=1", split="dev", size=16)
    params = SamplingParams(max_reasoning_tokens=160, max_answer_tokens=16)

    async def sample(engine: LocalEngine):
        return await asyncio.gather(*(engine.generate(task[i].prompt, params, n=8) for i in range(len(task))))

    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        groups = asyncio.run(sample(engine))
    ways = Counter(count(completion.reasoning).way for group in groups for completion in group)
    right = [task.verify(task[i], c.answer).is_correct for i, group in enumerate(groups) for c in group]
    assert ways["guess"] > ways["tried"] > 0 and ways["guess"] + ways["tried"] > 120
    assert sum(right) > 8
