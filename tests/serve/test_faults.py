"""What goes wrong in operation: clients that vanish or read slowly, a killed server, full limits, strangers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from ponder.engine.base import BaseEngine, ScriptedEngine
from ponder.engine.remote import RemoteEngine
from ponder.monitors import Judgement, Rules
from ponder.serve import keys
from ponder.serve.app import OPERATIONS
from ponder.serve.store import Store
from tests.helpers import until
from tests.serve.serving import KEY, Served, script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
AUTH = {"Authorization": f"Bearer {KEY}"}


def slow(text, seed):
    return "THOUGHT " + "thinking goes on " * 100, "done"


@pytest.fixture(scope="module")
def slow_server():
    """Thinks for well over a minute unless told otherwise: what ends before was ended."""
    with Served(ScriptedEngine(slow, portions=(2,), pace=0.05), heartbeat=0.2) as served:
        yield served


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, headers=AUTH, timeout=20) as client:
        yield client


@pytest.fixture
def slow_http(slow_server):
    with httpx.Client(base_url=slow_server.url, headers=AUTH, timeout=20) as client:
        yield client


LONG = {"input": "x", "reasoning": {"effort": "max"}}


def request(path, header):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{header}\r\n\r\n".encode()


def sse(response):
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])
        elif line.startswith(":"):
            yield {"type": "ping"}


# --- stopping and hurrying -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_fifty_clients_that_vanish_are_cancelled_and_free_their_slots(slow_server, stream):
    engine = slow_server.engine
    assert engine.num_in_flight == 0
    before = engine.num_cancelled
    sockets = []
    for path, body in (("/v1/responses", LONG), ("/v1/chat/completions", {
        "model": "scripted", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "max",
    })):  # fmt: skip
        content = json.dumps({**body, "stream": stream}).encode()
        for _ in range(25):
            connection = socket.create_connection(("127.0.0.1", slow_server.port))
            connection.sendall(request(path, f"Content-Length: {len(content)}") + content)
            sockets.append(connection)
    until(lambda: engine.num_in_flight == 50, 30)
    for connection in sockets:
        connection.close()
    until(lambda: engine.num_in_flight == 0, 30)
    assert engine.num_cancelled - before == 50  # none thought to its end
    until(lambda: not slow_server.service.jobs and slow_server.service.num_running == 0, 30)


def test_a_client_that_leaves_within_its_request_is_no_failure_of_the_server(server):
    def counted(status):
        labels = {"route": "/v1/responses", "status": status}
        return server.service.metrics.registry.get_sample_value("ponder_requests_total", labels) or 0

    gone, failed = counted("499"), counted("500")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = request("/v1/responses", "Content-Length: 100")
        connection.sendall(head + b"{")
    until(lambda: counted("499") + counted("500") > gone + failed)
    assert (counted("499"), counted("500")) == (gone + 1, failed)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/messages"])
def test_a_client_that_leaves_before_its_answer_is_no_failure_of_the_server(slow_server, path):
    def counted(status):
        labels = {"route": path, "status": status}
        return slow_server.service.metrics.registry.get_sample_value("ponder_requests_total", labels) or 0

    asked = {"input": "x"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "x"}]}
    asked |= {"max_tokens": 5000} if path == "/v1/messages" else {}
    content, engine = json.dumps({"model": "scripted", **asked}).encode(), slow_server.engine
    before = [counted(status) for status in ("499", "500", "200")]
    with socket.create_connection(("127.0.0.1", slow_server.port)) as connection:
        connection.sendall(request(path, f"Content-Length: {len(content)}") + content)
        until(lambda: engine.num_in_flight == 1, 30)
    until(lambda: sum(map(counted, ("499", "500", "200"))) > sum(before), 30)
    assert [counted(status) for status in ("499", "500", "200")] == [before[0] + 1, *before[1:]]


def test_a_slow_reader_stalls_nobody():
    engine = ScriptedEngine(lambda text, seed: ("t", "word " * 20_000), portions=(64,))
    with Served(engine) as served:
        connection = socket.create_connection(("127.0.0.1", served.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        content = json.dumps({"input": "x", "stream": True}).encode()
        connection.sendall(request("/v1/responses", f"Content-Length: {len(content)}") + content)  # and never reads
        with httpx.Client(base_url=served.url, headers=AUTH, timeout=20) as client:
            # were it stalled, it would wait for a reader that never reads, and time out
            assert client.post("/v1/responses", json={"input": "x"}).json()["status"] in ("completed", "incomplete")
        until(lambda: engine.num_in_flight == 0)
        connection.close()


def test_silence_has_a_heartbeat(slow_http):
    with slow_http.stream("POST", "/v1/responses", json={**LONG, "stream": True}) as response:
        ends = ("ping", "response.completed")
        assert next(event["type"] for event in sse(response) if event["type"] in ends) == "ping"


def test_answer_now_ends_the_thinking_and_an_answer_comes(slow_http):
    with slow_http.stream("POST", "/v1/responses", json={**LONG, "stream": True}) as response:
        events = sse(response)
        name = next(events)["response"]["id"]
        assert any(event["type"] == "ping" for event in events)  # it thinks
        assert slow_http.post(f"/v1/responses/{name}/finish").status_code == 200
        last = [event for event in events if event["type"] != "ping"][-1]
    assert last["type"] == "response.completed"
    body = last["response"]
    assert body["output"][-1]["content"][0]["text"] == "done" and body["compute"]["answered_early"]
    assert 0 < body["usage"]["output_tokens_details"]["reasoning_tokens"] < 1000


def test_a_deadline_answers_by_itself(slow_http):
    begun = time.monotonic()
    body = slow_http.post("/v1/responses", json={**LONG, "compute": {"deadline_s": 0.3}}).json()
    assert body["status"] == "completed" and time.monotonic() - begun > 0.25
    assert body["compute"]["answered_early"]
    assert 0 < body["usage"]["output_tokens_details"]["reasoning_tokens"] < 1000


def test_a_vote_can_be_hurried_too(slow_http):
    body = {**LONG, "reasoning": {"effort": "max", "mode": "consensus"}, "compute": {"n": 4, "deadline_s": 0.3}}
    told = slow_http.post("/v1/responses", json=body).json()
    assert told["status"] == "completed" and told["usage"]["output_tokens_details"]["samples"] == 4


def test_cancelled_is_final_and_keeps_what_was_billed(slow_http, slow_server):
    made = slow_http.post("/v1/responses", json={**LONG, "background": True}).json()
    time.sleep(0.3)
    cancelled = slow_http.post(f"/v1/responses/{made['id']}/cancel").json()
    assert cancelled["status"] == "cancelled" and cancelled["usage"]["output_tokens"] > 0
    assert slow_server.engine.num_in_flight == 0
    assert slow_http.post(f"/v1/responses/{made['id']}/cancel").json()["status"] == "cancelled"
    assert slow_http.get(f"/v1/responses/{made['id']}").json()["status"] == "cancelled"
    events = list(sse(slow_http.get(f"/v1/responses/{made['id']}?stream=true")))
    assert events[-1]["type"] == "response.failed"


def test_a_parent_that_runs_cannot_be_continued_yet(slow_http):
    made = slow_http.post("/v1/responses", json={**LONG, "background": True}).json()
    refused = slow_http.post("/v1/responses", json={"input": "y", "previous_response_id": made["id"]})
    assert refused.status_code == 409
    assert slow_http.delete(f"/v1/responses/{made['id']}").json()["deleted"]
    assert slow_http.get(f"/v1/responses/{made['id']}").status_code == 404


def test_two_hundred_streams_lose_nothing(server):
    async def one(client, number):
        events = []
        body = {"input": f"question {number}", "stream": True}
        async with client.stream("POST", "/v1/responses", json=body) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        usage = events[-1]["response"]["usage"]
        details = usage["output_tokens_details"]
        assert events[-1]["type"] == "response.completed" and text.startswith("The answer to")
        assert f"question {number} is 42" in text
        parts = ("reasoning_tokens", "answer_tokens", "special_tokens")
        assert sum(details[name] for name in parts) == usage["output_tokens"]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))

    async def work():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.url, headers=AUTH, timeout=60, limits=limits) as client:
            await asyncio.gather(*(one(client, number) for number in range(200)))

    asyncio.run(work())


# --- the process ---------------------------------------------------------------------------------------------------

PROCESS = """
import sys
from ponder.engine.base import ScriptedEngine
from ponder.engine.remote import RemoteEngine
from ponder.serve.run import serve
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings
def script(text, seed):
    return ("SECRETTHOUGHT " * (400 if "slow" in text else 1), "SECRETANSWER")
