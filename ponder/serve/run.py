"""Run the app with uvicorn until SIGTERM: refuse new work, let running work end, exit 0. When no engine will ever serve
again the process ends with an error, so that its supervisor starts it anew."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ponder.config import ConfigError
from ponder.serve.logs import log, reason_of
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings

if TYPE_CHECKING:
    import uvicorn

    from ponder.serve.connections import ConnectionLimits


def config_of(app: Any, limits: ConnectionLimits, *, drain: float) -> uvicorn.Config:
    """How uvicorn is to serve: the connections are watched by `limits`."""
    import uvicorn

    from ponder.serve.connections import GuardedProtocol

    return uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, lifespan="on", loop="asyncio",
        http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]
        proxy_headers=False, timeout_graceful_shutdown=int(drain) + 10, timeout_keep_alive=75, ws="none",
        h11_max_incomplete_event_size=64 << 10, backlog=64,
    )  # fmt: skip


def quiet(limits: ConnectionLimits) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What the event loop reports, as one line now and then: a traceback may quote what it was about."""

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        reason = reason_of(error) if error is not None else None
        limits.log_once(f"loop_{type(error).__name__}", message=str(context.get("message", ""))[:100], reason=reason)

    return report


def serve(
    models: Sequence[ServedModel], settings: Settings, *, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Blocks until the process is signalled to stop. on_ready gets the address, with the port that was taken."""
    try:
        import llguidance  # noqa: F401  of answers of a given form, and of patterns
        import uvicorn

        from ponder.serve.app import make_app
        from ponder.serve.connections import ConnectionLimits, listen, most_connections
    except ImportError as error:
        raise ConfigError(f'serving needs {error.name}: pip install "ponder[serve]"') from None
    most = most_connections(settings.max_connections)
    limits = ConnectionLimits(most, min(settings.max_per_address, most))
    try:
        sockets = listen(host, port, limits)
    except OSError:
        raise ConfigError(f"cannot listen on {host}:{port}; is the port taken? try another --port") from None
    app = make_app(models, settings)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                taken = sockets[0].getsockname()[1]
                shown = f"[{host}]" if ":" in host else host
                on_ready(f"http://{shown}:{taken}")

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # ours, below: uvicorn raises the signal again at the end, and the exit code would not be 0

    server = Server(config_of(app, limits, drain=settings.drain))
    failed: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(quiet(limits))

        def stop() -> None:
            app.service.drain()  # type: ignore[attr-defined]
            limits.stop_waiting()
            server.should_exit = True

        def fail(why: str) -> None:
            failed.append(why)
            app.service.give_up()  # type: ignore[attr-defined]
            stop()

        app.service.on_failure = fail  # type: ignore[attr-defined]
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve(list(sockets))

    asyncio.run(main())
    if failed:
        log("stopped", reason=failed[0])
        raise RuntimeError(f"the engine failed and does not come back: {failed[0]}; start the server again")
    if not server.started:
        raise ConfigError("the server could not start; the lines above say why")
