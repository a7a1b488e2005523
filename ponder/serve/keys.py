"""API keys: 256 random bits, stored as a hash, with scopes; a key is shown once.

infer: use the API on one's own objects. read: look at them. vote: the arena, and nothing else. metrics: the counters of
the whole server. admin: those, verdicts, audit, outlines of everybody's responses. raw_cot: the raw reasoning of any
response, each look with a reason that is written down first. The routes (routes/) say which they need. Other keys of
the same owner see the same objects; a key without an owner's name is an owner of its own.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.serve.errors import ApiError, StoreUnavailable
from ponder.serve.store import Store

SCOPES = ("infer", "read", "vote", "metrics", "admin", "raw_cot")
_FRESH = 2.0  # seconds for which a looked-up key is believed: a revoked one works no longer
_STALE = 60.0  # and while the database cannot be read, when nobody can revoke one either


@dataclass(frozen=True)
class Key:
    id: str
    owner: str
    scopes: frozenset[str]
    is_given: bool = False  # the one of the command line: whoever started the server

    def need(self, *scopes: str) -> None:
        """Any one of these."""
        if not self.scopes & set(scopes):
            raise ApiError(
                403,
                f"This key has the scope {', '.join(sorted(self.scopes))}; this needs {' or '.join(scopes)}.",
                code="insufficient_scope",
                kind="permission_error",
            )


def digest(key: str) -> str:
    """SHA-256 of a key in hexadecimal digits: what is stored and compared."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def create(store: Store, scopes: list[str], *, name: str = "", owner: str = "") -> tuple[str, str]:
    """A new key: (its id, the key itself, which is kept nowhere)."""
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"unknown scope {scope!r}{nearest(scope, SCOPES)}")
    key, identity = "sk-ponder-" + secrets.token_urlsafe(32), "key_" + secrets.token_hex(8)
    store.now(lambda: store.add_key(identity, digest(key), owner or identity, name, " ".join(sorted(set(scopes)))))
    return identity, key


class Keyring:
    """Who a request is from. `given`: a key from the command line, with scope infer, which is not stored."""

    def __init__(self, store: Store, given: str | None = None) -> None:
        self._store = store
        self._given = digest(given) if given else None
        self._known: dict[str, tuple[float, Key]] = {}

    async def find(self, header: str | None) -> Key:
        """The key of an Authorization header."""
        kind, _, key = (header or "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise ApiError(
                401,
                "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        wanted = digest(key.strip())
        # hashes are compared, so the time it takes tells nothing about the key
        if self._given is not None and secrets.compare_digest(wanted, self._given):
            return Key("key_given", "owner_" + wanted[:16], frozenset({"infer"}), is_given=True)
        seen, known = self._known.get(wanted, (0.0, None))
        if known is not None and time.monotonic() - seen < _FRESH:
            return known
        try:
            row: Any = await self._store.do(lambda: self._store.key_by_hash(wanted), "keys")
        except StoreUnavailable:
            if known is not None and time.monotonic() - seen < _STALE:
                return known
            raise
        if row is None:
            self._known.pop(wanted, None)
            raise ApiError(
                401, "Incorrect API key provided.", code="invalid_api_key", headers={"www-authenticate": "Bearer"}
            )
        if len(self._known) > 10_000:
            self._known.clear()
        found = Key(row[0], row[1], frozenset(row[2].split()))
        self._known[wanted] = time.monotonic(), found
        return found
