"""/v1/messages: Anthropic's API. Errors get that API's shape in dialects.py."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ponder.serve.dialects import add_notes
from ponder.serve.http import EventStream, json_response, key_of, read_json, response_event, unless_left, wait_or_leave
from ponder.serve.lenient import message_request
from ponder.serve.limits import Charge
from ponder.serve.messages import make_message_job, read_prompt
from ponder.serve.messages_schema import MessagesCountRequest, MessagesRequest, foreign, refuse_fields
from ponder.serve.routes.shared import starved_header
from ponder.serve.routes.table import USE, RouteTable
from ponder.serve.service import Service
from ponder.serve.validation import read

table = RouteTable()
MESSAGES = "/v1/messages"
M = TypeVar("M", bound=BaseModel)


async def _read(service: Service, request: Request, model: type[M]) -> tuple[M, Charge]:
    data, size = await read_json(request, service)
    charge = Charge(service.limiter, key_of(request).id)
    charge.cover(size)
    if not service.settings.strict_params and isinstance(data, dict):
        data, notes = message_request(data)
        add_notes(request.scope, notes)
    refuse_fields(data)
    return read(model, data, strict_params=service.settings.strict_params, foreign=foreign), charge


@table.post(
    MESSAGES, "Answer a conversation (Anthropic's API).", body=MessagesRequest, stream=True, scopes=USE,
    required=("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"),
)  # fmt: skip
async def message(service: Service, request: Request) -> Response:
    service.check_capacity()
    asked, charge = await _read(service, request, MessagesRequest)
    job, notes = await unless_left(request, make_message_job(service, key_of(request), asked, charge))
    add_notes(request.scope, notes)
    job.begin()
    if not asked.stream:
        body = await wait_or_leave(request, job)
        is_starved = body["stop_reason"] == "max_tokens" and all(b["type"] == "thinking" for b in body["content"])
        return json_response(body, headers=starved_header(is_starved))
    events = job.log.follow(patience=service.settings.heartbeat)
    return EventStream(events, partial(response_event, obfuscate=False), on_leave=job.cancel)


@table.post(
    MESSAGES + "/count_tokens", "Count a message's tokens.", body=MessagesCountRequest, scopes=USE,
    required=("input_tokens",),
)  # fmt: skip
async def count_message(service: Service, request: Request) -> Response:
    asked, charge = await _read(service, request, MessagesCountRequest)
    _, prompt, *_ = await unless_left(request, read_prompt(service, key_of(request), asked, charge))
    charge.settle(prompt.num_tokens)
    return json_response({"input_tokens": prompt.num_tokens})
