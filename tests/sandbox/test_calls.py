"""Judging by calls: what tests may do, what crosses to a program and back, and programs that want to be accepted."""

# ruff: noqa: E501 - programs as strings

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import fractions
import json
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.sandbox.base import Limits
from ponder.sandbox.calls import Asserts, Calls, Unit, call
from ponder.sandbox.inside import asserts as inside
from ponder.sandbox.inside import wire
from ponder.sandbox.programs import Programs

QUICK = Limits(cpu_seconds=0.4)


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with Programs(num_workers=2) as sandbox:
        yield Calls(sandbox, num_workers=2)


def asserts(*codes: str, names: tuple[str, ...] = ("f",), setup: str = "") -> Asserts:
    return Asserts(names=names, units=tuple(Unit(code=code) for code in codes), setup=setup)


def check(calls: Calls, source: str, *codes: str, limits: Limits = QUICK, **more: object) -> tuple[str | None, ...]:
    """Per test: "" = passed."""
    tested = calls.check(source, asserts(*codes, **more), limits=limits, stop=False)  # type: ignore[arg-type]
    assert not tested.is_undecided, tested.note
    return tested.results


# ---- what a test may do ----------------------------------------------------------------------------------------------


def test_a_right_program_passes_and_a_wrong_one_says_which_test_it_failed(calls: Calls) -> None:
    assert check(calls, "def f(x): return x + 1", "assert f(1) == 2", "assert f(5) == 6") == ("", "")
    wrong = check(calls, "def f(x): return 2", "assert f(1) == 2", "assert f(5) == 6, 'five'")
    assert wrong == ("", "AssertionError: five")


def test_the_tests_stop_at_the_first_failure_if_asked(calls: Calls) -> None:
    tested = calls.check("def f(x): return 0", asserts("assert f(1) == 1", "assert f(0) == 0"))
    assert tested.results[1] is None and not tested.passed


VALUES = [
    None, True, 0, -1, 2**53, 2**53 + 1, -(10**300), 1.5, -0.0, math.inf, -math.inf, "", "ä\x00\ud800\n", b"\xff",
    bytearray(b"a"), 1j, (), (1, (2,)), [[]], {1, 2}, frozenset({"a"}), {"a": 1, (1, 2): [3]}, {3: 1, 1: 2},
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), collections.Counter("aab"), collections.deque([1], 3),
    collections.OrderedDict(b=1, a=2), range(3, 9, 2), datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 5),
    datetime.timedelta(1, 2, 3), datetime.time(1, 2), int, list,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_crosses_as_it_is(value: object) -> None:
    back = wire.decode(wire.read(wire.written(wire.encode(value))))
    assert back == value and type(back) is type(value)
    if isinstance(value, dict):
        assert list(back) == list(value), "in its order"


def test_values_cross_both_ways_between_processes(calls: Calls) -> None:
    values = [value for value in VALUES if type(value) in (int, float, str, tuple, list, dict, set, bytes)]
    tests = [f"assert f({value!r}) == ({value!r}, {value!r})" for value in values if value not in (math.inf, -math.inf)]
    assert set(check(calls, "def f(x): return x, x", *tests)) == {""}
    assert check(calls, "def f(x): return x", "assert f(float('nan')) != f(float('nan'))", "assert f(1.0) is not f(1)",
                 "assert type(f(True)) is bool", "assert f({'b': 1, 'a': 2}).popitem() == ('a', 2)",
                 "assert f(iter([1, 2])).__class__.__name__ == 'Opaque'") == ("",) * 5  # fmt: skip


@pytest.mark.parametrize("put", ['{"it": [1]}', "deep", '{"t": [{"it": []}]}'])
def test_a_program_cannot_leave_in_an_argument_what_makes_its_tests_undecided(calls: Calls, put: str) -> None:
    source = f"""
import __main__, json
deep = []
for _ in range(300):
    deep = [deep]
__main__.written = lambda reply: json.dumps({{"v": 1, "m": [[0, [{put}]]]}}).encode()
def f(xs): return 1
"""
    tested = calls.check(source, Asserts(names=("f",), units=(Unit(code="xs = [1]\nf(xs)\nassert f(xs) == 2"),)))
    assert not tested.is_undecided and not tested.passed, tested.note


