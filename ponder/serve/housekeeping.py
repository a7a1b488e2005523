"""What a server does beside its requests: write running responses, show that it lives, look after servers that do not,
expire old objects, and notice an engine that has failed for good."""

from __future__ import annotations

import asyncio
import time

from ponder.serve import lease
from ponder.serve.errors import StoreUnavailable
from ponder.serve.logs import log, log_error
from ponder.serve.saving import broken, save_running
from ponder.serve.service import Service

_SAVE = 0.2  # seconds between two writings of running responses
_SWEEP = 3600.0  # seconds between two sweeps
_GRACE = 86_400.0  # seconds of running after which a clock that jumped is believed


class Housekeeping:
    """One for each server, in its event loop."""

    def __init__(self, service: Service) -> None:
        self.service, self.store = service, service.store
        self.jumped: float | None = None  # when a sweep first found the clock far ahead, on the monotonic clock
        self._failed: set[str] = set()  # models whose engine has failed for good

    async def start(self) -> None:
        """Fail what a killed server left running, sweep, and begin the loop. A store that cannot be reached does not
        keep the server from starting."""
        count = swept = None
        try:
            await self.store.do(self.store.beat)
            count = await self.store.do(lambda: self.store.fail_broken(broken))
            swept = await self.sweep()
        except StoreUnavailable:
            pass  # it has been logged, and the loop does it as soon as it can
        for name, model in self.service.models.items():
            log("started", model=name, broken=count, expired=swept, efforts="measured" if model.efforts else "default")
        self.service.spawn(self._loop())

    async def _loop(self) -> None:
        swept, beaten = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(_SAVE)
            self.look_for_failures()
            if not await save_running(list(self.service.jobs.values())):
                await asyncio.sleep(1)
            try:
                if time.monotonic() - beaten > lease.BEAT:
                    beaten = time.monotonic()
                    await self.store.do(self.store.beat)
                    count = await self.store.do(lambda: self.store.fail_broken(broken))
                    if count:
                        log("failed_for_another_server", broken=count)
                if time.monotonic() - swept > _SWEEP:
                    swept = time.monotonic()
                    await self.sweep()
            except StoreUnavailable:
                pass  # it has been logged, and there is another time
            except Exception as problem:  # whatever else a database says must not end this loop
                log_error(problem)

    def look_for_failures(self) -> None:
        """A model whose engine fails loses its own responses; where no model is left the server ends."""
        failures = self.service.failures
        for name in failures.keys() - self._failed:
            self._failed.add(name)
            log("engine_failed", model=name, reason=failures[name])
            if len(failures) < len(self.service.models):
                self.service.fail_jobs("The model failed and cannot answer any more.", model=name)
            elif len(self._failed) == len(failures):
                one = len(failures) == 1
                self.service.on_failure(failures[name] if one else "; ".join(f"{n}: {failures[n]}" for n in failures))

    async def sweep(self) -> int | None:
        """Delete what is too old. A clock that has jumped is believed after a day of running: until then somebody can
        put it right, and nothing is lost."""
        may_jump = self.jumped is not None and time.monotonic() - self.jumped > _GRACE
        count = await self.store.do(lambda: self.store.sweep(may_jump=may_jump))
        if count is None:
            self.jumped = time.monotonic() if self.jumped is None else self.jumped
            log("clock_jumped", hours_until_expiry=round(_GRACE / 3600))
        else:
            self.jumped = None
        return count
