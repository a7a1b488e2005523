"""Typed configs <-> TOML <-> `key=value`, and names <-> objects.

A config is a frozen dataclass that checks itself in `__post_init__`. A recipe is a TOML file with a few of its
fields; `key=value` overrides come last, with dots for nested configs (`optimizer.lr=1e-4`). Unknown keys fail and
name the nearest known one.

    config = load(RLConfig, "recipes/demo.toml", ["num_steps=20"])
    print(dumps(config))
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

C = typing.TypeVar("C")


class ConfigError(ValueError):
    """A recipe, an override or a name that cannot be used; the message says how to mend it."""


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint that ends an error message: the nearest known word, and all of them."""
    words = sorted(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(words)})"


def lookup(registry: Mapping[str, Any], name: str, *, what: str) -> Any:
    """An entry of a registry by name, or any importable object as `module:attr`."""
    if name in registry:
        return registry[name]
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"cannot load {what} {name!r}: {error}") from None
    raise ConfigError(f"unknown {what} {name!r}{nearest(name, registry)}")


def load(
    cls: type[C],
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> C:
    """The config of class `cls` from a TOML file (or only defaults) and `key=value` overrides.

    prepare: fills in plain values before they are checked, e.g. those of a preset.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no recipe at {path}; the shipped ones are in recipes/") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _set(data, override)
    return from_dict(cls, prepare(data), where=str(path) if path else "the command line")


def from_dict(cls: type[C], data: Mapping[str, Any], *, where: str = "config") -> C:
    """Build a config from plain values, converting nested tables; every mistake names its place."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            raise ConfigError(f"unknown key {key!r} in {where}{nearest(key, fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where} misses {', '.join(missing)}; add a line such as {missing[0]} = ...")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values of a config, nested configs as tables, None left out (TOML has no null)."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        if isinstance(value, tuple):
            value = list(value)
        if value is not None:
            result[field.name] = value
    return result


def dumps(config: Any) -> str:
    """A config as TOML that `load` reads back to an equal config."""
    return _toml(to_dict(config))


def _toml(data: Mapping[str, Any], prefix: str = "") -> str:
    plain = [f"{key} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)]
    parts = ["\n".join(plain)] if plain else []
    for key, value in data.items():
        if isinstance(value, dict):
            name = f"{prefix}{key}"
            parts.append(f"[{name}]\n{_toml(value, name + '.')}")
    return "\n\n".join(parts)


def _value(value: Any) -> str:
    import json

    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # inf, nan and 1e-05 are all TOML
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)  # TOML basic strings use JSON's escapes
        return text.replace("\x7f", "\\u007f")  # and wants this one escaped too
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"no TOML for {value!r}")


def _set(data: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value`; the value is read as TOML, and as a bare string where that fails."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} is not key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override {override!r}: {table!r} is a value, not a table")
    data[last] = value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None:
            return None
        return _convert(options[0], value, where)
    if origin is typing.Literal:
        words = typing.get_args(hint)
        if value not in words:
            raise ConfigError(f"{where} = {value!r} is unknown{nearest(str(value), map(str, words))}")
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table; write [{where.rpartition(' ')[2]}] and its keys below")
        return from_dict(typing.cast(type, hint), value, where=where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} = {value!r} must be a list")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise ConfigError(f"{where} = {value!r} must be of type {hint.__name__}")
    return value
