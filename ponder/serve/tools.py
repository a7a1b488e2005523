"""Function tools as text in the answer channel, parsed strictly, and JSON answers.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponder.serve.strict_json import strict_json
from ponder.serve.values import mismatch

TOOL_CALL = ("<tool_call>", "</tool_call>")
TOOL_RESPONSE = ("<tool_response>", "</tool_response>")


@dataclass(frozen=True, kw_only=True)
class Tool:
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    param: str = "tools"  # where its schema stands in the request


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str  # JSON text of an object


def tool_instructions(tools: Sequence[Tool]) -> str:
    """The description of its tools for the model."""
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
        self._space: str | None = None  # blanks right after a call: they are no message unless text follows

    def feed(self, text: str) -> list[str | Call]:
        """What is certain so far. What may still become a call is held back."""
        if not self._tools:
            return [text] if text else []
        held, at = self._held + text, 0
        found: list[str | Call] = []
        opening, closing = TOOL_CALL
        while True:
            start = held.find(opening, at)
            end = held.find(closing, max(start, 0))
            if start < 0 or end < 0:
                cut = start if start >= 0 else len(held) - _overlap(held[-len(opening) :], opening)
                self._add_text(found, held[at:cut])
                self._held = held[cut:]
                return _joined(found)
            self._add_text(found, held[at:start])
            at = end + len(closing)
            call = self._read(held[start + len(opening) : end])
            if call is None:
                self._add_text(found, held[start:at])
            else:
                self._space = ""
                if self._parallel or not self._num_calls:
                    self._num_calls += 1
                    found.append(call)

    def finish(self) -> list[str | Call]:
        """What was held back: a call that never ended is text."""
        found: list[str | Call] = []
        self._add_text(found, self._held)
        self._held = ""
        return found

    def _add_text(self, found: list[str | Call], text: str) -> None:
        if self._space is not None:
            text, self._space = self._space + text, None
            if not text.strip():
                self._space, text = text, ""
        if text:
            found.append(text)

    def _read(self, text: str) -> Call | None:
        try:
            data = strict_json(text)
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


def _joined(found: Sequence[str | Call]) -> list[str | Call]:
    """Texts that follow each other as one."""
    joined: list[str | Call] = []
    for is_text, group in itertools.groupby(found, lambda part: isinstance(part, str)):
        parts = list(group)
        joined += ["".join(map(str, parts))] if is_text else parts
    return joined


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text may begin the mark."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-size:])), 0)


def unfenced(text: str) -> str:
    """JSON as many models give it, without the fence around it."""
    first, _, rest = text.strip().partition("\n")
    inside, newline, last = rest.rpartition("\n")
    is_fenced = newline and first.rstrip().lower() in ("```", "```json") and last.strip() == "```"
    return inside if is_fenced else text


def json_problem(text: str, schema: Mapping[str, Any] | None) -> str | None:
    """Why a text is not the JSON that was asked for; None if it is. schema None: any object."""
    try:
        value = strict_json(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if schema is None:
        return None if isinstance(value, dict) else "it is not an object"
    return mismatch(value, schema)
