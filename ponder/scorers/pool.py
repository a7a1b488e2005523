"""Scoring on every core: one single-thread process a core, each with the scorer loaded from its folder.

    with ScorerPool("runs/scorer_nano", num_workers=2) as pool:
        for index, scores in pool.score(chunks_of_groups): ...      # in the order they are finished

Scores do not depend on the process that computes them. A few chunks are sent at a time, so that Ctrl-C loses seconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ponder import processes
from ponder.scorers.base import TokenScorer
from ponder.scorers.files import load_scorer
from ponder.scorers.packing import CompletionGroup

Scores = list[NDArray[np.float64]]
_scorer: TokenScorer | None = None  # in a worker process


class ScorerPool:
    """A scorer in several processes, each with its own copy of the weights."""

    def __init__(self, folder: str | Path, *, num_workers: int) -> None:
        """num_workers=0 scores in this process."""
        self.num_workers = num_workers
        self._local = load_scorer(folder) if not num_workers else None
        self._pool = (
            ProcessPoolExecutor(
                num_workers,
                processes.context(),
                initializer=processes.enter,
                initargs=(dict(os.environ), _start_worker, str(folder)),
            )
            if num_workers
            else None
        )

    def score(self, chunks: Sequence[Sequence[CompletionGroup]]) -> Iterator[tuple[int, Scores]]:
        """(index of the chunk, its scores), in the order they are finished."""
        if self._pool is None:
            assert self._local is not None
            for index, chunk in enumerate(chunks):
                yield index, self._local.score(chunk)
            return
        waiting = iter(enumerate(chunks))
        running: dict[Future[Scores], int] = {}
        while True:
            with processes.starting():  # a pool starts its processes when it is given work
                while len(running) < 2 * self.num_workers and (following := next(waiting, None)):
                    running[self._pool.submit(_score, following[1])] = following[0]
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()

    def __enter__(self) -> ScorerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _start_worker(folder: str) -> None:
    global _scorer
    from ponder.models.worker import become_worker  # imports torch, which this package does without

    become_worker()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the pool ends them with when one has died
    _scorer = load_scorer(folder)


def _score(chunk: Sequence[CompletionGroup]) -> Scores:
    assert _scorer is not None
    return _scorer.score(chunk)
