"""`ponder keys`: a key is shown once, kept as a hash, and ends when it is revoked."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from ponder.cli import app


def keys(*arguments):
    result = CliRunner().invoke(app, ["keys", *arguments])
    return result.exit_code, result.stdout


def test_keys_are_made_listed_and_revoked(tmp_path):
    where = ["--db", str(tmp_path / "a.db")]
    code, out = keys("create", "--scope", "infer", "--scope", "read", "--name", "mine", "--json", *where)
    made = json.loads(out)
    assert code == 0 and made["key"].startswith("sk-ponder-") and len(made["key"]) > 50
    _, out = keys("list", *where)
    assert made["id"] in out and "valid" in out and "mine" in out and made["key"] not in out
    assert made["key"].encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert keys("revoke", made["id"], *where)[0] == 0
    assert "revoked" in keys("list", *where)[1]
    assert keys("revoke", made["id"], *where)[0] != 0
    assert keys("create", "--scope", "everything", *where)[0] != 0
