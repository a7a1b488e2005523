"""What outlives a request: responses, chat completions, conversations, their items and events, keys, verdicts, audit.

SQLite by default (write-ahead log: a kill -9 loses nothing that was committed), PostgreSQL by URL. Everything has an
owner, and what belongs to another owner is not found. Status changes compare and set: a terminal state is final. All
calls are plain and blocking; the server makes them in threads of their own (database.py), so that a slow disk stalls
no stream. Raw reasoning comes here sealed (vault.py) and in a table of its own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from ponder.serve import lease
from ponder.serve.database import Database, Row
from ponder.serve.events import Event

TERMINAL = ("completed", "incomplete", "failed", "cancelled")
KEPT = 30 * 86_400  # seconds that a stored object is kept
_JUMP = 2 * 86_400  # seconds between two sweeps that a clock may have jumped

# one entry a version; a database is brought up to date on opening. `?` and plain types only: both databases read it
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE keys (id TEXT PRIMARY KEY, hash TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,"
        " scopes TEXT NOT NULL, created BIGINT NOT NULL, revoked BIGINT)",
        "CREATE TABLE objects (id TEXT PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, created BIGINT NOT NULL,"
        " status TEXT NOT NULL, previous TEXT, body TEXT NOT NULL)",
        "CREATE INDEX objects_by_owner ON objects (owner, kind, created)",
        "CREATE TABLE items (id TEXT NOT NULL, parent TEXT NOT NULL, side TEXT NOT NULL, place BIGINT NOT NULL,"
        " body TEXT NOT NULL, PRIMARY KEY (parent, side, place))",
        "CREATE INDEX items_by_id ON items (id)",
        "CREATE TABLE events (parent TEXT NOT NULL, number BIGINT NOT NULL, body TEXT NOT NULL,"
        " PRIMARY KEY (parent, number))",
        "CREATE TABLE reasoning (parent TEXT NOT NULL, item TEXT NOT NULL, owner TEXT NOT NULL, sealed TEXT NOT NULL,"
        " created BIGINT NOT NULL, PRIMARY KEY (parent, item))",
        "CREATE INDEX reasoning_by_item ON reasoning (item)",
        "CREATE TABLE verdicts (parent TEXT NOT NULL, owner TEXT NOT NULL, created BIGINT NOT NULL,"
        " monitor TEXT NOT NULL, action TEXT NOT NULL, segment BIGINT NOT NULL, note TEXT NOT NULL)",
        "CREATE TABLE audit (created BIGINT NOT NULL, key_id TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,"
        " reason TEXT NOT NULL)",
    ),
    (
        "ALTER TABLE objects ADD COLUMN conversation TEXT",
        "ALTER TABLE objects ADD COLUMN turn BIGINT",  # its place among the conversation's responses
        "CREATE INDEX objects_by_conversation ON objects (conversation, turn)",
    ),
    (
        "ALTER TABLE objects ADD COLUMN holder TEXT",  # the server that produces it
        "CREATE INDEX objects_by_status ON objects (status)",
        "CREATE TABLE instances (id TEXT PRIMARY KEY, process TEXT NOT NULL, beat BIGINT NOT NULL)",
        "CREATE TABLE clock (trusted BIGINT NOT NULL)",  # the last time that expiry went by
    ),
    ("CREATE TABLE approvals (id TEXT PRIMARY KEY, created BIGINT NOT NULL)",),  # requests that were answered
)


# SQL below is put together of names that stand in this file, never of values: those are placeholders ("nosec B608")
class Store(Database):
    """What the server keeps. Methods other than those of `Database` must be called inside `do`, `read` or `now`: these
    give them a thread, a connection and one transaction."""

    def __init__(self, url: str) -> None:
        self.holder = "server_" + secrets.token_hex(8)  # the owner of the running responses that are added here
        super().__init__(url, MIGRATIONS)

    # --- objects: responses, chat completions, conversations ---------------------------------------------------------

    def add(
        self, kind: str, body: dict[str, Any], *, owner: str, status: str, items: Sequence[dict[str, Any]] = (),
        created: int | None = None,
    ) -> None:  # fmt: skip
        """Insert an object with its input items. kind: response, chat or conversation. created: seconds since 1970;
        None = now. A response of a conversation gets the next place among its turns."""
        conversation, turn = (body.get("conversation") or {}).get("id"), None
        if conversation is not None:
            newest = "SELECT COALESCE(MAX(turn), -1) + 1 FROM objects WHERE conversation = ?"
            turn = self._all(newest, conversation)[0][0]
        self._run(
            "INSERT INTO objects (id, kind, owner, created, status, previous, body, conversation, turn, holder)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            body["id"], kind, owner, created or int(time.time()), status, body.get("previous_response_id"), _dump(body),
            conversation, turn, self.holder if kind == "response" else None,
        )  # fmt: skip
        self.add_items(body["id"], "in", items)

    def get(self, kind: str, name: str, *, owner: str) -> dict[str, Any] | None:
        """The body; None where there is no such object of this kind and owner."""
        rows = self._all("SELECT body FROM objects WHERE id = ? AND kind = ? AND owner = ?", name, kind, owner)
        return json.loads(rows[0][0]) if rows else None

    def owner_of(self, name: str) -> str | None:
        """None where there is no such object."""
        rows = self._all("SELECT owner FROM objects WHERE id = ?", name)
        return rows[0][0] if rows else None

    def update(self, name: str, body: str, *, status: str) -> bool:
        """Write a new state (JSON) unless the present one is final; whether it was written."""
        marks = ", ".join("?" * len(TERMINAL))
        changed = self._run(
            f"UPDATE objects SET body = ?, status = ? WHERE id = ? AND status NOT IN ({marks})",  # nosec B608
            body, status, name, *TERMINAL,
        )  # fmt: skip
        return changed == 1

    def set_body(self, name: str, body: dict[str, Any]) -> None:
        """Replace a body whatever its status. Nothing happens where the object is gone."""
        self._run("UPDATE objects SET body = ? WHERE id = ?", _dump(body), name)

    def delete(self, kind: str, name: str, *, owner: str) -> bool:
        """With all that was made for it: a conversation's responses, a response's turn in its conversation."""
        rows = self._all("SELECT conversation FROM objects WHERE id = ? AND kind = ? AND owner = ?", name, kind, owner)
        if not rows:
            return False
        if rows[0][0] is not None:
            self._leave(name, rows[0][0])
        names = [name]
        if kind == "conversation":
            names += self.turn_names(name, owner=owner)
        self._many("DELETE FROM objects WHERE id = ?", [(each,) for each in names])
        self._forget(names)
        return True

    def _leave(self, response: str, conversation: str) -> None:
        """Take what a response said, and what it alone was asked, out of its conversation."""
        others = "SELECT 1 FROM items WHERE id = ? AND parent <> ? AND parent <> ?"
        for (item,) in self._all("SELECT id FROM items WHERE parent = ?", response):
            if not self._all(others, item, response, conversation):
                self._run("DELETE FROM items WHERE parent = ? AND id = ?", conversation, item)

    def turn_names(self, conversation: str, *, owner: str) -> list[str]:
        """Ids of the responses of a conversation."""
        rows = self._all("SELECT id FROM objects WHERE conversation = ? AND owner = ?", conversation, owner)
        return [row[0] for row in rows]

    def _forget(self, names: Sequence[str]) -> None:
        for table in ("items", "events", "reasoning"):
            self._many(f"DELETE FROM {table} WHERE parent = ?", [(name,) for name in names])  # nosec B608

    def page(
        self, kind: str, *, owner: str, after: str | None, limit: int, newest_first: bool,
        wanted: Callable[[dict[str, Any]], bool] = lambda body: True,
    ) -> tuple[list[dict[str, Any]], bool]:  # fmt: skip
        """Objects of an owner in order of creation, those that are wanted, and whether there are more."""
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        found: list[dict[str, Any]] = []
        while True:
            where, values = "owner = ? AND kind = ?", [owner, kind]
            if after is not None:
                created = self._all("SELECT created FROM objects WHERE id = ? AND owner = ?", after, owner)
                if not created:
                    return found, False
                where += f" AND (created {sign} ? OR (created = ? AND id {sign} ?))"
                values += [created[0][0], created[0][0], after]
            rows = self._all(
                f"SELECT id, body FROM objects WHERE {where} ORDER BY created {order}, id {order} LIMIT ?",
                *values,
                limit + 1,  # nosec B608
            )
            found += filter(wanted, (json.loads(body) for _, body in rows))
            if len(found) > limit or len(rows) <= limit:
                return found[:limit], len(found) > limit
            after = rows[-1][0]

    def turns(
        self, conversation: str, *, owner: str, after: str | None, limit: int
    ) -> tuple[list[tuple[dict[str, Any], list[dict[str, Any]]]], bool]:
        """Responses of a conversation with their inputs, oldest first, and whether there are more."""
        turn = -1
        if after is not None:
            rows = self._all("SELECT turn FROM objects WHERE id = ? AND conversation = ?", after, conversation)
            if not rows:
                return [], False
            turn = rows[0][0]
        rows = self._all(
            "SELECT body FROM objects WHERE conversation = ? AND owner = ? AND turn > ? ORDER BY turn LIMIT ?",
            conversation, owner, turn, limit + 1,
        )  # fmt: skip
        bodies = [json.loads(row[0]) for row in rows]
        return [(body, self.items(body["id"], "in")) for body in bodies[:limit]], len(bodies) > limit

    def is_first_turn(self, name: str) -> bool:
        """Whether nothing stood before a response: no response, and no item of its conversation."""
        rows = self._all("SELECT previous, conversation, turn FROM objects WHERE id = ?", name)
        if not rows or rows[0][0] is not None or rows[0][2] not in (None, 0):
            return False
        conversation = rows[0][1]
        own = [item["id"] for item in self.items(name, "in")]
        return conversation is None or [item["id"] for item in self.items(conversation, "in")][: len(own)] == own

    def newest(self, limit: int) -> list[tuple[dict[str, Any], str, dict[str, int]]]:
        """The newest responses of everybody: (body, owner, verdicts by their action)."""
        rows = self._all(
            "SELECT id, body, owner FROM objects WHERE kind = 'response' ORDER BY created DESC, id LIMIT ?", limit
        )
        counted: dict[str, dict[str, int]] = {}
        for parent, action, number in self._all(
            "SELECT parent, action, COUNT(*) FROM verdicts WHERE parent IN"
            " (SELECT id FROM objects WHERE kind = 'response' ORDER BY created DESC, id LIMIT ?)"
            " GROUP BY parent, action",
            limit,
        ):  # fmt: skip
            counted.setdefault(parent, {})[action] = number
        return [(json.loads(body), owner, counted.get(name, {})) for name, body, owner in rows]

    # --- servers, and the passing of time ----------------------------------------------------------------------------

    def beat(self) -> None:
        """This server is alive."""
        now = int(time.time())
        if not self._run("UPDATE instances SET beat = ? WHERE id = ?", now, self.holder):
            self._run("INSERT INTO instances VALUES (?, ?, ?)", self.holder, lease.this_process(), now)

    def retire(self) -> None:
        """This server produces nothing any more."""
        self._run("DELETE FROM instances WHERE id = ?", self.holder)

    def fail_broken(self, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
        """Responses whose server is gone become what `finish` makes of them; how many. Those of another server that
        lives are its own."""
        rows = self._all(
            "SELECT o.id, i.process, i.beat FROM objects o LEFT JOIN instances i ON i.id = o.holder"
            " WHERE o.status IN ('queued', 'in_progress') AND o.kind = 'response'"
            " AND (o.holder IS NULL OR o.holder <> ?)",
            self.holder,
        )  # fmt: skip
        now, count = time.time(), 0
        for name, process, beat in rows:
            if process is not None and abs(now - beat) < lease.LEASE and not lease.is_gone(process):
                continue
            text = self._all("SELECT body FROM objects WHERE id = ?", name)[0][0]
            body = finish(json.loads(text))
            if not self.update(name, _dump(body), status=body["status"]):
                continue  # it has ended meanwhile
            last = self._all("SELECT MAX(number) FROM events WHERE parent = ?", name)[0][0]
            # numbers only rise: a reader may have seen a few events that were not yet written
            number = (last or 0) + 1000
            event = {"type": "response.failed", "sequence_number": number, "response": body}
            self.add_events(name, [Event("response.failed", number, _dump(event))])
            count += 1
        self._run("DELETE FROM instances WHERE beat < ?", int(now - 10 * lease.LEASE))
        return count

    def sweep(self, *, may_jump: bool = False) -> int | None:
        """Delete what is older than it is kept; how many. None, and nothing is deleted, where the clock has jumped by
        days since the last sweep: it may be wrong, or the server was off. Whoever has waited passes `may_jump`."""
        now = int(time.time())
        rows = self._all("SELECT trusted FROM clock")
        if rows and now - rows[0][0] > _JUMP and not may_jump:
            return None
        self._run("DELETE FROM clock")
        self._run("INSERT INTO clock VALUES (?)", now)
        found = self._all("SELECT id FROM objects WHERE created < ? AND kind <> 'conversation'", now - KEPT)
        self._many("DELETE FROM objects WHERE id = ?", found)
        self._forget([row[0] for row in found])
        self._run("DELETE FROM verdicts WHERE created < ?", now - KEPT)
        self._run("DELETE FROM approvals WHERE created < ?", now - KEPT)  # by then an answer is refused as too late
        return len(found)

    # --- items -------------------------------------------------------------------------------------------------------

    def add_items(self, parent: str, side: str, items: Sequence[dict[str, Any]]) -> None:
        """side: "in" or "out"; a conversation has one side, "in"."""
        if not items:
            return
        rows = self._all("SELECT COALESCE(MAX(place), -1) FROM items WHERE parent = ? AND side = ?", parent, side)
        first = rows[0][0] + 1
        self._many(
            "INSERT INTO items (id, parent, side, place, body) VALUES (?, ?, ?, ?, ?)",
            [(item["id"], parent, side, first + i, _dump(item)) for i, item in enumerate(items)],
        )

    def items(self, parent: str, side: str) -> list[dict[str, Any]]:
        """The items of one side in order; see `add_items`."""
        rows = self._all("SELECT body FROM items WHERE parent = ? AND side = ? ORDER BY place", parent, side)
        return [json.loads(row[0]) for row in rows]

    def item(self, name: str, *, owner: str) -> dict[str, Any] | None:
        """An item of any of the owner's responses and conversations; None where there is none."""
        rows = self._all(  # the messages of a chat completion have another form
            "SELECT i.body FROM items i JOIN objects o ON o.id = i.parent"
            " WHERE i.id = ? AND o.owner = ? AND o.kind <> 'chat'",
            name, owner,
        )  # fmt: skip
        return json.loads(rows[0][0]) if rows else None

    def delete_item(self, parent: str, name: str) -> bool:
        """Take an item out of one object; False where it was not there."""
        return self._run("DELETE FROM items WHERE parent = ? AND id = ?", parent, name) > 0

    def history(self, name: str, *, owner: str) -> list[dict[str, Any]]:
        """All items of a chain of responses, oldest first: inputs and outputs in turn. Raises KeyError with the id of
        one that is not there any more."""
        chain: list[list[dict[str, Any]]] = []
        while name:
            rows = self._all(
                "SELECT previous FROM objects WHERE id = ? AND owner = ? AND kind = 'response'", name, owner
            )
            if not rows:
                raise KeyError(name)
            chain.append(self.items(name, "in") + self.items(name, "out"))
            name = rows[0][0]
        return [item for items in reversed(chain) for item in items]

    # --- events, reasoning, verdicts, audit --------------------------------------------------------------------------

    def add_events(self, parent: str, events: Sequence[Event]) -> None:
        """Append events; none of their numbers may be there already."""
        self._many(
            "INSERT INTO events (parent, number, body) VALUES (?, ?, ?)",
            [(parent, event.number, event.text) for event in events],
        )

    def events(self, parent: str, after: int) -> list[Event]:
        """The events numbered above `after`, in order; -1 gives all."""
        rows = self._all(
            "SELECT number, body FROM events WHERE parent = ? AND number > ? ORDER BY number", parent, after
        )
        return [Event(json.loads(text)["type"], number, text) for number, text in rows]

    def add_reasoning(self, parent: str, item: str, owner: str, sealed: str) -> None:
        """sealed: what `Vault.seal` returned. An item of a response has one such text, and a second is an error."""
        self._run("INSERT INTO reasoning VALUES (?, ?, ?, ?, ?)", parent, item, owner, sealed, int(time.time()))

    def reasoning(self, *, parent: str | None = None, item: str | None = None) -> list[Row]:
        """(item, owner, sealed) of a response, or of one item."""
        where, value = ("parent", parent) if parent is not None else ("item", item)
        return self._all(f"SELECT item, owner, sealed, parent FROM reasoning WHERE {where} = ?", value)  # nosec B608

    def add_verdict(self, parent: str, owner: str, monitor: str, action: str, segment: int, note: str) -> None:
        """A note longer than 500 characters is cut."""
        self._run(
            "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)",
            parent, owner, int(time.time()), monitor, action, segment, note[:500],
        )  # fmt: skip

    def verdicts(self, limit: int, parent: str | None = None) -> list[dict[str, Any]]:
        """The newest verdicts first, of one response or of all; `created` is in seconds since 1970."""
        names = ("response", "owner", "created", "monitor", "action", "segment", "note")
        where, values = ("WHERE parent = ? ", [parent]) if parent else ("", [])
        rows = self._all(
            "SELECT parent, owner, created, monitor, action, segment, note FROM verdicts "  # nosec B608
            f"{where}ORDER BY created DESC LIMIT ?", *values, limit,
        )  # fmt: skip
        return [dict(zip(names, row, strict=True)) for row in rows]

    def add_approval(self, name: str) -> bool:
        """Note that a request for approval is answered; False: it was before."""
        return self._run(
            "INSERT INTO approvals VALUES (?, ?) ON CONFLICT DO NOTHING", name, int(time.time())
        ) == 1  # fmt: skip

    def answered_approvals(self, names: Sequence[str]) -> list[str]:
        """Those of these requests that were answered."""
        return [name for name in names if self._all("SELECT 1 FROM approvals WHERE id = ?", name)]

    def flagged(self, owner: str) -> set[str]:
        """The responses and chat completions of an owner that a monitor flagged, held or stopped."""
        rows = self._all(
            "SELECT DISTINCT parent FROM verdicts WHERE owner = ? AND action IN ('flag', 'hold', 'stop')", owner
        )
        return {row[0] for row in rows}

    def add_audit(self, key_id: str, action: str, target: str, reason: str) -> None:
        self._run("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", int(time.time()), key_id, action, target, reason)

    def audit(self, limit: int) -> list[dict[str, Any]]:
        """The newest lines first; `created` is in seconds since 1970."""
        names = ("created", "key", "action", "target", "reason")
        rows = self._all(
            "SELECT created, key_id, action, target, reason FROM audit ORDER BY created DESC LIMIT ?", limit
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    # --- keys --------------------------------------------------------------------------------------------------------

    def add_key(self, identity: str, digest: str, owner: str, name: str, scopes: str) -> None:
        """digest: of `keys.digest`. scopes: their names, with blanks between them."""
        self._run(
            "INSERT INTO keys (id, hash, owner, name, scopes, created) VALUES (?, ?, ?, ?, ?, ?)",
            identity, digest, owner, name, scopes, int(time.time()),
        )  # fmt: skip

    def key_by_hash(self, digest: str) -> Row | None:
        """(id, owner, scopes) of a key that holds."""
        rows = self._all("SELECT id, owner, scopes FROM keys WHERE hash = ? AND revoked IS NULL", digest)
        return rows[0] if rows else None

    def keys(self) -> list[dict[str, Any]]:
        """All keys without their hashes, oldest first. `revoked` is None while a key is valid."""
        names = ("id", "name", "scopes", "created", "revoked")
        rows = self._all("SELECT id, name, scopes, created, revoked FROM keys ORDER BY created, id")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def revoke_key(self, identity: str) -> bool:
        """False where there is no such key, or it was revoked before."""
        changed = self._run("UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", int(time.time()), identity)
        return changed == 1


def _dump(value: Any) -> str:
    return json.dumps(value)  # plain ASCII: any text, NUL and half surrogates too, goes into any database
