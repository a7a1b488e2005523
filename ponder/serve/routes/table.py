"""How a route is declared: at its handler, with all that the OpenAPI document says of it.

Usage:

    table = RouteTable()

    @table.get("/version", "ponder's version.", required=("version",))
    async def version(service: Service, request: Request) -> Response: ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ponder.serve.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]

# who may call: any key asks about the server; what was said is its owner's; deleting and producing are use
READ, USE, ADMIN = ("infer", "read"), ("infer",), ("admin",)
LIST = ("object", "data", "first_id", "last_id", "has_more")
PAGE = ("limit", "order", "after")
DELETED = ("id", "object", "deleted")


@dataclass(frozen=True)
class Operation:
    """One method of one path, as it is routed and documented."""

    path: str
    method: str
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    query: tuple[str, ...] = ()
    stream: bool = False  # may answer with server-sent events
    text: bool = False  # answers with text
    required: tuple[str, ...] = ()  # of the object that comes back
    scopes: tuple[str, ...] = ()  # a key needs one of these; () = any key
    is_documented: bool = True

    @property
    def name(self) -> str:
        """The `operationId` of the OpenAPI document."""
        return self.handler.__name__


class RouteTable(list[Operation]):
    """The operations of a part of the API, in the order of its file."""

    def get(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        """A decorator that declares a handler and returns it unchanged. more: fields of `Operation`."""
        return self._declare("GET", path, summary, more)

    def post(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, summary, more)

    def delete(self, path: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
        return self._declare("DELETE", path, summary, more)

    def _declare(self, method: str, path: str, summary: str, more: dict[str, Any]) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.append(Operation(path, method, handler, summary, **more))
            return handler

        return declare
