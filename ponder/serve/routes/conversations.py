"""/v1/conversations."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.errors import not_found
from ponder.serve.history import stored_item
from ponder.serve.http import json_response, key_of
from ponder.serve.items import Item, input_items, new_id
from ponder.serve.outlines import turn_of
from ponder.serve.query import includes, integer, list_of, page_of
from ponder.serve.routes.responses import stop_job
from ponder.serve.routes.shared import delete_stored, list_stored, read_body, stored, update_metadata
from ponder.serve.routes.table import DELETED, LIST, PAGE, READ, USE, RouteTable
from ponder.serve.service import Service

table = RouteTable()
CONVERSATIONS, ONE = "/v1/conversations", "/v1/conversations/{id}"
CONVERSATION = ("id", "object", "created_at", "metadata")


@table.post(CONVERSATIONS, "Begin a conversation.", body=schema.ConversationRequest, required=CONVERSATION, scopes=USE)
async def new_conversation(service: Service, request: Request) -> Response:
    asked = await read_body(service, request, schema.ConversationRequest)
    owner, created = key_of(request).owner, int(time.time())
    made = {"id": new_id("conv"), "object": "conversation", "created_at": created, "metadata": asked.metadata or {}}
    items, store = await _items(service, asked.items, owner), service.store
    await store.do(lambda: store.add("conversation", made, owner=owner, status="open", items=items))
    return json_response(made)


async def _items(service: Service, given: Any, owner: str) -> list[Item]:
    return [
        await stored_item(service.store, item["id"], owner) if item["type"] == "item_reference" else item
        for item in input_items(given)
    ]


async def _stored(service: Service, request: Request) -> dict[str, Any]:
    return await stored(service, request, "conversation", "conversation")


@table.get(CONVERSATIONS, "One's conversations (ours).", query=PAGE, required=LIST, scopes=READ)
async def conversations(service: Service, request: Request) -> Response:
    return await list_stored(service, request, "conversation", default_order="desc")


@table.get(ONE, "A conversation.", required=CONVERSATION, scopes=READ)
async def get_conversation(service: Service, request: Request) -> Response:
    return json_response(await _stored(service, request))


@table.post(ONE, "Change its metadata.", body=schema.MetadataUpdate, required=CONVERSATION, scopes=USE)
async def update_conversation(service: Service, request: Request) -> Response:
    return await update_metadata(service, request, "conversation", "conversation")


@table.delete(ONE, "Delete it.", required=DELETED, scopes=USE)
async def delete_conversation(service: Service, request: Request) -> Response:
    name, owner = request.path_params["id"], key_of(request).owner
    for job in list(service.jobs.values()):  # its responses go with it, those that run too
        if job.prepared.conversation == name and job.key.owner == owner:
            await stop_job(service, job)
    return await delete_stored(service, request, "conversation", "conversation", "conversation.deleted")


@table.get(
    ONE + "/responses", "Its responses with their `input`, oldest first (ours).", query=("limit", "after"),
    required=LIST, scopes=READ,
)  # fmt: skip
async def turns(service: Service, request: Request) -> Response:
    """What a page shows of a conversation: also turns that failed or still run, which are not among its items."""
    store, name = service.store, (await _stored(service, request))["id"]
    limit, owner = integer(request, "limit", 20, low=1, high=100), key_of(request).owner
    after = request.query_params.get("after")
    found, more = await store.read(lambda: store.turns(name, owner=owner, after=after, limit=limit))
    return json_response(list_of([turn_of(body, asked) for body, asked in found], more))


@table.get(ONE + "/items", "Its items.", query=PAGE, required=LIST, scopes=READ)
async def conversation_items(service: Service, request: Request) -> Response:
    found = await _stored(service, request)
    includes(request)
    items = await service.store.read(lambda: service.store.items(found["id"], "in"))
    return json_response(page_of(items, request))


@table.post(ONE + "/items", "Add items.", body=schema.ItemsRequest, required=LIST, scopes=USE)
async def add_items(service: Service, request: Request) -> Response:
    found = await _stored(service, request)
    asked = await read_body(service, request, schema.ItemsRequest)
    items = await _items(service, asked.items, key_of(request).owner)
    await service.store.do(lambda: service.store.add_items(found["id"], "in", items))
    return json_response(list_of(items, False))


async def _item(service: Service, request: Request) -> tuple[dict[str, Any], Item]:
    found, name = await _stored(service, request), request.path_params["item"]
    items = await service.store.read(lambda: service.store.items(found["id"], "in"))
    item = next((item for item in items if item["id"] == name), None)
    if item is None:
        raise not_found("item", name)
    return found, item


@table.get(ONE + "/items/{item}", "One item.", required=("id", "type"), scopes=READ)
async def get_item(service: Service, request: Request) -> Response:
    return json_response((await _item(service, request))[1])


@table.delete(ONE + "/items/{item}", "Delete an item.", required=CONVERSATION, scopes=USE)
async def delete_item(service: Service, request: Request) -> Response:
    found, item = await _item(service, request)
    await service.store.do(lambda: service.store.delete_item(found["id"], item["id"]))
    return json_response(found)
