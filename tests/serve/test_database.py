"""The store in trouble: two servers on one database, a lock, a full disk, clocks that jump, files others may read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve import lease
from ponder.serve import store as stores
from ponder.serve.approvals import ApprovalAnswers, settle
from ponder.serve.errors import ApiError
from ponder.serve.housekeeping import Housekeeping
from ponder.serve.saving import broken
from ponder.serve.store import Store
from ponder.serve.vault import LIFETIME
from tests.helpers import until
from tests.serve.serving import KEY, Served, script

pytestmark = pytest.mark.slow

AUTH = {"Authorization": f"Bearer {KEY}"}
POSTGRES = os.environ.get("PONDER_TEST_POSTGRES")
TABLES = ["version", *re.findall(r"CREATE TABLE (\w+)", " ".join(sum(stores.MIGRATIONS, ())))]


def slow(text, seed):
    return "THOUGHT " + "thinking goes on " * 100, "done"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.skipif(
    not POSTGRES, reason="PONDER_TEST_POSTGRES names no database"))])  # fmt: skip
def url(request, tmp_path, monkeypatch):
    """An empty database of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "a.db")
    import psycopg

    monkeypatch.setenv("PONDER_SERVE_SECRET", "0123456789abcdef" * 4)
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
    return POSTGRES


