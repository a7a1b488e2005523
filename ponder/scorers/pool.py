"""Scoring on every core: one single-thread process a core, each with the scorer loaded from its folder.

    with closing(score_chunks("runs/scorer_nano", chunks_of_groups, num_workers=2)) as found:
        for index, scores in found: ...      # in the order they are finished

Scores do not depend on the process that computes them. A chunk is sent at a time, so that Ctrl-C loses seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder import processes
from ponder.scorers.files import load_scorer
from ponder.scorers.packing import CompletionGroup

Scores = list[NDArray[np.float64]]
Chunk = Sequence[CompletionGroup]


def score_chunks(
    folder: str | Path, chunks: Sequence[Chunk], *, num_workers: int
) -> Generator[tuple[int, Scores], None, None]:
    """(index of the chunk, its scores), in the order they are finished. num_workers=0 scores in this process.

    Raises RuntimeError where a worker fails or ends. The workers end with the generator: close it.
    """
    if not num_workers:
        scorer = load_scorer(folder)
        for index, chunk in enumerate(chunks):
            yield index, scorer.score(chunk)
        return
    waiting = iter(enumerate(chunks))
    workers: dict[Connection, Any] = {}
    try:
        for _ in range(min(num_workers, len(chunks))):
            connection, worker = processes.start(_serve, (str(folder),), name="ponder-scorer")
            workers[connection] = worker
        busy = {connection for connection in workers if _send_next(connection, waiting)}
        while busy:
            ready: list[Any] = wait(list(busy))
            for connection in ready:
                answer = _receive(connection, workers[connection])
                if not _send_next(connection, waiting):
                    busy.remove(connection)
                yield answer
    finally:
        for worker in workers.values():
            worker.kill()
            worker.join()


def _send_next(connection: Connection, waiting: Iterator[tuple[int, Chunk]]) -> bool:
    """Whether there was a chunk to send."""
    following = next(waiting, None)
    if following is not None:
        with contextlib.suppress(OSError):  # a dead worker: `_receive` finds it
            connection.send(following)
    return following is not None


def _receive(connection: Connection, worker: Any) -> tuple[int, Scores]:
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        raise RuntimeError(f"a scoring process ended {processes.why_ended(worker)}") from None
    if isinstance(answer, str):
        raise RuntimeError(f"scoring failed: {answer}")
    index, scores = answer
    return index, scores


def _serve(connection: Connection, folder: str) -> None:
    from ponder.models.worker import become_worker  # imports torch, which this package does without

    become_worker()
    scorer = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            index, chunk = connection.recv()
            try:
                scorer = scorer or load_scorer(folder)
                answer: Any = index, scorer.score(chunk)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            connection.send(answer)
