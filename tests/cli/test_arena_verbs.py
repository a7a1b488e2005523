"""`ponder arena` as a user types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.files import lock

STRENGTHS = ["--strength", "o=1100", "--strength", "m=1000"]


def arena(*arguments):
    result = CliRunner().invoke(app, ["arena", *map(str, arguments)])
    return result.exit_code, result.stdout, result.exception


def test_a_log_is_made_rated_drawn_and_exported(tmp_path):
    log = tmp_path / "votes.jsonl"
    assert arena("synthetic", log, *STRENGTHS, "--battles", 200)[0] == 0
    before = log.read_text()
    code, out, _ = arena(log, "--plot", tmp_path / "r.png")  # no verb: rate it
    assert code == 0 and "votes of a synthetic voter" in out and "How often o is preferred to m" in out
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    assert (tmp_path / "r.png").stat().st_size > 5000 and log.read_text() == before
    found = json.loads(arena("rate", log, "--json")[1])
    assert found["kind"] == "synthetic" and found["num_votes"] == 200
    assert [row["model"] for row in found["standings"]] == ["o", "m"] and found["duels"][0]["is_marked"]
    code, out, _ = arena("export", log, tmp_path / "c.jsonl")
    assert code == 0 and len((tmp_path / "c.jsonl").read_text().splitlines()) == 200
    assert json.loads(arena("synthetic", log, *STRENGTHS, "--json")[1])["votes"] == 0  # each has voted


@pytest.mark.slow  # a model is loaded
def test_a_model_votes_in_both_orders_and_a_mute_one_decides_nothing(tmp_path, tiny):
    log = tmp_path / "votes.jsonl"
    arena("synthetic", log, *STRENGTHS, "--battles", 1)
    code, out, _ = arena("judge", log, "--model", tiny, "--name", "mute", "--max-reasoning-tokens", 1,
                         "--max-answer-tokens", 1, "--out", tmp_path / "judge.jsonl", "--json")  # fmt: skip
    assert code == 0 and json.loads(out.splitlines()[-1])["votes"] == 1
    code, out, _ = arena("rate", log, tmp_path / "judge.jsonl", "--voters", "judge")
    assert code == 0 and "1 undecided, in no number" in out and "no ratings" in out


def test_a_synthetic_voter_of_any_strength_votes(tmp_path):
    log = tmp_path / "votes.jsonl"
    words = ["--strength", "o=1e6", "--strength", "m=0", "--battles", 20, "--tie-share", 0]
    assert arena("synthetic", log, *words)[0] == 0
    [first, last] = json.loads(arena("rate", log, "--json")[1])["standings"]
    assert (first["model"], first["wins"], last["wins"]) == ("o", 1.0, 0.0)


def test_mistakes_are_told_with_what_mends_them(tmp_path):
    log = tmp_path / "votes.jsonl"
    assert "--arena" in str(arena(log)[2])
    assert "--battles" in str(arena("synthetic", log, *STRENGTHS)[2])
    assert "MODEL=POINTS" in str(arena("synthetic", log, "--strength", "o", "--battles", 1)[2])
    for strength in ("o=nan", "o=-inf"):
        words = ["--strength", "m=1000", "--strength", strength, "--battles", 1]
        assert "finite" in str(arena("synthetic", log, *words)[2])
    arena("synthetic", log, *STRENGTHS, "--battles", 20)
    assert "people, judge, synthetic" in str(arena(log, "--voters", "dogs")[2])
    assert "half or davidson" in str(arena(log, "--ties", "none")[2])
    assert "self-naming" in str(arena(log, "--without", "self")[2])
    assert "no vote of people" in str(arena("export", log, tmp_path / "c.jsonl", "--voters", "people")[2])
    with lock(log.with_name(log.name + ".lock"), log):  # as a server that collects votes holds it
        assert "a server collects votes" in str(arena("synthetic", log, *STRENGTHS, "--battles", 1)[2])
        assert arena(log)[0] == 0  # reading is free


def test_an_arena_of_one_model_is_refused_before_anything_is_loaded(tmp_path):
    result = CliRunner().invoke(app, ["serve", "--model", "nano", "--arena", str(tmp_path / "v.jsonl")])
    assert result.exit_code != 0 and "two or more" in str(result.exception)
