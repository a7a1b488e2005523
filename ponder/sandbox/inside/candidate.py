"""Holds a program and calls what it defines, as it is asked to line by line. Knows no test and no expected value.

The first line is the program's source, as a JSON text. Then, for every line "NONCE REQUEST" a line "NONCE REPLY":

    {"do": "call", "on": "f", "args": [[1, 2]], "kw": []}    {"v": 3}  or  {"x": [["ValueError", ...], "no"]}
    {"do": "call", "on": 4, ...}, "get", "set", "item", "len", "next", "iter", "str"    on what stays here

"m" in a reply has the arguments that the call changed, by their place. What the program prints is thrown away.
"""

import collections
import io
import sys
import types
from collections.abc import Callable

from ponder.sandbox.inside.wire import MAX_LINE, decode, encode, error_names, read, written


class _Nowhere(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        return len(data)


def serve_candidate():
    """Answer requests on stdin, one a line, until it is closed."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Nowhere()), encoding="utf-8", errors="replace")
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module  # dataclasses and pickle look their classes up there
    exec(compile(read(requests.readline()), "<program>", "exec"), module.__dict__)
    names = module.__dict__
    kept: list[object] = []

    def own(reference):
        return names[reference] if isinstance(reference, str) else kept[reference]

    def keep(value):
        kept.append(value)
        try:
            truth = bool(value)
        except Exception:
            truth = True
        return [len(kept) - 1, type(value).__name__[:100], truth]

    while True:
        line = requests.readline()
        if not line:
            return
        nonce, _, request = line.rstrip(b"\n").partition(b" ")
        try:
            reply = written(_done(read(request), names, own, keep))
        except BaseException as error:
            try:
                reply = written({"x": [error_names(error), str(error)[:1000]]})
            except BaseException:
                reply = written({"x": [error_names(error), ""]})
        if len(reply) > MAX_LINE - 100:
            reply = written({"x": [["OverflowError"], "the result is too large"]})
        replies.write(nonce + b" " + reply + b"\n")
        replies.flush()


def _done(request, names, own, keep):
    do, on = request["do"], request["on"]
    if isinstance(on, str) and on not in names:
        raise NameError(f"name {on!r} is not defined")
    target, args = own(on), [decode(arg, own) for arg in request.get("args", [])]
    if do != "call":
        return {"v": encode(_OPERATIONS[do](target, *args), keep)}
    keywords = {name: decode(value, own) for name, value in request["kw"]}
    given = [*args, *keywords.values()]
    before = {index: encode(arg, keep) for index, arg in enumerate(given) if isinstance(arg, _MUTABLE)}
    reply = {"v": encode(target(*args, **keywords), keep)}
    after = {index: encode(given[index], keep) for index in before}
    changed = [[index, data] for index, data in after.items() if data != before[index]]
    return {**reply, "m": changed} if changed else reply


_MUTABLE = (list, dict, set, bytearray, collections.deque)
_OPERATIONS: dict[str, Callable] = {
    "get": lambda target, name: getattr(target, name),
    "set": lambda target, name, value: setattr(target, name, value),
    "item": lambda target, key: target[key],
    "len": lambda target: len(target),
    "iter": lambda target: iter(target),
    "next": lambda target: [item for _, item in zip(range(1), target, strict=False)],  # [] at the end
    "str": lambda target: str(target),
}

if __name__ == "__main__":
    serve_candidate()
