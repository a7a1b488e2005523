"""Dataclasses as JSON files and back: what a file lacks or has wrong is named, with what writes it anew.

    @dataclass(frozen=True, kw_only=True)
    class Row(Stored):
        remedy = "`ponder eval` writes it anew"
        step: int
        headline: str = named("trio")                  # the key in the file, where it is not the field's name
        cons_at: Mapping[int, Estimate] = at_k("cons")  # one key for each k in the file: "cons@1", "cons@2", ...
        gain: Estimate | None = if_known()              # no key at all where it is None

    Row.read(path).cons_at[64].value

A number that is none (a mean over nothing) is null in a file, as JSON has no nan. Keys that no field has are left
alone, so that a file of a later version is read as far as it is known; a field with a default may be missing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from ponder.files import nan_as_null, write_atomic
from ponder.types import SamplingParams

MISSING: Any = dataclasses.MISSING


class ResultError(ValueError):
    """A file of results that is damaged or of another version; the message says where, and what writes it anew."""


def named(key: str, default: Any = MISSING) -> Any:
    """A field whose key in the file is another word."""
    return dataclasses.field(default=default, metadata={"key": key})


def at_k(metric: str) -> Any:
    """A field that maps k to a number, each k a key of its own in the file: "cons@64"."""
    return dataclasses.field(default_factory=dict, metadata={"at": f"{metric}@"})


def if_known() -> Any:
    """A field that has no key in the file where it is None."""
    return dataclasses.field(default=None, metadata={"if_known": True})


class Stored:
    """Results that have a file of their own."""

    remedy: ClassVar[str] = "run the command that wrote it again"

    @classmethod
    def read(cls, path: Path) -> Self:
        """FileNotFoundError where there is no file, ResultError where it holds something else."""
        text = path.read_bytes()
        try:
            return decode(cls, json.loads(text))
        except (ValueError, OverflowError, RecursionError) as error:
            raise ResultError(f"{path}: {error}; {cls.remedy}") from None

    def write(self, path: Path) -> None:
        """As JSON, nan as null; the file is replaced in one step."""
        write_atomic(path, dumps(self))


def dumps(value: Any) -> str:
    """Results as the text of a file that every reader of JSON takes."""
    return json.dumps(encode(value), indent=1, allow_nan=False) + "\n"


def encode(value: Any) -> Any:
    """Results as what JSON holds."""
    if isinstance(value, SamplingParams):
        return encode_params(value)
    if dataclasses.is_dataclass(value):
        found: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if start := field.metadata.get("at"):
                found |= {f"{start}{k}": encode(each) for k, each in inner.items()}
            elif inner is not None or not field.metadata.get("if_known"):
                found[field.metadata.get("key", field.name)] = encode(inner)
        return found
    if isinstance(value, Mapping):
        return {str(name): encode(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return nan_as_null(value)


def encode_params(params: SamplingParams) -> dict[str, Any]:
    """How samples were drawn; not the seed, as each problem has its own."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(params).items()}
    left_out = {"seed"} if params.pause else {"seed", "pause"}
    return {name: value for name, value in facts.items() if name not in left_out}


def decode(hint: Any, value: Any, where: str = "") -> Any:
    """A value of the type `hint` from what JSON holds; ValueError says where it is of another."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # X | None
        return None if value is None else decode(inner[0], value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        if len(kinds) == len(value):
            return tuple(decode(kinds[i], each, f"{where}[{i}]") for i, each in enumerate(value))
    elif origin is Mapping and isinstance(value, dict):
        return {name: decode(inner[1], each, f"{where}.{name}" if where else name) for name, each in value.items()}
    elif origin is typing.Literal and isinstance(value, str) and value in inner:
        return value
    elif dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _decode_fields(hint, value, where)
    elif hint is float:
        if value is None:
            return math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise ValueError(f"{where or 'its content'} is a number of more than 308 digits") from None
    elif hint is Any or type(value) is hint:
        return value
    shown = json.dumps(value)
    raise ValueError(f"{where or 'its content'} is {shown[:40]}{'...' * (len(shown) > 40)}, not {_kind(hint)}")


def _decode_fields(cls: Any, value: Mapping[str, Any], where: str) -> Any:
    hints, found = _hints(cls), {}
    prefix = f"{where}." if where else ""
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], field.metadata.get("key", field.name)
        if start := field.metadata.get("at"):
            by_k = {name.removeprefix(start): name for name in value if name.startswith(start)}
            kind = typing.get_args(hint)[1]
            found[field.name] = {
                int(k): decode(kind, value[name], prefix + name) for k, name in by_k.items() if k.isdecimal()
            }
        elif key in value:
            found[field.name] = decode(hint, value[key], prefix + key)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{prefix}{key} is missing")
    try:
        return cls(**found)
    except ValueError as error:  # numbers that cannot be, such as a temperature below 0
        raise ValueError(f"{where or 'its content'}: {error}") from None


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _kind(hint: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    return names.get(hint, "a list" if typing.get_origin(hint) is tuple else "a table")
