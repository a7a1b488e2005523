"""One clear error for each mistake."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from ponder.cli.show import shown
from tests.cli.typed import fails_with, ponder

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "hi", "--model", "nanoo"], "nano"),
        (["eval", "--task", "arithmetik", "--out", "o"], "did you mean 'arithmetic'"),
        (["eval", "--task", "arithmetic:levle=3", "--out", "o"], "did you mean 'level'"),
        (["eval", "--task", "file:absent.jsonl", "--out", "o"], "absent.jsonl"),
        (["rl", "absent.toml"], "no recipe at absent.toml"),
        (["sft", "demo_nano_cpu"], "demo_nano_cpu is a recipe of `ponder rl`, not of `ponder sft`"),
        (["rl", "scorer_nano_cpu", "--dry-run"], "is a recipe of `ponder scorer`"),
        (["rl", "demo_nano_cpu", "dataa=x"], "unknown key 'dataa'"),
        (["scale", "absent"], "is neither a run nor an exam"),
        (["doctor", "absent"], "metrics.jsonl"),
        (["report", "absent"], "absent"),
        (["ask", "hi", "--samples", "0"], "--samples 0 must be 1 or more"),
        (["ask", "hi", "--samples", "-3"], "--samples -3 must be 1 or more"),
        (["ask", "hi", "--temperature", "nan"], "--temperature nan must be between 0"),
        (["ask", "hi", "--max-answer-tokens", "0"], "--max-answer-tokens 0 must be 1 or more"),
        (["ask", "hi", "--budget-tokens", "1"], "--budget-tokens 1 must be 2 or more"),
        (["ask", "-x+3"], "ponder ask --samples 8 --"),
        (["ask", "hi", "--mode", "single", "--samples", "4"], "--samples is for modes that draw several"),
        (["ask", "hi", "--word", " Wait"], "--word is for mode forced"),
        (["ask", "hi", "--controller", "c.json"], "--controller is for mode controller"),
        (["ask", "hi", "--mode", "os:getcwd"], "os:getcwd is no strategy: put `@strategy`"),
        (["ask", "hi", "--approve"], "--approve is for tools, which --mcp names"),
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
        (["star", "--task", "arithmetic", "--out", "o.jsonl", "--environment", "x"], "deliberate or nothing"),
        (
            ["star", "--task", "arithmetic", "--out", "o.jsonl", "--int8", "--base-url", "http://127.0.0.1:9/v1"],
            "--int8 is of the local engine",
        ),
        (["grade", "--target", "1"], "--answer"),
        (["grade", "--target", "1", "--answer", "1", "--file", "p.jsonl"], "leave out --target and --answer"),
        (["contest", "rate", "--made-up", "--contest", "rounds"], "leave out --contest and --language"),
        (["contest", "rate", "tries.jsonl", "--contest", "rounds", "--rating", "1500"], "are of --made-up contests"),
        (
            ["safety", "m", "--base-url", "http://127.0.0.1:9/v1", "--task", "desk:size=8", "--comprehension", "none"],
            "judges answers, and measures comprehension, by itself",
        ),
        (
            ["monitor", "eval", "p.jsonl", "--monitor", "rules", "--view", "answer"],
            "--view is of --model, which is not given",
        ),
        (["monitor", "eval", "p.jsonl", "--monitor", "rules", "--out", "o"], "--out is of --model, which is not given"),
        (["certify", "--out", "o"], "--out is of --judge, which is not given"),
        (["certify", "--made-up"], "--made-up is of FILE, which is not given"),
        (["monitor", "eval", "p.jsonl", "--monitor", "rules", "--rate", "5"], "--rate 5.0 must be between 0 and 1"),
        (["grade", "--target", "1", "--answer", "1", "--verifier", "maths"], "did you mean 'math'"),
        (["data", "words", "--out", "o.jsonl", "--slip", "0.3"], "--slip and --early are of the styles"),
        (["data", "words", "--out", "o.jsonl", "--style", "chain", "--careless", "0"], "--careless is of the style"),
        (
            ["prefer", "--judge", "m", "--bank", "b", "--votes", "v.jsonl", "--task", "mtbench"],
            "--task and --split are of recorded comparisons",
        ),
    ],
)
def test_each_mistake_is_one_clear_error(words, message, tmp_path):
    fails_with(ponder(*words, cwd=tmp_path), "error:", message)


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


def test_what_a_model_wrote_does_not_steer_the_terminal_and_is_whole_elsewhere(monkeypatch):
    text = "4\n\x1b]52;c;aGk=\x07\x1b[2J\u202eé"
    for is_terminal, expected in ((True, "4\n]52;c;aGk=[2Jé"), (False, text)):
        monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda told=is_terminal: told))
        assert shown(text) == expected


def test_half_a_surrogate_pair_is_printed_as_its_escape(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"target": "a", "answer": "\ud83d…"}) + "\n")
    done = ponder("grade", "--file", rows, "--verifier", "exact", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["extracted"] == "\ud83d…", done.stderr
