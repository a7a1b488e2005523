"""Anthropic's Messages API over the same engine, monitors and counting as the two of OpenAI. Nothing is stored.

    {"model": "nano", "max_tokens": 900, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
     "messages": [{"role": "user", "content": "What is 2+3?"}]}
    -> {"content": [{"type": "thinking", "thinking": "...", "signature": "..."}, {"type": "text", "text": "5"}],
        "stop_reason": "end_turn", ...}

A signature is the sealed reasoning, bound to its owner, model, end user, the conversation before it and the block's
text. Sent back while a tool is used it is thought on; in an earlier turn it is left out, as that API does.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ponder.serve.errors import ApiError
from ponder.serve.events import Event, EventLog
from ponder.serve.generation import (
    HELD_BY_MONITOR,
    STOPPED_BY_MONITOR,
    Count,
    Failed,
    GenerationPlan,
    MeteredEngine,
    produce,
)
from ponder.serve.history import kept_thoughts
from ponder.serve.items import Item, Thought, check_order, new_id, normalised, prefix_hash, text_of, turn_start
from ponder.serve.job import GenerationJob
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.message_writer import MessageWriter, StopFound
from ponder.serve.messages_schema import (
    ClaudeMessage,
    MessagesCountRequest,
    MessagesRequest,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from ponder.serve.planning import Format, check_schemas, format_of, generation_plan, tools_of
from ponder.serve.prompts import EncodedPrompt
from ponder.serve.schema import Compute, NamedFunction, SchemaFormat
from ponder.serve.served import ServedModel
from ponder.serve.service import Service
from ponder.serve.thoughts import Thoughts
from ponder.serve.tools import Tool
from ponder.serve.vault import Binding
from ponder.serve.wire import breakdown


def thinking_id(text: str) -> str:
    """What a signature is bound to: the text of its block. That API's blocks have no ids."""
    return "thinking_" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def items_of(messages: list[ClaudeMessage]) -> list[Item]:
    """Messages as items; neighbouring texts of one message are one."""
    items: list[Item] = []
    for message in messages:
        blocks = message.content
        if isinstance(blocks, str):
            blocks = [TextBlock(type="text", text=blocks)]
        texts: list[str] = []
        for block in (*blocks, None):
            if isinstance(block, TextBlock):
                texts.append(block.text)
                continue
            if texts:
                items.append(normalised({"role": message.role, "content": "\n".join(texts)}))
                texts = []
            if isinstance(block, ThinkingBlock):
                items.append(_reasoning(block.thinking, block.signature))
            elif isinstance(block, RedactedThinkingBlock):
                items.append(_reasoning("", block.data))
            elif isinstance(block, ToolUseBlock):
                arguments = json.dumps(block.input, ensure_ascii=False)
                items.append(normalised({"type": "function_call", "call_id": block.id, "name": block.name,
                                         "arguments": arguments}))  # fmt: skip
            elif isinstance(block, ToolResultBlock):
                output = ("Error: " if block.is_error else "") + text_of(
                    block.content if block.content is None or isinstance(block.content, str)
                    else [part.model_dump() for part in block.content]
                )  # fmt: skip
                items.append(normalised({"type": "function_call_output", "call_id": block.tool_use_id,
                                         "output": output}))  # fmt: skip
    return items


def _reasoning(text: str, sealed: str) -> Item:
    return {"id": thinking_id(text), "type": "reasoning", "summary": [], "encrypted_content": sealed}


async def _thoughts(
    service: Service, items: list[Item], *, owner: str, model: str, user: str
) -> tuple[list[Item], dict[str, Thought], list[str]]:
    """(items without the reasoning of earlier turns, that of this one, why some of it is not used)"""
    begin = turn_start(items)
    items = [item for index, item in enumerate(items) if item["type"] != "reasoning" or index >= begin]
    try:
        kept, removed = await kept_thoughts(service, items, owner=owner, model=model, user=user, num_history=0)
    except ApiError as error:
        if error.code != "invalid_encrypted_content":
            raise
        message = "Invalid signature in a thinking block: send thinking blocks of this turn back unchanged, or none."
        raise ApiError(400, message, code=error.code, param="messages") from None
    return items, kept, [f"thinking left out: {each['reason']}" for each in removed]


def _tools(request: MessagesCountRequest) -> tuple[list[Tool], bool]:
    given = [
        Tool(name=tool.name, description=tool.description or "", parameters=tool.input_schema, strict=bool(tool.strict))
        for tool in request.tools or ()
    ]
    choice = request.tool_choice
    if choice is not None and choice.type == "tool" and not choice.name:
        raise ApiError(400, "tool_choice.name: Field required", code="missing_required_parameter", param="tool_choice")
    asked: Any = None
    if choice is not None:
        asked = {"auto": "auto", "any": "required", "none": "none"}.get(choice.type) or NamedFunction.model_construct(
            name=choice.name or ""
        )
    return tools_of(given, asked, "tools")


