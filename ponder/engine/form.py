"""Answers of a given form: which tokens may come next so that the answer becomes JSON of a schema.

    form = Form('[{"before": "", "schema": {"type": "integer"}, "after": ""}]')
    state = form.start                  # advance byte by byte; `allowed(state)` are the bytes that may follow
    is_done(state)                      # the text is whole: only the end mark may follow

A form is a list of alternatives: fixed text, a value of a schema, fixed text. It is compiled to a pushdown automaton
over bytes, run on all its branches at once; a state is the set of their stacks. Objects have their declared properties
in order and no others, separators are `", "` and `": "`, numbers have at most 15 digits: a part of what the schema
allows, chosen so that everything said fits. What a schema says beyond types, properties, items, enums, references,
alternatives and counts (bounds of numbers, patterns, formats) is not enforced here: whoever asks checks the whole.
The form is armed by the runner when the reasoning is closed, so it never meets a thought.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Node = tuple[Any, ...]
Stack = tuple[Node, ...]  # what is still to come, the next last
State = frozenset[Stack]

_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_PLAIN = frozenset(range(0x20, 0x80)) - frozenset(b'"\\')
_DEEPEST = 6  # levels of a value that no schema describes
_BIG = 1000  # counts above are not told apart
# first byte of a character -> (what may follow it, how many more after that)
_LEADS = {
    **{lead: (frozenset(range(0x80, 0xC0)), 0) for lead in range(0xC2, 0xE0)},
    **{lead: (frozenset(range(0x80, 0xC0)), 1) for lead in range(0xE1, 0xF0)},
    0xE0: (frozenset(range(0xA0, 0xC0)), 1), 0xED: (frozenset(range(0x80, 0xA0)), 1),
    **{lead: (frozenset(range(0x80, 0xC0)), 2) for lead in range(0xF1, 0xF4)},
    0xF0: (frozenset(range(0x90, 0xC0)), 2), 0xF4: (frozenset(range(0x80, 0x90)), 2),
}  # fmt: skip
_TAIL = frozenset(range(0x80, 0xC0))


class FormError(ValueError):
    """A schema that cannot be made into a form."""


class Form:
    """Compiled alternatives. Nodes: lit (fixed bytes), value, any, obj, arr, str (inside quotes), num."""

    def __init__(self, text: str) -> None:
        self._schemas: list[Any] = []
        self._ids: dict[int, int] = {}
        stacks = []
        try:
            for choice in json.loads(text):
                self._root = choice["schema"]
                stack = (_lit(choice["after"]), ("value", self._add(choice["schema"])), _lit(choice["before"]))
                stacks.append(tuple(node for node in stack if node != ("lit", b"")))
            self.start: State = self._closed(stacks)
            self._check(stacks)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, FormError):
                raise
            raise FormError("a reference leads to what is no schema") from None  # nobody checked what stands there

    def _add(self, schema: Any) -> int:
        """The number of a schema, references followed."""
        for _ in range(20):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            schema = _resolve(self._root, schema["$ref"])
        else:
            raise FormError("its references do not end")
        if id(schema) not in self._ids:
            self._ids[id(schema)] = len(self._schemas)
            self._schemas.append(schema)
        return self._ids[id(schema)]

    def _check(self, stacks: Sequence[Stack]) -> None:
        """Open every node there can be, so that what cannot be followed is known before the first token."""
        waiting = [node for stack in stacks for node in stack]
        seen = set(waiting)
        while waiting:
            node = waiting.pop()
            if node[0] in ("lit", "str", "num"):
                continue
            new = {below for stack in self._open(node) for below in stack} - seen
            seen |= new
            waiting += new
            if len(seen) > 20_000:
                raise FormError("it has too many parts")

    def advance(self, state: State, byte: int) -> State:
        """After one more byte; empty if it may not come."""
        followed = []
        for stack in state:
            if stack and (rest := _consume(stack[-1], byte)) is not None:
                followed.append(stack[:-1] + rest)
        return self._closed(followed)

    def allowed(self, state: State) -> frozenset[int]:
        return frozenset().union(*(_first(stack[-1]) for stack in state if stack))

    def _closed(self, stacks: Sequence[Stack]) -> State:
        """Every branch opened until it waits for a byte, or is at its end."""
        done: set[Stack] = set()
        waiting, seen = list(stacks), set(stacks)
        while waiting:
            stack = waiting.pop()
            if not stack or stack[-1][0] in ("lit", "str", "num"):
                done.add(stack)
            if stack and stack[-1][0] != "lit" and stack[-1][0] != "str":
                for rest in self._open(stack[-1]):
                    opened = stack[:-1] + rest
                    if opened not in seen:
                        seen.add(opened)
                        waiting.append(opened)
            if len(seen) > 2000:
                raise FormError("it has too many branches at once")
        return frozenset(done)

    def _open(self, node: Node) -> list[Stack]:
        """What a node may stand for; stacks, so what comes first is last."""
        kind = node[0]
        if kind == "num":  # a number ends where something else follows
            return [()] if node[1] in ("zero", "whole", "part") else []
        if kind == "value":
            return self._value(node[1])
        if kind == "any":
            return _any(node[1])
        if kind == "obj":
            return self._object(*node[1:])
        if kind == "arr":
            return self._array(*node[1:])
        if kind == "map":
            return self._map(*node[1:])
        raise AssertionError(node)

    def _value(self, number: int) -> list[Stack]:
        schema = self._schemas[number]
        if schema is True or schema == {}:
            return [(("any", _DEEPEST),)]
        if not isinstance(schema, Mapping):
            raise FormError("nothing fits it")
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return [(_lit(json.dumps(value, ensure_ascii=False)),) for value in values]
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return [(("value", self._add(each)),) for each in schema[name]]
        if len(schema.get("allOf", ())) == 1 and "type" not in schema:
            return [(("value", self._add(schema["allOf"][0])),)]
        if "allOf" in schema or "not" in schema or "if" in schema:
            raise FormError("allOf, not and if are not followed")
        types = schema.get("type")
        if types is None:
            types = "object" if "properties" in schema else "array" if "items" in schema else None
        if types is None:
            return [(("any", _DEEPEST),)]
        return [stack for kind in ([types] if isinstance(types, str) else types) for stack in self._typed(number, kind)]

    def _typed(self, number: int, kind: str) -> list[Stack]:
        schema = self._schemas[number]
        if kind == "object":
            node = ("obj", number, 0, True) if schema.get("properties") else ("map", number, True)
            if set(schema.get("required", ())) - set(schema.get("properties") or ()):
                raise FormError("required properties must be described")
            return [(node, _lit("{"))]
        if kind == "array":
            return [(("arr", number, 0), _lit("["))]
        if kind == "string":
            least, most = schema.get("minLength", 0), schema.get("maxLength")
            return [(("str", 0, least, most), _lit('"'))]
        if kind in ("integer", "number"):
            return [(("num", "start", 15, kind == "number"),)]
        if kind == "boolean":
            return [(_lit("true"),), (_lit("false"),)]
        return [(_lit("null"),)]

    def _object(self, number: int, place: int, is_first: bool) -> list[Stack]:
        schema = self._schemas[number]
        properties = list(schema["properties"].items())
        if place == len(properties):
            return [(_lit("}"),)]
        name, inner = properties[place]
        key = ("" if is_first else ", ") + json.dumps(name, ensure_ascii=False) + ": "
        taken: Stack = (("obj", number, place + 1, False), ("value", self._add(inner)), _lit(key))
        if name in schema.get("required", ()):
            return [taken]
        return [taken, (("obj", number, place + 1, is_first),)]

    def _map(self, number: int, is_first: bool) -> list[Stack]:
        """An object whose keys are not given."""
        inner = self._schemas[number].get("additionalProperties", True)
        if inner is False:
            return [(_lit("}"),)]
        value = ("any", _DEEPEST - 1) if inner is True else ("value", self._add(inner))
        separator = _lit('"' if is_first else ', "')
        return [(_lit("}"),), (("map", number, False), value, _lit(": "), ("str", 0, 0, None), separator)]

    def _array(self, number: int, count: int) -> list[Stack]:
        schema = self._schemas[number]
        least, most = schema.get("minItems", 0), schema.get("maxItems", _BIG)
        items = schema.get("items", True)
        value = ("any", _DEEPEST - 1) if items is True else ("value", self._add(items))
        found: list[Stack] = [(_lit("]"),)] if count >= least else []
        if count < most:
            told = min(count + 1, max(least, 1) if most >= _BIG else _BIG)
            more: Stack = (("arr", number, told), value)
            found.append(more if count == 0 else (*more, _lit(", ")))
        return found


def is_done(state: State) -> bool:
    return () in state


def _lit(text: str) -> Node:
    return ("lit", text.encode(errors="replace"))


def _resolve(root: Any, reference: str) -> Any:
    found = root
    try:
        for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            name = part.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
    except (KeyError, IndexError, TypeError, ValueError):
        raise FormError(f"{reference} is not in it") from None
    return found


def _any(depth: int) -> list[Stack]:
    """Any value, of so many levels at most."""
    found: list[Stack] = [
        (("str", 0, 0, None), _lit('"')), (("num", "start", 15, True),), (_lit("true"),), (_lit("false"),),
        (_lit("null"),),
    ]  # fmt: skip
    return found if depth <= 0 else [*found, (_lit("{}"),), (_lit("[]"),)]


def _first(node: Node) -> frozenset[int]:
    """The bytes that a waiting node takes."""
    if node[0] == "lit":
        return frozenset(node[1][:1])
    if node[0] == "num":
        return _number_bytes(node)
    return _string_bytes(node)


def _consume(node: Node, byte: int) -> Stack | None:
    """What is left of a node behind a byte; None if it does not take it."""
    if byte not in _first(node):
        return None
    if node[0] == "lit":
        return (("lit", node[1][1:]),) if len(node[1]) > 1 else ()
    if node[0] == "num":
        return _number_after(node, byte)
    return _string_after(node, byte)


def _number_bytes(node: Node) -> frozenset[int]:
    _, phase, left, may_have_parts = node
    if phase == "start":
        return _DIGITS | {ord("-")}
    if phase in ("sign", "point"):
        return _DIGITS
    more = _DIGITS if left and phase != "zero" else frozenset()
    return more | {ord(".")} if may_have_parts and phase in ("zero", "whole") else more


def _number_after(node: Node, byte: int) -> Stack:
    _, phase, left, may_have_parts = node
    if byte == ord("-"):
        return (("num", "sign", left, may_have_parts),)
    if byte == ord("."):
        return (("num", "point", 15, may_have_parts),)
    if phase in ("start", "sign"):
        return (("num", "zero" if byte == ord("0") else "whole", left - 1, may_have_parts),)
    return (("num", "part" if phase in ("point", "part") else "whole", left - 1, may_have_parts),)


@lru_cache(maxsize=4096)
def _string_bytes(node: Node) -> frozenset[int]:
    _, phase, least, most = node
    if phase == "\\":
        return frozenset(b'"\\/bfnrtu')
    if isinstance(phase, tuple):
        return frozenset(phase[0])
    found: frozenset[int] = frozenset() if most == 0 else _PLAIN | frozenset(_LEADS) | {ord("\\")}
    return found if least > 0 else found | {ord('"')}


def _string_after(node: Node, byte: int) -> Stack:
    _, phase, least, most = node
    counted = (max(0, least - 1), None if most is None else most - 1)
    if phase == "\\":
        if byte == ord("u"):  # never half a surrogate pair: 0 and then 0 to 7 keeps to one character
            return (("str", (frozenset(b"0"), 3), least, most),)
        return (("str", 0, *counted),)
    if isinstance(phase, tuple):
        left = phase[1]
        if left == 0:
            return (("str", 0, *counted),)
        if phase[0] <= _HEX:
            return (("str", (_HEX, left - 1), least, most),)
        return (("str", (_TAIL, left - 1), least, most),)
    if byte == ord('"'):
        return ()
    if byte == ord("\\"):
        return (("str", "\\", least, most),)
    if byte in _LEADS:
        follow, left = _LEADS[byte]
        return (("str", (follow, left), least, most),)
    return (("str", 0, *counted),)


class Answers:
    """The forms of running samples, and the masks they put on the next token. A sample is named by its owner: (request
    id, sample index)."""

    def __init__(self, pieces: Sequence[bytes | None], end_id: int) -> None:
        self._masks = Masks(pieces, end_id)
        self._states: dict[tuple[int, int], tuple[int, State | None]] = {}  # owner -> (answer tokens read, state)

    def mask(self, owner: tuple[int, int], text: str, answer_ids: Sequence[int]) -> np.ndarray | None:
        """(V,) bool: tokens that may come next; None where a form broke down, and nothing is ruled out."""
        try:
            count, state = self._states.get(owner) or (0, self._masks.start(text))
            for token in answer_ids[count:]:
                state = None if state is None else self._masks.after(text, state, token)
            self._states[owner] = len(answer_ids), state
            return None if state is None else self._masks.mask(text, state)
        except FormError:  # more branches than are followed
            self._states[owner] = len(answer_ids), None
            return None

    def forget(self, request_id: int) -> None:
        self._states = {owner: state for owner, state in self._states.items() if owner[0] != request_id}


class Masks:
    """Token masks of forms over one vocabulary. `pieces`: the bytes of every token, None for marks.

    A mask takes a walk over the whole vocabulary, so it is kept, under its state seen from one token's distance: a
    string that may have 300 more characters takes the same tokens as one that may have 299.
    """

    def __init__(self, pieces: Sequence[bytes | None], end_id: int) -> None:
        self._end_id, self._size = end_id, len(pieces)
        self._longest = max((len(piece) for piece in pieces if piece), default=1)
        self._forms: dict[str, Form] = {}
        self._known: dict[tuple[str, State], np.ndarray] = {}
        self._trie: dict[int, Any] = {}
        self._pieces = pieces
        for token, piece in enumerate(pieces):
            if piece:
                node = self._trie
                for byte in piece:
                    node = node.setdefault(byte, {})
                node.setdefault(-1, []).append(token)

    def start(self, text: str) -> State:
        if text not in self._forms:
            if len(self._forms) > 256:
                self._forms.clear()
                self._known.clear()
            self._forms[text] = Form(text)
        return self._forms[text].start

    def after(self, text: str, state: State, token: int) -> State:
        for byte in self._pieces[token] or b"":
            state = self._forms[text].advance(state, byte)
        return state

    def mask(self, text: str, state: State) -> np.ndarray:
        """(V,) bool: tokens that may follow."""
        key = (text, frozenset(self._nearby(stack) for stack in state))
        if key not in self._known:
            if len(self._known) > 2000:
                self._known.clear()
            found = np.zeros(self._size, bool)
            self._walk(self._forms[text], self._trie, state, found)
            found[self._end_id] = is_done(state) or not found.any()  # where nothing may come, it ends
            self._known[key] = found
        return self._known[key]

    def _nearby(self, stack: Stack) -> Stack:
        """A stack whose open string has its counts only as far as one token can reach."""
        if not stack or stack[-1][0] != "str":
            return stack
        kind, phase, least, most = stack[-1]
        reach = self._longest + 1
        return (*stack[:-1], (kind, phase, min(least, reach), None if most is None or most > reach else most))

    def _walk(self, form: Form, node: dict[int, Any], state: State, found: np.ndarray) -> None:
        for byte in form.allowed(state) & node.keys():
            follow, below = form.advance(state, byte), node[byte]
            found[below.get(-1, [])] = True
            if len(below) > (-1 in below):
                self._walk(form, below, follow, found)
