"""A double of an OpenEnv server: /schema over HTTP, /ws with reset, step and close, a session an episode.

The environment: a number from 0 to 9 by the seed is to be guessed; each step shows higher, lower or right; a right
guess is worth 1, a wrong one -0.1; eight steps at most.
"""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from random import Random

from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

SCHEMA = {
    "action": {"properties": {"guess": {"type": "integer"}, "metadata": {"type": "object"}}, "required": ["guess"]},
    "observation": {}, "state": {},
}  # fmt: skip


class OpenEnvServer:
    """`with OpenEnvServer() as server: server.url`. broken: what a step does instead. most: sessions at a time."""

    def __init__(self, *, broken: str = "", most: int = 100, schema=SCHEMA) -> None:
        self.broken, self.most, self.schema = broken, most, schema
        self.num_open = self.num_resets = self.num_steps = 0

    def __enter__(self) -> OpenEnvServer:
        self._server = serve(self._talk, "127.0.0.1", 0, process_request=self._http)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _http(self, connection, request):
        if request.path == "/schema":
            body = json.dumps(self.schema).encode()
            headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
            return Response(HTTPStatus.OK, "OK", headers, body)
        return None

    def _talk(self, connection) -> None:
        self.num_open += 1
        try:
            if self.num_open > self.most:
                return _error(connection, "CAPACITY_REACHED", "full")
            target, steps = 0, 0
            for text in connection:
                message = json.loads(text)
                data = message.get("data") or {}
                if message["type"] == "close":
                    return None
                if message["type"] == "reset":
                    self.num_resets += 1
                    target, steps = Random(data["seed"]).randrange(10), 0
                    _say(connection, "guess a number from 0 to 9", None, False)
                    continue
                if set(data) != {"guess"} or not isinstance(data["guess"], int):
                    _error(connection, "VALIDATION_ERROR", "guess is an integer")
                    continue
                self.num_steps += 1
                steps += 1
                if self.broken == "closes":
                    return None
                if self.broken:
                    _error(connection, "EXECUTION_ERROR", self.broken)
                    continue
                is_right = data["guess"] == target
                word = "right" if is_right else "higher" if data["guess"] < target else "lower"
                _say(connection, word, 1.0 if is_right else -0.1, is_right or steps == 8)
        finally:
            self.num_open -= 1


def _say(connection, text: str, reward: float | None, done: bool) -> None:
    data = {"observation": {"text": text}, "reward": reward, "done": done}
    connection.send(json.dumps({"type": "observation", "data": data}))


def _error(connection, code: str, message: str) -> None:
    connection.send(json.dumps({"type": "error", "data": {"code": code, "message": message}}))


def target_of(seed: int) -> int:
    return Random(seed).randrange(10)
