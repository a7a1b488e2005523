"""The worker's side of the local engine: a runner in a process or thread, and the messages that it takes and sends.

Messages:

    in   None: end          [(kind, what), ...], kind one of
                                add              a Request
                                cancel           its id
                                close_reasoning  its id
                                pause            stop between two tokens and say so, until
                                reload           (version) other weights lie in the memory
    out  (tokens of running streams, finished requests)       None: paused       a text: it failed, and why
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

from ponder.engine.form import Answers
from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner
from ponder.models.flat import Flat
from ponder.models.tokenizer import Tokenizer, is_byte_level
from ponder.models.worker import become_worker

EMIT_EVERY = 0.04  # seconds between two messages about a running stream: more of them would cost sampling its cores


class RunnerArgs(NamedTuple):
    """What a worker makes its runner of, beside the weights."""

    layout: WeightLayout
    tokenizer: Tokenizer
    num_slots: int
    keep_hidden: bool
    closes_once: bool
    version: int  # of the weights

    def runner(self, weights: Flat) -> Runner:
        """weights: as `layout` arranged them, in memory that other processes may share."""
        tokenizer = self.tokenizer
        return Runner(
            self.layout,
            weights.views(),
            end_id=tokenizer.end_id,
            end_ids=tokenizer.end_ids,
            think_id=tokenizer.think_id,
            unthink_id=tokenizer.unthink_id,
            pad_id=tokenizer.pad_id,
            decode=tokenizer.decode,
            num_slots=self.num_slots,
            keep_hidden=self.keep_hidden,
            closes_once=self.closes_once,
            version=self.version,
            answers=Answers(tokenizer) if is_byte_level(tokenizer) else None,
        )


def worker_process(connection: Any, args: RunnerArgs) -> None:
    """What a worker process runs until the engine ends; the first message brings the weights."""
    become_worker()
    serve(connection, args, None)


def serve(connection: Any, args: RunnerArgs, weights: Flat | None) -> None:
    """weights: None = they come first; nothing comes where the engine is closed before it began."""
    try:
        weights = weights or connection.recv()
        if weights is not None:
            _loop(connection, args.runner(weights))
    except (EOFError, ConnectionError):
        pass  # the other end is gone
    except Exception as error:  # reported, so that the caller sees the reason and not only a dead pipe
        with contextlib.suppress(OSError):
            connection.send(f"an engine worker failed: {type(error).__name__}: {error}")
        raise
    finally:
        connection.close()


def _loop(connection: Any, runner: Runner) -> None:
    """Take messages whenever there are some, wait for them when there is nothing to do."""
    emitted_at, is_paused = 0.0, False
    while True:
        while is_paused or not runner.has_work or connection.poll():
            batch = connection.recv()
            if batch is None:
                return
            for kind, what in batch:
                if kind == "add":
                    runner.add(what)
                elif kind == "cancel":
                    runner.cancel(what)
                elif kind == "close_reasoning":
                    runner.scheduler.close_reasoning(what)
                elif kind == "pause":
                    is_paused = True
                    connection.send(None)
                else:
                    is_paused = False
                    runner.reload(what)
        finished = runner.step()
        tokens: list[tuple[int, list[int]]] = []
        if time.monotonic() - emitted_at >= EMIT_EVERY:
            tokens, emitted_at = runner.scheduler.pending_tokens(), time.monotonic()
        if tokens or finished:
            connection.send((tokens, [(request.id, samples) for request, samples in finished]))
