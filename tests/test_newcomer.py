"""The newcomer's path: every command of "The whole path" in docs/quickstart.md runs, in its order, at tiny sizes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import forked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
SECTION = PAGE.partition("## The whole path\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
COMMANDS = [line.split("  #")[0].strip() for line in LINES if line.strip()]
SMALLER = {  # by the verb: what makes it take seconds
    "eval": "--samples 2 --limit 4",
    "sft": "num_steps=2 batch_size=4 num_workers=0",
    "rl": "num_steps=2 problems_per_step=2 group_size=4 num_workers=0 eval.every=1 eval.num_problems=2 "
    "eval.num_samples=1",
    "scale": "--limit 4 --samples 2 --checkpoint-samples 1",
}
STEPS = ["own problems", "baseline", "cold start", "RL", "curves", "compare", "share"]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder after the whole path, and what each command said."""
    folder = tmp_path_factory.mktemp("path")
    for kind, text in BLOCKS:
        if named := re.match(r"# (\w+\.(?:py|toml))\n", text):
            assert kind in ("python", "toml")
            (folder / named[1]).write_text(text)
    said = {}
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True, timeout=60)
            continue
        assert words[0] == "ponder", command
        words += shlex.split(SMALLER.get(words[1], ""))
        ran = forked.run(words[1:], cwd=folder, environment=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=900)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        said[command] = ran.stdout
    return folder, said


def test_the_page_has_every_part_of_the_path():
    verbs = [shlex.split(command)[1] for command in COMMANDS if command.startswith("ponder ")]
    assert verbs == ["eval", "data", "sft", "eval", "rl", "doctor", "scale", "compare", "report", "push"]
    assert COMMANDS[0] == "python make_sums.py" and len(STEPS) == 7


@pytest.mark.timeout(3600)  # on a busy machine; 30 s of processor time
def test_every_command_of_the_path_works_and_leaves_what_the_page_promises(done):
    folder, said = done
    assert len((folder / "sums_rows.jsonl").read_text().splitlines()) == 240  # no solution was left out
    assert (folder / "runs/sums_rl/report.html").stat().st_size > 10_000
    card = (folder / "push/sums/README.md").read_text()
    assert "this model" in card and "chosen on a dev part" in card and str(folder) not in card
    best = json.loads((folder / "runs/sums_rl/best.json").read_text())
    assert best["num_problems"] == 2
    rollouts = (folder / "runs/sums_rl/all_rollouts.jsonl").read_text().splitlines()
    assert len(rollouts) == 2 * 2 * 4
    scaled = next(text for command, text in said.items() if command.startswith("ponder scale"))
    assert re.search(r"pass@1: [\d.]+ % -> [\d.]+ %, [+-][\d.]+ points", scaled)  # before and after, in one line
    compared = next(text for command, text in said.items() if command.startswith("ponder compare"))
    assert all(name in compared for name in ("nano", "sums_sft", "step_00002"))
