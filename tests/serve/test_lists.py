"""The lists that the page is made of: one's conversations, their turns, and an administrator's outline of all."""

from __future__ import annotations

import httpx
import pytest

from ponder.serve import store as stores
from ponder.serve.store import Store


@pytest.fixture
def client(server):
    made = []

    def make(*scopes, owner=""):
        headers = {"Authorization": f"Bearer {server.key(*scopes, owner=owner)}"}
        made.append(httpx.Client(base_url=server.url, headers=headers, timeout=20))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(http, room, text, **more):
    return http.post("/v1/responses", json={"input": text, "conversation": room, **more}).json()


def test_conversations_are_listed_newest_first_in_pages_and_to_their_owner_only(client):
    mine, other = client("infer"), client("infer")
    made = [mine.post("/v1/conversations", json={"metadata": {"title": str(i)}}).json()["id"] for i in range(5)]
    found, after = [], ""
    while True:
        page = mine.get(f"/v1/conversations?limit=2{after}").json()
        found += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert sorted(found) == sorted(made) and other.get("/v1/conversations").json()["data"] == []


def test_stored_completions_are_listed_by_model_and_metadata(client):
    mine = client("infer")
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "store": True}
    made = [mine.post("/v1/chat/completions", json={**asked, "metadata": {"of": str(i % 3)}}).json() for i in range(7)]
    ids = lambda query: [each["id"] for each in mine.get(f"/v1/chat/completions?{query}").json()["data"]]
    wanted = {each["id"] for each in made if each["metadata"] == {"of": "0"}}
    assert set(ids("metadata[of]=0")) == wanted and len(wanted) == 3
    assert ids("model=other") == [] and len(ids("model=scripted")) == 7 and ids("metadata[none]=0") == []
    first = mine.get("/v1/chat/completions?metadata[of]=0&limit=2").json()
    rest = mine.get(f"/v1/chat/completions?metadata[of]=0&limit=2&after={first['last_id']}").json()
    assert first["has_more"] and not rest["has_more"]
    assert {each["id"] for each in (*first["data"], *rest["data"])} == wanted


def test_turns_are_in_order_with_their_questions_failed_ones_too_and_without_sealed_reasoning(client):
    mine = client("infer")
    room = mine.post("/v1/conversations", json={}).json()["id"]
    made = [ask(mine, room, text)["id"] for text in ("one", "fail", "three", "long")]
    first = mine.get(f"/v1/conversations/{room}/responses?limit=3").json()
    rest = mine.get(f"/v1/conversations/{room}/responses?after={first['last_id']}").json()
    turns = first["data"] + rest["data"]
    assert [turn["id"] for turn in turns] == made and first["has_more"] and not rest["has_more"]
    assert [turn["input"][0]["content"][0]["text"] for turn in turns] == ["one", "fail", "three", "long"]
    assert [turn["status"] for turn in turns] == ["completed", "failed", "completed", "completed"]
    assert "encrypted_content" not in str(turns) and turns[0]["output"][0]["thinking_since"] > 0
    stranger = client("infer")
    assert stranger.get(f"/v1/conversations/{room}/responses").status_code == 404


def test_an_item_that_a_client_sent_twice_does_not_make_a_list_endless(client):
    """Clients walk from page to page by the last id."""
    mine = client("infer")
    items = [{"role": "user", "content": text, "id": name} for text, name in (("a", "one"), ("b", "two"), ("b", "two"))]
    room = mine.post("/v1/conversations", json={"items": items}).json()["id"]
    for order in ("asc", "desc"):
        seen, after = [], ""
        while len(seen) < 9:
            page = mine.get(f"/v1/conversations/{room}/items?limit=1&order={order}{after}").json()
            seen += [each["id"] for each in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert set(seen) == {"one", "two"} and len(seen) < 9


def test_an_administrator_sees_everybodys_responses_and_nothing_of_what_was_said(client):
    mine, chief = client("infer"), client("admin")
    room = mine.post("/v1/conversations", json={}).json()["id"]
    flagged = ask(mine, room, "deceive PRIVATEWORD")["id"]
    plain = ask(mine, room, "PRIVATEWORD")["id"]
    assert mine.get("/admin/responses").status_code == 403
    told = chief.get("/admin/responses?limit=1000")
    seen = {each["id"]: each for each in told.json()["data"]}
    assert seen[flagged]["verdicts"] == {"flag": 1} and seen[plain]["verdicts"] == {}
    assert seen[plain]["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert "PRIVATEWORD" not in told.text and "THOUGHT" not in told.text and "encrypted" not in told.text


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path, monkeypatch):
    path = str(tmp_path / "old.db")
    with monkeypatch.context() as before:
        before.setattr(stores, "MIGRATIONS", stores.MIGRATIONS[:1])
        old = Store(path)
        old.now(lambda: old._run(
            "INSERT INTO objects VALUES ('resp_1', 'response', 'me', 1, 'completed', NULL, '{\"id\": \"resp_1\"}')"
        ))  # fmt: skip
        old.close()
    new = Store(path)
    assert new.now(lambda: new.get("response", "resp_1", owner="me")) == {"id": "resp_1"}
    body = {"id": "resp_2", "conversation": {"id": "conv_1"}}
    new.now(lambda: new.add("response", body, owner="me", status="completed"))
    turns, more = new.now(lambda: new.turns("conv_1", owner="me", after=None, limit=5))
    assert [turn["id"] for turn, _ in turns] == ["resp_2"] and not more
    new.close()
