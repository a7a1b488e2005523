"""Run the app with uvicorn until SIGTERM: refuse new work, let running work end, exit 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from ponder.config import ConfigError
from ponder.serve.service import Settings
from ponder.types import Engine


def serve(engine: Engine, settings: Settings, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Blocks until the process is told to stop. on_ready gets the address, with the port that was really taken."""
    try:
        import llguidance  # noqa: F401  of answers of a given form, and of patterns
        import uvicorn

        from ponder.serve.app import make_app
        from ponder.serve.sending import Gathered
    except ImportError as error:
        raise ConfigError(f'serving needs {error.name}: pip install "ponder[serve]"') from None
    app = make_app(engine, settings)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="error", access_log=False, server_header=False, lifespan="on",
        http=Gathered, proxy_headers=False, timeout_graceful_shutdown=int(settings.drain) + 10, timeout_keep_alive=75,
        ws="none",
        h11_max_incomplete_event_size=64 << 10,
    )  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                shown = f"[{host}]" if ":" in host else host
                on_ready(f"http://{shown}:{port}")

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # ours, below: uvicorn raises the signal again at the end, and the exit code would not be 0

    server = Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            app.service.drain()  # type: ignore[attr-defined]
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve()

    asyncio.run(main())
    if not server.started:
        raise ConfigError(f"cannot listen on {host}:{port}; is the port taken? try another --port")
