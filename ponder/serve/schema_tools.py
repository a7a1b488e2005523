"""Tools as requests describe them: functions, and in the Responses API custom tools and namespaces (tool_kinds.py)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from ponder.serve.schema_words import Listed, Name, Strict


class FunctionSpec(Strict):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseTool(FunctionSpec):
    type: Literal["function"]
    defer_loading: bool | None = None


class TextInput(Strict):
    type: Literal["text"]


class GrammarInput(Strict):
    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: Annotated[str, StringConstraints(max_length=50_000)]


class CustomTool(Strict):
    """A tool whose input is text (tool_kinds.py)."""

    type: Literal["custom"]
    name: Name
    description: str | None = None
    format: TextInput | GrammarInput | None = None
    defer_loading: bool | None = None


class McpFilter(Strict):
    tool_names: Listed[str] | None = None


class ApprovalRule(Strict):
    """Which tools need approval (approvals.py); those under neither name do."""

    always: McpFilter | None = None
    never: McpFilter | None = None


class McpTool(Strict):
    """Tools of an MCP server that the operator offers (mcp_rounds.py)."""

    type: Literal["mcp"]
    server_label: Name
    server_description: str | None = None
    allowed_tools: Annotated[Listed[str], Field(max_length=128)] | McpFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalRule | None = None  # None = always

    @property
    def names(self) -> list[str] | None:
        """The tools that the request allows; None = all."""
        return self.allowed_tools.tool_names if isinstance(self.allowed_tools, McpFilter) else self.allowed_tools


def _tool(tool: Any) -> str:
    """Of a request's JSON, and of what was made of it where a response repeats a namespace."""
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return {"custom": "Custom", "namespace": "Namespace", "mcp": "Mcp"}.get(str(kind), "Function")


# tags begin with a capital: no part of an error's path, as validation.py tells them
Called = Annotated[
    Annotated[ResponseTool, Tag("Function")] | Annotated[CustomTool, Tag("Custom")], Discriminator(_tool)
]


class NamespaceTool(Strict):
    type: Literal["namespace"]
    name: Name
    description: str | None = None
    tools: Annotated[Listed[Called], Field(min_length=1, max_length=128)]


AnyTool = Annotated[
    Annotated[ResponseTool, Tag("Function")]
    | Annotated[CustomTool, Tag("Custom")]
    | Annotated[NamespaceTool, Tag("Namespace")]
    | Annotated[McpTool, Tag("Mcp")],
    Discriminator(_tool),
]


class ResponseToolChoice(Strict):
    type: Literal["function", "custom"]
    # a function of a namespace as the model calls it: files.read
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}(\.[a-zA-Z0-9_-]{1,64})?$")]
