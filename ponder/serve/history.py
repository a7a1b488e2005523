"""What a request goes on from: the stored conversation, and the reasoning of its current turn.

Reasoning counts only for the owner, the model, the conversation and the end user it was sealed for; what is sent and
not used is reported with its reason.
"""

from __future__ import annotations

from ponder.serve.approvals import check_answers
from ponder.serve.errors import ApiError, StoreUnavailable, not_found
from ponder.serve.items import Item, Thought, check_order, input_items, prefix_hashes, turn_start
from ponder.serve.keys import Key
from ponder.serve.schema import CountRequest, ResponseRequest
from ponder.serve.service import Service
from ponder.serve.store import Store
from ponder.serve.vault import Binding


async def read_conversation(
    service: Service, key: Key, request: ResponseRequest | CountRequest
) -> tuple[list[Item], list[Item], str | None]:
    """(history and new items, new items, conversation id)"""
    store, previous, given = service.store, request.previous_response_id, request.conversation
    conversation = given if isinstance(given, str) or given is None else given.id
    if previous and conversation:
        raise ApiError(
            400,
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Give one of them.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    history: list[Item] = []
    if previous:
        history = await _history(service, key, previous)
    elif conversation:
        if await store.read(lambda: store.get("conversation", conversation, owner=key.owner)) is None:
            message = f"Conversation with id '{conversation[:100]}' not found."
            raise ApiError(404, message, code="not_found", param="conversation")
        history = await store.read(lambda: store.items(conversation, "in"))
    new = [
        await stored_item(store, item["id"], key.owner) if item["type"] == "item_reference" else item
        for item in input_items(request.input)
    ]
    items = history + new
    check_order(items, "input")
    check_answers(items, "input")
    return items, new, conversation


async def _history(service: Service, key: Key, previous: str) -> list[Item]:
    """All items up to the end of a response, whatever models produced them."""
    store, waiting = service.store, service.jobs.get(previous)
    if waiting is not None and waiting.is_stored and waiting.key.owner == key.owner and waiting.is_ending:
        await waiting.wait()  # for the store to have it
        if previous in service.jobs:
            raise StoreUnavailable(f"Response '{previous}' could not be stored yet. Please try again later.")
    parent = await store.read(lambda: store.get("response", previous, owner=key.owner))
    if parent is None:
        raise _no_previous(f"Previous response with id '{previous[:100]}' not found.")
    if parent["status"] in ("queued", "in_progress"):
        message = f"Response '{previous}' is still in progress; wait for it or cancel it."
        raise ApiError(409, message, code="conflict", param="previous_response_id", kind="conflict_error")
    try:
        return await store.read(lambda: store.history(previous, owner=key.owner))
    except KeyError as missing:
        raise _no_previous(
            f"Response '{previous}' goes on from '{missing.args[0]}', which was deleted or has expired. Send the "
            "conversation in `input` instead."
        ) from None


def _no_previous(message: str) -> ApiError:
    return ApiError(400, message, code="previous_response_not_found", param="previous_response_id")


async def stored_item(store: Store, name: str, owner: str) -> Item:
    """An item by its id, from any of this owner's objects. Raises ApiError 404."""
    found = await store.read(lambda: store.item(name, owner=owner))
    if found is None:
        raise not_found("item", name)
    return found


async def kept_thoughts(
    service: Service, items: list[Item], *, owner: str, model: str, user: str, num_history: int
) -> tuple[dict[str, Thought], list[dict[str, str]]]:
    """Reasoning of the current turn by its item, and what was sent (after the stored history) and is not used."""
    begin, prefixes = turn_start(items), prefix_hashes(items)
    kept: dict[str, Thought] = {}
    removed: list[dict[str, str]] = []
    for index, item in enumerate(items):
        if item["type"] != "reasoning" or index < min(begin, num_history):
            continue
        name = item["id"]
        binding = Binding(owner=owner, model=model, prefix=prefixes[index], item=name, user=user)
        sealed = item.get("encrypted_content") or await _sealed_in_store(service.store, name, owner)
        data, reason = service.vault.open(sealed, binding)
        if reason is None and index < begin:
            reason = "turn_boundary"
        if reason is None and data is not None:
            kept[name] = Thought(data["text"])
        else:
            removed.append({"type": "reasoning", "id": name, "action": "removed", "reason": str(reason)})
    return kept, removed


async def _sealed_in_store(store: Store, item: str, owner: str) -> str:
    rows = await store.read(lambda: store.reasoning(item=item))
    mine = [row[2] for row in rows if row[1] == owner]
    if not mine:
        raise ApiError(
            404,
            f"Item with id '{item[:100]}' not found. Items are not persisted when `store` is set to false. Send "
            "its `encrypted_content` instead, or leave the item out.",
            code="not_found",
            param="input",
        )
    return str(mine[0])
