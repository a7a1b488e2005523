"""Tasksets of the `verifiers` package as tasks, and ponder's tasks as tasksets of it.

    load_task("verifiers:gsm8k-v1")                  an installed taskset, by its id; more dials go to its config
    load_task("verifiers:owner/words:size=200,difficulty=easy")

    from ponder.tasks.verifiers_taskset import ponder_taskset     # words.py, which a user installs: taskset id "words"
    Words = ponder_taskset("words:level=1-3")
    __all__ = ["Words"]

In: tasks that end with one answer. A problem is the prompt, and its verdict is what the task's own rewards say of an
answer, each by its weight: a sum of exactly 1 is correct, one between 0 and 1 a share. The rewards run in a child
process that can be killed; one that raises, takes too long or gives a sum outside of 0 to 1 leaves the answer
undecided, never wrong. A taskset knows no splits: a problem belongs to one by a hash of its text, as everywhere here.
Tasksets with an environment of their own (several turns) are verifiers_games.py. Refused: those with several agents,
with tools, or whose tasks or rewards need a container or a runtime: nothing here would give a reward its files, and
half a sum is no verdict.

Out: reward `correct` is the verdict's reward. An answer that cannot be decided raises, so that the trace has an error
and no reward. Only the last message is graded.

Versions 0.2 and later (verifiers.v1); the older `load_environment` of version 0.1 is not read.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.grading import killable
from ponder.grading.extract import extract_marked
from ponder.grading.verifiers import undecided, verdict
from ponder.tasks.base import ListedTask, split_of
from ponder.tasks.specs import load_task
from ponder.types import Message, Problem, Role, Task, Verdict

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
            "ponder.tasks.verifiers_taskset:score", meta["taskset"], meta["config"], meta["data"], text,
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


def taskset_task(name: str, *, split: str = "test", seed: int = 0, size: int = 500, **dials: Any) -> TasksetTask:
    """The task of an installed taskset. size: problems of the split, fewer where it has fewer. seed: not used, the
    order is the taskset's. dials: fields of its config."""
    config_type = _found(name, vf.taskset_config_type)
    known = sorted(set(config_type.model_fields) - {"id", "task", "system_prompt"})
    for dial in dials:
        if dial not in known:
            raise ConfigError(f"the taskset {name!r} has no dial {dial!r}{nearest(dial, ['size', *known])}")
    try:
        config = config_type(id=name, **dials)
        taskset = vf.load_taskset(config)
        _refuse(name, taskset)
        task = _listed(name, taskset, config, split=split, size=size)
    except ConfigError:
        raise
    except Exception as error:  # the code of others
        raise ConfigError(f"the taskset {name!r} cannot be loaded: {type(error).__name__}: {error}"[:500]) from error
    if not len(task):
        raise ConfigError(f"the taskset {name!r} has no problem of the split {split!r} among its first {MAX_TASKS}")
    return task


def _listed(name: str, taskset: Any, config: Any, *, split: str, size: int) -> TasksetTask:
    if vf.environment_class(name) is not vf.SingleAgentEnv:
        from ponder.tasks.verifiers_games import game_task

        return game_task(name, taskset, config, split=split, size=size)
    spec, problems = f"verifiers:{name}", list[Problem]()
    for task in itertools.islice(taskset, MAX_TASKS):
        problem = problem_of(spec, name, config, task, _opening_messages(task.data))
        if split_of(problem.text) == split:
            problems.append(problem)
        if len(problems) == size:
            break
    return TasksetTask(spec, problems, split=split, version=version_of())


def version_of() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("verifiers")
    except PackageNotFoundError:
        return "of unknown version"


def _found(name: str, load: Any) -> Any:
    try:
        return load(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"no taskset {name!r} is installed ({error})"[:300]) from None
    except ImportError as error:
        raise ConfigError(f"the taskset {name!r} needs more: {error}"[:300]) from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{name!r} is no taskset: {error}"[:300]) from None


def _refuse(name: str, taskset: Any) -> None:
    """Raise where one answer, and nothing else, does not make a verdict."""
    kind, config = type(taskset).task_type(), taskset.config
    why = ""
    if kind.NEEDS_CONTAINER:
        why = "its tasks need a container"
    elif taskset.toolsets(config) or kind.toolsets(config.task):
        why = "its tasks need tools"
    elif kind.setup is not vf.Task.setup or kind.finalize is not vf.Task.finalize:
        why = "its tasks prepare a runtime before they are graded"
    if why:
        raise ConfigError(f"the taskset {name!r} is not used: {why}; its own runner plays it against `ponder serve`")


def _needs_runtime(function: Any) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _opening_messages(data: Any) -> list[tuple[str, Any]] | None:
    """The first messages of a task: roles and contents."""
    if data.prompt is None:
        return None
    messages = [("user", data.prompt)] if isinstance(data.prompt, str) else [(m.role, m.content) for m in data.prompt]
    return [("system", data.system_prompt), *messages] if data.system_prompt else messages


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


# --- the other way ---------------------------------------------------------------------------------------------------


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
