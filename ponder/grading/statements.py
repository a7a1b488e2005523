"""Statements: equations and inequalities, as the value, the interval or the curve that they name."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from ponder.grading.expressions import parse
from ponder.grading.readings import ParsedAnswer, all_but, group, join, open_at_infinity, scalar, symbols_of
from ponder.grading.tree import Node, Unparsed, leaves
from ponder.grading.values import fingerprint, magnitude, ratios, real_part
from ponder.grading.wording import is_prose

NAME = re.compile(
    r"(?:[a-zA-Z]|\\[a-zA-Z]+|[A-Z]{2,4}|[a-zA-Z]{3,20})(?:_\{?\w{1,9}\}?)?'{0,3}(?:\s*\^\s*\{?\s*-1\s*\}?(?=\s*\())?"
    r"(?:\s*\((?:[^()]|[a-z]\s*\([^()]{1,20}\)){0,20}\))?"  # f(x), f(g(x))
    r"|\(\s*[fgh]\s*(?:[-+*/]|\\circ)\s*[fgh]\s*\)\s*\([^()]{1,20}\)"  # (f + g)(x)
)
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)\b|\\frac\s*\{\s*d\w?\^?[\w{}]*\s*\}\s*\{\s*d|[a-zA-Z]'+")
_LONGEST_NAME = 60


def equation(sides: list[str], value: ParsedAnswer) -> ParsedAnswer:
    """x = 5 is 5 and f(x) = 2x is 2x; y = 2x+1 stays an equation; of a = b = 5 the last side, `value`, counts."""
    left = sides[0][1:-1] if re.fullmatch(r"\{\w+\}", sides[0]) else sides[0]  # \mathbf{M}
    is_name = NAME.fullmatch(left) is not None
    symbols = symbols_of(value)
    derivative = _DERIVATIVE.match(left)
    if derivative and not re.search(r"[-+=]", left[derivative.end() :]):  # y' + y = 0 is no value of y'
        return replace(value, name=left)
    if is_name and ("(" in left or not symbols or (len(left) > 2 and left[0] != "\\")):
        return replace(value, name=left)
    if not left and value.node is not None:
        return value
    try:
        node = parse(left)
    except Unparsed:  # \angle ABC, |S| of a set, (x, y), \lim f(x): a name of what was asked
        if len(left) > _LONGEST_NAME or is_prose(left) or re.match(r"[-$(]*[0-9]", left):  # 12 for n = 3
            raise
        return replace(value, name=left)
    if value.kind != "scalar" or value.node is None:
        raise Unparsed("an equation between other things than expressions")
    if not symbols and all(leaf[0] != "sym" for leaf in leaves(node)):
        return value  # 3 + 4 = 7 claims 7
    if not is_name and fingerprint(node) == value.key:  # \sin 2x = 2\sin x\cos x claims its right side
        return value
    if len(sides) > 2:  # m + n = 2 + 3 = 5
        return replace(value, name=left)
    key, _ = ratios(("add", node, ("neg", value.node)))
    is_explicit = node[0] == "sym" and node[1] not in symbols
    asked = (replace(value, name=left),) if not is_explicit and _may_be_asked(node, value) else ()
    return ParsedAnswer(
        key="eq:" + key, kind="equation", node=value.node, name=left if is_explicit else "", sides=asked
    )


def _may_be_asked(left: Node, value: ParsedAnswer) -> bool:
    """Does m + n = 5 say what m + n is? Not 2x + 3y = 6 and x^2 + y^2 = 9, which are lines and circles."""
    names = {leaf[1] for leaf in leaves(left) if leaf[0] == "sym"}
    if not names or value.key == "n:0":
        return False
    if left[0] == "add" and left[1][0] == "num" and left[2][0] == "neg":  # 1 - P(A)
        return False
    if len(names) == 1 and left[0] in ("neg", "mul", "add") and _is_linear(left):  # 3k = 9 is on the way to k
        return False
    is_sum = left[0] in ("add", "neg")
    is_curve = names <= {"x", "y", "z"} and (_has_factor(left) or (is_sum and any(n[0] == "num" for n in leaves(left))))
    return not is_curve and names.isdisjoint(symbols_of(value))


def _is_linear(node: Node) -> bool:
    """Made of numbers and bare variables."""
    if node[0] in ("num", "sym"):
        return True
    return node[0] in ("neg", "mul", "add") and all(_is_linear(child) for child in node[1:])


def _has_factor(node: Node) -> bool:
    """A number that is no exponent."""
    if node[0] in ("num", "sym", "const", "unit"):
        return node[0] == "num"
    return any(_has_factor(child) for child in (node[1:2] if node[0] == "pow" else node[1:]))


def inequality(sides: list[str], operators: list[str]) -> ParsedAnswer:
    """x > 2 and 2 <= x < 5 are intervals; anything else is known up to a positive factor."""
    if operators[0] in (">", ">=") and len(operators) == 2:  # 5 > x > 2, read from the other end
        sides = sides[::-1]
        operators = [operator.replace(">", "<") for operator in reversed(operators)]
    if len(sides) == 2 and not sides[0] and "=" in operators[0]:  # at least 5: >= 5
        sides = ["x", sides[1]]
    constants = ("e", "i", r"\pi", r"\infty")
    names = [index for index, side in enumerate(sides) if NAME.fullmatch(side) and side not in constants]
    if len(names) == 1 and len(sides) == 2:
        index, operator = names[0], operators[0]
        bound = scalar(sides[1 - index])
        if not symbols_of(bound):
            if operator == "!=":
                return all_but((bound,), name=sides[index])
            low = (operator[0] == ">") == (index == 0)
            ends = (bound, ParsedAnswer(key="inf")) if low else (ParsedAnswer(key="-inf"), bound)
            closed = "=" in operator
            shape = ("[" if closed and low else "(") + ("]" if closed and not low else ")")
            return replace(group(shape, ends), name=sides[index])
    if len(sides) == 2 and operators[0] != "!=":
        around = _around(sides, operators[0])
        if around is not None:
            return around
    if names == [1] and len(sides) == 3 and all(operator in ("<", "<=") for operator in operators):
        shape = ("[" if "=" in operators[0] else "(") + ("]" if "=" in operators[1] else ")")
        ends = (scalar(sides[0]), scalar(sides[2]))
        return replace(group(open_at_infinity(shape, ends), ends), name=sides[1])
    if len(sides) > 2:
        keys = [scalar(side).key for side in sides]
        if any(operator[0] != operators[0][0] for operator in operators):
            raise Unparsed("a chain in two directions")
        if operators[0][0] == ">":
            keys, operators = keys[::-1], [operator.replace(">", "<") for operator in reversed(operators)]
        links = "".join(operator + key for operator, key in zip(operators, keys[1:], strict=True))
        return ParsedAnswer(key=f"chain:{keys[0]}{links}", kind="other")
    difference = ("add", parse(sides[0]), ("neg", parse(sides[1])))
    key, is_positive = ratios(difference)
    operator = operators[0]
    if operator[0] == ">":
        operator, is_positive = operator.replace(">", "<"), not is_positive
    sign = "" if operator == "!=" else "+" if is_positive else "-"
    return ParsedAnswer(key=f"rel:{operator}:{sign}:{key}", kind="other")


def _around(sides: list[str], operator: str) -> ParsedAnswer | None:
    """|x| < 2 and |x - 1| >= 3: an interval around a point, or the two beyond it."""
    if len(sides[0]) < 3 or sides[0][0] != "|" or sides[0][-1] != "|":
        return None
    node, bound = parse(sides[0]), scalar(sides[1])
    inside = node[1] if node[0] == "abs" else node
    names = [leaf for leaf in leaves(inside) if leaf[0] == "sym"]
    is_shifted = inside[0] == "add" and inside[1][0] == "sym"
    if node[0] != "abs" or len(names) != 1 or not (is_shifted or inside[0] == "sym") or bound.node is None:
        return None
    if magnitude(bound.node) is None or real_part(bound.node) <= 0:
        return None
    middle: Node = ("neg", inside[2]) if is_shifted else ("num", Fraction(0))
    low, high = (
        ParsedAnswer(key=fingerprint(end), node=end)
        for end in (("add", middle, ("neg", bound.node)), ("add", middle, bound.node))
    )
    closed = "=" in operator
    if operator[0] == "<":
        return replace(group("[]" if closed else "()", (low, high)), name=names[0][1])
    outer = (
        group("(]" if closed else "()", (ParsedAnswer(key="-inf"), low)),
        group("[)" if closed else "()", (high, ParsedAnswer(key="inf"))),
    )
    return replace(join(list(outer)), name=names[0][1])
