"""Protocol Buffers' binary format, as far as this server needs it: fields in, fields out, without a library.

    for number, value in fields(data): ...      # value: an int (varint), or a view of bytes of any other kind
    message(text(1, "logprobs"), floats(2, array))

A field is a tag (number << 3 | type) and its value: a varint, 8 bytes, a length and so many bytes, or 4 bytes
(https://protobuf.dev/programming-guides/encoding). What is cut off or nested wrongly is a WireError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import numpy as np

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5


MAX_FIELDS = 200_000  # of one message: an empty field takes two bytes on the way and a hundred here


class WireError(ValueError):
    """What came is not what it claims to be."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of every field, in order."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise WireError(f"a protobuf message has more than {MAX_FIELDS:,} fields; send fewer data at a time")
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (EIGHT, FOUR):
            size = 8 if kind == EIGHT else 4
        else:
            raise WireError(f"a protobuf field of type {kind} is not known here")
        if size > len(data) - at:
            raise WireError("the protobuf message is cut off")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise WireError("the protobuf message is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise WireError("a protobuf number is longer than 64 bits")


def as_bytes(value: int | memoryview) -> memoryview:
    """A field that is no varint; WireError for one that is."""
    if isinstance(value, int):
        raise WireError("a protobuf field holds a number where bytes belong")
    return value


def as_text(value: int | memoryview) -> str:
    """WireError for a varint, and for bytes that are not UTF-8."""
    try:
        return bytes(as_bytes(value)).decode()
    except UnicodeDecodeError:
        raise WireError("a protobuf string is not UTF-8") from None


def as_double(value: int | memoryview) -> float:
    """From 8 bytes, little-endian; WireError for anything else."""
    data = as_bytes(value)
    if len(data) != 8:
        raise WireError("a protobuf double has 8 bytes")
    number: float = struct.unpack("<d", data)[0]
    return number


def as_int(value: int | memoryview) -> int:
    """A varint as a signed 64-bit number; WireError for bytes."""
    if not isinstance(value, int):
        raise WireError("a protobuf field holds bytes where a number belongs")
    return value - (1 << 64) if value >> 63 else value


def as_ints(value: int | memoryview) -> list[int]:
    """One element of a repeated number, or many packed into bytes."""
    if isinstance(value, int):
        return [as_int(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(as_int(number))
    return found


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first. A negative number is taken modulo 2^64, so it has ten bytes."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """A varint field. number: of the field, as in `double`, `blob` and `text`."""
    return varint(number << 3 | VARINT) + varint(value)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | EIGHT) + struct.pack("<d", value)


def blob(number: int, value: bytes) -> bytes:
    """Bytes, or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    return blob(number, value.encode())


def array(number: int, values: np.ndarray, dtype: str) -> bytes:
    """Numbers as little-endian bytes; dtype: "<f4", "<i4" or "<i8"."""
    return blob(number, np.ascontiguousarray(values, dtype).tobytes())


def doubles(number: int, values: Mapping[str, float]) -> bytes:
    """map<string, double>."""
    return b"".join(blob(number, text(1, key) + double(2, value)) for key, value in values.items())
