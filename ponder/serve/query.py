"""Query parameters, and the pages of a list."""

from __future__ import annotations

from typing import Any, get_args

from starlette.requests import Request

from ponder.serve.errors import ApiError, not_found
from ponder.serve.schema import Include


def list_of(items: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A list object of the API. has_more: whether more items follow these."""
    ends = {"first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None}
    return {"object": "list", "data": items, **ends, "has_more": has_more}


def page_of(items: list[dict[str, Any]], request: Request, default_order: str = "desc") -> dict[str, Any]:
    """One page of all items, which are given oldest first, by `limit`, `order` and `after`. Raises ApiError, 404 for an
    unknown `after`."""
    limit = integer(request, "limit", 20, low=1, high=100)
    if word(request, "order", default_order, ("asc", "desc")) == "desc":
        items = items[::-1]
    after = request.query_params.get("after")
    if after is not None:
        indices = [index for index, item in enumerate(items) if item["id"] == after]
        if not indices:
            raise not_found("item", after)
        items = items[indices[-1] + 1 :]  # a client may send an item twice: after the first of them it came again
    return list_of(items[:limit], len(items) > limit)


def integer(request: Request, name: str, default: int, *, low: int, high: int = 2**31) -> int:
    """A query parameter from `low` to `high`, both included. Raises ApiError 400."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = int(text) if len(text) < 12 and text.lstrip("-").isascii() and text.lstrip("-").isdigit() else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        message = f"Invalid value for '{name}': expected an integer between {low} and {high}."
        raise ApiError(400, message, code="invalid_value", param=name)
    return value


def boolean(request: Request, name: str, default: bool = False) -> bool:
    """A query parameter that is `true` or `false`. Raises ApiError 400 for anything else."""
    return word(request, name, str(default).lower(), ("true", "false")) == "true"


def word(request: Request, name: str, default: str, known: tuple[str, ...]) -> str:
    """A query parameter that is one of `known`. Raises ApiError 400 for anything else."""
    value = request.query_params.get(name, default)
    if value not in known:
        message = f"Invalid value for '{name}': expected {' or '.join(known)}."
        raise ApiError(400, message, code="invalid_value", param=name)
    return value


def includes(request: Request) -> None:
    """`include` comes as include=a&include=b, or include[]=a; what it may name is always there already."""
    for name in ("include", "include[]"):
        for value in request.query_params.getlist(name):
            if value not in get_args(Include):
                raise ApiError(400, "Invalid value for 'include'.", code="invalid_value", param="include")
