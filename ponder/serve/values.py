"""A value checked against a client's schema that `schemas.py` has accepted.

    mismatch({"a": 1}, schema)      # None, or where the value does not fit

`jsonschema` does it, with a registry that is empty and stays so, `pattern` in linear time, and counts its steps: where
references double at every level, or a long list is compared with itself, the check ends with an answer of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ponder.engine.form import matches
from ponder.serve.schemas import applied

_MOST_STEPS = 20_000  # of checking one value: 0.3 s


def mismatch(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Where a value does not fit a schema; a schema that takes too long to apply fits nothing."""
    import jsonschema
    import referencing

    left = [_MOST_STEPS]
    try:
        sizes = _sizes(value)
    except RecursionError:  # a model's brackets: Python's own JSON reads far deeper than its functions call each other
        return "it is nested too deeply"

    def counted(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        def step(validator: Any, rule: Any, instance: Any, part: Any) -> Any:
            size = sizes.get(id(instance)) or len(instance) if isinstance(instance, str | list | dict) else 1
            cost = 1 + size // 200  # an error quotes the value
            cost += len(json.dumps(rule)) // 8 if name in ("enum", "const", "required", "dependentRequired") else 0
            cost += len(rule) if isinstance(rule, list) else 0
            cost += size * size // 8 if name == "uniqueItems" else 0  # what cannot be sorted is compared in pairs
            cost += size // 2 if name == "pattern" else 0
            left[0] -= cost
            if left[0] < 0:  # references can double at every level
                raise ValueError("it takes too many steps")
            return check(validator, rule, instance, part)

        return step

    draft = jsonschema.Draft202012Validator
    checks = {**draft.VALIDATORS, "pattern": _pattern}
    bounded = jsonschema.validators.extend(draft, {name: counted(name, check) for name, check in checks.items()})
    try:
        error = next(bounded(applied(schema), registry=referencing.Registry()).iter_errors(value), None)
    except Exception as problem:  # a schema that refers to what is not there, or never ends
        return f"the schema cannot be applied: {type(problem).__name__}"
    return None if error is None else f"{error.json_path}: does not fit '{error.validator}'"


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    import jsonschema

    if isinstance(instance, str) and not matches(pattern, instance):
        yield jsonschema.ValidationError("it does not match")


def _sizes(value: Any) -> dict[int, int]:
    """Of every list and object in a value: about how many characters it has."""
    sizes: dict[int, int] = {}

    def size(part: Any) -> int:
        if isinstance(part, str):
            return 2 + len(part)
        if not isinstance(part, dict | list):
            return 8
        inner = part.values() if isinstance(part, dict) else part
        sizes[id(part)] = sum(map(size, inner)) + sum(map(len, part) if isinstance(part, dict) else (2,))
        return sizes[id(part)]

    size(value)
    return sizes
