"""One answer of one model for a battle: the text that a person may see, and whether a limit cut it.

It is produced as any response is, reasoning watched by the monitors, and nothing but the text is kept: the reasoning is
neither stored nor summarised.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ponder.serve.generation import Count, MeteredEngine, produce
from ponder.serve.keys import Key
from ponder.serve.modes import ComputePlan
from ponder.serve.planning import Format, generation_plan
from ponder.serve.prompts import EncodedPrompt
from ponder.serve.served import ServedModel
from ponder.serve.thoughts import Thoughts
from ponder.serve.tools import Call

if TYPE_CHECKING:
    from ponder.serve.service import Service


@dataclass(frozen=True)
class BlindAnswer:
    text: str
    ended: str  # stop or length


class BlindWriter:
    """Takes the text and lets everything else pass."""

    def __init__(self) -> None:
        self.text = ""

    def begin_reasoning(self) -> None: ...

    def add_summary(self, text: str) -> None: ...

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None: ...

    def add_text(self, text: str) -> None:
        self.text += text

    def add_call(self, call: Call) -> None: ...


async def draw(
    service: Service, key: Key, model: ServedModel, prompt: EncodedPrompt, compute: ComputePlan, *, battle: str
) -> BlindAnswer:
    """Raises Failed where the model, or a monitor, ends it."""
    writer, count, begun = BlindWriter(), Count(prompt=prompt.num_tokens), time.monotonic()
    watch = service.watch(model, prompt.messages, response=battle, owner=key.owner)
    thoughts = Thoughts(watch, on_summary=lambda text: None, on_verdict=service.on_verdict(watch.context))
    plan = generation_plan(model, prompt, compute, tools=(), needs_call=False, parallel=False, form=Format())
    engine = MeteredEngine(model.engine, count, as_ids=partial(service.encoder.ids, model))
    status = "failed"
    try:
        with service.admit(model):
            ended = await produce(plan, engine, writer, thoughts)
        status = "incomplete" if ended == "length" else "completed"
        return BlindAnswer(writer.text, "length" if ended == "length" else "stop")
    finally:
        thoughts.abandon()
        service.metrics.report(
            model.name, key=key, kind="battle", name=battle, status=status, count=count, compute=compute,
            thoughts=[thoughts], begun=begun, first_visible=None,
        )  # fmt: skip
