"""An account of what did not run, at the end of pytest's output.

The tests that `-m "not slow"` left out, and those that were skipped. A skip that `tests/skips.py` does not expect fails
the run where CI=true.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from tests import skips
from tests.slow import Slow

SKIPPED = pytest.StashKey[dict[str, str]]()  # test -> reason
LEFT_OUT = pytest.StashKey[Counter[str]]()  # file -> tests


class Account:
    """Collects in every process; the workers of xdist hand what they left out to the one that prints."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        config.stash[SKIPPED], config.stash[LEFT_OUT] = {}, Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)  # a whole file that skips itself

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            told = report.longrepr
            self.config.stash[SKIPPED][report.nodeid] = str(told[2] if isinstance(told, tuple) else told)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.config.stash[LEFT_OUT].update(item.nodeid.partition("::")[0] for item in items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        told = getattr(node, "workeroutput", {}).get("left_out", {})
        self.config.stash[LEFT_OUT] |= Counter(told)  # every worker collects all tests, so each tells the same

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["left_out"] = dict(self.config.stash[LEFT_OUT])
        elif is_ci() and unexpected(self.config) and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        left_out, strange = self.config.stash[LEFT_OUT], unexpected(self.config)
        if left_out:
            terminalreporter.section(f"not run: {sum(left_out.values())} tests that -m, -k or --deselect left out")
            terminalreporter.line(", ".join(f"{file} {count}" for file, count in sorted(left_out.items())))
        expected = Counter(skips.why(reason) for reason in self.config.stash[SKIPPED].values())
        del expected[None]
        if expected:
            terminalreporter.section("expected skips (tests/skips.py)")
            for text, count in expected.most_common():
                terminalreporter.line(f"{count:5} {text}")
        if strange:
            what = "they fail this run (CI=true)" if is_ci() else "they would fail in CI"
            terminalreporter.section(f"UNEXPECTED SKIPS: {what}; tests/skips.py says which are expected", red=True)
            for test, reason in sorted(strange.items()):
                terminalreporter.line(f"{test}: {reason}")


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")


def unexpected(config: pytest.Config) -> dict[str, str]:
    return {test: reason for test, reason in config.stash[SKIPPED].items() if skips.why(reason) is None}


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Account(config), "account")
    config.pluginmanager.register(Slow(), "slow")
