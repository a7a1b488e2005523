"""What outlives a request: responses, chat completions, conversations, their items and events, keys, verdicts, audit.

SQLite by default (write-ahead log: a kill -9 loses nothing that was committed), PostgreSQL by URL. Everything has an
owner, and what belongs to another owner is not found. Status changes compare and set: a terminal state is final. All
calls are plain and blocking; the server makes them in one thread of their own (`Store.do`), so that a slow disk stalls
no stream. Raw reasoning comes here sealed (vault.py) and in a table of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ponder.config import ConfigError
from ponder.serve.events import Told

T = TypeVar("T")
Row = tuple[Any, ...]
TERMINAL = ("completed", "incomplete", "failed", "cancelled")
KEPT = 30 * 86_400  # seconds that a stored object is kept

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
)


class Store:
    """One database. `url`: a path, sqlite:///PATH, :memory:, or postgresql://..."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_sqlite = not url.startswith(("postgresql://", "postgres://"))
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ponder-store")
        self._connection: Any = self._thread.submit(self._open).result()

    def _open(self) -> Any:
        connection = self._open_sqlite() if self._is_sqlite else self._open_postgres()
        self._connection = connection
        self._migrate()
        return connection

    def _open_sqlite(self) -> Any:
        path = self.url.removeprefix("sqlite:///")
        if "://" in path:
            raise ConfigError(f"--db {self.url!r} is no database; give a path, sqlite:///PATH or postgresql://...")
        try:
            if path != ":memory:":
                Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(str(Path(path).expanduser()) if path != ":memory:" else path, timeout=10)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"cannot open the database {path}: {error}; give another path with --db") from None
        return connection

    def _open_postgres(self) -> Any:
        try:
            import psycopg
        except ImportError:
            raise ConfigError('PostgreSQL needs psycopg: pip install "ponder[postgres]"') from None
        try:
            return psycopg.connect(self.url)
        except psycopg.Error as error:
            raise ConfigError(f"cannot open the database server: {type(error).__name__}; check --db") from None

    def _migrate(self) -> None:
        self._run("CREATE TABLE IF NOT EXISTS version (number BIGINT NOT NULL)")
        rows = self._all("SELECT number FROM version")
        done = rows[0][0] if rows else 0
        if done > len(MIGRATIONS):
            raise ConfigError(f"the database is of a newer ponder (version {done}); update ponder or give another --db")
        if not rows:
            self._run("INSERT INTO version VALUES (0)")
        for number, script in enumerate(MIGRATIONS[done:], done + 1):
            for statement in script:
                self._run(statement)
            self._run("UPDATE version SET number = ?", number)
        self._connection.commit()

    async def do(self, work: Callable[[], T]) -> T:
        """Run `work` (calls of this class) in the database's thread, as one transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def now(self, work: Callable[[], T]) -> T:
        """The same, waited for: for the command line."""
        return self._thread.submit(self._transaction, work).result()

    def _transaction(self, work: Callable[[], T]) -> T:
        if not self._is_sqlite and self._connection.closed:
            self._connection = self._open_postgres()  # the database server was restarted
        try:
            result = work()
            self._connection.commit()
            return result
        except BaseException:
            self._connection.rollback()
            raise

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    def _run(self, sql: str, *values: Any) -> int:
        cursor = self._connection.cursor()
        cursor.execute(sql if self._is_sqlite else sql.replace("?", "%s"), values)
        return int(cursor.rowcount)

    def _many(self, sql: str, rows: Iterable[Row]) -> None:
        cursor = self._connection.cursor()
        cursor.executemany(sql if self._is_sqlite else sql.replace("?", "%s"), list(rows))

    def _all(self, sql: str, *values: Any) -> list[Row]:
        cursor = self._connection.cursor()
        cursor.execute(sql if self._is_sqlite else sql.replace("?", "%s"), values)
        return list(cursor.fetchall())

    # --- objects: responses, chat completions, conversations ---------------------------------------------------------

    def add(
        self, kind: str, body: dict[str, Any], *, owner: str, status: str, items: Sequence[dict[str, Any]] = (),
        created: int | None = None,
    ) -> None:  # fmt: skip
        room, turn = (body.get("conversation") or {}).get("id"), None
        if room is not None:
            turn = self._all("SELECT COALESCE(MAX(turn), -1) + 1 FROM objects WHERE conversation = ?", room)[0][0]
        self._run(
            "INSERT INTO objects (id, kind, owner, created, status, previous, body, conversation, turn)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            body["id"], kind, owner, created or int(time.time()), status, body.get("previous_response_id"), _dump(body),
            room, turn,
        )  # fmt: skip
        self.add_items(body["id"], "in", items)

    def get(self, kind: str, name: str, *, owner: str) -> dict[str, Any] | None:
        rows = self._all("SELECT body FROM objects WHERE id = ? AND kind = ? AND owner = ?", name, kind, owner)
        return json.loads(rows[0][0]) if rows else None

    def owner_of(self, name: str) -> str | None:
        rows = self._all("SELECT owner FROM objects WHERE id = ?", name)
        return rows[0][0] if rows else None

    def update(self, name: str, body: str, *, status: str) -> bool:
        """Write a new state (JSON) unless the present one is final; whether it was written."""
        marks = ", ".join("?" * len(TERMINAL))
        changed = self._run(
            f"UPDATE objects SET body = ?, status = ? WHERE id = ? AND status NOT IN ({marks})",
            body, status, name, *TERMINAL,
        )  # fmt: skip
        return changed == 1

    def set_body(self, name: str, body: dict[str, Any]) -> None:
        self._run("UPDATE objects SET body = ? WHERE id = ?", _dump(body), name)

    def delete(self, kind: str, name: str, *, owner: str) -> bool:
        if not self._run("DELETE FROM objects WHERE id = ? AND kind = ? AND owner = ?", name, kind, owner):
            return False
        self._forget([name])
        return True

    def _forget(self, names: Sequence[str]) -> None:
        for table in ("items", "events", "reasoning"):
            self._many(f"DELETE FROM {table} WHERE parent = ?", [(name,) for name in names])

    def page(
        self, kind: str, *, owner: str, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[dict[str, Any]], bool]:
        """Objects of an owner in order of creation, and whether there are more."""
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = "owner = ? AND kind = ?", [owner, kind]
        if after is not None:
            place = self._all("SELECT created FROM objects WHERE id = ? AND owner = ?", after, owner)
            if not place:
                return [], False
            where += f" AND (created {sign} ? OR (created = ? AND id {sign} ?))"
            values += [place[0][0], place[0][0], after]
        rows = self._all(
            f"SELECT body FROM objects WHERE {where} ORDER BY created {order}, id {order} LIMIT ?", *values, limit + 1
        )
        return [json.loads(row[0]) for row in rows[:limit]], len(rows) > limit

    def turns(
        self, conversation: str, *, owner: str, after: str | None, limit: int
    ) -> tuple[list[tuple[dict[str, Any], list[dict[str, Any]]]], bool]:
        """Responses of a conversation with their inputs, oldest first, and whether there are more."""
        place = -1
        if after is not None:
            rows = self._all("SELECT turn FROM objects WHERE id = ? AND conversation = ?", after, conversation)
            if not rows:
                return [], False
            place = rows[0][0]
        rows = self._all(
            "SELECT body FROM objects WHERE conversation = ? AND owner = ? AND turn > ? ORDER BY turn LIMIT ?",
            conversation, owner, place, limit + 1,
        )  # fmt: skip
        bodies = [json.loads(row[0]) for row in rows]
        return [(body, self.items(body["id"], "in")) for body in bodies[:limit]], len(bodies) > limit

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

    def fail_broken(self, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
        """Responses that a killed server left unfinished become what `finish` makes of them; how many."""
        rows = self._all("SELECT id, body FROM objects WHERE kind = 'response' AND status IN ('queued', 'in_progress')")
        for name, text in rows:
            body = finish(json.loads(text))
            last = self._all("SELECT MAX(number) FROM events WHERE parent = ?", name)[0][0]
            # numbers only rise: a reader may have seen a few events that were not yet written
            number = (last or 0) + 1000
            event = {"type": "response.failed", "sequence_number": number, "response": body}
            self.add_events(name, [Told("response.failed", number, _dump(event))])
            self.update(name, _dump(body), status=body["status"])
        return len(rows)

    def sweep(self) -> int:
        """Delete what is older than it is kept."""
        before = int(time.time()) - KEPT
        rows = self._all("SELECT id FROM objects WHERE created < ? AND kind <> 'conversation'", before)
        self._many("DELETE FROM objects WHERE id = ?", rows)
        self._forget([row[0] for row in rows])
        return len(rows)

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
        rows = self._all("SELECT body FROM items WHERE parent = ? AND side = ? ORDER BY place", parent, side)
        return [json.loads(row[0]) for row in rows]

    def item(self, name: str, *, owner: str) -> dict[str, Any] | None:
        rows = self._all(
            "SELECT i.body FROM items i JOIN objects o ON o.id = i.parent WHERE i.id = ? AND o.owner = ?", name, owner
        )
        return json.loads(rows[0][0]) if rows else None

    def delete_item(self, parent: str, name: str) -> bool:
        return self._run("DELETE FROM items WHERE parent = ? AND id = ?", parent, name) > 0

    def history(self, name: str, *, owner: str) -> list[dict[str, Any]]:
        """All items of a chain of responses, oldest first: inputs and outputs in turn."""
        chain: list[list[dict[str, Any]]] = []
        while name:
            rows = self._all(
                "SELECT previous FROM objects WHERE id = ? AND owner = ? AND kind = 'response'", name, owner
            )
            if not rows:
                break
            chain.append(self.items(name, "in") + self.items(name, "out"))
            name = rows[0][0]
        return [item for items in reversed(chain) for item in items]

    # --- events, reasoning, verdicts, audit --------------------------------------------------------------------------

    def add_events(self, parent: str, events: Sequence[Told]) -> None:
        self._many(
            "INSERT INTO events (parent, number, body) VALUES (?, ?, ?)",
            [(parent, told.number, told.text) for told in events],
        )

    def events(self, parent: str, after: int) -> list[Told]:
        rows = self._all(
            "SELECT number, body FROM events WHERE parent = ? AND number > ? ORDER BY number", parent, after
        )
        return [Told(json.loads(text)["type"], number, text) for number, text in rows]

    def add_reasoning(self, parent: str, item: str, owner: str, sealed: str) -> None:
        self._run("INSERT INTO reasoning VALUES (?, ?, ?, ?, ?)", parent, item, owner, sealed, int(time.time()))

    def reasoning(self, *, parent: str | None = None, item: str | None = None) -> list[Row]:
        """(item, owner, sealed) of a response, or of one item."""
        where, value = ("parent", parent) if parent is not None else ("item", item)
        return self._all(f"SELECT item, owner, sealed, parent FROM reasoning WHERE {where} = ?", value)

    def add_verdict(self, parent: str, owner: str, monitor: str, action: str, segment: int, note: str) -> None:
        self._run(
            "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)",
            parent, owner, int(time.time()), monitor, action, segment, note[:500],
        )  # fmt: skip

    def verdicts(self, limit: int, parent: str | None = None) -> list[dict[str, Any]]:
        names = ("response", "owner", "created", "monitor", "action", "segment", "note")
        where, values = ("WHERE parent = ? ", [parent]) if parent else ("", [])
        rows = self._all(
            "SELECT parent, owner, created, monitor, action, segment, note FROM verdicts "
            f"{where}ORDER BY created DESC LIMIT ?", *values, limit,
        )  # fmt: skip
        return [dict(zip(names, row, strict=True)) for row in rows]

    def add_audit(self, key_id: str, action: str, target: str, reason: str) -> None:
        self._run("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", int(time.time()), key_id, action, target, reason)

    def audit(self, limit: int) -> list[dict[str, Any]]:
        names = ("created", "key", "action", "target", "reason")
        rows = self._all(
            "SELECT created, key_id, action, target, reason FROM audit ORDER BY created DESC LIMIT ?", limit
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    # --- keys --------------------------------------------------------------------------------------------------------

    def add_key(self, identity: str, digest: str, owner: str, name: str, scopes: str) -> None:
        self._run(
            "INSERT INTO keys (id, hash, owner, name, scopes, created) VALUES (?, ?, ?, ?, ?, ?)",
            identity, digest, owner, name, scopes, int(time.time()),
        )  # fmt: skip

    def key_by_hash(self, digest: str) -> Row | None:
        """(id, owner, scopes) of a key that holds."""
        rows = self._all("SELECT id, owner, scopes FROM keys WHERE hash = ? AND revoked IS NULL", digest)
        return rows[0] if rows else None

    def keys(self) -> list[dict[str, Any]]:
        names = ("id", "name", "scopes", "created", "revoked")
        rows = self._all("SELECT id, name, scopes, created, revoked FROM keys ORDER BY created, id")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def revoke_key(self, identity: str) -> bool:
        changed = self._run("UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", int(time.time()), identity)
        return changed == 1


def _dump(value: Any) -> str:
    return json.dumps(value)  # plain ASCII: any text, NUL and half surrogates too, goes into any database
