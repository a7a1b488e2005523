"""Ranks as processes of this machine, which `ShardedLearner` (train/sharded.py) calls over a pipe each.

    with local_ranks(2) as ranks:
        answer = await ranks[0].call("backward", passes, loss)

runs `Rank.backward(passes, loss)` (train/rank.py) in that process and gives what it returned.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Iterator
from typing import Any

from ponder import processes
from ponder.models.worker import become_worker
from ponder.train.sharded import RankLost


class LocalRank:
    """A rank in a process of this machine."""

    host = "127.0.0.1"

    def __init__(self, number: int) -> None:
        self._connection, self.process = processes.start(_serve, (), name=f"ponder-rank-{number}")
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ponder-rank")

    async def call(self, method: str, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, method, arguments)

    def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            self._connection.send((method, arguments))
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise RankLost(f"its process ended {processes.why_ended(self.process)}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.process.kill()  # the learner has let it finish, or it does not listen
        self.process.join(5)
        self._thread.shutdown(wait=False)


def _serve(connection: Any) -> None:
    from ponder.train.rank import Rank  # torch.distributed is imported in the ranks alone

    become_worker()
    rank = Rank()
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = getattr(rank, method)(*arguments)
            except Exception as error:  # the learner says whose it is
                answer = RuntimeError(f"{type(error).__name__}: {error}")
            connection.send(answer)


@contextlib.contextmanager
def local_ranks(count: int) -> Iterator[list[LocalRank]]:
    """Ranks 0 .. count - 1 as processes of this machine, which end with the block."""
    ranks = [LocalRank(number) for number in range(count)]
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.close()
