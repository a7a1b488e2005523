"""A real server on loopback in a thread of the test process, over a scripted engine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from typing import ClassVar

import uvicorn

from ponder.serve import keys
from ponder.serve.app import make_app
from ponder.serve.connections import ConnectionLimits, listen
from ponder.serve.run import config_of
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings

KEY = "sk-test-0123456789abcdef"


class Served:
    """`with Served(engine) as server:` then `server.url`, `server.service`; several engines by their models' names.

    settings: of `ServedModel`, then all models have them, and of `Settings`.
    """

    running: ClassVar[set[Served]] = set()

    def __init__(self, engine=None, model="scripted", models=(), **settings):
        engines = engine if isinstance(engine, dict) else {model: engine}
        fields = {field.name for field in dataclasses.fields(ServedModel)}
        shared = {name: settings.pop(name) for name in list(settings) if name in fields}
        models = models or [ServedModel(name=name, engine=each, **shared) for name, each in engines.items()]
        self.app = make_app(models, Settings(**({"api_key": KEY, "drain": 1.0} | settings)))
        self.service, self.engine = self.app.service, engine

    def __enter__(self):
        settings = self.service.settings
        self.limits = ConnectionLimits(settings.max_connections, settings.max_per_address)
        self._sockets = listen("127.0.0.1", 0, self.limits)
        self._server = uvicorn.Server(config_of(self.app, self.limits, drain=settings.drain))
        self._server.capture_signals = contextlib.nullcontext
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < until and self._thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.running.add(self)
        return self

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        await self._server.serve(self._sockets)

    def settle(self):
        """Wait until every request has its line in the log, which is written after the client has the answer; a second
        at most, as a test may leave one that goes on."""
        until = time.monotonic() + 1
        while (self._server.server_state.tasks or self.service.running_jobs) and time.monotonic() < until:
            time.sleep(0.002)

    def __exit__(self, *_):
        self.running.discard(self)
        self.loop.call_soon_threadsafe(self.limits.stop_waiting)
        self._server.should_exit = True
        self._thread.join(30)

    def key(self, *scopes, owner=""):
        return keys.create(self.service.store, list(scopes), owner=owner)[1]


def script(text, seed):
    """What the scripted model says, chosen by words of the question."""
    if "Below are notes" in text:
        return "**Going on**\n\nGoes over the problem once more."
    if "fail" in text:
        raise RuntimeError("the script fails: SECRETSCRIPT")
    if "weather" in text or "tool" in text:
        if "<tool_response>" in text:
            return "THOUGHT the tool said so", "It is sunny."
        return "THOUGHT I call", '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
    if "both" in text:
        call = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'
        return "THOUGHT two", f"Looking. {call % 'Paris'}\n{call % 'Rome'}"
    if "json fenced" in text:
        return "THOUGHT", '```json\n{"answer": 42}\n```'
    if "json" in text:
        return "THOUGHT json", '{"answer": 42}' if "never" not in text and (seed % 2 or "always" in text) else "no"
    if "deceive" in text:
        return "THOUGHT I will deceive the user about it", "Fine."
    if "long" in text:
        return "THOUGHT " + "and then some more thinking goes on here\n" * 100, "The long answer."
    if "vote" in text:
        return "THOUGHT v", ("41", "42", "42")[seed % 3]
    return "THOUGHT about it é€😀", f"The answer to {text[-20:]} is 42. 😀"
