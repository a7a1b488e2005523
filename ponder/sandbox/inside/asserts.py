"""Runs a data set's tests. The functions that they call are elsewhere: names bound to stubs that ask line by line.

The first line is the job: {"names": ["f"], "aliases": [], "setup": "import math", "seconds": 2, "stop": true, "units":
[["assert f(1) == 2", true, true], [{"on": "f", "args": [1], "want": 2}, true, true]]}. A unit is code, or a call with
its value as data; is it a test, or does it stand between tests; does it decide, or do the others go on where it fails.
Then it writes "C NONCE REQUEST" and reads "NONCE REPLY", or an empty line where the program is gone; at last
"V {"results": [...]}", one for each test.

A test passes where its code ran to the end, raised nothing, and the program was there and kept to the protocol: a test
that catches everything cannot pass a program that is gone. What a program returned is plain data here, or an `Opaque`:
equal to nothing but itself, whatever its own `__eq__` says.
"""

import builtins
import collections
import io
import json
import math
import os
import signal
import sys

from ponder.sandbox.inside.wire import MAX_DEPTH, MAX_LINE, Malformed, NotPlain, decode, encode, read, written


class Gone(BaseException):
    """The program ended, or did not keep to the protocol."""


class CallError(Exception):
    """What a call raised that would do more here than fail a test: SystemExit, StopIteration, MemoryError, ..."""


class OutOfTime(BaseException):
    """The tests ran too long on what the program returned."""


class Unsupported(BaseException):
    """A test wants to send what cannot be sent: says nothing about the program."""


NOT_RAISED = (StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt, MemoryError)


class _Session:
    def __init__(self):
        self.requests, self.replies = sys.stdout.buffer, sys.stdin.buffer
        self.gone = self.unsupported = ""
        self.is_late = False
        self.num_errors = 0  # that the program raised
        self.num_asked = 0  # of the program

    def ask(self, do, on, args=(), keywords=()):
        """The value that the program gives; raises what it raised."""
        if self.gone:
            raise Gone(self.gone)
        try:
            sent = {"do": do, "on": on, "args": [_sent(arg) for arg in args],
                    "kw": [[name, _sent(value)] for name, value in keywords]}  # fmt: skip
        except (NotPlain, RecursionError) as error:
            self.unsupported = str(error)
            raise Unsupported(self.unsupported) from None
        self.num_asked += 1
        nonce = os.urandom(8).hex().encode()
        self.requests.write(b"C " + nonce + b" " + written(sent) + b"\n")
        self.requests.flush()
        own, _, reply = self.replies.readline(MAX_LINE + 100).rstrip(b"\n").partition(b" ")
        try:
            if own != nonce:
                raise Malformed("it ended" if not own else "not the reply to what was asked")
            return self._value(read(reply), [*args, *(value for _, value in keywords)])
        except Malformed as error:
            self.gone = str(error) or "malformed"
            raise Gone(self.gone) from None

    def _value(self, reply, given):
        if type(reply) is not dict or not ("v" in reply or "x" in reply):
            raise Malformed("no reply")
        if "x" in reply:
            raise self._error(reply["x"])
        value = decode(reply["v"], self._opaque)
        changes = [(index, decode(data, self._opaque)) for index, data in _changes(reply)]
        for index, new in changes:
            if not (type(index) is int and 0 <= index < len(given) and type(given[index]) is type(new)):
                raise Malformed("a change of what is not there")
            _overwrite(given[index], new)
        return value

    def _opaque(self, data):
        number, name, truth = data
        if type(number) is not int or type(name) is not str or type(truth) is not bool:
            raise Malformed("no handle")
        return Opaque(self, number, name, truth)

    def _error(self, data):
        self.num_errors += 1
        try:
            names, text = data
            kinds = [getattr(builtins, name, None) for name in names]
            kind = next(one for one in kinds if isinstance(one, type) and issubclass(one, BaseException))
            text = str(text)
        except (TypeError, ValueError, StopIteration):
            raise Malformed("no exception") from None
        if not issubclass(kind, Exception) or issubclass(kind, NOT_RAISED):
            return CallError(f"{kind.__name__}: {text}")
        try:
            return kind(text)
        except TypeError:  # UnicodeDecodeError and its like want more than a text
            return CallError(f"{kind.__name__}: {text}")


def _changes(reply):
    changes = reply.get("m", [])
    if type(changes) is not list or not all(type(one) is list and len(one) == 2 for one in changes):
        raise Malformed("no changes")
    return changes


def _sent(value):
    if hasattr(type(value), "__next__") and not isinstance(value, Opaque):
        return {"it": [_sent(item) for _, item in zip(range(100_000), value, strict=False)]}
    return encode(value, _reference, -MAX_DEPTH)  # as deep as replies may be: else a program could make it unsendable


def _reference(value):
    """How a request names an object that the program holds."""
    if isinstance(value, (Opaque, Function)):
        return value._number if isinstance(value, Opaque) else value._name
    raise NotPlain(f"a {type(value).__name__} cannot be sent to a program")


def _overwrite(old, new):
    if isinstance(old, (list, bytearray)):
        old[:] = new
    elif isinstance(old, (dict, set, collections.deque)):
        old.clear()
        (old.extend if isinstance(old, collections.deque) else old.update)(new)
    else:
        raise Malformed("a change of what cannot change")


