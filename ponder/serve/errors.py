"""Errors as the API says them: `{"error": {"message", "type", "param", "code"}}`, all four always there.

Only what is raised as one of these reaches a client: its message was written for one. The text of any other
exception may quote what it was about, a prompt or a thought, and goes nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that cannot be served; the message says how to fix it, and never repeats a secret."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class StoreUnavailable(ApiError):
    """The database cannot be read or written: locked, full, or gone."""

    def __init__(self, message: str = "") -> None:
        message = message or "What is stored cannot be read or written at the moment. Please try again later."
        super().__init__(503, message, code="store_unavailable", kind="server_error", headers={"retry-after": "5"})


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


def not_found(what: str, name: str) -> ApiError:
    """Also for what belongs to another key: whoever asks learns nothing."""
    return ApiError(404, f"No {what} with id '{name[:200]}' found.", code="not_found")


def overloaded(message: str) -> ApiError:
    """A 503 with `retry-after: 5`: the same request may succeed later."""
    return ApiError(503, message, code="overloaded", kind="server_error", headers={"retry-after": "5"})


def bug() -> ApiError:
    """A 500 whose message says nothing of the cause."""
    return ApiError(500, "The server had an error while processing your request.", kind="server_error")
