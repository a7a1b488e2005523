"""JSON Schemas that clients send: which are accepted, checked before anything is produced.

    check_size([schema, ...])                    # first, at once: characters, values, depth of all schemas of a request
    check_schema(schema)                         # -> its number of subschemas; SchemaError says what is wrong with it

A schema is untrusted: no keyword of it reaches a file or a network, and the work it causes is bounded before it begins.
So references are pointers inside the document, nothing renames a part of it (`$id`, `$anchor`, `$dynamicRef`, a nested
`$schema`), and patterns are those that llguidance's engine reads, which takes linear time. The dialect is 2020-12; what
that does not know is ignored, as it says. Answers are checked in `values.py`.
"""

from __future__ import annotations

import graphlib
import hashlib
import itertools
import json
import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from ponder.engine.form import FormError, matches

MOST_SCHEMA = 100_000  # characters of all schemas of a request
MOST_SUBSCHEMAS = 1000
_MOST_VALUES, _MOST_DEPTH = 10_000, 100  # of JSON
_PATTERN, _MOST_PATTERN = 50, 500  # a pattern counts as so many subschemas; characters of one
_MOST_AT_ONCE = 4  # patterns for one value: what they have in common takes time exponential in them
_MOST_CHAIN = 32  # chained references and alternatives, for one value
_DRAFTS = ("https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
           "http://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema")  # fmt: skip

_MOVING = ("$id", "$schema", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef",
           "$vocabulary")  # fmt: skip
_UNSUPPORTED = {
    "patternProperties": "list the properties, or use additionalProperties",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use prefixItems and items",
}
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


class SchemaError(ValueError):
    """A schema that is refused; the message completes "Invalid schema: ..."."""


def check_size(schemas: Sequence[Any]) -> None:
    """Raises SchemaError. Stops at the first limit, so it is quick whatever the size."""
    waiting, num_characters = [(schema, 1) for schema in schemas], 0
    for count in itertools.count(1):
        if not waiting:
            return
        value, depth = waiting.pop()
        if isinstance(value, Mapping):
            num_characters += sum(map(len, value))
            waiting += [(child, depth + 1) for child in itertools.islice(value.values(), _MOST_VALUES)]
        elif isinstance(value, list):
            waiting += [(child, depth + 1) for child in value[:_MOST_VALUES]]
        num_characters += len(value) if isinstance(value, str) else 4
        if num_characters > MOST_SCHEMA:
            raise SchemaError(f"it is longer than {MOST_SCHEMA} characters")
        if count + len(waiting) > _MOST_VALUES:
            raise SchemaError(f"it has more than {_MOST_VALUES} values")
        if depth > _MOST_DEPTH:
            raise SchemaError("it is nested too deeply")


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why one schema is refused; None if it is taken."""
    try:
        check_size([schema])
        check_schema(schema)
    except SchemaError as error:
        return str(error)
    return None


_checked: OrderedDict[bytes, int | str] = OrderedDict()  # by hash: number of subschemas, or the problem


def check_schema(schema: Mapping[str, Any]) -> int:
    """The number of its subschemas; one whose size is known to be bounded. The same one again is cheap."""
    key = hashlib.blake2b(json.dumps(schema).encode(), digest_size=16).digest()
    found = _checked.get(key)
    if found is None:
        try:
            found = _Schema(schema).check()
        except SchemaError as error:
            found = str(error)
        _checked[key] = found
        while len(_checked) > 512:
            _checked.popitem(last=False)
    if isinstance(found, str):
        raise SchemaError(found)
    return found


def applied(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as it is applied: what names it and its dialect says nothing about values."""
    return {name: value for name, value in schema.items() if name not in ("$id", "$schema", "x-guidance")}


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole or (isinstance(value, float) and math.isfinite(value))


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_type(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else _is_texts(value) and bool(value) and set(value) <= {*_TYPES}


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or a list of {', '.join(_TYPES)}"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "required": (_is_texts, "a list of names"),
    "dependentRequired": (
        lambda value: isinstance(value, Mapping) and all(map(_is_texts, value.values())), "lists of names by name",
    ),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), (_is_number, "a number")),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains",
         "maxContains"), (_is_count, "a whole number from 0 on"),
    ),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    **dict.fromkeys(("$ref", "pattern", "format"), (lambda value: isinstance(value, str), "a text")),
}  # fmt: skip
_ONE = ("not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames", "contentSchema")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "dependentSchemas", "$defs", "definitions")
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")