def test_arguments_that_a_function_changes_are_changed(calls: Calls) -> None:
    source = "def f(xs, d, s, k=None):\n    xs.sort(); d['n'] = 1; s.discard(1)\n    k is None or k.append([1])"
    code = "a, b, c, e = [2, 1], {}, {1, 2}, []\nassert f(a, b, c, k=e) is None\nassert (a, b, c, e) == ([1, 2], {'n': 1}, {2}, [[1]])"
    assert check(calls, source, code) == ("",)


def test_exceptions_cross_by_the_name_of_the_nearest_built_in_one(calls: Calls) -> None:
    source = "class Own(KeyError): pass\ndef f(x):\n    if x: raise Own('no')\n    return [][1]"
    raises = "try:\n    f({})\nexcept {}:\n    pass\nelse:\n    assert False"
    tests = [raises.format(1, "KeyError"), raises.format(0, "IndexError"), raises.format(0, "ValueError")]
    assert [result[:10] for result in check(calls, source, *tests) if result is not None] == ["", "", "IndexError"]
    unittest = "import unittest\ncase = unittest.TestCase()\nwith case.assertRaises(ZeroDivisionError): f(0)"
    assert check(calls, "def f(x): return 1 / x", unittest) == ("",)


def test_what_is_not_plain_stays_with_the_program_and_can_be_spoken_to(calls: Calls) -> None:
    source = """
import re
class Node:
    def __init__(self, value): self.value, self.left = value, None
    def double(self): return 2 * self.value
    def __len__(self): return 7
    def __getitem__(self, key): return key * 2
    def __iter__(self): return iter([1, 3])
    def __str__(self): return "node"
def f(n): return 0 if n is None else 1 + f(n.left)
def match(text): return re.match("a+", text)
def count(n):
    for i in range(n): yield i
"""
    tests = [
        "root = Node(1)\nroot.left = Node(2)\nassert f(root) == 2",
        "n = Node(4)\nassert n.value == 4 and n.double() == 8 and len(n) == 7 and n[2] == 4 and 3 in n and 4 not in n",
        "assert str(Node(1)) == 'node'",
        "assert match('aab') and not match('b') and match('aab').group() == 'aa'",
        "assert list(count(3)) == [0, 1, 2] and count(3) != [0, 1, 2]",
        "a = Node(1)\nassert a == a and a != Node(1)",
    ]
    assert check(calls, source, *tests, names=("f", "Node", "match", "count")) == ("",) * len(tests)


def test_what_is_in_an_object_is_what_it_holds_not_what_it_says(calls: Calls) -> None:
    for own in ("def __contains__(self, item): return True", "def __getitem__(self, key): raise IndexError",
                "def __contains__(self, item): return True\n    def __iter__(self): return iter([1, 2])"):  # fmt: skip
        source = f"class All:\n    {own}\ndef f(x): return All()"
        assert check(calls, source, "assert 5 in f(1)")[0], own
    held = "class Held:\n    def __iter__(self): return iter([1, [5]])\ndef f(x): return Held()"
    assert check(calls, held, "assert [5] in f(1) and 2 not in f(1)") == ("",)


def test_what_a_test_cannot_send_is_undecided_and_says_so(calls: Calls) -> None:
    for code in ("assert f(lambda x: x) == 1", "try:\n    f(lambda x: x)\nexcept BaseException:\n    pass"):
        tested = calls.check("def f(x): return 1", asserts(code))
        assert tested.is_undecided and "cannot be sent" in tested.note


@pytest.mark.parametrize("setup, code", [("import not_there", "pass"), ("x = 1 / 0", "pass"), ("", "assert f(1) ="),
                                         ("", "import not_there")])  # fmt: skip
def test_tests_that_are_broken_are_undecided_not_wrong(calls: Calls, setup: str, code: str) -> None:
    assert calls.check("def f(x): return 1", asserts(code, setup=setup)).is_undecided


