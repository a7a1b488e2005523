"""What one deploys with: the container file, the unit, shell completion, --json, and the pages of the site."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from ponder.cli import app
from ponder.config import recipe_names

ROOT = Path(__file__).parent.parent
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text()
UNIT = (ROOT / "deploy" / "ponder.service").read_text()
TALKING = {"serve", "tinker", "mcp", "chat", "play"}  # to clients or to a person


def verbs(command, path=()):
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*path, name))
    else:
        yield " ".join(path), command


def test_every_verb_that_ends_has_json():
    without = {name for name, verb in verbs(get_command(app)) if not any("--json" in p.opts for p in verb.params)}
    assert without == TALKING


def test_a_shell_completes_verbs_and_shipped_recipes():
    typed = {"_PONDER_COMPLETE": "complete_bash", "COMP_WORDS": "ponder rl demo_", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['ponder']; from ponder.cli import main; main()"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | typed, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == [name for name in recipe_names() if name.startswith("demo_")]


def test_the_container_runs_as_nobody_special_on_a_pinned_base_with_a_health_check():
    last = CONTAINER.rpartition("\nFROM ")[2]
    assert last.startswith("docker.io/library/python:3.12-slim")
    assert re.search(r"^USER 10001$", last, re.MULTILINE) and "apt-get" not in last  # no compiler where it runs
    assert "/health/live" in last and "STOPSIGNAL SIGTERM" in last
    assert not re.search(r"API_KEY|SECRET", re.sub(r"^#.*$", "", CONTAINER, flags=re.MULTILINE))
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", CONTAINER, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split()), source
        allowed = (ROOT / "deploy" / "Containerfile.dockerignore").read_text()
        assert all(f"!{name}" in allowed.splitlines() for name in source.split())
    extras = re.search(r"\.\[([\w,]+)\]", CONTAINER)[1].split(",")
    assert all(re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) for extra in extras)


def test_the_unit_keeps_keys_out_of_the_command_line_and_the_system_read_only(tmp_path):
    lines = dict(line.split("=", 1) for line in UNIT.splitlines() if re.match(r"[A-Z]\w+=", line))
    assert lines["User"] == "ponder" and lines["ProtectSystem"] == "strict" and lines["NoNewPrivileges"] == "yes"
    assert lines["Restart"] == "on-failure" and int(lines["TimeoutStopSec"]) > 30
    assert "key" not in lines["ExecStart"].lower() and "EnvironmentFile" in lines
    if shutil.which("systemd-analyze"):
        program = tmp_path / "ponder"  # a double that is there, as only the real one's path is checked
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        unit = tmp_path / "ponder.service"
        unit.write_text(UNIT.replace("/opt/ponder/.venv/bin/ponder", str(program)))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
        assert "ponder.service" not in done.stderr, done.stderr


def test_the_site_has_every_page_in_its_navigation():
    named = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    generated = set(re.findall(r'": "([\w/]+\.md)",', (ROOT / ".ci" / "site_pages.py").read_text()))
    assert named == pages | generated


def test_every_link_of_a_page_of_the_site_leads_to_a_page_of_it():
    """What the strict build says, where its builder is not installed."""
    site = runpy.run_path(str(ROOT / ".ci" / "site_pages.py"))
    sources = {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")} | site["PAGES"]
    there = {*site["PAGES"].values(), *(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*"))}
    for source, page in sources.items():
        text = site["linked"](re.sub(r"```.*?```", "", (ROOT / source).read_text(), flags=re.DOTALL), source, page)
        for path in re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", text):
            if not re.match(r"[a-z]+:", path):
                assert os.path.normpath(os.path.join(os.path.dirname(page), path)) in there, (source, path)


def test_the_link_test_would_catch_a_file_that_is_not_there():
    linked = runpy.run_path(str(ROOT / ".ci" / "site_pages.py"))["linked"]
    given = "[a](../ponder/types.py) [b](../ponder/no.py) [c](serve.md#x) [d](../README.md) ![e](img/serve_page.png)"
    assert linked(given, "docs/mcp.md", "mcp.md") == (
        "a [b](../ponder/no.py) [c](serve.md#x) [d](readme.md) ![e](img/serve_page.png)"
    )


def test_the_pinned_versions_are_within_the_ranges_that_users_get():
    """constraints.txt pins what `make demo` and `make test` install; pyproject.toml has the ranges."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(n): v for n, _, v in (line.partition("==") for line in lines if "==" in line)}
    extras, waiting, seen = project["optional-dependencies"], ["all", "dev"], set()
    wanted = list(project["dependencies"])
    while waiting:
        extra = waiting.pop()
        for text in extras[extra] if extra not in seen else ():
            own = Requirement(text)
            (waiting if own.name == "ponder" else wanted).extend(own.extras if own.name == "ponder" else [text])
        seen.add(extra)
    assert len(wanted) > 30
    for text in wanted:
        own = Requirement(text)
        name = canonicalize_name(own.name)
        assert name in pinned, f"constraints.txt does not pin {own.name}"
        assert own.specifier.contains(pinned[name], prereleases=True), f"{text} and {name}=={pinned[name]}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_can_be_searched(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"], cwd=ROOT,
        capture_output=True, text=True, timeout=240, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "quickstart" in (tmp_path / "site" / "search" / "search_index.json").read_text()