class _Schema:
    """One document, read part by part. Parts are known by their identity."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._count = 0  # subschemas
        self._same: dict[int, list[int]] = {}  # part -> the parts that are applied to the same value
        self._needs: list[tuple[int, list[int]]] = []  # (part, parts of which one must fit what fits it)
        self._inner: list[tuple[int, list[int]]] = []  # (part, parts of which one must fit something inside)
        self._patterns: dict[int, int] = {}  # part -> patterns and formats of its own

    def check(self) -> int:
        draft = self._root.get("$schema", _DRAFTS[0])
        if not isinstance(draft, str) or draft.rstrip("#") not in _DRAFTS:
            raise SchemaError(f"$schema is {draft!r:.80}; known are {', '.join(_DRAFTS)}")
        waiting: list[Any] = [self._root]
        while waiting:
            part = waiting.pop()
            self._counted(1)
            if isinstance(part, bool) or id(part) in self._same:
                continue
            if not isinstance(part, Mapping):
                raise SchemaError(f"{json.dumps(part)[:80]} is where a schema belongs")
            waiting += self._read(part)
        self._check_chains()
        self._check_values()
        return self._count

    def _counted(self, more: int) -> None:
        self._count += more
        if self._count > MOST_SUBSCHEMAS:
            what = f"subschemas and values of enums, where a pattern counts as {_PATTERN}"
            raise SchemaError(f"it has more than {MOST_SUBSCHEMAS} {what}")

    def _read(self, part: Mapping[str, Any]) -> Iterator[Any]:
        """The subschemas of a part."""
        same: list[Any] = []
        self._same[id(part)] = []
        for name, value in part.items():
            if name in _MOVING and (part is not self._root or name not in ("$id", "$schema")):
                raise SchemaError(f"{name} is not supported; refer to parts of the schema by #/$defs/NAME")
            if name in _UNSUPPORTED:
                raise SchemaError(f"{name} is not supported; {_UNSUPPORTED[name]}")
            if name in _VALUES and not _VALUES[name][0](value):
                raise SchemaError(f"{name} is {json.dumps(value)[:80]}; it must be {_VALUES[name][1]}")
            if name in _LISTS and not (isinstance(value, list) and value):
                raise SchemaError(f"{name} must be a list of schemas, one at least")
            if name in _MAPS and not isinstance(value, Mapping):
                raise SchemaError(f"{name} must be an object of schemas")
            children = [value] if name in _ONE else value if name in _LISTS else []
            children = list(value.values()) if name in _MAPS else children
            if name == "$ref":
                children = [self._target(value)]
            if name == "enum":
                self._counted(len(value))
            if name == "pattern":
                self._check_pattern(value)
            if name in _SAME_VALUE or name == "$ref":
                same += children
            if name in ("allOf", "$ref"):
                self._needs += [(id(part), [id(child)]) for child in children]
            if name in ("anyOf", "oneOf"):
                self._needs.append((id(part), list(map(id, children))))
            yield from children
        self._same[id(part)] = list(map(id, same))
        self._inner += [(id(part), [id(child)]) for child in _inner(part)]
        self._patterns[id(part)] = ("pattern" in part) + ("format" in part)

    def _target(self, reference: str) -> Any:
        """What a reference leads to."""
        if reference != "#" and not reference.startswith("#/"):
            raise SchemaError(f"it refers to {reference[:80]!r}; only pointers into the schema (#/...) are followed")
        found: Any = self._root
        for step in unquote(reference[2:]).split("/") if reference != "#" else ():
            if isinstance(found, Mapping) and found is not self._root and not found.keys().isdisjoint(_MOVING):
                raise SchemaError(f"{reference[:80]!r} leads through a part with a name of its own ($id, ...)")
            try:
                name = step.replace("~1", "/").replace("~0", "~")
                found = found[int(step)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, TypeError, ValueError):
                raise SchemaError(f"{reference[:80]!r} is not in it") from None
        return found

    def _check_pattern(self, pattern: str) -> None:
        self._counted(_PATTERN)
        if len(pattern) > _MOST_PATTERN:
            raise SchemaError(f"a pattern has more than {_MOST_PATTERN} characters")
        try:
            matches(pattern, "")
        except FormError as error:
            raise SchemaError(f"the pattern {pattern[:80]!r} is not supported: {error}"[:300]) from None

    def _check_chains(self) -> None:
        """No part may lead to itself on the way to one value, which would never end, nor may the way be long."""
        length: dict[int, int] = defaultdict(int)
        patterns: dict[int, int] = defaultdict(int)
        needs = defaultdict(list)
        for part, others in self._needs:
            needs[part].append(others)
        try:
            for part in graphlib.TopologicalSorter(self._same).static_order():
                length[part] = 1 + max((length[each] for each in self._same.get(part, ())), default=0)
                patterns[part] = self._patterns.get(part, 0)
                patterns[part] += sum(max(patterns[each] for each in others) for others in needs[part])
        except graphlib.CycleError:
            raise SchemaError("its references go round in a circle without a step into the value") from None
        if max(length.values()) > _MOST_CHAIN:
            raise SchemaError(f"more than {_MOST_CHAIN} references and alternatives follow each other")
        if max(patterns.values()) > _MOST_AT_ONCE:
            raise SchemaError(f"more than {_MOST_AT_ONCE} patterns and formats must fit one value")

    def _check_values(self) -> None:
        """Some finite value must fit: a tree whose every node must have children has none. (Horn clauses, forwards.)"""
        left: dict[int, int] = defaultdict(int)
        waits: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for need in (*self._needs, *self._inner):
            left[need[0]] += 1
            for other in set(need[1]):
                waits[other].append(need)
        done = {id(True)}
        waiting = [id(True), *(part for part in self._same if not left[part])]
        met: set[int] = set()
        while waiting:
            part = waiting.pop()
            done.add(part)
            for need in waits[part]:
                if id(need[1]) not in met:
                    met.add(id(need[1]))
                    left[need[0]] -= 1
                    if not left[need[0]]:
                        waiting.append(need[0])
        if id(self._root) not in done:
            raise SchemaError("no value fits it: a part is false, or needs itself without end")


def _inner(part: Mapping[str, Any]) -> list[Any]:
    """The subschemas that must have a value for a part of one type to have one."""
    if "enum" in part or "const" in part:
        return [bool(part.get("enum", True))]
    kind = part.get("type")
    kind = kind[0] if isinstance(kind, list) and len(kind) == 1 else kind
    if kind == "object":
        known, other = part.get("properties") or {}, part.get("additionalProperties", True)
        return [known.get(name, other) for name in part.get("required", ())]
    if kind == "array":
        least, first = int(part.get("minItems", 0)), part.get("prefixItems") or []
        return [*first[:least], *([part.get("items", True)] if least > len(first) else [])]
    return []
