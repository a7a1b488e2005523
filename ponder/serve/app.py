"""The routes: `make_app(engine, Settings(model="nano", api_key="..."))` is an ASGI app.

The engine comes from whoever makes the app; nothing here knows where text is produced. docs/serve.md describes the API.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ponder import __version__
from ponder.serve import schema
from ponder.serve.completions import make_job
from ponder.serve.errors import ApiError, bug, not_found, overloaded
from ponder.serve.events import Told
from ponder.serve.items import Item, input_items, new_id
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.modes import published
from ponder.serve.openapi import TABLE, Operation, document
from ponder.serve.outlines import outline_of, turn_of
from ponder.serve.query import boolean, includes, integer, list_of, page_of, word
from ponder.serve.responses import ResponseJob, read_conversation, read_request
from ponder.serve.service import Service, Settings, check_schemas, format_of, tools_of
from ponder.serve.web import (
    EventStream,
    Gate,
    chat_event,
    error_response,
    json_response,
    key_of,
    read_json,
    response_event,
    unless_left,
    wait_or_leave,
)  # fmt: skip
from ponder.types import Engine

COMPACT = "/v1/responses/compact"
_SAYS_NO = Operation(COMPACT, "POST", "compact", "", scopes=("infer",))  # not in the document, as it only says no
WEB = Path(__file__).parent / "web"
Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """One method a route."""

    def __init__(self, service: Service) -> None:
        self.service, self.store = service, service.store
        self._document: dict[str, Any] | None = None

    async def body(self, request: Request) -> Any:
        return (await read_json(request, self.service))[0]

    async def order(self, request: Request) -> tuple[Any, Charge]:
        """The body of a request that makes work, charged by its length before anything is done about it."""
        data, size = await read_json(request, self.service)
        charge = Charge(self.service.limiter, key_of(request).id)
        charge.cover(size)
        return data, charge

    def read(self, model: Any, data: Any) -> Any:
        return schema.read(model, data, strict_params=self.service.settings.strict_params)

    def admit(self) -> None:
        """Only while there is room."""
        if self.service.is_draining:
            raise overloaded("The server is shutting down.")
        if self.service.num_running >= self.service.settings.max_running:
            raise overloaded("The server is busy. Please try again later.")

    # --- about the server --------------------------------------------------------------------------------------------

    async def live(self, request: Request) -> Response:
        """The event loop runs, as it answers; and the engine has not failed for good."""
        is_dead = self.service.engine_failure is not None
        return json_response({"status": "the engine failed" if is_dead else "ok"}, 503 if is_dead else 200)

    async def ready(self, request: Request) -> Response:
        why = await self.service.is_ready()
        return json_response({"status": why or "ok"}, 503 if why else 200)

    async def metrics(self, request: Request) -> Response:
        self.service.metrics.queue.set(self.service.engine.outstanding_tokens)
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def version(self, request: Request) -> Response:
        return json_response({"version": __version__})

    async def openapi(self, request: Request) -> Response:
        if self._document is None:
            self._document = document(self.service)
        return json_response(self._document)

    async def page(self, request: Request) -> Response:
        return Response((WEB / "index.html").read_bytes(), media_type="text/html; charset=utf-8")

    def _model(self) -> dict[str, Any]:
        service = self.service
        return {
            "id": service.settings.model, "object": "model", "created": service.created, "owned_by": "ponder",
            "context_window": service.window, "modes": ["standard", *sorted(service.modes)],
            "efforts": published(service.settings.efforts),
        }  # fmt: skip

    async def models(self, request: Request) -> Response:
        return json_response({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self.service.check_model(request.path_params["id"])
        return json_response(self._model())

    # --- chat completions --------------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        self.admit()
        data, charge = await self.order(request)
        asked = self.read(schema.ChatRequest, data)
        job = await unless_left(request, make_job(self.service, key_of(request), asked, charge))
        job.begin()
        if not asked.stream:
            body = await wait_or_leave(request, job)
            is_starved = all(each.finish_reason == "length" and not each.content for each in job.choices)
            return json_response(body, headers=starved(is_starved) | unstored(job.is_unstored))
        events = job.log.follow(patience=self.service.settings.heartbeat)
        return EventStream(events, chat_event, on_leave=job.cancel, last="data: [DONE]\n\n")

    async def chats(self, request: Request) -> Response:
        return await self._list(request, "chat", default_order="asc")

    async def _stored(self, request: Request, kind: str, what: str) -> dict[str, Any]:
        name, owner = request.path_params["id"], key_of(request).owner
        found = await self.store.read(lambda: self.store.get(kind, name, owner=owner))
        if found is None:
            raise not_found(what, name)
        return found

    async def get_chat(self, request: Request) -> Response:
        return json_response(await self._stored(request, "chat", "chat completion"))

    async def update_chat(self, request: Request) -> Response:
        found = await self._stored(request, "chat", "chat completion")
        update = self.read(schema.MetadataUpdate, await self.body(request))
        found["metadata"] = update.metadata or {}
        await self.store.do(lambda: self.store.set_body(found["id"], found))
        return json_response(found)

    async def delete_chat(self, request: Request) -> Response:
        return await self._delete(request, "chat", "chat completion", "chat.completion.deleted")

    async def chat_messages(self, request: Request) -> Response:
        found = await self._stored(request, "chat", "chat completion")
        items = await self.store.read(lambda: self.store.items(found["id"], "in"))
        return json_response(page_of(items, request, default_order="asc"))

    # --- responses ---------------------------------------------------------------------------------------------------

    async def respond(self, request: Request) -> Response:
        self.admit()
        data, charge = await self.order(request)
        asked, key = self.read(schema.ResponseRequest, data), key_of(request)
        order = await unless_left(request, read_request(self.service, key, asked, charge))
        job = ResponseJob(self.service, key, asked, order)
        await job.start()
        is_unstored = job.is_stored and not job.is_added
        if asked.stream:
            obfuscate = asked.stream_options is None or asked.stream_options.include_obfuscation is not False
            leave = (lambda: None) if asked.background else job.cancel
            return self._stream(self._follow(job), obfuscate, leave, unstored(is_unstored))
        if asked.background:
            return json_response(job.writer.snapshot(), headers=unstored(is_unstored))
        body = await wait_or_leave(request, job)
        is_starved = body["status"] == "incomplete" and all(item["type"] == "reasoning" for item in body["output"])
        is_unstored = job.is_stored and job.id in self.service.jobs
        return json_response(body, headers=starved(is_starved) | unstored(is_unstored))

    def _follow(self, job: ResponseJob, after: int = -1) -> AsyncIterator[list[Told]]:
        return job.log.follow(after, patience=self.service.settings.heartbeat)

    def _stream(
        self, batches: Any, obfuscate: bool, on_leave: Callable[[], None] = lambda: None,
        headers: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        return EventStream(batches, partial(response_event, obfuscate=obfuscate), on_leave=on_leave, headers=headers)

    def _job(self, request: Request) -> ResponseJob | None:
        job = self.service.jobs.get(request.path_params["id"])
        return job if job is not None and job.key.owner == key_of(request).owner else None

    async def get_response(self, request: Request) -> Response:
        job = self._job(request)
        after = integer(request, "starting_after", -1, low=-1)
        wants_stream, obfuscate = boolean(request, "stream"), boolean(request, "include_obfuscation", True)
        includes(request)
        if job is not None and not job.is_stored:
            job = None
        if wants_stream:
            if job is not None:
                return self._stream(self._follow(job, after), obfuscate)
            found = await self._stored(request, "response", "response")
            events = await self.store.read(lambda: self.store.events(found["id"], after))
            return self._stream(once(events), obfuscate)
        if job is not None:
            return json_response(job.writer.snapshot())
        return json_response(await self._stored(request, "response", "response"))

    async def cancel_response(self, request: Request) -> Response:
        job = self._job(request)
        if job is None:
            found = await self._stored(request, "response", "response")
            if not found["background"]:
                raise self._not_background()
            return json_response(found)  # it has ended already: what it is, it stays
        if not job.request.background:
            raise self._not_background()
        job.cancel()
        return json_response(await job.wait())

    def _not_background(self) -> ApiError:
        return ApiError(
            400, "Cannot cancel a synchronous response; close its connection instead.", code="invalid_value",
            param="response_id",
        )  # fmt: skip

    async def finish_response(self, request: Request) -> Response:
        """Answer now: the reasoning of a running response is closed, its answer follows."""
        job = self._job(request)
        if job is None:
            return json_response(await self._stored(request, "response", "response"))
        job.answer_now()
        return json_response(job.writer.snapshot())

    async def delete_response(self, request: Request) -> Response:
        job = self._job(request)
        if job is not None:
            await self._end(job)
            if job.is_stored and not job.is_added:  # the store never knew of it
                return json_response({"id": job.id, "object": "response", "deleted": True})
        return await self._delete(request, "response", "response", "response")

    async def _end(self, job: ResponseJob) -> None:
        job.cancel()
        await job.wait()
        self.service.jobs.pop(job.id, None)  # it may be there still if it could not be written

    async def response_items(self, request: Request) -> Response:
        job = self._job(request)
        includes(request)
        if job is not None and job.is_stored and not job.is_added:
            return json_response(page_of(job.asked.new, request))
        found = await self._stored(request, "response", "response")
        items = await self.store.read(lambda: self.store.items(found["id"], "in"))
        return json_response(page_of(items, request))

    async def compact(self, request: Request) -> Response:
        """Refused: a compaction is a model's own account of a conversation, and none of ours has learned to give it."""
        raise ApiError(
            400,
            "Compaction is not supported. Send truncation='auto' to have the oldest items left out, or begin a new "
            "conversation with what still matters.",
            code="unsupported_endpoint",
        )  # fmt: skip

    async def count_input(self, request: Request) -> Response:
        data, charge = await self.order(request)
        asked = self.read(schema.CountRequest, data)
        count = await unless_left(request, self._count(key_of(request), asked, charge))
        charge.settle(count)
        return json_response({"object": "response.input_tokens", "input_tokens": count})

    async def _count(self, key: Key, asked: schema.CountRequest, charge: Charge) -> int:
        self.service.check_model(asked.model)
        items, new, _ = await read_conversation(self.service, key, asked)
        kept, _ = await self.service.kept_thoughts(items, owner=key.owner, user="", num_history=len(items) - len(new))
        tools, _ = tools_of(asked.tools, None, "tools")
        form = format_of(asked.text and asked.text.format, "text.format.schema")
        _, _, count = await self.service.prompt(
            items, kept, param="input", truncate=False, charge=charge, instructions=asked.instructions, tools=tools,
            demand=form.demand,
        )  # fmt: skip
        await check_schemas(form, tools)
        return count

    # --- conversations -----------------------------------------------------------------------------------------------

    async def new_conversation(self, request: Request) -> Response:
        asked = self.read(schema.ConversationRequest, await self.body(request))
        owner, created = key_of(request).owner, int(time.time())
        made = {"id": new_id("conv"), "object": "conversation", "created_at": created, "metadata": asked.metadata or {}}
        items = await self._items(asked.items, owner)
        await self.store.do(lambda: self.store.add("conversation", made, owner=owner, status="open", items=items))
        return json_response(made)

    async def _items(self, given: Any, owner: str) -> list[Item]:
        items = []
        for item in input_items(given):
            if item["type"] == "item_reference":
                item = await self.service.stored_item(item["id"], owner)
            items.append(item)
        return items

    async def conversations(self, request: Request) -> Response:
        return await self._list(request, "conversation", default_order="desc")

    async def turns(self, request: Request) -> Response:
        """What a page shows of a conversation: also turns that failed or still run, which are not among its items."""
        name = (await self._stored(request, "conversation", "conversation"))["id"]
        limit, owner = integer(request, "limit", 20, low=1, high=100), key_of(request).owner
        after = request.query_params.get("after")
        found, more = await self.store.read(lambda: self.store.turns(name, owner=owner, after=after, limit=limit))
        return json_response(list_of([turn_of(body, asked) for body, asked in found], more))

    async def get_conversation(self, request: Request) -> Response:
        return json_response(await self._stored(request, "conversation", "conversation"))

    async def update_conversation(self, request: Request) -> Response:
        found = await self._stored(request, "conversation", "conversation")
        update = self.read(schema.MetadataUpdate, await self.body(request))
        found["metadata"] = update.metadata or {}
        await self.store.do(lambda: self.store.set_body(found["id"], found))
        return json_response(found)

    async def delete_conversation(self, request: Request) -> Response:
        name, owner = request.path_params["id"], key_of(request).owner
        for job in list(self.service.jobs.values()):  # its responses go with it, those that run too
            if job.asked.conversation == name and job.key.owner == owner:
                await self._end(job)
        return await self._delete(request, "conversation", "conversation", "conversation.deleted")

    async def conversation_items(self, request: Request) -> Response:
        found = await self._stored(request, "conversation", "conversation")
        includes(request)
        items = await self.store.read(lambda: self.store.items(found["id"], "in"))
        return json_response(page_of(items, request))

    async def add_items(self, request: Request) -> Response:
        found = await self._stored(request, "conversation", "conversation")
        asked = self.read(schema.ItemsRequest, await self.body(request))
        items = await self._items(asked.items, key_of(request).owner)
        await self.store.do(lambda: self.store.add_items(found["id"], "in", items))
        return json_response(list_of(items, False))

    async def _item(self, request: Request) -> tuple[dict[str, Any], Item]:
        found = await self._stored(request, "conversation", "conversation")
        name = request.path_params["item"]
        items = await self.store.read(lambda: self.store.items(found["id"], "in"))
        item = next((item for item in items if item["id"] == name), None)
        if item is None:
            raise not_found("item", name)
        return found, item

    async def get_item(self, request: Request) -> Response:
        return json_response((await self._item(request))[1])

    async def delete_item(self, request: Request) -> Response:
        found, item = await self._item(request)
        await self.store.do(lambda: self.store.delete_item(found["id"], item["id"]))
        return json_response(found)

    # --- administration ----------------------------------------------------------------------------------------------

    async def raw_reasoning(self, request: Request) -> Response:
        """The one way of raw reasoning out of the server: a scope of its own, a reason, a line in the audit log."""
        key = key_of(request)
        reason = self.read(schema.AdminReason, await self.body(request)).reason
        name = request.path_params["id"]
        await self.store.do(lambda: self.store.add_audit(key.id, "raw_reasoning", name[:200], reason))
        rows = await self.store.read(lambda: self.store.reasoning(parent=name))
        owner = await self.store.read(lambda: self.store.owner_of(name))
        if owner is None:
            raise not_found("response", name)
        vault, found = self.service.vault, []
        for item, owned_by, sealed, _ in rows:
            data = vault.unseal(sealed, owner=owned_by, item=item)
            found.append({"item": item, "text": data["text"], "all": data.get("all", data["text"])})
        verdicts = await self.store.read(lambda: self.store.verdicts(1000, name))
        return json_response({"object": "list", "response": name, "reasoning": found, "verdicts": verdicts})

    async def all_responses(self, request: Request) -> Response:
        limit = integer(request, "limit", 100, low=1, high=1000)
        found = await self.store.read(lambda: self.store.newest(limit))
        return json_response({"object": "list", "data": [outline_of(*each) for each in found]})

    async def verdicts(self, request: Request) -> Response:
        limit = integer(request, "limit", 100, low=1, high=1000)
        return json_response({"object": "list", "data": await self.store.read(lambda: self.store.verdicts(limit))})

    async def audit(self, request: Request) -> Response:
        limit = integer(request, "limit", 100, low=1, high=1000)
        return json_response({"object": "list", "data": await self.store.read(lambda: self.store.audit(limit))})

    # --- shared ------------------------------------------------------------------------------------------------------

    async def _delete(self, request: Request, kind: str, what: str, deleted: str) -> Response:
        key = key_of(request)
        name = request.path_params["id"]
        if not await self.store.do(lambda: self.store.delete(kind, name, owner=key.owner)):
            raise not_found(what, name)
        return json_response({"id": name, "object": deleted, "deleted": True})

    async def _list(self, request: Request, kind: str, default_order: str) -> Response:
        limit = integer(request, "limit", 20, low=1, high=100)
        newest = word(request, "order", default_order, ("asc", "desc")) == "desc"
        after, owner = request.query_params.get("after"), key_of(request).owner
        found, more = await self.store.read(
            lambda: self.store.page(kind, owner=owner, after=after, limit=limit, newest_first=newest)
        )
        return json_response(list_of(found, more))