def test_a_program_cannot_break_a_setup_that_asks_it_and_so_be_undecided(calls: Calls) -> None:
    setup, code = "root = Node(1)\nroot.left = Node(2)", "assert f(root) == 2"
    right = "class Node:\n    def __init__(self, x): self.x = x\ndef f(n): return n.left.x"
    for source, is_right in ((right, True), ("def Node(x): return x\ndef f(n): return 0", False)):
        tested = calls.check(source, asserts(code, names=("f", "Node"), setup=setup), limits=QUICK)
        assert not tested.is_undecided and tested.passed == is_right, tested.note


def test_helpers_of_the_tests_are_theirs_and_built_ins_too(calls: Calls) -> None:
    source = "def sorted(x): return []\ndef helper(x): return 0\nlen = lambda x: 0\ndef f(x): return 5"
    tests = "assert helper(f(1)) == 0", "assert sorted([f(1)]) == []", "assert len([f(1)]) == 0"
    setup = "def helper(x): return x"
    assert all(check(calls, source, *tests, setup=setup)), "the program cannot define away what it is compared with"


def test_what_a_program_prints_or_reads_does_not_matter(calls: Calls) -> None:
    source = "print('V {}')\nimport sys\nsys.stdout.buffer.write(b'x' * 100_000)\ndef f(x):\n    print(x)\n    return sys.stdin.read()"
    assert check(calls, source, "assert f(1) == ''") == ("",)


def test_a_function_keeps_its_state_between_tests_unless_each_is_to_start_afresh(calls: Calls) -> None:
    source, tests = (
        "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)",
        asserts("assert f(1) == 1", "assert f(1) == 1"),
    )
    assert [bool(result) for result in calls.check(source, tests, stop=False).results] == [False, True]
    assert calls.check(source, tests, stop=False, fresh=True).passed


def test_a_dataclass_and_a_main_guard_work_as_in_a_module(calls: Calls) -> None:
    source = """
from dataclasses import dataclass
@dataclass
class P:
    x: int
def f(x): return P(x).x
if __name__ == "__main__":
    print(f(int(input())))
"""
    assert check(calls, source, "assert f(3) == 3") == ("",)


def test_calls_as_data_compare_with_a_reference_up_to_rounding(calls: Calls) -> None:
    def passes(source: str, want: object) -> bool:
        units = (Unit(on="f", args=(1,), want=wire.encode(want)),)
        return calls.check(source, Asserts(names=("f",), units=units)).passed

    assert passes("def f(x): return 0.1 + 0.2", 0.3) and passes("def f(x): return [1, 1.0]", [1, 1])
    assert passes("def f(x): return {'a': (0.30000000001, float('nan'))}", {"a": (0.3, math.nan)})
    assert not passes("def f(x): return 0.301", 0.3) and not passes("def f(x): return (1,)", [1])
    assert not passes("def f(x): return '0.3'", 0.3) and not passes("def f(x): return [1, 2]", [1])
    assert not passes("class A:\n    def __eq__(s, o): return True\ndef f(x): return A()", 0.3)


def test_behaviour_is_what_a_program_replies_and_the_same_at_every_run(calls: Calls) -> None:
    source = "def f(x): return {'b', 'a', x}"
    found = calls.behave(source, [call("f", "c"), call("g", 1)])
    assert found is not None and found[0] == b'{"v":{"s":["a","b","c"]}}' and b"NameError" in (found[1] or b"")
    assert calls.behave(source, [call("f", "c"), call("g", 1)]) == found
    assert calls.behave("import os\nos._exit(0)", [call("f", 1)]) == (None,)


# ---- programs that want to be accepted -------------------------------------------------------------------------------

