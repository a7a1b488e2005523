"""The secret under which reasoning is sealed: whole, one for all servers of a database, and never one to guess."""

from __future__ import annotations

import multiprocessing
import os
import resource
import stat

import pytest

from ponder.config import ConfigError
from ponder.serve.store import Store
from ponder.serve.vault import load_secret


@pytest.fixture(autouse=True)
def no_secret_of_the_environment(monkeypatch):
    monkeypatch.delenv("PONDER_SERVE_SECRET", raising=False)


def test_it_is_made_once_for_its_owner_alone_and_leaves_nothing_beside(tmp_path):
    first = load_secret(str(tmp_path / "p.db"))
    assert len(first) == 64 and load_secret(f"sqlite:///{tmp_path}/p.db") == first
    assert [path.name for path in tmp_path.iterdir()] == ["p.db.secret"]
    assert stat.S_IMODE((tmp_path / "p.db.secret").stat().st_mode) == 0o600


def test_it_lies_beside_a_database_that_is_named_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Store("sqlite:///~/p.db").close()
    assert len(load_secret("sqlite:///~/p.db")) == 64
    assert {"p.db", "p.db.secret"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("content", [b"", b"\n", b"0123", b" " * 64])
def test_a_secret_that_was_cut_off_is_no_key_but_an_error_that_keeps_it(tmp_path, content):
    path = tmp_path / "p.db.secret"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.db\.secret is empty or cut off\. Restore it.*delete it"):
        load_secret(str(tmp_path / "p.db"))
    assert path.read_bytes() == content


def test_a_full_disk_leaves_no_empty_secret_behind(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot write .*free some space"):
            load_secret(str(tmp_path / "p.db"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    assert len(load_secret(str(tmp_path / "p.db"))) == 64


def test_servers_that_begin_at_once_have_one_secret(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(load_secret, [str(tmp_path / "p.db")] * 16, chunksize=1)
    assert len(set(found)) == 1 and len(found[0]) == 64


@pytest.mark.parametrize("given", [" ", "x", "0123456789"])
def test_a_secret_of_the_environment_that_can_be_guessed_is_refused(monkeypatch, given):
    monkeypatch.setenv("PONDER_SERVE_SECRET", given)
    with pytest.raises(ConfigError, match="32 or more random characters"):
        load_secret(":memory:")
    assert os.environ["PONDER_SERVE_SECRET"] == given
