"""HTTP under the routes: authentication, limits on a request's body, errors and event streams.

`ApiMiddleware` wraps the app: it asks for a key before anything is read, gives every answer a request id, the
rate-limit headers and strict security headers, turns every error into the API's form, and writes one log line without
contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ponder.files import well_formed
from ponder.serve.errors import ApiError, ClientLeft, bug, overloaded
from ponder.serve.events import Event, padded
from ponder.serve.keys import Key
from ponder.serve.logs import log, log_error
from ponder.serve.service import Service
from ponder.serve.strict_json import strict_json

T = TypeVar("T")
# the page is a static file without any data; it asks for a key and sends it with every call
OPEN = ("/health/live", "/", "/favicon.ico")
OPEN_UNDER = "/web/"
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_DEEPEST = 100  # levels of JSON
_BODY = 60.0  # seconds for a body to come
_MOST_BODIES = 128 << 20  # bytes of requests that are being read
_PATIENCE = 120.0  # seconds for a reader to take what was written


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(body).encode()
    return Response(content, status, media_type="application/json", headers=headers)


def error_response(error: ApiError) -> Response:
    return json_response(error.body(), error.status, error.headers)


class ApiMiddleware:
    """ASGI middleware around the routes. It refuses websockets, and puts the caller's key into the scope: `key_of`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        begun, request_id = time.monotonic(), "req_" + secrets.token_hex(16)
        state: dict[str, Any] = {"status": 0, "key": None}

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                more = {**SECURITY, "x-request-id": request_id}
                more["x-ponder-time"] = f"{time.time():.3f}"  # what `thinking_since` is counted against
                more["openai-processing-ms"] = str(int(1000 * (time.monotonic() - begun)))
                if state["key"] is not None:
                    more |= self._service.limiter.headers(state["key"].id)
                given = {name.lower() for name, _ in message["headers"]}
                new = [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in given]
                message = {**message, "headers": [*message["headers"], *new]}
            await send(message)

        try:
            try:
                path, given = scope["path"], [name for name, _ in scope["headers"]]
                if b"content-length" in given and b"transfer-encoding" in given:
                    # two lengths: a proxy before us may have taken the other one (RFC 9112, 6.3)
                    raise ApiError(400, "Send Content-Length or Transfer-Encoding, not both.", code="invalid_request",
                                   headers={"connection": "close"})  # fmt: skip
                is_page = path in OPEN or (path == "/arena" and self._service.arena is not None)
                if not is_page and not path.startswith(OPEN_UNDER):
                    header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
                    state["key"] = scope["key"] = await self._service.keyring.find(header)
                    if not path.startswith(("/health", "/metrics")):
                        self._service.limiter.request(state["key"].id)
                await self._app(scope, receive, send_more)
            except ApiError as error:
                if state["status"]:
                    raise
                await error_response(error)(scope, receive, send_more)
        except ClientLeft:
            pass
        except Exception as error:  # a bug of ours: the client learns no more than that
            log_error(error, request=request_id)
            if not state["status"]:
                await error_response(bug())(scope, receive, send_more)
        finally:
            route = scope.get("ponder_route", "other")
            self._service.metrics.requests.labels(route, str(state["status"] or 499)).inc()
            log(
                "request", id=request_id, method=scope["method"][:10], route=route, status=state["status"] or 499,
                key=state["key"].id if state["key"] else None, ms=round(1000 * (time.monotonic() - begun)),
            )  # fmt: skip


def key_of(request: Request) -> Key:
    """The key that `ApiMiddleware` found. KeyError on a path that is open to everybody."""
    key = request.scope["key"]
    assert isinstance(key, Key)
    return key


