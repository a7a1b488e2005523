"""Tools of the Responses API beside functions: custom tools, whose input is text, and namespaces of functions.

    {"type": "custom", "name": "apply_patch"}                 the model sees a function with one string, `input`;
                                                              the client gets a custom_tool_call with that text
    {"type": "namespace", "name": "files", "tools": [read]}   the model sees files.read;
                                                              the client gets a call of read with "namespace": "files"

Codex sends both. A grammar (`format`) of a custom tool is told to the model and not held to while decoding; a note says
so. `mcp` names tools of a server that the operator offers (mcp_rounds.py). Other kinds that a server would have to run
itself (web_search, code_interpreter, ...) are refused by their name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponder.serve.errors import ApiError
from ponder.serve.schema_tools import CustomTool, FunctionSpec, McpTool, NamespaceTool

KNOWN = ("function", "custom", "namespace", "mcp")
_ADVICE = {
    "web_search": ' Codex leaves it out with web_search = "disabled" in its configuration.',
    "local_shell": " Give the model a function for it.",
    "shell": " Give the model a function for it.",
    "apply_patch": " Give it as a custom tool.",
    "mcp": " Give the server's functions as a namespace; or `ponder serve --mcp NAME=COMMAND` offers servers.",
    "tool_search": " Give all tools with the request.",
}


def is_known(kind: Any) -> bool:
    """Whether tools of this type are taken; None is a function, as where a tool gives no type."""
    return kind in (None, *KNOWN)


def refusal(kind: str) -> str:
    """Why a tool of another kind is refused, and what to do."""
    advice = next((text for name, text in _ADVICE.items() if kind.startswith(name)), "")
    return (
        f"Tool type '{kind}' is not run here; the types 'function', 'custom' and 'namespace' are taken.{advice} "
        "With `ponder serve --lenient` such tools are left out, unless one must be called."
    )


@dataclass(frozen=True)
class ToolKind:
    """What a call of a tool is to the client. By the name that the model knows it by."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


def called_name(name: str, namespace: str | None) -> str:
    """What the model calls it: functions of two namespaces may share a name."""
    return f"{namespace}.{name}" if namespace else name


def functions_of(tools: Sequence[Any]) -> list[FunctionSpec]:
    """All tools of a request as functions, as the model sees them."""
    found: list[FunctionSpec] = []
    for tool in tools:
        if isinstance(tool, McpTool):
            continue  # what it stands for is known to mcp_rounds.py
        if isinstance(tool, NamespaceTool):
            for inner in tool.tools:
                spec = _as_function(inner)
                text = " ".join(part for part in (tool.description, spec.description) if part)
                name = called_name(spec.name, tool.name)
                found.append(spec.model_copy(update={"name": name, "description": text}))
        else:
            found.append(_as_function(tool))
    names = Counter(spec.name for spec in found)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None and any(isinstance(tool, CustomTool | NamespaceTool) for tool in tools):
        message = f"Two tools are called '{twice}': a call could be of either."  # and they are told in different forms
        raise ApiError(400, message, code="invalid_value", param="tools")
    return found


def _as_function(tool: Any) -> FunctionSpec:
    if not isinstance(tool, CustomTool):
        spec: FunctionSpec = getattr(tool, "function", tool)
        return spec
    text = tool.description or ""
    if tool.format is not None and tool.format.type == "grammar":
        text += f"\nIts input follows this {tool.format.syntax} grammar:\n{tool.format.definition}"
    what = {"type": "string", "description": "The whole input of the tool, as text."}
    schema = {"type": "object", "properties": {"input": what}, "required": ["input"], "additionalProperties": False}
    return FunctionSpec.model_construct(name=tool.name, description=text.strip(), parameters=schema, strict=True)


def kinds_of(tools: Iterable[Any] | None) -> dict[str, ToolKind]:
    """The tools that are no plain functions."""
    kinds: dict[str, ToolKind] = {}
    for tool in tools or ():
        if isinstance(tool, CustomTool):
            kinds[tool.name] = ToolKind(tool.name, is_custom=True)
        elif isinstance(tool, NamespaceTool):
            for inner in tool.tools:
                kinds[called_name(inner.name, tool.name)] = ToolKind(
                    inner.name, tool.name, isinstance(inner, CustomTool)
                )
    return kinds


def echoed(tool: Any) -> dict[str, Any]:
    """A tool as a response repeats it."""
    given: dict[str, Any] = tool.model_dump(exclude_none=True)
    if isinstance(tool, CustomTool | NamespaceTool | McpTool):
        return given
    return {**given, "description": tool.description, "parameters": tool.parameters, "strict": bool(tool.strict)}


def grammar_notes(tools: Sequence[Any] | None) -> list[str]:
    """A note on every custom tool that has a grammar, for `x-ponder-note`."""
    inner = [each for tool in tools or () for each in (tool.tools if isinstance(tool, NamespaceTool) else (tool,))]
    return [
        f"tool {tool.name}: its grammar is in the prompt, and not enforced"
        for tool in inner
        if isinstance(tool, CustomTool) and tool.format is not None and tool.format.type == "grammar"
    ]


# --- items -----------------------------------------------------------------------------------------------------------

CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")


def normalised_call(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a call, beside its id and type."""
    if item["type"] == "mcp_call":
        kept = {name: item.get(name) for name in ("server_label", "name", "arguments", "output", "error")}
        asked = item.get("approval_request_id")
        return kept | ({"approval_request_id": asked} if asked else {})
    field = "input" if item["type"] == "custom_tool_call" else "arguments"
    kept = {name: item[name] for name in ("call_id", "name", field)}
    return kept | ({"namespace": item["namespace"]} if item.get("namespace") else {})


def call_as_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """A call as the model wrote it."""
    name = called_name(item["name"], item.get("namespace") or item.get("server_label"))
    if item["type"] == "custom_tool_call":
        return {"name": name, "arguments": {"input": item["input"]}}
    try:
        arguments = json.loads(item["arguments"])
    except (ValueError, RecursionError):  # a client wrote it: a text of any depth
        arguments = item["arguments"]
    return {"name": name, "arguments": arguments}


def identity_of_call(item: Mapping[str, Any]) -> list[Any]:
    """The content of a call, for the hash of a conversation; a plain function's is as it always was."""
    if item["type"] == "mcp_call":
        output = item.get("output") if item.get("output") is not None else item.get("error")
        return ["mcp", item["server_label"], item["name"], item["arguments"], output]
    if item["type"] == "function_call":
        more = [item["namespace"]] if item.get("namespace") else []
        return ["call", item["call_id"], item["name"], item["arguments"], *more]
    return ["custom", item["call_id"], item["name"], item["input"], item.get("namespace")]
