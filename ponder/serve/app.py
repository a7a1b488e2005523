"""The server as an ASGI app: `make_app([ServedModel(name="nano", engine=engine)], Settings(api_key="..."))`.

Engines come from whoever makes the app; nothing here knows where text is produced. docs/serve.md describes the API.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ponder.serve.dialects import Dialects
from ponder.serve.errors import ApiError, ClientLeft, bug
from ponder.serve.housekeeping import Housekeeping
from ponder.serve.http import ApiMiddleware, error_response, json_response, key_of
from ponder.serve.openapi import document
from ponder.serve.routes import admin, arena, chat, conversations, messages, reasoning, responses, server, training
from ponder.serve.routes.table import Operation, RouteTable
from ponder.serve.served import ServedModel
from ponder.serve.service import Service, Settings

PAGE = Path(__file__).parent / "page"
table = RouteTable()


@table.get("/openapi.json", "This document.", required=("openapi",))
async def openapi(service: Service, request: Request) -> Response:
    return json_response(document(tuple(service.models), operations_of(service)))


OPERATIONS: tuple[Operation, ...] = (
    *server.table, *table, *chat.table, *responses.table, *messages.table, *conversations.table, *training.table,
    *admin.table,
)  # fmt: skip


def operations_of(service: Service) -> tuple[Operation, ...]:
    """What this server offers."""
    battles = arena.table if service.arena is not None else ()
    shown = reasoning.table if service.settings.show_reasoning else ()
    return (*OPERATIONS, *battles, *shown)


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler that sends a file of the page's folder, read anew for every request."""

    async def show(request: Request) -> Response:
        return Response((PAGE / name).read_bytes(), media_type="text/html; charset=utf-8")

    return show


def routes(service: Service) -> list[Route]:
    """A route a path, with all its methods; fixed paths before those with a name in them."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations_of(service):
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [
        Route(path, dispatch(service, path, by_method), methods=list(by_method))
        for path, by_method in sorted(paths.items(), key=lambda pair: "{" in pair[0])
    ]


def dispatch(
    service: Service, path: str, by_method: Mapping[str, Operation]
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a path: it picks the operation by the method (HEAD as GET) and checks the key's scopes first.
    Raises ApiError 403 for a key that has none of them."""

    async def handle(request: Request) -> Response:
        request.scope["ponder_route"] = path  # for the log and the metrics: never the path with its ids
        operation = by_method["GET" if request.method == "HEAD" else request.method]
        if operation.scopes:
            key_of(request).need(*operation.scopes)
        return await operation.handler(service, request)

    return handle


async def on_error(request: Request, error: Exception) -> Response:
    """Any exception in the API's form. Only an ApiError's own message reaches the client."""
    if isinstance(error, ApiError):
        return error_response(error)
    if isinstance(error, ClientLeft):
        raise error  # nobody reads an answer, and a failure of ours would be counted
    if not isinstance(error, HTTPException):  # starlette raises it again, and the middleware logs it
        return error_response(bug())
    what = {404: "Unknown request URL. Check the path.", 405: "Not allowed to use this method on this path."}
    wrong = ApiError(error.status_code, what.get(error.status_code, "The request cannot be served."),
                     headers=dict(error.headers or {}))  # fmt: skip
    return error_response(wrong)


def make_app(models: Sequence[ServedModel], settings: Settings) -> ASGIApp:
    """The whole server as an ASGI app; `app.service` is its inside."""
    service = Service(models, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await Housekeeping(service).start()
        async with service.toolbox or contextlib.nullcontext():
            yield
            await service.stop()

    inner = Starlette(
        routes=[
            Route("/", page("index.html"), methods=["GET"]),
            *([Route("/arena", page("arena.html"), methods=["GET"])] if service.arena is not None else []),
            *routes(service),
            Mount("/web", StaticFiles(directory=PAGE), name="page"),
        ],
        lifespan=lifespan,
        exception_handlers={ApiError: on_error, HTTPException: on_error, Exception: on_error},
    )
    inner.router.redirect_slashes = False
    app = Dialects(ApiMiddleware(inner, service))
    app.service = service  # type: ignore[attr-defined]
    return app
