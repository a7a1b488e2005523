"""The same work several times at once: each of them takes the next item from what they share.

todo = iter(problems)
async def work() -> None:
    for problem in todo: ...
await side_by_side(work, 16)     # the first failure ends all of them, and is raised as it is
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def side_by_side(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run `work` so many times, once at least. Not an ExceptionGroup: callers know errors by their class."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, count)):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were cancelled by it