def starved(is_starved: bool) -> dict[str, str]:
    """Told where the reasoning used the whole limit up: give more, or keep a part with compute.answer_tokens."""
    return {"x-reasoning-starved": "1"} if is_starved else {}


def unstored(is_unstored: bool) -> dict[str, str]:
    """Told where the store failed: the answer is whole, and may not be found later."""
    return {"x-response-stored": "false"} if is_unstored else {}


async def once(events: list[Told]) -> AsyncIterator[list[Told]]:
    if events:
        yield events


def _paths() -> dict[str, dict[str, Operation]]:
    """path -> method -> operation; fixed paths before those with a name in them."""
    paths: dict[str, dict[str, Operation]] = {COMPACT: {_SAYS_NO.method: _SAYS_NO}}
    for operation in TABLE:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return dict(sorted(paths.items(), key=lambda pair: "{" in pair[0]))


def dispatch(routes: Routes, path: str, by_method: dict[str, Operation]) -> Handler:
    async def handle(request: Request) -> Response:
        request.scope["ponder_route"] = path  # for the log and the metrics: never the path with its ids
        operation = by_method["GET" if request.method == "HEAD" else request.method]
        if operation.scopes:
            key_of(request).need(*operation.scopes)
        handler: Handler = getattr(routes, operation.handler)
        return await handler(request)

    return handle


def make_app(engine: Engine, settings: Settings) -> ASGIApp:
    """The whole server as an ASGI app; `app.service` is its inside."""
    service = Service(engine, settings)
    routes = Routes(service)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    async def on_error(request: Request, error: Exception) -> Response:
        if isinstance(error, ApiError):
            return error_response(error)
        if not isinstance(error, HTTPException):  # starlette raises it again, and the gate logs it
            return error_response(bug())
        what = {404: "Unknown request URL. Check the path.", 405: "Not allowed to use this method on this path."}
        wrong = ApiError(error.status_code, what.get(error.status_code, "The request cannot be served."),
                         headers=dict(error.headers or {}))  # fmt: skip
        return error_response(wrong)

    inner = Starlette(
        routes=[
            Route("/", routes.page, methods=["GET"]),
            *(Route(path, dispatch(routes, path, names), methods=list(names)) for path, names in _paths().items()),
            Mount("/web", StaticFiles(directory=WEB), name="web"),
        ],
        lifespan=lifespan,
        exception_handlers={ApiError: on_error, HTTPException: on_error, Exception: on_error},
    )
    inner.router.redirect_slashes = False
    app = Gate(inner, service)
    app.service = service  # type: ignore[attr-defined]
    return app
