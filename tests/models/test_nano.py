"""The shipped model: small, complete, and a base that mixes ways of thinking for RL to choose from."""

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


def test_nano_is_at_most_8_mb_and_1_to_3_million_parameters():
    folder = hub.resolve("nano")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6
    assert 1e6 <= hub.describe("nano")["parameters"] <= 3e6
    assert (folder / "README.md").exists()


def test_nano_mixes_ways_of_thinking_and_the_careful_ones_are_right_more_often():
    model, tokenizer = hub.load("nano")
    task = load_task("arithmetic:level=2-4", split="dev", size=24)
    params = SamplingParams(max_reasoning_tokens=160, max_answer_tokens=8)

    async def sample(engine: LocalEngine):
        return await asyncio.gather(*(engine.generate(task[i].prompt, params, n=16) for i in range(len(task))))

    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        groups = asyncio.run(sample(engine))
    ways: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for index, group in enumerate(groups):
        for completion in group:
            way = count(completion.reasoning).way
            ways[way] += 1
            right[way] += task.verify(task[index], completion.answer).is_correct
    assert ways["guess"] > ways["steps"] > ways["checked"] > 0
    assert right["steps"] / ways["steps"] > 5 * right["guess"] / ways["guess"]
