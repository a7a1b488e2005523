"""/arena: blind battles. There only where the server was started with a log for votes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.arena import DOMAINS, Arena
from ponder.serve.http import json_response, key_of, unless_left
from ponder.serve.routes.shared import read_body, read_charged
from ponder.serve.routes.table import RouteTable
from ponder.serve.service import Service

table = RouteTable()
VOTE = ("infer", "vote")
BATTLES, ONE = "/arena/battles", "/arena/battles/{id}"
BATTLE = ("id", "object", "domain", "question", "left", "right", "vote", "withdrawn", "models")


def _arena(service: Service) -> Arena:
    assert service.arena is not None  # or these routes are not there
    return service.arena


@table.get("/arena/domains", "What a question may be about.", required=("object", "data", "dwell_s"), scopes=VOTE)
async def domains(service: Service, request: Request) -> Response:
    data = [{"id": name, "title": title} for name, title in DOMAINS.items()]
    return json_response({"object": "list", "data": data, "dwell_s": _arena(service).settings.dwell})


@table.post(BATTLES, "Ask two models, which are not named.", body=schema.BattleRequest, required=BATTLE, scopes=VOTE)
async def ask_battle(service: Service, request: Request) -> Response:
    asked, charge = await read_charged(service, request, schema.BattleRequest)
    work = _arena(service).ask(key_of(request), asked.domain, asked.question, charge)
    return json_response((await unless_left(request, work)).shown())


@table.get(ONE, "A battle of one's own: its names only after the vote.", required=BATTLE, scopes=VOTE)
async def get_battle(service: Service, request: Request) -> Response:
    return json_response(_arena(service).battle(key_of(request), request.path_params["id"]).shown())


@table.post(ONE + "/vote", "Say which answer is better, once.", body=schema.VoteRequest, required=BATTLE, scopes=VOTE)
async def vote_battle(service: Service, request: Request) -> Response:
    choice = (await read_body(service, request, schema.VoteRequest)).choice
    held = await _arena(service).vote(key_of(request), request.path_params["id"], choice)
    return json_response(held.shown())


@table.post(ONE + "/undo", "Withdraw one's vote; the battle is over.", required=BATTLE, scopes=VOTE)
async def undo_battle(service: Service, request: Request) -> Response:
    held = await _arena(service).undo(key_of(request), request.path_params["id"])
    return json_response(held.shown())
