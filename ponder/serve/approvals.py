"""Approvals of MCP tool calls: the response stops and asks, the next request answers, and only then is the call made.

    tools:  {"type": "mcp", "server_label": "files", "require_approval": {"never": {"tool_names": ["read"]}}}
    output: {"type": "mcp_approval_request", "id": "mcpr_...", "server_label", "name", "arguments"}; it ends there
    input:  {"type": "mcp_approval_response", "approval_request_id": "mcpr_...", "approve": true}

As in the Responses API, a tool of which a request says nothing needs approval. The id of a request for approval carries
a keyed hash of what was asked: owner, end user, tool and arguments. So the request may come back from the store or from
the client, and an answer counts only for the very call that was asked for, by whom it was asked, for 30 days, and once:
the store remembers which were answered. A refusal is told to the model; a call that nobody answers is not made.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponder.serve.errors import ApiError
from ponder.serve.items import Item
from ponder.serve.mcp import OfferedTool
from ponder.serve.schema_tools import ApprovalRule, McpTool
from ponder.serve.store import Store
from ponder.serve.vault import LIFETIME, Vault

_CLOCK, _NONCE = 10, 16  # hexadecimal digits of an id: when it was asked, and what makes it unique
MOST_AT_ONCE = 32  # calls that one request may approve


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Makes the ids of what is asked of an owner's end user, and knows them again."""

    vault: Vault
    owner: str
    user: str

    def new_id(self, label: str, name: str, arguments: str) -> str:
        """`mcpr_`, the time (10 hexadecimal digits), 16 random digits, and the keyed hash of the call. arguments: the
        JSON text exactly as it will be sent."""
        stamp = f"{int(time.time()):0{_CLOCK}x}{secrets.token_hex(_NONCE // 2)}"
        return f"mcpr_{stamp}{self._mark(stamp, label, name, arguments)}"

    def _mark(self, stamp: str, *call: str) -> str:
        return self.vault.mark("approval", json.dumps([self.owner, self.user, stamp, *call]))

    def problem(self, asked: Mapping[str, Any]) -> str | None:
        """Why a request for approval is none of this asker's; None = it is."""
        name = asked["id"]
        stamp = name.removeprefix("mcpr_")[: _CLOCK + _NONCE]
        made = f"mcpr_{stamp}{self._mark(stamp, asked['server_label'], asked['name'], asked['arguments'])}"
        if not hmac.compare_digest(name.encode(errors="replace"), made.encode(errors="replace")):
            return "was not asked here of this key and user with these arguments; send the item back unchanged"
        if int(stamp[:_CLOCK], 16) + LIFETIME < time.time():
            return f"is older than {LIFETIME // 86_400} days; ask again"
        return None


@dataclass(frozen=True)
class ApprovalAnswers:
    """What a request says of calls that were asked for."""

    approved: Sequence[Item] = ()  # the requests for approval whose calls are to be made now
    refused: Sequence[str] = ()  # ids that can no longer be approved


def tools_to_ask_for(tools: Mapping[str, OfferedTool], given: Sequence[Any] | None) -> set[str]:
    """Of the tools of a request (chosen_tools), the names of those whose calls need approval."""
    found: set[str] = set()
    for index, entry in enumerate(given or ()):
        if not isinstance(entry, McpTool):
            continue
        mine = {tool.name: tool.called for tool in tools.values() if tool.label == entry.server_label}
        found |= {mine[name] for name in _asked_of(entry, mine, f"tools[{index}].require_approval")}
    return found


def _asked_of(entry: McpTool, mine: Mapping[str, str], param: str) -> set[str]:
    rule = entry.require_approval
    if not isinstance(rule, ApprovalRule):
        return set() if rule == "never" else set(mine)
    always = set((rule.always and rule.always.tool_names) or ())
    never = set((rule.never and rule.never.tool_names) or ())
    for name in sorted(always | never):
        if name not in mine or name in always & never:
            why = "stands under both" if name in mine else f"is none of its tools; there is {', '.join(mine)}"
            message = f"Invalid value for '{param}': '{name[:100]}' {why}."
            raise ApiError(400, message, code="invalid_value", param=param)
    return set(mine) - never


def check_answers(items: Sequence[Item], param: str) -> None:
    """Every answer is to a request that stands before it, and there is one."""
    asked: set[str] = set()
    answered: set[str] = set()
    for item in items:
        if item["type"] == "mcp_approval_request":
            asked.add(item["id"])
        elif item["type"] == "mcp_approval_response":
            name = item["approval_request_id"]
            if name not in asked or name in answered:
                why = "was answered before" if name in answered else "does not stand before its answer"
                message = f"The MCP approval request '{name[:100]}' {why}."
                raise ApiError(400, message, code="invalid_value", param=param)
            answered.add(name)


async def read_answers(
    store: Store, asker: Asker, items: Sequence[Item], new: Sequence[Item], tools: Mapping[str, OfferedTool],
    most: int | None,
) -> ApprovalAnswers:  # fmt: skip
    """What the new items of a conversation approve and refuse, checked. most: calls that the request allows."""
    answers = {item["approval_request_id"]: item["approve"] for item in new if item["type"] == "mcp_approval_response"}
    if not answers:
        return ApprovalAnswers()
    ran = {item.get("approval_request_id") for item in items if item["type"] == "mcp_call"}
    asked = {
        item["id"]: item for item in items
        if item["type"] == "mcp_approval_request" and item["id"] in answers and item["id"] not in ran
    }  # fmt: skip
    problems = {name: asker.problem(item) for name, item in asked.items()}
    approved = [item for name, item in asked.items() if answers[name]]
    for item in approved:
        called = f"{item['server_label']}.{item['name']}"
        if problems[item["id"]] is not None:
            raise _refused(item["id"], str(problems[item["id"]]))
        if called not in tools:
            raise _refused(item["id"], f"is for '{called[:100]}', which the tools of this request do not have")
    most = min(most or MOST_AT_ONCE, MOST_AT_ONCE)
    if len(approved) > most:
        message = f"{len(approved)} calls are approved, and {most} are the most of this response."
        raise ApiError(400, message, code="invalid_value", param="input")
    names = [item["id"] for item in approved]
    used = await store.read(lambda: store.answered_approvals(names))
    if used:
        raise _refused(used[0], "was answered before")
    return ApprovalAnswers(approved, [name for name in asked if not answers[name] and problems[name] is None])


def _refused(name: str, why: str) -> ApiError:
    return ApiError(400, f"The MCP approval request '{name[:100]}' {why}.", code="invalid_value", param="input")


async def settle(store: Store, answers: ApprovalAnswers) -> None:
    """Note what is answered, before any call is made; of two requests that approve the same, one gets here first.

    A store that cannot be written raises: then no call is made, as nothing would remember it.
    """

    def work() -> None:
        approved = {item["id"] for item in answers.approved}
        for name in sorted({*approved, *answers.refused}):  # in one order, so that no two requests wait for each other
            if not store.add_approval(name) and name in approved:
                raise _refused(name, "was answered before")  # the whole transaction is undone

    if answers.approved or answers.refused:
        await store.do(work)
