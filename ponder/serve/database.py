"""The connections under the store: SQLite by default, PostgreSQL by URL; brought up to date when they are opened.

Writes, reads and the look-up of keys have a lane each: a thread with a connection of its own. So a write that waits for
a locked database holds up neither readers nor anybody's authentication. No call waits long: a lock is waited for
`PATIENCE` seconds, and what queued up behind a call that failed fails with it. A database that cannot be reached is
`StoreUnavailable`, whatever it says itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ponder.config import ConfigError
from ponder.serve.errors import StoreUnavailable
from ponder.serve.logs import log

T = TypeVar("T")
Row = tuple[Any, ...]
LaneName = Literal["write", "read", "keys"]
PATIENCE = 2.0  # seconds that a call waits for somebody else's lock


class _Lane:
    def __init__(self, name: str) -> None:
        self.thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=f"ponder-store-{name}")
        self.connection: Any = None
        self.failed = 0.0  # when the database could last not be reached, on the monotonic clock


class Database:
    """One database. `url`: a path, sqlite:///PATH, :memory:, or postgresql://..."""

    def __init__(self, url: str, migrations: Sequence[Sequence[str]]) -> None:
        self.url, self._migrations = url, migrations
        self._is_sqlite = not url.startswith(("postgresql://", "postgres://"))
        self._path = url.removeprefix("sqlite:///") if self._is_sqlite else ""
        self._here = threading.local()  # .connection: of the lane whose thread this is
        write = _Lane("write")
        # a database in memory is the connection's own
        one = self._path == ":memory:"
        self._lanes: dict[LaneName, _Lane] = {
            "write": write, "read": write if one else _Lane("read"), "keys": write if one else _Lane("keys"),
        }  # fmt: skip
        self._unavailable: tuple[type[BaseException], ...] = (sqlite3.OperationalError, OSError)
        write.thread.submit(self._start, write).result()

    def _start(self, lane: _Lane) -> None:
        try:
            self._connect(lane)
            self._migrate()
        except (sqlite3.DatabaseError, OSError) as error:
            raise ConfigError(f"cannot open the database {self._path}: {error}; give another one with --db") from None
        except self._unavailable as error:
            raise ConfigError(f"cannot open the database server: {type(error).__name__}; check --db") from None

    def _connect(self, lane: _Lane) -> None:
        lane.connection = self._open_sqlite() if self._is_sqlite else self._open_postgres()
        self._here.connection = lane.connection

    def _open_sqlite(self) -> Any:
        if "://" in self._path:
            raise ConfigError(f"--db {self.url!r} is no database; give a path, sqlite:///PATH or postgresql://...")
        path = self._path
        if path != ":memory:":
            path = str(Path(path).expanduser())
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            keep_private(path)
        connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
        return connection

    def _open_postgres(self) -> Any:
        try:
            import psycopg
        except ImportError:
            raise ConfigError('PostgreSQL needs psycopg: pip install "ponder[postgres]"') from None
        self._unavailable = (psycopg.OperationalError, psycopg.InterfaceError, OSError)
        connection = psycopg.connect(self.url, connect_timeout=5)
        connection.execute(f"SET lock_timeout = {int(1000 * PATIENCE)}")
        connection.execute(f"SET statement_timeout = {int(5000 * PATIENCE)}")
        connection.commit()
        return connection

    def _migrate(self) -> None:
        if self._version() == len(self._migrations):
            return  # the usual case, and one that needs no lock
        if self._is_sqlite:  # two servers may start at the same time
            self._run("BEGIN IMMEDIATE")
        else:
            self._run("SELECT pg_advisory_xact_lock(70796)")
        self._run("CREATE TABLE IF NOT EXISTS version (number BIGINT NOT NULL)")
        rows = self._all("SELECT number FROM version")
        done = rows[0][0] if rows else 0
        if done > len(self._migrations):
            raise ConfigError(f"the database is of a newer ponder (version {done}); update ponder or give another --db")
        if not rows:
            self._run("INSERT INTO version VALUES (0)")
        for number, script in enumerate(self._migrations[done:], done + 1):
            for statement in script:
                self._run(statement)
            self._run("UPDATE version SET number = ?", number)
        self._here.connection.commit()

    def _version(self) -> int | None:
        try:
            rows = self._all("SELECT number FROM version")
        except Exception:  # a new database, whatever it calls a missing table; anything else will be said again
            rows = []
        self._here.connection.rollback()
        return rows[0][0] if rows else None

    async def do(self, work: Callable[[], T], lane: LaneName = "write") -> T:
        """Run `work` (calls of this class) in a lane's thread, as one transaction. Raises StoreUnavailable."""
        run = self._lanes[lane]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(run.thread, self._transaction, run, work, time.monotonic())

    async def read(self, work: Callable[[], T]) -> T:
        """The same, for what only reads: it waits for no writer."""
        return await self.do(work, "read")

    def now(self, work: Callable[[], T]) -> T:
        """`do`, waited for: for the command line."""
        lane = self._lanes["write"]
        return lane.thread.submit(self._transaction, lane, work, time.monotonic()).result()

    def _transaction(self, lane: _Lane, work: Callable[[], T], asked: float) -> T:
        if asked < lane.failed:  # it waited while others found out; one after the other would take long
            raise StoreUnavailable()
        try:
            if lane.connection is None or (not self._is_sqlite and lane.connection.closed):
                self._connect(lane)  # the first time, or the database server was restarted
            try:
                result = work()
                lane.connection.commit()
                return result
            except BaseException:
                with contextlib.suppress(*self._unavailable):
                    lane.connection.rollback()
                raise
        except self._unavailable as problem:
            lane.failed = time.monotonic()
            log("store_unavailable", kind=type(problem).__name__, code=getattr(problem, "sqlite_errorname", None))
            raise StoreUnavailable() from None

    def close(self) -> None:
        """Close all connections after the calls that are under way. Blocks; no call may follow."""
        for lane in set(self._lanes.values()):
            if lane.connection is not None:
                lane.thread.submit(lane.connection.close).result()
            lane.thread.shutdown()

    def _run(self, sql: str, *values: Any) -> int:
        cursor = self._here.connection.cursor()
        cursor.execute(self._sql(sql), self._row(values))
        return int(cursor.rowcount)

    def _many(self, sql: str, rows: Iterable[Row]) -> None:
        cursor = self._here.connection.cursor()
        cursor.executemany(self._sql(sql), list(map(self._row, rows)))

    def _all(self, sql: str, *values: Any) -> list[Row]:
        cursor = self._here.connection.cursor()
        cursor.execute(self._sql(sql), self._row(values))
        return list(cursor.fetchall())

    def _sql(self, sql: str) -> str:
        return sql if self._is_sqlite else sql.replace("?", "%s")

    def _row(self, values: Row) -> Row:
        """PostgreSQL has no NUL in a text, and a client may send one in an id."""
        if self._is_sqlite:
            return values
        return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values)


def keep_private(path: str) -> None:
    """The database is its owner's alone: prompts and answers lie in it in clear. The files beside it take its mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for each in (path, path + "-wal", path + "-shm"):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(os.stat(each).st_mode) & 0o077:
                try:
                    os.chmod(each, 0o600)
                    log("database_made_private", file=Path(each).name)
                except PermissionError:
                    log("database_is_readable_by_others", file=Path(each).name)
