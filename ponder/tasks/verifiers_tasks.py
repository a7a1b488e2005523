"""Tasks of the `verifiers` package as problems, and what its rewards say of an answer, in a child that can be killed.

A verdict is the sum of the rewards of the task itself, each by its weight: exactly 1 is correct, between 0 and 1 a
share. Rewards that raise, take too long or add up to something else leave the answer undecided, never wrong.

`vf` is the package, for the files beside this one too; `verifiers_loading.py` opens a taskset.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ponder.config import ConfigError
from ponder.grading import killable
from ponder.grading.extract import extract_marked
from ponder.grading.verifiers import undecided, verdict
from ponder.tasks.base import ListedTask
from ponder.types import Message, Problem, Role, Verdict

try:
    import verifiers.v1 as vf
except ImportError as error:
    raise ConfigError(
        f"verifiers: tasks need the package ({error}): pip install verifiers, best into an environment of its own with "
        "ponder, as it pins many versions"
    ) from None

SCORE_SECONDS = 30.0
MAX_ANSWER = 50_000  # characters handed to a reward
MAX_TASKS = 10_000  # of a taskset that has no end, or many
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class TasksetTask(ListedTask):
    """The tasks of a taskset that belong to a split."""

    def __init__(self, name: str, problems: Sequence[Problem], *, split: str, version: str) -> None:
        self.name, self.split, self._problems = name, split, problems
        self.grader_version = f"verifiers {version}"
        self.patience = killable.START_SECONDS + SCORE_SECONDS

    def verify(self, problem: Problem, answer: str) -> Verdict:
        text = answer.strip()
        if not text or len(text) > MAX_ANSWER:
            return verdict(False, None)
        meta = problem.meta
        ran = killable.shared().run(
            "ponder.tasks.verifiers_tasks:score", meta["taskset"], meta["config"], meta["data"], text,
            timeout=SCORE_SECONDS,
        )  # fmt: skip
        return self.judged(text, ran, ran.value)

    def judged(self, text: str, ran: killable.CallOutcome, total: Any) -> Verdict:
        """The verdict of a sum of rewards that a child came to."""
        if ran.status != "ok":
            return undecided(text, f"the rewards of {self.name}: {ran.status}, {ran.note}")
        if not 0 <= total <= 1:  # nan too
            return undecided(text, f"the rewards of {self.name} add up to {total}, which is not within 0 and 1")
        found = verdict(total == 1, text)
        return found if total in (0, 1) else Verdict(
            outcome="wrong", reward=total, extracted=text, parts={"correct": 0.0, "share": total},
        )  # fmt: skip

    def key(self, problem: Problem, answer: str) -> str | None:
        """What else its rewards take for equal is not known here."""
        text = (extract_marked(answer[-MAX_ANSWER:]) or answer).strip()
        return text if 0 < len(text) <= MAX_ANSWER else None


def version_of() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("verifiers")
    except PackageNotFoundError:
        return "of unknown version"


def _needs_runtime(function: Any) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def problem_of(spec: str, name: str, config: Any, task: Any, opening: Sequence[tuple[str, Any]] | None) -> Problem:
    """A task as a problem. opening: its first messages, as roles and contents."""
    rewards = task.hooks("reward")
    is_scored = rewards or task.plugged_judges() or vf.environment_class(name).finalize is not vf.Env.finalize
    if not is_scored:
        raise ConfigError(f"the taskset {name!r} is not used: its tasks have no reward")
    if bad := [function.__name__ for function in rewards if _needs_runtime(function)]:
        raise ConfigError(f"the taskset {name!r} is not used: its reward {bad[0]} needs a runtime")
    data = task.data
    if not opening:
        raise ConfigError(f"the taskset {name!r} is not used: its tasks have no prompt")
    messages = tuple(Message(role=_ROLES[role], content=_text(content, name)) for role, content in opening)
    target = getattr(data, "answer", "")
    row = data.model_dump(mode="json")
    return Problem(
        id=f"{spec}/{data.id or data.name or data.idx}", prompt=messages, task=spec,
        target=target if isinstance(target, str) else json.dumps(target, default=str),
        meta={"taskset": name, "config": json.dumps(config.model_dump(mode="json")), "data": json.dumps(row)},
    )  # fmt: skip


def _text(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    parts = [getattr(part, "text", None) for part in content or ()]
    if not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"the taskset {name!r} is not used: its prompts hold more than text")
    return "".join(map(str, parts))


# --- in the child ----------------------------------------------------------------------------------------------------


def score(name: str, config: str, data: str, answer: str) -> float:
    """The sum of a task's rewards for an answer."""
    task, kind = task_of(name, config, data)
    trace = _trace(task, kind, answer)
    asyncio.run(task.score(trace))
    return reward_of(trace)


def reward_of(trace: Any) -> float:
    """The reward of a trace that was scored, of which every function has to have said something."""
    if (missing := [key for key, reward in trace.rewards.items() if reward is None]) or not trace.rewards:
        raise RuntimeError(f"no reward came of {', '.join(missing) or 'any function'}")
    return float(trace.reward)


@lru_cache(maxsize=8)
def _kind(name: str, config: str) -> tuple[Any, Any]:
    loaded = vf.taskset_config_type(name).model_validate(json.loads(config))
    return type(vf.load_taskset(loaded)).task_type(), loaded.task


def task_of(name: str, config: str, data: str) -> tuple[Any, Any]:
    """A task of a taskset with its type, as the problem's meta names it."""
    kind, task_config = _kind(name, config)
    return kind(kind.data_type().model_validate(json.loads(data)), task_config), kind


def _trace(task: Any, kind: Any, answer: str) -> Any:
    """The rollout as the package records one: the prompt, then what the model said."""
    from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage

    data = task.data
    prompt = [UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt or ())
    if data.system_prompt:
        prompt = [SystemMessage(content=data.system_prompt), *prompt]
    nodes: list[Any] = []
    for message in [*prompt, AssistantMessage(content=answer)]:
        parent = len(nodes) - 1 if nodes else None
        nodes.append(vf.MessageNode(parent=parent, message=message, sampled=len(nodes) == len(prompt)))
    trace = vf.Trace(
        task=vf.TraceTask(type=kind.__name__, data=data), agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=nodes
    )
    trace.is_completed = trace.ok = True
    return trace