SECRET = (
    "assert f(2, 3) == 20003",
    "want = [70001]\nassert [f(7, 1)] == want",
    "assert f(0, 5) == 5 and f(1, 0) == 10000",
)
TRUE = "class True_(int):\n    def __eq__(self, other): return True\n    __ne__ = lambda s, o: False\n    __hash__ = int.__hash__\n"
RAW = """
import os, sys, time
def f(*args):
    frame = sys._getframe()
    while "nonce" not in frame.f_locals:
        frame = frame.f_back
    os.write(1, frame.f_locals["nonce"] + b" " + {payload} + b"\\n")
    os._exit(0)
"""
PRELUDE = "import sys, os, gc, builtins, json, threading, time, atexit, signal, types, inspect\n"
HACKS = {
    # of the twelve that are known from the field
    "os._exit at load": "os._exit(0)",
    "sys.exit at load": "sys.exit(0)",
    "os._exit in the function": "def f(a, b): os._exit(0)",
    "SystemExit in the function": "def f(a, b): raise SystemExit(0)",
    "an object equal to everything": "class T:\n    def __eq__(s, o): return True\ndef f(a, b): return T()",
    "an int equal to everything": TRUE + "def f(a, b): return True_(1)",
    "excepthook and atexit": "sys.excepthook = lambda *a: os._exit(0)\natexit.register(lambda: os._exit(0))\ndef f(a, b): return 1 / 0",
    "a printed marker": "os.write(1, b'V {\"results\": [\"\", \"\", \"\"], \"broken\": \"\", \"gone\": \"\"}\\n')\nos._exit(0)",
    "asserts read from frames": """
def f(a, b):
    frame, found = sys._getframe(), ""
    while frame:
        found += repr(frame.f_locals) + repr(frame.f_globals); frame = frame.f_back
    return 20003 if "20003" in found else 0""",
    "asserts read from files": """
def f(a, b):
    for path in (__file__ if "__file__" in globals() else "program.py", sys.argv[0], "/proc/self/cmdline", "/proc/self/environ"):
        try: return 20003 if "20003" in open(path).read() else 0
        except OSError: pass
    return 0""",
    "asserts found in memory": """
def f(a, b):
    for thing in gc.get_objects() + [o for m in list(sys.modules.values()) for o in vars(m).values()]:
        try:
            if "2000" + "3" in repr(thing)[:100_000] and "HACK" not in repr(thing): return 20003
        except Exception: pass
    return 0
HACK = 1""",
    "protocol lines on every descriptor": """
for fd in range(64):
    try: os.write(fd, b'V {"results": ["", "", ""], "broken": "", "gone": ""}\\nC 00 {"v": true}\\n')
    except OSError: pass
def f(a, b): return 0""",
    # ours
    "json says true": "json.dumps = lambda *a, **k: '{\"v\":true}'\njson.loads = lambda *a, **k: {}\ndef f(a, b): return 0",
    "patched encoder in the driver": "sys.modules['__main__'].encode = lambda *a: True\ndef f(a, b): return 0",
    "patched built-ins": "builtins.AssertionError = ValueError\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 0\ndef f(a, b): return 0",
    "a class that says it is int": "class A:\n    __class__ = int\n    def __eq__(s, o): return True\n    def __int__(s): return 20003\ndef f(a, b): return A()",
    "a list equal to everything": "class L(list):\n    def __eq__(s, o): return True\n    def __iter__(s): return iter([20003])\ndef f(a, b): return L()",
    "a str equal to everything": "class S(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\ndef f(a, b): return S()",
    "a dict with keys that are equal": TRUE + "def f(a, b): return {True_(1): 1}",
    "a generator of equal things": TRUE + "def f(a, b):\n    while True: yield True_(1)",
    "NotImplemented": "def f(a, b): return NotImplemented",
    "an exception in place of the value": "def f(a, b): raise StopIteration",
    "the exception of the tests": "class Gone(BaseException): pass\nclass OutOfTime(BaseException): pass\ndef f(a, b): raise Gone()",
    "GeneratorExit": "def f(a, b): raise GeneratorExit",
    "its own AssertionError": "class AssertionError(Exception): pass\ndef f(a, b): raise AssertionError",
    "replies written before they are asked": "for i in range(100): os.write(1, b'0 {\"v\":20003}\\n')\ndef f(a, b): return 0",
    "a thread that answers again": """
def f(a, b):
    frame = sys._getframe()
    while "nonce" not in frame.f_locals: frame = frame.f_back
    nonce = frame.f_locals["nonce"]
    def late():
        for i in range(1000): os.write(1, nonce + b' {"v":20003}\\n'); time.sleep(0.001)
    threading.Thread(target=late, daemon=True).start()
    return 20003""",
    "learning from call to call": "seen = []\ndef f(a, b):\n    seen.append((a, b, sys.exc_info(), locals()))\n    return len(seen) and 20003",
    "closing stdout": "def f(a, b): os.close(1)",
    "a death by its own limit": "import resource\ndef f(a, b):\n    resource.setrlimit(resource.RLIMIT_CPU, (0, 0))\n    while True: pass",
    "stopping itself": "def f(a, b): os.kill(os.getpid(), signal.SIGSTOP)",
    "looping": "def f(a, b):\n    while True: pass",
    "sleeping": "def f(a, b): time.sleep(100)",
    "a method that says yes": "class T:\n    def __getattr__(s, n): return lambda *a: True\n    def __bool__(s): return True\ndef f(a, b): return T()",
    "a module in its place": "f = types.ModuleType('f')",
    "no function": "x = 1",
    "no program": "def f(a, b: return",
    "a property of its arguments": "def f(a, b): return inspect.stack()",
    # what a driver that was taken over may send
    "raw: an object": RAW.format(payload="b'{\"v\":{\"h\":[0,\"int\",true]}}'"),
    "raw: an object without number": RAW.format(payload="b'{\"v\":{\"h\":[true,\"int\",true]}}'"),
    "raw: a built-in function": RAW.format(payload="b'{\"v\":{\"ty\":\"exec\"}}'"),
    "raw: a class": RAW.format(payload="b'{\"v\":{\"ty\":\"object\"}}'"),
    "raw: SystemExit": RAW.format(payload="b'{\"x\":[[\"SystemExit\"],\"\"]}'"),
    "raw: no exception": RAW.format(payload="b'{\"x\":[[\"exec\",\"print\"],\"print(1)\"]}'"),
    "raw: KeyboardInterrupt": RAW.format(payload="b'{\"x\":[[\"KeyboardInterrupt\"],\"\"]}'"),
    "raw: changes of what is not there": RAW.format(payload="b'{\"v\":20003,\"m\":[[7,[]],[0,[20003]]]}'"),
    "raw: both": RAW.format(payload="b'{\"v\":20003,\"x\":1}'"),
    "raw: nothing": RAW.format(payload="b''"),
    "raw: 100,000 deep": RAW.format(payload="b'{\"v\":' + b'[' * 100_000 + b']' * 100_000 + b'}'"),
    "raw: a thousand deep": RAW.format(payload="b'{\"v\":' + b'[' * 900 + b']' * 900 + b'}'"),
    "raw: tags 100,000 deep": RAW.format(payload="b'{\"v\":' + b'{\"t\":[' * 100_000 + b']}' * 100_000 + b'}'"),
    "raw: an int of ten million digits": RAW.format(payload="b'{\"v\":' + b'9' * 10_000_000 + b'}'"),
    "raw: an int of 3 million digits": RAW.format(payload="b'{\"v\":' + b'9' * 3_000_000 + b'}'"),
    "raw: a hexadecimal one": RAW.format(payload="b'{\"v\":{\"i\":\"0x' + b'f' * 3_000_000 + b'\"}}'"),
    "raw: a long decimal": RAW.format(payload="b'{\"v\":{\"dec\":\"1e999999999999\"}}'"),
    "raw: a huge range": RAW.format(payload="b'{\"v\":{\"r\":[0,' + b'9' * 300 + b',1]}}'"),
    "raw: a huge fraction": RAW.format(payload="b'{\"v\":{\"fr\":[1,0]}}'"),
    "raw: NaN": RAW.format(payload="b'{\"v\":NaN}'"),
    "raw: two tags": RAW.format(payload="b'{\"v\":{\"t\":[],\"s\":[]}}'"),
    "raw: a set of lists": RAW.format(payload="b'{\"v\":{\"s\":[[]]}}'"),
    "raw: no UTF-8": RAW.format(payload="b'{\"v\":\"\\xff\"}'"),
    "raw: a verdict": RAW.format(payload="b'{}\\nV {\"results\":[\"\",\"\",\"\"],\"broken\":\"\",\"gone\":\"\"}'"),
    "raw: 100 MB": RAW.format(payload="b'{\"v\":\"' + b'x' * 100_000_000 + b'\"}'"),
}  # fmt: skip


