"""Values in the `.story` files: names, draws and plain arithmetic, read into functions of a story.

    expression("whole(v) + some(5, 120)")(story) -> a number a little above what `v` is in that story

Python's own parser reads them, and a closed list of forms is followed: nothing is evaluated by Python, and nothing else
can be written.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Story

Expression = Callable[[Story], Any]
_SIGNS: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: lambda a, b: Fraction(a) / b,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_COMPARED: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {
    **{call.__name__: call for call in (
        Story.some, Story.person, Story.thing, Story.goods, Story.chance, Story.divisor, Story.part, Story.whole,
        Story.times, Story.fraction, Story.then, Story.sample, Story.is_told, Story.next_bill,
    )},
    "pick": lambda s, *options: s.pick(options if len(options) > 1 else options[0]),
    "digits": lambda s, value: str(value),  # never in words
    "last_word": lambda s, text: text.rpartition(" ")[2],
    "noun": lambda s, entry: book.noun(entry),
    "singular": lambda s, plural: book.singular(plural),
}  # fmt: skip
_FACTS: dict[str, Expression] = {
    "left": lambda s: s.left,  # steps still to be told
    "level": lambda s: s.level,
    "told": lambda s: len(s.sentences),
    "kind": lambda s: s.kind,
}


def expression(text: str) -> Expression:
    """A function of a story; ValueError for what may not be written in one."""
    return _compiled(_parsed(text))


def operation(text: str) -> tuple[str, Expression, Expression]:
    """The sign of one operation, and its two sides."""
    node = _parsed(text)
    if not isinstance(node, ast.BinOp):
        raise ValueError(f"{text!r} is not one operation")
    return _SIGNS[type(node.op)], _compiled(node.left), _compiled(node.right)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} cannot be read") from error


def _compiled(node: ast.expr) -> Expression:
    match node:
        case ast.Constant(value=value):
            return lambda s: value
        case ast.Name(id=name) if name in _FACTS:
            return _FACTS[name]
        case ast.Name(id=name) if name.isupper():
            words = getattr(book, name)
            return lambda s: words
        case ast.Name(id=name):
            return lambda s: s.names[name]
        case ast.Tuple(elts=elements):
            parts = [_compiled(element) for element in elements]
            return lambda s: [part(s) for part in parts]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _CALLS:
            return _call(_CALLS[name], arguments)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _binary(_ARITHMETIC[type(op)], left, right)
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            return _binary(_COMPARED[type(comparison)], left, right)
        case ast.BoolOp(op=op, values=operands):
            tests, is_any = [_compiled(operand) for operand in operands], isinstance(op, ast.Or)
            return lambda s: any(test(s) for test in tests) if is_any else all(test(s) for test in tests)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compiled(operand)
            return lambda s: not inner(s)
        case ast.Subscript(value=listed_node, slice=index_node):
            entries, index = _compiled(listed_node), _compiled(index_node)
            return lambda s: entries(s)[index(s)]
    raise ValueError(f"{ast.unparse(node)} cannot be written in a story")


def _call(call: Callable[..., Any], arguments: Sequence[ast.expr]) -> Expression:
    if all(isinstance(argument, ast.Constant) for argument in arguments):  # worked out once
        fixed = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
        return lambda s: call(s, *fixed)
    values = [_compiled(argument) for argument in arguments]
    return lambda s: call(s, *[value(s) for value in values])


def _binary(operation: Callable[[Any, Any], Any], left: ast.expr, right: ast.expr) -> Expression:
    a, b = _compiled(left), _compiled(right)
    return lambda s: operation(a(s), b(s))
