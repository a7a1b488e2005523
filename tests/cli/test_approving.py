"""Approval at a real terminal (a pty): what is shown before a call, and what the words that are typed mean."""

from __future__ import annotations

import asyncio
import io
import os
import time

import pytest

from ponder.cli.approving import CallApprover
from ponder.config import ConfigError


def asked(typed: bytes, *calls: tuple[str, dict]) -> list[bool]:
    """What comes of calls that are asked about at the same time, with this typed beforehand."""
    ours, theirs = os.openpty()

    async def run() -> list[bool]:
        with os.fdopen(theirs, "r") as terminal:
            approve = CallApprover(terminal)
            os.write(ours, typed)
            return list(await asyncio.wait_for(asyncio.gather(*(approve(*call) for call in calls)), 20))

    try:
        return asyncio.run(run())
    finally:
        os.close(ours)


READ, DROP = ("files.read", {"path": "a"}), ("files.drop", {"path": "a"})


def test_each_call_is_asked_about_by_its_name_and_arguments(capsys):
    assert asked(b"y\nno\n", READ, DROP) == [True, False]
    told = capsys.readouterr().err
    assert 'files.read {"path": "a"}' in told and 'files.drop {"path": "a"}' in told


def test_all_is_of_one_tool(capsys):
    assert asked(b"a\nn\n", READ, READ, DROP, READ) == [True, True, False, True]
    assert capsys.readouterr().err.count("make this call?") == 2


def test_what_is_neither_yes_nor_no_is_asked_again(capsys):
    assert asked(b"\nmaybe\nyess\ny\n", READ) == [True]
    assert capsys.readouterr().err.count("make this call?") == 4


def test_the_end_of_the_input_is_a_no_to_everything(capsys):
    assert asked(b"\x04", READ, DROP, READ) == [False, False, False]  # Ctrl-D
    assert capsys.readouterr().err.count("make this call?") == 1


def test_arguments_cannot_move_the_cursor_or_pass_for_others(capsys):
    asked(b"n\n", ("files.drop", {"path": "\x1b[2Ka\r\u202eb\u0430"}))
    told = capsys.readouterr().err
    assert told.isascii() and "\x1b" not in told and "\r" not in told and "\\u202e" in told


def test_a_wait_for_an_answer_can_be_cancelled():
    ours, theirs = os.openpty()

    async def run() -> None:
        with os.fdopen(theirs, "r") as terminal:
            waiting = asyncio.ensure_future(CallApprover(terminal)(*READ))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    begun = time.monotonic()
    asyncio.run(run())
    os.close(ours)
    assert time.monotonic() - begun < 20


def test_without_a_terminal_the_flag_is_named():
    with pytest.raises(ConfigError, match="--approve"):
        CallApprover(io.StringIO("y\n"))
