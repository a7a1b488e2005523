r"""Notations of their own, which are no expressions: 11_2, 3:45 PM, 3:4, 5 ft 6 in, (B) 5, x \equiv 10 (mod 7)."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from ponder.grading.expressions import parse
from ponder.grading.readings import ParsedAnswer, group, ratio_key, scalar
from ponder.grading.tokens import number
from ponder.grading.tree import Node, Unparsed
from ponder.grading.units import UNITS
from ponder.grading.values import exact, fingerprint

_CHOICE = re.compile(
    r"(?:[Oo]ption|[Cc]hoice)?\s*\(([A-J])\)(?:\s+([^-+*/=^<>,\s].*))?|(?:(?:[Oo]ption|[Cc]hoice)\s+([A-J]))[.):]?"
    r"|([A-J])[.):](?:\s+(\S.*))?",
    re.DOTALL,
)


def choice(text: str, depth: int) -> ParsedAnswer | None:
    """(B) 12 is the letter B; beside 12 it says what stands behind the letter."""
    match = _CHOICE.fullmatch(text) if depth == 0 else None
    if match is None:
        return None
    letter, behind = scalar(match[1] or match[3] or match[4]), match[2] or match[5]
    if behind is None or not re.search("[0-9]", behind):
        return letter
    try:
        return replace(letter, shape="choice", sides=(letter, scalar(behind)))
    except Unparsed:
        return letter


_DIGITS_BASE = re.compile(
    r"(-?)\(?(?:\\(?:text|mathrm)\s*\{)?([0-9A-Z]+|[0-9a-f]+)\}?\)?"
    r"\s*_\s*\{?\s*(?:\\text\s*\{)?\s*\(?(?:base\b\s*\}?\s*)?([0-9]{1,2}|[a-z]{3,11})\)?\s*\}{0,2}"
)
_SPOKEN_BASE = re.compile(
    r"(-?)([0-9A-Z]+) *(?:\\text\{)?\s*\(?(?:in )?"
    r"(?:base[ -]?(?:\\?\}\s*)?\{?([0-9]{1,2}|[a-z]+)|(binary|octal|hexadecimal))\}?\)?\}?"
)
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
          "eleven": 11, "twelve": 12, "sixteen": 16, "binary": 2, "octal": 8, "hexadecimal": 16}  # fmt: skip


def based(text: str, depth: int) -> ParsedAnswer | None:
    """2516_8, 11 base 2, 0x1F: digits and base, written with capital letters and no leading zeros."""
    prefixed = re.fullmatch(r"(-?)0([box])([0-9a-fA-F]+)", text)
    if prefixed:
        sign, digits, base = prefixed[1], prefixed[3].upper(), {"b": 2, "o": 8, "x": 16}[prefixed[2]]
    else:
        match = _DIGITS_BASE.fullmatch(text) or _SPOKEN_BASE.fullmatch(text)
        if match is None:
            return None
        sign, digits, named = match[1], match[2].upper(), match[match.lastindex or 3]
        if not (digits[0].isdigit() or (len(digits) > 1 and named in ("16", "sixteen", "hexadecimal"))):
            return None
        base = int(named) if named.isdigit() else _BASES.get(named, 0)
    if base < 2 or any(int(digit, 36) >= base for digit in digits):
        return None
    if base == 10:
        return scalar(sign + digits)
    return ParsedAnswer(key=f"base:{base}:{sign}{digits.lstrip('0') or '0'}", kind="other")


_MODULO = re.compile(r"(?:.*(?:\\equiv|=))?([^=]+?)\(?\s*(?:\\mod|\bmod(?:ulo)?\b)\s*[{(]?\s*([0-9]{1,40})\s*[})]*")


def residue(text: str, depth: int) -> ParsedAnswer | None:
    """17 mod 5, or x = 2 (mod 5): the residue with its modulus; None where none is named. Raises Unparsed."""
    match = _MODULO.fullmatch(text) if "mod" in text else None
    if match is None:
        return None
    modulus = int(match[2])
    value = exact(parse(match[1].strip()))
    if value is None or modulus == 0 or value.denominator != 1:
        raise Unparsed("a residue that is no whole number")
    return ParsedAnswer(key=f"mod:{int(value) % modulus}:{modulus}", kind="other")


_RATIO_OF = re.compile(
    r"[a-z]{1,20}(?: ?(?::|to) ?[a-z]{2,20}){1,3} ?(?:=|is|are) ?(?=[0-9]+ ?(?::|to) ?[0-9])", re.IGNORECASE
)
_COLONS = re.compile(
    r"([0-9]{1,9}) ?(?::|to|\\text\s*\{ ?to ?\}) ?([0-9]{1,9})((?: ?(?::|to) ?[0-9]{1,9})*)(?: ?([ap])\.? ?m\.?)?",
    re.IGNORECASE,
)


_PART_OF_DAY = re.compile(r"(?<=[0-9])(?: o'clock)?(?: in the (morning)| in the (?:afternoon|evening)| at night)$")
_DOTTED_TIME = re.compile(r"^([0-9]{1,2})\.([0-5][0-9])(?= ?[ap]\.? ?m\.?$)", re.IGNORECASE)  # 3.45 pm
_HOUR = re.compile(r"([0-9]{1,2})(?: ?([ap])\.? ?m\.?| ?o'clock)", re.IGNORECASE)


def ratio_or_time(text: str, depth: int) -> ParsedAnswer | None:
    """3:4 = 6:8 is a ratio, 3:45 PM = 15:45 a time of the day; what may be either is read as the target is."""
    if text.removeprefix("12 ") in ("noon", "midnight"):
        return ParsedAnswer(key="clock:12:00" if text.endswith("noon") else "clock:0:00", kind="other", shape="clock")
    if ":" in text or " to " in text:  # boys : girls = 2 : 3
        text = _RATIO_OF.sub("", text, count=1) if text[:1].isalpha() else text
    node: Node | None = None
    if ":" in text and text.endswith("}"):
        text = re.sub(r" ?\\(?:text|mathrm) ?\{ ?([apAP]\.? ?[mM]\.?) ?\}$", r" \1", text)
    if " in the " in text or " at night" in text:
        text = _PART_OF_DAY.sub(lambda match: " am" if match[1] else " pm", text)
    if text[-1:] in "mM.":
        text = _DOTTED_TIME.sub(r"\1:\2", text)
    hour_only = _HOUR.fullmatch(text) if text[-1:] in "mMk." else None
    if hour_only:
        text = f"{hour_only[1]}:00" + (f" {hour_only[2]}m" if hour_only[2] else "")
        node = ("num", Fraction(int(hour_only[1])))
    match = _COLONS.fullmatch(text) if ":" in text or "to" in text else None
    if match is None:
        return None
    first, second, rest, half = match.groups()
    numbers = [int(number) for number in (first, second, *re.findall("[0-9]+", rest))]
    is_clock = re.fullmatch("[0-9]{1,2}:[0-5][0-9](?::[0-5][0-9])?", text.replace(" ", "").rstrip(".aApPmM"))
    if half and (not is_clock or not 1 <= numbers[0] <= 12):
        return None
    if is_clock and numbers[0] < 25:
        hour = numbers[0] % 12 + (12 if half in "pP" else 0) if half else numbers[0]
        key = ":".join([str(hour), *(f"{number:02}" for number in numbers[1:])])
        return ParsedAnswer(key=f"clock:{key}", kind="other", shape="clock", node=node)
    return ParsedAnswer(key=ratio_key(numbers), kind="other", shape="ratio")


_DOLLARS = re.compile(r"\\dollar ?([0-9][0-9,]*) and (?=[0-9]{1,2} cents?$)([0-9]*)")
_FEET = re.compile(r"([0-9]{1,3})' ?([0-9]{1,2}(?:\.[0-9]+)?)(?:\"|'')")
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = rf"({'|'.join(name[:3] + f'(?:{name[3:]})?' for name in _MONTHS)})\.?"
_DAY = r"(?:the )?([0-9]{1,2})(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"(?:on )?(?:{_MONTH} {_DAY}|{_DAY}(?: of)? {_MONTH})(?:,? ([0-9]{{4}}))?|([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})",
    re.IGNORECASE,
)


_WEEKDAY = re.compile(
    r"^(?:(?:on|it (?:is|was|will be)) )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?(?=.*\d)", re.IGNORECASE
)
_NUMERIC_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")


def date(text: str, depth: int) -> ParsedAnswer | None:
    """March 5th, 2021 = 5 March 2021 = 2021-03-05; without a year a day of every year."""
    if len(text) > 50:
        return None
    text = _WEEKDAY.sub("", text, count=1)
    if numeric := _NUMERIC_DATE.fullmatch(text):  # 3/14/2023 and 14/3/2023; 3/4/2023 may be either
        first, second, year = map(int, numeric.groups())
        if first > 12 < second or (first <= 12 and second <= 12 and first != second) or not first * second:
            return None
        text = f"{year}-{min(first, second):02}-{max(first, second):02}"
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year = int(match[5] or match[6] or 0)
    day = int(match[2] or match[3] or match[8])
    name = (match[1] or match[4] or "").lower()[:3]
    month = next((n for n, full in enumerate(_MONTHS, 1) if full[:3] == name), 0) if name else int(match[7])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return ParsedAnswer(key=f"date:{year}:{month}:{day}", kind="other")


_LENGTH = re.compile(r"(-?[0-9][0-9,]*(?:\.[0-9]+)?) ?(?:(')|(\"|''| in))(?:\^\{?([23])\}?)?")


def length(text: str, depth: int) -> ParsedAnswer | None:
    """12' is 12 feet, and 12" or 12 in are 12 inches; alone, "in" is a word."""
    match = _LENGTH.fullmatch(text) if text[-1:] in "'\"n23}" else None
    if match is None:
        return None
    unit: Node = ("unit", "ft" if match[2] else "inch")
    power: Node = ("pow", unit, ("num", Fraction(match[4]))) if match[4] else unit
    node: Node = ("mul", ("num", number(match[1])), power)
    return ParsedAnswer(key=fingerprint(node), node=node)


