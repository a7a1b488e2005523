r"""Notation: from the mathematics people and models write to a tree of tuples.

    parse(clean(r"\frac{1}{2} + 2\sqrt{3}"))  -> ("add", ("div", ...), ("mul", ...)), or Unparsed

Conventions: `e`, `i` and `\pi` are the constants; log is the natural logarithm; a/bc is (a/b)c; 2\frac{1}{2} is a mixed
number; \frac12 is a half; sin 2x is sin(2x); a unit is a symbol with a scale, so 1 m is 100 cm, and 10 m is not 10 cm.
Numbers of tokens and nesting are bounded, so any text is parsed or refused in milliseconds. Left out, and `Unparsed`:
sums, integrals, limits, unknown functions. `values.py` evaluates the trees.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from ponder.grading.tokens import Token, Tokens, number, tokenize
from ponder.grading.tree import Node, Unparsed, leaves
from ponder.grading.units import LETTER_UNITS, NO_NOUNS, SCALES, SPACED_UNITS, UNITS, named_unit

MAX_CHARS = 4_000
FUNCTION_NAMES = frozenset(
    "sin cos tan sec csc cot arcsin arccos arctan asin acos atan sinh cosh tanh "
    "ln log lg exp cis sqrt abs floor ceil".split()
)
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa "
    "lambda mu nu xi rho sigma tau upsilon phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar".split()
)
_ALIASES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
_INVERSES = {"sin": "asin", "cos": "acos", "tan": "atan"}
_DOTS = {"dot": "'", "ddot": "''"}
_CLOSERS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}


def parse(text: str) -> Node:
    """The tree of one cleaned expression; raises Unparsed."""
    if len(text) > MAX_CHARS:
        raise Unparsed("too long")
    parser = _Parser(tokenize(text))
    try:
        node = parser.whole()
    except RecursionError:  # the caller may be deep in the stack already
        raise Unparsed("nested too deeply") from None
    if parser.peek() is not None:
        raise Unparsed(f"unexpected {parser.peek()}")
    return node


class _Parser(Tokens):
    """Recursive descent: sum > product > signed > power > postfix > primary."""

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self.closers: list[str] = []  # what closes the open brackets; a "|" closes only the innermost "|"

    def enclosed(self, opener: str) -> Node:
        """A sum up to the closer of `opener`, which was taken already."""
        self.deeper()
        self.closers.append(_CLOSERS[opener])
        node = self.whole() if opener == "{" else self.sum()
        self.expect(self.closers.pop())
        self.depth -= 1
        return node

    def whole(self) -> Node:
        """A sum, or TeX's old \\over and \\choose between two of them."""
        node = self.sum()
        if sign := self.accept(r"\over", r"\choose"):
            node = ("div", node, self.sum()) if sign == r"\over" else _binomial(node, self.sum())
        return node

    def sum(self) -> Node:
        node = self.product()
        while sign := self.accept("+", "-"):
            right = self.product()
            node = ("add", node, right if sign == "+" else ("neg", right))
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            if self.accept("*"):
                node = ("mul", node, self.signed())
            elif self.accept("/"):
                node = ("div", node, self.signed())
            elif self.starts_factor():
                node = ("mul", node, self.power())
            else:
                return node

    def signed(self) -> Node:
        sign = self.accept("-", "+")
        if sign is None:
            return self.power()
        self.deeper()
        node = self.signed()
        self.depth -= 1
        return ("neg", node) if sign == "-" else node

    def starts_factor(self) -> bool:
        """Does an implicit product go on? A number may follow only a closing bracket: 2(3) and (2)3, not 2 3."""
        if self.index >= len(self.tokens):
            return False
        token = self.tokens[self.index]
        if token.kind in ("text", "word"):
            return True
        if token.kind == "num":
            return self.tokens[self.index - 1].value in (")", "}", "]", r"\dollar", "€", "£", "¥")
        if token.value == "|":
            return not (self.closers and self.closers[-1] == "|")
        if token.value in ("(", "[", "{", r"\{", "%", "¢", "€", "£", "¥"):
            return True
        return token.kind == "cmd" and token.value not in (*_CLOSERS.values(), r"\mod", r"\over", r"\choose")

    def power(self) -> Node:
        node = self.postfix(self.primary())
        if self.accept("^", "**"):
            node = ("pow", node, self.exponent())
            node = self.postfix(node)
        return node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.peek() == "!" and self.peek(1) != "!":
                self.take()
                node = ("fact", node)
            elif self.peek() in ("%", r"\deg"):
                node = ("mul", node, ("unit", "%" if self.take().value == "%" else "°"))
            else:
                return node

    def exponent(self) -> Node:
        self.deeper()
        if self.accept("-"):
            node: Node = ("neg", self.exponent())
        elif self.accept("+"):
            node = self.exponent()
        else:
            node = self.primary()
            if self.accept("^", "**"):  # a^b^c is a^(b^c)
                node = ("pow", node, self.exponent())
        self.depth -= 1
        return node

    def argument(self) -> Node:
        """What \\frac and \\sqrt take: {...}, or one digit, letter or command: \\frac12 is a half."""
        if self.accept("{"):
            return self.enclosed("{")
        if self.accept("("):
            return self.enclosed("(")
        token = self.take()
        if token.kind == "num" and len(token.value) > 1:
            if not token.value.isdigit():
                raise Unparsed(token.value)
            self.index -= 1
            self.tokens[self.index] = Token("num", token.value[1:], False)
            return ("num", Fraction(int(token.value[0])))
        self.index -= 1
        if token.kind == "word" and len(token.value) > 1:
            self.tokens[self.index] = Token("word", token.value[1:], False)
            return _letter(token.value[0])
        if token.kind not in ("num", "word", "cmd"):
            raise Unparsed(token.value)
        return self.primary()

    def primary(self) -> Node:
        token = self.take()
        if token.kind == "num":
            return self.mixed(number(token.value), token)
        if token.kind == "text":
            return named_unit(token.value)
        if token.kind == "word":
            return self.word(token)
        if token.value in ("(", "[", "{", r"\{", "|", r"\lfloor", r"\lceil"):
            node = self.enclosed(token.value)
            wrapper = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}.get(token.value)
            return (wrapper, node) if wrapper else node
        if token.value in ("%", "¢", "€", "£", "¥"):
            return ("unit", token.value)  # €5 and 5€
        if token.kind == "cmd":
            return self.command(token.value[1:])
        raise Unparsed(f"unexpected {token.value}")

    def mixed(self, value: Fraction, token: Token) -> Node:
        """2\\frac{1}{2} and `2 1/2` are two and a half; a factor would be written 2 \\cdot \\frac{1}{2}."""
        ahead = self.tokens[self.index : self.index + 7]
        values = [t.value for t in ahead]
        part = None
        if "." in token.value or value.denominator != 1:
            pass
        elif len(ahead) >= 3 and ahead[0].kind == ahead[2].kind == "num" and ahead[0].spaced and values[1] == "/":
            part = (values[0], values[2], 3)
        elif values[:1] == [r"\frac"] and "".join(values[1::3]) == "{{" and "".join(values[3::3]) == "}}":
            part = (values[2], values[5], 7)
        elif values[:1] == [r"\frac"] and len(ahead) > 1 and re.fullmatch(r"[1-9][1-9]", values[1]):
            part = (values[1][0], values[1][1], 2)
        if part and part[0].isdigit() and part[1].isdigit() and len(part[0] + part[1]) < 40:
            top, bottom = int(part[0]), int(part[1])
            if 0 < top < bottom:
                self.index += part[2]
                return ("num", value + Fraction(top, bottom))
        return ("num", value)

    def word(self, token: Token) -> Node:
        """A run of letters: a function, a unit, words that name what is counted, or a product of symbols."""
        name = token.value
        is_second = name == "sec" and self.index >= 2 and self.tokens[self.index - 2].value == "/"  # m/sec
        if name in FUNCTION_NAMES and not is_second:
            return self.function(name)
        if name in ("pi", "Pi", "PI"):
            return ("const", "pi")
        if name in ("inf", "infinity", "Infinity"):
            return ("const", "inf")
        after_number = self.index >= 2 and self.tokens[self.index - 2].kind in ("num", "op", "cmd")
        has_more = self.index < len(self.tokens) and self.tokens[self.index].kind == "word"
        if has_more and len(name) >= 2 and token.spaced and after_number and name not in GREEK:
            return self.counted(name)  # miles per hour
        if name.lower() in SCALES and len(name) > 2 and after_number:
            return self.counted(name)
        if name in UNITS and (
            self.is_spelt_unit(token)
            if len(name) == 2
            else len(name) > 1 or (name in LETTER_UNITS and self.is_spaced_unit(token))
        ):
            return ("unit", name)
        if len(name) >= 3 and token.spaced and after_number:
            return self.counted(name)
        if name in GREEK:
            return ("sym", "\\" + name)
        if len(name) > 3:
            raise Unparsed(name)
        first = self.subscripted(name[0]) if len(name) == 1 else _letter(name[0])
        for i, letter in enumerate(name[1:], start=2):
            first = ("mul", first, self.raised(letter) if i == len(name) else _letter(letter))
        return first

    def raised(self, letter: str) -> Node:
        """The last letter of a product with its subscript and power: ab^2 is a(b^2)."""
        node = self.postfix(self.subscripted(letter))
        return ("pow", node, self.exponent()) if self.accept("^", "**") else node

    def is_spelt_unit(self, token: Token) -> bool:
        """cm, lb and yd after a number, a unit or a slash; two letters in brackets or after a sign are factors."""
        before = self.tokens[self.index - 2] if self.index >= 2 else None
        if token.value in SPACED_UNITS and not token.spaced and before is not None and len(before.value) < 3:
            return False  # 5nm may be 5mn, 500nm is a length
        return before is not None and before.value not in ("(", "[", "{", "|", "+", "-", "*", "^", "=")

    def is_spaced_unit(self, token: Token) -> bool:
        """`10 m` and the s of `10 m/s`; not the m of 6m or of 3 m / 2 - 1."""
        before = self.tokens[self.index - 2] if self.index >= 2 else None
        if before is None or not all(t.kind in ("num", "word", "op", "text") for t in self.tokens):
            return False
        if before.value == "/":
            return any(t.kind == "word" and t.value in UNITS and t.spaced for t in self.tokens[: self.index - 2])
        rest = [t.value for t in self.tokens[self.index :]]
        tail = rest[4:] if rest[:2] == ["^", "{"] else rest[2:] if rest[:1] == ["^"] else rest
        ends = not tail or (len(tail) >= 2 and tail[0] == "/" and tail[1] in UNITS)
        is_power = before.value == "}" and not any(t.kind == "word" for t in self.tokens[: self.index - 1])  # 10^{3} m
        return token.spaced and (before.kind == "num" or is_power) and ends

    def counted(self, name: str) -> Node:
        """`18 red apples`: up to four words after a number, to the end."""
        words = [name]
        while self.index < len(self.tokens) and self.tokens[self.index].kind == "word":
            words.append(self.take().value)
        ends = self.index == len(self.tokens) or self.peek() in ("^", "/", ")")
        if not ends or len(words) > 4 or not NO_NOUNS.isdisjoint(words):
            raise Unparsed(" ".join(words))
        return named_unit(" ".join(words))

    def subscripted(self, name: str) -> Node:
        """x_1, x_{max}, x', x(0): the subscript, the primes and the place where it starts are part of the name.

        A product with 0 or 1 is not written so: x(0) is the value at 0, and I(0)e^{-t} is not 0.
        """
        node = _letter(name)
        if self.accept("_"):
            parts = []
            if self.accept("{"):
                while self.peek() != "}":
                    parts.append(self.take().value)
            parts.append(self.take().value)
            node = ("sym", f"{name}_{''.join(parts).removesuffix('}')}")
        while self.peek() == "'":
            node = ("sym", node[1] + self.take().value)
        if self.peek() == "(" and self.peek(2) == ")" and self.peek(1) in ("0", "1"):
            node = ("sym", f"{node[1]}({self.peek(1)})")
            self.index += 3
        return node

    def command(self, name: str) -> Node:
        if name == "frac":
            top = self.argument()
            return ("div", top, self.argument())
        if name == "binom":
            return _binomial(self.argument(), self.argument())
        if name == "sqrt":
            degree: Node = ("num", Fraction(2))
            if self.accept("["):
                degree = self.enclosed("[")
            return ("root", degree, self.argument())
        if name in ("overline", "bar") and self.peek() == "{" and self.index >= 2:
            raise Unparsed("a bar")
        if name == "pi":
            return ("const", "pi")
        if name == "infty":
            return ("const", "inf")
        if name == "deg":
            return ("unit", "°")
        if name == "dollar":
            return ("unit", "dollar")
        if name in FUNCTION_NAMES:
            return self.function(name)
        if name in GREEK:
            return self.subscripted("\\" + name)
        if name in _DOTS:
            node = self.argument()
            if node[0] != "sym":
                raise Unparsed("a dot on something that is no name")
            return self.subscripted(node[1] + _DOTS[name])
        raise Unparsed("\\" + name)

    def function(self, name: str) -> Node:
        """sin x, sin^2 x, sin^{-1} x, log_2 8, sqrt(2): without brackets the argument is the product that follows."""
        base = outer = None
        while True:
            if self.accept("_"):
                base = self.argument_or_number()
            elif self.accept("^", "**"):
                outer = self.exponent()
            else:
                break
        opener = self.accept("(", "[", "{", "|")
        if opener:
            inside = self.enclosed(opener)
            if opener == "|":
                inside = ("abs", inside)
        elif name == "sqrt":
            inside = self.power()
        else:
            inside = self.bare_argument()
        if outer == ("neg", ("num", Fraction(1))) and name in _INVERSES:
            name, outer = _INVERSES[name], None
        node: Node = ("root", ("num", Fraction(2)), inside) if name == "sqrt" else (_ALIASES.get(name, name), inside)
        if name == "cis":
            node = ("exp", ("mul", ("const", "i"), inside))
        if name in ("log", "lg") and (base is not None or name == "lg"):
            node = ("div", ("log", inside), ("log", base or ("num", Fraction(10))))
        elif base is not None:
            raise Unparsed("a subscript")
        return ("pow", node, outer) if outer is not None else node

    def argument_or_number(self) -> Node:
        if self.peek() is not None and self.tokens[self.index].kind == "num":
            return ("num", number(self.take().value))
        return self.argument()

    def bare_argument(self) -> Node:
        sign = self.accept("-")
        node = self.power()
        while self.starts_factor():
            token = self.tokens[self.index]
            if token.value in ("(", "[", "{") or token.value.lstrip("\\") in FUNCTION_NAMES or token.kind == "text":
                break
            node = ("mul", node, self.power())
        if self.peek() == "/" and self.index + 1 < len(self.tokens) and self.tokens[self.index + 1].kind == "num":
            self.take()  # sin x/2 is sin(x/2)
            node = ("div", node, self.power())
        return ("neg", node) if sign else node


def _binomial(top: Node, bottom: Node) -> Node:
    """\\binom{n}{2} is n(n-1)/2."""
    if bottom[0] != "num" or bottom[1] not in range(1, 9) or all(leaf[0] != "sym" for leaf in leaves(top)):
        return ("binom", top, bottom)
    node: Node = top
    for below in range(1, int(bottom[1])):
        node = ("mul", node, ("add", top, ("num", Fraction(-below))))
    return ("div", node, ("num", Fraction(math.factorial(int(bottom[1])))))


def _letter(letter: str) -> Node:
    return ("const", letter) if letter in ("e", "i") else ("sym", letter)
