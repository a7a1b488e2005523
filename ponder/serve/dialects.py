"""Middleware for clients of other APIs: where they put a key, the errors they expect, and notes on ignored fields.

    x-api-key: sk-mine            is read as            Authorization: Bearer sk-mine
    {"error": {...}}              under /v1/messages    {"type": "error", "error": {"type": ..., "message": ...}, ...}

A note says what a request asked for and did not get, in the header `x-ponder-note`. Whatever this module makes of a
request, keys, limits and logs are `http.ApiMiddleware`'s, which it wraps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOTES = "ponder_notes"
_BY_STATUS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    408: "timeout_error", 413: "request_too_large", 422: "api_error", 429: "rate_limit_error",
    503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
_LONGEST = 1500  # characters of a header


def add_notes(scope: MutableMapping[str, Any], notes: Iterable[str]) -> None:
    """Add a header that tells the client which fields were ignored or translated."""
    scope.setdefault(_NOTES, []).extend(notes)


class Dialects:
    """ASGI middleware outside `ApiMiddleware`. Under /v1/messages an error is held until its body is whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = _with_bearer(scope["headers"])
        is_anthropic = scope["path"].partition("?")[0].startswith("/v1/messages")
        held: list[Message] = []  # an error, until its body is whole

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *_note_headers(scope.get(_NOTES, ()))]
                if is_anthropic:
                    headers += [(b"request-id", value) for name, value in headers if name == b"x-request-id"]
                message = {**message, "headers": headers}
                if is_anthropic and message["status"] >= 400:
                    held.append(message)
                    return
            elif held:
                held.append(message)
                if message.get("more_body"):
                    return
                for each in _as_anthropic(held):
                    await send(each)
                held.clear()
                return
            await send(message)

        await self._app(scope, receive, send_more)


def _with_bearer(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`x-api-key` as a bearer's key, where there is no other."""
    given = list(headers)
    keys = [value for name, value in given if name == b"x-api-key" and value]
    if keys and not any(name == b"authorization" for name, _ in given):
        given.append((b"authorization", b"Bearer " + keys[0]))
    return given


def _note_headers(notes: Iterable[str]) -> list[tuple[bytes, bytes]]:
    text = re.sub(r"[^ -~]", "?", "; ".join(dict.fromkeys(notes)))  # a note may quote a field's name
    return [(b"x-ponder-note", text[:_LONGEST].encode())] if text else []


def _as_anthropic(messages: list[Message]) -> list[Message]:
    """An error of ours in that API's form; code and param are kept."""
    start, body = messages[0], b"".join(message.get("body", b"") for message in messages[1:])
    try:
        ours = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return messages
    names = {name: value for name, value in start["headers"]}
    kind = _BY_STATUS.get(start["status"], "invalid_request_error" if start["status"] < 500 else "api_error")
    if ours.get("code") == "model_failed":
        kind = "api_error"
    error = {"type": kind, "message": ours.get("message", ""), "param": ours.get("param"), "code": ours.get("code")}
    payload = {"type": "error", "error": error, "request_id": names.get(b"x-request-id", b"").decode()}
    content = json.dumps(payload).encode()
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(content)).encode()))
    return [{**start, "headers": headers}, {"type": "http.response.body", "body": content, "more_body": False}]
