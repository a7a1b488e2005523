"""What a key can and cannot do; what deleting deletes; what an administrator must say; how errors name the problem."""

from __future__ import annotations

import base64
import time

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve.app import OPERATIONS
from ponder.serve.keys import SCOPES
from ponder.serve.summary import leaks
from tests.helpers import takes_at_most
from tests.serve.serving import KEY, Served, script

AUTH = {"Authorization": f"Bearer {KEY}"}
OPEN = {"live"}
ANY_KEY = {"ready", "version", "openapi", "models", "model"}
TWO_SCOPES = {"export_rows"}  # admin beside infer or read (test_training_rows.py); no scope is enough
ALLOWED = {  # by the names of scopes: what each may do, and nothing else
    "infer": {
        "compact", "chat", "chats", "get_chat", "update_chat", "delete_chat", "chat_messages", "respond", "count_input",
        "get_response", "delete_response", "cancel_response", "finish_response", "response_items", "new_conversation",
        "conversations", "get_conversation", "update_conversation", "delete_conversation", "turns",
        "conversation_items", "add_items", "get_item", "delete_item", "message", "count_message",
    },
    "read": {
        "chats", "get_chat", "chat_messages", "get_response", "response_items", "conversations", "get_conversation",
        "turns", "conversation_items", "get_item",
    },
    "vote": set(),  # the arena is there only where it was asked for (test_arena_battles.py)
    "metrics": {"metrics"},
    "admin": {"metrics", "all_responses", "verdicts", "audit"},
    "raw_cot": {"raw_reasoning"},
}  # fmt: skip


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, headers=AUTH, timeout=20) as client:
        yield client


# --- scopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_what_its_name_says_and_nothing_else(server, scope):
    key = server.key(scope, owner="owner_of_all")
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        for operation in OPERATIONS:
            path = operation.path.replace("{id:path}", "x").replace("{id}", "x").replace("{item}", "y")
            answer = client.request(operation.method, path, json={"bad": 1} if operation.method == "POST" else None)
            allowed = operation.name in OPEN | ANY_KEY | ALLOWED[scope]
            assert (answer.status_code != 403) == allowed, (scope, operation.name, answer.status_code)
            if not allowed:
                assert answer.json()["error"]["code"] == "insufficient_scope"


def test_every_route_is_in_the_table_of_scopes():
    assert {operation.name for operation in OPERATIONS} == OPEN | ANY_KEY | TWO_SCOPES.union(*ALLOWED.values())


# --- reasons and deleting --------------------------------------------------------------------------------------------


BLANK = ["", "   ", "     ", "\t\n \n", "\u200b\u200b\u200b\u200b", "...", "- - -", "a b", "_____"]


@pytest.mark.parametrize("reason", BLANK)
def test_a_blank_reason_is_no_reason(server, http, reason):
    made = http.post("/v1/responses", json={"input": "2+2?"}).json()
    headers = {"Authorization": f"Bearer {server.key('raw_cot')}"}
    path = f"{server.url}/admin/responses/{made['id']}/reasoning"
    before = server.service.store.now(lambda: server.service.store.audit(1000))
    assert httpx.post(path, headers=headers, json={"reason": reason}).status_code == 400
    assert server.service.store.now(lambda: server.service.store.audit(1000)) == before
    assert httpx.post(path, headers=headers, json={"reason": "Fall 7"}).status_code == 200


def rows_with(server, *names):
    """Rows of any table that still name one of these."""
    store = server.service.store
    tables = {"objects": ("id", "conversation"), "items": ("id", "parent"), "events": ("parent",),
              "reasoning": ("parent", "item")}  # fmt: skip
    return [
        (table, column, name)
        for table, columns in tables.items() for column in columns for name in names
        if store.now(lambda t=table, c=column, n=name: store._all(f"SELECT 1 FROM {t} WHERE {c} = ?", n))
    ]  # fmt: skip


