"""What a training request says, and how the answers are written: the two messages of the SDK that are not JSON.

    request = read_request(body)                 # whose it is, and its place in line; the data is read by the job
    data = [read_datum(view) for view in request.data]
    sample_response([(ids, logprobs, "stop"), ...])

Field numbers are those of the public messages of the Tinker SDK 0.38. Images, audio and sparse tensors are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ponder.tinker.protobuf import (
    WireError,
    array,
    as_bytes,
    as_double,
    as_int,
    as_ints,
    as_text,
    blob,
    doubles,
    fields,
    integer,
    text,
)

FLOAT32, INT64 = 1, 2  # DType
_DTYPES = {FLOAT32: "<f4", INT64: "<i8"}
_STOPS = {"stop": 0, "length": 1}  # StopReason


@dataclass(frozen=True, eq=False)
class Datum:
    """One sequence: its ids as the chunks they came in, and one number a position by the name of the input."""

    chunks: list[np.ndarray]
    inputs: dict[str, np.ndarray]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)


@dataclass(kw_only=True)
class ForwardBackward:
    """A request for a loss, with its gradient or without."""

    model_id: str = ""
    seq_id: int = 0
    loss: str = ""
    settings: dict[str, float | str] = field(default_factory=dict)
    is_forward_only: bool = False
    data: list[memoryview] = field(default_factory=list)  # one a datum, not read yet


def read_request(body: bytes) -> ForwardBackward:
    """The request in a protobuf message. WireError where it is none."""
    request = ForwardBackward()
    for number, value in fields(memoryview(body)):
        if number == 1:
            request.model_id = as_text(value)
        elif number == 2:
            request.seq_id = as_int(value)
        elif number == 3:
            request.data.append(as_bytes(value))
        elif number == 4:
            request.loss = as_text(value)
        elif number == 5:
            key, setting = _entry(value)
            request.settings.setdefault(key, as_double(setting))
        elif number == 6:
            request.is_forward_only = bool(as_int(value))
        elif number == 7:
            key, setting = _entry(value)
            for kind, content in fields(as_bytes(setting)):
                request.settings[key] = as_double(content) if kind == 1 else as_text(content)
    return request


def read_datum(data: memoryview) -> Datum:
    """One datum of a request. WireError where it is none."""
    chunks, inputs = [], {}
    for number, value in fields(data):
        if number == 1:
            chunks.append(_chunk(as_bytes(value)))
        elif number == 2:
            key, tensor = _entry(value)
            inputs[key] = _tensor(as_bytes(tensor), key)
    return Datum(chunks, inputs)


def _entry(value: int | memoryview) -> tuple[str, int | memoryview]:
    """A pair of a map."""
    found = dict(fields(as_bytes(value)))
    return as_text(found.get(1, memoryview(b""))), found.get(2, memoryview(b""))


def _chunk(data: memoryview) -> np.ndarray:
    for number, value in fields(data):
        if number != 1:
            raise WireError("images and audio are not supported; send token ids")
        for kind, ids in fields(as_bytes(value)):
            if kind == 1:
                return _numbers(as_bytes(ids), "<i4", "token ids").astype(np.int64)
    return np.zeros(0, np.int64)


def _tensor(data: memoryview, name: str) -> np.ndarray:
    values, dtype, shape = memoryview(b""), 0, []
    for number, value in fields(data):
        if number == 1:
            values = as_bytes(value)
        elif number == 2:
            raise WireError(f"{name} is a sparse tensor; send one number a position")
        elif number == 3:
            dtype = as_int(value)
        elif number == 4:
            shape += as_ints(value)
    if dtype not in _DTYPES:
        raise WireError(f"{name} has dtype {dtype}; send float32 or int64")
    if len(shape) > 1:
        raise WireError(f"{name} has shape {shape}; send one number a position")
    return _numbers(values, _DTYPES[dtype], name)


def _numbers(data: memoryview, dtype: str, what: str) -> np.ndarray:
    if len(data) % np.dtype(dtype).itemsize:
        raise WireError(f"{what}: {len(data)} bytes are no whole number of values")
    return np.frombuffer(data, dtype)


def loss_response(logprobs: Sequence[np.ndarray], metrics: Mapping[str, float]) -> bytes:
    """ForwardBackwardOutput: the log-probability of every target of every datum, and sums over all."""
    ends = 4 * np.cumsum([0, *(len(each) for each in logprobs)])
    flat = np.concatenate(logprobs) if logprobs else np.zeros(0)
    tensor = array(1, flat, "<f4") + array(2, ends, "<i8") + integer(3, FLOAT32)
    record = text(1, "ArrayRecord") + blob(2, text(1, "logprobs") + blob(2, tensor)) + integer(3, len(logprobs))
    return text(1, "ArrayRecord") + blob(2, record) + doubles(3, metrics)


def sample_response(
    samples: Sequence[tuple[Sequence[int], Sequence[float], str]], prompt_logprobs: np.ndarray | None = None
) -> bytes:
    """SampleResponse: (token ids, their log-probabilities, "stop" or "length") a sample."""
    parts = [
        blob(1, integer(1, _STOPS[why]) + array(2, np.asarray(ids), "<i4") + array(3, np.asarray(logprobs), "<f4"))
        for ids, logprobs, why in samples
    ]
    prompt = array(2, prompt_logprobs, "<f4") if prompt_logprobs is not None else b""
    return b"".join(parts) + prompt
