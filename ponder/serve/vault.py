"""Sealing reasoning: AES-256-GCM, one key an owner, bound to the conversation that it belongs to.

`seal` gives the `encrypted_content` that clients carry, and what lies in the store: the raw reasoning exists nowhere
else outside the process's memory. Sealed text is bound to its owner (the key is derived from it), to model,
conversation prefix, item and end user, and ends after 30 days. What was changed on the way is refused; what was
moved to another owner, model or conversation cannot be opened. Lengths are padded to buckets.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.serve.errors import ApiError

LIFETIME = 30 * 86_400  # seconds
_MARK = b"pv2."  # version of the format; before it, pv1, the item stood nowhere inside
_MARKS = (_MARK, b"pv1.")
_BUCKET = 512  # bytes
_SHORTEST = 16  # characters of a secret


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What sealed reasoning belongs to."""

    owner: str
    model: str
    prefix: str  # hash of the conversation before it
    item: str
    user: str = ""  # the end user that the key's owner names


class Vault:
    """Seals and opens. secret: at least 32 bytes, else ConfigError; whoever has it can open everything."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ConfigError(f"the serving secret has {len(secret)} bytes; give at least 32")
        self._secret = secret
        self._keys: dict[str, Any] = {}

    @property
    def pseudonym_key(self) -> bytes:
        """For names that stand for owners in a file that leaves this server."""
        return hashlib.blake2b(b"ponder pseudonyms", key=self._secret[:64], digest_size=32).digest()

    def mark(self, what: str, text: str) -> str:
        """A keyed hash, in hexadecimal digits: whoever has it got it here, for this very text."""
        return hashlib.blake2b(f"{what} {text}".encode(), key=self._secret[:64], digest_size=16).hexdigest()

    def _key(self, owner: str) -> Any:
        """The owner's cipher; deriving its key is kept, as every response needs it."""
        if owner in self._keys:
            return self._keys[owner]
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ponder reasoning " + owner.encode())
        if len(self._keys) > 10_000:
            self._keys.clear()
        self._keys[owner] = AESGCM(derived.derive(self._secret))
        return self._keys[owner]

    def seal(self, data: Mapping[str, Any], binding: Binding) -> str:
        """Text that only this server opens, for whoever it is bound to."""
        bound = {"owner": binding.owner, "model": binding.model, "prefix": binding.prefix, "user": binding.user}
        plain = json.dumps({"bound": bound, "until": time.time() + LIFETIME, "data": data}).encode()
        plain += b" " * (-len(plain) % _BUCKET)
        # the owner stands outside, as whose key it is; it is bound by the key itself
        owner, nonce = _short(binding.owner), secrets.token_bytes(12)
        item = binding.item.encode()
        sealed = self._key(binding.owner).encrypt(nonce, plain, _MARK + owner + item)
        # its length and name at the end, for clients that send it back without: it is bound all the same
        return base64.urlsafe_b64encode(_MARK + owner + nonce + sealed + item + bytes([len(item)])).decode()

    def open(self, text: str, binding: Binding) -> tuple[dict[str, Any] | None, str | None]:
        """(data, None), or (None, why it is not for this request). What was tampered with is an error."""
        refused = ApiError(
            400,
            "The encrypted content could not be verified. It must be sent back unchanged, with its item's id.",
            code="invalid_encrypted_content",
            param="input",
        )
        try:
            raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        except (ValueError, UnicodeEncodeError):
            raise refused from None
        if not raw.startswith(_MARKS) or len(raw) < len(_MARK) + 8 + 12 + 16:
            raise refused
        mark, owner, nonce, sealed = raw[:4], raw[4:12], raw[12:24], _body(raw)
        if mark == _MARK and item_of(text) != binding.item:
            raise refused
        if owner != _short(binding.owner):
            return None, "organization_mismatch"
        from cryptography.exceptions import InvalidTag

        try:
            plain = self._key(binding.owner).decrypt(nonce, sealed, mark + owner + binding.item.encode())
        except InvalidTag:
            raise refused from None
        content = json.loads(plain)
        if content["until"] < time.time():
            raise ApiError(
                400,
                f"The reasoning of item '{binding.item[:100]}' has expired: it can be used for {LIFETIME // 86_400} "
                "days. Leave the item out, or ask again from the last user message on.",
                code="encrypted_content_expired",
                param="input",
            )
        for name, reason in (("model", "model_mismatch"), ("user", "end_user_mismatch"), ("prefix", "prefix_mismatch")):
            if content["bound"][name] != getattr(binding, name):
                return None, reason
        return content["data"], None

    def unseal(self, text: str, *, owner: str, item: str) -> dict[str, Any]:
        """For the administrator: what lies in the store, whatever it is bound to."""
        from cryptography.exceptions import InvalidTag

        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        try:
            plain = self._key(owner).decrypt(raw[12:24], _body(raw), raw[:12] + item.encode())
        except InvalidTag:
            message = "It was sealed under another secret; start the server with the PONDER_SERVE_SECRET of that time."
            raise ApiError(409, message, code="sealed_elsewhere", kind="conflict_error") from None
        data: dict[str, Any] = json.loads(plain)["data"]
        return data


def _body(raw: bytes) -> bytes:
    """What is encrypted of sealed reasoning."""
    return raw[24 : len(raw) - 1 - raw[-1]] if raw.startswith(_MARK) else raw[24:]


def item_of(text: str) -> str | None:
    """The item that sealed reasoning says it is of; None where it does not say. Opening it shows whether that is so."""
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        return raw[-1 - raw[-1] : -1].decode() if raw.startswith(_MARK) and 0 < raw[-1] < len(raw) - 40 else None
    except ValueError:  # not base64, or no text
        return None


def _short(owner: str) -> bytes:
    return hashlib.sha256(b"owner " + owner.encode()).digest()[:8]


def load_secret(database: str) -> bytes:
    """PONDER_SERVE_SECRET, else a file beside the SQLite database, made on first use and readable by its owner only."""
    given = os.environ.get("PONDER_SERVE_SECRET", "")
    if given and len(given.strip()) < _SHORTEST:
        raise ConfigError("PONDER_SERVE_SECRET can be guessed; set it to 32 or more random characters")
    if given:
        return given.encode()
    if "://" in database and not database.startswith("sqlite:"):
        raise ConfigError("with a database server, set PONDER_SERVE_SECRET to 32 or more random characters")
    path = Path(database.removeprefix("sqlite:///") + ".secret").expanduser()  # as the database itself
    if str(path).startswith(":memory:"):
        return secrets.token_bytes(32)
    if not path.exists():
        _make_secret(path)
    found = path.read_bytes()
    if len(found.strip()) < _SHORTEST:  # of a full disk, or of somebody's editor: anybody could guess such a key
        raise ConfigError(
            f"{path} is empty or cut off. Restore it: without it no sealed reasoning of this database can be opened. "
            "To begin with a new one, delete it"
        )
    return found


def _make_secret(path: Path) -> None:
    """There whole or not at all; of several servers that begin at once, one makes it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; free some space, or give another --db"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
