"""Tasksets, tasks and traces, with the names and the behaviour of the package's version 0.4.0."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskConfig(Strict):
    judges: list[Any] = []


class TasksetConfig(Strict):
    id: str = ""
    task: TaskConfig = TaskConfig()
    system_prompt: str | None = None


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)
    idx: int | None = None
    id: str | None = None
    name: str | None = None
    prompt: str | list[SystemMessage | UserMessage | AssistantMessage] | None = None
    system_prompt: str | None = None


class Reward(BaseModel):
    score: float
    weight: float = 1.0


class MessageNode(BaseModel):
    parent: int | None = None
    message: SystemMessage | UserMessage | AssistantMessage = Field(discriminator="role")
    sampled: bool = False


class AgentConfig(Strict):
    pass


class AgentInfo(BaseModel):
    config: AgentConfig
    name: str = "agent"


class TraceTask(BaseModel):
    type: str
    data: Any


class Trace(BaseModel):
    task: TraceTask
    agent: AgentInfo
    nodes: list[MessageNode] = []
    rewards: dict[str, Reward | None] = {}
    is_completed: bool = False
    ok: bool = False
    stop_condition: str | None = None

    def stop(self, condition: str) -> None:
        self.is_completed = True
        self.stop_condition = self.stop_condition or condition

    def record_reward(self, name: str, value: float, weight: float = 1.0) -> None:
        self.rewards[name] = Reward(score=float(value), weight=float(weight))

    @property
    def num_turns(self) -> int:
        return sum(node.sampled for node in self.nodes)

    @property
    def reward(self) -> float:
        return sum(r.score * r.weight for r in self.rewards.values() if r is not None)

    @property
    def last_reply(self) -> str:
        return (self.nodes[-1].message.content or "").strip()


class TaskError(Exception):
    pass


def reward(function=None, weight: float = 1.0):
    def mark(given):
        given.reward, given.vf_weight = True, weight
        return given

    return mark if function is None else mark(function)


def concrete(cls: type, bound: type) -> Any:
    bases = [base for klass in cls.__mro__ for base in getattr(klass, "__orig_bases__", ())]
    return next((a for b in bases for a in get_args(b) if isinstance(a, type) and issubclass(a, bound)), None)


D = TypeVar("D")
C = TypeVar("C")
T = TypeVar("T")


class Task(Generic[D]):
    NEEDS_CONTAINER = False

    def __init__(self, data: Any, config: Any = None) -> None:
        self.data, self.config = data, config or TaskConfig()

    async def setup(self, trace: Any, runtime: Any) -> None: ...

    async def finalize(self, trace: Any, runtime: Any) -> None: ...

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []

    @classmethod
    def data_type(cls) -> type[TaskData]:
        return concrete(cls, TaskData) or TaskData

    def plugged_judges(self) -> list[Any]:
        return []

    def hooks(self, kind: str) -> list[Any]:
        members = (getattr(self, name) for name in dir(type(self)) if not name.startswith("_"))
        return [member for member in members if getattr(member, kind, False)]

    async def score(self, trace: Trace, runtime: Any = None) -> None:
        for function in self.hooks("reward"):
            trace.rewards[function.__name__] = None
        for function in self.hooks("reward"):
            wanted = inspect.signature(function).parameters
            try:
                found = await function(**{k: v for k, v in {"trace": trace, "task": self.data}.items() if k in wanted})
            except Exception as error:
                raise TaskError(f"{type(error).__name__}: {error}") from error
            trace.rewards[function.__name__] = Reward(score=found, weight=function.vf_weight)


class Taskset(Generic[T, C]):
    def __init__(self, config: Any) -> None:
        self.config = config

    def __iter__(self):
        for index, task in enumerate(self.load()):
            task.data = task.data.model_copy(update={"idx": index})
            yield task

    @classmethod
    def task_type(cls) -> type[Task]:
        return concrete(cls, Task)

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []


class EnvConfig(Strict):
    id: str = ""
    taskset: Any = None


class SingleAgentEnvConfig(EnvConfig):
    agent: AgentConfig = AgentConfig()


class EnvInfo(BaseModel):
    id: str = ""


class Episode(BaseModel):
    env: EnvInfo = EnvInfo()
    task: TraceTask
    traces: list[Trace] = []
    ok: bool = False


E = TypeVar("E")


class Env(ABC, Generic[E]):
    def __init__(self, config: Any) -> None:
        self.config = config

    async def setup(self, agents: Any) -> None: ...

    @abstractmethod
    async def run(self, task: Any, agents: Any) -> None: ...

    async def finalize(self, task: Any, episode: Any) -> None: ...

    async def start(self) -> None: ...


class SingleAgentEnv(Env[SingleAgentEnvConfig]):
    async def run(self, task: Any, agents: Any) -> None:
        await agents.agent.run(task)


def exported(name: str, bound: type) -> Any:
    module = importlib.import_module(name.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower())
    found = (getattr(module, each) for each in module.__all__)
    return next((each for each in found if isinstance(each, type) and issubclass(each, bound)), None)


def taskset_class(name: str) -> Any:
    found = exported(name, Taskset)
    if found is None:
        raise TypeError(f"{name!r} exports no Taskset")
    return found


def taskset_config_type(name: str) -> type[TasksetConfig]:
    return concrete(taskset_class(name), TasksetConfig) or TasksetConfig


def load_taskset(config: TasksetConfig) -> Taskset:
    return taskset_class(config.id)(config)


def environment_class(name: str) -> type[Env]:
    return exported(name, Env) or SingleAgentEnv


def env_config_type(name: str) -> type[EnvConfig]:
    return concrete(environment_class(name), EnvConfig) or EnvConfig
