"""About the server: its health, its metrics, its models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ponder import __version__
from ponder.serve.http import json_response, key_of
from ponder.serve.routes.reasoning import may_see
from ponder.serve.routes.table import RouteTable
from ponder.serve.service import Service

table = RouteTable()


@table.get("/health/live", "The process runs. The only answer without a key.", required=("status",))
async def live(service: Service, request: Request) -> Response:
    """The event loop runs, as it answers; and not every engine has failed for good. It names no model: no key is asked
    for."""
    failed, all_models = len(service.failures), len(service.models)
    is_dead = failed == all_models
    status = "the engine failed" if is_dead else f"{failed} of {all_models} engines failed" if failed else "ok"
    return json_response({"status": status}, 503 if is_dead else 200)


@table.get("/health/ready", "The engine generates a token.", required=("status",))
async def ready(service: Service, request: Request) -> Response:
    """Some model answers; which do and which do not stands beside it."""
    why, of_models = await service.readiness()
    lacking = ", ".join(name for name, problem in of_models.items() if problem)
    status = why or (f"not ready: {lacking}" if lacking else "ok")
    models = {name: problem or "ok" for name, problem in of_models.items()}
    return json_response({"status": status, "models": models}, 503 if why else 200)


@table.get("/metrics", "Prometheus metrics.", text=True, scopes=("metrics", "admin"))
async def metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@table.get("/version", "ponder's version.", required=("version",))
async def version(service: Service, request: Request) -> Response:
    return json_response({"version": __version__})


@table.get("/v1/models", "The models that are served.", required=("object", "data"))
async def models(service: Service, request: Request) -> Response:
    cards = [model.card(service.created) for model in service.models.values()]
    ends = {"first_id": cards[0]["id"], "last_id": cards[-1]["id"], "has_more": False}  # as Anthropic's client reads it
    shows = {"show_reasoning": True} if may_see(service, key_of(request)) else {}  # ours, for the page
    return json_response({"object": "list", "data": cards, **ends, **shows})


@table.get("/v1/models/{id:path}", "One model.", required=("id", "object", "created", "owned_by"))
async def model(service: Service, request: Request) -> Response:
    return json_response(service.find_model(request.path_params["id"]).card(service.created))