def test_the_right_program_passes_what_the_hacks_are_tried_on(calls: Calls) -> None:
    assert check(calls, "def f(a, b): return a * 10000 + b", *SECRET) == ("", "", "")


@pytest.mark.parametrize("name", HACKS)
def test_no_hack_is_accepted(calls: Calls, name: str) -> None:
    tested = calls.check(PRELUDE + HACKS[name], asserts(*SECRET), limits=QUICK, stop=False)
    assert not tested.is_undecided, f"a way out of a wrong verdict: {tested.note}"
    # one lucky guess, as `return 20003` would be, is no acceptance; all three would be
    assert not tested.passed and tested.results.count("") <= 1, tested
    assert tested.results[2] != ""


def test_what_a_dead_program_leaves_cannot_pass_tests_that_swallow_everything(calls: Calls) -> None:
    swallow = "try:\n    f(1, 2)\nexcept:\n    pass"
    assert all(check(calls, "import os\ndef f(a, b): os._exit(0)", swallow, swallow))
    assert check(calls, "def f(a, b): return 1", swallow) == ("",)


@pytest.mark.slow
def test_returned_values_cannot_keep_the_tests_busy_for_ever(calls: Calls) -> None:
    long = Limits(cpu_seconds=2)
    many = "def f():\n    i = 0\n    while True:\n        yield i\n        i += 1"
    assert all(check(calls, many, "assert list(f()) == [1]", limits=long))
    assert all(check(calls, "def f(): return 2 ** 400_000", "assert f() ** 200_000_000 == 1", limits=long))
    assert all(check(calls, "def f(): return True", "while True:\n    try:\n        while f(): pass\n    except BaseException: pass",
                     limits=long))  # fmt: skip


