"""Stored answers as rows for training: the question, the answer, and whether a monitor flagged it.

    {"id": "resp_...", "problem": "...", "reasoning": "", "answer": "...", "system": "...",
     "flagged": false, "flagged_in_export": 3, "model": "nano", "created_at": 1700000000}

A row is a response or a chat completion of the owner that ended by itself, answers one user message with text alone,
and is not older than stored objects are kept; all else is counted by why it is left out. What was deleted is gone here
too, the operator's policy (`ponder serve --policy`) is in no row, and neither is what a monitor noted. A chat
completion keeps neither its reasoning nor which tools and which form it was offered, so its row has none of them.

Loaders refuse a file from which the flagged rows were taken out (`ponder/rewarding.py`). A response that a monitor
stopped or held has no answer and so no row. It counts in `flagged_in_export` all the same: what is left is a selection
by what a monitor said, and is refused as one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ponder.serve.generation import HELD_BY_MONITOR, STOPPED_BY_MONITOR
from ponder.serve.items import Item, text_of
from ponder.serve.store import KEPT, Store
from ponder.serve.vault import Vault

if TYPE_CHECKING:
    from ponder.serve.service import Service

BY_MONITOR = (STOPPED_BY_MONITOR[0], HELD_BY_MONITOR[0])
STOPPED = "stopped or held by a monitor"
KINDS = {"response": "created_at", "chat": "created"}  # what is stored, and where it says when
_AT_ONCE = 100  # rows made in one go: other readers of the store have their turn in between


async def training_rows(service: Service, owner: str, *, limit: int, with_reasoning: bool) -> dict[str, Any]:
    """The newest `limit` responses and chat completions, oldest first: {"data": rows, "left_out": {why: how many}}."""
    store, left_out = service.store, Counter[str]()
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        page = partial(store.page, kind, owner=owner, after=None, limit=limit, newest_first=True)
        bodies, _ = await store.read(page)
        for first in range(0, len(bodies), _AT_ONCE):
            part = bodies[first : first + _AT_ONCE]
            made = await store.read(partial(_made, store, service.vault, kind, part, with_reasoning=with_reasoning))
            rows += [row for row, _ in made if row is not None]
            left_out.update(why for row, why in made if row is None and why)
    await service.verdicts_kept()  # of an answer that was given out a moment ago
    flagged = await store.read(lambda: store.flagged(owner))
    rows.sort(key=lambda row: (row["created_at"], row["id"]))
    if len(rows) > limit:
        left_out["beyond the limit"] = len(rows) - limit
    rows = [{**row, "flagged": row["id"] in flagged} for row in rows[-limit:]]
    touched = sum(row["flagged"] for row in rows) + left_out[STOPPED]
    return {
        "object": "list", "data": [{**row, "flagged_in_export": touched} for row in rows],
        "left_out": {why: count for why, count in sorted(left_out.items()) if count},
    }  # fmt: skip


Made = tuple[dict[str, Any] | None, str]  # (a row, "") or (None, why there is none); no reason: it is too old


def _made(
    store: Store, vault: Vault, kind: str, bodies: Sequence[dict[str, Any]], *, with_reasoning: bool
) -> list[Made]:
    return [_one(store, vault, kind, body, with_reasoning=with_reasoning) for body in bodies]


def _one(store: Store, vault: Vault, kind: str, body: dict[str, Any], *, with_reasoning: bool) -> Made:
    created = body[KINDS[kind]]
    if created < time.time() - KEPT:  # the sweep has not come by yet
        return None, ""
    row, why = _of_response(store, body) if kind == "response" else _of_chat(store, body)
    if row is None:
        return None, why
    reasoning = _reasoning(store, vault, body["id"]) if with_reasoning else ""
    return {"id": body["id"], **row, "reasoning": reasoning, "model": body["model"], "created_at": created}, ""


def _of_response(store: Store, body: dict[str, Any]) -> tuple[dict[str, str] | None, str]:
    """(the texts of a row, "") or (None, why there is none)."""
    if (body["error"] or {}).get("code") in BY_MONITOR:
        return None, STOPPED
    if body["status"] != "completed":
        return None, "did not end by itself"
    if body["tools"] or body["text"]["format"]["type"] != "text":
        return None, "asked for tools or JSON"
    if not store.is_first_turn(body["id"]):
        return None, "a later turn of a conversation"
    answer = "".join(text_of(item["content"]) for item in body["output"] if item["type"] == "message")
    return _row(store.items(body["id"], "in"), answer, system=body["instructions"] or "")


def _of_chat(store: Store, body: dict[str, Any]) -> tuple[dict[str, str] | None, str]:
    [choice, *others] = body["choices"]
    if any(each["finish_reason"] == "content_filter" for each in body["choices"]):  # nothing else filters here
        return None, STOPPED
    if others or choice["finish_reason"] != "stop":
        return None, "several choices" if others else "did not end by itself"
    return _row(store.items(body["id"], "in"), choice["message"].get("content") or "")


def _row(asked: list[Item], answer: str, *, system: str = "") -> tuple[dict[str, str] | None, str]:
    """One user message with what the developer said before it."""
    if any(item.get("type", "message") != "message" or item.get("tool_calls") for item in asked):
        return None, "asked for tools or JSON"
    *before, last = asked or [{"role": ""}]
    if last["role"] != "user" or any(item["role"] not in ("developer", "system") for item in before):
        return None, "a later turn of a conversation"
    problem = text_of(last["content"])
    if not problem.strip() or not answer.strip():
        return None, "empty"
    system_text = "\n\n".join(filter(None, (system, *(text_of(item["content"]) for item in before))))
    return {"problem": problem, "answer": answer, **({"system": system_text} if system_text else {})}, ""


def _reasoning(store: Store, vault: Vault, name: str) -> str:
    """What was thought before the answer; "" where none is kept (chat completions keep none)."""
    return "\n\n".join(
        vault.unseal(sealed, owner=owner, item=item)["text"] for item, owner, sealed, _ in store.reasoning(parent=name)
    )