def test_deleting_a_conversation_deletes_its_responses_with_their_reasoning(server, http):
    talk = http.post("/v1/conversations", json={}).json()["id"]
    made = [http.post("/v1/responses", json={"input": f"q {n}", "conversation": talk}).json() for n in range(2)]
    names = [talk, *(each["id"] for each in made), *(item["id"] for each in made for item in each["output"])]
    assert rows_with(server, *names)
    assert http.delete(f"/v1/conversations/{talk}").json()["deleted"] is True
    assert rows_with(server, *names) == []
    for each in made:
        assert http.get(f"/v1/responses/{each['id']}").status_code == 404
    raw = {"Authorization": f"Bearer {server.key('raw_cot')}"}
    path = f"{server.url}/admin/responses/{made[0]['id']}/reasoning"
    assert httpx.post(path, headers=raw, json={"reason": "a complaint"}).status_code == 404


def test_deleting_a_conversation_ends_what_runs_in_it():
    engine = ScriptedEngine(lambda text, seed: ("t" * 4000, "done"), portions=(1,), pace=0.01)
    with Served(engine) as served, httpx.Client(base_url=served.url, headers=AUTH, timeout=20) as client:
        talk = client.post("/v1/conversations", json={}).json()["id"]
        body = {"input": "x", "conversation": talk, "background": True, "reasoning": {"effort": "max"}}
        made = client.post("/v1/responses", json=body).json()
        assert client.delete(f"/v1/conversations/{talk}").status_code == 200
        assert engine.num_in_flight == 0 and rows_with(served, talk, made["id"]) == []


def test_deleting_a_response_takes_its_turn_out_of_the_conversation(server, http):
    talk = http.post("/v1/conversations", json={"items": [{"role": "user", "content": "before"}]}).json()["id"]
    first, second = (
        http.post("/v1/responses", json={"input": f"q {n}", "conversation": talk}).json() for n in range(2)
    )
    assert http.delete(f"/v1/responses/{first['id']}").status_code == 200
    assert rows_with(server, first["id"], *(item["id"] for item in first["output"])) == []
    items = http.get(f"/v1/conversations/{talk}/items?order=asc").json()["data"]
    texts = [item["content"][0]["text"] for item in items if item["type"] == "message"]
    assert texts == ["before", "q 1", second["output"][-1]["content"][0]["text"]]


# --- expired reasoning -----------------------------------------------------------------------------------------------


