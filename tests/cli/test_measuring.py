"""The verbs that measure: eval, compare, controller, grade."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ponder.evals.bank import Bank
from tests.cli.typed import ROOT, SHORT, fails_with, ponder

pytestmark = pytest.mark.slow


def test_a_controller_of_an_exam_is_fitted_compared_and_asked(tiny, tmp_path):
    rows = [{"id": str(i), "problem": f"What is {i}+1?", "answer": str(i + 1)} for i in range(12)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ponder("eval", "--task", "file:p.jsonl", "--model", tiny, "--out", "out", "--samples", 8, *SHORT, cwd=tmp_path)
    result = json.loads(ponder("controller", "out", "--out", "c.json", "--json", cwd=tmp_path).stdout)
    assert result["num_problems"] == 12 and result["oracle"] >= result["fixed"] - 1e-9
    words = ["--mode", "controller", "--controller", "c.json", "--json"]
    asked = json.loads(ponder("ask", "hi", "--model", tiny, *words, *SHORT, cwd=tmp_path).stdout)
    assert asked["usage"]["samples"] >= 4
    fails_with(ponder("controller", "empty", "--out", "c.json", cwd=tmp_path), "empty")


def test_eval_of_a_file_writes_the_promised_result_and_adds_samples_when_run_again(tiny, tmp_path):
    rows = [{"id": str(i), "problem": f"What is {i}+1?", "answer": str(i + 1)} for i in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", "--task", "file:p.jsonl", "--model", tiny, "--out", "out", "--json", *SHORT]
    first = ponder(*words, "--samples", 2, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result == json.loads((tmp_path / "out" / "result.json").read_text())
    assert {"task", "model", "num_problems", "num_samples", "metrics", "no_answer_rate", "truncated_rate", "tokens",
            "flops", "seconds"} <= set(result)  # fmt: skip
    assert set(result["metrics"]["pass@1"]) >= {"value", "low", "high"}
    before = Bank.read(tmp_path / "out").rows("0")
    second = ponder(*words, "--samples", 4, cwd=tmp_path)
    assert json.loads(second.stdout)["num_samples"] == 4
    assert Bank.read(tmp_path / "out").rows("0")[:2] == before
    shown = ponder("scale", "out", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "consensus" in shown.stdout and "rerank@4: no scores yet" in shown.stdout
    spent = json.loads(ponder("scale", "out", "--json", cwd=tmp_path).stdout)["curves"]
    assert spent["trio"]["pass@1"] == json.loads(second.stdout)["trio"]["pass@1"] and spent["unit"] == "flops"
    assert ponder("report", "out", cwd=tmp_path).returncode == 0
    assert "<script" not in (tmp_path / "out" / "report.html").read_text()


def test_a_benchmark_is_sat_with_two_promptings_and_compared(tiny, tmp_path):
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    rows = [
        {"id": f"g{i}", "problem": f"What is {i}+1?", "answer": str(i + 1), "subject": f"s{i % 2}"} for i in range(4)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"PONDER_DATA": str(tmp_path / "data")}
    words = ["eval", "--task", "gsm8k", "--model", tiny, "--samples", 2, *SHORT]
    plain = ponder(*words, "--out", "a", cwd=tmp_path, **data)
    assert plain.returncode == 0, plain.stderr
    assert "By subject" in plain.stdout
    assert "contamination: unknown" in plain.stdout
    asked = ponder(*words, "--out", "b", "--prompting", "direct", "--json", cwd=tmp_path, **data)
    assert json.loads(asked.stdout)["prompting"] == "direct"
    assert json.loads(asked.stdout)["data"][0]["file"] == "gsm8k/test.jsonl"
    shown = ponder("compare", "a", "b", cwd=tmp_path).stdout
    assert "direct" in shown
    assert "…" not in shown
    compared = json.loads(ponder("compare", "a", "b", "--json", cwd=tmp_path).stdout)
    assert [row["prompting"] for row in compared["rows"]] == ["none", "direct"]
    assert ponder("compare", "a", "b", "--markdown", cwd=tmp_path).stdout.startswith("| model | prompting |")
    fails_with(ponder(*words, "--out", "a", "--prompting", "direct", cwd=tmp_path, **data), "prompting is 'none'")
    fails_with(ponder(*words, "--out", "c", "--prompting", "directt", cwd=tmp_path, **data), "did you mean 'direct'")
    fails_with(ponder(*words, "--out", "c", cwd=tmp_path, PONDER_DATA=""), "PONDER_DATA is not set", "gsm8k")


def test_grade_answers_one_pair_or_a_file_and_a_broken_line_stops_nothing(tmp_path):
    one = ponder("grade", "--target", "1/2", "--answer", "0.5", "--json", cwd=tmp_path)
    assert json.loads(one.stdout)["verdict"] == "correct"
    (tmp_path / "pairs.jsonl").write_text(
        '{"target": "4", "answer": "It is 4."}\nbroken\n{"target": "4", "answer": "\\\\boxed{9^{9^{9^{9}}}}"}\n'
        '{"target": "4", "answer": "5"}\n'
    )
    begun = time.monotonic()
    many = ponder("grade", "--file", "pairs.jsonl", cwd=tmp_path)
    rows = [json.loads(line) for line in many.stdout.splitlines()]
    assert [rows[0]["verdict"], rows[3]["verdict"]] == ["correct", "wrong"]
    assert rows[2]["verdict"] != "correct"
    assert time.monotonic() - begun < 30


def test_verdicts_of_two_verifiers_never_lie_in_one_bank(tiny, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n')
    words = ["eval", "--task", "p.jsonl", "--model", tiny, "--max-reasoning-tokens", "2", "--max-answer-tokens", "2"]
    exact = ponder(*words, "--samples", "1", "--verifier", "exact", "--out", "o", cwd=tmp_path)
    assert exact.returncode == 0, exact.stderr
    more = ponder(*words, "--samples", "2", "--verifier", "math", "--out", "o", cwd=tmp_path)
    fails_with(more, "verifier=exact', not 'file:p.jsonl,verifier=math'")


def test_ctrl_c_in_an_exam_keeps_what_is_done(tiny, tmp_path):
    words = ["eval", "--task", "arithmetic", "--model", str(tiny), "--out", "o", "--samples", "64",
             "--max-reasoning-tokens", "200"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ponder.cli", *words], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    samples = tmp_path / "o" / "samples"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not list(samples.glob("*.parquet")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "what was done is kept" in errors
    assert json.loads((tmp_path / "o" / "result.json").read_text())["num_problems"] >= 1