async def read_json(request: Request, service: Service) -> tuple[Any, int]:
    """The body as JSON, and its bytes; never more of it than the limit in memory, and of all bodies together no more
    than `_MOST_BODIES`."""
    limit, kind = service.settings.max_body, request.headers.get("content-type", "application/json")
    if kind.partition(";")[0].strip().lower() != "application/json":
        message = "Send the body as JSON, with 'Content-Type: application/json'."
        raise ApiError(415, message, code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "Send the body as it is, without Content-Encoding.", code="unsupported_media_type")
    too_large = ApiError(413, f"The request body is larger than {limit} bytes.", code="request_too_large",
                         headers={"connection": "close"})  # fmt: skip
    with contextlib.suppress(ValueError):
        if int(request.headers.get("content-length", "0")) > limit:
            raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY):
            async for chunk in request.stream():
                body += chunk
                service.num_body_bytes += len(chunk)
                if len(body) > limit:
                    raise too_large
                if service.num_body_bytes > _MOST_BODIES:
                    raise overloaded("The server is reading as many requests as it takes. Please try again later.")
    except TimeoutError:
        raise ApiError(408, "The request body did not come in time.", headers={"connection": "close"}) from None
    except ClientDisconnect:
        raise ClientLeft from None
    finally:
        service.num_body_bytes -= len(body)
    try:
        data = strict_json(body.decode("utf-8-sig", "surrogatepass") or "{}")  # JSON on the wire is UTF-8 (RFC 8259)
        if body.count(b"[") + body.count(b"{") > _DEEPEST and _is_deeper(data, _DEEPEST):
            raise RecursionError
        return (data if body.isascii() and b"\\u" not in body else _well_formed(data)), len(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "We could not parse the JSON body of your request.", code="invalid_json") from None


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for part in layer
            if isinstance(part, dict | list)
            for child in (part.values() if isinstance(part, dict) else part)
        ]
        if not layer:
            return False
    return True


def _well_formed(value: Any) -> Any:
    """A JSON value with all of its texts well-formed."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_well_formed(part) for part in value]
    if isinstance(value, dict):
        return {_well_formed(name): _well_formed(part) for name, part in value.items()}
    return value


async def left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What some work gives; a client that leaves meanwhile ends it."""
    gone = asyncio.ensure_future(left(request.receive))
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({gone, task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def wait_or_leave(request: Request, job: Any) -> Any:
    """A job's result. Raises ClientLeft, once the job is over, where the client leaves, which stops it."""
    gone = asyncio.ensure_future(left(request.receive))
    work = asyncio.ensure_future(job.wait())
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            job.cancel()
            await asyncio.gather(work, return_exceptions=True)  # that it was cancelled is no error of the server's
            raise ClientLeft
        return work.result()
    finally:
        gone.cancel()


class EventStream(Response):
    """Server-sent events: batches are written as they come, a comment for an empty one: nothing did."""

    def __init__(
        self,
        batches: AsyncIterator[list[Event]],
        encode: Callable[[Event], str],
        *,
        on_leave: Callable[[], None] = lambda: None,
        last: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"x-accel-buffering": "no", **(headers or {})})
        self._batches, self._encode = batches, encode
        self._on_leave, self._last = on_leave, last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        writing, has_left, is_done = asyncio.current_task(), False, False

        async def watch() -> None:
            nonlocal has_left
            await left(receive)
            has_left = True
            if not is_done and writing is not None:
                writing.cancel()  # it may wait for a socket that nobody reads any more

        watching = asyncio.ensure_future(watch())
        try:
            async for batch in self._batches:
                text = "".join(map(self._encode, batch)) or ": ping\n\n"
                async with asyncio.timeout(_PATIENCE):
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            is_done = True
            await send({"type": "http.response.body", "body": self._last.encode(), "more_body": False})
        except (TimeoutError, OSError):
            pass
        except asyncio.CancelledError:
            if not has_left:
                raise
        finally:
            watching.cancel()
            if not is_done:
                self._on_leave()


def chat_event(event: Event) -> str:
    """A server-sent event as chat completions have it: data without an event name."""
    return f"data: {event.text}\n\n"


def response_event(event: Event, *, obfuscate: bool) -> str:
    """A server-sent event with its name. obfuscate: pad deltas, so that their length tells little about the text."""
    text = padded(event.text) if obfuscate and event.kind.endswith(".delta") else event.text
    return f"event: {event.kind}\ndata: {text}\n\n"
