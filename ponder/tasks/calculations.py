"""Written calculations: read `48/2=24`, check it, write it in one fixed way, and take it apart into single operations.

    calculation("$1,050 x 2")        -> text "1050*2", value 2100
    equation("10*.5=5.00")           -> "10*0.5=5"; None where it does not come out
    operations("5*(3+4)-2")          -> ["3+4=7", "5*7=35", "35-2=33"]

Numbers, + - * / and brackets only, exact fractions inside, and no `eval`: the texts come from data files and models.
Not a reader of mathematics (`equality.py` is): it knows the calculator notation of worked solutions, and refuses the
rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_TOKENS = 80
MAX_DIGITS = 15
_SIGNS = {"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "[": "(", "]": ")", "{": "(", "}": ")"}
_TOKEN = re.compile(r"\d+(?:\.\d*)?|\.\d+|[-+*/()%]|\S", re.ASCII)


@dataclass(frozen=True)
class Node:
    """A number (no sign), or an operation on two nodes."""

    value: Fraction
    sign: str = ""
    left: Node | None = None
    right: Node | None = None


@dataclass(frozen=True)
class Calculation:
    """A left-hand side: how it is written here, its tree, and what it is worth."""

    text: str
    tree: Node

    @property
    def value(self) -> Fraction:
        return self.tree.value

    @property
    def num_operations(self) -> int:
        return _count(self.tree)


def _count(node: Node) -> int:
    return 0 if node.left is None or node.right is None else 1 + _count(node.left) + _count(node.right)


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
    for places in range(1, 7):
        if (value * 10**places).denominator == 1:
            return f"{'-' if value < 0 else ''}{abs(value.numerator) / value.denominator:.{places}f}"
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


def calculation(text: str) -> Calculation | None:
    """Read a left-hand side; None for anything that is not one."""
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("$", " ").replace("€", " ").replace("£", " "))
    tokens = _TOKEN.findall(text)
    if not tokens or len(tokens) > MAX_TOKENS:
        return None
    written: list[str] = []
    try:
        tree = _Reader(tokens, written).whole()
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return Calculation("".join(written), tree)


class _Reader:
    """Recursive descent over tokens; `written` collects the same calculation in the fixed way of writing."""

    def __init__(self, tokens: list[str], written: list[str]) -> None:
        self.tokens, self.written, self.place = tokens, written, 0

    def whole(self) -> Node:
        node = self.total()
        if self.place < len(self.tokens):
            raise ValueError(self.tokens[self.place])
        return node

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, write: str | None = None) -> str:
        token = self.tokens[self.place]
        self.place += 1
        self.written.append(token if write is None else write)
        return token

    def total(self) -> Node:
        node = self.product()
        while self.peek() in ("+", "-"):
            node = combine(self.take(), node, self.product())
        return node

    def product(self) -> Node:
        node = self.factor()
        while (sign := self.peek()) in ("*", "/", "("):
            if sign == "(":  # 2(10+20)
                self.written.append("*")
            else:
                self.take()
            node = combine("*" if sign == "(" else sign, node, self.factor())
        return node

    def factor(self) -> Node:
        if self.peek() == "-":  # a sign, not a difference
            self.take()
            return combine("-", Node(Fraction(0)), self.factor())
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
        value = number(self.tokens[self.place])
        if value is None:
            raise ValueError(self.tokens[self.place])
        if self.place + 1 < len(self.tokens) and self.tokens[self.place + 1] == "%":
            self.place += 1
            value /= 100
        self.take(write=show(value))
        return Node(value)


def combine(sign: str, left: Node, right: Node) -> Node:
    a, b = left.value, right.value
    value = a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a / b
    return Node(value, sign, left, right)


def comes_out(value: Fraction, written: str) -> bool:
    """Whether a written result is the value, or the value rounded to as many places as are written."""
    result = number(written)
    if result is None:
        return False
    places = len(written.strip().rstrip("%").partition(".")[2])
    return result == value or (places > 0 and abs(result - value) * 10**places <= Fraction(1, 2))


def equation(text: str) -> str | None:
    """One equation in the fixed way of writing; None where it is none, does nothing (`5=5`) or does not come out."""
    left, equals, right = text.rpartition("=")
    found = calculation(left) if equals else None
    result = number(right)
    if found is None or result is None or found.num_operations == 0 or not comes_out(found.value, right):
        return None
    return f"{found.text}={show(result)}"


def operations(text: str) -> list[str] | None:
    """The same calculation, one operation a line, every result exact; None where some result has no end."""
    found = calculation(text)
    if found is None:
        return None
    lines: list[str] = []

    def work(node: Node) -> str | None:
        if node.left is None or node.right is None:
            return show(node.value) if is_short(node.value) else None
        left, right = node.left, node.right
        if node.sign == "*" and left.sign == "/" and left.left and left.right and not is_short(left.value):
            # 1/3*90: first what comes out, 1*90=90 and then 90/3=30
            return work(combine("/", combine("*", left.left, right), left.right))
        if node.sign == "*" and right.sign == "/" and right.left and right.right and not is_short(right.value):
            return work(combine("/", combine("*", left, right.left), right.right))
        a, b = work(left), work(right)
        if a is None or b is None or not is_short(node.value):
            return None
        if node.sign == "*" and a == "1":
            return b
        lines.append(f"{a}{node.sign}{b if b[0] != '-' else f'({b})'}={show(node.value)}")
        return show(node.value)

    return lines if work(found.tree) is not None else None


def is_short(value: Fraction) -> bool:
    """A whole number, or a decimal of at most four places."""
    return (value * 10_000).denominator == 1
