"""A response from its request to its end: queued, in progress, and one terminal state that is final.

A job runs by itself; connections only follow its log, so a background response goes on without any. What is stored
is in the database before the terminal event is seen by anybody.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ponder.serve.errors import ApiError, StoreUnavailable
from ponder.serve.events import EventLog, Told
from ponder.serve.items import Item, check_order, input_items, prefix_hash
from ponder.serve.job import Job
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.modes import Spending
from ponder.serve.saving import save
from ponder.serve.schema import CountRequest, ResponseRequest
from ponder.serve.service import Service, check_schemas, format_of, order_of, tools_of
from ponder.serve.store import TERMINAL
from ponder.serve.thoughts import Thoughts
from ponder.serve.wire import Writer, new_response, usage_of
from ponder.serve.work import Count, Failed, Meter, Order, produce


@dataclass(frozen=True)
class Asked:
    """What a request says, once its history is known."""

    items: list[Item]  # the whole conversation
    new: list[Item]  # what this request added
    conversation: str | None
    removed: list[dict[str, str]]  # input_transformations
    order: Order
    num_prompt_tokens: int
    charge: Charge


async def read_conversation(
    service: Service, key: Key, request: ResponseRequest | CountRequest
) -> tuple[list[Item], list[Item], str | None]:
    """(history and new items, new items, conversation id)"""
    store, name = service.store, request.previous_response_id
    given = request.conversation
    room = given if isinstance(given, str) or given is None else given.id
    if name and room:
        raise ApiError(
            400,
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Give one of them.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    history: list[Item] = []
    if name:
        waiting = service.jobs.get(name)
        if waiting is not None and waiting.is_stored and waiting.key.owner == key.owner and waiting.is_ending:
            await waiting.wait()  # for the store to have it
            if name in service.jobs:
                raise StoreUnavailable(f"Response '{name}' could not be stored yet. Please try again later.")
        parent = await store.read(lambda: store.get("response", name, owner=key.owner))
        if parent is None:
            message = f"Previous response with id '{name[:100]}' not found."
            raise ApiError(400, message, code="previous_response_not_found", param="previous_response_id")
        if parent["status"] in ("queued", "in_progress"):
            message = f"Response '{name}' is still in progress; wait for it or cancel it."
            raise ApiError(409, message, code="conflict", param="previous_response_id", kind="conflict_error")
        history = await store.read(lambda: store.history(name, owner=key.owner))
    elif room:
        if await store.read(lambda: store.get("conversation", room, owner=key.owner)) is None:
            message = f"Conversation with id '{room[:100]}' not found."
            raise ApiError(404, message, code="not_found", param="conversation")
        history = await store.read(lambda: store.items(room, "in"))
    new = []
    for item in input_items(request.input):
        new.append(await service.stored_item(item["id"], key.owner) if item["type"] == "item_reference" else item)
    items = history + new
    check_order(items, "input")
    return items, new, room


async def read_request(service: Service, key: Key, request: ResponseRequest, charge: Charge) -> Asked:
    service.check_model(request.model)
    if request.background and request.store is False:
        raise ApiError(400, "background=true needs store=true: the response is fetched later.",
                       code="invalid_value", param="background")  # fmt: skip
    items, new, room = await read_conversation(service, key, request)
    kept, removed = await service.kept_thoughts(
        items, owner=key.owner, user=_user(request), num_history=len(items) - len(new)
    )
    tools, needs_call = tools_of(request.tools, request.tool_choice, "tools")
    form = format_of(request.text and request.text.format, "text.format.schema")
    prompt, messages, count = await service.prompt(
        items, kept, param="input", truncate=request.truncation == "auto", charge=charge,
        instructions=request.instructions, tools=tools, demand=form.demand,
    )  # fmt: skip
    await check_schemas(form, tools, needs_call=needs_call)
    reasoning = request.reasoning
    compute = service.compute(
        effort=reasoning.effort if reasoning else None, mode=reasoning.mode if reasoning else None,
        compute=request.compute, limit=request.max_output_tokens, num_prompt_tokens=count,
        may_vote=not (tools or form.wants_json),
    )  # fmt: skip
    order = order_of(
        service, prompt, messages, compute, tools=tools, needs_call=needs_call,
        parallel=request.parallel_tool_calls is not False, form=form,
    )  # fmt: skip
    return Asked(items, new, room, removed, order, count, charge)


def _user(request: ResponseRequest) -> str:
    return request.safety_identifier or request.user or ""


class ResponseJob(Job):
    def __init__(self, service: Service, key: Key, request: ResponseRequest, asked: Asked) -> None:
        super().__init__(service)
        self.key, self.request, self.asked = key, request, asked
        self.is_stored = request.store is not False
        self.body = new_response(
            request, model=service.settings.model, store=self.is_stored, conversation=asked.conversation
        )
        self.id: str = self.body["id"]
        compute: Spending = asked.order.compute
        self.body["compute"] = compute.told()
        if asked.removed:
            self.body["input_transformations"] = asked.removed
        self.log = EventLog()
        self.writer = Writer(self.body, self.log, self._seal)
        self.count = Count(prompt=asked.num_prompt_tokens)
        self.meter = Meter(service.engine, self.count, as_ids=service.ids)
        reasoning = request.reasoning
        private = [text for text in (request.instructions, *(
            message.content for message in asked.order.messages if message.role in ("developer", "system")
        )) if text]  # fmt: skip
        self.thoughts = Thoughts(
            service.watch(
                summary=bool(reasoning and (reasoning.summary or reasoning.generate_summary)),
                private=private,
                context={"response": self.id, "owner": key.owner, "model": service.settings.model},
            ),
            on_summary=self.writer.summary,
            on_verdict=service.on_verdict(self.id, key.owner),
        )
        self._prefix = prefix_hash(asked.items)
        self._sealed: list[tuple[str, str]] = []
        self.is_added = False  # the store knows of it
        self.saved = 0  # events that the store has
        self.saving = asyncio.Lock()
        self.begun = time.monotonic()
        params = compute.params
        most = (params.max_reasoning_tokens + 1 + params.max_answer_tokens) * compute.n
        limit = request.max_output_tokens
        asked.charge.reserve(self.count.prompt + min(most, limit or most))

    async def start(self) -> None:
        """Begin; a stored response is in the store when this returns, unless the store failed (`is_added`)."""
        self.service.jobs[self.id] = self
        try:
            if self.is_stored:
                await save([self])  # if that fails it is tried again, and the client gets its answer all the same
            self.writer.state("created")
            if self.request.background:
                self.writer.state("queued")
            self.begin()
        except BaseException:
            self.service.jobs.pop(self.id, None)
            self.asked.charge.settle(0)
            raise

    @property
    def is_ending(self) -> bool:
        return self.body["status"] in TERMINAL

    def answer_now(self) -> None:
        self.meter.answer_now()

    async def wait(self) -> dict[str, Any]:
        """The finished response."""
        await super().wait()
        return self.body

    async def work(self) -> str:
        self.body["status"] = "in_progress"
        self.writer.state("in_progress")
        return await produce(self.asked.order, self.meter, self.writer, self.thoughts)

    async def end(self, status: str, error: Failed | None) -> None:
        self.thoughts.abandon()
        fields: dict[str, Any] = {}
        if status == "incomplete":
            fields["incomplete_details"] = {"reason": "max_output_tokens"}
        if error is not None:
            fields["error"] = {"code": error.code, "message": error.message}
        self.count.summary = self.thoughts.summary_tokens
        self.body["usage"] = usage_of(self.count)
        self.body["compute"]["thinking_seconds"] = round(self.thoughts.seconds, 3)
        self.body["compute"]["answered_early"] = self.meter.hurried
        terminal = self.writer.end(status, self.thoughts, **fields)
        if error is not None:
            self.log.add({"type": "error", "code": error.code, "message": error.message, "param": None})
        last = self.log.numbered(terminal)
        is_saved = not self.is_stored or await save([self], last)
        self.log.put(last)
        self.log.close()
        if is_saved:
            self.service.jobs.pop(self.id, None)
        self.asked.charge.settle(self.count.prompt + self.count.output)
        self.service.report(
            key=self.key, kind="response", name=self.id, status=status, count=self.count,
            compute=self.asked.order.compute, thoughts=[self.thoughts], begun=self.begun,
            first_visible=self.writer.first_visible,
        )  # fmt: skip

    def unsaved(self, last: Told | None = None) -> Callable[[], None]:
        """What writes all that the store does not have yet, with the end if that is there."""
        # the body changes while the store's thread writes: an end without its items would be final
        body, store = self.body, self.service.store
        text, status, output = json.dumps(body), body["status"], body["output"]
        is_over = last is not None or self.log.is_closed
        events = [*self.log.events[self.saved :], *([last] if last else ())]

        is_added, begun = self.is_added, {**body, "output": []}

        def work() -> None:
            if not is_added:
                store.add("response", begun, owner=self.key.owner, status="in_progress", items=self.asked.new,
                          created=body["created_at"])  # fmt: skip
            if not store.update(self.id, text, status=status):
                return  # deleted while it ran
            store.add_events(self.id, events)
            if not is_over:
                return
            store.add_items(self.id, "out", output)
            for item, sealed in self._sealed:
                store.add_reasoning(self.id, item, self.key.owner, sealed)
            room = self.asked.conversation
            if room and status != "failed" and store.owner_of(room) is not None:  # a cancelled turn is kept too
                store.add_items(room, "in", [*self.asked.new, *output])

        return work

    def _seal(self, item: str, thoughts: Thoughts) -> str | None:
        """The only way of the raw reasoning out of this process: encrypted."""
        sealed = self.service.seal(
            thoughts, owner=self.key.owner, item=item, prefix=self._prefix, user=_user(self.request)
        )
        self._sealed.append((item, sealed))
        return sealed