_CHOSEN = re.compile(r"([CP])\(([0-9]{1,4}|[a-z]), ?([0-9]{1,4}|[a-z])\)|([0-9]{1,4}) ?([CP]) ?([0-9]{1,4})")
_CHOSEN_IN_TEX = re.compile(
    r"(?:\{\})?[_^] ?(?:\{([0-9]{1,4}|[a-z])\}|([0-9a-z])) ?([CP]) ?_ ?(?:\{([0-9]{1,4}|[a-z])\}|([0-9a-z]))"
)


def chosen_of(text: str, depth: int) -> ParsedAnswer | None:
    """C(10, 3), 10C3 and {}_{10}C_3 are binomials, P(6, 3) an arrangement; C(10, 3) may be a point too."""
    match = _CHOSEN.fullmatch(text) or _CHOSEN_IN_TEX.fullmatch(text) if "C" in text or "P" in text else None
    if match is None:
        return None
    found = [piece for piece in match.groups() if piece]
    kind = next(piece for piece in found if piece in "CP")
    top, bottom = (piece for piece in found if piece not in "CP")
    if not (top.isdigit() and bottom.isdigit()) and kind == "P":
        return None  # a probability
    count = rf"\binom{{{top}}}{{{bottom}}}" + (f"*{bottom}!" if kind == "P" else "")
    value = scalar(count)
    if "(" not in text:
        return value
    point = group("()", (scalar(top), scalar(bottom)))
    return replace(point, sides=(point, value))


