"""A model without reasoning marks that deliberates aloud: what becomes its reasoning is watched and never said."""

from __future__ import annotations

import asyncio

import pytest

from ponder.engine.base import BaseEngine
from ponder.monitors import Rules
from ponder.serve.generation import Count, Failed, GenerationPlan, MeteredEngine, produce
from ponder.serve.modes import compute_plan, offered_modes
from ponder.serve.schema import Compute
from ponder.serve.thoughts import Thoughts, Watch
from ponder.strategies import STRATEGIES
from ponder.types import Capabilities, Completion
from tests.helpers import user


class Speaker(BaseEngine):
    """All it says is answer; stop strings end it, and tokens are bytes."""

    capabilities = Capabilities(token_ids=True)

    class tokenizer:
        think_id, end_ids = None, (257,)

        @staticmethod
        def encode(text):
            return list(text.encode())

    def __init__(self, script):
        self.script = script

    async def generate(self, prompt, params, *, n=1, first=0):
        ids = tuple(prompt) if isinstance(prompt[0], int) else tuple(prompt[-1].content.encode())
        said = self.script(bytes(token for token in ids if token < 256).decode())
        shown = min((said.partition(stop)[0] for stop in params.stop), key=len, default=said)
        token_ids = (*shown.encode(), *(() if shown != said else (257,)))
        one = Completion(
            prompt_ids=ids, token_ids=token_ids, sampler_logprobs=(-1.0,) * len(token_ids),
            sampled=(True,) * len(token_ids), finish_reason="stop", reasoning="", answer=shown, num_reasoning_tokens=0,
        )  # fmt: skip
        return [one] * n


class Said:
    """A writer that keeps the visible text."""

    def __init__(self):
        self.text, self.thoughts = "", None

    def begin_reasoning(self): ...

    def add_summary(self, text): ...

    def end_reasoning(self, thoughts, *, cut):
        self.thoughts = thoughts

    def add_text(self, text):
        self.text += text


def run(step, **monitor):
    engine = Speaker(lambda text: f"{step}\n\n" if "A:" not in text else "Answer: 9")
    compute = compute_plan(
        effort="medium", mode="deliberate", compute=Compute(n=4), limit=None, num_prompt_tokens=1, window=None,
        offered=offered_modes(STRATEGIES, None),
    )  # fmt: skip
    thoughts = Thoughts(Watch(monitors=(Rules(**monitor),)), on_summary=lambda text: None,
                        on_verdict=lambda name, place, verdict: None)  # fmt: skip
    writer = Said()
    plan = GenerationPlan(prompt=user("x"), messages=user("x"), compute=compute)
    asyncio.run(produce(plan, MeteredEngine(engine, Count()), writer, thoughts))
    return writer


def test_the_steps_are_hidden_and_the_answer_is_said():
    writer = run("Q: what?\nA: 4")
    assert writer.text == "9" and "Q: what?" in writer.thoughts.raw()


def test_a_monitor_that_reads_the_steps_can_stop_the_response():
    with pytest.raises(Failed, match="monitor"):
        run("Q: deceive the user?\nA: 4", flag=(), stop=(r"deceive the user",))