def test_expired_reasoning_in_a_tool_round_trip_is_said_to_be_expired(http, monkeypatch):
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    made = http.post("/v1/responses", json={"input": "weather?", "tools": tools}).json()
    thought, call = made["output"][0], made["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    by_id = {"input": [output], "previous_response_id": made["id"], "tools": tools}
    by_items = {"input": [{"role": "user", "content": "weather?"}, thought, call, output], "tools": tools}
    for body in (by_id, by_items):
        assert http.post("/v1/responses", json=body).status_code == 200
    real = time.time
    monkeypatch.setattr("ponder.serve.vault.time.time", lambda: real() + 31 * 86_400)
    for body in (by_id, by_items):
        answer = http.post("/v1/responses", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "encrypted_content_expired")
        assert "expired" in error["message"] and "unchanged" not in error["message"]
    monkeypatch.undo()
    assert http.post("/v1/responses", json=by_id).status_code == 200  # the clock was wrong: nothing is lost


# --- summaries -------------------------------------------------------------------------------------------------------

SOURCE = (
    "First I add twelve and thirty which gives forty two and then I divide the whole result by seven because there are "
    "seven boxes on the table in front of the window."
)
WORDS = SOURCE.split()


def with_filler(every):
    return " ".join(word + (" indeed" if (i + 1) % every == 0 else "") for i, word in enumerate(WORDS))


DISGUISED = {
    "as it is": SOURCE, "upper case": SOURCE.upper(), "part": SOURCE[20:90],
    **{f"a word after every {n}": with_filler(n) for n in (5, 4, 3, 2, 1)},
    "zero width": "\u200b".join(SOURCE), "soft hyphens": "\u00ad".join(SOURCE), "joiners": "\u2060".join(WORDS),
    "dots": ".".join(SOURCE[:80]), "dashes": "-".join(WORDS), "underscores": "_".join(WORDS),
    "spaced": " ".join(SOURCE[:80]),
    "homoglyphs": SOURCE.replace("a", "а").replace("e", "е").replace("o", "ο").replace("i", "і"),
    "full width": "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in SOURCE),
    "mathematical": "".join(chr(ord(char) - 97 + 0x1D41A) if "a" <= char <= "z" else char for char in SOURCE),
    "accents": "".join(char + "\u0301" for char in SOURCE), "reversed": SOURCE[::-1],
    "words reversed": " ".join(WORDS[::-1]), "base64": base64.b64encode(SOURCE.encode()).decode(),
    "hexadecimal": SOURCE.encode().hex(), "words left out": " ".join(w for i, w in enumerate(WORDS) if i % 4),
}  # fmt: skip


@pytest.mark.parametrize("text", DISGUISED.values(), ids=DISGUISED.keys())
def test_a_quotation_is_found_in_its_disguises(text):
    assert leaks(text, [SOURCE]) and leaks(f"**A title**\n\nThe model says: {text}", ["nothing", SOURCE])


@pytest.mark.parametrize("text", [
    "The model adds two numbers and divides the sum by a third one.",
    "It works out how many objects are in every box, then checks the total once more before it goes on.",
    "**Setting up**\n\nThe notes name what is known and what is asked, and choose an order for the steps.",
    "It compares the two results and finds a mistake in the second one, which it then mends.",
])  # fmt: skip
def test_a_summary_in_other_words_is_released(text):
    assert not leaks(text, [SOURCE, SOURCE * 30])


def test_the_search_for_quotations_is_bounded():
    source = "to be or so it of is an in at a by we he me on " * 4000
    with takes_at_most(10):
        assert not leaks("so it is of a to in an at by on " * 8, [source])


# --- errors that name the problem ------------------------------------------------------------------------------------

IMAGE = "data:image/png;base64,AAAA"
NAMED = [
    ("responses", {"tools": [{"type": "web_search"}]}, "web_search", "tools[0].type"),
    ("responses", {"tools": [{"type": "function", "name": "f"}, {"type": "code_interpreter", "container": {}}]},
     "code_interpreter", "tools[1].type"),
    ("responses", {"tool_choice": {"type": "file_search"}}, "file_search", "tool_choice.type"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}]},
     "mages are not supported", "input[0].content[0]"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"},
                                                            {"type": "input_file", "file_id": "f"}]}]},
     "iles are not supported", "input[0].content[1]"),
    ("responses", {"input": [{"type": "computer_call", "id": "x"}]}, "computer_call", "input[0].type"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text", None),
    ("responses", {"text": {"format": {"type": "grammar"}}}, "text.format", None),
    ("chat", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "custom", "tools[0].type"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]},
     "mages are not supported", "messages[0].content[0]"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
     "udio is not supported", "messages[0].content[0]"),
]  # fmt: skip


@pytest.mark.parametrize("api, body, said, param", NAMED)
def test_an_error_names_the_real_problem(http, api, body, said, param):
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    usual = {"input": "x"} if api == "responses" else chat
    path = "/v1/responses" if api == "responses" else "/v1/chat/completions"
    answer = http.post(path, json={**usual, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400 and said in error["message"] + str(error["param"]), error
    assert param is None or error["param"] == param


# --- what is charged -------------------------------------------------------------------------------------------------


def test_what_is_refused_after_it_made_work_is_charged_and_counting_too():
    def left(answer):
        return int(answer.headers["x-ratelimit-remaining-tokens"])

    with Served(ScriptedEngine(script, window=4000), tokens_per_minute=100_000) as served:  # noqa: SIM117
        with httpx.Client(base_url=served.url, headers=AUTH, timeout=20) as client:
            before = left(client.get("/v1/models"))
            counted = client.post("/v1/responses/input_tokens", json={"input": "x" * 3000})
            assert counted.json()["input_tokens"] > 3000 and before - left(counted) > 2500
            before = left(client.get("/v1/models"))
            refused = client.post("/v1/responses", json={"input": "x" * 40_000})
            assert refused.json()["error"]["code"] == "context_length_exceeded" and before - left(refused) > 9000
            form = {"type": "json_schema", "name": "n", "schema": {"type": "no" * 20_000}}
            bad = {"input": "x", "text": {"format": form}}
            before = left(client.get("/v1/models"))
            assert client.post("/v1/responses", json=bad).status_code == 400
            assert before - left(client.get("/v1/models")) > 9000
            for _ in range(20):
                answer = client.post("/v1/responses/input_tokens", json={"input": "x" * 40_000})
            assert answer.status_code == 429
