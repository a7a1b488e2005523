"""An installed taskset of the `verifiers` package as a task.

    load_task("verifiers:gsm8k-v1")                  by its id; more dials go to its config
    load_task("verifiers:owner/words:size=200,difficulty=easy")

A taskset knows no splits: a problem belongs to one by a hash of its text, as everywhere here. Used are tasks that end
with one answer (verifiers_tasks.py) and tasksets with an environment of their own, of several turns
(verifiers_games.py). Refused: those with several agents, with tools, or whose tasks or rewards need a container or a
runtime: nothing here would give a reward its files, and half a sum is no verdict.

Versions 0.2 and later (verifiers.v1); the older `load_environment` of version 0.1 is not read.
"""

from __future__ import annotations

import itertools
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.tasks.base import split_of
from ponder.tasks.verifiers_games import game_task
from ponder.tasks.verifiers_tasks import MAX_TASKS, TasksetTask, problem_of, version_of, vf
from ponder.types import Problem


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
        return game_task(name, taskset, config, split=split, size=size)
    spec, problems = f"verifiers:{name}", list[Problem]()
    for task in itertools.islice(taskset, MAX_TASKS):
        problem = problem_of(spec, name, config, task, _opening_messages(task.data))
        if split_of(problem.text) == split:
            problems.append(problem)
        if len(problems) == size:
            break
    return TasksetTask(spec, problems, split=split, version=version_of())


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


def _opening_messages(data: Any) -> list[tuple[str, Any]] | None:
    """The first messages of a task: roles and contents."""
    if data.prompt is None:
        return None
    messages = [("user", data.prompt)] if isinstance(data.prompt, str) else [(m.role, m.content) for m in data.prompt]
    return [("system", data.system_prompt), *messages] if data.system_prompt else messages
