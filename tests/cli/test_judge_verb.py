"""`ponder prefer --judge` as a user types it: an exam, a file of comparisons that goes on, pairs of a bank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.engine.base import ScriptedEngine
from tests.evals.test_overoptimisation import ANSWERS, fill


def prefer(*arguments):
    result = CliRunner().invoke(app, ["prefer", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr, result.exception


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The judge prefers what is good, and reads nothing of the third question; its calls."""
    monkeypatch.chdir(tmp_path)  # looks at report splits are written down under runs/

    def respond(text, seed):
        if "question 3" in text:
            return "I cannot say."
        return "A" if text.find("good") < text.find("poor") else "B"

    engine = ScriptedEngine(respond)
    monkeypatch.setattr("ponder.cli.loading.open_engine", lambda *_, **__: engine)
    return engine.calls


def a_file(folder: Path, count: int = 8) -> Path:
    rows = [
        {"id": i, "prompt": f"question {i}", "a": f"good {i}", "b": f"poor {i}", "preferred": "b" if i == 1 else "a"}
        for i in range(count)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "pairs.jsonl"


def test_a_judge_is_measured_and_its_comparisons_are_kept_and_gone_on_with(calls, tmp_path):
    pairs, votes = a_file(tmp_path), tmp_path / "votes.jsonl"
    common = ("--judge", "j", "--task", f"file:{pairs}", "--split", "all", "--votes", votes)
    code, out, err, _ = prefer(*common, "--limit", 4)
    assert code == 0 and len(calls) == 8 and "the order of the answers decided 0.0%" in err
    first = len(votes.read_text().splitlines())
    code, out, err, _ = prefer(*common, "--json")
    told = json.loads(out)
    assert code == 0 and told["unread"] == 1 and told["comparisons"] == 7
    assert told["rows"][0]["name"] == "judge j" and told["rows"][0]["accuracy"]["value"] == pytest.approx(6 / 7)
    assert len(calls) == 8 + 2 * (8 - first)  # what stands in the file is not asked again
    assert len(votes.read_text().splitlines()) == 7 and "1 of 8 pairs are undecided" in err
    assert "holds comparisons of judge j" in str(prefer("--judge", "other", *common[2:])[3])
    pairs.write_text(pairs.read_text().replace("good 2", "better 2"))
    assert "holds another pair under the id" in str(prefer(*common)[3])


def test_pairs_of_a_bank_become_comparisons(calls, tmp_path):
    fill(tmp_path / "bank", ANSWERS)
    code, out, err, _ = prefer("--judge", "j", "--bank", tmp_path / "bank", "--votes", tmp_path / "v.jsonl",
                               "--limit", 5)  # fmt: skip
    assert code == 0 and out == f"5 comparisons of judge j are in {tmp_path / 'v.jsonl'}\n" and len(calls) == 10
    assert "100.0%" in err  # neither good nor poor in any: it says B whatever the order, and each is a tie


def test_options_that_do_not_go_together_are_told(tmp_path):
    assert "--votes is of --judge, which is not given" in str(prefer("--votes", tmp_path / "v.jsonl")[3])
    assert "--max-answer-tokens is of --judge" in str(prefer("--max-answer-tokens", 16)[3])
    assert "one of them at a time" in str(prefer(tmp_path, "--judge", "j")[3])
    assert "(--votes)" in str(prefer("--judge", "j", "--bank", tmp_path)[3])
    out = ("--out", tmp_path / "numbers.json", "--votes", tmp_path / "v.jsonl")
    assert "--out is for the numbers" in str(prefer("--judge", "j", "--bank", tmp_path, *out)[3])
