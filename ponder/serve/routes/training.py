"""/v1/training_rows: one's own stored answers as rows for training, with what monitors said of them.

For whoever started the server (the key of `--api-key`), and for keys that have the scope admin beside infer or read:
`flagged` is a monitor's verdict, and a client that can look it up learns to write past the monitor. Only the key's own
owner's answers are exported, by an administrator too. Reasoning is in them only for `with_reasoning=true`, where the
server was started with --show-reasoning. Every export is a line of the audit log.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve.errors import ApiError
from ponder.serve.http import json_response, key_of
from ponder.serve.query import boolean, integer
from ponder.serve.routes.reasoning import may_see
from ponder.serve.routes.table import READ, RouteTable
from ponder.serve.service import Service
from ponder.serve.training_rows import training_rows

table = RouteTable()


@table.get(
    "/v1/training_rows", "One's stored answers as rows for training (ours; --api-key's key and admins).",
    query=("limit_rows", "with_reasoning"), required=("object", "data", "left_out"), scopes=READ,
)  # fmt: skip
async def export_rows(service: Service, request: Request) -> Response:
    key, store = key_of(request), service.store
    if not (key.is_given or "admin" in key.scopes):
        message = "What monitors said is for the key of --api-key, and for keys that have the scope admin too."
        raise ApiError(403, message, code="insufficient_scope", kind="permission_error")
    limit = integer(request, "limit", 1000, low=1, high=10_000)
    with_reasoning = boolean(request, "with_reasoning")
    if with_reasoning and not may_see(service, key):
        message = "Reasoning is shown by a server that was started with --show-reasoning; leave with_reasoning out."
        raise ApiError(403, message, code="insufficient_scope", kind="permission_error")
    note = f"{limit} rows" + (" with reasoning" if with_reasoning else "")
    await store.do(lambda: store.add_audit(key.id, "training_rows", key.owner, note))
    return json_response(await training_rows(service, key.owner, limit=limit, with_reasoning=with_reasoning))
