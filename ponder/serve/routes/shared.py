"""What handlers have in common: reading a body, and stored objects of the key's owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.dialects import add_notes
from ponder.serve.errors import not_found
from ponder.serve.http import json_response, key_of, read_json
from ponder.serve.lenient import BY_REQUEST
from ponder.serve.limits import Charge
from ponder.serve.mcp_rounds import checked
from ponder.serve.query import integer, list_of, word
from ponder.serve.service import Service
from ponder.serve.validation import read

M = TypeVar("M", bound=BaseModel)


async def read_body(service: Service, request: Request, model: type[M]) -> M:
    """Read and check a body, without a charge. Raises ApiError, or ClientLeft where the client is gone."""
    data, _ = await read_json(request, service)
    return read(model, data, strict_params=service.settings.strict_params)


async def read_charged(service: Service, request: Request, model: type[M]) -> tuple[M, Charge]:
    """The body of a request that makes work, charged by its length before anything is done about it."""
    data, size = await read_json(request, service)
    charge = Charge(service.limiter, key_of(request).id)
    charge.cover(size)
    if isinstance(data, dict) and model in (schema.ResponseRequest, schema.CountRequest):
        data, notes = checked(data, service.toolbox, strict=service.settings.strict_params)
        add_notes(request.scope, notes)
    translate = None if service.settings.strict_params else BY_REQUEST.get(model.__name__)
    if translate is not None and isinstance(data, dict):
        data, notes = translate(data)
        add_notes(request.scope, notes)
    return read(model, data, strict_params=service.settings.strict_params), charge


async def stored(service: Service, request: Request, kind: str, what: str) -> dict[str, Any]:
    """The object that the path names."""
    store, name, owner = service.store, request.path_params["id"], key_of(request).owner
    found = await store.read(lambda: store.get(kind, name, owner=owner))
    if found is None:
        raise not_found(what, name)
    return found


async def update_metadata(service: Service, request: Request, kind: str, what: str) -> Response:
    """Replace the metadata of the stored object that the path names, and answer with the object. what: its word in
    errors."""
    found = await stored(service, request, kind, what)
    update = await read_body(service, request, schema.MetadataUpdate)
    found["metadata"] = update.metadata or {}
    await service.store.do(lambda: service.store.set_body(found["id"], found))
    return json_response(found)


async def delete_stored(service: Service, request: Request, kind: str, what: str, deleted: str) -> Response:
    """Delete what the path names. deleted: the `object` of the answer. Raises ApiError 404."""
    store, name, owner = service.store, request.path_params["id"], key_of(request).owner
    if not await store.do(lambda: store.delete(kind, name, owner=owner)):
        raise not_found(what, name)
    return json_response({"id": name, "object": deleted, "deleted": True})


async def list_stored(
    service: Service, request: Request, kind: str, default_order: str,
    wanted: Callable[[dict[str, Any]], bool] = lambda body: True,
) -> Response:  # fmt: skip
    """A page of the key's owner's objects of a kind, of those that are wanted. An unknown `after` gives an empty
    page."""
    limit = integer(request, "limit", 20, low=1, high=100)
    is_newest_first = word(request, "order", default_order, ("asc", "desc")) == "desc"
    store, after, owner = service.store, request.query_params.get("after"), key_of(request).owner
    found, more = await store.read(
        lambda: store.page(kind, owner=owner, after=after, limit=limit, newest_first=is_newest_first, wanted=wanted)
    )
    return json_response(list_of(found, more))


def starved_header(is_starved: bool) -> dict[str, str]:
    """Says that the reasoning used the whole limit up: give more, or keep a part with compute.answer_tokens."""
    return {"x-reasoning-starved": "1"} if is_starved else {}


def unstored_header(is_unstored: bool) -> dict[str, str]:
    """Says that the store failed: the answer is whole, and may not be found later."""
    return {"x-response-stored": "false"} if is_unstored else {}