def test_the_end_of_the_time_interrupts_a_test_and_nothing_that_looks_at_how_it_ended() -> None:
    session = SimpleNamespace(num_errors=0, gone="", unsupported="", is_late=False)
    late = inside._late(session)
    late(None, sys._getframe())  # between two tests
    assert session.is_late
    said = inside._problem_of(session, "late(None, sys._getframe())\nraise SystemExit", {"late": late, "sys": sys})
    assert said == "the tests ran out of time on what the program returned"
    session.is_late = False
    with pytest.raises(inside.OutOfTime):
        inside._run("late(None, sys._getframe())", {"late": late, "sys": sys})


def test_a_program_cannot_learn_what_was_expected_from_anything_that_reaches_it(calls: Calls) -> None:
    """All that its process ever reads, recorded from inside."""
    source = """
import sys
log = []
class Spy:
    def __init__(self, real): self.real = real
    def readline(self, *a):
        line = self.real.readline(*a); log.append(line); return line
frame = sys._getframe()
while "requests" not in frame.f_locals: frame = frame.f_back
real = frame.f_locals["requests"]
def f(a, b): return repr(log) + repr(sys._getframe(1).f_locals.get("request")) + repr(frame.f_locals)
"""
    seen = calls.behave(source, [call("f", 2, 3)])
    assert seen is not None and b"20003" not in (seen[0] or b"")
    tested = calls.check(
        source,
        asserts("got = f(2, 3)\nassert '2000' + '4' in got or got.count('4321') == 0, got", "assert f(1, 1) == 4321"),
    )
    assert tested.results[0] == "", "the second test's value is nowhere to be seen while the first runs"


# ---- the wire --------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.sets(st.integers()),
    max_leaves=12,
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*wire._DECODERS, "h", "?"]), inner, max_size=2),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=50, deadline=None)
def test_plain_values_come_back_equal_and_of_their_type(value: object) -> None:
    back = wire.decode(wire.read(wire.written(wire.encode(value))))
    assert back == value and type(back) is type(value)


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_any_json_is_a_plain_value_or_malformed(data: object) -> None:
    try:
        value = wire.decode(data)
    except wire.Malformed:
        return
    assert type(value).__module__ in ("builtins", "collections", "decimal", "fractions", "datetime")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_line_is_a_message_or_malformed(line: bytes) -> None:
    with contextlib.suppress(wire.Malformed):
        json.dumps(wire.read(line))


def test_a_value_that_is_too_deep_is_not_sent() -> None:
    deep: list[object] = []
    for _ in range(wire.MAX_DEPTH + 5):
        deep = [deep]
    with pytest.raises(wire.NotPlain, match="deep"):
        wire.encode(deep)
    deep.append(deep)
    with pytest.raises(wire.NotPlain):
        wire.encode(deep)
