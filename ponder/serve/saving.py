"""Writing responses into the store while they run, at their end, and after a database that failed for a while.

Where nothing can be written (a full disk, a lock) clients still get what is produced: the response is kept in memory,
found there, and written later. So many as fit in `MOST_KEPT`; beyond it the oldest are given up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ponder.serve.errors import StoreUnavailable
from ponder.serve.events import Event
from ponder.serve.logs import log

if TYPE_CHECKING:
    from ponder.serve.responses import ResponseJob

MOST_KEPT = 1000  # finished responses that wait for the store


async def save(jobs: Sequence[ResponseJob], last: Event | None = None) -> bool:
    """Write what is new of responses in one transaction; whether that went well.

    last: the terminal event of a single job, which nobody sees before the store has it.
    """
    async with contextlib.AsyncExitStack() as stack:
        for job in jobs:
            await stack.enter_async_context(job.saving)
        counts = [(job, len(job.log.events) + (last is not None)) for job in jobs]
        work = [job.unsaved(last) for job in jobs]
        try:
            await jobs[0].service.store.do(lambda: [each() for each in work])
        except Exception as problem:  # whatever a database says
            log("store_failed", responses=len(jobs), kind=type(problem).__name__)
            is_alone = len(jobs) == 1 or isinstance(problem, StoreUnavailable)
        else:
            for job, count in counts:
                job.saved, job.is_added = count, True
            return True
    # one that cannot be written must not keep the others out
    return not is_alone and all([await save([job]) for job in jobs])


async def save_running(jobs: Sequence[ResponseJob]) -> bool:
    """Write what happened since the last time; a response that is over by then leaves the memory. False: it failed."""
    due = [
        job for job in jobs
        if job.is_stored and not job.saving.locked() and len(job.log.events) > job.saved
    ]  # fmt: skip
    over = [job for job in due if job.log.is_closed]
    if due and not await save(due):
        for job in over[:-MOST_KEPT]:
            log("response_given_up", id=job.id)
            job.service.jobs.pop(job.id, None)
        return False
    for job in over:
        job.service.jobs.pop(job.id, None)
    return True


def broken(body: dict[str, Any]) -> dict[str, Any]:
    """A response that was running when its server was killed."""
    for item in body["output"]:
        if item.get("status") == "in_progress":
            item["status"] = "incomplete"
    error = {"code": "server_error", "message": "The server was restarted while this response ran."}
    return {**body, "status": "failed", "error": error}
