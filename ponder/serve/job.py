"""Work that runs by itself: connections come and go, it can be stopped at any moment, and its end is written once."""

from __future__ import annotations

import asyncio
from typing import Any

from ponder.serve.errors import ApiError
from ponder.serve.logs import log
from ponder.serve.service import Service
from ponder.serve.work import Failed


class Job:
    """`work` is what may be stopped, `end` what always follows; `wait` returns when both are over."""

    id: str

    def __init__(self, service: Service) -> None:
        self.service = service
        self._work: asyncio.Task[str] | None = None
        self._over = asyncio.Event()
        self.is_cancelled = False

    def begin(self) -> None:
        self.service.spawn(self._run())

    def cancel(self) -> None:
        """Stop the work; a job that has not begun never begins."""
        self.is_cancelled = True
        if self._work is not None:
            self._work.cancel()

    async def wait(self) -> Any:
        await self._over.wait()

    async def work(self) -> str:
        """Produce; why it ended: stop, length or tool_calls."""
        raise NotImplementedError

    async def end(self, status: str, error: Failed | None) -> None:
        """status: completed, incomplete, failed (then with an error) or cancelled."""
        raise NotImplementedError

    async def _run(self) -> None:
        error: Failed | None = None
        try:
            if self.is_cancelled:
                raise asyncio.CancelledError
            self._work = asyncio.ensure_future(self._admitted())
            status = "incomplete" if await self._work == "length" else "completed"
        except asyncio.CancelledError:
            status = "cancelled"
        except Failed as failure:
            status, error = "failed", failure
        except ApiError as refused:
            status, error = "failed", Failed("server_error", refused.message)
        except Exception as problem:  # the engine's or ours: the client learns that it failed, the log what it was
            log("error", response=self.id, kind=type(problem).__name__)
            status, error = "failed", Failed("server_error", "The model failed to produce a response.")
        try:
            await self.end(status, error)
        finally:
            self._over.set()

    async def _admitted(self) -> str:
        with self.service.running():
            return await self.work()
