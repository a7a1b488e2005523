"""What the page shows of stored responses: a turn to its owner, and to an administrator an outline without contents."""

from __future__ import annotations

from typing import Any

from ponder.serve.items import Item


def turn_of(body: dict[str, Any], asked: list[Item]) -> dict[str, Any]:
    """A response with its input, and without the sealed reasoning, which is long."""
    output = [{name: part for name, part in item.items() if name != "encrypted_content"} for item in body["output"]]
    return {**body, "output": output, "input": asked}


def outline_of(body: dict[str, Any], owner: str, verdicts: dict[str, int]) -> dict[str, Any]:
    """What an administrator sees of a response before giving a reason: no contents."""
    compute, usage = body.get("compute") or {}, body.get("usage")
    return {
        **{name: body[name] for name in ("id", "created_at", "status", "model")}, "owner": owner,
        "effort": compute.get("effort"), "mode": compute.get("mode"), "usage": usage,
        "thinking_seconds": compute.get("thinking_seconds"), "verdicts": verdicts,
    }  # fmt: skip
