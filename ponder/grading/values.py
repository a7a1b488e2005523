"""Values: what an expression tree is worth, exactly where it is a fraction, by a fingerprint where it is not.

    exact(parse("0.75"))            -> Fraction(3, 4)
    fingerprint(parse("(x+1)^2"))   -> one text for every expression with the same values

A fingerprint holds the values at fixed points, each to 30 digits, computed with 80 and again with 120 digits: digits
that do not agree are noise, and noise is zero. A value that agrees with a fraction of small denominator to 60 digits is
that fraction. Two different expressions with one fingerprint would have to agree to 30 digits at random points. Being
equal is having the same text, hence symmetric and transitive.

Symbols are positive, so that the laws of roots, powers and logarithms hold: ln x^2 = 2 ln x, sqrt(ab) = sqrt a sqrt b.
At each point all symbols are nearly equal, one point has their order reversed, and no simple number lies between them:
so no verdict depends on what the letters are called. A point where some step is not real says nothing. What positive
symbols cannot tell apart, |x| and x, the fingerprint tells by further values with each such |x| negative (`_turned`).

Everything is bounded (sizes of exact numbers, exponents of decimal ones): it runs in the process that asks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from decimal import Decimal, DecimalException, Overflow, Underflow, localcontext
from fractions import Fraction
from types import MappingProxyType

from ponder.grading.decimals import FUNCTIONS, ONE, ZERO, NotReal, Value, context, modulus, only_real, pi
from ponder.grading.tree import Node, TooLarge, Unparsed, leaves
from ponder.grading.units import UNITS, is_pure

MAX_BITS = 20_000  # of an exact numerator or denominator
DIGITS = 30  # of a fingerprint
_PRECISIONS = (80, 120)
_SIZES = ("0.371", "2.693", "5.317")  # of all symbols at the three points, less than 0.004 apart
_TURNING_POINT = 1
_MAX_TURNED = 6  # symbols, one at a time


# ---- exact values --------------------------------------------------------------------------------------------------


def exact(node: Node) -> Fraction | None:
    """The value as a fraction; None where it is not one, or needs more than MAX_BITS."""
    operation = node[0]
    if operation == "num":
        return node[1]
    if operation == "unit":
        base, scale = UNITS.get(node[1], ("", None))
        return scale if base == "%" else None
    if operation in ("sym", "const", "at"):
        return None
    values = [exact(child) for child in node[1:]]
    if any(value is None for value in values):
        return None
    known: list[Fraction] = [value for value in values if value is not None]
    try:
        result = _EXACT[operation](*known) if operation in _EXACT else None
    except (ZeroDivisionError, OverflowError):
        raise Unparsed("division by zero") from None
    if result is not None and max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        return None
    return result


def _exact_pow(base: Fraction, power: Fraction) -> Fraction | None:
    if power.denominator != 1:
        root = _exact_root(Fraction(power.denominator), base) if base >= 0 else None
        return None if root is None else _exact_pow(root, Fraction(power.numerator))
    if base == 0 and power < 0:
        raise Unparsed("division by zero")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and abs(power) * (size - 1) > MAX_BITS:
        return None
    if base in (0, 1, -1):
        return Fraction(1) if power == 0 else base if power % 2 else base * base
    return base ** int(power)


def _exact_root(degree: Fraction, value: Fraction) -> Fraction | None:
    if degree.denominator != 1 or not 1 <= degree <= 64:
        return None
    n = int(degree)
    if value < 0:
        root = _exact_root(degree, -value) if n % 2 else None  # the real cube root of -8 is -2
        return None if root is None else -root
    top, bottom = _int_root(value.numerator, n), _int_root(value.denominator, n)
    return None if top is None or bottom is None else Fraction(top, bottom)


def _int_root(value: int, n: int) -> int | None:
    """The n-th root of a whole number where it is whole (Newton on integers)."""
    if value < 2 or n == 1:
        return value
    guess = math.isqrt(value) if n == 2 else 1 << -(-value.bit_length() // n)
    while n > 2:
        step = ((n - 1) * guess + value // guess ** (n - 1)) // n
        if step >= guess:
            break
        guess = step
    return guess if guess**n == value else None


def _exact_fact(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or value < 0:
        return None
    return Fraction(math.factorial(int(value))) if value <= 1_500 else None


def _exact_binom(top: Fraction, bottom: Fraction) -> Fraction | None:
    if top.denominator != 1 or bottom.denominator != 1 or not 0 <= top <= 20_000 or not 0 <= bottom <= top:
        return None
    return Fraction(math.comb(int(top), int(bottom)))


_EXACT: dict[str, Callable[..., Fraction | None]] = {
    "add": lambda a, b: a + b,
    "neg": lambda a: -a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": _exact_pow,
    "root": _exact_root,
    "abs": abs,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
    "fact": _exact_fact,
    "binom": _exact_binom,
}


# ---- decimal values ------------------------------------------------------------------------------------------------

Evaluate = Callable[[int, int], Value]  # (point, precision) -> the value there


def fingerprint(node: Node) -> str:
    """The canonical text of an expression: `n:3/4` for fractions, else its values. Raises Unparsed."""
    value = exact(node)
    if value is not None:
        return fraction_key(value)
    if node == ("const", "inf"):
        return "inf"
    if node == ("neg", ("const", "inf")):
        return "-inf"
    return fingerprint_of(
        lambda point, precision: _evaluate(node, point, precision), is_constant=_is_constant(node), turned=_turned(node)
    )


def fingerprint_of(evaluate: Evaluate, *, is_constant: bool, turned: Mapping[str, Node] = MappingProxyType({})) -> str:
    """The same for anything that can be evaluated at the fixed points (one point for a constant)."""
    if is_constant:
        text = _text(evaluate, 0)
        return text if text.startswith("n:") else "r:" + text
    texts = _real_texts(evaluate)
    if texts is None:  # real nowhere: by its complex values
        texts = [_text(evaluate, point) for point in range(len(_SIZES))]
    values = {name: _turned_text(node) for name, node in turned.items()}
    texts += [f"{name}:{text}" for name, text in values.items() if text != texts[_TURNING_POINT]]
    if len(set(texts)) == 1:  # symbols that cancel
        return texts[0] if texts[0].startswith("n:") else "r:" + texts[0]
    return "f:" + digest("|".join(texts))


def _real_texts(evaluate: Evaluate) -> list[str] | None:
    """The values at the points, "*" where a step is not real; None where that is so everywhere."""
    with only_real():
        texts = []
        for point in range(len(_SIZES)):
            try:
                texts.append(_text(evaluate, point))
            except NotReal:
                texts.append("*")
    return texts if set(texts) != {"*"} else None


def _turned(node: Node) -> dict[str, Node]:
    """For each symbol x the tree with |x| made negative, sqrt(x^2) too, and one with every other |u|, if they differ.

    |xy| is |x| |y|; inside a logarithm |u| is u, since only there it is real.
    """
    names = sorted({leaf[1] for leaf in leaves(node) if leaf[0] == "sym"})[:_MAX_TURNED]
    return {name: turned for name in ("", *names) if (turned := _turn(node, name)) != node}


def _turn(node: Node, name: str) -> Node:
    operation = node[0]
    if operation in ("num", "sym", "unit", "const", "at") or _is_constant(node):
        return node
    if operation in ("ln", "log") and node[1][0] == "abs":
        return node
    if operation == "abs":
        inside = node[1]
        if inside[0] in ("mul", "div"):
            parts: list[Node] = [("abs", part) for part in inside[1:]]
            turned = [_turn(part, name) for part in parts]
            return node if turned == parts else (inside[0], *turned)
        return ("neg", ("abs", inside)) if (inside[1] if inside[0] == "sym" else "") == name else node
    degree, inside = _radical(node)
    if degree is not None and degree.denominator == 1 and degree % 2 == 0:
        if inside[0] in ("mul", "div"):
            parts = [("root", ("num", degree), part) for part in inside[1:]]
            turned = [_turn(part, name) for part in parts]
            return node if turned == parts else (inside[0], *turned)
        power = exact(inside[2]) if inside[0] == "pow" and _is_constant(inside[2]) else None
        if power is not None and power.denominator == 1 and power % 2 == 0:
            size: Node = ("abs", inside[1])
            turned_size = _turn(size, name)
            return node if turned_size == size else ("pow", turned_size, ("num", power / degree))
    return (operation, *(_turn(child, name) for child in node[1:]))


def _radical(node: Node) -> tuple[Fraction | None, Node]:
    """sqrt(u) and u^(1/2) -> (2, u)."""
    if node[0] == "root" and _is_constant(node[1]):
        return exact(node[1]), node[2]
    if node[0] == "pow" and _is_constant(node[2]):
        power = exact(node[2])
        return (1 / power if power and power.numerator == 1 else None), node[1]
    return None, node


def _turned_text(turned: Node) -> str:
    try:
        return _text(lambda point, precision: _evaluate(turned, point, precision), _TURNING_POINT)
    except Unparsed:
        return "*"


def _text(evaluate: Evaluate, point: int) -> str:
    low, high = (evaluate(point, precision) for precision in _PRECISIONS)
    real, imaginary = _settle(low[0], high[0]), _settle(low[1], high[1])
    return _digits(real) if imaginary == 0 else f"{_digits(real)},{_digits(imaginary)}i"


def _is_constant(node: Node) -> bool:
    return all(leaf[0] != "sym" and not (leaf[0] == "unit" and not is_pure(leaf[1])) for leaf in leaves(node))


def digest(text: str) -> str:
    """24 hexadecimal digits of any text, lone surrogates included."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def fraction_key(value: Fraction) -> str:
    """ "n:3/4", or "n:5" for a whole number, of any size."""
    top, bottom = int_text(value.numerator), int_text(value.denominator)
    return f"n:{top}" if bottom == "1" else f"n:{top}/{bottom}"


