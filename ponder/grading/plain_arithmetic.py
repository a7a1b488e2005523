"""Plain arithmetic: numbers, + - * / and brackets, read exactly and written in one fixed way.

    calculation("$1,050 x 2")                   -> text "1050*2", value 2100
    calculation("3*7+4", strict=True).numbers   -> [3, 7, 4]

Exact fractions inside, and no `eval`: the texts come from data files and models. Not a reader of mathematics
(`expressions.py` is): it knows the calculator notation of worked solutions, and refuses the rest. What is strict has
whole numbers of up to six digits and no sign but those between two values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_TOKENS, MAX_STRICT_TOKENS = 80, 100
MAX_DIGITS = 15
_SIGNS = {"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "[": "(", "]": ")", "{": "(", "}": ")"}
_TOKEN = re.compile(r"\d+(?:\.\d*)?|\.\d+|[-+*/()%]|\S", re.ASCII)
_STRICT_TOKEN = re.compile(r"\d{1,6}|[-+*/()]|\S", re.ASCII)


@dataclass(frozen=True)
class ArithmeticNode:
    """A number (no sign), or an operation on two trees."""

    value: Fraction
    sign: str = ""
    left: ArithmeticNode | None = None
    right: ArithmeticNode | None = None


@dataclass(frozen=True)
class Calculation:
    """A left-hand side: how it is written here, its tree, and what it is worth."""

    text: str
    tree: ArithmeticNode

    @property
    def value(self) -> Fraction:
        return self.tree.value

    @property
    def num_operations(self) -> int:
        """One less than its numbers. The sign of a negative number counts as one, since -5 is read as 0 - 5."""
        return len(self.numbers) - 1

    @property
    def numbers(self) -> list[Fraction]:
        """The numbers in it, from left to right."""
        return _numbers(self.tree)


def _numbers(tree: ArithmeticNode) -> list[Fraction]:
    return [tree.value] if tree.left is None or tree.right is None else _numbers(tree.left) + _numbers(tree.right)


def number(text: str) -> Fraction | None:
    """What a written number is worth: "$1,050.00" -> 1050, "20%" -> 1/5; None where it is no number."""
    if len(text) > 4 * MAX_DIGITS:
        return None
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("$", "")).strip()
    match = re.fullmatch(r"(-?)((?:\d+\.?\d*|\.\d+))(%?)", text, re.ASCII)
    if match is None or len(match[2]) > MAX_DIGITS:
        return None
    value = Fraction(match[2] if match[2][-1] != "." else match[2][:-1])
    return (-value if match[1] else value) / (100 if match[3] else 1)


def show(value: Fraction) -> str:
    """24, 0.5, -3; what has no end is rounded to two places: 3.33."""
    if value.denominator == 1:
        return str(value.numerator)
    for places in range(1, MAX_DIGITS + 3):  # as many as `number` reads, of a percentage too
        if (value * 10**places).denominator == 1:
            digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
            return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    rounded = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if rounded == "-0" else rounded


def is_short(value: Fraction) -> bool:
    """A whole number, or a decimal of at most four places."""
    return (value * 10_000).denominator == 1


def calculation(text: str, *, strict: bool = False) -> Calculation | None:
    """Read a left-hand side; None for anything that is not one."""
    if not strict:
        text = _plain(text)
    tokens = (_STRICT_TOKEN if strict else _TOKEN).findall(text)
    if not tokens or len(tokens) > (MAX_STRICT_TOKENS if strict else MAX_TOKENS):
        return None
    reader = _ArithmeticParser(tokens, strict)
    try:
        tree = reader.whole()
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return Calculation("".join(reader.written), tree)


def _plain(text: str) -> str:
    """One sign for the many ways of writing it; no currencies, no commas between thousands."""
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    return re.sub(
        r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("$", " ").replace("€", " ").replace("£", " ").replace("¥", " ")
    )


class _ArithmeticParser:
    """Recursive descent over tokens; `written` collects the same calculation in the fixed way of writing."""

    def __init__(self, tokens: list[str], strict: bool) -> None:
        self.tokens, self.strict, self.index = tokens, strict, 0
        self.written: list[str] = []

    def whole(self) -> ArithmeticNode:
        node = self.total()
        if self.index < len(self.tokens):
            raise ValueError(self.tokens[self.index])
        return node

    def peek(self) -> str:
        return self.tokens[self.index] if self.index < len(self.tokens) else ""

    def take(self, write: str | None = None) -> str:
        token = self.tokens[self.index]
        self.index += 1
        self.written.append(token if write is None else write)
        return token

    def total(self) -> ArithmeticNode:
        node = self.product()
        while self.peek() in ("+", "-"):
            node = combine(self.take(), node, self.product())
        return node

    def product(self) -> ArithmeticNode:
        node = self.factor()
        while (sign := self.peek()) in (("*", "/") if self.strict else ("*", "/", "(")):
            if sign == "(":  # 2(10+20)
                self.written.append("*")
            else:
                self.take()
            node = combine("*" if sign == "(" else sign, node, self.factor())
        return node

    def factor(self) -> ArithmeticNode:
        if self.peek() == "-" and not self.strict:  # a sign, not a difference
            self.take()
            return combine("-", ArithmeticNode(Fraction(0)), self.factor())
        if self.peek() == "(":
            opening = len(self.written)
            self.take()
            node = self.total()
            if self.peek() != ")":
                raise ValueError(") is missing")
            self.take()
            if not node.sign:  # 2*(32) is 2*32
                del self.written[opening], self.written[-1]
            return node
        value = number(self.tokens[self.index])
        if value is None:
            raise ValueError(self.tokens[self.index])
        if not self.strict and self.index + 1 < len(self.tokens) and self.tokens[self.index + 1] == "%":
            self.index += 1
            value /= 100
        self.take(write=show(value))
        return ArithmeticNode(value)


def combine(sign: str, left: ArithmeticNode, right: ArithmeticNode) -> ArithmeticNode:
    """The operation as a tree, with its exact value. Any sign but + - * divides; ZeroDivisionError by 0."""
    a, b = left.value, right.value
    value = a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a / b
    return ArithmeticNode(value, sign, left, right)
