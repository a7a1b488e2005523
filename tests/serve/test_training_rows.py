"""Stored answers as rows for training: whose, which, without what, and that nobody trains on those that flags chose."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.monitors import MonitorInReward, Rules
from ponder.serve.store import KEPT
from ponder.serve.terminal import Chat, ChatError
from ponder.tasks import load_task
from ponder.train.recipe import load_recipe
from ponder.train.rl import rl
from ponder.train.sft import SFTConfig, read_solutions, sft
from ponder.train.star import StarConfig, star
from tests.serve.serving import KEY, Served

SECRET = "SECRETTHOUGHT"


def think(text, seed):
    said = "deceive the user" if "flag me" in text else "stop here" if "stop me" in text else "nothing"
    return f"{SECRET} I will {said}", "42"


def monitors():
    return (Rules(flag=("deceive the user",), stop=("stop here",), name="patterns"),)


@pytest.fixture(scope="module")
def shown():
    with Served(ScriptedEngine(think), monitors=monitors(), show_reasoning=True) as server:
        yield server


def client(server, key=KEY):
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def own(server, *scopes):
    """A client of an owner of its own, so that tests see nothing of each other."""
    return client(server, server.key("infer", *scopes))


def ask(api, question, **more):
    response = api.post("/v1/responses", json={"model": "scripted", "input": question, **more})
    assert response.status_code == 200, response.text
    return response.json()


def exported(api, **query):
    response = api.get("/v1/training_rows", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_row_has_the_question_the_answer_and_whether_a_monitor_flagged_it_and_no_reasoning(shown):
    with own(shown, "admin") as api:
        plain = ask(api, "1+1?", instructions="Be brief.")
        ask(api, "flag me")
        chat = {"messages": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2?"}], "store": True}
        api.post("/v1/chat/completions", json={"model": "scripted", **chat})
        found = exported(api)
        rows = {row["problem"]: row for row in found["data"]}
    assert set(rows) == {"1+1?", "flag me", "2+2?"} and found["left_out"] == {}
    assert rows["1+1?"]["id"] == plain["id"] and rows["1+1?"]["system"] == "Be brief."
    assert rows["2+2?"]["system"] == "Add." and "system" not in rows["flag me"]
    assert {row["answer"] for row in rows.values()} == {"42"}
    assert {question: row["flagged"] for question, row in rows.items()} == {
        "1+1?": False, "2+2?": False, "flag me": True
    }  # fmt: skip
    assert {row["flagged_in_export"] for row in rows.values()} == {1}
    assert SECRET not in json.dumps(found) and "patterns" not in json.dumps(found)


def test_verdicts_are_not_for_every_client_and_nobody_exports_anothers_answers(shown):
    with own(shown) as plain, own(shown, "admin") as admin, client(shown, shown.key("admin")) as blind:
        ask(plain, "mine?")
        refused = plain.get("/v1/training_rows")
        assert refused.status_code == 403 and "--api-key" in refused.json()["error"]["message"]
        assert blind.get("/v1/training_rows").status_code == 403  # verdicts and outlines, but no contents
        assert exported(admin)["data"] == []


def test_reasoning_is_there_where_it_is_asked_for_and_the_operator_shows_it_and_each_export_is_audited(shown):
    with own(shown, "admin") as api:
        ask(api, "1+1?")
        [row] = exported(api, with_reasoning="true")["data"]
        assert row["reasoning"] == f"{SECRET} I will nothing"
    audit = shown.service.store.now(lambda: shown.service.store.audit(100))
    assert ("training_rows", "1000 rows with reasoning") in [(line["action"], line["reason"]) for line in audit]
    with Served(ScriptedEngine(think)) as hidden, client(hidden) as api:
        ask(api, "1+1?")
        refused = api.get("/v1/training_rows", params={"with_reasoning": "true"})
        assert refused.status_code == 403 and SECRET not in refused.text
        assert [row["reasoning"] for row in exported(api)["data"]] == [""]  # and without it the rows are there


def test_what_is_no_whole_answer_to_one_question_is_left_out_and_counted(shown):
    with own(shown, "admin") as api:
        first = ask(api, "1+1?")
        ask(api, "and 2+2?", previous_response_id=first["id"])
        talk = api.post("/v1/conversations", json={"items": [{"role": "user", "content": "before"}]}).json()["id"]
        ask(api, "now?", conversation=talk)
        fresh = api.post("/v1/conversations", json={}).json()["id"]
        opening = ask(api, "an opening", conversation=fresh)
        ask(api, "a second turn", conversation=fresh)
        ask(api, "tell", tools=[{"type": "function", "name": "weather", "parameters": {}}])
        gone = ask(api, "delete me")
        api.delete(f"/v1/responses/{gone['id']}")
        ask(api, "forget me", store=False)
        found = exported(api)
        assert {row["id"] for row in found["data"]} == {first["id"], opening["id"]}
        assert found["left_out"] == {"a later turn of a conversation": 3, "asked for tools or JSON": 1}
        newest = exported(api, limit=1)
        assert len(newest["data"]) + sum(newest["left_out"].values()) == 1


def test_what_is_older_than_it_is_kept_is_not_exported_though_the_sweep_was_late(shown):
    with own(shown, "admin") as api:
        made = ask(api, "1+1?")
        store = shown.service.store
        body = store.now(lambda: store.get("response", made["id"], owner=store.owner_of(made["id"])))
        store.now(lambda: store.set_body(made["id"], {**body, "created_at": body["created_at"] - KEPT - 1}))
        assert exported(api)["data"] == []


def export(server, path, *more):
    given = ["export", server.url, str(path), "--api-key", KEY, *more]
    return CliRunner().invoke(app, given)


def test_sft_star_and_rl_take_the_whole_export_and_refuse_a_choice_of_it_by_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Served(ScriptedEngine(think), monitors=monitors()) as server:
        with client(server) as api:
            for question in ("1+1?", "flag me", "2+2?"):
                ask(api, question)
        done = export(server, path)
    assert done.exit_code == 0 and "3 rows" in done.output and "monitors flagged 1, which stay in" in done.output
    assert [set(row) for row in read_solutions(path)] == [{"problem", "reasoning", "answer"}] * 3  # no flag is read
    whole = load_task(f"file:{path}", split="train")
    engine = ScriptedEngine(lambda text, seed: ("", "42"))
    drawn = asyncio.run(star(whole, engine, StarConfig(num_samples=2), out=tmp_path / "whole.jsonl", model="m"))
    assert drawn["problems"] == 3

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    chosen = tmp_path / "chosen.jsonl"
    chosen.write_text("".join(json.dumps(row) + "\n" for row in rows if not row["flagged"]))
    told = "0 flagged rows of 2, its export had 1: rows are not chosen by what a monitor said"
    with pytest.raises(MonitorInReward, match=told):
        sft(SFTConfig(data=str(chosen), model="nano", out=str(tmp_path / "run"), num_steps=1))
    assert not (tmp_path / "run").exists()
    with pytest.raises(MonitorInReward, match=told):
        task = load_task(f"file:{chosen}", split="train")
        asyncio.run(star(task, engine, StarConfig(num_samples=2), out=tmp_path / "some.jsonl", model="m"))
    with pytest.raises(MonitorInReward, match=told):
        rl(load_recipe("demo_nano_cpu", [f"task=file:{chosen}", f"out={tmp_path / 'rl'}", "num_workers=0"]))
    assert not (tmp_path / "rl").exists()
    assert len(load_task(f"file:{chosen}")) == 2  # an exam may ask them


def test_an_export_of_which_a_monitor_stopped_a_response_is_refused_and_says_so(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Served(ScriptedEngine(think), monitors=monitors()) as server:
        with client(server) as api:
            ask(api, "1+1?")
            assert ask(api, "stop me")["status"] == "failed"
        done = export(server, path)
    assert "left out, stopped or held by a monitor: 1" in done.output and "sft refuses it" in done.output
    with pytest.raises(MonitorInReward, match="its export had 1"):
        read_solutions(path)


def test_the_verb_says_what_is_wrong(tmp_path):
    with Served(ScriptedEngine(think)) as server:
        assert "stored no answers" in str(export(server, tmp_path / "a.jsonl").exception)
        assert "--show-reasoning" in str(export(server, tmp_path / "a.jsonl", "--with-reasoning").exception)
        done = CliRunner().invoke(app, ["export", server.url, str(tmp_path / "a.jsonl"), "--api-key", "sk-wrong"])
        assert isinstance(done.exception, ConfigError) and "Incorrect API key" in str(done.exception)
        assert ".jsonl" in str(export(server, tmp_path / "a.txt").exception)
    assert "is it running?" in str(export(server, tmp_path / "a.jsonl").exception)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [(404, {"detail": "Not Found"}, "the server answered 404"), (200, {"object": "list"}, "is no `ponder serve`"),
     (200, [], "is no `ponder serve`"), (500, "x", "the server answered 500")],
)  # fmt: skip
def test_a_server_that_is_no_ponder_serve_is_one_error(tmp_path, monkeypatch, status, body, told):
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(status, json=body))
    done = CliRunner().invoke(app, ["export", "http://127.0.0.1:1", str(tmp_path / "a.jsonl"), "--api-key", KEY])
    assert isinstance(done.exception, ConfigError) and told in str(done.exception)


@pytest.mark.parametrize("address", ["http://x\0", "http://\udcff"])
def test_an_address_that_is_none_is_one_error_of_the_chat(address):
    with pytest.raises(ChatError, match="is no address"):
        Chat(address, KEY, model=None, effort="low", mode=None)
