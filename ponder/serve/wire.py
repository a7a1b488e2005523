"""Response objects and their stream events, in OpenAI's order: one writer makes both, so they cannot differ."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ponder.serve.events import EventLog
from ponder.serve.generation import Count
from ponder.serve.items import new_id
from ponder.serve.mcp import OfferedTool
from ponder.serve.schema import ResponseRequest
from ponder.serve.thoughts import Thoughts
from ponder.serve.tool_kinds import ToolKind, echoed
from ponder.serve.tools import Call


def new_response(request: ResponseRequest, *, model: str, store: bool, conversation: str | None) -> dict[str, Any]:
    """A response as it is before anything was produced."""
    reasoning, text = request.reasoning, request.text
    chosen = request.tool_choice
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if request.background else "in_progress",
        "background": bool(request.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "conversation": {"id": conversation} if conversation else None,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": (reasoning and reasoning.effort) or "medium",
            "summary": (reasoning and (reasoning.summary or reasoning.generate_summary)) or None,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": store,
        "temperature": 1.0,
        "text": {
            "format": text.format.model_dump(by_alias=True, exclude_none=True)
            if text and text.format
            else {"type": "text"},
            "verbosity": (text and text.verbosity) or "medium",
        },
        "tool_choice": chosen.model_dump() if chosen is not None and not isinstance(chosen, str) else chosen or "auto",
        "tools": [echoed(tool) for tool in request.tools or ()],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
    }  # fmt: skip


def usage_of(count: Count) -> dict[str, Any]:
    """OpenAI's fields exactly, and the breakdown beside them: reasoning + answer + special = output."""
    return {
        "input_tokens": count.prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": count.output,
        "output_tokens_details": {"reasoning_tokens": count.reasoning, **breakdown(count)},
        "total_tokens": count.prompt + count.output,
    }


def breakdown(count: Count) -> dict[str, int]:
    """Fields beside OpenAI's. Discarded tokens are part of the output; those of summaries and scorers are not."""
    return {
        "answer_tokens": count.answer,
        "special_tokens": count.special,
        "discarded_tokens": count.discarded,
        "samples": count.samples,
        "summary_tokens": count.summary,
        "scorer_tokens": count.scorer,
    }


