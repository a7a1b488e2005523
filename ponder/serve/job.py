"""A background job that outlives its connections: it can be stopped at any moment, and its end is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ponder.serve.errors import ApiError
from ponder.serve.generation import MODEL_FAILED, Failed
from ponder.serve.logs import log_error
from ponder.serve.served import ServedModel


class GenerationJob:
    """`work` is what may be stopped, `end` what always follows; `wait` returns when both are over.

    spawn: has the job run. admit: counts its work as running, or refuses it.
    """

    id: str

    def __init__(
        self, model: ServedModel, *, spawn: Callable[[GenerationJob], None],
        admit: Callable[[ServedModel], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        self.model = model
        self._spawn, self._admit = spawn, admit
        self._work: asyncio.Task[str] | None = None
        self._over = asyncio.Event()
        self.is_cancelled = False
        self._why = ""  # it is to fail

    def begin(self) -> None:
        """Hand the job to `spawn`; returns before any work is done."""
        self._spawn(self)

    def cancel(self) -> None:
        """Stop the work; a job that has not begun never begins. Once is enough: again would stop the counting too."""
        if self._work is not None and not self.is_cancelled:
            self._work.cancel()
        self.is_cancelled = True

    def fail(self, why: str) -> None:
        """Stop the work; it then has failed, not been cancelled."""
        self._why = self._why or why
        self.cancel()

    async def wait(self) -> Any:
        """Return when `end` is over, however the job ended. A subclass may return its result or raise its error."""
        await self._over.wait()

    async def work(self) -> str:
        """Produce; why it ended: stop, length or tool_calls."""
        raise NotImplementedError

    async def end(self, status: str, error: Failed | None) -> None:
        """status: completed, incomplete, failed (then with an error) or cancelled."""
        raise NotImplementedError

    async def run(self) -> None:
        """The work, then `end`; called once. What the work raises becomes the status, and is not raised here."""
        error: Failed | None = None
        try:
            if self.is_cancelled:
                raise asyncio.CancelledError
            self._work = asyncio.ensure_future(self._admitted())
            status = "incomplete" if await self._work == "length" else "completed"
        except asyncio.CancelledError:
            status = "cancelled"
            if self._why:
                status, error = "failed", Failed("server_error", self._why)
        except Failed as failure:
            status, error = "failed", failure
        except ApiError as refused:
            status, error = "failed", Failed("server_error", refused.message, status=refused.status)
        except Exception as problem:  # the engine's or ours: the client learns that it failed, the log what it was
            log_error(problem, response=self.id)
            status, error = "failed", Failed(*MODEL_FAILED)
        try:
            await self.end(status, error)
        finally:
            self._over.set()

    async def _admitted(self) -> str:
        with self._admit(self.model):
            return await self.work()
