"""Conversations: what clients send -> items -> the prompt, with reasoning kept exactly as long as a turn lasts.

Items are plain dicts in the form of the Responses API (message, reasoning, function_call, function_call_output); chat
messages become the same. Reasoning is dropped at turn boundaries and kept across a function-call round trip: an item
counts only after the last user message, and only while the conversation ends with a function's output. What was sent
and not used is reported as `input_transformations`, with OpenAI's five reasons.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ponder.serve.errors import ApiError
from ponder.serve.schema import ChatRequest
from ponder.serve.tool_kinds import CALLS, OUTPUTS, call_as_json, identity_of_call, normalised_call
from ponder.serve.tools import TOOL_CALL, TOOL_RESPONSE, Tool, tool_instructions
from ponder.serve.vault import item_of
from ponder.types import Message, Role

Item = dict[str, Any]
_PREFIX = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco",
    "custom_tool_call": "ctc", "custom_tool_call_output": "ctco", "mcp_call": "mcp", "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr", "mcp_approval_response": "mcpa",
}  # fmt: skip
_APPROVAL_FIELDS = {
    "mcp_approval_request": ("server_label", "name", "arguments"),
    "mcp_approval_response": ("approval_request_id", "approve", "reason"),
}


@dataclass(frozen=True)
class Thought:
    """Reasoning of an earlier step of the same turn, on its way back into the prompt; never into anything else."""

    text: str

    def __repr__(self) -> str:
        return f"Thought({len(self.text)} characters)"


def new_id(prefix: str) -> str:
    """The prefix, an underscore and 40 random hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(20)}"


def text_of(content: Any) -> str:
    """The visible text of a message's content or a function's output, whatever its form."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or part.get("refusal") or "" for part in content or ())


def normalised(item: Mapping[str, Any]) -> Item:
    """An input item as it is stored and listed."""
    kind = item.get("type") or "message"
    given = item.get("id")
    if not given and kind == "reasoning":  # Codex sends it back without its id
        given = item_of(item.get("encrypted_content") or "")
    identity = given if isinstance(given, str) and given else new_id(_PREFIX.get(kind, "item"))
    if kind == "message":
        role = item["role"]
        part = "output_text" if role == "assistant" else "input_text"
        more: dict[str, Any] = {"annotations": [], "logprobs": []} if role == "assistant" else {}
        content = [{"type": part, "text": text_of(item["content"]), **more}]
        return {"id": identity, "type": kind, "role": role, "status": "completed", "content": content}
    if kind == "reasoning":
        summary = [{"type": "summary_text", "text": part["text"]} for part in item.get("summary") or ()]
        sealed = item.get("encrypted_content")
        return {"id": identity, "type": kind, "summary": summary, **({"encrypted_content": sealed} if sealed else {})}
    if kind == "mcp_list_tools":
        return {"id": identity, "type": kind, "server_label": item["server_label"], "tools": item.get("tools") or []}
    if kind in _APPROVAL_FIELDS:
        return {"id": identity, "type": kind, **{name: item.get(name) for name in _APPROVAL_FIELDS[kind]}}
    if kind in (*CALLS, "mcp_call"):
        return {"id": identity, "type": kind, "status": "completed", **normalised_call(item)}
    output = text_of(item["output"])
    return {"id": identity, "type": kind, "status": "completed", "call_id": item["call_id"], "output": output}


def input_items(given: str | list[Any] | None) -> list[Item]:
    """Items of a request; references are left as they are for the store to look up."""
    if given is None:
        return []
    if isinstance(given, str):
        return [normalised({"role": "user", "content": given})]
    items = [item.model_dump() for item in given]
    return [item if item.get("type") == "item_reference" else normalised(item) for item in items]


def chat_items(request: ChatRequest) -> list[Item]:
    """The messages of a chat completion as items. Raises ApiError where a tool's message answers no earlier call."""
    items: list[Item] = []
    open_calls: set[str] = set()
    for index, message in enumerate(request.messages):
        plain = message.model_dump()
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                raise ApiError(
                    400,
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    param=f"messages[{index}].role",
                    code="invalid_value",
                )
            items.append(normalised({"type": "function_call_output", "call_id": message.tool_call_id,
                                     "output": plain["content"]}))  # fmt: skip
            continue
        if message.role != "assistant":
            items.append(normalised({"role": message.role, "content": plain["content"]}))
            continue
        if message.content or not message.tool_calls:
            items.append(normalised({"role": "assistant", "content": plain["content"] or ""}))
        for call in message.tool_calls or ():
            open_calls.add(call.id)
            items.append(normalised({"type": "function_call", "call_id": call.id, "name": call.function.name,
                                     "arguments": call.function.arguments}))  # fmt: skip
    return items


def prefix_hash(items: Sequence[Item]) -> str:
    """A hash of the visible conversation so far: reasoning is bound to it. Ids and reasoning do not count."""
    return prefix_hashes(items)[-1]


def prefix_hashes(items: Sequence[Item]) -> list[str]:
    """The same before each item and after the last, in one pass: a client's list may be long."""
    whole = hashlib.sha256()
    hashes = [whole.hexdigest()[:32]]
    for item in items:
        content: list[Any] = []
        if item["type"] == "message":
            content = [item["role"], text_of(item["content"])]
        elif item["type"] in (*CALLS, "mcp_call"):
            content = identity_of_call(item)
        elif item["type"] in OUTPUTS:
            content = ["output", item["call_id"], item["output"]]
        elif item["type"] in _APPROVAL_FIELDS:
            content = [item["type"], item["id"] if item["type"] == "mcp_approval_request" else "",
                       *(item[name] for name in _APPROVAL_FIELDS[item["type"]])]  # fmt: skip
        if content:
            whole.update(json.dumps(content).encode() + b"\n")
        hashes.append(whole.hexdigest()[:32])
    return hashes


