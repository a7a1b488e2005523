"""The asserts of a data set as tests that can be run apart: which are shown, which are hidden, and what they call.

    humaneval_tests(row)   the statements of `check(candidate)`; shown are the examples of the docstring
    mbpp_tests(row, shown=1)   `test_list`; shown is its first assert, since all of them would be the whole solution

What a test may use: the data set's own text (imports, helpers beside the function in HumanEval's prompt, which are
never the program's: else a program could define away what it is compared with), standard modules, and the names that
the program should define. Examples in docstrings are what their authors wrote, some of them wrong: they are shown and
filter, and never decide. Texts here are the data set's; they are parsed, and run only in the sandbox.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponder.config import ConfigError
from ponder.sandbox.calls import Asserts, Unit

_SIGNS = r"\s*(?:#\s*)?(?:==?>|==|➞|->|→|should return|returns|=)\s*"


@dataclass(frozen=True, kw_only=True)
class FunctionTests:
    """The tests of a function: `public` may be shown and filtered by, `hidden` decides together with `shared`."""

    entry: str  # the function's name
    names: tuple[str, ...]  # all that the program should define
    setup: str
    public: tuple[str, ...]  # asserts, as Python
    hidden: tuple[Unit, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    decides: bool = True  # the public ones are tests too

    def asserts(self, *, hidden: bool = True, extra: Sequence[Unit] = ()) -> Asserts:
        """As the sandbox takes them: the public ones first."""
        public = tuple(Unit(code=code, decides=self.decides) for code in self.public)
        units = (*public, *self.hidden, *extra) if hidden else public
        return Asserts(names=self.names, units=units, setup=self.setup, aliases=self.aliases)


def humaneval_tests(row: Mapping[str, Any], where: str) -> FunctionTests:
    """Of a row with `problem` (the function's head), `entry_point` and `test`."""
    check_fields(row, where, "problem", "entry_point", "test")
    entry, prompt = str(row["entry_point"]), str(row["problem"])
    head, test = _parsed(prompt + "\n    pass\n", where), _parsed(str(row["test"]), where)
    check = next((node for node in test.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)
    if check is None or len(check.args.args) != 1:
        raise ConfigError(f"{where}: the test has no function check(candidate)")
    helpers = [node for node in head.body if getattr(node, "name", "") != entry]
    others = [node for node in test.body if node is not check]
    alias = check.args.args[0].arg
    if any(isinstance(node, ast.Return | ast.Yield | ast.Nonlocal) for node in ast.walk(check)):
        others = [*others, check]
        units: tuple[Unit, ...] = (Unit(code=f"check({alias})"),)
    else:
        units = tuple(_unit(statement) for statement in check.body)
    function = next((node for node in head.body if getattr(node, "name", "") == entry), None)
    doc = ast.get_docstring(function) if isinstance(function, ast.FunctionDef) else None
    return FunctionTests(
        entry=entry, names=(entry,), setup="\n".join(map(ast.unparse, [*helpers, *others])),
        public=tuple(docstring_examples(doc or "", entry)), hidden=units, aliases=((alias, entry),), decides=False,
    )  # fmt: skip


def mbpp_tests(row: Mapping[str, Any], where: str, *, shown: int) -> FunctionTests:
    """Of a row with `test_list`, perhaps `test_imports`, `test_setup_code`, `challenge_test_list` and a `solution`."""
    check_fields(row, where, "test_list")
    tests = [str(test) for test in [*row["test_list"], *(row.get("challenge_test_list") or [])]]
    setup = [*(row.get("test_imports") or []), str(row.get("test_setup_code") or "")]
    tree = _parsed("\n".join([*setup, *tests]).replace("\r", ""), where)
    own = defined(str(row.get("solution", "")))
    free = [name for name in _loaded(tree) if name not in _stored(tree)]
    names = [name for name in free if name in own or not (hasattr(builtins, name) or name in sys.stdlib_module_names)]
    if not names:
        raise ConfigError(f"{where}: its tests call nothing that a program could define")
    entry = next((name for name in _called(_parsed(tests[0], where)) if name in names), names[0])
    modules = [f"import {name}" for name in free if name not in names and name in sys.stdlib_module_names]
    return FunctionTests(
        entry=entry, names=tuple(dict.fromkeys([entry, *names])), setup="\n".join([*modules, *setup]).replace("\r", ""),
        public=tuple(tests[:shown]), hidden=tuple(Unit(code=test) for test in tests[shown:]),
    )  # fmt: skip


def docstring_examples(doc: str, entry: str) -> Iterator[str]:
    """The examples of a docstring as asserts: `>>> f(1)` with its result below, or `f(1) == 2` on a line."""
    try:
        examples = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        examples = []
    pairs = [(example.source.strip(), example.want.strip()) for example in examples if example.want]
    for line in doc.splitlines():
        found = re.match(rf"[\s>*-]*(?:for )?({re.escape(entry)}\(.*\)){_SIGNS}(.+?)\.?\s*$", line)
        pairs += [(found[1], found[2])] if found else []
    seen = set()
    for source, want in pairs:
        want = re.sub(r"\s+#.*", "", want)
        want = {"true": "True", "false": "False"}.get(want, want)
        if _is_call(source, entry) and _is_plain(want):
            text = f"assert {source} == {want}"
            if text not in seen:
                seen.add(text)
                yield text


def calls_of(tests: Sequence[str], entry: str) -> list[list[Any]]:
    """The plain positional arguments of the calls of a function in asserts, each list once, in their order."""
    found: list[list[Any]] = []
    for test in tests:
        for node in ast.walk(ast.parse(test)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry:
                try:
                    args = [ast.literal_eval(arg) for arg in node.args]
                except (ValueError, TypeError, RecursionError, MemoryError):
                    continue
                if not node.keywords and args not in found:
                    found.append(args)
    return found


def defined(source: str) -> set[str]:
    """The functions and classes that a reference program defines; none of one that does not parse."""
    try:
        body = ast.parse(source.replace("\r", "")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in body if isinstance(node, named)} | {
        target.id for node in body if isinstance(node, ast.Assign) for target in node.targets
        if isinstance(target, ast.Name)
    }  # fmt: skip


def check_fields(row: Mapping[str, Any], where: str, *names: str) -> None:
    """Raise ConfigError for a row in which one of these is missing or empty."""
    missing = [name for name in names if not row.get(name)]
    if missing:
        raise ConfigError(f"{where}: no {' and no '.join(missing)}; a row needs {', '.join(names)}")


def _unit(statement: ast.stmt) -> Unit:
    is_test = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
    return Unit(code=ast.unparse(statement), is_test=is_test)


def _parsed(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where}: a test that is no Python ({error})") from None


def _loaded(tree: ast.AST) -> list[str]:
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return list(dict.fromkeys(names))


def _stored(tree: ast.AST) -> set[str]:
    """What the tests define themselves."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            stored |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return stored


def _called(tree: ast.AST) -> list[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [function.id for function in calls if isinstance(function, ast.Name)]


def _is_call(source: str, entry: str) -> bool:
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        return False
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry
    return is_call and _loaded(node) == [entry]  # `f(abcd)` forgot its quotes


def _is_plain(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True
