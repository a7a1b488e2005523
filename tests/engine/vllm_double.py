"""A double of vLLM's HTTP server: its routes and shapes as version 0.32 was seen to answer, over a model of ours.

It has the two faults that were found in the real one: a tied head keeps its old weights when others are loaded, and a
prefix cache that is neither cleared nor salted goes on with the keys and values of old weights.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.models.transformer import Transformer
from ponder.models.weights import load_model

Weights = tuple[Transformer, Tensor]  # and what the head computes with


class VllmDouble:
    def __init__(self, model: Transformer) -> None:
        self.weights: Weights = model, model.head_weight
        self.version = "default"
        self.cache: dict[tuple[str, tuple[int, ...]], Weights] = {}
        self.requests: list[dict[str, Any]] = []  # bodies of the requests to generate, as they came
        self.controls: list[str] = []
        self.refusals: list[tuple[int, str]] = []  # what the next requests to generate are answered
        self.clears = self.repairs_by_itself = True
        self.hangs = False
        self.num_left = 0  # clients that did not wait for their answer
        self._going = threading.Event()
        self._going.set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self._answer(handler, None)

            def do_POST(handler) -> None:
                body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
                self._answer(handler, json.loads(body or b"{}"))

            def log_message(handler, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        path, _, query = handler.path.partition("?")
        status, answer = 200, {}
        if path == "/inference/v1/generate":
            self.requests.append(body)
            if self.refusals:
                status, said = self.refusals.pop(0)
                answer = {"error": {"message": said, "code": status}}
            elif body["stream"]:
                return self._stream(handler, body)
            else:
                parts = list(self._draw(body))
                if parts is not None:
                    answer = {"request_id": "r", "choices": [self._whole(parts)], "prompt_logprobs": None}
        else:
            self.controls.append(path)
            try:
                answer = self._control(path, urllib.parse.parse_qs(query), body)
            except KeyError:
                status, answer = 404, {"detail": "Not Found"}
            except Exception as error:
                status, answer = 500, {"error": {"message": f"{type(error).__name__}: {error}"}}
        self._send(handler, status, json.dumps(answer).encode())

    def _send(self, handler: BaseHTTPRequestHandler, status: int, data: bytes) -> None:
        try:
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            self.num_left += 1

    def _control(self, path: str, query: dict[str, list[str]], body: Any) -> Any:
        return {
            "/health": lambda: {},
            "/pause": lambda: self._pause(query),
            "/resume": lambda: self._going.set() or {"status": "resumed"},
            "/update_weight_version": lambda: self._say_version(body["new_version"]),
            "/weight_info": lambda: {"weight_version": self.version},
            "/collective_rpc": lambda: {"results": [getattr(self, body["method"])(*body["args"])]},
        }[path]()

    def _pause(self, query: dict[str, list[str]]) -> dict[str, str]:
        assert query["mode"] == ["keep"]
        self._going.clear()
        time.sleep(0.05)  # what computes a token does so to its end
        if query.get("clear_cache") == ["true"]:
            self.cache.clear()
        return {"status": "paused"}

    def _say_version(self, version: str) -> dict[str, Any]:
        self.version = version
        return {"success": True, "new_version": version}

    def ponder_load(self, folder: str, repair: bool = True) -> dict[str, Any]:
        model, (_, head) = load_model(Path(folder)), self.weights
        self.weights = model, model.head_weight if repair else head
        return {"head": "repaired" if repair else "wrong", "changed": True}

    @torch.no_grad()
    def _draw(self, body: dict[str, Any]) -> Iterator[tuple[int, float, str]]:
        """(token, log-probability of what was drawn from, version) one after the other."""
        said, sampling = list(body["token_ids"]), body["sampling_params"]
        assert sampling["logprobs"] == 0 and sampling["ignore_eos"] and sampling["max_tokens"] >= 1
        generator = torch.Generator().manual_seed(sampling["seed"])
        key = body["cache_salt"], tuple(said)
        stops = sampling["stop_token_ids"]
        while self.hangs:
            time.sleep(0.01)
        for number in range(sampling["max_tokens"]):
            self._going.wait()
            version = self.version
            model, head = self.cache.setdefault(key, self.weights)
            logits = model.hidden(torch.tensor([said]))[0, -1] @ head.t()
            if number < sampling["min_tokens"]:
                logits[stops] = -torch.inf
            for token, bias in sampling.get("logit_bias", {}).items():
                logits[int(token)] += bias
            is_greedy = sampling["temperature"] == 0
            logprobs = (logits if is_greedy else logits / sampling["temperature"]).log_softmax(-1)
            if sampling["top_p"] < 1:
                ordered = logprobs.sort(descending=True)
                over = ordered.values.exp().cumsum(-1) - ordered.values.exp() >= sampling["top_p"]
                logprobs[ordered.indices[over]] = -torch.inf
                logprobs = logprobs.log_softmax(-1)
            token = int(logprobs.argmax() if is_greedy else torch.multinomial(logprobs.exp(), 1, generator=generator))
            said.append(token)
            yield token, float(logprobs[token]), version
            if token in stops:
                return

    def _whole(self, parts: list[tuple[int, float, str]]) -> dict[str, Any]:
        spans: list[dict[str, Any]] = []
        for place, (_, _, version) in enumerate(parts):
            if not spans or spans[-1]["version"] != version:
                spans.append({"version": version, "start": place, "end": place})
            spans[-1]["end"] = place + 1
        return self._portion(parts) | {"weight_versions": spans}

    def _portion(self, parts: list[tuple[int, float, str]]) -> dict[str, Any]:
        content = [{"token_id": token, "logprob": value, "rank": None, "top_logprobs": []} for token, value, _ in parts]
        return {"index": 0, "token_ids": [token for token, _, _ in parts], "logprobs": {"content": content},
                "finish_reason": None, "weight_versions": None}  # fmt: skip

    def _stream(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        drawn = []
        try:
            for part in self._draw(body):
                drawn.append(part)
                self._event(handler, self._portion([part]))
            self._event(handler, self._whole(drawn) | {"token_ids": [], "logprobs": {"content": []}})
            handler.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.num_left += 1

    def _event(self, handler: BaseHTTPRequestHandler, choice: dict[str, Any]) -> None:
        handler.wfile.write(f"data: {json.dumps({'request_id': 'r', 'choices': [choice]})}\n\n".encode())
        handler.wfile.flush()


@contextlib.contextmanager
def double_of(model: Transformer) -> Iterator[VllmDouble]:
    double = VllmDouble(model)
    try:
        yield double
    finally:
        double.close()
