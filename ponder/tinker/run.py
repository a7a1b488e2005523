"""Serve until SIGINT or SIGTERM."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ponder.config import ConfigError
from ponder.tinker.service import TinkerService


def serve(
    service: TinkerService, *, host: str, port: int, api_key: str | None, on_ready: Callable[[str], None]
) -> None:
    """Blocks. on_ready gets the address, with the port that was taken."""
    try:
        import uvicorn

        from ponder.tinker.app import make_app
    except ImportError as error:
        raise ConfigError(f'ponder tinker needs {error.name}: pip install "ponder[serve]"') from None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=256)
    except OSError:
        raise ConfigError(f"cannot listen on {host}:{port}; is the port taken? try another --port") from None
    config = uvicorn.Config(
        make_app(service, api_key=api_key), log_level="error", access_log=False, server_header=False, loop="asyncio",
        lifespan="on", ws="none", timeout_keep_alive=75, timeout_graceful_shutdown=5,
    )  # fmt: skip

    class _Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")

    _Server(config).run(sockets=[listening])
