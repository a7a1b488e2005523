"""Typed configs <-> TOML <-> `key=value`, and names <-> objects.

A config is a frozen dataclass whose fields say what they mean and which numbers they take, and which checks itself:

    @dataclass(frozen=True, kw_only=True)
    class Config:
        out: str = setting(REQUIRED, "the run's folder")
        lr: float = setting(1e-4, "step size", above=0, most=1, also="learning_rate")

        def __post_init__(self) -> None:
            check(self)

A recipe is a TOML file with a few of its fields, or the name of one that is shipped; `key=value` overrides come last,
with dots for nested configs (`loss.kl=0.1`). Unknown keys fail and name the one that is meant: by its name in other
programs (`also`), or the nearest. For a key that another verb has, `NOT_HERE` of the class, key -> why, says so.

    config = load(RLConfig, "demo_nano_cpu", ["num_steps=20"])
    print(dumps(config))
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import math
import os
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

C = typing.TypeVar("C")
T = typing.TypeVar("T")

REQUIRED: Any = dataclasses.MISSING  # the default of a field that has none
RECIPES = Path(__file__).parent / "recipes"  # the shipped ones


class ConfigError(ValueError):
    """A recipe, an override or a name that cannot be used; the message says how to correct it."""


_TOO_LARGE = 2**63  # whole numbers that are counted with; no float holds those of more than 308 digits


# ---- the fields of a config ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """The numbers that a field takes; never nan or infinity."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (abs(number) < _TOO_LARGE if isinstance(number, int) else math.isfinite(number))
            and (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )

    def __str__(self) -> str:
        """above 0, 1 or more, in (0, 1], any finite number."""
        low, high = (self.above, self.least), (self.below, self.most)
        if any(end is not None for end in low) and any(end is not None for end in high):
            begin = f"({self.above:g}" if self.above is not None else f"[{self.least:g}"
            return f"in {begin}, " + (f"{self.below:g})" if self.below is not None else f"{self.most:g}]")
        if self.above is not None or self.below is not None:
            return f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        if self.least is not None or self.most is not None:
            return f"{self.least:g} or more" if self.least is not None else f"{self.most:g} or less"
        return "any finite number"


def setting(
    default: T,
    meaning: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    also: str = "",
) -> T:
    """A field of a config: its default, its meaning, the numbers it takes (of a tuple: each), and what other programs
    call it (`also`, words apart by spaces)."""
    bounds = Bounds(above=above, least=least, below=below, most=most)
    metadata = {"meaning": meaning, "bounds": bounds, "also": tuple(also.split())}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


@functools.cache
def numbers(cls: type) -> dict[str, type]:
    """The fields of a config that hold numbers: name -> int or float, also where there are several or none."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(cls).items():
        kinds = {int, float} & {hint, *typing.get_args(hint)}
        if kinds and name in cls.__dataclass_fields__:  # type: ignore[attr-defined]
            found[name] = float if float in kinds else int
    return found


def check(config: Any) -> None:
    """Refuse a number that is of the wrong type, not finite, or out of the bounds of its field."""
    cls: Any = type(config)
    for name, kind in numbers(cls).items():
        field, value = cls.__dataclass_fields__[name], getattr(config, name)
        bounds = field.metadata.get("bounds", Bounds())
        for number in value if isinstance(value, tuple) else (value,):
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int if kind is int else (int, float)):
                raise ValueError(f"{name}={value!r} must be {'a whole number' if kind is int else 'a number'}")
            if number not in bounds:
                each = "hold numbers" if isinstance(value, tuple) else "be"
                usual = "" if field.default in (dataclasses.MISSING, None, ()) else f"; the default is {field.default}"
                raise ValueError(f"{name}={value!r} must {each} {bounds}{usual}")


def walk(cls: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """The keys of a config with their fields, those of nested tables as table.key."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from walk(typing.cast(type, hints[field.name]), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field


# ---- names ---------------------------------------------------------------------------------------------------------


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint that ends an error message: the nearest known word, and all of them."""
    words = sorted(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(words)})"


def lookup(registry: Mapping[str, Any], name: str, *, what: str) -> Any:
    """An entry of a registry by name, or any importable object as `module:attr`, also of the current folder."""
    if name in registry:
        return registry[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"unknown {what} {name!r}{nearest(name, registry)}")
    module = _import(module_name, f"{what} {name!r}")
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [word for word in vars(module) if not word.startswith("_")]
        close = difflib.get_close_matches(attribute, public, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        origin = getattr(module, "__file__", None) or "built in"
        raise ConfigError(f"cannot load {what} {name!r}: {module_name} ({origin}) has no {attribute!r}{hint}") from None


def _import(name: str, what: str) -> types.ModuleType:
    """A module, of the current folder first, as `python -m` does; afterwards that folder comes last, so that its files
    never stand in for what installed libraries import later."""
    here = os.getcwd()
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"cannot load {what}: write module:attr, e.g. my_module:check for my_module.py in {here}")
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may be younger than this process
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"cannot load {what}: there is no module {name!r}; searched were {here} and the installed packages. "
                f"Run from the folder that holds {name.split('.')[0]}.py, or set PYTHONPATH"
            ) from None
        raise ConfigError(f"cannot load {what}: {name} imports {error.name!r}, which is not installed") from error
    except Exception as error:  # whatever the code of others raises while it is imported
        raise ConfigError(f"cannot load {what}: {name} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


# ---- recipes -------------------------------------------------------------------------------------------------------


def recipe_names() -> list[str]:
    """The shipped recipes: demo_nano_cpu, debug/dapo, ..."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml"))