def int_text(value: int) -> str:
    """Decimal digits of an int of any size; Python's own str refuses over 4,300 digits."""
    if abs(value) < 10**4_000:
        return str(value)
    parts, rest = [], abs(value)
    while rest:
        rest, part = divmod(rest, 10**4_000)
        parts.append(str(part).zfill(4_000))
    return ("-" if value < 0 else "") + "".join(reversed(parts)).lstrip("0")


def _settle(low: Decimal, high: Decimal) -> Decimal:
    """The value on which two precisions agree; noise, which shrinks as precision grows, is zero."""
    with localcontext(context(150)):
        if high == low or abs(high - low) <= abs(high) * Decimal("1e-32"):
            return high
        if abs(high) < Decimal("1e-60") and abs(low) < Decimal("1e-30"):
            return ZERO
    raise Unparsed("too many digits cancel")


def _digits(value: Decimal) -> str:
    """A fraction of small denominator where the value is one to 50 digits, else DIGITS significant digits."""
    if value == 0:
        return "n:0"
    if -12 < value.adjusted() < 40:
        precise = Fraction(value)
        near = precise.limit_denominator(10**9)
        if near and abs(precise - near) < abs(precise) / 10**60:
            return fraction_key(near)
    with localcontext(context(DIGITS)):
        return f"{(+value).normalize():e}"


