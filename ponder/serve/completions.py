"""Chat completions: the older of the two APIs, over the same work. There is no field for reasoning in it at all."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ponder.engine.base import gather_or_cancel
from ponder.serve.errors import ApiError
from ponder.serve.events import Event, EventLog, padded
from ponder.serve.generation import (
    HELD_BY_MONITOR,
    STOPPED_BY_MONITOR,
    Count,
    Failed,
    GenerationPlan,
    MeteredEngine,
    produce,
)
from ponder.serve.items import chat_items, check_order, new_id, text_of
from ponder.serve.job import GenerationJob
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.logs import log
from ponder.serve.planning import check_schemas, format_of, generation_plan, tools_of
from ponder.serve.schema import ChatRequest, StreamOptions
from ponder.serve.served import ServedModel
from ponder.serve.service import Service
from ponder.serve.thoughts import Thoughts
from ponder.serve.tools import Call
from ponder.serve.wire import breakdown


def chat_usage(count: Count) -> dict[str, Any]:
    """Usage in the words of chat completions. `completion_tokens` includes hidden reasoning, and samples that were not
    chosen."""
    return {
        "prompt_tokens": count.prompt,
        "completion_tokens": count.output,
        "total_tokens": count.prompt + count.output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": count.reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0, **breakdown(count),
        },
    }  # fmt: skip


class ChoiceWriter:
    """Writes one choice: chunks into the log, a message at the end."""

    def __init__(self, index: int, emit: Callable[[dict[str, Any]], None]) -> None:
        self.index, self._emit = index, emit
        self.content = ""
        self.calls: list[dict[str, Any]] = []
        self.first_visible: float | None = None
        self.finish_reason: str | None = None

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> None:
        """Emit one chunk of this choice. finish: why it ended, in its last chunk only."""
        self._emit({"index": self.index, "delta": delta, "logprobs": None, "finish_reason": finish})

    def begin_reasoning(self) -> None: ...

    def add_summary(self, text: str) -> None: ...

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None: ...

    def add_text(self, text: str) -> None:
        """Append visible text and emit it. The first call sets `first_visible` (monotonic seconds)."""
        if self.first_visible is None:
            self.first_visible = time.monotonic()
        if text:
            self.content += text
            self.delta({"content": text})

    def add_call(self, call: Call) -> None:
        """Emit a call in two chunks: its name, then all of its arguments."""
        made = {"id": new_id("call")[:29], "type": "function", "function": {"name": call.name, "arguments": ""}}
        number = len(self.calls)
        self.delta({"tool_calls": [{"index": number, **made}]})
        self.delta({"tool_calls": [{"index": number, "function": {"arguments": call.arguments}}]})
        self.calls.append({**made, "function": {"name": call.name, "arguments": call.arguments}})

    def whole(self) -> dict[str, Any]:
        """The choice of a finished completion. `content` is None where there are calls and no text."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None, "annotations": []}
        if self.calls:
            message["tool_calls"] = self.calls
            message["content"] = self.content or None
        return {"index": self.index, "message": message, "logprobs": None, "finish_reason": self.finish_reason}


