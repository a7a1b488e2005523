"""What requests may say, as strict pydantic models; the OpenAPI document is made from the same ones.

validation.py reads requests with them. Imports neither torch nor a server.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from ponder.serve.schema_tools import AnyTool, FunctionSpec, ResponseToolChoice
from ponder.serve.schema_words import Effort, Listed, Loose, Metadata, Name, One, Short, Strict, Zero


class Compute(Strict):
    """ponder's own: how test-time compute is spent on this request."""

    mode: Name | None = None
    n: Annotated[int, Field(ge=1, le=64)] | None = None  # samples
    selector: Literal["vote", "scorer"] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=3600)] | None = None  # then the reasoning is closed and answered
    max_reasoning_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    answer_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # of the limit, kept for the answer
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class JsonSchema(Strict):
    name: Name
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(Strict):
    type: Literal["text", "json_object"]


class ChatSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class SchemaFormat(JsonSchema):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


# --- chat completions ----------------------------------------------------------------------------------------------


class TextPart(Loose):
    type: Literal["text"]
    text: str


class RefusalPart(Loose):
    type: Literal["refusal"]
    refusal: str


class SaidMessage(Loose):
    role: Literal["system", "developer", "user"]
    content: str | Listed[TextPart]
    name: str | None = None


class ChatFunction(Loose):
    name: str
    arguments: str


class ChatToolCall(Loose):
    id: str
    type: Literal["function"]
    function: ChatFunction


