"""Connections of strangers: too many, too slow, half-sent, never read; in a process with few file descriptors."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve import connections
from tests.helpers import until
from tests.serve.serving import KEY, Served, script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
AUTH = {"Authorization": f"Bearer {KEY}"}
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-a: "

PROCESS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 160))
from ponder.engine.base import ScriptedEngine
from ponder.serve.run import serve
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings
def ready(url):
    print(url, resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True)
settings = Settings(api_key=sys.argv[2], db=sys.argv[1], drain=20.0)
engine = ScriptedEngine([("t", "a")])
serve([ServedModel(name="scripted", engine=engine)], settings, host="127.0.0.1", port=0, on_ready=ready)
"""


@pytest.fixture
def small(tmp_path):
    """A server that may have 160 descriptors: (port, process, its log)."""
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path / "a.db"), KEY], cwd=ROOT, stdout=subprocess.PIPE, stderr=log,
            text=True,
        )  # fmt: skip
    url, limit = process.stdout.readline().split()
    assert limit == "160"  # the soft limit was raised to the hard one
    yield int(url.rpartition(":")[2]), process, tmp_path / "log"
    if process.poll() is None:
        process.kill()
    process.wait(10)


def alive(port):
    return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=20).status_code == 200


def post(length, body=b"", path="/v1/responses", key=KEY, extra=""):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{extra}Content-Length: {length}\r\n\r\n"
    return head.encode() + body


def read_all(connection):
    answer = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            answer += part
    return answer


def test_whoever_opens_connections_and_sends_half_a_head_shuts_nobody_out(small):
    port, process, log = small
    held = []
    for _ in range(400):
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), timeout=5)
            held.append(connection)
            connection.sendall(HEAD)
    assert all(alive(port) for _ in range(5))
    for connection in held:
        connection.close()
    assert alive(port)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    text = log.read_text()
    assert "Traceback" not in text and len(text) < 20_000
    assert 1 <= text.count("connections_full") + text.count("no_descriptors") <= 8


def test_a_full_table_of_descriptors_is_a_refusal_and_one_line(monkeypatch, capfd):
    limits = connections.ConnectionLimits(100, 100)
    (listener,) = connections.listen("127.0.0.1", 0, limits)
    listener.listen()
    tried = []

    def accept(self):
        tried.append(1)
        if len(tried) % 2:
            raise OSError(24, "too many open files")
        return real(self)

    real = connections.socket.socket.accept
    monkeypatch.setattr(connections.socket.socket, "accept", accept)
    for _ in range(20):
        with socket.create_connection(listener.getsockname(), timeout=5) as client:
            with pytest.raises(BlockingIOError):
                listener.accept()
            assert client.recv(1) == b""  # hung up on, not left waiting
    listener.close()
    assert capfd.readouterr().err.count("no_descriptors") == 1


def test_a_head_that_does_not_come_is_408_and_a_body_is_too(monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.5)
    monkeypatch.setattr("ponder.serve.http._BODY", 0.5)
    with Served(ScriptedEngine(script)) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as slow:
            slow.sendall(HEAD)
            for _ in range(200):  # a byte now and then is no progress
                time.sleep(0.02)
                try:
                    slow.sendall(b"x")
                except OSError:
                    break
            answer = read_all(slow)
            assert b" 408 " in answer.partition(b"\r\n")[0] or answer == b""
        until(lambda: served.limits.count == 0, 5)
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as slow:
            slow.sendall(post(1000, b'{"input": '))
            answer = read_all(slow)
            assert b" 408 " in answer.partition(b"\r\n")[0] and b'"error"' in answer
        until(lambda: served.limits.count == 0, 5)


def test_what_is_never_read_is_given_up(monkeypatch):
    monkeypatch.setattr(connections, "TAKE", 0.5)
    with Served(ScriptedEngine(script)) as served:
        url = f"{served.url}/v1/responses"
        made = httpx.post(url, headers=AUTH, json={"input": "x" * 3_500_000}, timeout=60).json()
        asked = f"GET /v1/responses/{made['id']}/input_items HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        held = []
        for _ in range(5):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", served.port))
            connection.sendall(asked.encode() * 3)
            held.append(connection)
        until(lambda: served.limits.count >= 5, 5)
        until(lambda: served.limits.count <= 1, 20)
        for connection in held:
            connection.close()


def test_sigterm_does_not_wait_for_half_sent_bodies(small):
    port, process, _ = small
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(10)]
    for connection in held:
        connection.sendall(post(1000, b'{"input": '))
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0 and time.monotonic() - begun < 15
    for connection in held:
        connection.close()


def test_a_client_that_is_still_sending_reads_that_its_body_is_too_large(server):
    limit = server.service.settings.max_body
    for size in (limit + 1, 4 * limit):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(post(size))
            for _ in range(size // 65536 + 1):  # all of it, and only then is the answer read
                connection.sendall(b"x" * 65536)
            answer = read_all(connection)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 413 " in head.partition(b"\r\n")[0] and json.loads(body)["error"]["code"] == "request_too_large"


def test_a_request_with_two_lengths_ends_its_connection(server):
    body = b"0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    for path, key in (("/v1/responses", KEY), ("/health/live", KEY), ("/v1/responses", "sk-wrong")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(post(len(body), body, path, key, extra="Transfer-Encoding: chunked\r\n"))
            answer = read_all(connection)  # to its end: the server closed it
        assert answer.count(b"HTTP/1.1") == 1 and b"connection: close" in answer.lower()


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\x00 HTTP/1.1\r\n\r\n", b"A B C D\r\n\r\n"])
def test_what_is_no_http_is_refused_in_the_form_of_the_api(server, junk):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(junk + b"\r\n\r\n")
        _, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_connections_that_work_keep_their_places_and_the_next_one_hears_why():
    engine = ScriptedEngine(lambda text, seed: ("t" * 4000, "done"), portions=(1,), pace=0.01)
    with Served(engine, max_connections=3, max_per_address=3) as served:
        held, body = [], json.dumps({"input": "x", "stream": True, "reasoning": {"effort": "max"}}).encode()
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
            connection.sendall(post(len(body), body))
            assert b"200 OK" in connection.recv(65536)
            held.append(connection)
        refused = httpx.get(f"{served.url}/health/live")
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "overloaded"
        for connection in held:
            connection.close()
        until(lambda: served.limits.count == 0, 5)
        assert alive(served.port)


def test_a_connection_that_is_one_too_many_twice_over_costs_one_that_waits():
    limits, dropped = connections.ConnectionLimits(2, 1), []

    class Connection:
        def __init__(self, address):
            self.address = address

        def drop(self):
            dropped.append(self)

    made = [Connection(address) for address in "aba"]
    for each in made[:2]:
        assert limits.enter(each)
        limits.waiting[each] = None
    assert limits.enter(made[2]) and dropped == [made[0]]
