"""/v1/chat/completions."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.completions import make_job
from ponder.serve.http import EventStream, chat_event, json_response, key_of, unless_left, wait_or_leave
from ponder.serve.query import page_of
from ponder.serve.routes.shared import (
    delete_stored,
    list_stored,
    read_charged,
    starved_header,
    stored,
    unstored_header,
    update_metadata,
)
from ponder.serve.routes.table import DELETED, LIST, PAGE, READ, USE, RouteTable
from ponder.serve.service import Service

table = RouteTable()
CHATS, ONE = "/v1/chat/completions", "/v1/chat/completions/{id}"
CHAT = ("id", "object", "created", "model", "choices", "usage")
WHAT = "chat completion"


@table.post(CHATS, "Answer a conversation.", body=schema.ChatRequest, stream=True, required=CHAT, scopes=USE)
async def chat(service: Service, request: Request) -> Response:
    service.check_capacity()
    asked, charge = await read_charged(service, request, schema.ChatRequest)
    job = await unless_left(request, make_job(service, key_of(request), asked, charge))
    job.begin()
    if not asked.stream:
        body = await wait_or_leave(request, job)
        is_starved = all(each.finish_reason == "length" and not each.content for each in job.choices)
        return json_response(body, headers=starved_header(is_starved) | unstored_header(job.is_unstored))
    events = job.log.follow(patience=service.settings.heartbeat)
    return EventStream(events, chat_event, on_leave=job.cancel, last="data: [DONE]\n\n")


@table.get(CHATS, "Stored completions.", query=(*PAGE, "model"), required=LIST, scopes=READ)
async def chats(service: Service, request: Request) -> Response:
    """All, or those of `model` whose metadata have what `metadata[NAME]=VALUE` says."""
    given = request.query_params
    model = given.get("model")
    metadata = {name[9:-1]: value for name, value in given.items() if re.fullmatch(r"metadata\[.*\]", name, re.DOTALL)}

    def is_wanted(body: dict[str, Any]) -> bool:
        return model in (None, body["model"]) and metadata.items() <= body["metadata"].items()

    return await list_stored(service, request, "chat", "asc", is_wanted)


@table.get(ONE, "A stored completion.", required=CHAT, scopes=READ)
async def get_chat(service: Service, request: Request) -> Response:
    return json_response(await stored(service, request, "chat", WHAT))


@table.post(ONE, "Change its metadata.", body=schema.MetadataUpdate, required=CHAT, scopes=USE)
async def update_chat(service: Service, request: Request) -> Response:
    return await update_metadata(service, request, "chat", WHAT)


@table.delete(ONE, "Delete it.", required=DELETED, scopes=USE)
async def delete_chat(service: Service, request: Request) -> Response:
    return await delete_stored(service, request, "chat", WHAT, "chat.completion.deleted")


@table.get(ONE + "/messages", "What was asked.", query=PAGE, required=LIST, scopes=READ)
async def chat_messages(service: Service, request: Request) -> Response:
    found = await stored(service, request, "chat", WHAT)
    items = await service.store.read(lambda: service.store.items(found["id"], "in"))
    return json_response(page_of(items, request, default_order="asc"))
