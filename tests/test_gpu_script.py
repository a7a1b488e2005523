"""`bench/gpu.py`: whatever becomes of a case is told, and its cases run on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench")]

import gpu  # noqa: E402
import gpu_cases  # noqa: E402
import torch  # noqa: E402

# FlexAttention says so where it is not compiled, which is so on a CPU, where only tests come (models/segments.py)
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")

PLACE = gpu_cases.Place(torch.device("cpu"), True)


@pytest.mark.parametrize("case", ["attention", "packs", "graphs"])
def test_quick_cases_hold_on_a_cpu(case):
    found = gpu_cases.CASES[case](PLACE)
    assert found.checks
    assert all(check["holds"] for check in found.checks.values()), found.checks


def test_a_wrong_kernel_is_found(monkeypatch):
    right = gpu_cases.attend_masked
    monkeypatch.setattr(gpu_cases, "attend_masked", lambda *given: right(*given) * 1.01)
    broken = {name for name, check in gpu_cases.attention(PLACE).checks.items() if not check["holds"]}
    assert broken == {"masked float32 forward", "masked float32 backward"}  # 1 % is what bfloat16 may be off


def test_what_is_not_installed_is_skipped_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(gpu_cases.Skipped, match="vLLM is not installed"):
        gpu_cases.vllm(PLACE)


@pytest.mark.parametrize(
    ("child", "status", "why"),
    [
        ("import time; time.sleep(60)", "failed", "not done after 1 s"),
        ("import os; os.abort()", "failed", "exit code -6"),
        ("raise ValueError('no such kernel')", "failed", "no such kernel"),
        ('print(\'noise\'); print(\'GPU-CASE {"status": "passed", "why": ""}\')', "passed", ""),
    ],
)
def test_whatever_becomes_of_a_case_is_a_result(child, status, why, monkeypatch):
    run = subprocess.run
    monkeypatch.setattr(gpu.subprocess, "run", lambda command, **how: run([command[0], "-c", child], **how))
    row = gpu.run_case("attention", "cpu", Namespace(toy=True, limit=1.0 if "sleep" in child else 30.0))
    assert row["status"] == status and why in row["why"]


def test_the_table_says_where_what_failed_and_that_nothing_was_measured_on_cuda():
    about = {"gpu": "", "torch": "2", "revision": "abc", "toy": True, "seconds": 1.0}
    checks = {"rows": {"found": 0.5, "bound": 0.1, "holds": False}}
    rows = [
        about | {"case": "packs", "status": "failed", "why": "rows", "checks": checks, "numbers": {"ms": 2.0}},
        about | {"case": "vllm", "status": "skipped", "why": "vLLM is not installed"},
    ]  # fmt: skip
    text = gpu.table(rows)
    assert "unmeasured on CUDA" in text.splitlines()[0]
    assert "| `packs` | failed: rows | 1 | rows 0.5 (<= 0.1) **NO** | ms 2 |" in text
    assert "skipped: vLLM is not installed" in text and "0 passed, 1 failed, 1 skipped" in text


def test_a_place_without_a_gpu_is_told_what_to_do(tmp_path):
    words = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "add --toy" in done.stderr
    assert json.dumps(list(gpu.CASES)) == json.dumps(list(gpu_cases.CASES))
