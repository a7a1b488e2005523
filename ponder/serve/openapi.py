"""The OpenAPI document, made from the routes and from the schema's models."""

from __future__ import annotations

import functools
from typing import Any

from pydantic.json_schema import models_json_schema

from ponder import __version__
from ponder.serve import schema
from ponder.serve.routes.chat import CHATS
from ponder.serve.routes.messages import MESSAGES
from ponder.serve.routes.table import Operation

_QUERY: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "limit_admin": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "limit_rows": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1000},
    "with_reasoning": {"type": "boolean", "default": False},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "after": {"type": "string"},
    "model": {"type": "string"},
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


@functools.lru_cache(1)
def document(models: tuple[str, ...], operations: tuple[Operation, ...]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these models."""
    operations = tuple(operation for operation in operations if operation.is_documented)
    bodies = [operation.body for operation in operations if operation.body is not None]
    _, definitions = models_json_schema(
        [(body, "validation") for body in dict.fromkeys(bodies)], ref_template="#/components/schemas/{model}"
    )
    for name in ("ChatRequest", "ResponseRequest", "CountRequest", "MessagesRequest", "MessagesCountRequest"):
        body = definitions["$defs"][name]
        body["properties"]["model"] = {"type": "string", "enum": list(models)}
        if len(models) > 1:  # one has to be named
            body["required"] = sorted({*body.get("required", ()), "model"})
    paths: dict[str, Any] = {}
    for operation in operations:
        path = operation.path.replace(":path", "")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ponder", "version": __version__, "description": f"Serves {', '.join(models)}."},
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
    parameters += [  # limits differ
        {
            "name": "limit" if name.startswith("limit") else name,
            "in": "query",
            "required": False,
            "schema": _QUERY[name],
        }
        for name in operation.query
    ]
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object", "required": list(operation.required)}}}
    if operation.text:
        content = {"text/plain": {"schema": {"type": "string"}}}
    if operation.stream:
        content["text/event-stream"] = {"schema": _EVENTS if operation.path in (CHATS, MESSAGES) else _NUMBERED}
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    failure = {"description": "An error", "content": {"application/json": error}}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if operation.path == "/health/ready":
        responses["503"] = {"description": "Not ready", "content": content}
    if operation.path != "/health/live":
        responses |= {status: failure for status in ("400", "401", "403", "404", "429", "default")}
    made: dict[str, Any] = {
        "operationId": operation.name,
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
