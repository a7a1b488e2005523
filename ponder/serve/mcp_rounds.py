"""The Responses API's `mcp` tools: the model calls tools of servers that the operator named, inside one response.

    {"type": "mcp", "server_label": "files", "allowed_tools": ["read"], "require_approval": "never"}

    output: mcp_list_tools, reasoning, mcp_call, reasoning, message

A label is one of `ponder serve --mcp NAME=...`; an address, a connector or credentials in a request are refused: a
request never decides where this server connects to. What may be called is what the operator allows, and of that what
the request allows; a call that needs approval ends the response, and is made at the beginning of the next one
(approvals.py). Each round of reasoning is an item of its own, hidden, watched and sealed as any. A round's limits are
those of the request less what was used.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ponder.serve.approvals import Asker
from ponder.serve.errors import ApiError
from ponder.serve.generation import GenerationPlan, ResponseWriter, produce
from ponder.serve.items import Thought, normalised
from ponder.serve.mcp import OfferedTool, Toolbox
from ponder.serve.planning import format_of, generation_plan
from ponder.serve.schema_tools import McpTool
from ponder.serve.thoughts import Thoughts
from ponder.serve.tool_kinds import refusal
from ponder.serve.tools import Call, Tool

if TYPE_CHECKING:
    from ponder.serve.responses import ResponseJob

ROUNDS = 16  # of calls in one response; the next answer is given without tools
MOST_CALLS = 32  # of one response, unless it asks for fewer (max_tool_calls)
_FROM_OUTSIDE = ("server_url", "connector_id", "authorization", "headers", "tunnel_id")


def checked(data: Mapping[str, Any], toolbox: Toolbox | None, *, strict: bool) -> tuple[dict[str, Any], list[str]]:
    """A request whose mcp tools can be served, or ApiError; without servers they are refused (strict) or left out."""
    tools = data.get("tools")
    if not isinstance(tools, list) or not any(_is_mcp(tool) for tool in tools):
        return dict(data), []
    if toolbox is None and not strict and data.get("tool_choice") in (None, "auto", "none"):
        kept = [tool for tool in tools if not _is_mcp(tool)]
        return {**data, "tools": kept}, ["tools: mcp is not run here and was left out"]
    for index, tool in enumerate(tools):
        if _is_mcp(tool):
            _check(tool, toolbox, f"tools[{index}]")
    return dict(data), []


def _is_mcp(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "mcp"


def _check(tool: Mapping[str, Any], toolbox: Toolbox | None, param: str) -> None:
    def refused(message: str, name: str) -> ApiError:
        return ApiError(400, message, code="unsupported_value", param=f"{param}.{name}")

    if toolbox is None:
        raise refused(refusal("mcp"), "type")
    labels = ", ".join(f"'{label}'" for label in toolbox.labels)
    for name in _FROM_OUTSIDE:
        if tool.get(name) is not None:
            raise refused(f"'{name}' is not taken: requests do not say where this server connects to. Give the "
                          f"server_label of one that it offers: {labels}.", name)  # fmt: skip
    if tool.get("server_label") not in toolbox.labels:
        raise refused(f"No MCP server '{str(tool.get('server_label'))[:64]}' is offered here; there is {labels}.",
                      "server_label")  # fmt: skip


def chosen_tools(toolbox: Toolbox | None, given: Sequence[Any] | None) -> dict[str, OfferedTool]:
    """The tools of a request's mcp entries, by the name that the model calls."""
    found: dict[str, OfferedTool] = {}
    for index, entry in enumerate(given or ()):
        if not isinstance(entry, McpTool) or toolbox is None:
            continue
        mine = {tool.name: tool for tool in toolbox.tools.values() if tool.label == entry.server_label}
        wanted = entry.allowed_tools if entry.allowed_tools is None else entry.names
        for name in wanted or ():
            if name not in mine:
                message = f"'{name[:100]}' is no tool of '{entry.server_label}' here; there is {', '.join(mine)}."
                raise ApiError(400, message, code="unsupported_value", param=f"tools[{index}].allowed_tools")
        found |= {tool.called: tool for tool in mine.values() if wanted is None or tool.name in wanted}
    return found


