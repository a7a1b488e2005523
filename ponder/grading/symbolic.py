r"""Symbolic: a second reading of an answer by math-verify and sympy, for what `equality.py` does not understand.

    opinion(r"\int_0^1 x\,dx")   -> "n:1/2"        the same kind of key, so it can meet one of the first reading
    opinion("no mathematics")    -> None

math-verify only parses; equality stays equality of keys, and its comparison, which is not symmetric, is never asked.
Run it in a killable child alone: sympy may take for ever and evaluates what it parses. The extra is
`pip install "ponder[math]"`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ponder.grading.decimals import Value
from ponder.grading.expressions import GREEK
from ponder.grading.notation import clean
from ponder.grading.tree import Unparsed
from ponder.grading.values import fingerprint_of, fraction_key, symbol_value

try:  # here and not on the first call: what a child imports at its start is not on the call's clock
    import math_verify
    import sympy
except ImportError:
    math_verify = sympy = None

MAX_OPINION = 400  # characters


def opinion(text: str) -> str | None:
    """The key of an answer text as sympy reads it; None where it cannot be read as one expression."""
    if sympy is None:
        raise RuntimeError('reading this answer needs sympy: pip install "ponder[math]"')
    if len(text) > MAX_OPINION or re.search(r"\\[lc]?dots", text):  # 33, 34, \ldots would be read as 33
        return None
    config = math_verify.LatexExtractionConfig()
    found = math_verify.parse(f"${clean(text)}$", extraction_config=[config], parsing_timeout=None)
    expression: Any = next((item for item in found if isinstance(item, sympy.Expr)), None)
    if expression is None:
        return None
    expression = expression.doit()
    if expression.is_Rational:
        return fraction_key(Fraction(int(expression.p), int(expression.q)))
    symbols = sorted(expression.free_symbols, key=str)

    def evaluate(point: int, precision: int) -> Value:
        values = {symbol: sympy.Float(str(symbol_value(_name(symbol.name), point)), precision) for symbol in symbols}
        value = expression.subs(values).evalf(precision)
        if not value.is_number or not value.is_finite:
            raise Unparsed("no value")
        real, imaginary = value.as_real_imag()
        return Decimal(str(real.evalf(precision))), Decimal(str(imaginary.evalf(precision)))

    try:
        return fingerprint_of(evaluate, is_constant=not symbols)
    except (Unparsed, ArithmeticError, ValueError, TypeError, AttributeError):
        return None  # sympy left it unevaluated


def _name(name: str) -> str:
    """sympy's name of a symbol in the spelling of `expressions.py`."""
    plain = name.replace("{", "").replace("}", "")
    return "\\" + plain if plain in GREEK else plain