def locked(path):
    """Somebody else holds the database for writing, until closed."""
    connection = sqlite3.connect(path, timeout=20, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_postgresql_is_given_no_nul_as_it_can_keep_none(tmp_path):
    store = Store(str(tmp_path / "a.db"))
    assert store._row(("a\0b", 1, None)) == ("a\0b", 1, None)
    store._is_sqlite = False
    assert store._row(("a\0b", 1, None)) == ("a\ufffdb", 1, None)


# --- two servers ---------------------------------------------------------------------------------------------------


def test_a_second_server_leaves_running_responses_to_the_first(url):
    with Served(ScriptedEngine(slow, portions=(2,), pace=0.002), db=url) as first:
        made = httpx.post(f"{first.url}/v1/responses", headers=AUTH, json={"input": "x", "background": True}).json()
        with Served(ScriptedEngine(script), db=url) as second:
            until(lambda: second.service.store.now(lambda: second.service.store._all("SELECT id FROM instances")))
            again = lambda server: httpx.get(f"{server.url}/v1/responses/{made['id']}", headers=AUTH).json()
            assert again(second)["status"] in ("queued", "in_progress")
            until(lambda: again(first)["status"] == "completed", 30)
            until(lambda: again(second)["status"] == "completed", 5)
            assert again(second) == again(first)
    left = Store(url)
    assert left.now(lambda: left._all("SELECT id FROM instances")) == []  # both said that they are gone
    left.close()


def add_running(store, name):
    body = {"id": name, "status": "in_progress", "output": []}
    store.now(lambda: store.add("response", body, owner="me", status="in_progress"))


def status_of(store, name):
    return store.now(lambda: store._all("SELECT status FROM objects WHERE id = ?", name))[0][0]


def test_a_response_is_broken_when_its_servers_lease_is_over_or_its_process_is_gone(url):
    first, second, third = Store(url), Store(url), Store(url)
    try:
        first.now(first.beat)
        add_running(first, "resp_living")
        add_running(third, "resp_unknown")  # it has never said that it lives
        assert second.now(lambda: second.fail_broken(broken)) == 1
        assert (status_of(second, "resp_living"), status_of(second, "resp_unknown")) == ("in_progress", "failed")
        old = int(time.time() - lease.LEASE - 1)
        first.now(lambda: first._run("UPDATE instances SET beat = ?", old))
        assert first.now(lambda: first.fail_broken(broken)) == 0  # its own are not for itself to give up
        assert second.now(lambda: second.fail_broken(broken)) == 1
        add_running(first, "resp_killed")
        first.now(first.beat)
        gone = subprocess.run(
            [sys.executable, "-c", "from ponder.serve.lease import this_process; print(this_process())"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        assert gone and lease.is_gone(gone) and not lease.is_gone(lease.this_process()) and not lease.is_gone("")
        first.now(lambda: first._run("UPDATE instances SET process = ?", gone))
        assert second.now(lambda: second.fail_broken(broken)) == 1 and status_of(second, "resp_killed") == "failed"
        events = second.now(lambda: second.events("resp_killed", -1))
        assert [told.kind for told in events] == ["response.failed"]
    finally:
        for store in (first, second, third):
            store.close()


def test_a_response_that_completed_is_never_overwritten(url):
    first, second = Store(url), Store(url)
    add_running(first, "resp_1")
    done = {"id": "resp_1", "status": "completed", "output": ["whole"]}
    finish = second._all  # the other server finishes between the look and the write of this one

    def late(sql, *values):
        rows = finish(sql, *values)
        if sql.startswith("SELECT body"):
            first.now(lambda: first.update("resp_1", json.dumps(done), status="completed"))
        return rows

    second._all = late
    assert second.now(lambda: second.fail_broken(broken)) == 0
    assert first.now(lambda: first.get("response", "resp_1", owner="me")) == done
    assert not first.now(lambda: first.update("resp_1", "{}", status="failed"))
    assert first.now(lambda: first.events("resp_1", -1)) == []
    first.close()
    second.close()


def test_a_database_of_an_older_version_is_brought_up_to_date_by_one_of_two_servers(url, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(stores, "MIGRATIONS", stores.MIGRATIONS[:2])
        Store(url).close()
    found = []
    threads = [threading.Thread(target=lambda: found.append(Store(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    add_running(found[0], "resp_1")
    holder = found[1].now(lambda: found[1]._all("SELECT holder FROM objects"))
    assert holder == [(found[0].holder,)]
    for store in found:
        store.close()


def test_an_approval_counts_once_whichever_of_two_servers_hears_it(url):
    first, second = Store(url), Store(url)
    names, found = [f"mcpr_{i}" for i in range(30)], {first: [], second: []}

    def answer(store):
        found[store] += [name for name in names if store.now(lambda name=name: store.add_approval(name))]

    threads = [threading.Thread(target=answer, args=(store,)) for store in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found[first] + found[second]) == sorted(names)
    assert second.now(lambda: second.answered_approvals(["mcpr_new", *names])) == names
    first.close()
    second.close()


def test_of_answers_that_one_request_gives_all_are_noted_or_none(url):
    store, new, old = Store(url), {"id": "mcpr_new"}, {"id": "mcpr_old"}
    asyncio.run(settle(store, ApprovalAnswers([old])))
    for answers in (ApprovalAnswers([new, old]), ApprovalAnswers([old], ["mcpr_new"])):
        with pytest.raises(ApiError, match="'mcpr_old' was answered before"):
            asyncio.run(settle(store, answers))
    assert store.now(lambda: store.answered_approvals(["mcpr_new", "mcpr_old"])) == ["mcpr_old"]
    asyncio.run(settle(store, ApprovalAnswers([new])))
    assert store.now(lambda: store.answered_approvals(["mcpr_new"])) == ["mcpr_new"]
    store.close()


def test_an_answer_is_remembered_for_as_long_as_its_request_counts(url, monkeypatch):
    assert stores.KEPT >= LIFETIME  # of a request, which is older than its answer
    store, real, later = Store(url), time.time, [0]
    monkeypatch.setattr("ponder.serve.store.time.time", lambda: real() + later[0])
    store.now(lambda: store.add_approval("mcpr_1"))
    for later[0], known in (stores.KEPT - 10, ["mcpr_1"]), (stores.KEPT + 10, []):
        store.now(lambda: store.sweep(may_jump=True))
        assert store.now(lambda: store.answered_approvals(["mcpr_1"])) == known
    store.close()


# --- a database that fails -----------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    with Served(ScriptedEngine(script), db=str(tmp_path / "a.db")) as server:
        yield server


@pytest.mark.parametrize("way", ["plain", "stream", "background", "chat"])
def test_a_locked_database_costs_nobody_his_answer_and_is_caught_up_with(served, tmp_path, way):
    path, client = str(tmp_path / "a.db"), httpx.Client(base_url=served.url, headers=AUTH, timeout=60)
    with client:
        lock = locked(path)
        if way == "chat":
            body = {"model": "scripted", "messages": [{"role": "user", "content": "2+2?"}], "store": True}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200 and answer.headers["x-response-stored"] == "false"
            assert client.get(f"/v1/chat/completions/{answer.json()['id']}").status_code == 404
            lock.close()
            return
        answer = client.post("/v1/responses", json={"input": "2+2?", "stream": way == "stream",
                                                    "background": way == "background"})  # fmt: skip
        assert answer.status_code == 200 and answer.headers["x-response-stored"] == "false"
        if way == "stream":
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            assert events[-1]["type"] == "response.completed"
            name = events[-1]["response"]["id"]
        else:
            name = answer.json()["id"]
        until(lambda: client.get(f"/v1/responses/{name}").json()["status"] == "completed", 20)
        assert "42" in client.get(f"/v1/responses/{name}").text
        assert client.get(f"/v1/responses/{name}/input_items").json()["data"][0]["content"][0]["text"] == "2+2?"
        more = client.post("/v1/responses", json={"input": "and?", "previous_response_id": name})
        assert (more.status_code, more.json()["error"]["code"]) == (503, "store_unavailable")
        lock.close()
        until(lambda: not served.service.jobs, 20)
        assert client.get(f"/v1/responses/{name}").json()["status"] == "completed"
        assert client.post("/v1/responses", json={"input": "and?", "previous_response_id": name}).status_code == 200


def test_a_server_starts_on_a_locked_database(tmp_path):
    path = str(tmp_path / "a.db")
    Store(path).close()
    lock = locked(path)
    with Served(ScriptedEngine(script), db=path) as served:
        assert httpx.get(f"{served.url}/health/live").status_code == 200
        made = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}, timeout=60).json()
        assert made["status"] == "completed"
        lock.close()
        until(lambda: not served.service.jobs, 20)
        store = served.service.store
        until(lambda: store.now(lambda: store._all("SELECT id FROM instances")) == [(store.holder,)], 20)
        assert httpx.get(f"{served.url}/v1/responses/{made['id']}", headers=AUTH).json() == made


def test_many_requests_wait_for_a_lock_side_by_side_not_one_after_the_other(served, tmp_path):
    lock = locked(str(tmp_path / "a.db"))
    found, begun = [], time.monotonic()

    def ask():
        found.append(httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}, timeout=120))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lock.close()
    assert [answer.status_code for answer in found] == [200] * 20
    assert time.monotonic() - begun < 40  # one after the other it would be 20 times two waits of two seconds


def test_a_lock_stalls_neither_keys_nor_reads(served, tmp_path):
    made = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}).json()
    mine = {"Authorization": f"Bearer {served.key('infer')}"}
    lock = locked(str(tmp_path / "a.db"))
    writes = [
        threading.Thread(target=httpx.post, args=(f"{served.url}/v1/conversations",),
                         kwargs={"headers": AUTH, "json": {}, "timeout": 60})
        for _ in range(5)
    ]  # fmt: skip
    for thread in writes:
        thread.start()
    time.sleep(0.2)
    store = served.service.store
    with_lock = []

    async def look():
        begun = time.monotonic()
        await store.do(lambda: store.key_by_hash("x"), "keys")
        await store.read(lambda: store.get("response", "x", owner="y"))
        with_lock.append(time.monotonic() - begun)

    asyncio.run_coroutine_threadsafe(look(), served.loop).result(60)
    assert httpx.get(f"{served.url}/v1/models", headers=mine, timeout=60).status_code == 200
    assert httpx.get(f"{served.url}/v1/responses/{made['id']}", headers=AUTH, timeout=60).json() == made
    assert any(thread.is_alive() for thread in writes)  # they are waiting still
    for thread in writes:
        thread.join()
    lock.close()
    assert with_lock[0] < 2


def test_a_key_that_was_seen_is_believed_while_the_database_cannot_be_read(served, monkeypatch):
    headers = {"Authorization": f"Bearer {served.key('infer')}"}
    ask = lambda: httpx.get(f"{served.url}/v1/models", headers=headers)
    assert ask().status_code == 200

    def fails(digest):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(served.service.store, "key_by_hash", fails)
    monkeypatch.setattr("ponder.serve.keys._FRESH", 0.0)
    assert ask().status_code == 200
    monkeypatch.setattr("ponder.serve.keys._STALE", 0.0)
    refused = ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")


def test_a_full_disk_is_told_in_the_form_of_the_api(served, monkeypatch):
    def full(*arguments, **options):
        raise sqlite3.OperationalError("database or disk is full")

    for name in ("add", "page", "get"):
        monkeypatch.setattr(served.service.store, name, full)
    with httpx.Client(base_url=served.url, headers=AUTH) as client:
        assert client.post("/v1/responses", json={"input": "x" * 60_000}).json()["status"] == "completed"
        for answer in (client.post("/v1/conversations", json={}), client.get("/v1/conversations"),
                       client.get("/v1/responses/resp_none")):  # fmt: skip
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")


def test_a_bug_anywhere_is_told_in_the_form_of_the_api(served, monkeypatch, capfd):
    def bug(*arguments, **options):
        raise RuntimeError("SECRETBUG")

    monkeypatch.setattr(served.service.store, "page", bug)
    monkeypatch.setattr(served.service.limiter, "headers", lambda key: {})
    answer = httpx.get(f"{served.url}/v1/conversations", headers=AUTH)
    assert answer.status_code == 500 and set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "SECRET" not in answer.text
    monkeypatch.setattr(served.service.keyring, "find", bug)
    answer = httpx.get(f"{served.url}/v1/conversations", headers=AUTH)
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    said = capfd.readouterr().err
    assert '"kind": "RuntimeError"' in said and "SECRETBUG" not in said and "Traceback" not in said


# --- files and clocks ----------------------------------------------------------------------------------------------


def test_the_database_is_its_owners_alone(tmp_path):
    os.umask(0o022)
    path = tmp_path / "deep" / "a.db"
    with Served(ScriptedEngine(script), db=str(path)) as served:
        httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"})
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert set(modes.values()) == {0o600} and {"a.db", "a.db-wal", "a.db-shm"} <= set(modes)
    os.chmod(path, 0o644)
    Store(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_clock_that_jumps_deletes_nothing_before_somebody_could_put_it_right(url, monkeypatch):
    store, days = Store(url), [0]
    real = time.time
    monkeypatch.setattr("ponder.serve.store.time.time", lambda: real() + days[0] * 86_400)
    store.now(lambda: store.add("response", {"id": "resp_1"}, owner="me", status="completed"))
    assert store.now(store.sweep) == 0
    days[0] = 40
    for _ in range(3):  # starting again and again does not make it right
        assert store.now(store.sweep) is None
    days[0] = 0
    assert store.now(store.sweep) == 0 and store.now(lambda: store.get("response", "resp_1", owner="me"))
    days[0] = 40
    assert store.now(store.sweep) is None
    assert store.now(lambda: store.sweep(may_jump=True)) == 1  # a server that has waited
    store.now(lambda: store.add("response", {"id": "resp_2"}, owner="me", status="completed"))
    swept = 0
    for _ in range(31):
        days[0] += 1
        swept += store.now(store.sweep)
    assert swept == 1  # and day by day things expire as they should
    store.close()


def test_a_server_whose_clock_jumped_waits_a_day_of_running(served, monkeypatch):
    service, now = served.service, time.monotonic()
    keeper = Housekeeping(service)
    monkeypatch.setattr(service.store, "sweep", lambda *, may_jump=False: 7 if may_jump else None)
    sweep = lambda: asyncio.run_coroutine_threadsafe(keeper.sweep(), served.loop).result(20)
    assert sweep() is None and sweep() is None
    keeper.jumped = now - 86_401
    assert sweep() == 7 and keeper.jumped is None


def test_nothing_completes_before_it_was_created(served, monkeypatch):
    real, offset = time.time, [0.0]
    monkeypatch.setattr("ponder.serve.wire.time.time", lambda: real() + offset[0])
    engine = served.engine
    engine._respond = lambda text, seed: offset.__setitem__(0, -7200.0) or ("t", "a")
    made = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}).json()
    assert made["completed_at"] >= made["created_at"]
