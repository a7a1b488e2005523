"""README and quickstart are the contract: their commands run, their files exist, their Python works."""

from __future__ import annotations

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
README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README + QUICKSTART, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.strip()
]
# what needs a model or a benchmark from the network, or a run that took one; tests/models and tests/tasks have its
# pieces on made-up ones; the path over sums is run in its order by tests/test_newcomer.py
ONLINE = re.compile(r"smollm2|gsm8k|runs/(my_|before|after)|sums_")
OFFLINE = [command for command in COMMANDS if command.startswith("ponder ") and not ONLINE.search(command)]
QUICK = [command for command in OFFLINE if not re.match(r"ponder (rl|sft|scale)", command)]
PLANNED = [command for command in OFFLINE if re.match(r"ponder (rl|sft)", command)]


def run(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "ponder"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return forked.run(words[1:], cwd=cwd, environment=environment, timeout=240)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the README's reader has: its files, what they write, and a run; recipes go by their names."""
    folder = tmp_path_factory.mktemp("readme")
    for kind, text in BLOCKS:
        named = re.match(r"# (\w+\.py)\n", text)
        if kind == "python" and named:
            (folder / named[1]).write_text(text)
    subprocess.run([sys.executable, "make_problems.py"], cwd=folder, check=True, timeout=60)
    tiny = "num_steps=1 problems_per_step=2 group_size=4 updates_per_step=1 pool_size=8 num_workers=1"
    done = run(f"ponder rl recipes/demo_nano_cpu.toml {tiny}", folder)  # what `ponder doctor runs/demo` reads
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", QUICK)
def test_every_quick_command_of_the_readme_works(command, place):
    done = run(command, place)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", PLANNED)
def test_every_training_command_of_the_readme_has_a_valid_recipe(command, place):
    done = run(command + " --dry-run", place)
    assert done.returncode == 0, done.stderr
    assert "estimated" in done.stdout


def test_the_readme_has_commands_to_execute():
    assert len(QUICK) >= 4
    assert len(PLANNED) >= 1
    assert {"make demo", "make test"} <= {command.split("  ")[0] for command in COMMANDS}


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_the_python_of_the_readme_runs(code, place):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=place, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [README, *(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))])
def test_files_named_in_links_exist(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page):
        assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


def test_llms_txt_names_every_page_and_no_other():
    named = set(re.findall(r"\]\(docs/([^)]+)\)", (ROOT / "llms.txt").read_text()))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_recipe_resolves():
    from ponder.config import find_recipe, load, recipe_names
    from ponder.train import scorer
    from ponder.train.recipe import load_recipe
    from ponder.train.sft import SFTConfig

    paths = [find_recipe(name) for name in recipe_names()]
    assert len(paths) >= 10
    for path in paths:
        if "ponder scorer" in path.read_text():
            scorer.load_recipe(path)
        elif "[demonstrations]" in path.read_text() or "\ndata = " in path.read_text():
            load(SFTConfig, path)
        else:
            load_recipe(path)
