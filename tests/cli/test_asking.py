"""The verbs that answer: ask, play, keys; what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cli.typed import ROOT, SHORT, fails_with, ponder

pytestmark = pytest.mark.slow


def test_help_names_every_verb_with_a_sentence(tmp_path):
    done = ponder("--help", cwd=tmp_path)
    for verb in ("ask", "play", "sft", "rl", "doctor", "eval", "scale", "report", "compare", "grade"):
        assert verb in done.stdout


def test_ask_prints_the_answer_and_hides_the_reasoning_unless_asked(tiny, tmp_path):
    plain = ponder("ask", "hi", "--model", tiny, "--samples", 3, "--json", *SHORT, cwd=tmp_path)
    result = json.loads(plain.stdout)
    assert set(result) == {"answer", "mode", "stopped_early", "usage", "seconds"}
    assert set(result["usage"]) == {
        "prompt_tokens", "reasoning_tokens", "completion_tokens", "samples", "scorer_tokens", "flops"
    }  # fmt: skip
    assert result["mode"] == "consensus" and not result["stopped_early"] and result["usage"]["flops"] > 0
    assert result["usage"]["samples"] == 3
    shown = ponder("ask", "hi", "--model", tiny, "--samples", 3, "--json", "--show-reasoning", *SHORT, cwd=tmp_path)
    assert json.loads(shown.stdout)["answer"] == result["answer"]
    assert "reasoning" in json.loads(shown.stdout)


def test_ask_thinks_in_any_mode_within_its_budget_and_says_what_is_missing(tiny, tmp_path):
    for mode in ("adaptive", "search", "revise", "deliberate"):
        words = ["--mode", mode, "--samples", 4, "--budget-tokens", 60]
        done = ponder("ask", "hi", "--model", tiny, *words, "--json", *SHORT, cwd=tmp_path)
        result = json.loads(done.stdout)
        assert result["mode"] == mode and 0 < result["usage"]["completion_tokens"] <= 60
    fails_with(ponder("ask", "hi", "--model", tiny, "--mode", "serch", cwd=tmp_path), "search")
    done = ponder("ask", "hi", "--model", tiny, "--option", "m=2", cwd=tmp_path)
    fails_with(done, "--option is for the modes deliberate")
    words = ["--mode", "deliberate", "--option", "choise=vote"]
    fails_with(ponder("ask", "hi", "--model", tiny, *words, cwd=tmp_path), "choise", "choice")
    fails_with(ponder("ask", "hi", "--model", tiny, "--mode", "controller", cwd=tmp_path), "ponder controller BANK")
    fails_with(ponder("ask", "hi", "--model", tiny, "--mode", "weighted", "--scorer", "no", cwd=tmp_path), "no")


def test_ctrl_c_gives_the_best_answer_so_far(tiny, monkeypatch):
    from typer.testing import CliRunner

    from ponder.cli import app
    from ponder.live import Leader

    told = Leader.__call__

    def interrupted(self, solution):
        first, _ = self.best is None, told(self, solution)
        if first:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Leader, "__call__", interrupted)
    words = ["ask", "hi", "--model", str(tiny), "--mode", "revise", "--samples", "100000", "--json", *SHORT]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["stopped_early"] and result["usage"]["samples"] >= 1


def test_a_question_may_begin_with_a_minus_sign(tiny, tmp_path):
    for words in (["-5+3"], ["-5+3", "--temperature", "0"], ["--temperature", "0", "--", "-5+3"]):
        done = ponder("ask", "--model", tiny, *SHORT, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_play_asks_a_person_through_the_same_verifier():
    done = subprocess.run(
        [sys.executable, "-m", "ponder.cli", "play", "--task", "arithmetic:level=1", "--limit", "2"], text=True,
        input="no idea\n0\n", capture_output=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of 2 correct" in done.stdout
    assert "What is" in done.stdout


def test_a_key_is_made_for_use_and_says_where_it_is(tmp_path):
    made = ponder("keys", "create", cwd=tmp_path)
    assert made.stdout.startswith("sk-ponder-") and len(made.stdout.split()) == 1
    assert str(tmp_path / "ponder.db") in made.stderr and "infer" in made.stderr
    told = json.loads(ponder("keys", "create", "--scope", "read", "--db", "other.db", "--json", cwd=tmp_path).stdout)
    assert told["scopes"] == ["read"] and told["db"] == str(tmp_path / "other.db")
