"""/v1/responses/{id}/reasoning: one's own raw reasoning. There only where the operator asked for it, --show-reasoning.

For people who serve a model that they trained to themselves. The key has to be the one of the command line (the local
owner's) or to have the scope admin, and the response has to be of the key's own owner: nobody else's reasoning is read
here. Every look is a line of the audit log. Without the flag the path does not exist.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve.errors import ApiError, not_found
from ponder.serve.http import json_response, key_of
from ponder.serve.keys import Key
from ponder.serve.routes.table import RouteTable
from ponder.serve.service import Service

table = RouteTable()


def may_see(service: Service, key: Key) -> bool:
    """Whether the operator shows this key the reasoning of its own responses."""
    return service.settings.show_reasoning and (key.is_given or "admin" in key.scopes)


@table.get(
    "/v1/responses/{id}/reasoning", "The raw reasoning of one's own response (ours; --show-reasoning).",
    required=("object", "response", "reasoning"),
)  # fmt: skip
async def own_reasoning(service: Service, request: Request) -> Response:
    key, store, name = key_of(request), service.store, request.path_params["id"]
    if not may_see(service, key):
        message = "Reasoning is shown to the key of --api-key and to keys of scope admin."
        raise ApiError(403, message, code="insufficient_scope", kind="permission_error")
    if await store.read(lambda: store.owner_of(name)) != key.owner:
        raise not_found("response", name)
    await store.do(lambda: store.add_audit(key.id, "own_reasoning", name[:200], "--show-reasoning"))
    rows = await store.read(lambda: store.reasoning(parent=name))
    found = []
    for item, owner, sealed, _ in rows:
        data = service.vault.unseal(sealed, owner=owner, item=item)
        found.append({"item": item, "text": data["text"]})
    return json_response({"object": "list", "response": name, "reasoning": found})
