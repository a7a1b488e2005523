"""What a second reader found: races at the end, a failing database, samples side by side, strangers' sizes."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import httpx
import pytest

from ponder.efforts import Efforts, Point
from ponder.engine.base import ScriptedEngine
from ponder.monitors import Judgement
from ponder.serve.events import EventLog, padded
from ponder.serve.generation import Count, MeteredEngine
from ponder.serve.items import prefix_hash, prefix_hashes
from ponder.serve.responses import ResponseJob
from ponder.serve.schemas import schema_problem
from ponder.serve.summary import says_something
from ponder.serve.thoughts import Thoughts, Watch
from ponder.serve.vault import Binding, Vault
from tests.helpers import until, user
from tests.serve.serving import KEY, Served, script

AUTH = {"Authorization": f"Bearer {KEY}"}
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}


class Broken(Exception):
    pass


def test_a_database_that_fails_for_a_while_loses_no_response_and_is_tried_again():
    with Served(ScriptedEngine(script)) as served, httpx.Client(base_url=served.url, headers=AUTH) as client:
        store = served.service.store
        update, store.update = store.update, lambda *_, **__: (_ for _ in ()).throw(Broken)
        made = client.post("/v1/responses", json={"input": "x"}).json()
        assert made["status"] == "completed"
        assert client.get(f"/v1/responses/{made['id']}").json() == made  # from memory
        store.update = update
        until(lambda: made["id"] not in served.service.jobs)
        assert client.get(f"/v1/responses/{made['id']}").json() == made  # from the store
        again = client.post("/v1/responses", json={"input": "y", "previous_response_id": made["id"]}).json()
        assert again["status"] == "completed"


def test_a_response_that_ends_while_it_is_written_is_not_written_as_over():
    states = []
    store = SimpleNamespace(update=lambda name, text, *, status: states.append((json.loads(text)["status"], status)))
    body = {"status": "in_progress", "output": []}
    job = SimpleNamespace(
        service=SimpleNamespace(store=store), body=body, log=EventLog(), saved=0, id="r", is_added=True
    )
    work = ResponseJob.unsaved(job)
    body["status"] = "completed"
    work()
    assert states == [("in_progress", "in_progress")]


def test_what_was_told_does_not_change_with_what_comes_later():
    log, body = EventLog(), {"compute": {"seconds": None}}
    log.add({"type": "a", "response": body})
    body["compute"]["seconds"] = 3
    assert json.loads(log.events[0].text)["response"] == {"compute": {"seconds": None}}


def test_the_length_of_a_padded_event_tells_nothing_less_than_sixteen_bytes():
    texts = [json.dumps({"delta": delta}) for delta in ("", "a", "é€😀", "x" * 40, "\x00" * 7)]
    assert len({len(padded(text)) % 16 for text in texts}) == 1
    assert all(json.loads(padded(text))["delta"] == json.loads(text)["delta"] for text in texts)


def test_a_choice_that_fails_ends_the_others():
    def respond(text, seed):
        if seed in bad:
            raise RuntimeError
        return "THOUGHT " * 50, "fine"

    engine = ScriptedEngine(respond, portions=(1,), pace=0.01)
    bad = set()
    with Served(engine) as served:
        from ponder.types import sample_seed

        bad.add(sample_seed(7, 1000))  # of the second choice
        assert httpx.post(f"{served.url}/v1/chat/completions", headers=AUTH, json={**CHAT, "n": 2, "seed": 7}).is_error
        assert engine.num_in_flight == 0 and served.service.num_running == 0


def test_a_server_that_is_told_to_stop_tells_its_clients():
    engine = ScriptedEngine(lambda text, seed: ("t " * 5000, "a"), portions=(1,), pace=0.01)
    with Served(engine, drain=0.3) as served:
        kinds = []
        body = {"input": "x", "stream": True, "reasoning": {"effort": "max"}}
        with httpx.stream("POST", f"{served.url}/v1/responses", headers=AUTH, json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    kinds.append(json.loads(line[6:])["type"])
                    if len(kinds) == 2:
                        served.loop.call_soon_threadsafe(served.service.drain)
        assert kinds[-2:] == ["error", "response.failed"]
        assert httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=body).status_code == 503


class Writes:
    """A monitor that keeps what it reads."""

    name = "writes"

    def __init__(self):
        self.read = []

    async def __call__(self, segment, context):
        self.read.append(segment)
        return Judgement("allow")


@pytest.mark.parametrize("mode", ["consensus", "search"])
def test_samples_that_think_side_by_side_are_heard_one_after_the_other(mode):
    monitor = Writes()
    thought = "words and more " * 8
    engine = ScriptedEngine(lambda text, seed: (f"<{seed}> {thought}</{seed}>", "42"), portions=(3,))
    with Served(engine, monitors=(monitor,)) as served:
        body = {"input": "x", "reasoning": {"mode": mode}, "compute": {"n": 4, "seed": 1}}
        assert httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=body).json()["status"] == "completed"
    assert len(monitor.read) >= 2
    for segment in monitor.read:
        if segment.startswith("<"):
            name = segment[1:].partition(">")[0]
            assert segment == f"<{name}> {thought}</{name}>"


def test_a_summary_waits_for_the_verdict_on_its_segment():
    class Late:
        name = "late"

        async def __call__(self, segment, context):
            await asyncio.sleep(0.05)
            return Judgement("stop")

    async def summarizer(segment):
        return "It goes over the problem once more.", 1

    async def work():
        told = []
        watch = Watch(monitors=(Late(),), summarizer=summarizer)
        thoughts = Thoughts(watch, on_summary=told.append, on_verdict=lambda *_: None)
        thoughts.add("a" * 2000, 10)
        await thoughts.close()
        await asyncio.sleep(0.1)
        return told

    assert asyncio.run(work()) == []


def test_a_cancelled_sample_is_counted_once_however_often_it_is_cancelled():
    async def work():
        count = Count()
        engine = MeteredEngine(ScriptedEngine(lambda text, seed: ("t" * 500, "a"), portions=(5,), pace=0.002), count)
        from ponder.types import SamplingParams

        task = asyncio.ensure_future(engine.generate(user("x"), SamplingParams(max_reasoning_tokens=500), n=3))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return count

    count = asyncio.run(work())
    assert count.samples == 3 and count.output == count.reasoning > 0


def test_samples_without_a_way_of_choosing_are_refused(server):
    answer = httpx.post(f"{server.url}/v1/responses", headers=AUTH, json={"input": "x", "compute": {"n": 4}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "compute.n")


def test_prefixes_are_hashed_in_one_pass():
    items = [
        {"type": "message", "role": "user", "content": "a"}, {"type": "reasoning", "id": "r"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]  # fmt: skip
    assert prefix_hashes(items) == [prefix_hash(items[:place]) for place in range(5)]
    assert len(set(prefix_hashes(items))) == 4  # reasoning does not count


def test_schemas_of_strangers_are_measured_before_they_are_checked(server):
    huge = {"type": "object", "properties": {f"a{i}": {"type": "string"} for i in range(50_000)}}
    begun = time.monotonic()
    assert "longer" in schema_problem(huge)
    tools = [
        {"type": "function", "name": f"f{i}", "parameters": {"properties": {f"a{j}": {} for j in range(3000)}}}
        for i in range(30)
    ]  # fmt: skip
    answer = httpx.post(f"{server.url}/v1/responses", headers=AUTH, json={"input": "x", "tools": tools}, timeout=20)
    assert answer.json()["error"]["code"] == "invalid_function_parameters"
    assert time.monotonic() - begun < 5


def test_reasoning_sealed_under_another_secret_is_an_error_that_says_so():
    from ponder.serve.errors import ApiError

    binding = Binding(owner="o", model="m", prefix="p", item="i")
    sealed = Vault(b"a" * 32).seal({"text": "x"}, binding)
    with pytest.raises(ApiError, match="PONDER_SERVE_SECRET"):
        Vault(b"b" * 32).unseal(sealed, owner="o", item="i")


def test_an_effort_is_a_point_of_the_measured_curve_and_says_so():
    points = [
        Point(max_reasoning_tokens=cap, n=n, tokens=cap * n, accuracy=x, low=x - 1e-3, high=x + 1e-3)
        for cap, n in ((5, 1), (9, 1), (20, 1), (20, 2), (20, 4), (20, 8))
        for x in [cap * n / 1000]
    ]
    efforts = Efforts.choose(points, task="arithmetic", num_problems=50, policy="abc")
    with Served(ScriptedEngine(script), efforts=efforts) as served:  # noqa: SIM117
        with httpx.Client(base_url=f"{served.url}/v1", headers=AUTH) as client:
            told = client.get("/models").json()["data"][0]["efforts"]
            assert told["measured"] and told["task"] == "arithmetic" and told["levels"]["max"]["accuracy"] == 0.16

            def ask(effort, **more):
                body = {"input": "2+2?", "reasoning": {"effort": effort}, **more}
                answer = client.post("/responses", json=body).json()
                return [answer["compute"][name] for name in ("mode", "n", "max_reasoning_tokens")]

            assert ask("minimal") == ["standard", 1, 5] and ask("medium") == ["standard", 1, 20]
            assert ask("max") == ["consensus", 8, 20] and ask("none") == ["standard", 1, 0]
            assert ask("max", tools=[{"type": "function", "name": "f"}]) == ["standard", 1, 20]
            assert ask("max", compute={"mode": "standard"}) == ["standard", 1, 20]
            assert ask("max", compute={"mode": "best_of_n"}) == ["best_of_n", 8, 20]
            chat = {**CHAT, "reasoning_effort": "max"}
            assert client.post("/chat/completions", json=chat).json()["compute"]["n"] == 8
            assert len(client.post("/chat/completions", json={**chat, "n": 2}).json()["choices"]) == 2


def test_without_a_measured_curve_the_server_says_that_its_efforts_are_a_checkpoint(server):
    told = httpx.get(f"{server.url}/v1/models/scripted", headers=AUTH).json()["efforts"]
    assert told["measured"] is False and told["levels"]["high"] == {"max_reasoning_tokens": 512}


def test_compaction_is_refused_with_the_way_round(server):
    answer = httpx.post(f"{server.url}/v1/responses/compact", headers=AUTH, json={"model": "scripted", "input": "x"})
    assert answer.status_code == 400 and "truncation='auto'" in answer.json()["error"]["message"]
    assert httpx.post(f"{server.url}/v1/responses/compact").status_code == 401


def test_a_summariser_that_goes_on_calculating_says_nothing():
    assert not says_something("2-2=2 ok2-2=2 ok2-2=2 ok2-2=2 ok") and not says_something("ok ok ok ok 17")
    assert says_something("It adds the boxes up.")