def _format(request: MessagesCountRequest) -> Format:
    given = request.output_config.format if request.output_config is not None else None
    if given is None:
        return Format()
    spec = SchemaFormat(type="json_schema", name="output", schema=given.schema_, strict=True)
    return format_of(spec, "output_config.format.schema")


def compute_of(request: MessagesRequest) -> tuple[str | None, Compute | None]:
    """(effort, compute): `thinking` and `output_config.effort` in ponder's words."""
    thinking, effort = request.thinking, request.output_config.effort if request.output_config is not None else None
    if thinking is None or thinking.type == "adaptive":
        return effort, request.compute
    if thinking.type == "disabled":
        return "none", request.compute
    budget = thinking.budget_tokens
    if budget is None:
        message = "thinking.enabled.budget_tokens: Field required"
        raise ApiError(400, message, code="missing_required_parameter", param="thinking.budget_tokens")
    if budget >= request.max_tokens:
        raise ApiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`: it counts the thinking too.",
                       code="invalid_value", param="max_tokens")  # fmt: skip
    compute = request.compute or Compute()
    if compute.max_reasoning_tokens is None:
        compute = compute.model_copy(update={"max_reasoning_tokens": budget})
    return effort, compute


async def read_prompt(
    service: Service, key: Key, request: MessagesCountRequest, charge: Charge, *, user: str = ""
) -> tuple[list[Item], EncodedPrompt, list[Tool], bool, Format, list[str]]:
    """A request's conversation as items and as a prompt, its tools, whether one must be called, the form, notes."""
    model = service.working_model(request.model)
    items = items_of(request.messages)
    check_order(items, "messages")
    items, kept, notes = await _thoughts(service, items, owner=key.owner, model=model.name, user=user)
    tools, needs_call = _tools(request)
    form = _format(request)
    prompt = await service.encoder.prompt(
        model, items, kept, param="messages", truncate=False, charge=charge,
        instructions=system_of(request), tools=tools, demand=form.demand,
    )  # fmt: skip
    await check_schemas(form, tools, needs_call=needs_call)
    return items, prompt, tools, needs_call, form, notes


def system_of(request: MessagesCountRequest) -> str:
    """The system prompt, several blocks joined by a blank line; empty where there is none."""
    given = request.system
    return given if isinstance(given, str) else "\n\n".join(block.text for block in given or ())


async def make_message_job(
    service: Service, key: Key, request: MessagesRequest, charge: Charge
) -> tuple[MessageJob, list[str]]:
    """(the job, notes for the client)"""
    model = service.working_model(request.model)
    effort, compute = compute_of(request)
    user = (request.metadata and request.metadata.user_id) or ""
    items, prompt, tools, needs_call, form, notes = await read_prompt(service, key, request, charge, user=user)
    stops = tuple(request.stop_sequences or ())
    planned = model.compute(
        effort=effort, mode=None, compute=compute, limit=request.max_tokens, num_prompt_tokens=prompt.num_tokens,
        stop=stops, param="compute.mode", may_vote=not (tools or form.wants_json),
    )  # fmt: skip
    choice = request.tool_choice
    plan = generation_plan(
        model, prompt, planned, tools=tools, needs_call=needs_call,
        parallel=not (choice and choice.disable_parallel_tool_use), form=form,
    )  # fmt: skip
    if planned.strategy is None and not (form.wants_json or needs_call):
        # streamed: the writer finds them; whole samples are cut by the engine, which does not tell by which
        bare = replace(planned, params=replace(planned.params, stop=()))
        plan = replace(plan, compute=bare)
    else:
        stops = ()
    job = MessageJob(
        service, model, key, request, plan, charge, num_prompt_tokens=prompt.num_tokens, user=user,
        prefix=prefix_hash(items), stops=stops,
    )  # fmt: skip
    return job, notes


_STOP_REASON = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageJob(GenerationJob):
    """One message of that API. Raises ApiError 429 where the key's limit has too few tokens left."""

    def __init__(
        self, service: Service, model: ServedModel, key: Key, request: MessagesRequest, plan: GenerationPlan,
        charge: Charge, *, num_prompt_tokens: int, user: str, prefix: str, stops: tuple[str, ...],
    ) -> None:  # fmt: skip
        super().__init__(model, spawn=service.run, admit=service.admit)
        self.service, self.key, self.request, self.plan = service, key, request, plan
        self.id = new_id("msg")
        self.log = EventLog()
        self.count = Count(prompt=num_prompt_tokens)
        self._user, self._prefix = user, prefix
        thinking = request.thinking
        shows = thinking is not None and thinking.type != "disabled"
        wants_summary = shows and thinking is not None and thinking.display != "omitted"
        self.writer = MessageWriter(self._emit, seal=self._seal, shows_thinking=shows, stops=stops)
        private = [message.content for message in plan.messages if message.role in ("developer", "system")]
        self._watch = service.watch(
            model, plan.messages, response=self.id, owner=key.owner, private=private, summary=wants_summary
        )  # fmt: skip
        self.thoughts = Thoughts(
            self._watch, on_summary=self.writer.add_summary, on_verdict=service.on_verdict(self._watch.context)
        )
        self.stop_reason: str | None = None
        self.error: ApiError | None = None
        self.begun = time.monotonic()
        charge.reserve(num_prompt_tokens + plan.compute.max_output(request.max_tokens))
        self._charge = charge

    async def wait(self) -> dict[str, Any]:
        """The finished message, or its error raised."""
        await super().wait()
        if self.error is not None:
            raise self.error
        return self.body()

    def body(self) -> dict[str, Any]:
        """The message as far as it has come; it is whole after `wait`."""
        return {
            "id": self.id, "type": "message", "role": "assistant", "model": self.model.name,
            "content": self.writer.content, "stop_reason": self.stop_reason,
            "stop_sequence": self.writer.scanner.found, "usage": self.usage(),
            "compute": self.plan.compute.echo() | {"thinking_seconds": round(self.thoughts.seconds, 3)},
        }  # fmt: skip

    def usage(self) -> dict[str, Any]:
        """Tokens in that API's words; `output_tokens` includes the hidden reasoning."""
        return {
            "input_tokens": self.count.prompt, "output_tokens": self.count.output,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard",
            "output_tokens_details": {"thinking_tokens": self.count.reasoning, **breakdown(self.count)},
        }  # fmt: skip

    def _emit(self, kind: str, fields: Mapping[str, Any]) -> None:
        """An event into the log; where nothing is streamed nobody would read it."""
        if self.request.stream:
            self.log.put(Event(kind, len(self.log.events), json.dumps({"type": kind, **fields})))

    async def work(self) -> str:
        usage = {**self.usage(), "output_tokens": 0}
        self._emit("message_start", {"message": {**self.body(), "content": [], "usage": usage}})
        self._emit("ping", {})
        engine = MeteredEngine(self.model.engine, self.count, as_ids=partial(self.service.encoder.ids, self.model))
        try:
            reason = await produce(self.plan, engine, self.writer, self.thoughts)
            self.writer.finish()
            self.stop_reason = _STOP_REASON[reason]
        except StopFound:
            reason, self.stop_reason = "stop", "stop_sequence"
        except Failed as failure:
            if failure.code not in (STOPPED_BY_MONITOR[0], HELD_BY_MONITOR[0]):
                raise
            reason, self.stop_reason = "stop", "refusal"
        self.writer.finish()
        return reason

    async def end(self, status: str, error: Failed | None) -> None:
        self.thoughts.abandon()
        if status == "cancelled":
            error = Failed("cancelled", "The request was cancelled.")
        self.count.summary = self.thoughts.summary_tokens
        if error is None:
            delta = {"stop_reason": self.stop_reason, "stop_sequence": self.writer.scanner.found}
            self._emit("message_delta", {"delta": delta, "usage": self.usage()})
            self._emit("message_stop", {})
        else:
            self.error = ApiError(error.status, error.message, kind="server_error", code=error.code)
            self._emit("error", {"error": {"type": "api_error", "message": error.message, "code": error.code}})
        self.log.close()
        self._charge.settle(self.count.prompt + self.count.output)
        self.service.metrics.report(
            self.model.name, key=self.key, kind="message", name=self.id, status=status, count=self.count,
            compute=self.plan.compute, thoughts=[self.thoughts], begun=self.begun,
            first_visible=self.writer.first_visible,
        )  # fmt: skip

    def _seal(self, text: str, thoughts: Thoughts) -> str:
        """The only way of the raw reasoning out of this process: encrypted."""
        binding = Binding(
            owner=self.key.owner, model=self.model.name, prefix=self._prefix, item=thinking_id(text), user=self._user
        )
        chosen = thoughts.raw() if thoughts.chosen is None else thoughts.chosen
        return self.service.vault.seal({"text": chosen}, binding)