def find_recipe(name: str | Path) -> Path:
    """A file, or a shipped recipe by name: demo_nano_cpu, demo_nano_cpu.toml and recipes/demo_nano_cpu.toml alike."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a recipe in it, a .toml file")
    short = path.as_posix().removeprefix("recipes/").removesuffix(".toml")
    if short in recipe_names():
        return RECIPES / f"{short}.toml"
    shipped = nearest(short, recipe_names())
    raise ConfigError(f"no recipe at {name}; give a TOML file or the name of a shipped one{shipped}")


def load(
    cls: type[C],
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> C:
    """The config of class `cls` from a recipe (or only defaults) and `key=value` overrides.

    prepare: fills in plain values before they are checked, e.g. those of a preset.
    """
    data: dict[str, Any] = {}
    if path is not None:
        path = find_recipe(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _set(data, override)
    for key, value in data.items():  # a shell writes ~ out; without this a recipe's would be a folder called ~
        if isinstance(value, str) and value.startswith("~/"):
            data[key] = os.path.expanduser(value)
    return from_dict(cls, prepare(data), where=str(path) if path else "the command line")


def from_dict(cls: type[C], data: Mapping[str, Any], *, where: str = "config") -> C:
    """Build a config from plain values, converting nested tables; every error names its key."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key, value in data.items():
        if key not in fields:
            raise ConfigError(f"unknown key {key!r} in {where}{_meant(cls, key, value)}")
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


def _meant(cls: type, key: str, value: Any) -> str:
    """The end of an error about an unknown key: what it is called here, or the nearest key. verl writes such keys in
    tables of its own (actor_rollout_ref.actor.optim.lr): then each of theirs is looked for."""
    if why := getattr(cls, "NOT_HERE", {}).get(key):
        return f": {why}"
    leaves = {leaf: path for path in _leaves(key, value) for leaf in [path.rpartition(".")[2]]}
    hints = []
    for word, path in leaves.items():
        same = word.lower().replace("-", "_")
        if here := [
            f"{name} ({field.metadata['meaning']})" if "meaning" in field.metadata else name
            for name, field in walk(cls)
            if same in (name.rpartition(".")[2], *field.metadata.get("also", ()))
        ]:
            hints.append(f"; {path} is {' and '.join(here)} here")
    return "".join(hints) or nearest(key, [field.name for field in dataclasses.fields(cls)])


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


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


def completed(cls: type[C], values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as `dumps` writes it today, from one that an earlier version wrote: keys that are new since have their
    defaults. One that cannot be read today stays as it is."""
    try:
        return tomllib.loads(dumps(from_dict(cls, values)))
    except ConfigError:
        return dict(values)


def dumps(config: Any, *, explain: bool = False) -> str:
    """A config as TOML that `load` reads back to an equal config. explain: with the meaning of each key beside it."""
    return _toml(config, "", explain)


def _toml(config: Any, prefix: str, explain: bool) -> str:
    plain, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            name = f"{prefix}{field.name}"
            tables.append(f"[{name}]\n{_toml(value, name + '.', explain)}")
        elif value is not None:
            line = f"{field.name} = {_value(value)}"
            meaning = field.metadata.get("meaning", "") if explain else ""
            plain.append(f"{line:<30}  # {meaning}" if meaning else line)
    return "\n\n".join([*(["\n".join(plain)] if plain else []), *tables])


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
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"no TOML for {value!r}")


def _set(data: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value`; the value is read as TOML, and as a bare string where that fails."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} is not key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
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
        if abs(value) >= _TOO_LARGE:
            raise ConfigError(
                f"{where} is a whole number of {len(str(abs(value)))} digits; write it as 1e30, or mend it"
            )
        return float(value)
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise ConfigError(f"{where} = {value!r} holds bytes that are not UTF-8, which no recipe can keep; rename it")
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise ConfigError(f"{where} = {value!r} must be of type {hint.__name__}")
    return value
