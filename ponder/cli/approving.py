"""`ask --mcp`: the user at the terminal approves each call of an MCP tool before it is made.

    files.delete {"path": "notes.txt"}
    make this call? yes, no, or all of files.delete:

Names are the operator's servers', and arguments are the model's text: they are shown whole, as ASCII JSON, so that no
character of them moves the cursor or looks like another. The end of the input is a no to everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

from ponder.config import ConfigError


class CallApprover:
    """Awaited before each call; several samples that ask at the same time are asked about one after the other."""

    def __init__(self, source: TextIO | None = None) -> None:
        self._source = source or sys.stdin
        if not self._source.isatty():
            raise ConfigError(
                "the calls of --mcp tools are asked about, and stdin is no terminal; --approve makes them all unasked "
                "(--mcp NAME:TOOL,TOOL=... says which tools there are)"
            )
        self.paused: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext  # what else the terminal shows
        self._all: set[str] = set()  # tools whose calls need no more questions
        self._is_over = False
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, name: str, arguments: Mapping[str, Any]) -> bool:
        async with self._one_at_a_time:
            if name in self._all or self._is_over:
                return not self._is_over
            with self.paused():
                print(f"{name} {json.dumps(arguments)}", file=sys.stderr)
                return await self._asked(name)

    async def _asked(self, name: str) -> bool:
        while True:
            print(f"make this call? yes, no, or all of {name}: ", end="", file=sys.stderr, flush=True)
            line = await self._line()
            said = line.strip().lower()
            if not line:
                print(file=sys.stderr)
                self._is_over = True
            if said and "all".startswith(said):
                self._all.add(name)
            if said and any(word.startswith(said) for word in ("yes", "all")):
                return True
            if self._is_over or (said and "no".startswith(said)):
                return False

    async def _line(self) -> str:
        """A line of the terminal's; Ctrl-C ends the wait, which a thread that reads would not let it."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._source, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._source)
        return self._source.readline()
