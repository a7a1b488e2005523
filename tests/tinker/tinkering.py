"""A tiny model for the Tinker API's tests, its client without the SDK, and requests as the SDK writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starlette.testclient import TestClient

from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.tinker.app import make_app
from ponder.tinker.protobuf import array, blob, double, fields, integer, text
from ponder.tinker.sampling import Base
from ponder.tinker.service import TinkerService, TinkerSettings
from tests.helpers import tiny_model

NAME = "acme/tiny-1B"


def tiny_folder(folder: Path) -> Path:
    """Two layers over bytes, as a model folder."""
    save_model(tiny_model(window=64), folder)
    ByteTokenizer().save(str(folder))
    return folder


def tiny_base(folder: Path) -> Base:
    return Base(NAME, str(tiny_folder(folder)), dtype=torch.float32, num_workers=0)


def tensor(name: str, values: Sequence[float], *, dtype: int, shape: Sequence[int] | None = None) -> bytes:
    """An entry of loss_fn_inputs. dtype: 1 = float32, 2 = int64."""
    told = array(1, np.asarray(values), "<f4" if dtype == 1 else "<i8") + integer(3, dtype)
    told += b"".join(integer(4, size) for size in shape or [len(values)])
    return blob(2, text(1, name) + blob(2, told))


def datum(*chunks: Sequence[int], **inputs: Sequence[float]) -> bytes:
    said = [blob(1, blob(1, array(1, np.asarray(chunk), "<i4"))) for chunk in chunks]
    return b"".join(said) + b"".join(
        tensor(name, values, dtype=2 if name == "target_tokens" else 1) for name, values in inputs.items()
    )


def request(
    data: Sequence[bytes], loss: str, *, model: str = "m", number: int = 1, forward_only: bool = False,
    **settings: float,
) -> bytes:  # fmt: skip
    body = text(1, model) + integer(2, number) + b"".join(blob(3, each) for each in data) + text(4, loss)
    body += integer(6, 1) if forward_only else b""
    return body + b"".join(blob(7, text(1, k) + blob(2, double(1, v))) for k, v in settings.items())


def shifted(ids: Sequence[int], weights: Sequence[float] | None = None) -> bytes:
    """Supervised: every token from those before it."""
    n = len(ids) - 1
    return datum(ids[:-1], target_tokens=ids[1:], weights=weights or [1.0] * n)


def sampled(prompt: Sequence[int], own: Sequence[int], logprobs: Sequence[float], advantage: float) -> bytes:
    """As the cookbook's loop makes it: the prompt's chunk and one more."""
    n = len(prompt) - 1
    return datum(
        prompt, own[:-1], target_tokens=[0] * n + [*own], logprobs=[0.0] * n + [*logprobs],
        advantages=[0.0] * n + [advantage] * len(own),
    )  # fmt: skip


def read_output(data: bytes) -> tuple[list[np.ndarray], dict[str, float]]:
    """(log-probabilities of each datum, metrics) of a ForwardBackwardOutput."""
    told = list(fields(memoryview(data)))
    record = dict(fields(next(value for number, value in told if number == 2)))
    parts = dict(fields(dict(fields(record[2]))[2]))
    ends, flat = np.frombuffer(parts[2], "<i8") // 4, np.frombuffer(parts[1], "<f4")
    metrics = {}
    for pair in (dict(fields(value)) for number, value in told if number == 3):
        metrics[bytes(pair[1]).decode()] = struct.unpack("<d", pair[2])[0]
    return [flat[a:b] for a, b in pairwise(ends)], metrics


def read_samples(data: bytes) -> tuple[list[tuple[list[int], list[float], int]], np.ndarray | None]:
    """((ids, log-probabilities, stop reason) of each sample, of the prompt) of a SampleResponse."""
    samples, prompt = [], None
    for number, value in fields(memoryview(data)):
        if number == 1:
            parts = dict(fields(value))
            ids, logprobs = np.frombuffer(parts[2], "<i4"), np.frombuffer(parts[3], "<f4")
            samples.append((ids.tolist(), logprobs.tolist(), parts[1]))
        elif number == 2:
            prompt = np.frombuffer(value, "<f4")
    return samples, prompt


class Client:
    """What the SDK does, one call at a time."""

    def __init__(self, http: TestClient) -> None:
        self.http = http
        self.session = self.post("create_session", tags=[], user_metadata={}, sdk_version="0.38.0")["session_id"]

    def post(self, path: str, /, *, status: int = 200, **body: Any) -> Any:
        found = self.http.post(f"/api/v1/{path}", json=body)
        assert found.status_code == status, found.text
        return found.json()

    def result(self, promised: Mapping[str, Any]) -> Any:
        found = self.http.post("/api/v1/retrieve_future", json={"request_id": promised["request_id"]})
        while found.status_code == 408:  # not yet: the SDK asks again too
            found = self.http.post("/api/v1/retrieve_future", json={"request_id": promised["request_id"]})
        assert found.status_code == 200, found.text
        return found.content if "protobuf" in found.headers["content-type"] else found.json()

    def model(self, number: int = 0, **lora: Any) -> str:
        settings = {"rank": 4, "seed": 0, **lora}
        made = self.result(
            self.post("create_model", session_id=self.session, model_seq_id=number, base_model=NAME,
                      lora_config=settings)
        )  # fmt: skip
        assert "model_id" in made, made
        return str(made["model_id"])

    def train(self, model: str, number: int, data: Sequence[bytes], loss: str, **how: Any) -> Any:
        body = request(data, loss, model=model, number=number, **how)
        found = self.http.post(
            "/api/v1/forward_backward", content=body, headers={"content-type": "application/x-protobuf"}
        )
        assert found.status_code == 200, found.text
        return found.json()

    def step(self, model: str, number: int, **adam: float) -> Any:
        return self.post("optim_step", model_id=model, seq_id=number, adam_params={"learning_rate": 1e-2, **adam})

    def base_sampler(self, number: int) -> str:
        made = self.post(
            "create_sampling_session", session_id=self.session, sampling_session_seq_id=number, base_model=NAME
        )
        return str(made["sampling_session_id"])

    def snapshot(self, model: str, number: int, sampler: int) -> str:
        promised = self.post(
            "save_weights_for_sampler", model_id=model, seq_id=number, sampling_session_seq_id=sampler,
            kind="snapshot",
        )  # fmt: skip
        return str(self.result(promised)["sampling_session_id"])

    def sample(
        self, sampler: str, number: int, prompt: Sequence[int], *, n: int = 2, prompt_logprobs: bool = False,
        **params: Any,
    ) -> Any:  # fmt: skip
        promised = self.post(
            "asample", sampling_session_id=sampler, seq_id=number, num_samples=n, prompt_logprobs=prompt_logprobs,
            prompt={"chunks": [{"type": "encoded_text", "tokens": list(prompt)}]},
            sampling_params={"max_tokens": 6, "temperature": 1.0, "top_k": -1, "top_p": 1.0, **params},
        )  # fmt: skip
        found = self.result(promised)
        return read_samples(found) if isinstance(found, bytes) else found


@contextmanager
def server(base: Base, folder: Path, *, api_key: str | None = None, **settings: Any) -> Iterator[TestClient]:
    service = TinkerService({NAME: base}, TinkerSettings(folder=folder, **settings))
    app, key = make_app(service, api_key=api_key), api_key or "tml-any"
    with TestClient(app, base_url="http://127.0.0.1:8010", headers={"x-api-key": key}) as http:
        yield http