class EventWriter:
    """Writes a response: events into the log, items into `output`."""

    def __init__(
        self, body: dict[str, Any], log: EventLog, seal: Callable[[str, Thoughts], str | None],
        kinds: Mapping[str, ToolKind] | None = None,
    ) -> None:  # fmt: skip
        """kinds: of tools that are no plain functions, by the name that the model calls."""
        self.body, self.log, self._seal, self._kinds = body, log, seal, kinds or {}
        self.output: list[dict[str, Any]] = body["output"]
        self._reasoning: dict[str, Any] | None = None
        self._message: dict[str, Any] | None = None
        self.first_visible: float | None = None

    def state(self, kind: str) -> None:
        """response.created, response.queued, response.in_progress."""
        self.log.add({"type": f"response.{kind}", "response": self.snapshot()})

    def snapshot(self) -> dict[str, Any]:
        """A copy of the response as it is now, with a copy of each item."""
        return {**self.body, "output": [dict(item) for item in self.output]}

    # --- what is generated, as ResponseWriter -------------------------------------------------------------------------

    def begin_reasoning(self) -> None:
        """Open an item of reasoning; in the same round later calls do nothing."""
        if self._reasoning is None:
            self._reasoning = {
                "id": new_id("rs"), "type": "reasoning", "summary": [], "status": "in_progress",
                "thinking_since": round(time.time(), 3),
            }  # fmt: skip
            self._add_item(self._reasoning)

    def add_summary(self, text: str) -> None:
        """Add a part to the open item's summary, in deltas of 40 characters; without an open item it is dropped."""
        item = self._reasoning
        if item is None or item["status"] != "in_progress":
            return
        index = self.output.index(item)
        position = {"item_id": item["id"], "output_index": index, "summary_index": len(item["summary"])}
        part = {"type": "summary_text", "text": text}
        item["summary"].append(part)
        self._emit("response.reasoning_summary_part.added", position, part={"type": "summary_text", "text": ""})
        for start in range(0, len(text), 40):
            self._emit("response.reasoning_summary_text.delta", position, delta=text[start : start + 40])
        self._emit("response.reasoning_summary_text.done", position, text=text)
        self._emit("response.reasoning_summary_part.done", position, part=dict(part))

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None:
        """Seal the reasoning and close its item. Nothing happens where there is none, or it is closed."""
        item = self._reasoning
        if item is None or item["status"] != "in_progress":
            return
        item["status"] = "incomplete" if cut else "completed"
        item["thinking_seconds"] = round(thoughts.seconds, 3)
        sealed = self._seal(item["id"], thoughts)
        if sealed is not None:
            item["encrypted_content"] = sealed
        self._emit("response.output_item.done", {"output_index": self.output.index(item)}, item=_copy(item))

    def add_text(self, text: str) -> None:
        """The first call opens the message, an empty text too, and sets `first_visible` (monotonic seconds)."""
        if self.first_visible is None:
            self.first_visible = time.monotonic()
        if self._message is None:
            self._message = {
                "id": new_id("msg"), "type": "message", "status": "in_progress", "role": "assistant",
                "phase": "final_answer", "content": [],
            }  # fmt: skip
            self._add_item(self._message)
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._emit("response.content_part.added", self._position(), part=dict(part))
            self._message["content"].append(part)
        if text:
            self._message["content"][0]["text"] += text
            self._emit("response.output_text.delta", self._position(), delta=text, logprobs=[])

    def add_call(self, call: Call) -> None:
        """Write a whole call, which ends the message before it. Of a custom tool the client gets the text alone."""
        self._end_message("completed")
        kind = self._kinds.get(call.name, ToolKind(call.name))
        field = "input" if kind.is_custom else "arguments"
        event = "response.custom_tool_call_input" if kind.is_custom else "response.function_call_arguments"
        text = json.loads(call.arguments)["input"] if kind.is_custom else call.arguments
        item = {
            "id": new_id("ctc" if kind.is_custom else "fc"),
            "type": "custom_tool_call" if kind.is_custom else "function_call", "status": "in_progress",
            "call_id": new_id("call")[:29], "name": kind.name, field: "",
            **({"namespace": kind.namespace} if kind.namespace else {}),
        }  # fmt: skip
        self._add_item(item)
        position = {"item_id": item["id"], "output_index": self.output.index(item)}
        self._emit(f"{event}.delta", position, delta=text)
        item[field], item["status"] = text, "completed"
        self._emit(f"{event}.done", position, **({} if kind.is_custom else {"name": kind.name}), **{field: text})
        self._emit("response.output_item.done", {"output_index": position["output_index"]}, item=_copy(item))

    # --- calls that are made here -------------------------------------------------------------------------------------

    def add_tool_list(self, label: str, tools: Sequence[OfferedTool]) -> None:
        """What an MCP server offers to this response."""
        item: dict[str, Any] = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label, "tools": [],
                                "error": None}  # fmt: skip
        self._add_item(item)
        position = {"item_id": item["id"], "output_index": self.output.index(item)}
        self._emit("response.mcp_list_tools.in_progress", position)
        item["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters),
             "annotations": None} for tool in tools
        ]  # fmt: skip
        self._emit("response.mcp_list_tools.completed", position)
        self._emit("response.output_item.done", {"output_index": position["output_index"]}, item=_copy(item))

    def add_approval_request(self, call: Call, label: str, name: str, identity: str) -> None:
        """A call that is made only if the next request approves it."""
        self._end_message("completed")
        item = {"id": identity, "type": "mcp_approval_request", "server_label": label, "name": name,
                "arguments": call.arguments}  # fmt: skip
        self._add_item(item)
        self._emit("response.output_item.done", {"output_index": self.output.index(item)}, item=_copy(item))

    def add_mcp_call(self, call: Call, label: str, name: str, approval: str | None = None) -> dict[str, Any]:
        """A call of an MCP tool, which begins now; the item, for `end_mcp_call`. approval: the id of its request."""
        self._end_message("completed")
        item: dict[str, Any] = {
            "id": new_id("mcp"), "type": "mcp_call", "status": "in_progress", "server_label": label, "name": name,
            "arguments": "", "output": None, "error": None, "approval_request_id": approval,
        }  # fmt: skip
        self._add_item(item)
        position = {"item_id": item["id"], "output_index": self.output.index(item)}
        self._emit("response.mcp_call.in_progress", position)
        self._emit("response.mcp_call_arguments.delta", position, delta=call.arguments)
        item["arguments"] = call.arguments
        self._emit("response.mcp_call_arguments.done", position, arguments=call.arguments)
        return item

    def end_mcp_call(self, item: dict[str, Any], text: str, *, is_error: bool) -> None:
        """Close an item of `add_mcp_call`, in place. text: the result, or with is_error what went wrong."""
        item["status"] = "failed" if is_error else "completed"
        if is_error:
            item["error"] = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
        else:
            item["output"] = text
        position = {"item_id": item["id"], "output_index": self.output.index(item)}
        self._emit(f"response.mcp_call.{item['status']}", position)
        self._emit("response.output_item.done", {"output_index": position["output_index"]}, item=_copy(item))

    def next_round(self) -> None:
        """Reasoning after calls is an item of its own."""
        self._end_message("completed")
        self._reasoning = None

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, status: str, thoughts: Thoughts | None, **fields: Any) -> dict[str, Any]:
        """Close what is open and make the terminal event; it goes into the log when the store has it."""
        if thoughts is not None:
            self.end_reasoning(thoughts, cut=True)
        for item in self.output:
            if item["type"] == "mcp_call" and item["status"] == "in_progress":  # stopped while the tool ran
                self.end_mcp_call(item, "the response ended before the call did", is_error=True)
        hidden = ("reasoning", "mcp_list_tools", "mcp_call")
        if status == "completed" and all(item["type"] in hidden for item in self.output):
            self.add_text("")
        self._end_message("completed" if status == "completed" else "incomplete")
        self.body.update(status=status, **fields)
        if status in ("completed", "incomplete"):
            self.body["completed_at"] = max(int(time.time()), self.body["created_at"])  # a clock may be set back
        kind = {"completed": "completed", "incomplete": "incomplete"}.get(status, "failed")
        return {"type": f"response.{kind}", "response": self.snapshot()}

    def _end_message(self, status: str) -> None:
        message = self._message
        if message is None:
            return
        part = message["content"][0]
        self._emit("response.output_text.done", self._position(), text=part["text"], logprobs=[])
        self._emit("response.content_part.done", self._position(), part=dict(part))
        message["status"] = status
        self._emit("response.output_item.done", {"output_index": self.output.index(message)}, item=_copy(message))
        self._message = None

    def _add_item(self, item: dict[str, Any]) -> None:
        self.output.append(item)
        self._emit("response.output_item.added", {"output_index": len(self.output) - 1}, item=_copy(item))

    def _position(self) -> dict[str, Any]:
        assert self._message is not None
        return {"item_id": self._message["id"], "output_index": self.output.index(self._message), "content_index": 0}

    def _emit(self, kind: str, position: dict[str, Any], **fields: Any) -> None:
        self.log.add({"type": kind, **position, **fields})


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in item.items()}