class AssistantMessage(Loose):
    role: Literal["assistant"]
    content: str | Listed[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Listed[ChatToolCall] | None = None


class ToolMessage(Loose):
    role: Literal["tool"]
    content: str | Listed[TextPart]
    tool_call_id: str


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return role if role in ("assistant", "tool") else "said"


ServiceTier = Literal["auto", "default", "flex", "scale", "priority"]  # there is one, and the answer says which
ChatMessage = Annotated[
    Annotated[SaidMessage, Tag("said")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")],
    Discriminator(_role),
]


class ChatTool(Strict):
    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(Strict):
    name: Name


class ChatToolChoice(Strict):
    type: Literal["function"]
    function: NamedFunction


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Strict):
    model: str
    messages: Annotated[Listed[ChatMessage], Field(min_length=1, max_length=4096)]
    reasoning_effort: Effort | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[str, StringConstraints(min_length=1, max_length=256)]
        | Annotated[Listed[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    tools: Annotated[Listed[ChatTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | ChatSchemaFormat | None = None
    service_tier: ServiceTier | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    safety_identifier: Annotated[str, StringConstraints(max_length=128)] | None = None
    prompt_cache_key: Short | None = None
    user: Short | None = None
    modalities: Annotated[Listed[Literal["text"]], Field(max_length=1)] | None = None
    temperature: One | None = None
    top_p: One | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    compute: Compute | None = None


class MetadataUpdate(Strict):
    metadata: Metadata | None


# --- responses -----------------------------------------------------------------------------------------------------


class InputText(Loose):
    type: Literal["input_text", "output_text", "text"]
    text: str


class MessageItem(Loose):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Listed[InputText | RefusalPart]
    id: Short | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class SummaryPart(Loose):
    type: Literal["summary_text"]
    text: str


class ReasoningItem(Loose):
    type: Literal["reasoning"]
    id: Short | None = None
    summary: Listed[SummaryPart] | None = None
    encrypted_content: str | None = None


class CallItem(Loose):
    type: Literal["function_call"]
    call_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    name: str
    arguments: str
    namespace: str | None = None
    id: Short | None = None


class CustomCallItem(Loose):
    type: Literal["custom_tool_call"]
    call_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    name: str
    input: str
    namespace: str | None = None
    id: Short | None = None


class OutputItem(Loose):
    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    output: str | Listed[InputText]
    id: Short | None = None


class McpCallItem(Loose):
    type: Literal["mcp_call"]
    server_label: Name
    name: Annotated[str, StringConstraints(max_length=128)]
    arguments: str
    output: str | None = None
    error: str | dict[str, Any] | None = None
    approval_request_id: Short | None = None
    id: Short | None = None


class ApprovalRequestItem(Loose):
    type: Literal["mcp_approval_request"]
    id: Short
    server_label: Name
    name: Annotated[str, StringConstraints(max_length=128)]
    arguments: str


class ApprovalResponseItem(Loose):
    type: Literal["mcp_approval_response"]
    approval_request_id: Short
    approve: bool
    reason: Annotated[str, StringConstraints(max_length=1000)] | None = None
    id: Short | None = None


class McpListItem(Loose):
    type: Literal["mcp_list_tools"]
    server_label: Name
    tools: Listed[dict[str, Any]] | None = None
    id: Short | None = None


class ItemReference(Loose):
    type: Literal["item_reference"]
    id: Short


def _type(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "custom_tool_call_output":
        return "function_call_output"
    known = ("reasoning", "function_call", "custom_tool_call", "function_call_output", "item_reference", "mcp_call",
             "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")  # fmt: skip
    return kind if kind in known else "message"


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CustomCallItem, Tag("custom_tool_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[McpCallItem, Tag("mcp_call")]
    | Annotated[McpListItem, Tag("mcp_list_tools")]
    | Annotated[ApprovalRequestItem, Tag("mcp_approval_request")]
    | Annotated[ApprovalResponseItem, Tag("mcp_approval_response")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_type),
]


class ReasoningOptions(Strict):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Name | None = None


class TextOptions(Strict):
    format: TextFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


# the others tell more of items that never occur here, so there is nothing to add; log-probabilities are refused
Include = Literal[
    "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results",
    "web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]  # fmt: skip


class ConversationParam(Strict):
    id: Short


class ResponseStreamOptions(Strict):
    include_obfuscation: bool | None = None


class ResponseRequest(Strict):
    model: str | None = None
    input: str | Annotated[Listed[InputItem], Field(max_length=4096)] | None = None
    instructions: str | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    include: Listed[Include] | None = None
    text: TextOptions | None = None
    previous_response_id: Short | None = None
    conversation: Short | ConversationParam | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    tools: Annotated[Listed[AnyTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: ServiceTier | None = None
    prompt_cache_key: Short | None = None
    prompt_cache_retention: Literal["in-memory", "in_memory", "24h"] | None = None
    client_metadata: dict[str, Any] | None = None  # Codex: of its own telemetry
    safety_identifier: Annotated[str, StringConstraints(max_length=128)] | None = None
    user: Short | None = None
    temperature: One | None = None
    top_p: One | None = None
    compute: Compute | None = None


class CountRequest(Strict):
    """POST /responses/input_tokens."""

    model: str | None = None
    input: str | Annotated[Listed[InputItem], Field(max_length=4096)] | None = None
    instructions: str | None = None
    previous_response_id: Short | None = None
    conversation: Short | ConversationParam | None = None
    tools: Annotated[Listed[AnyTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None


class ConversationRequest(Strict):
    items: Annotated[Listed[InputItem], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class ItemsRequest(Strict):
    items: Annotated[Listed[InputItem], Field(min_length=1, max_length=20)]


class BattleRequest(Strict):
    """A question for two models that are not named; what it is about is said before any answer."""

    domain: Literal["writing", "editing", "programming", "data analysis", "mathematics", "other"]
    question: Annotated[str, StringConstraints(max_length=20_000, pattern=r"\S")]


class VoteRequest(Strict):
    choice: Literal["left", "right", "tie", "both_bad"]


class AdminReason(Strict):
    """Why an administrator looks; written into the audit log before anything is shown."""

    # three letters or digits at least: blanks, dots and what cannot be seen are no reason
    reason: Annotated[str, StringConstraints(min_length=3, max_length=1000, pattern=r"([^\W_][\W_]*){3}")]
