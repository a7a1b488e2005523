"""What requests may say, as strict pydantic models; the OpenAPI document is made from the same ones.

What o1 refuses is refused here with its codes: `unsupported_parameter` for what it has no notion of,
`unsupported_value` for sampling that is not the default one, `unknown_parameter` for a name nobody knows. Imports
neither torch nor a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, ValidationError

from ponder.serve.errors import ApiError

M = TypeVar("M", bound=BaseModel)
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
One = Annotated[float, Field(ge=1, le=1)]  # sampling is the model's business: only the default is accepted
Zero = Annotated[float, Field(ge=0, le=0)]
Short = Annotated[str, StringConstraints(max_length=512)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Loose(BaseModel):
    """Items and messages that clients send back as they got them, with whatever their library added."""

    model_config = ConfigDict(strict=True, extra="ignore")


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
    content: str | list[TextPart]
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
    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None


class ToolMessage(Loose):
    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return role if role in ("assistant", "tool") else "said"


ChatMessage = Annotated[
    Annotated[SaidMessage, Tag("said")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")],
    Discriminator(_role),
]


class FunctionSpec(Strict):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


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
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    reasoning_effort: Effort | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[str, StringConstraints(min_length=1, max_length=256)]
        | Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    tools: Annotated[list[ChatTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | ChatSchemaFormat | None = None
    service_tier: Literal["auto", "default"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    safety_identifier: Annotated[str, StringConstraints(max_length=128)] | None = None
    prompt_cache_key: Short | None = None
    user: Short | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
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
    content: str | list[InputText | RefusalPart]
    id: Short | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class SummaryPart(Loose):
    type: Literal["summary_text"]
    text: str


class ReasoningItem(Loose):
    type: Literal["reasoning"]
    id: Short | None = None
    summary: list[SummaryPart] | None = None
    encrypted_content: str | None = None


class CallItem(Loose):
    type: Literal["function_call"]
    call_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    name: str
    arguments: str
    id: Short | None = None


class OutputItem(Loose):
    type: Literal["function_call_output"]
    call_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    output: str | list[InputText]
    id: Short | None = None


class Reference(Loose):
    type: Literal["item_reference"]
    id: Short


def _type(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if kind in ("reasoning", "function_call", "function_call_output", "item_reference") else "message"


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[Reference, Tag("item_reference")],
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


class ResponseTool(FunctionSpec):
    type: Literal["function"]


class ResponseToolChoice(Strict):
    type: Literal["function"]
    name: Name


class ConversationParam(Strict):
    id: Short


class ResponseStreamOptions(Strict):
    include_obfuscation: bool | None = None


class ResponseRequest(Strict):
    model: str | None = None
    input: str | Annotated[list[InputItem], Field(max_length=4096)] | None = None
    instructions: str | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    text: TextOptions | None = None
    previous_response_id: Short | None = None
    conversation: Short | ConversationParam | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: Short | None = None
    safety_identifier: Annotated[str, StringConstraints(max_length=128)] | None = None
    user: Short | None = None
    temperature: One | None = None
    top_p: One | None = None
    compute: Compute | None = None


class CountRequest(Strict):
    """POST /responses/input_tokens."""

    model: str | None = None
    input: str | Annotated[list[InputItem], Field(max_length=4096)] | None = None
    instructions: str | None = None
    previous_response_id: Short | None = None
    conversation: Short | ConversationParam | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None


class ConversationRequest(Strict):
    items: Annotated[list[InputItem], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class ItemsRequest(Strict):
    items: Annotated[list[InputItem], Field(min_length=1, max_length=20)]


class AdminReason(Strict):
    """Why an administrator looks; written into the audit log before anything is shown."""

    # three letters or digits at least: blanks, dots and what cannot be seen are no reason
    reason: Annotated[str, StringConstraints(min_length=3, max_length=1000, pattern=r"([^\W_][\W_]*){3}")]


# --- validation ----------------------------------------------------------------------------------------------------

UNSUPPORTED = {
    "max_tokens": "Use 'max_completion_tokens' instead; it counts the reasoning too.",
    "logprobs": "Log-probabilities would tell of the hidden reasoning.",
    "top_logprobs": "Log-probabilities would tell of the hidden reasoning.",
    "logit_bias": "", "prediction": "", "audio": "", "functions": "Use 'tools' instead.",
    "function_call": "Use 'tool_choice' instead.", "web_search_options": "", "prompt": "", "context_management": "",
}  # fmt: skip
HARMLESS = {"logprobs": (None, False), "top_logprobs": (None, 0), "logit_bias": (None, {}), "prediction": (None,)}
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


def read(model: type[M], data: Any, *, strict_params: bool = True) -> M:
    """Validated request. strict_params=False drops what o1 refuses, as some servers do; max_tokens keeps its sense."""
    if not isinstance(data, dict):
        raise ApiError(400, "The request body must be a JSON object.", code="invalid_type")
    fields = {field.alias or name for name, field in model.model_fields.items()}
    data = dict(data)
    if not strict_params and "max_tokens" in data and "max_completion_tokens" in fields:
        data.setdefault("max_completion_tokens", data["max_tokens"])
    for name in list(data):
        if name in fields and not (name in SAMPLING and not strict_params):
            continue
        if name in UNSUPPORTED:
            if strict_params and data[name] not in HARMLESS.get(name, ()):
                message = f"Unsupported parameter: '{name}' is not supported with this model. {UNSUPPORTED[name]}"
                raise ApiError(400, message.strip(), code="unsupported_parameter", param=name)
            del data[name]
        elif name in SAMPLING and name in fields:
            del data[name]
        elif name not in fields:
            message = f"Unknown parameter: '{name[:100]}'."
            raise ApiError(400, message, code="unknown_parameter", param=name[:100])
    if (foreign := _foreign(data)) is not None:
        raise foreign
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explained(error, data) from None


_MEDIA = {"image": "images", "audio": "audio", "file": "files", "video": "video"}
_PARTS = ("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text")
_ITEMS = ("message", "reasoning", "function_call", "function_call_output", "item_reference")


def _foreign(data: Mapping[str, Any]) -> ApiError | None:
    """What other servers of this API have and this one has not, by its name: a tool, an item, a picture."""

    def unsupported(message: str, param: str) -> ApiError:
        return ApiError(400, message, code="unsupported_value", param=param)

    def kind_of(value: Any) -> str | None:
        kind = value.get("type") if isinstance(value, dict) else None
        return kind[:60] if isinstance(kind, str) else None

    for place, tool in enumerate(_list(data.get("tools"))):
        if (kind := kind_of(tool)) not in (None, "function"):
            message = f"Tool type '{kind}' is not supported; only functions are: 'type': 'function'."
            return unsupported(message, f"tools[{place}].type")
    if (kind := kind_of(data.get("tool_choice"))) not in (None, "function"):
        return unsupported(f"Tool type '{kind}' is not supported; only functions can be chosen.", "tool_choice.type")
    for name in ("messages", "input", "items"):
        for place, item in enumerate(_list(data.get(name))):
            kind = kind_of(item)
            if name != "messages" and kind not in (None, *_ITEMS):
                message = f"Item type '{kind}' is not supported; supported are {', '.join(_ITEMS)}."
                return unsupported(message, f"{name}[{place}].type")
            for field in ("content", "output"):
                for number, part in enumerate(_list(item.get(field) if isinstance(item, dict) else None)):
                    kind = kind_of(part)
                    if kind is not None and kind not in _PARTS:
                        media = next((media for word, media in _MEDIA.items() if word in kind), None)
                        what = f"{media.capitalize()} are" if media else f"Content of type '{kind}' is"
                        what = what.replace("Audio are", "Audio is").replace("Video are", "Video is")
                        message = f"{what} not supported by this model (type '{kind}'); send text."
                        return unsupported(message, f"{name}[{place}].{field}[{number}]")
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _explained(error: ValidationError, data: Mapping[str, Any]) -> ApiError:
    first = _most_specific([dict(each) for each in error.errors(include_url=False, include_context=False)])
    path = [part for part in first["loc"] if not (isinstance(part, str) and _is_tag(part))]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")[:200] or None
    root = str(path[0]) if path else ""
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if root in SAMPLING and isinstance(data.get(root), int | float):
        message = f"Unsupported value: '{root}' does not support {str(data[root])[:50]} with this model."
        message += " Only the default value is supported."
        return ApiError(400, message, code="unsupported_value", param=root)
    if root in ("reasoning_effort", "reasoning") and first["type"] == "literal_error":
        return ApiError(400, f"Unsupported value for '{param}': {first['msg']}.", code="unsupported_value", param=param)
    codes = {"string_type": "invalid_type", "int_type": "invalid_type", "bool_type": "invalid_type"}
    code = codes.get(first["type"], "invalid_value")
    return ApiError(400, f"Invalid value for '{param}': {first['msg']}.", code=code, param=param)


def _most_specific(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """The error to tell. Where a value may be one of several kinds, pydantic has errors for each: what was meant is the
    kind whose own shape and `type` the value has."""
    first = errors[0]
    tags = (place for place, part in enumerate(first["loc"]) if isinstance(part, str) and _is_tag(part))
    at = next(tags, None)
    if at is None:
        beside = (each for each in errors if each["loc"] == (*first["loc"][:-1], "type"))
        return next((each for each in beside if each["type"] == "literal_error"), first)
    before = first["loc"][:at]
    kinds: dict[Any, list[dict[str, Any]]] = {}
    for each in errors:
        if each["loc"][:at] == before and len(each["loc"]) > at:
            kinds.setdefault(each["loc"][at], []).append({**each, "loc": before + each["loc"][at + 1 :]})
    others = [each for found in kinds.values() for each in found if _is_other_kind(each, before)]
    meant = [found for found in kinds.values() if not any(each in others for each in found)]
    if meant:
        return _most_specific(meant[0])
    others = [each for each in others if each["type"] == others[0]["type"]] if others[0]["loc"] != before else others
    names = (each["msg"].removeprefix("Input should be ") for each in others)
    wanted = dict.fromkeys("an object" if text.startswith("a valid dictionary") else text for text in names)
    return {**others[0], "msg": "Input should be " + " or ".join(wanted)}


def _is_other_kind(error: Mapping[str, Any], before: tuple[Any, ...]) -> bool:
    shape = ("string_type", "list_type", "model_type", "model_attributes_type", "dict_type", "literal_error")
    is_type = error["loc"] == (*before, "type") and error["type"] == "literal_error"
    return is_type or (error["loc"] == before and error["type"] in shape)


def _is_tag(part: str) -> bool:
    """Names that pydantic puts into a path for the branches of a union."""
    return part in ("said", "str", "constrained-str") or "[" in part or part[:1].isupper() or part in (
        "message", "function_call_output", "item_reference", "assistant", "tool"
    )  # fmt: skip
