"""rl, doctor, scale, report and ask on one run; star in int8."""

from __future__ import annotations

import json

import pytest

from tests.cli.typed import SHORT, fails_with, ponder

pytestmark = pytest.mark.slow


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


def test_rows_drawn_in_int8_and_rows_drawn_without_do_not_go_into_one_file(tiny, tmp_path):
    drawn = [
        "star",
        "--task",
        "arithmetic:level=1,size=2",
        "--model",
        tiny,
        "--samples",
        2,
        "--out",
        "rows.jsonl",
        *SHORT,
    ]
    first = ponder(*drawn, "--int8", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert ponder(*drawn, "--int8", cwd=tmp_path).returncode == 0
    fails_with(ponder(*drawn, cwd=tmp_path), "rows.jsonl", "another model")
