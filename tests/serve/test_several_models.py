"""Several models behind one server: each answers under its own name, by its own window, tokenizer, modes and key, and
what is one's alone (its reasoning, its failure) stays its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from ponder import processes
from ponder.cli.loading import close, open_engine
from ponder.cli.serving import named_models, named_scorers
from ponder.config import ConfigError
from ponder.efforts import LEVELS, Efforts, Point
from ponder.engine.base import ScriptedEngine
from ponder.engine.remote import RemoteEngine
from ponder.serve.app import make_app
from ponder.serve.housekeeping import Housekeeping
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings
from ponder.serve.terminal import Chat, ChatError
from tests.helpers import until
from tests.serve.serving import KEY, Served

AUTH = {"Authorization": f"Bearer {KEY}"}
NAMES = ("alpha", "beta")
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
ROOT = Path(__file__).parent.parent.parent


class Failing(ScriptedEngine):
    failure: str | None = None


def speaker(name):
    """A script that says whose it is, in its thoughts, its answers and its summaries."""

    def say(text, seed):
        if "Below are notes" in text:
            return f"The notes were read by {name}."
        if "weather" in text and "<tool_response>" not in text:
            return f"THOUGHT of {name}", '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
        if "vote" in text:
            return "THOUGHT", ("1/2", "0.5", "7")[seed % 3]
        if "slow" in text:
            return f"THOUGHT of {name}\n" * 400, "late"
        return f"THOUGHT of {name}", f"{name} read {text[-24:]}"

    return say


def engines(**options):
    return {name: Failing(speaker(name), portions=(2,), **options) for name in NAMES}


@pytest.fixture
def served():
    with Served(engines(pace=0.0005)) as server:
        yield server


@pytest.fixture
def http(served):
    with httpx.Client(base_url=f"{served.url}/v1", headers=AUTH, timeout=60) as client:
        yield client


# --- under their own names -----------------------------------------------------------------------------------------


def test_both_models_answer_the_official_client_at_the_same_time(served):
    """Over both APIs, streamed and not, several of each in flight."""
    client = AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY, _strict_response_validation=True, max_retries=0)

    async def chat(model, question):
        made = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
        return made.model, made.choices[0].message.content

    async def chat_stream(model, question):
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], stream=True
        )
        chunks = [chunk async for chunk in stream]
        (name,) = {chunk.model for chunk in chunks}
        return name, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    async def respond(model, question):
        made = await client.responses.create(model=model, input=question)
        return made.model, made.output_text

    async def respond_stream(model, question):
        stream = await client.responses.create(model=model, input=question, stream=True)
        events = [event async for event in stream]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == events[-1].response.output_text
        return events[-1].response.model, text

    async def all_at_once():
        asked = [
            (model, f"question {way.__name__} {number}", way)
            for model in NAMES for way in (chat, chat_stream, respond, respond_stream) for number in range(3)
        ]  # fmt: skip
        found = await asyncio.gather(*(way(model, question) for model, question, way in asked))
        for (model, question, _), (name, text) in zip(asked, found, strict=True):
            assert name == model and text == f"{model} read {question[-24:]}"

    asyncio.run(all_at_once())
    for engine in served.engine.values():
        assert len(engine.calls) == 12 and engine.most_in_flight > 1


def test_models_are_listed_and_found_by_their_names(served):
    client = OpenAI(base_url=f"{served.url}/v1", api_key=KEY, _strict_response_validation=True, max_retries=0)
    assert [model.id for model in client.models.list()] == list(NAMES)
    assert client.models.retrieve("beta").id == "beta"
    for call in (
        lambda: client.models.retrieve("gamma"),
        lambda: client.chat.completions.create(model="gamma", messages=[{"role": "user", "content": "x"}]),
        lambda: client.responses.create(model="gamma", input="x"),
    ):
        with pytest.raises(openai.NotFoundError, match="this server has 'alpha', 'beta'") as error:
            call()
        assert error.value.code == "model_not_found" and error.value.param == "model"


def test_a_request_has_to_say_which(http):
    for path in ("/responses", "/responses/input_tokens"):
        answer = http.post(path, json={"input": "x"})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "missing_required_parameter"
        assert "'alpha', 'beta'" in answer.json()["error"]["message"]
    schemas = httpx.get(f"{http.base_url}".removesuffix("v1/") + "openapi.json", headers=AUTH).json()["components"]
    for name in ("ChatRequest", "ResponseRequest", "CountRequest"):
        body = schemas["schemas"][name]
        assert body["properties"]["model"]["enum"] == list(NAMES) and "model" in body["required"]


def test_the_terminal_has_to_say_which_too(served):
    chat = Chat(f"{served.url}/v1", KEY, model=None, effort="low", mode=None)
    with pytest.raises(ChatError, match="alpha, beta: say which with --model"):
        chat.greeting()
    chat = Chat(f"{served.url}/v1", KEY, model="beta", effort="low", mode=None)
    assert chat.greeting().startswith("beta")
    assert any("beta read" in event["response"]["output"][-1]["content"][0]["text"]
               for event in chat.ask("x") if event["type"] == "response.completed")  # fmt: skip


def test_names_that_are_not_ones_own_are_refused():
    one, other = ScriptedEngine(["a"]), ScriptedEngine(["b"])
    with pytest.raises(ConfigError, match="a name of its own"):
        make_app([ServedModel(name="a", engine=one), ServedModel(name="a", engine=other)], Settings())
    with pytest.raises(ConfigError, match="one model or more"):
        make_app([], Settings())


# --- by their own measures -----------------------------------------------------------------------------------------


def test_a_window_is_the_models_own():
    narrow = ScriptedEngine(speaker("narrow"), window=300)
    with Served({"narrow": narrow, "wide": ScriptedEngine(speaker("wide"), window=20_000)}) as server:  # noqa: SIM117
        with httpx.Client(base_url=f"{server.url}/v1", headers=AUTH, timeout=60) as client:
            cards = {card["id"]: card["context_window"] for card in client.get("/models").json()["data"]}
            assert cards == {"narrow": 300, "wide": 20_000}
            long = "many words " * 60
            refused = client.post("/responses", json={"model": "narrow", "input": long})
            assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
            assert "maximum context length is 300 tokens" in refused.json()["error"]["message"]
            assert client.post("/responses", json={"model": "wide", "input": long}).json()["status"] == "completed"
            body = {"input": "x", "reasoning": {"effort": "max"}}
            caps = {
                name: client.post("/responses", json={"model": name, **body}).json()["compute"]["max_reasoning_tokens"]
                for name in cards
            }
            assert caps["narrow"] < 300 and caps["wide"] == 2048


class Scorer:
    name, policy, kind, needs = "mine", "", "mine", frozenset()

    async def __call__(self, prompt, completions):
        return [float("7" in completion.answer) for completion in completions]

    def cost(self, completions):
        return 0


def test_modes_efforts_keys_and_scorers_are_the_models_own(tmp_path):
    point = Point(max_reasoning_tokens=99, n=1, tokens=50.0, accuracy=0.5, low=0.4, high=0.6)
    levels = Efforts(task="t", num_problems=9, policy="p", levels=dict.fromkeys(LEVELS, point))
    models = [
        ServedModel(name="alpha", engine=ScriptedEngine(speaker("alpha")), scorer=Scorer(), efforts=levels),
        ServedModel(name="beta", engine=ScriptedEngine(speaker("beta")), key=lambda answer: answer),
    ]
    with Served(models=models) as server:  # noqa: SIM117
        with httpx.Client(base_url=f"{server.url}/v1", headers=AUTH, timeout=60) as client:
            alpha, beta = client.get("/models").json()["data"]
            assert "judge" in alpha["modes"] and "judge" not in beta["modes"]
            assert alpha["efforts"]["levels"]["medium"]["accuracy"] == 0.5 and not beta["efforts"]["measured"]

            def ask(model, **more):
                return client.post("/responses", json={"model": model, "input": "vote", **more}).json()

            best = {"reasoning": {"mode": "best_of_n"}, "compute": {"n": 8, "seed": 3}}
            assert ask("alpha", **best)["output"][-1]["content"][0]["text"] == "7"
            assert ask("alpha")["compute"]["max_reasoning_tokens"] == 99
            assert ask("beta")["compute"]["max_reasoning_tokens"] == 256
            # three samples, 1/2 and 0.5 and 7 or so: to the one the first two are the same answer, to the other not
            seen = {model: set() for model in NAMES}
            for seed in range(12):
                compute = {"n": 5, "seed": seed}
                for model in NAMES:
                    answer = ask(model, reasoning={"mode": "consensus"}, compute=compute)
                    seen[model].add((seed, answer["output"][-1]["content"][0]["text"]))
            assert seen["alpha"] != seen["beta"]


def test_a_model_is_its_own_summariser_and_monitors_know_whose_reasoning_it_is():
    models = []

    class Noting:
        name = "noting"

        async def __call__(self, segment, context):
            from ponder.monitors import Judgement

            models.append((context["model"], "alpha" in segment))
            return Judgement("flag")

    with Served(engines(), monitors=(Noting(),)) as server:  # noqa: SIM117
        with httpx.Client(base_url=server.url, headers=AUTH, timeout=60) as client:
            for name in NAMES:
                body = {"model": name, "input": "x", "reasoning": {"summary": "auto"}}
                made = client.post("/v1/responses", json=body).json()
                assert f"read by {name}" in made["output"][0]["summary"][0]["text"]
            assert models == [("alpha", True), ("beta", False)]
            text = client.get("/metrics", headers={"Authorization": f"Bearer {server.key('metrics')}"}).text
            outlines = client.get("/admin/responses", headers={"Authorization": f"Bearer {server.key('admin')}"}).json()
    assert sorted(each["model"] for each in outlines["data"]) == list(NAMES)
    for name in NAMES:
        for metric in (
            f'ponder_monitor_verdicts_total{{action="flag",model="{name}",monitor="noting"}} 1.0',
            f'ponder_responses_total{{model="{name}",status="completed"}} 1.0',
            f'ponder_samples_total{{mode="standard",model="{name}"}} 1.0',
            f'ponder_running{{model="{name}"}} 0.0', f'ponder_model_up{{model="{name}"}} 1.0',
        ):  # fmt: skip
            assert metric in text


# --- across models -------------------------------------------------------------------------------------------------


def test_a_conversation_may_go_on_with_another_model_but_reasoning_stays_with_its_own(http):
    first = http.post("/responses", json={"model": "alpha", "input": "weather", "tools": [TOOL]}).json()
    assert [item["type"] for item in first["output"]] == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "sunny"}
    more = {"previous_response_id": first["id"], "input": [result], "tools": [TOOL]}
    same = http.post("/responses", json={"model": "alpha", **more}).json()
    assert same["status"] == "completed" and "input_transformations" not in same
    other = http.post("/responses", json={"model": "beta", **more}).json()
    assert other["status"] == "completed" and other["model"] == "beta"
    assert [each["reason"] for each in other["input_transformations"]] == ["model_mismatch"]
    # the same where a client carries it
    carried = [{"role": "user", "content": "weather"}, *first["output"], result]
    for model, reasons in (("alpha", []), ("beta", ["model_mismatch"])):
        made = http.post("/responses", json={"model": model, "input": carried, "tools": [TOOL]}).json()
        assert [each["reason"] for each in made.get("input_transformations", [])] == reasons
    # and in a conversation, whose turns tell who answered
    talk = http.post("/conversations", json={}).json()["id"]
    for model in NAMES:
        assert http.post("/responses", json={"model": model, "conversation": talk, "input": f"to {model}"}).is_success
    turns = http.get(f"/conversations/{talk}/responses").json()["data"]
    assert [turn["model"] for turn in turns] == list(NAMES)


def test_background_work_of_both_runs_is_followed_and_is_cancelled(http):
    made = {
        model: http.post("/responses", json={
            "model": model, "input": "slow", "background": True, "reasoning": {"effort": "max"},
        }).json()["id"]
        for model in NAMES
    }  # fmt: skip
    cancelled = http.post(f"/responses/{made['alpha']}/cancel").json()
    assert (cancelled["model"], cancelled["status"]) == ("alpha", "cancelled")
    text = http.get(f"/responses/{made['beta']}", params={"stream": "true"}).text
    last = json.loads(text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["type"] == "response.completed" and last["response"]["model"] == "beta"
    assert http.get(f"/responses/{made['alpha']}").json()["status"] == "cancelled"


# --- when one fails ------------------------------------------------------------------------------------------------


def test_a_failed_model_says_so_and_takes_nobody_with_it(served, http, capfd):
    ended = []
    served.service.on_failure = ended.append
    running = {}
    for model in NAMES:
        body = {"model": model, "input": "slow", "background": True, "reasoning": {"effort": "max"}}
        running[model] = http.post("/responses", json=body).json()["id"]
    until(lambda: served.service.num_running == 2)
    served.engine["alpha"].failure = "no worker can be started: SECRETREASON"
    until(lambda: http.get(f"/responses/{running['alpha']}").json()["status"] == "failed")
    failed = http.get(f"/responses/{running['alpha']}").json()
    assert failed["error"]["message"] == "The model failed and cannot answer any more."
    # the other goes on, and what comes for the failed one is refused
    assert http.post("/responses", json={"model": "beta", "input": "x"}).json()["status"] == "completed"
    for path, more in (("/responses", {"input": "x"}), ("/chat/completions", {"messages": [
        {"role": "user", "content": "x"}]}), ("/responses/input_tokens", {"input": "x"})):  # fmt: skip
        refused = http.post(path, json={"model": "alpha", **more})
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "model_failed"
        assert "SECRETREASON" not in refused.text
    live = httpx.get(f"{served.url}/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "1 of 2 engines failed"})  # no names without a key
    ready = httpx.get(f"{served.url}/health/ready", headers=AUTH)
    assert (ready.status_code, ready.json()) == (
        200, {"status": "not ready: alpha", "models": {"alpha": "the engine failed", "beta": "ok"}}
    )  # fmt: skip
    metrics = httpx.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {served.key('metrics')}"}).text
    assert 'ponder_model_up{model="alpha"} 0.0' in metrics and 'ponder_model_up{model="beta"} 1.0' in metrics
    assert http.get(f"/responses/{running['beta']}").json()["status"] in ("in_progress", "completed")
    assert ended == []
    served.engine["beta"].failure = "nor this one"
    until(lambda: ended)
    assert ended == ["alpha: no worker can be started: SECRETREASON; beta: nor this one"]
    for path in ("live", "ready"):
        assert httpx.get(f"{served.url}/health/{path}", headers=AUTH).status_code == 503
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["model"] for line in lines if line["event"] == "engine_failed"] == list(NAMES)


def test_two_models_that_fail_together_end_the_server_once():
    ended = []

    async def both():
        app = make_app([ServedModel(name=name, engine=engine) for name, engine in engines().items()], Settings())
        app.service.on_failure = ended.append
        for model in app.service.models.values():
            model.engine.failure = "gone"
        keeper = Housekeeping(app.service)
        keeper.look_for_failures()
        keeper.look_for_failures()
        app.service.store.close()

    asyncio.run(both())
    assert ended == ["alpha: gone; beta: gone"]


def test_a_model_that_gives_no_token_is_named_and_the_others_are_ready():
    class Broken(ScriptedEngine):
        async def generate(self, prompt, params, *, n=1, first=0):
            raise RuntimeError("SECRETREASON")

    with Served({"good": ScriptedEngine(["a"]), "bad": Broken(["a"])}) as server:
        answer = httpx.get(f"{server.url}/health/ready", headers=AUTH)
    assert answer.status_code == 200 and answer.json()["status"] == "not ready: bad"
    assert answer.json()["models"] == {"good": "ok", "bad": "the engine failed: RuntimeError"}


# --- from the command line -----------------------------------------------------------------------------------------


def test_models_are_named_by_their_reference_or_as_told(tmp_path):
    assert named_models(["nano"]) == {"nano": "nano"}
    assert named_models(["owner/name@main", "mine=runs/a/b=c"]) == {
        "owner/name@main": "owner/name@main", "mine": "runs/a/b=c"
    }  # fmt: skip
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert named_models([str(folder)]) == {str(folder): str(folder)}  # a path is no name
    with pytest.raises(ConfigError, match="--model other=nano"):
        named_models(["nano", "nano"])
    with pytest.raises(ConfigError, match="two models are called 'a'"):
        named_models(["a=x", "a=y"])


def test_a_scorer_is_of_one_model():
    one, two = {"a": "nano"}, {"a": "nano", "b": "nano"}
    assert named_scorers(["folder"], one) == {"a": Path("folder")} == named_scorers(["a=folder"], one)
    assert named_scorers(["b=g", "a=f"], two) == {"b": Path("g"), "a": Path("f")}
    for given in (["folder"], ["c=folder"]):
        with pytest.raises(ConfigError, match="NAME=FOLDER with one of a, b"):
            named_scorers(given, two)
    with pytest.raises(ConfigError, match="a has one already"):
        named_scorers(["a=f", "a=g"], two)


@pytest.mark.slow
def test_local_engines_divide_the_cores():
    engine = open_engine("nano", None, share=2)
    assert len(engine.worker_processes) == max(1, processes.num_cores() // 2)
    close(engine)


def test_remote_models_are_served_side_by_side(served):
    remote = {name: RemoteEngine(f"{served.url}/v1", name, KEY) for name in NAMES}
    with Served(remote) as outer, httpx.Client(base_url=f"{outer.url}/v1", headers=AUTH, timeout=60) as client:
        for name in NAMES:
            made = client.post("/responses", json={"model": name, "input": "2+2?"}).json()
            assert made["model"] == name and made["output"][-1]["content"][0]["text"] == f"{name} read 2+2?"


def serve(db, *arguments):
    command = [sys.executable, "-m", "ponder.cli", "serve", "--port", "0", "--api-key", KEY, "--db", str(db)]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}  # of the remote endpoint
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, cwd=ROOT, text=True, env=environment)
    return process, process.stdout.readline()


@pytest.mark.slow
def test_the_command_serves_local_models_and_passes_remote_ones_on(tmp_path):
    inner, line = serve(tmp_path / "inner.db", "--model", "nano", "--model", "second=nano")
    assert re.fullmatch(r"ponder serves nano, second at http://127\.0\.0\.1:\d+/v1\n", line)
    base_url = line.split()[-1]
    remote = ("--model", "nano", "--model", "other=second", "--base-url", base_url)
    outer, line = serve(tmp_path / "outer.db", *remote)
    assert line.startswith("ponder serves nano, other at ")
    texts = []
    with httpx.Client(headers=AUTH, timeout=60) as client:
        for url, names in ((base_url, ("nano", "second")), (line.split()[-1], ("nano", "other"))):
            for name in names:
                body = {"model": name, "input": "What is 2+3?", "compute": {"seed": 1}}
                made = client.post(f"{url}/responses", json=body).json()
                assert (made["model"], made["status"]) == (name, "completed")
                texts.append(made["output"][-1]["content"][0]["text"])
        assert texts[0] == texts[1]  # the same weights
        stored = client.get(f"{base_url}/chat/completions").json()["data"]
        assert stored == []  # the outer server keeps its own
    for process in (outer, inner):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
