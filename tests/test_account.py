"""What did not run is told: a skip that nobody expects fails in CI, one that is expected does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXPECTED, STRANGE = "pytest.skip('needs the real model: x')", "pytest.importorskip('no_such_module_at_all')"


def run(folder: Path, body: str, *flags: str, ci: str = "true") -> subprocess.CompletedProcess[str]:
    tests = folder / "tests"
    tests.mkdir(exist_ok=True)
    for name in ("__init__.py", "account.py", "skips.py", "slow.py", "slow.txt"):
        shutil.copy(HERE / name, tests / name)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow: x\n")
    (tests / "test_it.py").write_text(f"import pytest\n{body}\n")
    # folders of its own: else it removes those of earlier runs of the whole suite, which takes a minute
    own = ("--basetemp", str(folder / "tmp"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.account", *own, *flags, "tests"]
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
    ("body", "ci", "code"),
    [
        (f"def test_a():\n    {EXPECTED}", "true", 0),
        (f"def test_a():\n    {STRANGE}", "true", 1),
        (f"{STRANGE}\ndef test_a(): pass", "true", 1),  # a whole file that skips itself
        ("@pytest.mark.skip(reason='later')\ndef test_a(): pass", "true", 1),
        (f"def test_a():\n    {STRANGE}", "", 0),
        ("@pytest.mark.xfail\ndef test_a(): assert False\ndef test_b(): pass", "true", 0),
    ],
    ids=["expected", "in a test", "in a file", "marked", "not in CI", "xfail is no skip"],
)
def test_only_an_unexpected_skip_fails_and_only_in_ci(body, ci, code, tmp_path):
    done = run(tmp_path, f"def test_passes(): pass\n{body}", ci=ci)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("expected skips" in done.stdout) == (EXPECTED in body)
    is_strange = STRANGE in body or "later" in body
    assert ("UNEXPECTED SKIPS" in done.stdout) == is_strange


@pytest.mark.parametrize("flags", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "workers"])
def test_what_is_left_out_is_told_and_workers_change_nothing(flags, tmp_path):
    body = f"@pytest.mark.slow\ndef test_a(): pass\ndef test_b():\n    {STRANGE}\ndef test_c(): pass"
    done = run(tmp_path, body, "-m", "not slow", *flags)
    assert done.returncode == 1 and "UNEXPECTED SKIPS" in done.stdout
    assert "not run: 1 tests" in done.stdout and "test_it.py 1" in done.stdout


def test_every_name_in_the_file_of_slow_tests_is_a_test():
    from tests.slow import FILE

    for name in FILE.read_text().split():
        path, _, function = name.partition("::")
        assert f"def {function}(" in (FILE.parent.parent / path).read_text(), f"{name}: run python -m tests.slow again"
