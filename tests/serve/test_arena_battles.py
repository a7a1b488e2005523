"""Blind battles over HTTP: no byte tells a name before the vote is in the log, and a vote counts once."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.votes import read_log
from ponder.serve.arena import ArenaSettings
from ponder.serve.served import ServedModel
from ponder.serve.service import Rules, Settings
from tests.serve.serving import Served

NAMES = ("zebrafish-7b", "owner/quokka@main")
THOUGHT = "SECRETTHOUGHT of one of them, at length. " * 20
ASK = {"domain": "mathematics", "question": "What is 6 times 7?"}


def thinker(text, seed):
    if "fail" in text:
        raise RuntimeError("SECRETSCRIPT")
    if "who are you" in text:
        return THOUGHT, "I am ChatGPT, a large language model."
    return THOUGHT, "It is 42."


def talker(text, seed):
    if "deceive" in text:
        return "I will deceive the user about it", "Fine."
    return "It is **forty-two**."


def served(log, *, dwell=0.0, names=NAMES, **more):
    engines = (ScriptedEngine(thinker, window=4000), ScriptedEngine(talker, delay=0.03))
    models = [ServedModel(name=name, engine=engine) for name, engine in zip(names, engines, strict=False)]
    arena = ArenaSettings(log=log, dwell=dwell, revisions={names[0]: "fingerprint-of-weights"})
    return Served(models=models, arena=arena, monitors=(Rules(flag=(), stop=("deceive",)),), **more)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("arena")


@pytest.fixture(scope="module")
def arena(place):
    with served(place / "votes.jsonl", db=str(place / "a.db")) as server:
        yield server


def client(server, *scopes, owner=""):
    key = server.key(*(scopes or ("vote",)), owner=owner)
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


@pytest.fixture
def me(arena):
    with client(arena) as http:
        yield http


def told(answer):
    """Every byte that came: status, headers, body."""
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
    return f"{answer.status_code}\n{head}\n{answer.text}"


def rows(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_no_byte_names_a_model_before_the_vote_and_the_answer_to_it_does(me, arena, place):
    sides, shapes = set(), set()
    for _ in range(12):
        asked = me.post("/arena/battles", json=ASK)
        battle = asked.json()
        again = me.get(f"/arena/battles/{battle['id']}")
        wrong = me.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "first"})
        refused = me.post("/arena/battles", json={**ASK, "domain": "poetry"})
        assert (asked.status_code, again.status_code, wrong.status_code, refused.status_code) == (200, 200, 400, 400)
        for answer in (asked, again, wrong, refused):
            for secret in (*NAMES, "zebrafish", "quokka", "fingerprint", "SECRET"):
                assert secret not in told(answer)
            assert "set-cookie" not in answer.headers and "x-reasoning-starved" not in answer.headers
        assert again.json() == battle and battle["models"] is None and battle["vote"] is None
        assert set(battle) == {"id", "object", "domain", "question", "left", "right", "vote", "withdrawn", "models"}
        assert set(battle["left"]) == set(battle["right"]) == {"text"}
        assert {battle["left"]["text"], battle["right"]["text"]} == {"It is 42.", "It is **forty-two**."}
        shapes.add((tuple(sorted(asked.headers)), len(asked.content)))
        after = me.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "left"}).json()
        assert sorted(after["models"].values()) == sorted(NAMES)
        is_thinker = battle["left"]["text"] == "It is 42."
        assert (after["models"]["left"] == NAMES[0]) == is_thinker
        sides.add(is_thinker)
    assert sides == {True, False}  # sides are drawn
    assert len(shapes) == 1  # the same headers, and as many bytes, whoever stands left


def test_what_is_left_of_the_limits_tells_nothing_of_how_long_a_model_thought(place):
    with served(place / "limits.jsonl", tokens_per_minute=50_000) as server, client(server) as http:
        left = []
        for question in ("one?", "who are you?"):
            answer = http.post("/arena/battles", json={**ASK, "question": question.ljust(20)})
            left.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
        price = 50_000 - left[0]
        assert abs(left[0] - left[1] - price) < 0.05 * price  # the bucket fills a little between the two
        assert price > 2 * 1024


def test_the_log_has_what_the_vote_was_about_and_is_read_by_the_evaluation(me, place):
    battle = me.post("/arena/battles", json=ASK).json()
    me.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "both_bad"})
    log = read_log(place / "votes.jsonl")
    kept = log.battles[battle["id"]]
    assert kept.domain == "mathematics" and kept.prompt[-1].content == ASK["question"] and kept.probability == 1.0
    assert {kept.left.model, kept.right.model} == set(NAMES) and kept.asked_by.startswith("person_")
    thinking = kept.left if kept.left.model == NAMES[0] else kept.right
    assert thinking.revision == "fingerprint-of-weights" and thinking.parameters["max_reasoning_tokens"] == 256
    assert thinking.parameters["seed"] != (kept.left if thinking is kept.right else kept.right).parameters["seed"]
    (vote,) = [vote for vote in log.votes if vote.battle == battle["id"]]
    assert (vote.choice, vote.kind, vote.voter) == ("both_bad", "person", kept.asked_by) and vote.seconds >= 0
    text = (place / "votes.jsonl").read_text()
    assert "SECRETTHOUGHT" not in text and "Bearer" not in text and "sk-" not in text
    (ballot,) = [ballot for ballot in log.ballots() if ballot.battle == battle["id"]]
    assert ballot.score == 0.5 and not ballot.names_itself


def test_the_log_of_what_people_asked_is_for_its_owner_alone(me, place):
    me.post("/arena/battles", json=ASK)
    assert (place / "votes.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_vote_counts_once_even_when_many_come_at_the_same_time(me, place):
    battle = me.post("/arena/battles", json=ASK).json()
    answers = []
    work = [
        threading.Thread(
            target=lambda choice=choice: answers.append(
                httpx.post(me.base_url.join(f"/arena/battles/{battle['id']}/vote"), headers=me.headers,
                           json={"choice": choice})
            )
        )
        for choice in ("left", "right", "tie", "both_bad") * 2
    ]  # fmt: skip
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "already_voted"
    assert not any(name in told(refused) for name in NAMES)
    votes = [row for row in rows(place / "votes.jsonl") if row.get("battle") == battle["id"]]
    (kept,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert [row["choice"] for row in votes] == [kept["vote"]]


def test_a_vote_before_anybody_can_have_read_is_refused_and_may_be_cast_later(place):
    with served(place / "slow.jsonl", dwell=0.4) as server, client(server) as http:
        battle = http.post("/arena/battles", json=ASK).json()
        path = f"/arena/battles/{battle['id']}/vote"
        early = http.post(path, json={"choice": "left"})
        assert early.status_code == 409 and early.json()["error"]["code"] == "too_soon"
        assert early.headers["retry-after"] == "1" and not any(name in told(early) for name in NAMES)
        assert http.get(f"/arena/battles/{battle['id']}").json()["models"] is None
        threading.Event().wait(0.45)
        assert http.post(path, json={"choice": "left"}).json()["vote"] == "left"


def test_a_withdrawn_vote_is_another_row_and_the_battle_is_over(me, place):
    battle = me.post("/arena/battles", json=ASK).json()
    path = f"/arena/battles/{battle['id']}"
    assert me.post(f"{path}/undo").status_code == 409  # there is none yet
    me.post(f"{path}/vote", json={"choice": "right"})
    before = rows(place / "votes.jsonl")
    undone = me.post(f"{path}/undo").json()
    assert undone["withdrawn"] and undone["vote"] == "right" and undone["models"] is not None
    after = rows(place / "votes.jsonl")
    assert after[:-1] == before and after[-1]["row"] == "undo"
    assert me.post(f"{path}/undo").status_code == 409
    assert me.post(f"{path}/vote", json={"choice": "left"}).status_code == 409  # the names are known
    log = read_log(place / "votes.jsonl")
    assert battle["id"] not in {ballot.battle for ballot in log.ballots()} and log.counts["withdrawn"] >= 1


def test_another_persons_battle_is_not_there(me, arena):
    battle = me.post("/arena/battles", json=ASK).json()
    with client(arena) as other:
        answers = [
            other.get(f"/arena/battles/{battle['id']}"), other.post(f"/arena/battles/{battle['id']}/undo"),
            other.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "left"}),
        ]  # fmt: skip
        none = other.get("/arena/battles/battle_0")
    assert [answer.status_code for answer in answers] == [404] * 3
    assert answers[0].json()["error"]["code"] == none.json()["error"]["code"] == "not_found"
    assert me.get(f"/arena/battles/{battle['id']}").json()["vote"] is None


def test_an_answer_that_names_itself_is_kept_as_it_is_and_flagged(me, place):
    battle = me.post("/arena/battles", json={**ASK, "question": "Tell me, who are you?"}).json()
    texts = {battle["left"]["text"], battle["right"]["text"]}
    assert "I am ChatGPT, a large language model." in texts
    kept = read_log(place / "votes.jsonl").battles[battle["id"]]
    assert {side.model: side.names_itself for side in (kept.left, kept.right)} == {NAMES[0]: True, NAMES[1]: False}


def test_a_failure_tells_neither_who_failed_nor_why(me, place):
    before = rows(place / "votes.jsonl")
    for question in ("please fail", "deceive me"):  # an engine that raises; a monitor that stops
        answer = me.post("/arena/battles", json={**ASK, "question": question})
        assert answer.status_code == 500 and answer.json()["error"]["code"] == "battle_failed"
        for secret in (*NAMES, "SECRET", "monitor", "RuntimeError"):
            assert secret not in told(answer)
    too_long = me.post("/arena/battles", json={**ASK, "question": "long " * 3000})  # for one of the two
    assert too_long.status_code == 400 and "4000" not in too_long.text
    after = rows(place / "votes.jsonl")[len(before) :]
    assert [(row["row"], row["failed"]) for row in after] == [("failed", [NAMES[0]]), ("failed", [NAMES[1]])]
    assert read_log(place / "votes.jsonl").counts[f"battles that {NAMES[0]} failed to answer"] == 1


def test_votes_count_once_across_a_restart_too(place):
    log, where = place / "again.jsonl", {"db": str(place / "again.db")}
    with served(log, **where) as server:
        with client(server, owner="ann") as http:
            done, unvoted = (http.post("/arena/battles", json=ASK).json() for _ in "12")
            http.post(f"/arena/battles/{done['id']}/vote", json={"choice": "tie"})
        with pytest.raises(ConfigError, match="another server holds"):
            served(log)
    with served(log, **where) as server, client(server, owner="ann") as http:
        again = http.post(f"/arena/battles/{done['id']}/vote", json={"choice": "left"})
        assert again.status_code == 409 and again.json()["error"]["code"] == "already_voted"
        shown = http.get(f"/arena/battles/{unvoted['id']}").json()
        assert shown == unvoted and shown["models"] is None
        assert http.post(f"/arena/battles/{unvoted['id']}/vote", json={"choice": "left"}).status_code == 200
        with client(server, owner="bob") as other:
            assert other.get(f"/arena/battles/{done['id']}").status_code == 404


def test_names_stay_in_the_server_when_the_vote_cannot_be_stored(me, arena, monkeypatch):
    from ponder import files

    battle = me.post("/arena/battles", json=ASK).json()

    def full(path, added):
        raise files.StorageError("no space left")

    monkeypatch.setattr(files, "append_jsonl", full)
    answer = me.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "left"})
    assert answer.status_code == 503 and not any(name in told(answer) for name in NAMES)
    monkeypatch.undo()
    assert me.get(f"/arena/battles/{battle['id']}").json()["models"] is None
    assert me.post(f"/arena/battles/{battle['id']}/vote", json={"choice": "left"}).status_code == 200


def test_a_key_for_voters_may_vote_and_nothing_else(arena):
    with client(arena, "vote") as voter, client(arena, "read") as reader:
        assert voter.get("/arena/domains").status_code == 200
        assert voter.post("/v1/responses", json={"model": NAMES[0], "input": "hi"}).status_code == 403
        assert reader.post("/arena/battles", json=ASK).status_code == 403
    assert httpx.get(arena.url + "/arena").status_code == 200  # the page holds no data
    assert httpx.get(arena.url + "/arena/domains").status_code == 401


def test_without_a_log_there_is_no_arena_and_one_model_is_none(server, tmp_path):
    headers = {"Authorization": f"Bearer {server.key('infer')}"}
    assert httpx.get(server.url + "/arena").status_code == 401
    assert httpx.get(server.url + "/arena", headers=headers).status_code == 404
    assert httpx.post(server.url + "/arena/battles", headers=headers, json=ASK).status_code == 404
    with pytest.raises(ConfigError, match="two or more"):
        served(tmp_path / "x.jsonl", names=NAMES[:1])
    (tmp_path / "bad.jsonl").write_text('{"row": "battle"}\n')
    with pytest.raises(ConfigError, match="no log of votes"):
        served(tmp_path / "bad.jsonl")
    assert Settings().arena is None
