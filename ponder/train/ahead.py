"""Rollouts as a stream: sampling may be ahead of training by a bounded number of steps.

    stream = Ahead(sample, range(first, last), max_lag=1)
    async for step, rollouts in stream:         # sampled at most max_lag versions ago
        ...                                     # train
        await stream.before_update()            # then give the sampler its new weights

    max_lag 0    in turn: the rollouts of a step are asked for when its weights are there
            1    the next step is sampled while this one trains; all of it by the same weights, so a run can be repeated
                 bit for bit, and updates wait until it is drawn
            2..  updates wait for nothing: a completion goes on with the new weights, and says which token is whose

Staleness costs accuracy from two steps on, unless the loss bounds the ratio to the policy that sampled, which `rl` does
wherever max_lag > 0 (arXiv:2505.24298 compares both). A run that is resumed asks anew for what was under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ponder.rollouts.collect import Collected


class Ahead:
    """The steps in order, each with its rollouts."""

    def __init__(self, sample: Callable[[int], Coroutine[Any, Any, Collected]], steps: range, *, max_lag: int) -> None:
        self._sample, self._steps, self._max_lag = sample, steps, max_lag
        self._tasks: deque[asyncio.Task[Collected]] = deque()  # of the steps that come next

    async def __aiter__(self) -> AsyncIterator[tuple[int, Collected]]:
        asked = self._steps.start
        try:
            for step in self._steps:  # so many updates were made
                while asked <= step + self._max_lag and asked in self._steps:
                    self._tasks.append(asyncio.create_task(self._sample(asked)))
                    asked += 1
                yield step, await self._tasks.popleft()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def train(self, work: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Call `work`, in a thread where sampling goes on meanwhile."""
        return await asyncio.to_thread(work) if self._max_lag else work()

    async def before_update(self) -> None:
        """Wait for what must be drawn by the weights of the moment."""
        if self._max_lag == 1:  # an error among them is raised where their step's turn comes
            await asyncio.gather(*self._tasks, return_exceptions=True)
