"""/admin: raw reasoning for a reason, and lists without contents."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.errors import not_found
from ponder.serve.http import json_response, key_of
from ponder.serve.outlines import outline_of
from ponder.serve.query import integer
from ponder.serve.routes.shared import read_body
from ponder.serve.routes.table import ADMIN, RouteTable
from ponder.serve.service import Service

table = RouteTable()


@table.post(
    "/admin/responses/{id}/reasoning",
    "The raw reasoning (scope raw_cot). The reason is written into the audit log.", body=schema.AdminReason,
    required=("response", "reasoning", "verdicts"), scopes=("raw_cot",),
)  # fmt: skip
async def raw_reasoning(service: Service, request: Request) -> Response:
    """The one way of raw reasoning out of the server: a scope of its own, a reason, a line in the audit log."""
    key, store = key_of(request), service.store
    reason = (await read_body(service, request, schema.AdminReason)).reason
    name = request.path_params["id"]
    await store.do(lambda: store.add_audit(key.id, "raw_reasoning", name[:200], reason))
    rows = await store.read(lambda: store.reasoning(parent=name))
    owner = await store.read(lambda: store.owner_of(name))
    if owner is None:
        raise not_found("response", name)
    found = []
    for item, owned_by, sealed, _ in rows:
        data = service.vault.unseal(sealed, owner=owned_by, item=item)
        found.append({"item": item, "text": data["text"], "all": data.get("all", data["text"])})
    verdicts = await store.read(lambda: store.verdicts(1000, name))
    return json_response({"object": "list", "response": name, "reasoning": found, "verdicts": verdicts})


def _limit(request: Request) -> int:
    return integer(request, "limit", 100, low=1, high=1000)


@table.get(
    "/admin/responses", "The newest responses, without contents (scope admin).", query=("limit_admin",), scopes=ADMIN
)
async def all_responses(service: Service, request: Request) -> Response:
    limit = _limit(request)
    found = await service.store.read(lambda: service.store.newest(limit))
    return json_response({"object": "list", "data": [outline_of(*each) for each in found]})


@table.get("/admin/verdicts", "What monitors said (scope admin).", query=("limit_admin",), scopes=ADMIN)
async def verdicts(service: Service, request: Request) -> Response:
    limit = _limit(request)
    found = await service.store.read(lambda: service.store.verdicts(limit))
    return json_response({"object": "list", "data": found})


@table.get("/admin/audit", "Who looked at what (scope admin).", query=("limit_admin",), scopes=ADMIN)
async def audit(service: Service, request: Request) -> Response:
    limit = _limit(request)
    found = await service.store.read(lambda: service.store.audit(limit))
    return json_response({"object": "list", "data": found})