def _evaluate(node: Node, point: int, precision: int) -> Value:
    try:
        with localcontext(context(precision)):
            value = _value(node, point)
    except (Overflow, Underflow):
        raise TooLarge("out of range") from None
    except (DecimalException, ZeroDivisionError, OverflowError) as error:
        raise Unparsed(f"no value: {type(error).__name__}") from None
    if not (value[0].is_finite() and value[1].is_finite()):
        raise Unparsed("no finite value")
    return value


def _value(node: Node, point: int) -> Value:
    operation = node[0]
    if operation == "num":
        return Decimal(node[1].numerator) / Decimal(node[1].denominator), ZERO
    if operation == "const":
        if node[1] == "inf":
            raise Unparsed("infinity inside an expression")
        return {"pi": (pi(), ZERO), "e": (ONE.exp(), ZERO), "i": (ZERO, ONE)}[node[1]]
    if operation == "sym":
        return symbol_value(node[1], point), ZERO
    if operation == "unit":
        return _unit_value(node[1], point), ZERO
    if operation == "at":  # the value at another point
        return _value(node[1], node[2])
    whole = exact(node)  # 100!/50! and (1/3)^40 keep every digit
    if whole is not None:
        return Decimal(whole.numerator) / Decimal(whole.denominator), ZERO
    if operation not in FUNCTIONS:
        raise Unparsed(f"{operation} of that")
    return FUNCTIONS[operation](*(_value(child, point) for child in node[1:]))