@dataclass
class _Sink:
    """A ResponseWriter that keeps calls of MCP tools for this side and passes on everything else."""

    writer: Any
    tools: Mapping[str, OfferedTool]
    to_ask_for: Collection[str]  # of these, by name
    asker: Asker
    left: int  # calls that may still be made
    calls: list[tuple[dict[str, Any], Call]] = field(default_factory=list)
    num_functions: int = 0
    num_asked: int = 0

    def begin_reasoning(self) -> None:
        self.writer.begin_reasoning()

    def add_summary(self, text: str) -> None:
        self.writer.add_summary(text)

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None:
        self.writer.end_reasoning(thoughts, cut=cut)

    def add_text(self, text: str) -> None:
        self.writer.add_text(text)

    def add_call(self, call: Call) -> None:
        tool = self.tools.get(call.name)
        if tool is None:
            self.num_functions += 1
            self.writer.add_call(call)
        elif len(self.calls) + self.num_asked >= self.left:
            return
        elif call.name in self.to_ask_for:
            self.num_asked += 1
            identity = self.asker.new_id(tool.label, tool.name, call.arguments)
            self.writer.add_approval_request(call, tool.label, tool.name, identity)
        else:
            self.calls.append((self.writer.add_mcp_call(call, tool.label, tool.name), call))


async def run_rounds(job: ResponseJob, toolbox: Toolbox) -> str:
    """Produce a response whose model may call MCP tools; why it ended."""
    prepared, plan = job.prepared, job.prepared.plan
    tools = prepared.mcp
    listed = {item.get("server_label") for item in prepared.items if item["type"] == "mcp_list_tools"}
    for label in dict.fromkeys(tool.label for tool in tools.values()):
        if label not in listed:
            job.writer.add_tool_list(label, [tool for tool in tools.values() if tool.label == label])
    left = min(MOST_CALLS, job.request.max_tool_calls or MOST_CALLS)
    begun = time.monotonic()
    answers = prepared.answers
    if answers.approved:
        await asyncio.gather(*(_run_approved(job, toolbox, asked) for asked in answers.approved))
        left -= len(answers.approved)
        job.count.prompt = 0  # what was prepared did not know how the calls would end
        following = await _next_plan(job, last=left < 1, seconds=time.monotonic() - begun)
        if following is None:
            return "length"
        plan = following
        job.next_round()
    for number in range(ROUNDS + 1):
        sink = _Sink(job.writer, tools, prepared.to_ask_for, prepared.asker, left)
        writer: ResponseWriter = sink
        reason = await produce(plan, job.engine, writer, job.thoughts)
        if not sink.calls:
            return reason
        await asyncio.gather(*(_run(job, toolbox, item, call) for item, call in sink.calls))
        left -= len(sink.calls)
        if sink.num_functions or sink.num_asked or reason == "length":
            return reason
        following = await _next_plan(job, last=left < 1 or number + 1 == ROUNDS, seconds=time.monotonic() - begun)
        if following is None:
            return "length"
        plan = following
        job.next_round()
    return "stop"


async def _run(job: ResponseJob, toolbox: Toolbox, item: dict[str, Any], call: Call) -> None:
    result = await toolbox.call(call.name, json.loads(call.arguments))
    job.writer.end_mcp_call(item, result.text, is_error=result.is_error)


async def _run_approved(job: ResponseJob, toolbox: Toolbox, asked: Mapping[str, Any]) -> None:
    call = Call(f"{asked['server_label']}.{asked['name']}", asked["arguments"])
    await _run(job, toolbox, job.writer.add_mcp_call(call, asked["server_label"], asked["name"], asked["id"]), call)


async def _next_plan(job: ResponseJob, *, last: bool, seconds: float) -> GenerationPlan | None:
    """What is generated after calls; None where the response's limit is used up. last: no more calls."""
    prepared, request, before = job.prepared, job.request, job.prepared.plan
    limit = request.max_output_tokens
    left = None if limit is None else limit - job.count.output
    if left is not None and left < 2:
        return None
    items = [*prepared.items, *(normalised(item) for item in job.body["output"])]
    thoughts = {**prepared.kept, **{name: Thought(text) for name, text in job.thoughts_of_rounds.items()}}
    tools: Sequence[Tool] = () if last else before.tools
    form = format_of(request.text and request.text.format, "text.format.schema")
    prompt = await job.service.encoder.prompt(
        prepared.model, items, thoughts, param="input", truncate=request.truncation == "auto",
        charge=prepared.charge, instructions=request.instructions, tools=tools, demand=form.demand,
    )  # fmt: skip
    reasoning = request.reasoning
    compute = prepared.model.compute(
        effort=reasoning.effort if reasoning else None, mode=reasoning.mode if reasoning else None,
        compute=request.compute, limit=left, num_prompt_tokens=prompt.num_tokens, may_vote=False,
    )  # fmt: skip
    if compute.deadline is not None:
        compute = replace(compute, deadline=max(0.01, compute.deadline - seconds))
    job.count.prompt += prompt.num_tokens
    prepared.charge.reserve(job.count.prompt + job.count.output + compute.max_output(left))
    return generation_plan(
        prepared.model, prompt, compute, tools=tools, needs_call=False, parallel=before.parallel_calls, form=form
    )
