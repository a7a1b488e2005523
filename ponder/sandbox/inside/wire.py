"""Plain data between two programs that do not trust each other, as tagged JSON.

    encode((1, {2}))        -> {"t": [1, {"s": [2]}]}
    decode({"t": [1, {"s": [2]}]})   -> (1, {2})

A value of None, bool, str, int up to 2**53, float and list is JSON as it is; every other one is an object with one key,
its tag. Decoding makes nothing but built-in values of the exact types listed here, whatever was sent: subclasses with
an `__eq__` of their own cannot cross. What is not plain stays where it is and is spoken of by a number, as "h".
"""

import builtins
import collections
import datetime
import decimal
import fractions
import json
import math

MAX_DEPTH = 200  # of a value
MAX_LINE = 4 << 20  # bytes of a message
MAX_DIGITS = 1 << 17  # hexadecimal, of an int
TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (int, float, bool, str, bytes, bytearray, complex, list, tuple, dict, set, frozenset, object, type,
                 range, type(None))
}  # fmt: skip


class NotPlain(TypeError):
    """A value that cannot cross."""


class Malformed(ValueError):
    """A message that the other side's program did not write."""


def encode(value, keep=None, depth=0):
    """The value as JSON data. keep: makes "h" data of what is not plain; without it that raises NotPlain."""
    if depth > MAX_DEPTH:
        raise NotPlain(f"nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or value is True or value is False:
        return value
    depth += 1
    if isinstance(value, str):
        return value if kind is str else str.__getitem__(value, slice(None))
    if isinstance(value, int):
        value = int.__add__(value, 0)
        return value if -(1 << 53) <= value <= 1 << 53 else {"i": hex(value)}
    if isinstance(value, float):
        value = float.__add__(value, 0.0) if kind is not float else value
        return value if math.isfinite(value) else {"f": repr(value)}
    if isinstance(value, list):
        return [encode(item, keep, depth) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        return {"t": [encode(item, keep, depth) for item in tuple.__iter__(value)]}
    if isinstance(value, dict):
        tag = "counter" if isinstance(value, collections.Counter) else (
            "od" if isinstance(value, collections.OrderedDict) else "dd" if isinstance(value, collections.defaultdict)
            else "d")  # fmt: skip
        pairs = [[encode(key, keep, depth), encode(item, keep, depth)] for key, item in dict.items(value)]
        return {tag: pairs}
    if isinstance(value, set | frozenset):
        items = [encode(item, keep, depth) for item in value]
        return {"s" if isinstance(value, set) else "fs": sorted(items, key=json.dumps)}  # the same at any hash seed
    if kind in _ENCODERS:
        return _ENCODERS[kind](value, keep, depth)
    if isinstance(value, type) and TYPES.get(value.__name__) is value:
        return {"ty": value.__name__}
    if keep is not None:
        return {"h": keep(value)}
    raise NotPlain(f"a {kind.__name__} cannot be sent to a program")


_ENCODERS = {
    bytes: lambda value, keep, depth: {"b": value.hex()},
    bytearray: lambda value, keep, depth: {"ba": value.hex()},
    complex: lambda value, keep, depth: {"c": [repr(value.real), repr(value.imag)]},
    range: lambda value, keep, depth: {"r": [encode(n) for n in (value.start, value.stop, value.step)]},
    decimal.Decimal: lambda value, keep, depth: {"dec": str(value)},
    fractions.Fraction: lambda value, keep, depth: {"fr": [encode(value.numerator), encode(value.denominator)]},
    collections.deque: lambda value, keep, depth: {"dq": [[encode(item, keep, depth) for item in value], value.maxlen]},
    datetime.date: lambda value, keep, depth: {"date": value.isoformat()},
    datetime.datetime: lambda value, keep, depth: {"dt": value.isoformat()},
    datetime.time: lambda value, keep, depth: {"time": value.isoformat()},
    datetime.timedelta: lambda value, keep, depth: {"td": [value.days, value.seconds, value.microseconds]},
}


def decode(data, handle=None, depth=0):
    """The value of JSON data; Malformed where it is none. handle: what becomes of "h" data, which else is malformed."""
    if depth > 2 * MAX_DEPTH:
        raise Malformed("nested too deep")
    kind = type(data)
    if data is None or kind in (bool, int, str):
        return data
    if kind is float:
        if math.isfinite(data):
            return data
        raise Malformed("a number that is none")
    if kind is list:
        return [decode(item, handle, depth + 1) for item in data]
    if kind is not dict or len(data) != 1:
        raise Malformed("an object without a tag")
    ((tag, inner),) = data.items()
    if tag == "it" and depth:  # inside of another value it could not be sent back
        raise Malformed("an iterator inside of a value")
    try:
        if tag == "h" and handle is not None:
            return handle(inner)
        return _DECODERS[tag](inner, lambda item: decode(item, handle, depth + 1))
    except Malformed:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        raise Malformed(f"{str(tag)[:20]}: {type(error).__name__}") from None


def _int(text):
    if len(text) > MAX_DIGITS or not text.lstrip("-").startswith("0x"):
        raise Malformed("an int that is none")
    return int(text, 16)


def _float(text):
    if text not in ("nan", "inf", "-inf"):
        raise Malformed("a float that is none")
    return float(text)


def _decimal(text):
    if len(text) > 10_000:
        raise Malformed("a long decimal")
    return decimal.Decimal(text)


def _complex(text):
    if len(text) > 50:
        raise Malformed("a long number")
    return float(text)


def _pairs(inner, of):
    return [(of(key), of(item)) for key, item in inner]


def _ints(inner, of):
    numbers = [of(item) for item in inner]
    if not all(type(number) is int for number in numbers):
        raise Malformed("no ints")
    return numbers


_DECODERS = {
    "i": lambda inner, of: _int(inner),
    "f": lambda inner, of: _float(inner),
    "t": lambda inner, of: tuple([of(item) for item in inner]),
    "s": lambda inner, of: {of(item) for item in inner},
    "fs": lambda inner, of: frozenset([of(item) for item in inner]),
    "d": lambda inner, of: dict(_pairs(inner, of)),
    "od": lambda inner, of: collections.OrderedDict(_pairs(inner, of)),
    "dd": lambda inner, of: collections.defaultdict(None, _pairs(inner, of)),
    "counter": lambda inner, of: collections.Counter(dict(_pairs(inner, of))),
    "b": lambda inner, of: bytes.fromhex(inner),
    "ba": lambda inner, of: bytearray.fromhex(inner),
    "c": lambda inner, of: complex(*map(_complex, inner)),
    "r": lambda inner, of: range(*_ints(inner, of)),
    "dec": lambda inner, of: _decimal(inner),
    "fr": lambda inner, of: fractions.Fraction(*_ints(inner, of)),
    "dq": lambda inner, of: collections.deque([of(item) for item in inner[0]], inner[1]),
    "date": lambda inner, of: datetime.date.fromisoformat(inner),
    "dt": lambda inner, of: datetime.datetime.fromisoformat(inner),
    "time": lambda inner, of: datetime.time.fromisoformat(inner),
    "td": lambda inner, of: datetime.timedelta(*_ints(inner, of)),
    "it": lambda inner, of: iter([of(item) for item in inner]),
    "ty": lambda inner, of: TYPES[inner],
}


def written(message):
    """A message as a line, without its end."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def read(line):
    """The message in a line; Malformed where there is none. The size is checked before anything is parsed."""
    if line is None or len(line) > MAX_LINE:
        raise Malformed("no line, or one that is too long")
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Malformed(type(error).__name__) from None


def _refuse(name):
    raise Malformed(name)


def error_names(error):
    """The names of the built-in exceptions that an exception is, the nearest first."""
    kinds = [kind for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    return [kind.__name__ for kind in kinds if getattr(builtins, kind.__name__, None) is kind]
