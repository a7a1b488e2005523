"""/v1/responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ponder.serve import schema
from ponder.serve.dialects import add_notes
from ponder.serve.errors import ApiError
from ponder.serve.events import Event
from ponder.serve.history import kept_thoughts, read_conversation
from ponder.serve.http import EventStream, json_response, key_of, response_event, unless_left, wait_or_leave
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.mcp_rounds import chosen_tools
from ponder.serve.planning import check_schemas, format_of, tools_of
from ponder.serve.query import boolean, includes, integer, page_of
from ponder.serve.responses import ResponseJob, prepare
from ponder.serve.routes.shared import delete_stored, read_charged, starved_header, stored, unstored_header
from ponder.serve.routes.table import DELETED, LIST, PAGE, READ, USE, RouteTable
from ponder.serve.service import Service
from ponder.serve.tool_kinds import grammar_notes

table = RouteTable()
RESPONSES, ONE = "/v1/responses", "/v1/responses/{id}"
RESPONSE = (
    "id", "object", "created_at", "error", "incomplete_details", "instructions", "metadata", "model", "output",
    "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "status", "usage",
)  # fmt: skip


def running_job(service: Service, request: Request) -> ResponseJob | None:
    """The response that the path names, where the store does not have it whole."""
    job = service.jobs.get(request.path_params["id"])
    return job if job is not None and job.key.owner == key_of(request).owner else None


async def stop_job(service: Service, job: ResponseJob) -> None:
    """Cancel a job and wait for its end. It leaves memory even if the store could not write it."""
    job.cancel()
    await job.wait()
    service.jobs.pop(job.id, None)  # it may be there still if it could not be written


@table.post(RESPONSES, "Make a response.", body=schema.ResponseRequest, stream=True, required=RESPONSE, scopes=USE)
async def respond(service: Service, request: Request) -> Response:
    service.check_capacity()
    asked, charge = await read_charged(service, request, schema.ResponseRequest)
    add_notes(request.scope, grammar_notes(asked.tools))
    key = key_of(request)
    job = ResponseJob(service, key, asked, await unless_left(request, prepare(service, key, asked, charge)))
    await job.start()
    is_unstored = job.is_stored and not job.is_added
    if asked.stream:
        obfuscate = asked.stream_options is None or asked.stream_options.include_obfuscation is not False
        leave = (lambda: None) if asked.background else job.cancel
        return _stream(_follow(service, job), obfuscate, leave, unstored_header(is_unstored))
    if asked.background:
        return json_response(job.writer.snapshot(), headers=unstored_header(is_unstored))
    body = await wait_or_leave(request, job)
    is_starved = body["status"] == "incomplete" and all(item["type"] == "reasoning" for item in body["output"])
    is_unstored = job.is_stored and job.id in service.jobs
    return json_response(body, headers=starved_header(is_starved) | unstored_header(is_unstored))


def _follow(service: Service, job: ResponseJob, after: int = -1) -> AsyncIterator[list[Event]]:
    return job.log.follow(after, patience=service.settings.heartbeat)


async def _once(events: list[Event]) -> AsyncIterator[list[Event]]:
    if events:
        yield events


def _stream(
    batches: AsyncIterator[list[Event]], obfuscate: bool, on_leave: Callable[[], None] = lambda: None,
    headers: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    return EventStream(batches, partial(response_event, obfuscate=obfuscate), on_leave=on_leave, headers=headers)


@table.post(
    RESPONSES + "/input_tokens", "Count a request's tokens.", body=schema.CountRequest,
    required=("object", "input_tokens"), scopes=USE,
)  # fmt: skip
async def count_input(service: Service, request: Request) -> Response:
    asked, charge = await read_charged(service, request, schema.CountRequest)
    count = await unless_left(request, _count(service, key_of(request), asked, charge))
    charge.settle(count)
    return json_response({"object": "response.input_tokens", "input_tokens": count})


async def _count(service: Service, key: Key, asked: schema.CountRequest, charge: Charge) -> int:
    model = service.working_model(asked.model)
    items, new, _ = await read_conversation(service, key, asked)
    kept, _ = await kept_thoughts(
        service, items, owner=key.owner, model=model.name, user="", num_history=len(items) - len(new)
    )
    mcp = chosen_tools(service.toolbox, asked.tools)
    functions = [tool.as_function() for tool in mcp.values()]
    tools, needs_call = tools_of(asked.tools, asked.tool_choice, "tools", functions)
    form = format_of(asked.text and asked.text.format, "text.format.schema")
    prompt = await service.encoder.prompt(
        model, items, kept, param="input", truncate=asked.truncation == "auto", charge=charge,
        instructions=asked.instructions, tools=tools, demand=form.demand,
    )  # fmt: skip
    await check_schemas(form, tools, needs_call=needs_call)
    return prompt.num_tokens


@table.post(RESPONSES + "/compact", "Refused.", scopes=USE, is_documented=False)
async def compact(service: Service, request: Request) -> Response:
    """A compaction is a model's own account of a conversation, and none of ours has learned to give it."""
    raise ApiError(
        400,
        "Compaction is not supported. Send truncation='auto' to have the oldest items left out, or begin a new "
        "conversation with what still matters.",
        code="unsupported_endpoint",
    )


