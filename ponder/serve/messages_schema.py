"""What requests of Anthropic's Messages API may say, as strict models, and what of it is refused by name.

    read(MessagesRequest, {"model": "nano", "max_tokens": 500, "messages": [{"role": "user", "content": "2+3?"}]},
         foreign=foreign)

Field names and shapes are those of the `anthropic` package. Blocks are read loosely, as clients send back what they
got with whatever their library added (`citations`, `cache_control`, `caller`); everything else is strict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from ponder.serve.errors import ApiError
from ponder.serve.schema import Compute
from ponder.serve.schema_words import Listed, Loose, One, Short, Strict


class TextBlock(Loose):
    type: Literal["text"]
    text: str


class ThinkingBlock(Loose):
    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(Loose):
    type: Literal["redacted_thinking"]
    data: str


CallId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ToolUseBlock(Loose):
    type: Literal["tool_use"]
    id: CallId
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    input: dict[str, Any]


class ToolResultBlock(Loose):
    type: Literal["tool_result"]
    tool_use_id: CallId
    content: str | Listed[TextBlock] | None = None
    is_error: bool | None = None


def _block(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return "".join(word.capitalize() for word in str(kind).split("_"))


# tags begin with a capital: no part of an error's path, as validation.py tells them
Block = Annotated[
    Annotated[TextBlock, Tag("Text")]
    | Annotated[ThinkingBlock, Tag("Thinking")]
    | Annotated[RedactedThinkingBlock, Tag("RedactedThinking")]
    | Annotated[ToolUseBlock, Tag("ToolUse")]
    | Annotated[ToolResultBlock, Tag("ToolResult")],
    Discriminator(_block),
]


class ClaudeMessage(Loose):
    role: Literal["user", "assistant", "system"]
    content: str | Listed[Block]


class ThinkingOptions(Loose):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class ClaudeTool(Loose):
    """Also with cache_control, input_examples, defer_loading, ...: hints that change no call."""

    type: Literal["custom"] | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class ClaudeToolChoice(Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class UserMetadata(Loose):
    user_id: Annotated[str, StringConstraints(max_length=256)] | None = None


class MessagesCountRequest(Strict):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: Annotated[Listed[ClaudeMessage], Field(min_length=1, max_length=4096)]
    system: str | Listed[TextBlock] | None = None
    thinking: ThinkingOptions | None = None
    output_config: OutputConfig | None = None
    tools: Annotated[Listed[ClaudeTool], Field(max_length=128)] | None = None
    tool_choice: ClaudeToolChoice | None = None
    cache_control: dict[str, Any] | None = None


class MessagesRequest(MessagesCountRequest):
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    stop_sequences: (
        Annotated[Listed[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=16)] | None
    ) = None
    stream: bool | None = None
    metadata: UserMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: Short | None = None
    temperature: One | None = None
    top_p: One | None = None
    compute: Compute | None = None


_HERE = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}
_MEDIA = {
    "image": "Images are", "document": "Documents are", "file": "Files are", "search_result": "Search results are"
}  # fmt: skip
_REFUSED = {
    "mcp_servers": "No MCP server is asked from here: give its functions as 'tools'.",
    "container": "There is no code execution here.",
    "context_management": "Leave out the oldest messages yourself; `ponder serve --lenient` ignores it.",
    "fallbacks": "",
}


def foreign(data: Mapping[str, Any]) -> ApiError | None:
    """What Anthropic's API has and this one has not, by its name: a tool of another kind, a picture, a prefill."""

    def refused(message: str, param: str) -> ApiError:
        return ApiError(400, f"{param}: {message}", code="unsupported_value", param=param)

    for index, tool in enumerate(_list(data.get("tools"))):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in (None, "custom"):
            message = f"tools of type '{str(kind)[:60]}' are not run here; give a function with an 'input_schema'."
            return refused(message, f"tools.{index}")
    messages = _list(data.get("messages"))
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        for number, block in enumerate(_list(message.get("content"))):
            path = f"messages.{index}.content.{number}"
            if (problem := _foreign_block(block, _HERE.get(str(message.get("role")), ()))) is not None:
                return refused(problem, path)
            for inner in _list(block.get("content")) if isinstance(block, dict) else ():
                if (problem := _foreign_block(inner, ("text",))) is not None:
                    return refused(problem, f"{path}.content")
    if messages and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        return refused("a message of the assistant is not continued (prefill); end with one of the user.", "messages")
    return None


def _foreign_block(block: Any, allowed: tuple[str, ...]) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind in allowed or not allowed:
        return None
    for word, what in _MEDIA.items():
        if word in kind:
            return f"{what} not supported by this model (type '{kind[:60]}'); send text."
    return f"a block of type '{kind[:60]}' is not supported here; {', '.join(allowed)} are."


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def refuse_fields(data: Any) -> None:
    """Fields of that API that ask for something which this server cannot do."""
    for name, advice in _REFUSED.items():
        if isinstance(data, dict) and data.get(name):
            message = f"{name}: not supported here. {advice}".strip()
            raise ApiError(400, message, code="unsupported_parameter", param=name)
        if isinstance(data, dict):
            data.pop(name, None)
