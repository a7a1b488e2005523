"""Tokens of mathematical notation, and a position among them; both bounded."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from ponder.grading.tree import TooLarge, Unparsed

MAX_TOKENS = 300
MAX_DEPTH = 40


class Token(NamedTuple):
    kind: str  # num, sym, word, text, cmd, op
    value: str
    spaced: bool  # white space stands before it


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<num>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?)
      | \\(?:text(?:rm|normal|bf|it)?|mbox|math(?:rm|bf|it|sf)|operatorname)\s*\{(?P<text>[^{}\\$]*)\}
      | (?P<cmd>\\[a-zA-Z]+|\\[{}|])
      | (?P<word>[a-zA-Z]+)
      | (?P<op>\*\*|<=|>=|!=|[-+*/^_!%|()\[\]{}'=<>,:¢€£¥])
    """,
    re.VERBOSE | re.ASCII,
)


def tokenize(text: str) -> list[Token]:
    """Unparsed at the first character that begins no token, and beyond MAX_TOKENS tokens."""
    tokens: list[Token] = []
    index, spaced = 0, False
    while index < len(text):
        match = _TOKEN.match(text, index)
        if match is None or len(tokens) >= MAX_TOKENS:
            raise Unparsed(f"{text[index : index + 20]!r}")
        index, kind = match.end(), match.lastgroup or "text"
        if kind != "space":
            tokens.append(Token(kind, match[kind].strip() if kind == "text" else match[0], spaced))
        spaced = kind == "space"
    return tokens


def number(text: str) -> Fraction:
    """The exact value of a decimal, thousands separators and an exponent allowed."""
    mantissa, _, exponent = text.replace(",", "").lower().partition("e")
    whole, _, decimals = mantissa.partition(".")
    if len(exponent) > 5 or abs(int(exponent or 0)) > 4_000:
        raise TooLarge(text)
    if len(whole) + len(decimals) > 4_000:
        raise Unparsed("a number of over 4,000 digits")
    return Fraction(int((whole + decimals) or "0")) * Fraction(10) ** (int(exponent or 0) - len(decimals))


class Tokens:
    """Tokens that are taken one after another; `depth` counts open brackets, signs and exponents."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.index, self.depth = tokens, 0, 0

    def peek(self, ahead: int = 0) -> str | None:
        r"""The next token's value, or that of one further ahead; None at the end and for a \text{...}."""
        index = self.index + ahead
        return self.tokens[index].value if index < len(self.tokens) and self.tokens[index].kind != "text" else None

    def take(self) -> Token:
        """The next token, which is used up; Unparsed at the end."""
        if self.index >= len(self.tokens):
            raise Unparsed("ends too early")
        self.index += 1
        return self.tokens[self.index - 1]

    def accept(self, *values: str) -> str | None:
        """Take the next token if its value is one of these; None where it is not."""
        if self.peek() in values:
            return self.take().value
        return None

    def expect(self, value: str) -> None:
        """Take the next token; Unparsed where it is another."""
        if self.take().value != value:
            raise Unparsed(f"{value} is missing")

    def deeper(self) -> None:
        """Enter one level; Unparsed beyond MAX_DEPTH. The caller reduces `depth` when it leaves the level."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unparsed("nested too deeply")