class ChatJob(GenerationJob):
    """One chat completion: its n choices are drawn side by side, and one that fails ends the others. Raises ApiError
    429 where the key's limit has too few tokens left."""

    def __init__(
        self, service: Service, model: ServedModel, key: Key, request: ChatRequest, plan: GenerationPlan,
        num_prompt_tokens: int, charge: Charge,
    ) -> None:  # fmt: skip
        super().__init__(model, spawn=service.run, admit=service.admit)
        self.service, self.key, self.request, self.plan = service, key, request, plan
        self.id, self.created = new_id("chatcmpl"), int(time.time())
        self.log = EventLog()
        self._chunk = json.dumps(self.head("chat.completion.chunk"))[:-1]
        self.count = Count(prompt=num_prompt_tokens)
        self.choices = [ChoiceWriter(index, self._emit) for index in range(request.n or 1)]
        self.thoughts: list[Thoughts] = []
        self.error: ApiError | None = None
        self.begun = time.monotonic()
        max_output = plan.compute.max_output(request.max_completion_tokens)
        charge.reserve(num_prompt_tokens + max_output * len(self.choices))
        self._charge = charge
        self.is_unstored = False  # it was to be, and the store failed

    async def wait(self) -> dict[str, Any]:
        """The finished completion, or its error raised."""
        await super().wait()
        if self.error is not None:
            raise self.error
        return self.body()

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that a chunk and the whole completion share. kind: the value of `object`."""
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model.name,
            "service_tier": "default", "system_fingerprint": f"fp_{self.service.created:x}",
        }  # fmt: skip

    def body(self) -> dict[str, Any]:
        """The completion as far as it has come; it is whole after `wait`."""
        body = self.head("chat.completion")
        body["choices"] = [choice.whole() for choice in self.choices]
        body["usage"] = chat_usage(self.count)
        body["compute"] = self.plan.compute.echo() | {
            "thinking_seconds": round(max((t.seconds for t in self.thoughts), default=0.0), 3)
        }
        if self.request.store:
            body["metadata"] = self.request.metadata or {}
        return body

    def _emit(self, choice: dict[str, Any]) -> None:
        self._put("chunk", choices=[choice])

    def _put(self, kind: str, **fields: Any) -> None:
        """A chunk into the log; where nothing is streamed nobody would read it."""
        if not self.request.stream:
            return
        options = self.request.stream_options or StreamOptions()
        if options.include_usage:
            fields.setdefault("usage", None)
        text = f"{self._chunk}, {json.dumps(fields)[1:]}"
        is_padded = kind == "chunk" and options.include_obfuscation is not False
        self.log.put(Event(kind, len(self.log.events), padded(text) if is_padded else text))

    async def work(self) -> str:
        await gather_or_cancel([self._choose(choice) for choice in self.choices])
        return "length" if any(choice.finish_reason == "length" for choice in self.choices) else "stop"

    async def end(self, status: str, error: Failed | None) -> None:
        for thoughts in self.thoughts:
            thoughts.abandon()
        if status == "cancelled":
            error = Failed("cancelled", "The request was cancelled.")
        if error is None:
            options = self.request.stream_options
            if options is not None and options.include_usage:
                self._put("usage", choices=[], usage=chat_usage(self.count))
            if self.request.store:
                await self._store()
        else:
            self.error = ApiError(error.status, error.message, kind="server_error", code=error.code)
            self.log.put(Event("failed", len(self.log.events), json.dumps(self.error.body())))
        self.log.close()
        self._charge.settle(self.count.prompt + self.count.output)
        visible = [choice.first_visible for choice in self.choices if choice.first_visible is not None]
        self.service.metrics.report(
            self.model.name, key=self.key, kind="chat", name=self.id, status=status, count=self.count,
            compute=self.plan.compute, thoughts=self.thoughts, begun=self.begun,
            first_visible=min(visible, default=None),
        )  # fmt: skip

    async def _choose(self, choice: ChoiceWriter) -> None:
        watch = self.service.watch(self.model, self.plan.messages, response=self.id, owner=self.key.owner)
        on_verdict = self.service.on_verdict(watch.context)
        thoughts = Thoughts(watch, on_summary=lambda text: None, on_verdict=on_verdict)
        self.thoughts.append(thoughts)
        choice.delta({"role": "assistant", "content": "", "refusal": None})
        try:
            # choice k draws sample k of the request; retries of another choice never meet it
            engine = MeteredEngine(self.model.engine, self.count, as_ids=partial(self.service.encoder.ids, self.model))
            choice.finish_reason = await produce(self.plan, engine, choice, thoughts, first=choice.index * 1000)
        except Failed as failure:
            if failure.code not in (STOPPED_BY_MONITOR[0], HELD_BY_MONITOR[0]):
                raise
            choice.finish_reason = "content_filter"
        choice.delta({}, choice.finish_reason)

    async def _store(self) -> None:
        store, body, owner = self.service.store, copy.deepcopy(self.body()), self.key.owner
        items = []
        for index, message in enumerate(self.request.messages):
            plain = {name: value for name, value in message.model_dump().items() if value is not None}
            items.append({**plain, "id": f"{self.id}-{index}", "content": text_of(plain.get("content"))})
        try:
            await store.do(lambda: store.add("chat", body, owner=owner, status="completed", items=items))
        except Exception as problem:  # a full disk: the client still gets what was produced
            self.is_unstored = True
            log("store_failed", response=self.id, kind=type(problem).__name__)


async def make_job(service: Service, key: Key, request: ChatRequest, charge: Charge) -> ChatJob:
    """Check a request and plan it. Raises ApiError for one that cannot be served; nothing is sampled before `begin`."""
    model = service.working_model(request.model)
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                       code="invalid_value", param="stream_options")  # fmt: skip
    items = chat_items(request)
    check_order(items, "messages")
    tools, needs_call = tools_of(request.tools, request.tool_choice, "tools")
    form = format_of(request.response_format, "response_format")
    prompt = await service.encoder.prompt(
        model, items, {}, param="messages", truncate=False, charge=charge, tools=tools, demand=form.demand
    )
    await check_schemas(form, tools, needs_call=needs_call)
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    compute = model.compute(
        effort=request.reasoning_effort, mode=None, compute=request.compute, limit=request.max_completion_tokens,
        num_prompt_tokens=prompt.num_tokens, seed=request.seed, stop=stop, param="compute.mode",
        may_vote=not (tools or form.wants_json or (request.n or 1) > 1),
    )  # fmt: skip
    if (request.n or 1) > 1 and compute.strategy is not None:
        raise ApiError(400, "n > 1 cannot be combined with a mode that chooses among samples.",
                       code="invalid_value", param="n")  # fmt: skip
    plan = generation_plan(
        model, prompt, compute, tools=tools, needs_call=needs_call,
        parallel=request.parallel_tool_calls is not False, form=form,
    )  # fmt: skip
    return ChatJob(service, model, key, request, plan, prompt.num_tokens, charge)
