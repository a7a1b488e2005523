"""`ponder keys`: a key is shown once, kept as a hash, and ends when it is revoked."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.cli.serving import shown_db


def keys(*arguments):
    result = CliRunner().invoke(app, ["keys", *arguments])
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    "db",
    ["postgresql://me:HIDDEN@host:5432/db", "postgresql://me:HID@DEN@host/db", "postgres://:HIDDEN@/db?host=x",
     "postgresql:///db?user=me&password=HIDDEN&sslpassword=HIDDEN", "postgresql://host/db?password=HIDDEN"],
)  # fmt: skip
def test_a_database_is_named_without_its_password(db):
    told = shown_db(db)
    assert "HID" not in told and "DEN" not in told and told.startswith("postgres") and "db" in told
    assert shown_db("postgresql://me@host:5432/db?x=a@b") == "postgresql://me@host:5432/db?x=a@b"


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
