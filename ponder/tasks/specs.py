"""Tasks by their specs: a name with dials, a file, a data set, an environment, or a mixture of them.

    load_task("arithmetic")                       a built-in procedural family
    load_task("arithmetic:level=3-6,size=200")    ... with its dials
    load_task("gsm8k"), load_task("aime:year=2024")    a benchmark, from a local folder or a hub (`benchmarks.py`)
    load_task("file:problems.jsonl")              one JSON object a line: problem, answer; or a .csv (`file.py`)
    load_task("hub:openai/gsm8k,config=main")     any data set of the hub with such columns (`hubset.py`)
    load_task("cms:ioi2024")                      packages of contest problems: a zip, or a folder of them (`cms.py`)
    load_task("gym:basic_arithmetic")             reasoning-gym, with the extra installed
    load_task("verifiers:ID")                     an installed taskset of the verifiers package
    load_task("openenv:http://HOST:8000")         an OpenEnv environment that is served somewhere
    load_task("mbpp"), load_task("stdio:PATH")    programs that tests decide (`code.py`, `stdio.py`)
    load_task("arithmetic+cipher")                a mixture: items taken in turn
    load_task("0.6*gsm8k+0.4*words:level=1-4")    ... in these shares: three of the one, then two of the other
    load_task("my_package:my_task")               anything importable: a callable (split=..., seed=..., **dials) -> Task

`NAMED` has the names; docs/tasks.md describes every form.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, lookup, nearest
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks import code, refusal_sets
from ponder.tasks.arithmetic import arithmetic
from ponder.tasks.base import Mixture, as_task, check_split, parse_spec
from ponder.tasks.benchmarks import LOADERS
from ponder.tasks.desk import desk
from ponder.tasks.file import FileTask, choose_verifier, distinct_parts, file_task
from ponder.tasks.loophole import loophole
from ponder.tasks.pipes import pipes
from ponder.tasks.procedural import bases, cipher, countdown, ordering
from ponder.tasks.words import words
from ponder.types import Problem, Task, Verifier

FAMILIES: dict[str, Callable[..., Task]] = {
    "arithmetic": arithmetic,
    "countdown": countdown,
    "cipher": cipher,
    "bases": bases,
    "ordering": ordering,
    "words": words,
    "pipes": pipes,
    "desk": desk,
}

NAMED: dict[str, Callable[..., Task]] = {  # every name that a spec may begin with
    **FAMILIES, **LOADERS, **code.LOADERS, **refusal_sets.LOADERS,
    "loophole": loophole,  # of one experiment: too small a set of problems for a family
}  # fmt: skip


def load_task(
    spec: str, *, split: str = "test", seed: int = 0, verifier: str | Verifier | None = None, **dials: Any
) -> Task:
    """The task a spec names (see the head of this file); keyword dials win over those in the spec.

    `verifier` replaces the one a file task would choose: a name of `VERIFIERS` or `module:attr`.
    """
    found = parts_of(spec)
    shares, parts = [share for share, _ in found], [part for _, part in found]
    name_parts = _name_parts(parts)
    tasks = [
        _load_one(part, split=split, seed=seed, verifier=verifier, **dials, **(name_parts if is_file(part) else {}))
        for part in parts
    ]
    names = [task.name for task in tasks]
    twice = next((index for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        fix = "a share says how often, as in 2*" + parts[twice] if is_file(parts[twice]) else (
            f"use its dials instead, as in {names[twice]}:level=2-5"
        )  # fmt: skip
        raise ConfigError(f"task {spec!r} names {names[twice]} twice; {fix}")
    return tasks[0] if len(tasks) == 1 else Mixture(tasks, _whole(shares))


def parts_of(spec: str) -> list[tuple[Fraction, str]]:
    """(share, what is loaded) of each part of a spec."""
    if Path(spec).is_file() and Path(spec.removesuffix(".gz")).suffix in (".jsonl", ".csv", ".tsv"):
        spec = f"file:{spec}"
    parts = [spec] if spec.startswith("file:") and Path(spec[5:]).exists() else spec.split("+")
    if spec.startswith(("cms:", "hub:")):
        parts = [spec]  # a path, and `only=` joins names by +
    found = [(share, part.strip()) for share, part in (_share(part, spec) for part in parts)]
    if not all(part for _, part in found):
        raise ConfigError(f"task {spec!r} has an empty name; write NAME, NAME:dial=value or NAME+NAME")
    return found


def with_verifier(spec: str, verifier: str | None) -> str:
    """The spec that names its verifier itself, as a bank is called: verdicts of two must not lie in one.

    ("p.jsonl", "exact") -> "file:p.jsonl,verifier=exact"
    """
    if verifier is None:
        return spec
    named = [(share, re.sub(",verifier=[^,]*", "", part)) for share, part in parts_of(spec)]
    shares = ["" if share == 1 else f"{float(share):g}*" for share, _ in named]
    return "+".join(f"{share}{part},verifier={verifier}" for share, (_, part) in zip(shares, named, strict=True))


def own_name(part: str) -> str | None:
    """The name of a part that is a name with nothing but dials; None where a module, a file or an address is meant."""
    name, _, rest = part.partition(":")
    return name if not rest or "=" in rest.partition(":")[0] else None


def is_file(part: str) -> bool:
    return part.startswith("file:")


def _name_parts(parts: Sequence[str]) -> dict[str, int]:
    """The dial of file tasks by which their names differ; nothing where the usual two parts of a path do."""
    files = [part.removeprefix("file:") for part in parts if is_file(part)]
    if len(files) < 2:
        return {}
    return {"name_parts": distinct_parts(files)}


def _share(part: str, spec: str) -> tuple[Fraction, str]:
    """ "0.6*gsm8k" -> (3/5, "gsm8k"); no factor is one part."""
    match = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{1,4})?)\s*\*(.*)", part, re.DOTALL)
    if match is None:
        return Fraction(1), part
    if not Fraction(match[1]):
        raise ConfigError(f"task {spec!r}: a share of 0 is no part of a mixture; leave {match[2]} out")
    return Fraction(match[1]), match[2]


def _whole(shares: Sequence[Fraction]) -> list[int]:
    """The smallest whole numbers in the same proportions: 0.6, 0.4 -> 3, 2."""
    whole = [share * math.lcm(*(share.denominator for share in shares)) for share in shares]
    smallest = [int(share / math.gcd(*map(int, whole))) for share in whole]
    if sum(smallest) > 1_000:
        raise ConfigError(f"the shares {', '.join(map(str, shares))} need rounds of {sum(smallest)} items; round them")
    return smallest


def _load_one(spec: str, *, split: str, seed: int, verifier: str | Verifier | None, **dials: Any) -> Task:
    kind, _, rest = spec.partition(":")
    check_split(split)
    if kind == "file":
        return _call(file_task, spec, rest, split=split, seed=seed, verifier=verifier, **dials)
    if kind == "hub":
        from ponder.tasks.hubset import hub_task

        return _call(hub_task, spec, rest, split=split, seed=seed, verifier=verifier, **dials)
    if verifier is not None:
        raise ConfigError(f"verifier={verifier!r} is for file: and hub: tasks; {spec!r} brings its own")
    if kind == "cms":
        from ponder.tasks.cms import cms_task

        return _call(cms_task, spec, rest, split=split, seed=seed, **dials)
    if kind == "gym":
        from ponder.tasks.gym import gym_task

        name, own = parse_spec(rest)
        return _call(gym_task, spec, name, **{"split": split, "seed": seed, **own, **dials})
    if kind == "verifiers":
        from ponder.tasks.verifiers_loading import taskset_task

        name, own = parse_spec(rest)
        return taskset_task(name, **{"split": split, "seed": seed, **own, **dials})
    if kind == "openenv":
        from ponder.tasks.openenv import openenv_task

        return openenv_task(rest, **{"split": split, "seed": seed, **dials})
    if kind == "stdio":
        from ponder.tasks.stdio import path_and_dials, stdio

        path, own = path_and_dials(rest)
        return _call(stdio, spec, path, **{"split": split, "seed": seed, **dials, **own})
    if own_name(spec) is not None:  # NAME or NAME:dial=value
        name, own = parse_spec(spec)
        if name not in NAMED and ("." in name or "/" in name):  # no name has either: a path was meant
            if not Path(spec).exists():
                raise ConfigError(
                    f"no task and no file is called {spec!r}; give a .jsonl, .csv or .tsv file that exists"
                )
            raise ConfigError(f"{spec} ends in neither .jsonl, .csv nor .tsv; if it has such lines, write file:{spec}")
        return _call(lookup(NAMED, name, what="task"), spec, **{"split": split, "seed": seed, **own, **dials})
    name, own = parse_spec(rest)  # module:attr, perhaps with dials after a second colon
    family = lookup(NAMED, f"{kind}:{name}", what="task")
    if not callable(family):
        raise ConfigError(f"task {spec!r} is not callable; it must be a function (split=, seed=, **dials) -> Task")
    return _adapted(_call(family, spec, **{"split": split, "seed": seed, **own, **dials}), spec, name, split)


_TASK = ("__len__", "__getitem__", "verify")


def _adapted(made: Any, spec: str, name: str, split: str) -> Task:
    """What a user's function returned: a task as it is, a list of problems with the verifier their targets ask for."""
    if isinstance(made, list | tuple) and made and all(isinstance(item, Problem) for item in made):
        return FileTask(name, made, VERIFIERS[choose_verifier(made)], split=split)
    missing = [wanted for wanted in _TASK if not hasattr(made, wanted)]
    if missing:
        raise ConfigError(
            f"task {spec!r} returned {type(made).__name__}, which has no {', '.join(missing)}; it must return a Task "
            f"({', '.join(_TASK)}, see ponder/types.py) or a list of ponder.types.Problem"
        )
    return as_task(made, name=name, split=split)


def _call(family: Callable[..., Task], spec: str, *args: Any, **dials: Any) -> Task:
    """Call a family after checking its dials by name, so that a misspelt dial names the nearest one."""
    parameters = inspect.signature(family).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = [name for name, p in parameters.items() if p.kind in named][len(args) :]
        for dial in dials:
            if dial not in known:
                raise ConfigError(f"task {spec!r} has no dial {dial!r}{nearest(dial, known)}")
    for dial, value in dials.items():
        wanted = _NUMBERS.get(str(parameters[dial].annotation)) if dial in parameters else None
        if wanted and isinstance(value, str) and not (wanted == _NUMBERS["float"] and _is_finite(value)):
            raise ConfigError(f"task {spec!r}: {dial}={value[:40]} must be {wanted}")
    return family(*args, **dials)


_NUMBERS = {  # by their annotations
    "int": "a whole number", "int | None": "a whole number", "float": "a number", "float | None": "a number",
}  # fmt: skip


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
