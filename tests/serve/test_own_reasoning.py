"""--show-reasoning: the operator reads the reasoning of his own responses, nobody else does, and without it nobody."""

from __future__ import annotations

import json

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve.serving import KEY, Served

SECRET = "SECRETTHOUGHT"


def think(text, seed):
    return f"{SECRET} {text}", "42"


def client(server, key):
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


@pytest.fixture(scope="module")
def shown():
    with Served(ScriptedEngine(think), show_reasoning=True) as server:
        yield server


@pytest.fixture(scope="module")
def hidden():
    with Served(ScriptedEngine(think)) as server:
        yield server


def ask(api):
    response = api.post("/v1/responses", json={"model": "scripted", "input": "why?", "reasoning": {"summary": "auto"}})
    assert response.status_code == 200 and SECRET not in response.text
    return response.json()["id"]


def test_the_local_owner_and_admins_read_the_reasoning_of_their_own_responses(shown):
    for key in (KEY, shown.key("infer", "admin")):
        with client(shown, key) as api:
            found = api.get(f"/v1/responses/{ask(api)}/reasoning").json()
            assert found["reasoning"][0]["text"] == f"{SECRET} why?"
            assert api.get("/v1/models").json()["show_reasoning"] is True
    audit = shown.service.store.now(lambda: shown.service.store.audit(10))
    assert [line["action"] for line in audit] == ["own_reasoning"] * 2


def test_another_key_is_told_nothing_about_reasoning(shown):
    with client(shown, shown.key("infer")) as api:
        response = api.get(f"/v1/responses/{ask(api)}/reasoning")
        assert response.status_code == 403 and SECRET not in response.text
        assert "show_reasoning" not in api.get("/v1/models").json()


def test_nobody_reads_the_reasoning_of_anothers_response(shown):
    with client(shown, shown.key("infer")) as other, client(shown, shown.key("admin", "infer")) as admin:
        for name in (ask(other), "resp_none"):
            response = admin.get(f"/v1/responses/{name}/reasoning")
            assert response.status_code == 404 and SECRET not in response.text


def test_without_the_flag_the_path_does_not_exist_for_anybody(hidden):
    for key in (KEY, hidden.key("infer", "admin", "raw_cot")):
        with client(hidden, key) as api:
            name = ask(api)
            response, unknown = api.get(f"/v1/responses/{name}/reasoning"), api.get("/v1/responses/a/b/c")
            assert response.status_code == unknown.status_code == 404
            assert response.json()["error"]["message"] == unknown.json()["error"]["message"]
            assert "show_reasoning" not in api.get("/v1/models").json()
            assert "/v1/responses/{id}/reasoning" not in json.dumps(api.get("/openapi.json").json())
