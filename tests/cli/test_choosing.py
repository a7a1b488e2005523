"""The verbs that choose: what they are given is checked at the door."""

from __future__ import annotations

import pytest

from ponder.cli.choosing import numbers, read_totals
from ponder.cli.loading import open_testers
from ponder.config import ConfigError
from ponder.sandbox import executions, fence


def test_without_a_fence_mode_submit_is_refused_with_the_reason(monkeypatch):
    def refuse(**options):
        raise fence.FenceError("this kernel has no filter")

    monkeypatch.setattr(executions, "_shared", {})
    monkeypatch.setattr(executions, "Programs", refuse)
    with pytest.raises(ConfigError, match="judged by running them: this kernel has no filter"):
        open_testers()


def test_numbers_of_submissions_are_whole_and_positive():
    assert numbers("10, 1,50,1") == [1, 10, 50]
    for text in ("", "0", "1,,2", "-1", "1.5", "x"):
        with pytest.raises(ConfigError, match="write numbers from 1 on"):
            numbers(text)


def test_standings_are_one_total_a_line(tmp_path):
    path = tmp_path / "totals.txt"
    path.write_text("600\n\n213.5\n")
    assert read_totals(path) == [600, 213.5]
    for text in ("Ann 600\n", "600\nnan\n", "inf\n", "\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="write one contestant's total a line"):
            read_totals(path)