class Function:
    """A name that the program should define."""

    def __init__(self, session, name):
        self.__dict__.update(_session=session, _name=name)

    def __call__(self, *args, **keywords):
        return self._session.ask("call", self._name, args, tuple(keywords.items()))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._session.ask("get", self._name, (name,))

    def __setattr__(self, name, value):
        self._session.ask("set", self._name, (name, value))


class Opaque:
    """A value that stays with the program; equal to itself only."""

    def __init__(self, session, number, name, truth):
        self.__dict__.update(_session=session, _number=number, _name=name, _truth=truth)

    def __eq__(self, other):
        return isinstance(other, Opaque) and other._number == self._number

    def __hash__(self):
        return hash(self._number)

    def __bool__(self):
        return self._truth

    def __repr__(self):
        return f"<{self._name} of the program>"

    def __call__(self, *args, **keywords):
        return self._session.ask("call", self._number, args, tuple(keywords.items()))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._session.ask("get", self._number, (name,))

    def __setattr__(self, name, value):
        self._session.ask("set", self._number, (name, value))

    def __getitem__(self, key):
        return self._session.ask("item", self._number, (key,))

    def __len__(self):
        return self._session.ask("len", self._number)

    def __iter__(self):
        return self._session.ask("iter", self._number)

    def __next__(self):
        found = self._session.ask("next", self._number)
        if not (type(found) is list and len(found) < 2):
            raise CallError("no item")
        if not found:
            raise StopIteration
        return found[0]

    def __contains__(self, item):
        return any(one == item for one in self)  # what it holds, not what its own `__contains__` says of `item`

    def __str__(self):
        text = self._session.ask("str", self._number)
        return text if type(text) is str else repr(self)


class _Broken(BaseException):
    """The tests themselves cannot run."""


def serve_asserts():
    """Run the units of the job that comes first, and write one report: what failed, or why nothing can be said."""
    session = _Session()
    job = read(session.replies.readline())
    sys.stdin, sys.stdout = io.StringIO(), io.StringIO()
    names = {"__name__": "tests", **{name: Function(session, name) for name in job["names"]}}
    names.update({alias: names[name] for alias, name in job["aliases"]})
    _limit(session, job["seconds"])
    results, broken = [], ""
    try:
        problem = _problem_of(session, job["setup"], names)
        if problem and not session.num_asked:  # else what the program returned may be what broke it
            raise _Broken(f"the tests cannot be set up: {problem}")
        for unit, is_test, decides in job["units"]:
            found = problem or _problem_of(session, unit, names)
            if is_test:
                results.append(found)
            else:
                problem = found  # what stands between tests is needed by those that follow
            if found and job["stop"] and decides:
                break
    except _Broken as error:
        broken = str(error)
    signal.setitimer(signal.ITIMER_PROF, 0)
    report = {"results": [text[:300] for text in results], "broken": broken[:300], "gone": session.gone[:300]}
    session.requests.write(b"V " + written(report) + b"\n")
    session.requests.flush()


def _problem_of(session, unit, names):
    """Why a unit failed; "" where it passed."""
    num_errors = session.num_errors
    try:
        _run(unit, names)
        problem = ""
    except ImportError as error:
        if session.num_errors == num_errors:
            raise _Broken(f"a test imports what is not there: {error}") from None
        problem = _error_text(error)
    except _Broken:
        raise
    except BaseException as error:  # also those that a test may not swallow, see below
        problem = _error_text(error)
    if session.unsupported:
        raise _Broken(f"a test sends what cannot be sent: {session.unsupported}")
    if session.is_late:
        return "the tests ran out of time on what the program returned"
    return f"the program is gone: {session.gone}" if session.gone else problem


def _run(unit, names):
    if isinstance(unit, dict):  # a call and what it should give, both as data
        got = names[unit["on"]](*[decode(arg) for arg in unit["args"]])
        if not same(got, decode(unit["want"])):
            raise AssertionError(f"another value than the reference's for {json.dumps(unit['args'])[:100]}")
        return
    try:
        code = compile(unit, "<test>", "exec")
    except (SyntaxError, ValueError) as error:
        raise _Broken(f"a test does not compile: {error}") from None
    exec(code, names)


def same(one, other):
    """Equality as Python has it, but for floats: nan is nan, and 1e-6 of rounding is allowed."""
    if isinstance(one, float) or isinstance(other, float):
        if not (isinstance(one, (int, float)) and isinstance(other, (int, float))):
            return False
        try:
            return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6) or (one != one and other != other)
        except OverflowError:
            return False
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return not isinstance(one, Opaque) and one == other


def _error_text(error):
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__


def _late(session):
    """The handler: it raises while a test runs, and never in what looks at how the test ended."""

    def late(_, frame):
        session.is_late = True
        while frame is not None:
            if frame.f_code is _run.__code__:
                raise OutOfTime
            frame = frame.f_back

    return late


def _limit(session, seconds):
    """Of processor time: an exception, again and again in case a test swallows it; then the sandbox ends the process,
    which may not limit itself."""
    signal.signal(signal.SIGPROF, _late(session))
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)


if __name__ == "__main__":
    serve_asserts()