_FORMULA = re.compile(r"(?:[A-Z][a-z]?[0-9]{0,2}){2,}")


def molecule(text: str, depth: int) -> ParsedAnswer | None:
    """H2O is H_2O."""
    ce = re.fullmatch(r"\\ce ?\{([^{}\\]*)\}", text)
    plain = ce[1].replace("_", "") if ce else text
    if depth or not _FORMULA.fullmatch(plain) or not re.search("[A-Za-z][0-9]", plain):
        return None
    return scalar(re.sub(r"(?<=[A-Za-z])([0-9]+)", r"_{\1}", plain))


_HOURS_M = re.compile(
    r"(?<=[0-9]h[0-9])m\b|(?<=[0-9]h[0-9]{2})m\b|(?<=[0-9]h [0-9])m\b|(?<=[0-9]h [0-9]{2})m\b"
)  # 2h5m
_PIECE = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?)\s*([a-zA-Z]+)\.?")


def compound(text: str, depth: int) -> ParsedAnswer | None:
    """2 hours 30 minutes = 150 minutes, 5 ft 6 in = 66 inches: quantities of one kind, each smaller than the last."""
    text = _FEET.sub(r"\1 ft \2 in", _DOLLARS.sub(r"\1 dollars and \2", text))
    if not text[:1].isdigit() or len(text) > 120:
        return None
    pieces = re.split(
        r"(?<=[a-zA-Z.])\s*,?\s*(?:and\s+)?(?=[0-9])",
        _HOURS_M.sub("min", re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text).strip()),
    )
    matches = [_PIECE.fullmatch(piece.strip()) for piece in pieces]
    if len(pieces) < 2 or not all(matches):
        return None
    total, last_base, last_scale, unit = Fraction(0), "", Fraction(0), ""
    for match in matches:
        assert match is not None
        unit = {"in": "inch"}.get(match[2], match[2])
        base, scale = UNITS.get(unit, ("", None))
        if scale is None or base == "%" or (last_base and (base != last_base or scale >= last_scale)):
            return None
        total, last_base, last_scale = total + number(match[1]) * scale, base, scale
    if last_base == "dollar":  # 5 dollars and 25 cents are 5.25, not 525
        unit, last_scale = "dollar", Fraction(1)
    node: Node = ("mul", ("num", total / last_scale), ("unit", unit))
    return ParsedAnswer(key=fingerprint(node), node=node)
