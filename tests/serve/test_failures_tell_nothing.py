"""The text of an exception may quote a thought: it reaches no client, no store, no event and no log, in any mode."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from ponder.config import ConfigError
from ponder.engine.base import BaseEngine, ScriptedEngine
from ponder.serve.modes import offered_modes
from ponder.strategies import STRATEGIES
from tests.helpers import until
from tests.serve.serving import KEY, Served

AUTH = {"Authorization": f"Bearer {KEY}"}
SECRET = "SECRETTHOUGHT that nobody may see"
BROKEN = "The model failed to produce a response."


class Scorer:
    name, policy, kind = "mine", "", "mine"

    def __init__(self, fails=False):
        self.fails = fails

    async def __call__(self, prompt, completions):
        if self.fails:
            raise ValueError(f"cannot score: {completions[0].reasoning}")
        return [0.5] * len(completions)

    def cost(self, completions):
        return len(completions)


MODES = ["standard", *sorted(offered_modes(STRATEGIES, Scorer()))]


class Monitor:
    name = "mine"

    async def __call__(self, segment, context):
        raise ValueError(f"cannot judge: {segment}")


async def summarizer(segment):
    raise ValueError(f"cannot say: {segment}")


def fails(text, seed):
    raise ValueError(f"while thinking: {SECRET}")


def thinks(text, seed):
    return SECRET + " 42.\n" + "step by step\n" * 20, "42"


async def strategy(prompt, engine, **more):
    completions = await engine.generate(prompt, more["params"])
    raise ValueError(f"no answer in: {completions[0].reasoning}")


def everything_said(served, tmp_path, body, chat):
    """All that a client, a reader, the disk and an operator ever see of two requests."""
    with httpx.Client(base_url=served.url, headers=AUTH, timeout=60) as client:
        plain = client.post("/v1/responses", json=body)
        stream = client.post("/v1/responses", json={**body, "stream": True})
        again = client.get(f"/v1/responses/{plain.json()['id']}")
        events = client.get(f"/v1/responses/{plain.json()['id']}?stream=true")
        said = [plain.text, stream.text, again.text, events.text]
        said += [client.post("/v1/chat/completions", json={**chat, "stream": on}).text for on in (False, True)]
    admin = {"Authorization": f"Bearer {served.key('admin')}"}
    said.append(httpx.get(f"{served.url}/admin/verdicts", headers=admin).text)
    files = b"".join(path.read_bytes() for path in tmp_path.glob("a.db*")).decode("latin-1")
    return plain.json(), "\n".join([*said, files])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["engine", "scorer", "monitor", "summarizer"])
def test_what_a_part_raises_is_told_to_nobody(tmp_path, capfd, who, mode):
    engine = ScriptedEngine(fails if who == "engine" else thinks, window=4000)
    settings = {
        "scorer": Scorer(fails=who == "scorer"), "summarizer": summarizer if who == "summarizer" else None,
        "monitors": (Monitor(),) if who == "monitor" else (), "db": str(tmp_path / "a.db"),
    }  # fmt: skip
    compute = {"mode": mode, **({"n": 3} if mode != "standard" else {})}
    with Served(engine, **settings) as served:
        body = {"input": "2+2?", "reasoning": {"summary": "auto", "effort": "low"}, "compute": compute}
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "2+2?"}], "compute": compute}
        told, said = everything_said(served, tmp_path, body, chat)
    said += capfd.readouterr().err
    assert "SECRETTHOUGHT" not in said and "cannot" not in said and "Traceback" not in said
    if who == "engine":
        assert told["error"]["message"] == BROKEN and '"kind": "ValueError"' in said
    if who in ("monitor", "summarizer"):  # a plug-in's failure is not the response's
        assert told["status"] in ("completed", "incomplete") or told["error"]["message"] == BROKEN


def test_what_a_strategy_raises_is_told_only_if_ponder_wrote_it(tmp_path, capfd):
    async def refuses(prompt, engine, **more):
        raise ConfigError("n=3 allows no sample; allow more")

    strategies = {"mine": strategy, "other": refuses}
    with Served(ScriptedEngine(thinks), db=str(tmp_path / "a.db"), strategies=strategies) as served:
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "compute": {"mode": "mine"}}
        told, said = everything_said(served, tmp_path, {"input": "x", "compute": {"mode": "mine"}}, chat)
        assert told["error"]["message"] == BROKEN
        told = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x", "compute": {"mode": "other"}})
        assert "n=3 allows no sample" in told.json()["error"]["message"]
    said += capfd.readouterr().err
    assert "SECRETTHOUGHT" not in said and '"where"' in said


def test_the_reason_of_a_dead_worker_is_the_operators_alone(capfd):
    class Dead(BaseEngine):
        async def generate(self, prompt, params, *, n=1, first=0):
            from ponder.engine.local import EngineError

            raise EngineError("an engine worker died (exit code -9); out of memory?")

    with Served(Dead()) as served:
        told = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json={"input": "x"}, timeout=60).json()
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
        refused = httpx.post(f"{served.url}/v1/chat/completions", headers=AUTH, json=chat, timeout=60)
    assert told["error"]["message"] == refused.json()["error"]["message"] == BROKEN and refused.status_code == 500
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert any("exit code -9" in str(line.get("reason")) for line in lines)


def test_an_engine_that_failed_for_good_is_neither_alive_nor_ready():
    class Failing(ScriptedEngine):
        failure = None

    engine, failed = Failing(thinks), []
    with Served(engine) as served:
        served.service.on_failure = failed.append
        assert httpx.get(f"{served.url}/health/live").status_code == 200
        assert httpx.get(f"{served.url}/health/ready", headers=AUTH).status_code == 200
        engine.failure = "no worker can be started"
        for path in ("live", "ready"):
            answer = httpx.get(f"{served.url}/health/{path}", headers=AUTH)
            assert answer.status_code == 503 and "no worker" not in answer.text
        until(lambda: failed == ["no worker can be started"])


FAILS = """
import sys, threading
from ponder.engine.base import ScriptedEngine
from ponder.serve.run import serve
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings
class Engine(ScriptedEngine):
    failure = None
engine = Engine(lambda text, seed: ("SECRETTHOUGHT " * 300, "done"), portions=(1,), pace=0.05)
settings = Settings(api_key=sys.argv[1], drain=600.0)
def ready(url):
    print(url, flush=True)
    sys.stdin.readline()
    engine.failure = "no other worker could be started (OSError)"
thread = lambda url: threading.Thread(target=ready, args=(url,), daemon=True).start()
serve([ServedModel(name="scripted", engine=engine)], settings, host="127.0.0.1", port=0, on_ready=thread)
"""


@pytest.mark.slow
def test_an_engine_that_failed_for_good_ends_the_process_with_the_reason(tmp_path):
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FAILS, KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=Path(__file__).parent.parent.parent,
        )  # fmt: skip
        url, found = process.stdout.readline().strip(), []
        body = {"input": "x", "stream": True, "reasoning": {"effort": "max"}}

        def ask():
            with httpx.stream("POST", f"{url}/v1/responses", headers=AUTH, json=body, timeout=60) as response:
                found.extend(response.iter_text())

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: found, 30)
        process.stdin.write("now\n")
        process.stdin.flush()
        assert process.wait(60) != 0  # though the drain would last ten minutes
        thread.join()
    said = (tmp_path / "log").read_text()
    assert "no other worker could be started" in said and "SECRETTHOUGHT" not in said
    assert "response.failed" in "".join(found) and "no other worker" not in "".join(found)