engine = ScriptedEngine(script, portions=(4,), pace=0.002)
settings = Settings(api_key=sys.argv[2], db=sys.argv[1], drain=10.0)
models = [ServedModel(name="scripted", engine=engine)]
serve(models, settings, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
"""


class Process:
    def __init__(self, db, log):
        self.log = open(log, "ab")  # noqa: SIM115
        command = [sys.executable, "-c", PROCESS, str(db), KEY]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, cwd=ROOT, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")
        self.http = httpx.Client(base_url=self.url, headers=AUTH, timeout=20)

    def end(self, number):
        self.process.send_signal(number)
        self.http.close()
        code = self.process.wait(30)
        self.log.close()
        return code


def test_a_killed_server_comes_back_with_everything_finished_whole_and_the_rest_failed(tmp_path):
    first = Process(tmp_path / "serve.db", tmp_path / "log")
    done = first.http.post("/v1/responses", json={"input": "quick SECRETPROMPT"}).json()
    endless = {"input": "slow", "background": True, "reasoning": {"effort": "max"}}
    broken = first.http.post("/v1/responses", json=endless).json()
    time.sleep(0.6)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = Process(tmp_path / "serve.db", tmp_path / "log")
    assert second.http.get(f"/v1/responses/{done['id']}").json() == done
    events = list(sse(second.http.get(f"/v1/responses/{done['id']}?stream=true")))
    assert events[-1]["response"] == done
    failed = second.http.get(f"/v1/responses/{broken['id']}").json()
    assert failed["status"] == "failed" and failed["error"]["code"] == "server_error"
    events = list(sse(second.http.get(f"/v1/responses/{broken['id']}?stream=true")))
    assert events[0]["type"] == "response.created" and events[-1]["type"] == "response.failed"
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    again = second.http.post("/v1/responses", json={"input": "x", "previous_response_id": done["id"]}).json()
    assert again["status"] == "completed"

    # SIGTERM lets a running response end, and exits 0
    running = second.http.stream("POST", "/v1/responses", json={"input": "slow", "stream": True})
    with running as response:
        events = sse(response)
        next(events)
        second.process.send_signal(signal.SIGTERM)
        assert [event["type"] for event in events][-1] == "response.completed"
    assert second.end(signal.SIGTERM) == 0
    logged = (tmp_path / "log").read_text()
    assert '"event": "response"' in logged
    for secret in (KEY, "SECRETPROMPT", "SECRETTHOUGHT", "SECRETANSWER"):
        assert secret not in logged
    assert b"SECRETTHOUGHT" not in b"".join(path.read_bytes() for path in tmp_path.glob("serve.db*"))


# --- strangers -----------------------------------------------------------------------------------------------------


def test_no_route_but_liveness_answers_without_a_key(server):
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/health/live").json() == {"status": "ok"}
        for operation in OPERATIONS:
            path = operation.path.replace("{id:path}", "x").replace("{id}", "x").replace("{item}", "y")
            if path != "/health/live":
                for header in (None, "Bearer wrong", KEY, "Bearer", f"Basic {KEY}"):
                    headers = {"Authorization": header} if header else {}
                    answer = client.request(operation.method, path, headers=headers)
                    assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/no/such/route").status_code == 401


def test_what_belongs_to_another_key_is_not_found(server, http):
    made = http.post("/v1/responses", json={"input": "mine"}).json()
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "mine"}], "store": True}
    chat = http.post("/v1/chat/completions", json=chat).json()
    talk = http.post("/v1/conversations", json={"items": [{"role": "user", "content": "mine"}]}).json()
    item = http.get(f"/v1/conversations/{talk['id']}/items").json()["data"][0]
    other = {"Authorization": f"Bearer {server.key('infer', 'read')}"}
    with httpx.Client(base_url=server.url, headers=other) as stranger:
        for method, path in (
            ("GET", f"/v1/responses/{made['id']}"), ("DELETE", f"/v1/responses/{made['id']}"),
            ("GET", f"/v1/responses/{made['id']}?stream=true"), ("POST", f"/v1/responses/{made['id']}/cancel"),
            ("POST", f"/v1/responses/{made['id']}/finish"), ("GET", f"/v1/responses/{made['id']}/input_items"),
            ("GET", f"/v1/chat/completions/{chat['id']}"), ("DELETE", f"/v1/chat/completions/{chat['id']}"),
            ("GET", f"/v1/chat/completions/{chat['id']}/messages"), ("GET", f"/v1/conversations/{talk['id']}"),
            ("DELETE", f"/v1/conversations/{talk['id']}"),
            ("GET", f"/v1/conversations/{talk['id']}/items/{item['id']}"),
        ):  # fmt: skip
            assert stranger.request(method, path).status_code == 404, path
        for body in (
            {"previous_response_id": made["id"]}, {"conversation": talk["id"]},
            {"input": [{"type": "item_reference", "id": item["id"]}]},
        ):  # fmt: skip
            assert stranger.post("/v1/responses", json={"input": "x", **body}).status_code in (400, 404)
        assert stranger.get("/v1/chat/completions").json()["data"] == []
    assert http.get(f"/v1/responses/{made['id']}").status_code == 200


def test_scopes_are_kept(server):
    def ask(scope, method, path, body=None):
        headers = {"Authorization": f"Bearer {server.key(scope)}"}
        return httpx.request(method, server.url + path, headers=headers, json=body).status_code

    assert ask("read", "POST", "/v1/responses", {"input": "x"}) == 403
    assert ask("read", "GET", "/v1/models") == 200
    assert ask("infer", "GET", "/admin/audit") == 403
    assert ask("admin", "GET", "/admin/audit") == 200
    assert ask("admin", "POST", "/admin/responses/x/reasoning", {"reason": "I may not"}) == 403


def test_a_revoked_key_works_no_longer(server):
    store = server.service.store
    identity, key = keys.create(store, ["infer"])
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
    assert store.now(lambda: store.revoke_key(identity))
    until(lambda: httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 401, 4)


def test_raw_reasoning_leaves_only_with_a_scope_and_a_reason_that_is_written_down(server, http):
    made = http.post("/v1/responses", json={"input": "2+2?"}).json()
    path = f"{server.url}/admin/responses/{made['id']}/reasoning"
    headers = {"Authorization": f"Bearer {server.key('raw_cot', 'admin')}"}
    assert httpx.post(path, headers=headers, json={}).status_code == 400
    assert httpx.post(path, headers=AUTH, json={"reason": "curiosity"}).status_code == 403
    told = httpx.post(path, headers=headers, json={"reason": "a complaint, case 7"}).json()
    assert told["reasoning"][0]["text"] == "THOUGHT about it é€😀"
    wrong = path.replace(made["id"], "resp_none")
    assert httpx.post(wrong, headers=headers, json={"reason": "typo"}).status_code == 404
    audit = httpx.get(f"{server.url}/admin/audit", headers=headers).json()["data"]
    assert {"a complaint, case 7", "typo"} <= {row["reason"] for row in audit}


def test_junk_gets_4xx(http):
    for content in (
        b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b'{"input": NaN}',
        b'{"input": 1' + b"0" * 5000 + b"}", b'{"input": ["\\ud800"]}',
    ):  # fmt: skip
        for path in ("/v1/responses", "/v1/chat/completions", "/v1/conversations"):
            answer = http.post(path, content=content, headers={"content-type": "application/json"})
            expected = (400,) if content != b"" else (200, 400)
            assert answer.status_code in expected, (path, content[:20])
            assert answer.status_code == 200 or set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert http.post("/v1/responses", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    halves = b'{"input": "\\ud83d half \\udc00 pairs"}'
    assert http.post("/v1/responses", content=halves).json()["status"] == "completed"
    assert http.post("/v1/responses", json={"input": "nul \x00 byte"}).json()["status"] == "completed"
    for path in ("/v1/../etc/passwd", "/v1/responses/..%2f..%2fetc%2fpasswd", "/web/..%2f..%2fapp.py", "/web/%00",
                 "/v1/responses/%00", "//v1//models", "/v1/models/" + "x" * 5000):  # fmt: skip
        assert 400 <= http.get(path).status_code < 500, path
    assert http.request("PATCH", "/v1/models").status_code == 405


def test_a_hundred_megabytes_are_refused_in_bounded_memory(server):
    def memory():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = memory()
    for head in (f"Content-Length: {100 << 20}", "Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(request("/v1/responses", head))
            block = b"x" * (1 << 20)
            chunk = b"%x\r\n%b\r\n" % (len(block), block) if "chunked" in head else block
            answer = b""
            for _ in range(100):
                try:
                    connection.sendall(chunk)
                except OSError:
                    break
            with contextlib.suppress(OSError):
                answer = connection.recv(100)
            assert answer == b"" or b" 413 " in answer or b" 400 " in answer
    assert memory() - before < 60 << 20


def test_a_flood_of_headers_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
        try:
            for number in range(20_000):
                connection.sendall(b"x-%d: %b\r\n" % (number, b"y" * 100))
            answer = connection.recv(100)
        except OSError:
            return
        assert answer == b"" or b" 4" in answer[:15]


# --- limits, monitors, metrics -------------------------------------------------------------------------------------


def test_limits_refuse_and_say_when_to_come_back():
    with Served(ScriptedEngine(script), requests_per_minute=3, tokens_per_minute=100_000) as served:
        answers = [httpx.get(f"{served.url}/v1/models", headers=AUTH) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        refused = answers[-1]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded" and int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    with Served(ScriptedEngine(script), tokens_per_minute=3000) as served:
        url, body = f"{served.url}/v1/responses", {"input": "x", "max_output_tokens": 2000}
        first = httpx.post(url, headers=AUTH, json=body)
        left = int(httpx.get(f"{served.url}/v1/models", headers=AUTH).headers["x-ratelimit-remaining-tokens"])
        assert first.status_code == 200 and left > 2500  # what was reserved and not used is given back
        assert served.service.limiter.reserve("key_given", 2500)
        refused = httpx.post(url, headers=AUTH, json=body)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "tokens")


def test_a_lenient_server_ignores_what_o1_refuses():
    with Served(ScriptedEngine(script), strict_params=False) as served:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
        body |= {"temperature": 0.2, "logprobs": True}
        told = httpx.post(f"{served.url}/v1/chat/completions", headers=AUTH, json=body).json()
        assert told["usage"]["completion_tokens"] == 5 and told["choices"][0]["finish_reason"] == "length"


def test_of_chats_that_come_at_once_those_beyond_the_limit_may_try_again():
    with Served(ScriptedEngine(slow, portions=(2,), pace=0.01), max_running=1) as served:
        service = served.service
        body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
        checked, service.check_capacity = service.check_capacity, lambda: None  # as for requests read at the same time
        service.num_running, before = 1, service.admit

        def admit(model):
            service.check_capacity = checked
            return before(model)

        service.admit = admit
        answer = httpx.post(f"{served.url}/v1/chat/completions", headers=AUTH, json=body)
        service.num_running = 0
        assert answer.status_code == 503 and "busy" in answer.json()["error"]["message"]


def test_more_responses_than_the_server_takes_are_refused():
    with Served(ScriptedEngine(slow, portions=(2,), pace=0.01), max_running=2) as served:
        url, endless = f"{served.url}/v1/responses", {**LONG, "background": True}
        made = [httpx.post(url, headers=AUTH, json=endless) for _ in range(2)]
        until(lambda: served.service.num_running == 2)
        assert httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=LONG).status_code == 503
        for response in made:
            httpx.post(f"{served.url}/v1/responses/{response.json()['id']}/cancel", headers=AUTH)


class Late:
    name = "late"

    async def __call__(self, segment, context):
        await asyncio.sleep(5)
        return Judgement("allow")


def test_monitors_flag_stop_and_are_late():
    with Served(ScriptedEngine(script), monitors=(Rules(), Late()), monitor_deadline=0.1) as served:
        with httpx.Client(base_url=served.url, headers=AUTH) as client:
            body = client.post("/v1/responses", json={"input": "deceive"}).json()
            assert body["status"] == "completed"
        admin = {"Authorization": f"Bearer {served.key('admin')}"}
        until(lambda: len(httpx.get(f"{served.url}/admin/verdicts", headers=admin).json()["data"]) == 2)
        told = httpx.get(f"{served.url}/admin/verdicts", headers=admin).json()["data"]
        assert {(row["monitor"], row["action"]) for row in told} == {("rules", "flag"), ("late", "error")}
        metrics = httpx.get(f"{served.url}/metrics", headers=admin).text
        assert 'ponder_monitor_verdicts_total{action="flag",model="scripted",monitor="rules"} 1.0' in metrics
    with Served(ScriptedEngine(script), monitors=(Rules(flag=(), stop=(r"deceive the user",)),)) as served:  # noqa: SIM117
        with httpx.Client(base_url=served.url, headers=AUTH) as client:
            for more in ({}, {"reasoning": {"mode": "consensus"}}):
                body = client.post("/v1/responses", json={"input": "deceive", **more}).json()
                assert body["status"] == "failed" and body["error"]["code"] == "misalignment_policy_violation"
                assert all(item["type"] == "reasoning" for item in body["output"])
            chat = {"model": "scripted", "messages": [{"role": "user", "content": "deceive"}]}
            choice = client.post("/v1/chat/completions", json=chat).json()["choices"][0]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
    with Served(ScriptedEngine(script), monitors=(Rules(flag=(), hold=(r"deceive the user",)),)) as served:
        body = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "deceive"}).json()
        assert body["status"] == "failed" and body["error"]["code"] == "held_for_review"
        assert all(item["type"] == "reasoning" for item in body["output"])  # and it is sealed, for whoever reviews it
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "deceive"}]}
        choice = httpx.post(f"{served.url}/v1/chat/completions", headers=AUTH, json=chat).json()["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
        raw = {"Authorization": f"Bearer {served.key('raw_cot')}"}
        looked = httpx.post(
            f"{served.url}/admin/responses/{body['id']}/reasoning", headers=raw, json={"reason": "review"}
        ).json()
        assert "deceive the user" in looked["reasoning"][0]["text"]
        assert [row["action"] for row in looked["verdicts"]] == ["hold"]
    with Served(ScriptedEngine(script), monitors=(Rules(flag=(), hold=(r"deceive the user",)),)) as served:
        asked = {"input": "deceive", "reasoning": {"summary": "auto"}}
        body = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=asked).json()
        assert [item["summary"] for item in body["output"]] == [[]]  # nobody has looked at it yet
    with Served(ScriptedEngine(script), monitors=(Late(),), monitor_deadline=0.1, fail_closed=True) as served:
        body = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}).json()
        assert body["status"] == "failed"


class Seen:
    name = "seen"

    def __init__(self):
        self.segments, self.problems = [], []

    async def __call__(self, segment, context):
        self.segments.append(segment)
        self.problems.append(context["problem"])
        return Judgement("allow")


def test_monitors_know_the_problem_on_every_route():
    seen = Seen()
    with Served(ScriptedEngine(script), monitors=(seen,)) as served:
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
        turns.append({"role": "user", "content": "what is asked"})
        for path, body in (
            ("responses", {"instructions": "be brief", "input": turns}),
            ("chat/completions", {"model": "scripted", "messages": turns}),
            ("messages", {"model": "scripted", "max_tokens": 99, "messages": turns}),
        ):
            answer = httpx.post(f"{served.url}/v1/{path}", headers=AUTH, json=body)
            assert answer.status_code == 200, answer.text
    assert seen.problems == ["what is asked"] * 3


def test_monitors_read_each_of_several_tries_by_itself():
    seen = Seen()
    with Served(ScriptedEngine(script), monitors=(seen,)) as served:
        body = {"input": "json never", "text": {"format": {"type": "json_object"}}}
        assert httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=body).json()["status"] == "failed"
    assert [segment.split() for segment in seen.segments] == [["THOUGHT", "json"]] * 3


def test_metrics_know_reasoning(http, server):
    http.post("/v1/responses", json={"input": "x", "max_output_tokens": 5})
    text = http.get("/metrics", headers={"Authorization": f"Bearer {server.key('metrics')}"}).text
    for name in (
        "ponder_reasoning_tokens_total", "ponder_time_to_first_visible_token_seconds_count", "ponder_running",
        'ponder_budget_exhausted_total{model="scripted",where="reasoning"}', "ponder_thinking_seconds_count",
        "ponder_requests_total",
    ):  # fmt: skip
        assert name in text


def test_readiness_generates_a_token(http):
    assert http.get("/health/ready").json() == {"status": "ok", "models": {"scripted": "ok"}}

    class Broken(BaseEngine):
        async def generate(self, prompt, params, *, n=1, first=0):
            raise RuntimeError("no")

    with Served(Broken()) as served:
        assert httpx.get(f"{served.url}/health/ready", headers=AUTH).status_code == 503


def test_a_remote_engine_can_be_served_another_ponder_for_one(server):
    with Served(RemoteEngine(f"{server.url}/v1", "scripted", KEY), model="outer") as outer:
        body = httpx.post(f"{outer.url}/v1/responses", headers=AUTH, json={"input": "2+2?"}, timeout=20).json()
        assert body["output"][-1]["content"][0]["text"].startswith("The answer to 2+2? is 42.")
        usage = body["usage"]
        assert usage["input_tokens"] > 0 and usage["output_tokens_details"]["reasoning_tokens"] > 0


def test_a_database_of_a_newer_version_is_refused_and_an_old_one_brought_up(tmp_path):
    from ponder.config import ConfigError

    store = Store(str(tmp_path / "a.db"))
    store.now(lambda: store._run("UPDATE version SET number = 99"))
    store.close()
    with pytest.raises(ConfigError, match="newer ponder"):
        Store(str(tmp_path / "a.db"))
    with pytest.raises(ConfigError, match="cannot open"):
        Store("/proc/nowhere/a.db")


@pytest.mark.skipif(not os.environ.get("PONDER_TEST_POSTGRES"), reason="PONDER_TEST_POSTGRES names no database")
def test_postgresql_keeps_what_sqlite_keeps():
    from tests.serve.serving import Served as Again

    url = os.environ["PONDER_TEST_POSTGRES"]
    os.environ["PONDER_SERVE_SECRET"] = "0123456789abcdef" * 4
    with Again(ScriptedEngine(script), db=url) as served, httpx.Client(base_url=served.url, headers=AUTH) as client:
        made = client.post("/v1/responses", json={"input": "nul \x00 byte"}).json()
        assert client.get(f"/v1/responses/{made['id']}").json() == made
        again = client.post("/v1/responses", json={"input": "x", "previous_response_id": made["id"]}).json()
        assert again["status"] == "completed"
        talk = client.post("/v1/conversations", json={"items": [{"role": "user", "content": "x"}]}).json()
        assert client.get(f"/v1/conversations/{talk['id']}/items").json()["data"]
        events = list(sse(client.get(f"/v1/responses/{made['id']}?stream=true")))
        assert events[-1]["response"] == made
        named = {"role": "user", "content": "x", "id": "a\x00b"}
        assert client.post("/v1/responses", json={"input": [named]}).headers.get("x-response-stored") is None
        assert client.get("/v1/responses/a%00b").status_code == 404
        assert client.delete(f"/v1/responses/{made['id']}").json()["deleted"]
