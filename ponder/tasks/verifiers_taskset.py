"""ponder's tasks as tasksets of the `verifiers` package. (Its tasksets as tasks: verifiers_loading.py.)

    from ponder.tasks.verifiers_taskset import ponder_taskset     # words.py, which a user installs: taskset id "words"
    Words = ponder_taskset("words:level=1-3")
    __all__ = ["Words"]

Reward `correct` is the verdict's reward. An answer that cannot be decided raises, so that the trace has an error and no
reward. Only the last message is graded.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import lru_cache
from typing import Any

from ponder.tasks.specs import load_task
from ponder.tasks.verifiers_tasks import vf
from ponder.types import Message, Task


class PonderData(vf.TaskData):
    """A problem of ponder's, on the wire."""

    spec: str
    split: str
    seed: int
    index: int
    answer: str = ""


class Undecided(Exception):
    """The verifier could not tell; there is no reward."""


@lru_cache(maxsize=8)
def _ponder_task(spec: str, split: str, seed: int) -> Task:
    return load_task(spec, split=split, seed=seed)


class PonderTask(vf.Task[PonderData]):
    """One problem, graded as ponder grades it."""

    @vf.reward
    async def correct(self, trace: Any) -> float:
        """1 for a correct answer, 0 for a wrong one, or a share."""
        data = self.data
        task = _ponder_task(data.spec, data.split, data.seed)
        found: Any = await asyncio.to_thread(task.verify, task[data.index], trace.last_reply)
        if inspect.isawaitable(found):
            found = await found
        if found.outcome not in ("correct", "wrong"):
            raise Undecided(found.note or f"{data.spec}: the answer is {found.outcome}")
        return float(found.reward)


class PonderConfig(vf.TasksetConfig):
    """spec: the task as ponder's command line names it."""

    spec: str = "arithmetic"
    split: str = "train"
    seed: int = 0
    limit: int = 0  # problems; 0 = all there are


class PonderTaskset(vf.Taskset[PonderTask, PonderConfig]):
    """A task of ponder's as a taskset."""

    def load(self) -> Any:
        """Its problems in order, one at a time; `limit` of them, or all for 0."""
        config = self.config
        task = _ponder_task(config.spec, config.split, config.seed)
        for index in range(min(len(task), config.limit or len(task))):
            problem = task[index]
            prompt = problem.text if len(problem.prompt) == 1 else [_wire(message) for message in problem.prompt]
            yield PonderTask(
                PonderData(
                    id=problem.id, prompt=prompt, answer=problem.target, spec=config.spec, split=config.split,
                    seed=config.seed, index=index,
                ),
                config.task,
            )  # fmt: skip


def _wire(message: Message) -> Any:
    from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage

    kinds = {"system": SystemMessage, "developer": SystemMessage, "user": UserMessage, "assistant": AssistantMessage}
    return kinds[message.role](content=message.content)


def ponder_taskset(given: str, *, split: str = "train", seed: int = 0, limit: int = 0) -> type[PonderTaskset]:
    """A taskset class of one task, to be exported by a module of the user's; each default can be set in its config."""
    given_split, given_seed, given_limit = split, seed, limit

    class Config(PonderConfig):
        spec: str = given
        split: str = given_split
        seed: int = given_seed
        limit: int = given_limit

    class Exported(PonderTaskset, vf.Taskset[PonderTask, Config]):  # the second base is where its config is looked for
        """The task that was named."""

    return Exported
