"""Decimals: elementary functions of complex numbers in decimal arithmetic, to the precision of the current context.

Python's `decimal` has exp, ln and sqrt of real numbers; the rest follows from them and three short series. It is here
because answers are compared in the asking process, where a library that may hang has no place (see `equality.py`).
Principal branches; the odd root of a negative number is the real one. Left out: gamma, and everything else special.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, Underflow, getcontext, localcontext

from ponder.grading.tree import Unparsed

Value = tuple[Decimal, Decimal]  # real and imaginary part
ZERO, ONE = Decimal(0), Decimal(1)


class NotReal(Unparsed):
    """A step whose value is not real, where only real ones count."""


_ONLY_REAL: ContextVar[bool] = ContextVar("only_real", default=False)


@contextmanager
def only_real() -> Iterator[None]:
    """Inside, the root, power, logarithm or arc of a real number is real or raises NotReal."""
    token = _ONLY_REAL.set(True)
    try:
        yield
    finally:
        _ONLY_REAL.reset(token)


def _leave_the_reals() -> None:
    if _ONLY_REAL.get():
        raise NotReal("not real")


def context(precision: int) -> Context:
    """`precision` significant digits; overflow, underflow, division by zero and invalid operations raise."""
    traps = [InvalidOperation, DivisionByZero, Overflow, Underflow]
    return Context(prec=precision, Emax=10**15, Emin=-(10**15), traps=traps)


def pi() -> Decimal:
    """Pi at the current precision (the recipe of Python's decimal documentation)."""
    precision = getcontext().prec
    if precision not in _PI:
        with localcontext(context(precision + 5)):
            last, t, total, n, na, d, da = Decimal(0), Decimal(3), Decimal(3), 1, 0, 0, 24
            while total != last:
                last = total
                n, na = n + na, na + 8
                d, da = d + da, da + 32
                t = (t * n) / d
                total += t
        _PI[precision] = total
    return +_PI[precision]


_PI: dict[int, Decimal] = {}


def _add(a: Value, b: Value) -> Value:
    return a[0] + b[0], a[1] + b[1]


def _neg(a: Value) -> Value:
    return -a[0], -a[1]


def _mul(a: Value, b: Value) -> Value:
    if a[1] == 0 and b[1] == 0:
        return a[0] * b[0], ZERO
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def div(a: Value, b: Value) -> Value:
    """a / b of complex numbers (real, imaginary). For b = 0 the traps of `context` raise a DecimalException."""
    if b[1] == 0:
        return a[0] / b[0], a[1] / b[0]
    size = b[0] * b[0] + b[1] * b[1]
    top = _mul(a, (b[0], -b[1]))
    return top[0] / size, top[1] / size


def modulus(a: Value) -> Decimal:
    """|a| of a complex number (real, imaginary)."""
    return abs(a[0]) if a[1] == 0 else (a[0] * a[0] + a[1] * a[1]).sqrt()


def _real(a: Value) -> Decimal:
    if a[1] != 0:
        raise Unparsed("a complex number where a real one belongs")
    return a[0]


def _sincos(x: Decimal) -> tuple[Decimal, Decimal]:
    """Sine and cosine by their series, after taking out multiples of pi/2."""
    if x.adjusted() > 20:
        raise Unparsed("an angle too large")
    quarters = (x / (pi() / 2)).to_integral_value()
    with localcontext() as wider:
        wider.prec += 25
        x = x - quarters * (pi() / 2)
        sine, term, n = x, x, 1
        while term != 0 and term.adjusted() > -wider.prec:
            n += 2
            term = -term * x * x / (n * (n - 1))
            sine += term
        cosine = (1 - sine * sine).sqrt()
    sine, cosine = +sine, +cosine
    return [(sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine)][int(quarters) % 4]


def _arctan(x: Decimal) -> Decimal:
    """Halve the angle until the series is short."""
    halvings = 0
    while abs(x) > Decimal("0.1"):
        x = x / (1 + (1 + x * x).sqrt())
        halvings += 1
    total, power, n, smallest = x, x, 1, -getcontext().prec - 5
    while power != 0 and power.adjusted() > smallest:
        n += 2
        power = -power * x * x
        total += power / n
    return total * 2**halvings


def _angle(a: Value) -> Decimal:
    real, imaginary = a
    if real == 0:
        return pi() / 2 * (1 if imaginary > 0 else -1)
    angle = _arctan(imaginary / real)
    return angle if real > 0 else angle + pi() * (1 if imaginary >= 0 else -1)


def _exp(a: Value) -> Value:
    size = a[0].exp()
    if a[1] == 0:
        return size, ZERO
    sine, cosine = _sincos(a[1])
    return size * cosine, size * sine


def _log(a: Value) -> Value:
    if a[1] == 0 and a[0] > 0:
        return a[0].ln(), ZERO
    if a[1] == 0:
        _leave_the_reals()
    return modulus(a).ln(), _angle(a)


def _pow(a: Value, b: Value) -> Value:
    if b[1] == 0 and b[0] == b[0].to_integral_value() and abs(b[0]) <= 1_000:
        result: Value = (ONE, ZERO)
        for bit in bin(abs(int(b[0])))[2:]:
            result = _mul(result, result)
            if bit == "1":
                result = _mul(result, a)
        return result if b[0] >= 0 else div((ONE, ZERO), result)
    if a == (0, 0):
        if b[1] == 0 and b[0] > 0:
            return ZERO, ZERO
        raise Unparsed("a power of zero")
    if a[1] == 0 and b[1] == 0 and a[0] > 0:
        return (b[0] * a[0].ln()).exp(), ZERO
    return _exp(_mul(b, _log(a)))


def _root(degree: Value, a: Value) -> Value:
    n = _real(degree)
    if n == 2:
        if a[1] == 0 and a[0] >= 0:
            return a[0].sqrt(), ZERO
        if a[1] == 0:
            _leave_the_reals()
            return ZERO, (-a[0]).sqrt()
    elif a[1] == 0 and a[0] < 0 and n % 2 == 1:
        return _neg(_pow(_neg(a), div((ONE, ZERO), degree)))  # real odd roots of negative numbers
    return _pow(a, div((ONE, ZERO), degree))


def _trig(name: str) -> Callable[[Value], Value]:
    def value(a: Value) -> Value:
        if a[1] == 0:
            sine, cosine = _sincos(a[0])
            parts: tuple[Value, Value] = ((sine, ZERO), (cosine, ZERO))
        else:
            turned = _exp((-a[1], a[0]))
            back = div((ONE, ZERO), turned)
            parts = (div(_add(turned, _neg(back)), (ZERO, Decimal(2))), div(_add(turned, back), (Decimal(2), ZERO)))
        s, c = parts
        one = (ONE, ZERO)
        pick = {"sin": (s, one), "cos": (c, one), "tan": (s, c), "cot": (c, s), "sec": (one, c), "csc": (one, s)}
        top, bottom = pick[name]
        if modulus(bottom).adjusted() < -getcontext().prec // 2:
            raise Unparsed("a pole")
        return div(top, bottom)

    return value


def _hyperbolic(name: str) -> Callable[[Value], Value]:
    def value(a: Value) -> Value:
        up, down = _exp(a), _exp(_neg(a))
        s, c = _add(up, _neg(down)), _add(up, down)
        return div(s, c) if name == "tanh" else div(s if name == "sinh" else c, (Decimal(2), ZERO))

    return value


def _asin(a: Value) -> Value:
    root = _root((Decimal(2), ZERO), _add((ONE, ZERO), _neg(_mul(a, a))))  # beyond [-1, 1] it is not real
    inner = _log(_add((-a[1], a[0]), root))
    return inner[1], -inner[0]


def _acos(a: Value) -> Value:
    return _add((pi() / 2, ZERO), _neg(_asin(a)))


def _atan(a: Value) -> Value:
    if a[1] == 0:
        return _arctan(a[0]), ZERO
    turned = (-a[1], a[0])
    difference = _add(_log(_add((ONE, ZERO), _neg(turned))), _neg(_log(_add((ONE, ZERO), turned))))
    return -difference[1] / 2, difference[0] / 2


def _round(direction: str) -> Callable[[Value], Value]:
    def value(a: Value) -> Value:
        x = _real(a)
        if x.adjusted() > 100:
            raise Unparsed("a number too large to round")
        nearest = x.to_integral_value()
        if nearest != x and abs(nearest - x).adjusted() < -getcontext().prec // 2:
            return nearest, ZERO  # noise around a whole number
        return Decimal(math.floor(x) if direction == "floor" else math.ceil(x)), ZERO

    return value


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "add": _add, "neg": _neg, "mul": _mul, "div": div, "pow": _pow, "root": _root,
    "abs": lambda a: (modulus(a), ZERO), "exp": _exp, "ln": _log, "log": _log,
    "floor": _round("floor"), "ceil": _round("ceil"), "asin": _asin, "acos": _acos, "atan": _atan,
    **{name: _trig(name) for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
    **{name: _hyperbolic(name) for name in ("sinh", "cosh", "tanh")},
}  # fmt: skip
