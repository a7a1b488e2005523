"""Reading a request with a model of schema.py: what is wrong with it, in the API's words and codes.

What o1 refuses is refused here too: `unsupported_parameter` for what it has no notion of, `unsupported_value` for
sampling that is not the default one, `unknown_parameter` for a name nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ponder.serve.errors import ApiError
from ponder.serve.lenient import hint
from ponder.serve.tool_kinds import CALLS, KNOWN, OUTPUTS, refusal

M = TypeVar("M", bound=BaseModel)
UNSUPPORTED = {
    "max_tokens": "Use 'max_completion_tokens' instead; it counts the reasoning too.",
    "logprobs": "Log-probabilities would tell of the hidden reasoning.",
    "top_logprobs": "Log-probabilities would tell of the hidden reasoning.",
    "logit_bias": "", "prediction": "", "audio": "", "functions": "Use 'tools' instead.",
    "function_call": "Use 'tool_choice' instead.", "web_search_options": "", "prompt": "", "context_management": "",
}  # fmt: skip
HARMLESS = {"logprobs": (None, False), "top_logprobs": (None, 0), "logit_bias": (None, {}), "prediction": (None,)}
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


def read(
    model: type[M], data: Any, *, strict_params: bool = True,
    foreign: Callable[[Mapping[str, Any]], ApiError | None] | None = None,
) -> M:  # fmt: skip
    """Validated request. strict_params=False drops what o1 refuses, as some servers do; max_tokens keeps its sense.
    foreign: what is refused by its name before anything else; the default is for OpenAI's two APIs."""
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
                message = message.strip() + hint(name, model.__name__)
                raise ApiError(400, message, code="unsupported_parameter", param=name)
            del data[name]
        elif name in SAMPLING and name in fields:
            del data[name]
        elif name not in fields:
            message = f"Unknown parameter: '{name[:100]}'.{hint(name, model.__name__)}"
            raise ApiError(400, message, code="unknown_parameter", param=name[:100])
    if (refused := (foreign or _foreign)(data)) is not None:
        raise refused
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explained(error, data, model.__name__) from None


_MEDIA = {"image": "images", "audio": "audio", "file": "files", "video": "video"}
_PARTS = ("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text")
_ITEMS = ("message", "reasoning", *CALLS, *OUTPUTS, "mcp_call", "mcp_list_tools", "mcp_approval_request",
          "mcp_approval_response", "item_reference")  # fmt: skip


def _foreign(data: Mapping[str, Any]) -> ApiError | None:
    """What other servers of this API have and this one has not, by its name: a tool, an item, a picture."""

    def unsupported(message: str, param: str) -> ApiError:
        return ApiError(400, message, code="unsupported_value", param=param)

    def kind_of(value: Any) -> str | None:
        kind = value.get("type") if isinstance(value, dict) else None
        return kind[:60] if isinstance(kind, str) else None

    for index, tool in enumerate(_list(data.get("tools"))):
        kind = kind_of(tool)
        if "messages" in data and kind not in (None, "function"):
            message = f"Tool type '{kind}' is not supported in chat completions; only functions are ('function')."
            return unsupported(message, f"tools[{index}].type")
        if kind not in (None, *KNOWN):
            return unsupported(refusal(str(kind)), f"tools[{index}].type")
    if (kind := kind_of(data.get("tool_choice"))) not in (None, "function", "custom"):
        message = f"Tool type '{kind}' is not supported; functions and custom tools can be chosen."
        return unsupported(message, "tool_choice.type")
    if isinstance(reasoning := data.get("reasoning"), dict) and reasoning.get("context") == "all_turns":
        message = "reasoning.context 'all_turns' is not supported: reasoning ends with its turn, as this model learned."
        return unsupported(message + " Leave it out, or send 'auto' or 'current_turn'.", "reasoning.context")
    for name in ("messages", "input", "items"):
        for index, item in enumerate(_list(data.get(name))):
            kind = kind_of(item)
            if name != "messages" and kind not in (None, *_ITEMS):
                message = f"Item type '{kind}' is not supported; supported are {', '.join(_ITEMS)}."
                return unsupported(message, f"{name}[{index}].type")
            for field in ("content", "output"):
                for number, part in enumerate(_list(item.get(field) if isinstance(item, dict) else None)):
                    kind = kind_of(part)
                    if kind is not None and kind not in _PARTS:
                        media = next((media for word, media in _MEDIA.items() if word in kind), None)
                        what = f"{media.capitalize()} are" if media else f"Content of type '{kind}' is"
                        what = what.replace("Audio are", "Audio is").replace("Video are", "Video is")
                        message = f"{what} not supported by this model (type '{kind}'); send text."
                        return unsupported(message, f"{name}[{index}].{field}[{number}]")
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _explained(error: ValidationError, data: Mapping[str, Any], request: str) -> ApiError:
    first = _most_specific([dict(each) for each in error.errors(include_url=False, include_context=False)])
    first["msg"] = first["msg"][:500]  # it may quote what was sent
    path = [part for part in first["loc"] if not (isinstance(part, str) and _is_tag(part))]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")[:200] or None
    root = str(path[0]) if path else ""
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
    if root in SAMPLING and isinstance(data.get(root), int | float):
        message = f"Unsupported value: '{root}' does not support {str(data[root])[:50]} with this model."
        message += " Only the default value is supported." + hint(root, request)
        return ApiError(400, message, code="unsupported_value", param=root)
    if root in ("reasoning_effort", "reasoning") and first["type"] == "literal_error":
        return ApiError(400, f"Unsupported value for '{param}': {first['msg']}.", code="unsupported_value", param=param)
    codes = {"string_type": "invalid_type", "int_type": "invalid_type", "bool_type": "invalid_type"}
    code = codes.get(first["type"], "invalid_value")
    return ApiError(400, f"Invalid value for '{param}': {first['msg']}.", code=code, param=param)


def _most_specific(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """The error to report. Where a value may be one of several kinds, pydantic has errors for each: the kind that was
    meant is the one whose shape and `type` the value has."""
    first = errors[0]
    tags = (index for index, part in enumerate(first["loc"]) if isinstance(part, str) and _is_tag(part))
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
        "message", "function_call_output", "item_reference", "assistant", "tool", "custom_tool_call", "mcp_call",
        "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
    )  # fmt: skip
