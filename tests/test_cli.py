"""The verbs, as a user types them: what they print, and one clear error for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ponder.evals.bank import Bank
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from tests.helpers import tiny_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SHORT = ["--max-reasoning-tokens", "8", "--max-answer-tokens", "4"]


def ponder(*words: object, cwd: Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ponder.cli", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def fails_with(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_model(tiny_model(window=512), folder)
    ByteTokenizer().save(str(folder))
    return folder


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
    fails_with(ponder("ask", "hi", "--model", tiny, "--option", "m=2", cwd=tmp_path), "--option is for mode deliberate")
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


def test_rl_then_doctor_scale_report_and_ask_on_the_run(tiny, tmp_path):
    (tmp_path / "r.toml").write_text(
        f'out = "run"\nmodel = "{tiny}"\ntask = "arithmetic:level=1"\nnum_steps = 2\npool_size = 8\n'
        "problems_per_step = 2\ngroup_size = 4\nmax_reasoning_tokens = 8\nmax_answer_tokens = 4\nnum_workers = 1\n"
    )
    plan = ponder("rl", "r.toml", "--dry-run", cwd=tmp_path)
    assert "estimated" in plan.stdout
    assert "memory_gib" in plan.stdout
    assert not (tmp_path / "run").exists()
    done = ponder("rl", "r.toml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "run"
    sick = ponder("doctor", "run", cwd=tmp_path)
    assert sick.returncode == 0, sick.stderr
    scaled = ponder("scale", "run", "--samples", 4, "--limit", 4, cwd=tmp_path)
    assert scaled.returncode == 0, scaled.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert ponder("ask", "hi", "--model", "run@1", "--json", *SHORT, cwd=tmp_path).returncode == 0


def test_play_asks_a_person_through_the_same_verifier():
    done = subprocess.run(
        [sys.executable, "-m", "ponder.cli", "play", "--task", "arithmetic:level=1", "--limit", "2"], text=True,
        input="no idea\n0\n", capture_output=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of 2 correct" in done.stdout
    assert "What is" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "hi", "--model", "nanoo"], "nano"),
        (["eval", "--task", "arithmetik", "--out", "o"], "did you mean 'arithmetic'"),
        (["eval", "--task", "arithmetic:levle=3", "--out", "o"], "did you mean 'level'"),
        (["eval", "--task", "file:absent.jsonl", "--out", "o"], "absent.jsonl"),
        (["rl", "absent.toml"], "no recipe at absent.toml"),
        (["scale", "absent"], "is neither a run nor an exam"),
        (["doctor", "absent"], "metrics.jsonl"),
        (["report", "absent"], "absent"),
        (["ask", "hi", "--samples", "0"], "--samples 0 must be 1 or more"),
        (["ask", "hi", "--samples", "-3"], "--samples -3 must be 1 or more"),
        (["ask", "hi", "--temperature", "nan"], "--temperature nan must be between 0"),
        (["ask", "hi", "--max-answer-tokens", "0"], "--max-answer-tokens 0 must be 1 or more"),
        (["ask", "hi", "--budget-tokens", "1"], "--budget-tokens 1 must be 2 or more"),
        (["ask", "-x+3"], "ponder ask --samples 8 --"),
        (["eval", "--task", "arithmetic", "--limit", "0"], "--limit 0 must be 1 or more"),
        (["eval", "--task", "arithmetic", "--temperature", "inf"], "--temperature inf must be between 0"),
        (["scale", "x", "--checkpoint-samples", "-1"], "--checkpoint-samples -1 must be 1 or more"),
        (["score", "x", "--scorer", "y", "--workers", "-2"], "--workers -2 must be -1 or more"),
        (["serve", "--temperature", "nan"], "--temperature nan must be between 0"),
        (["serve", "--verifier", "maths", "--db", "x.db"], "did you mean 'math'"),
        (["serve", "--model", "nano", "--model", "nano", "--db", "x.db"], "--model other=nano"),
        (["chat"], "--api-key"),
        (["chat", "--api-key", "two words"], "copy it again"),
        (["chat", "--api-key", "x", "--base-url", "http://127.0.0.1:9/v1"], "cannot be reached"),
        (["grade", "--target", "1"], "--answer"),
        (["grade", "--target", "1", "--answer", "1", "--verifier", "maths"], "did you mean 'math'"),
    ],
)
def test_each_mistake_is_one_clear_error(words, message, tmp_path):
    fails_with(ponder(*words, cwd=tmp_path), "error:", message)


def test_a_question_may_begin_with_a_minus_sign(tiny, tmp_path):
    for words in (["-5+3"], ["-5+3", "--temperature", "0"], ["--temperature", "0", "--", "-5+3"]):
        done = ponder("ask", "--model", tiny, *SHORT, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_key_is_made_for_use_and_says_where_it_is(tmp_path):
    made = ponder("keys", "create", cwd=tmp_path)
    assert made.stdout.startswith("sk-ponder-") and len(made.stdout.split()) == 1
    assert str(tmp_path / "ponder.db") in made.stderr and "infer" in made.stderr
    told = json.loads(ponder("keys", "create", "--scope", "read", "--db", "other.db", "--json", cwd=tmp_path).stdout)
    assert told["scopes"] == ["read"] and told["db"] == str(tmp_path / "other.db")


def test_an_unknown_key_of_a_recipe_names_the_nearest(tmp_path):
    (tmp_path / "r.toml").write_text('out = "run"\ngroup_sise = 4\n')
    fails_with(ponder("rl", "r.toml", cwd=tmp_path), "did you mean 'group_size'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "1", "problem": "p", "answer": "1"}\n{broken\n', "line 2"),
        ('{"id": "1", "problem": "p"}\n', "answer"),
        ("", "no problems"),
    ],
)
def test_a_broken_problem_file_names_line_and_fix(text, message, tiny, tmp_path):
    (tmp_path / "p.jsonl").write_text(text)
    done = ponder("eval", "--task", "file:p.jsonl", "--model", tiny, "--out", "o", cwd=tmp_path)
    fails_with(done, "p.jsonl", message)


def test_a_model_folder_with_a_missing_tensor_names_it(tiny, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors")
    fails_with(ponder("ask", "hi", "--model", broken, cwd=tmp_path), "model.layers.1.mlp.up_proj.weight")


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
