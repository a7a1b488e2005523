"""The table of routes, and the OpenAPI document made from it and from the schema's models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ponder import __version__
from ponder.serve import schema

if TYPE_CHECKING:
    from ponder.serve.service import Service


@dataclass(frozen=True)
class Operation:
    path: str
    method: str
    handler: str  # a method of app.Routes
    summary: str
    body: type[BaseModel] | None = None
    query: tuple[str, ...] = ()
    stream: bool = False  # may answer with server-sent events
    text: bool = False  # answers with text
    required: tuple[str, ...] = ()  # of the object that comes back
    scopes: tuple[str, ...] = ()  # a key needs one of these; () = any key


_LIST = ("object", "data", "first_id", "last_id", "has_more")
_RESPONSE = (
    "id", "object", "created_at", "error", "incomplete_details", "instructions", "metadata", "model", "output",
    "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "status", "usage",
)  # fmt: skip
_CHAT = ("id", "object", "created", "model", "choices", "usage")
_PAGE = ("limit", "order", "after")
_TALK = ("id", "object", "created_at", "metadata")
_CHATS, _ONE_CHAT = "/v1/chat/completions", "/v1/chat/completions/{id}"
_RESPONSES, _ONE = "/v1/responses", "/v1/responses/{id}"
_TALKS, _ONE_TALK = "/v1/conversations", "/v1/conversations/{id}"

# who may call: any key asks about the server; what was said is its owner's; deleting and producing are use
_READ, _USE, _ADMIN = ("infer", "read"), ("infer",), ("admin",)

TABLE = (
    Operation("/health/live", "GET", "live", "The process runs. The only answer without a key.", required=("status",)),
    Operation("/health/ready", "GET", "ready", "The engine generates a token.", required=("status",)),
    Operation("/metrics", "GET", "metrics", "Prometheus metrics.", text=True, scopes=("metrics", "admin")),
    Operation("/version", "GET", "version", "ponder's version.", required=("version",)),
    Operation("/openapi.json", "GET", "openapi", "This document.", required=("openapi",)),
    Operation("/v1/models", "GET", "models", "The model that is served.", required=("object", "data")),
    Operation("/v1/models/{id:path}", "GET", "model", "One model.", required=("id", "object", "created", "owned_by")),
    Operation(
        _CHATS, "POST", "chat", "Answer a conversation.", schema.ChatRequest, stream=True, required=_CHAT, scopes=_USE
    ),
    Operation(_CHATS, "GET", "chats", "Stored completions.", query=_PAGE, required=_LIST, scopes=_READ),
    Operation(_ONE_CHAT, "GET", "get_chat", "A stored completion.", required=_CHAT, scopes=_READ),
    Operation(
        _ONE_CHAT, "POST", "update_chat", "Change its metadata.", schema.MetadataUpdate, required=_CHAT,
        scopes=_USE,
    ),
    Operation(_ONE_CHAT, "DELETE", "delete_chat", "Delete it.", required=("id", "object", "deleted"), scopes=_USE),
    Operation(
        _ONE_CHAT + "/messages", "GET", "chat_messages", "What was asked.", query=_PAGE, required=_LIST,
        scopes=_READ,
    ),
    Operation(
        _RESPONSES, "POST", "respond", "Make a response.", schema.ResponseRequest, stream=True, required=_RESPONSE,
        scopes=_USE,
    ),
    Operation(
        _RESPONSES + "/input_tokens", "POST", "count_input", "Count a request's tokens.", schema.CountRequest,
        required=("object", "input_tokens"), scopes=_USE,
    ),
    Operation(
        _ONE, "GET", "get_response", "A response, or its events again.",
        query=("stream", "starting_after", "include_obfuscation"), stream=True, required=_RESPONSE, scopes=_READ,
    ),
    Operation(_ONE, "DELETE", "delete_response", "Delete it.", required=("id", "object", "deleted"), scopes=_USE),
    Operation(
        _ONE + "/cancel", "POST", "cancel_response", "Stop a background response.", required=_RESPONSE,
        scopes=_USE,
    ),
    Operation(
        _ONE + "/finish", "POST", "finish_response", "Answer now: end the thinking.", required=_RESPONSE,
        scopes=_USE,
    ),
    Operation(
        _ONE + "/input_items", "GET", "response_items", "What was asked.", query=_PAGE, required=_LIST,
        scopes=_READ,
    ),
    Operation(
        _TALKS, "POST", "new_conversation", "Begin a conversation.", schema.ConversationRequest, required=_TALK,
        scopes=_USE,
    ),
    Operation(_TALKS, "GET", "conversations", "One's conversations (ours).", query=_PAGE, required=_LIST, scopes=_READ),
    Operation(_ONE_TALK, "GET", "get_conversation", "A conversation.", required=_TALK, scopes=_READ),
    Operation(
        _ONE_TALK, "POST", "update_conversation", "Change its metadata.", schema.MetadataUpdate, required=_TALK,
        scopes=_USE,
    ),
    Operation(
        _ONE_TALK, "DELETE", "delete_conversation", "Delete it.", required=("id", "object", "deleted"),
        scopes=_USE,
    ),
    Operation(
        _ONE_TALK + "/responses", "GET", "turns", "Its responses with their `input`, oldest first (ours).",
        query=("limit", "after"), required=_LIST, scopes=_READ,
    ),
    Operation(
        _ONE_TALK + "/items", "GET", "conversation_items", "Its items.", query=_PAGE, required=_LIST,
        scopes=_READ,
    ),
    Operation(
        _ONE_TALK + "/items", "POST", "add_items", "Add items.", schema.ItemsRequest, required=_LIST,
        scopes=_USE,
    ),
    Operation(_ONE_TALK + "/items/{item}", "GET", "get_item", "One item.", required=("id", "type"), scopes=_READ),
    Operation(_ONE_TALK + "/items/{item}", "DELETE", "delete_item", "Delete an item.", required=_TALK, scopes=_USE),
    Operation(
        "/admin/responses/{id}/reasoning", "POST", "raw_reasoning",
        "The raw reasoning (scope raw_cot). The reason is written into the audit log.", schema.AdminReason,
        required=("response", "reasoning", "verdicts"), scopes=("raw_cot",),
    ),
    Operation(
        "/admin/responses", "GET", "all_responses", "The newest responses, without contents (scope admin).",
        query=("limit_admin",), scopes=_ADMIN,
    ),
    Operation(
        "/admin/verdicts", "GET", "verdicts", "What monitors said (scope admin).", query=("limit_admin",),
        scopes=_ADMIN,
    ),
    Operation(
        "/admin/audit", "GET", "audit", "Who looked at what (scope admin).", query=("limit_admin",),
        scopes=_ADMIN,
    ),
)  # fmt: skip

_QUERY: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "limit_admin": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "after": {"type": "string"},
    "stream": {"type": "boolean", "default": False},
    "starting_after": {"type": "integer", "minimum": -1, "maximum": 2**31},
    "include_obfuscation": {"type": "boolean", "default": True},
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_EVENTS = {  # each event of a stream; chat ends with the word [DONE]
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_NUMBERED = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object", "required": ["type", "sequence_number"]},
        },
    },
}


def document(service: Service) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this server."""
    bodies = [operation.body for operation in TABLE if operation.body is not None]
    _, definitions = models_json_schema(
        [(body, "validation") for body in dict.fromkeys(bodies)], ref_template="#/components/schemas/{model}"
    )
    for name in ("ChatRequest", "ResponseRequest", "CountRequest"):  # there is one model
        definitions["$defs"][name]["properties"]["model"] = {"type": "string", "enum": [service.settings.model]}
    paths: dict[str, Any] = {}
    for operation in TABLE:
        path = operation.path.replace(":path", "")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ponder", "version": __version__, "description": f"Serves {service.settings.model}."},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**definitions.get("$defs", {}), "Error": _ERROR},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    names = [part[1:-1].partition(":")[0] for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    parameters += [
        {"name": name.removesuffix("_admin"), "in": "query", "required": False, "schema": _QUERY[name]}
        for name in operation.query
    ]
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object", "required": list(operation.required)}}}
    if operation.text:
        content = {"text/plain": {"schema": {"type": "string"}}}
    if operation.stream:
        content["text/event-stream"] = {"schema": _EVENTS if operation.path == _CHATS else _NUMBERED}
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    failure = {"description": "An error", "content": {"application/json": error}}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if operation.path == "/health/ready":
        responses["503"] = {"description": "Not ready", "content": content}
    if operation.path != "/health/live":
        responses |= {status: failure for status in ("400", "401", "403", "404", "429", "default")}
    made: dict[str, Any] = {
        "operationId": operation.handler,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    }
    if operation.path == "/health/live":
        made["security"] = []
    if operation.body is not None:
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        is_needed = operation.body is not schema.ConversationRequest
        made["requestBody"] = {"required": is_needed, "content": {"application/json": {"schema": reference}}}
    return made
