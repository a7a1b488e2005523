"""A response from its request to its end: queued, in progress, and one terminal state that is final.

A job runs by itself; connections only follow its log, so a background response goes on without any. What is stored
is in the database before the terminal event is seen by anybody.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ponder.serve.approvals import ApprovalAnswers, Asker, read_answers, settle, tools_to_ask_for
from ponder.serve.errors import ApiError
from ponder.serve.events import Event, EventLog
from ponder.serve.generation import Count, Failed, GenerationPlan, MeteredEngine, produce
from ponder.serve.history import kept_thoughts, read_conversation
from ponder.serve.items import Item, Thought, normalised, prefix_hash
from ponder.serve.job import GenerationJob
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.mcp import OfferedTool
from ponder.serve.mcp_rounds import chosen_tools, run_rounds
from ponder.serve.planning import check_schemas, format_of, generation_plan, tools_of
from ponder.serve.saving import save
from ponder.serve.schema import ResponseRequest
from ponder.serve.served import ServedModel
from ponder.serve.service import Service
from ponder.serve.store import TERMINAL
from ponder.serve.thoughts import Thoughts
from ponder.serve.tool_kinds import kinds_of
from ponder.serve.vault import Binding
from ponder.serve.wire import EventWriter, new_response, usage_of


@dataclass(frozen=True)
class PreparedRequest:
    """A request once its model and its history are known."""

    model: ServedModel
    items: list[Item]  # the whole conversation
    new: list[Item]  # what this request added
    conversation: str | None
    removed: list[dict[str, str]]  # input_transformations
    plan: GenerationPlan
    num_prompt_tokens: int
    charge: Charge
    asker: Asker
    kept: Mapping[str, Thought] = field(default_factory=dict)  # reasoning of this turn, by its item
    mcp: Mapping[str, OfferedTool] = field(default_factory=dict)  # tools of MCP servers, by the names that are called
    to_ask_for: frozenset[str] = frozenset()  # those of them whose calls need approval
    answers: ApprovalAnswers = field(default_factory=ApprovalAnswers)  # to what an earlier response asked for


async def prepare(service: Service, key: Key, request: ResponseRequest, charge: Charge) -> PreparedRequest:
    """Read the history, check everything and plan. Raises ApiError for a request that cannot be served; nothing is
    sampled or stored."""
    model = service.working_model(request.model)
    if request.background and request.store is False:
        raise ApiError(400, "background=true needs store=true: the response is fetched later.",
                       code="invalid_value", param="background")  # fmt: skip
    items, new, conversation = await read_conversation(service, key, request)
    kept, removed = await kept_thoughts(
        service, items, owner=key.owner, model=model.name, user=_user(request), num_history=len(items) - len(new)
    )
    mcp = chosen_tools(service.toolbox, request.tools)
    asker = Asker(vault=service.vault, owner=key.owner, user=_user(request))
    answers = await read_answers(service.store, asker, items, new, mcp, request.max_tool_calls)
    functions = [tool.as_function() for tool in mcp.values()]
    tools, needs_call = tools_of(request.tools, request.tool_choice, "tools", functions)
    form = format_of(request.text and request.text.format, "text.format.schema")
    prompt = await service.encoder.prompt(
        model, items, kept, param="input", truncate=request.truncation == "auto", charge=charge,
        instructions=request.instructions, tools=tools, demand=form.demand,
    )  # fmt: skip
    await check_schemas(form, tools, needs_call=needs_call)
    reasoning = request.reasoning
    compute = model.compute(
        effort=reasoning.effort if reasoning else None, mode=reasoning.mode if reasoning else None,
        compute=request.compute, limit=request.max_output_tokens, num_prompt_tokens=prompt.num_tokens,
        may_vote=not (tools or form.wants_json),
    )  # fmt: skip
    plan = generation_plan(
        model, prompt, compute, tools=tools, needs_call=needs_call,
        parallel=request.parallel_tool_calls is not False, form=form,
    )  # fmt: skip
    return PreparedRequest(
        model, items, new, conversation, removed, plan, prompt.num_tokens, charge, asker, kept=kept, mcp=mcp,
        to_ask_for=frozenset(tools_to_ask_for(mcp, request.tools)), answers=answers,
    )  # fmt: skip


def _user(request: ResponseRequest) -> str:
    return request.safety_identifier or request.user or ""


class ResponseJob(GenerationJob):
    """One response: its object (`body`), its events (`log`), its tokens. Raises ApiError 429 where the key's limit has
    too few tokens left."""

    def __init__(self, service: Service, key: Key, request: ResponseRequest, prepared: PreparedRequest) -> None:
        model, plan = prepared.model, prepared.plan
        super().__init__(model, spawn=service.run, admit=service.admit)
        self.service, self.key, self.request, self.prepared = service, key, request, prepared
        self.is_stored = request.store is not False
        self.body = new_response(request, model=model.name, store=self.is_stored, conversation=prepared.conversation)
        self.id: str = self.body["id"]
        self.body["compute"] = plan.compute.echo()
        if prepared.removed:
            self.body["input_transformations"] = prepared.removed
        self.log = EventLog()
        self.writer = EventWriter(self.body, self.log, self._seal, kinds_of(request.tools))
        self.count = Count(prompt=prepared.num_prompt_tokens)
        self.engine = MeteredEngine(model.engine, self.count, as_ids=partial(service.encoder.ids, model))
        reasoning = request.reasoning
        private = [text for text in (request.instructions, *(
            message.content for message in plan.messages if message.role in ("developer", "system")
        )) if text]  # fmt: skip
        watch = service.watch(
            model, plan.messages, response=self.id, owner=key.owner, private=private,
            summary=bool(reasoning and (reasoning.summary or reasoning.generate_summary)),
        )  # fmt: skip
        self._watch = watch
        self.thoughts_of_rounds: dict[str, str] = {}  # of rounds that called tools, by the item of their reasoning
        self.rounds: list[Thoughts] = []
        self.thoughts = self._new_thoughts()
        self._prefix = prefix_hash(prepared.items)
        self._sealed: list[tuple[str, str]] = []
        self.is_added = False  # the store knows of it
        self.saved = 0  # events that the store has
        self.saving = asyncio.Lock()
        self.begun = time.monotonic()
        prepared.charge.reserve(self.count.prompt + plan.compute.max_output(request.max_output_tokens))

    def _new_thoughts(self) -> Thoughts:
        on_verdict = self.service.on_verdict(self._watch.context)
        self.rounds.append(Thoughts(self._watch, on_summary=self.writer.add_summary, on_verdict=on_verdict))
        return self.rounds[-1]

    def next_round(self) -> None:
        """What comes now is reasoned about anew, after calls that were made here."""
        self.thoughts = self._new_thoughts()
        self._prefix = prefix_hash([*self.prepared.items, *map(normalised, self.body["output"])])
        self.writer.next_round()

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
            self.prepared.charge.settle(0)
            raise

    @property
    def is_ending(self) -> bool:
        """The status is final, though the store may not have it and readers may not have seen the last event."""
        return self.body["status"] in TERMINAL

    def answer_now(self) -> None:
        """Close the reasoning of all its samples; the answer follows."""
        self.engine.answer_now()

    async def wait(self) -> dict[str, Any]:
        """The finished response."""
        await super().wait()
        return self.body

    async def work(self) -> str:
        self.body["status"] = "in_progress"
        self.writer.state("in_progress")
        await settle(self.service.store, self.prepared.answers)
        toolbox = self.service.toolbox
        if toolbox is not None and self.prepared.mcp:
            return await run_rounds(self, toolbox)
        return await produce(self.prepared.plan, self.engine, self.writer, self.thoughts)

    async def end(self, status: str, error: Failed | None) -> None:
        self.thoughts.abandon()
        fields: dict[str, Any] = {}
        if status == "incomplete":
            fields["incomplete_details"] = {"reason": "max_output_tokens"}
        if error is not None:
            fields["error"] = {"code": error.code, "message": error.message}
        self.count.summary = sum(thoughts.summary_tokens for thoughts in self.rounds)
        self.body["usage"] = usage_of(self.count)
        self.body["compute"]["thinking_seconds"] = round(sum(t.seconds for t in self.rounds), 3)
        self.body["compute"]["answered_early"] = self.engine.answered_early
        terminal = self.writer.end(status, self.thoughts, **fields)
        if error is not None:
            self.log.add({"type": "error", "code": error.code, "message": error.message, "param": None})
        last = self.log.numbered(terminal)
        is_saved = not self.is_stored or await save([self], last)
        self.log.put(last)
        self.log.close()
        if is_saved:
            self.service.jobs.pop(self.id, None)
        self.prepared.charge.settle(self.count.prompt + self.count.output)
        self.service.metrics.report(
            self.model.name, key=self.key, kind="response", name=self.id, status=status, count=self.count,
            compute=self.prepared.plan.compute, thoughts=self.rounds, begun=self.begun,
            first_visible=self.writer.first_visible,
        )  # fmt: skip

    def unsaved(self, last: Event | None = None) -> Callable[[], None]:
        """What writes all that the store does not have yet, with the end if that is there."""
        # the body changes while the store's thread writes: an end without its items would be final
        body, store = self.body, self.service.store
        text, status, output = json.dumps(body), body["status"], body["output"]
        is_over = last is not None or self.log.is_closed
        events = [*self.log.events[self.saved :], *([last] if last else ())]

        is_added, begun = self.is_added, {**body, "output": []}

        def work() -> None:
            if not is_added:
                store.add("response", begun, owner=self.key.owner, status="in_progress", items=self.prepared.new,
                          created=body["created_at"])  # fmt: skip
            if not store.update(self.id, text, status=status):
                return  # deleted while it ran
            store.add_events(self.id, events)
            if not is_over:
                return
            store.add_items(self.id, "out", output)
            for item, sealed in self._sealed:
                store.add_reasoning(self.id, item, self.key.owner, sealed)
            conversation = self.prepared.conversation  # a cancelled turn is kept in it too
            if conversation and status != "failed" and store.owner_of(conversation) is not None:
                store.add_items(conversation, "in", [*self.prepared.new, *output])

        return work

    def _seal(self, item: str, thoughts: Thoughts) -> str | None:
        """The only way of the raw reasoning out of this process: encrypted. It is the reasoning of the answer, and that
        of all samples where there were several."""
        binding = Binding(
            owner=self.key.owner, model=self.model.name, prefix=self._prefix, item=item, user=_user(self.request)
        )
        raw = thoughts.raw()
        chosen = raw if thoughts.chosen is None else thoughts.chosen
        self.thoughts_of_rounds[item] = chosen
        sealed = self.service.vault.seal({"text": chosen, **({"all": raw} if raw != chosen else {})}, binding)
        self._sealed.append((item, sealed))
        return sealed
