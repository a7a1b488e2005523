"""Function tools as text in the answer channel, parsed strictly, and JSON answers checked against their schema.

A call is one line of JSON between two tags, several may follow each other:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Paris"}}
    </tool_call>

Only the answer is read, never the reasoning, and only if tools were given: what is no call of a given tool with an
object as arguments stays text. The same parser makes streams and finished objects, so they cannot differ.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOOL_CALL = ("<tool_call>", "</tool_call>")
TOOL_RESPONSE = ("<tool_response>", "</tool_response>")


@dataclass(frozen=True, kw_only=True)
class Tool:
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str  # JSON text of an object


def tool_instructions(tools: Sequence[Tool]) -> str:
    """What the model is told about its tools."""
    lines = [
        json.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}, ensure_ascii=False)
        for t in tools
    ]
    return (
        "You may call these functions, each described by one line of JSON:\n" + "\n".join(lines) + "\n"
        f'To call one, answer with {TOOL_CALL[0]}{{"name": ..., "arguments": {{...}}}}{TOOL_CALL[1]} and nothing else.'
    )


class CallParser:
    """Answer text in any portions -> text and calls, in order."""

    def __init__(self, tools: Sequence[Tool], *, parallel: bool = True) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._held = ""
        self._parallel, self._num_calls = parallel, 0
        self._space: str | None = None  # blanks right behind a call: they are no message unless text follows

    def feed(self, text: str) -> list[str | Call]:
        if not self._tools:
            return [text] if text else []
        self._held += text
        found: list[str | Call] = []
        opening, closing = TOOL_CALL
        while True:
            start = self._held.find(opening)
            if start < 0:
                keep = _overlap(self._held, opening)
                self._say(found, self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                return found
            end = self._held.find(closing, start)
            if end < 0:
                self._say(found, self._held[:start])
                self._held = self._held[start:]
                return found
            whole = self._held[start : end + len(closing)]
            call = self._read(whole[len(opening) : -len(closing)])
            self._say(found, self._held[:start])
            if call is None:
                self._say(found, whole)
            else:
                self._space = ""
                if self._parallel or not self._num_calls:
                    self._num_calls += 1
                    found.append(call)
            self._held = self._held[end + len(closing) :]

    def finish(self) -> list[str | Call]:
        """What was held back: a call that never ended is text."""
        found: list[str | Call] = []
        self._say(found, self._held)
        self._held = ""
        return found

    def _say(self, found: list[str | Call], text: str) -> None:
        if self._space is not None:
            text, self._space = self._space + text, None
            if not text.strip():
                self._space, text = text, ""
        if not text:
            return
        if found and isinstance(found[-1], str):
            found[-1] += text
        else:
            found.append(text)

    def _read(self, text: str) -> Call | None:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or not isinstance(data.get("arguments"), dict):
            return None
        tool = self._tools.get(data["name"]) if isinstance(data.get("name"), str) else None
        if tool is None or set(data) != {"name", "arguments"}:
            return None
        if tool.strict and tool.parameters and mismatch(data["arguments"], tool.parameters):
            return None
        return Call(tool.name, json.dumps(data["arguments"], ensure_ascii=False))


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text may begin the mark."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-size:])), 0)


MOST_SCHEMA = 100_000  # characters
_MOST_STEPS = 20_000
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


def unfenced(text: str) -> str:
    """JSON as many models give it, without the fence around it."""
    inside = _FENCE.fullmatch(text)
    return inside[1] if inside else text


def json_problem(text: str, schema: Mapping[str, Any] | None) -> str | None:
    """Why a text is not the JSON that was asked for; None if it is. schema None: any object."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if schema is None:
        return None if isinstance(value, dict) else "it is not an object"
    return mismatch(value, schema)


def _refuse(name: str) -> Any:
    raise ValueError(name)


def mismatch(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Where a value does not fit a schema; a schema that takes too long to apply fits nothing."""
    import jsonschema

    steps = itertools.count()

    def counted(check: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            if next(steps) > _MOST_STEPS:  # references can double at every level
                raise ValueError("it takes too many steps")
            return check(*arguments)

        return step

    draft = jsonschema.Draft202012Validator
    bounded = jsonschema.validators.extend(draft, {name: counted(check) for name, check in draft.VALIDATORS.items()})
    try:
        error = next(bounded(schema).iter_errors(value), None)
    except Exception as problem:  # a schema that refers to what is not there, or never ends
        return f"the schema cannot be applied: {type(problem).__name__}"
    return None if error is None else f"{error.json_path}: does not fit '{error.validator}'"


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why a schema is none, or not one that is checked here: references stay inside the document."""
    import jsonschema

    try:
        if len(json.dumps(schema)) > MOST_SCHEMA:  # first, as checking takes its time
            return f"it is longer than {MOST_SCHEMA} characters"
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return error.message[:200]
    except (RecursionError, ValueError):
        return "it is nested too deeply"
    return _unwanted(schema)


def _unwanted(part: Any) -> str | None:
    """What is refused in a schema: references to elsewhere, and patterns, as one that a user writes may never end."""
    if isinstance(part, Mapping):
        for name in ("$ref", "$dynamicRef"):
            if isinstance(part.get(name), str) and not part[name].startswith("#"):
                return f"it refers to {part[name][:100]!r}; only references inside the schema (#...) are followed"
        if isinstance(part.get("pattern"), str) or isinstance(part.get("patternProperties"), Mapping):
            return "patterns are not supported; describe the form in words"
        part = list(part.values())
    return next((found for child in part if (found := _unwanted(child))), None) if isinstance(part, list) else None