def turn_start(items: Sequence[Item]) -> int:
    """Where the current turn's reasoning may begin: after the last user message, if a function has just answered."""
    if not items or items[-1]["type"] not in (*OUTPUTS, "mcp_call", "mcp_approval_response"):
        return len(items)
    asked = [i for i, item in enumerate(items) if item["type"] == "message" and item["role"] == "user"]
    return asked[-1] + 1 if asked else 0


def check_order(items: Sequence[Item], param: str) -> None:
    """Every function output answers a call that stands before it."""
    called: set[str] = set()
    for item in items:
        if item["type"] in CALLS:
            called.add(item["call_id"])
        elif item["type"] in OUTPUTS and item["call_id"] not in called:
            raise ApiError(
                400,
                f"No tool call found for function call output with call_id {item['call_id'][:64]}.",
                param=param,
                code="invalid_value",
            )


def conversation(
    items: Sequence[Item],
    thoughts: Mapping[str, Thought],
    *,
    instructions: str | None = None,
    tools: Sequence[Tool] = (),
    demand: str = "",
) -> tuple[list[Message], dict[int, Thought]]:
    """Messages, and the thoughts that precede an assistant's, by the index of its message.

    demand: what the server adds for tools and schemas; it joins the developer's instructions.
    """
    developer = "\n\n".join(part for part in (instructions, tool_instructions(tools) if tools else "", demand) if part)
    said: list[tuple[Role, list[str]]] = [("developer", [developer])] if developer else []
    placed: dict[int, Thought] = {}
    pending: Thought | None = None
    made = {item.get("approval_request_id") for item in items if item["type"] == "mcp_call"}
    approvals = {item["approval_request_id"]: item for item in items if item["type"] == "mcp_approval_response"}
    for item in items:
        if item["type"] == "reasoning":
            pending = thoughts.get(item["id"], pending)
            continue
        if item["type"] == "mcp_list_tools":
            continue  # the tools of this request are told, not those of an earlier one
        if item["type"] == "mcp_approval_response" or (item["type"] == "mcp_approval_request" and item["id"] in made):
            continue  # the call itself tells of it
        if item["type"] == "message":
            role, content = cast(Role, item["role"]), text_of(item["content"])
        elif item["type"] in (*CALLS, "mcp_call", "mcp_approval_request"):
            role, content = "assistant", _call_text(item)
        else:
            role, content = "tool", _response_text(item["output"])
        if role == "assistant" and said and said[-1][0] == "assistant" and pending is None:
            said[-1][1].append(content)
        else:
            if role == "assistant" and pending is not None:
                placed[len(said)], pending = pending, None
            said.append((role, [content]))
        if item["type"] == "mcp_call":
            said.append(("tool", [_response_text(mcp_output(item))]))
        elif item["type"] == "mcp_approval_request":
            said.append(("tool", [_response_text(_not_made(approvals.get(item["id"])))]))
    return [Message(role=role, content="\n".join(parts)) for role, parts in said], placed


def _response_text(output: str) -> str:
    return f"{TOOL_RESPONSE[0]}\n{output}\n{TOOL_RESPONSE[1]}"


def _not_made(answer: Item | None) -> str:
    """The tool result that the model sees for a call that was requested and not made."""
    if answer is None or answer["approve"]:
        return "error: the call was not made: nobody approved it" if answer is None else _UNFINISHED
    reason = (answer.get("reason") or "").strip()
    return "error: the call was not made: the user refused it" + (f": {reason}" if reason else "")


_UNFINISHED = "(nothing: the call was not finished)"


def mcp_output(item: Item) -> str:
    """The result of a call of an MCP tool, as the model sees it."""
    output = item.get("output")
    if not isinstance(output, str):
        error = item.get("error")
        content = error.get("content") if isinstance(error, Mapping) else error
        parts = content if isinstance(content, list) else []
        output = content if isinstance(content, str) else "".join(
            str(part.get("text", "")) for part in parts if isinstance(part, Mapping)
        )  # fmt: skip
    return output or _UNFINISHED


def _call_text(item: Item) -> str:
    call = json.dumps(call_as_json(item), ensure_ascii=False)
    return f"{TOOL_CALL[0]}\n{call}\n{TOOL_CALL[1]}"


def prompt_of(tokenizer: Any, messages: list[Message], thoughts: Mapping[int, Thought]) -> list[Message] | list[int]:
    """What the engine is asked: messages, or their ids with the turn's thoughts where the model had them.

    A thought goes between the marks in front of its message. A template that renders a conversation's beginning
    otherwise than the whole has no position for it: then the thought is left out, as no text could carry it.
    """
    if not thoughts or getattr(tokenizer, "think_id", None) is None:
        return messages
    ids = list(tokenizer.render(messages))
    for index in sorted(thoughts, reverse=True):
        before = list(tokenizer.render(messages[:index]))
        cut = len(before) - 1 - before[::-1].index(tokenizer.think_id)
        if ids[:cut] == before[:cut] and ids[cut : cut + 1] != [tokenizer.think_id]:
            inner = tokenizer.encode(thoughts[index].text)
            ids[cut:cut] = [tokenizer.think_id, *inner, tokenizer.unthink_id]
    return ids
