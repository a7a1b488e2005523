"""JSON of clients and models: what the standard allows, and only numbers that can be written down again.

strict_json('{"a": 1e3}')   -> {"a": 1000.0}
strict_json('{"a": 1e999}') -> ValueError, and so NaN and Infinity
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def strict_json(text: str) -> Any:
    """ValueError or RecursionError where it is none."""
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number[:40]} is no number of JSON")


def _finite(text: str) -> float:
    """Python reads 1e999 as infinity, which would go out again as no JSON at all."""
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number