def symbol_value(name: str, point: int) -> Decimal:
    """The fixed value of a symbol: positive, near the size of the point; the order of names at point 1 is reversed.

    Not linear in the name's own number: else y - x and a - b would be multiples of each other at all points.
    """
    seed = hashlib.blake2b(name.encode(), digest_size=16).digest()
    share = Decimal(int.from_bytes(seed, "big")) / Decimal(2**128)
    return Decimal(_SIZES[point]) + (share, -share, 3 * share * share)[point] / 1_000


def _unit_value(name: str, point: int) -> Decimal:
    base, scale = UNITS.get(name, ("word:" + name, Fraction(1)))
    if scale is None:
        return pi() / 180
    size = Decimal(scale.numerator) / Decimal(scale.denominator)
    if base == "%":
        return size
    if base == "m/s":
        return size * symbol_value("m", point) / symbol_value("s", point)
    return size * symbol_value(base, point)


def ratios(node: Node) -> tuple[str, bool]:
    """An expression up to a constant factor, for equations and inequalities; and whether it is positive at point 0."""
    with only_real():
        base = next((point for point in range(len(_SIZES)) if _is_real_at(node, point)), None)
    with only_real() if base is not None else nullcontext():
        base = base or 0
        scaled: Node = ("div", node, ("at", node, base))
        texts = []
        for point in range(len(_SIZES)):
            try:
                texts.append(
                    _text(lambda p, precision: _evaluate(scaled, p, precision), point) if point != base else ""
                )
            except NotReal:
                texts.append("*")
        plain = _turned_text(scaled)
        values = {name: _turned_text(("div", turned, ("at", node, base))) for name, turned in _turned(node).items()}
        texts += [f"{name}:{text}" for name, text in values.items() if text != plain]
        return "|".join(texts), _evaluate(node, base, _PRECISIONS[0])[0] > 0


def _is_real_at(node: Node, point: int) -> bool:
    try:
        _evaluate(node, point, _PRECISIONS[0])
    except NotReal:
        return False
    return True


def magnitude(node: Node) -> Decimal | None:
    """The size of a constant, None for anything else."""
    try:
        if not _is_constant(node):
            return None
        value = _evaluate(node, 0, _PRECISIONS[0])
        with localcontext(context(DIGITS)):
            return modulus(value)
    except (Unparsed, DecimalException):
        return None


def real_part(node: Node) -> Decimal:
    """The real part of a constant, to put numbers in order."""
    return _evaluate(node, 0, _PRECISIONS[0])[0]


def is_nearer_as_number(size: Decimal, goal: Decimal, factor: Decimal) -> bool:
    """Is `size` nearer to `goal` than `size * factor` is, on a logarithmic scale, for a factor below 1?"""
    with localcontext(context(DIGITS)):
        return size * factor.sqrt() <= goal