@table.get(
    ONE, "A response, or its events again.", query=("stream", "starting_after", "include_obfuscation"), stream=True,
    required=RESPONSE, scopes=READ,
)  # fmt: skip
async def get_response(service: Service, request: Request) -> Response:
    job = running_job(service, request)
    after = integer(request, "starting_after", -1, low=-1)
    wants_stream, obfuscate = boolean(request, "stream"), boolean(request, "include_obfuscation", True)
    includes(request)
    if job is not None and not job.is_stored:
        job = None
    if wants_stream:
        if job is not None:
            return _stream(_follow(service, job, after), obfuscate)
        found = await stored(service, request, "response", "response")
        events = await service.store.read(lambda: service.store.events(found["id"], after))
        return _stream(_once(events), obfuscate)
    if job is not None:
        return json_response(job.writer.snapshot())
    return json_response(await stored(service, request, "response", "response"))


@table.delete(ONE, "Delete it.", required=DELETED, scopes=USE)
async def delete_response(service: Service, request: Request) -> Response:
    job = running_job(service, request)
    if job is not None:
        await stop_job(service, job)
        if job.is_stored and not job.is_added:  # the store never knew of it
            return json_response({"id": job.id, "object": "response", "deleted": True})
    return await delete_stored(service, request, "response", "response", "response")


@table.post(ONE + "/cancel", "Stop a background response.", required=RESPONSE, scopes=USE)
async def cancel_response(service: Service, request: Request) -> Response:
    job = running_job(service, request)
    if job is None:
        found = await stored(service, request, "response", "response")
        if not found["background"]:
            raise _not_background()
        return json_response(found)  # it has ended already: what it is, it stays
    if not job.request.background:
        raise _not_background()
    job.cancel()
    return json_response(await job.wait())


def _not_background() -> ApiError:
    return ApiError(
        400, "Cannot cancel a synchronous response; close its connection instead.", code="invalid_value",
        param="response_id",
    )  # fmt: skip


@table.post(ONE + "/finish", "Answer now: end the thinking.", required=RESPONSE, scopes=USE)
async def finish_response(service: Service, request: Request) -> Response:
    """The reasoning of a running response is closed, its answer follows."""
    job = running_job(service, request)
    if job is None:
        return json_response(await stored(service, request, "response", "response"))
    job.answer_now()
    return json_response(job.writer.snapshot())


@table.get(ONE + "/input_items", "What was asked.", query=PAGE, required=LIST, scopes=READ)
async def response_items(service: Service, request: Request) -> Response:
    job = running_job(service, request)
    includes(request)
    if job is not None and job.is_stored and not job.is_added:
        return json_response(page_of(job.prepared.new, request))
    found = await stored(service, request, "response", "response")
    items = await service.store.read(lambda: service.store.items(found["id"], "in"))
    return json_response(page_of(items, request))
