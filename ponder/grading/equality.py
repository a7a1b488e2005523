r"""Equality: what an extracted answer says, and when two say the same. The one engine that grades, rewards and votes.

    canonical("0.5") == canonical(r"\frac{1}{2}") == canonical("50%") == "n:1/2"

Two answers are equal if their keys are equal, nothing else: symmetric and transitive by construction. The key of

    a number or expression  its fraction, or its values at fixed points (`values.py`): 1e3 = 1,000, 0.10000001 != 0.1
    a quantity              the same, with units as symbols of a fixed scale: 100 cm = 1 m, 10 m != 10 cm, 10 m != 10
    a tuple, point, vector  its members in order; (2,5) is also the open interval, [2,5] the closed one = 2<=x<=5
    a set or a plain list   its members in any order; 1 \pm 2 is such a list; x=1, x=2 too; x=1, y=2 is the tuple (1,2)
    x = 5, f(x) = 2x        the right-hand side; any other equation: both sides' difference up to a factor
    11_2                    its digits and its base: the base is part of what was asked, so 11_2 is neither 11 nor 3
    x \equiv 10 (mod 7)     residue and modulus
    (B) 5                   the letter B
    words                   themselves, without case, markup and closing punctuation

Left out: rounding (1.41 is not \sqrt{2}), simplification as a demand (2/4 = 1/2), statements about several variables.
What a target leaves unsaid is in `frames.py`; where in a text the answer stands, in `extract.py`. Nothing here needs a
library or can hang; what it does not understand is marked, for `symbolic.py` to look at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from ponder.grading.expressions import Node, TooLarge, Unparsed, leaves, number, parse
from ponder.grading.notation import clean
from ponder.grading.number_words import with_digits
from ponder.grading.units import UNITS
from ponder.grading.values import digest, exact, fingerprint, magnitude, ratios, real_part

MAX_ANSWER = 2_000  # characters of an extracted answer that are read as mathematics

# ---- reading: text -> what it says ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an answer says. `key` is all that equality looks at; the rest is for frames."""

    key: str
    kind: str = "scalar"  # scalar, equation, group, other, words, opaque (mathematics that is not understood)
    node: Node | None = None  # scalar: its tree; equation y = ...: the right-hand side
    name: str = ""  # the variable of x = 5 or 2 < x < 5
    shape: str = ""  # group: "()", "[]", "(]", "[)", "{}"; other: "ratio", "clock"
    parts: tuple[Reading, ...] = ()
    sides: tuple[Reading, ...] = ()  # what the sides of m + n = 5 and of \\sqrt{2} \\approx 1.41 say for themselves
    is_huge: bool = False  # a number beyond computing, so not equal to any other

    @property
    def is_understood(self) -> bool:
        return self.is_huge or (self.kind != "opaque" and all(part.is_understood for part in self.parts))


def canonical(answer: str) -> str | None:
    """The canonical key of an answer text that was extracted already; None where there is no answer."""
    reading = read(answer)
    return None if reading is None else reading.key


def read(answer: str) -> Reading | None:
    """The reading of an extracted answer, outside any problem; None for an empty one. Never raises."""
    if len(answer) > MAX_ANSWER:
        return _long(answer)
    return _read(answer)


def _long(answer: str) -> Reading | None:
    digits = answer.strip()
    match = re.fullmatch(r"([+-]?)0*([0-9]+)", digits)
    if match:  # a number of thousands of digits needs no arithmetic
        return Reading(key=f"n:{'-' if match[1] == '-' and match[2] != '0' else ''}{match[2]}")
    return Reading(key="t:" + digest(" ".join(digits.split())), kind="words") if digits else None


_DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")


@lru_cache(maxsize=8_192)
def _read(answer: str) -> Reading | None:
    if _DECIMAL.fullmatch(answer):  # most answers are
        return _scalar(answer)
    text = _unwrap(answer)
    if not text:
        return None
    try:
        return _structure(text, 0)
    except TooLarge:
        return Reading(key="t:" + re.sub(r"\s", "", text), kind="opaque", is_huge=True)
    except (Unparsed, RecursionError):  # the caller may be deep in the stack already
        return _words(text)


_WRAPPED = re.compile(r"\\(?:text(?:rm|normal|bf|it)?|mbox|mathrm|mathbf|boxed|fbox|underline)\s*\{(.*)\}", re.DOTALL)


_LEAD = re.compile(
    r"^\s*(?:(?:so|thus|hence|therefore|then|finally|we\s+(?:get|have|find|obtain|conclude)|it\s+follows)"
    r"(?:\s*[,:])?\s+(?:that\s+)?(?=\S))+",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(?<![\w)*])\*\*(?=\S)([^*]{1,80})\*\*(?![\w(*])")


def _unwrap(answer: str) -> str:
    """The answer in one spelling, without delimiters, boxes, markup, quotes and closing punctuation."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", answer)
    text = _LEAD.sub("", text)
    if "**" in text:
        text = _BOLD.sub(r"\1", text)
    text = re.sub(r"(?<=[0-9])\s?(?:\.\.\.|…)", r"\\ldots", text)
    text = text.replace("$$", "$")
    dollars = len(re.findall(r"(?<!\\)\$", text))
    text = re.sub(r"(?<!\\)\$", " " if dollars % 2 == 0 else r" \\dollar ", text)
    text = re.sub(r"\\(?:text(?:bf|rm)?|math(?:bf|rm))\s*\{\s*(\([A-J]\))\s*\}", r"\1 ", clean(text))
    for _ in range(6):
        before = text
        text = text.strip().rstrip(".,;:").strip()
        for mark in ("**", "__", "`", '"', "'", "*"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
        match = _WRAPPED.fullmatch(text)
        if match and _is_balanced(match[1]):
            text = match[1]
        if text == before:
            break
    return with_digits(text)


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def _words(text: str) -> Reading:
    """Plain words, or mathematics that this file does not understand."""
    plain = re.sub(r"\\(?:text(?:rm|bf|it|normal)?|mbox|math(?:rm|bf|it))\s*\{([^{}]*)\}", r"\1", text)
    plain = _FILLER.sub("", " ".join(plain.split()).strip().rstrip(".").casefold())
    if re.search(r"[\\^_{}=<>*/+|]|\d\s*[-(]", plain):
        return Reading(key="t:" + re.sub(r"\s", "", text), kind="opaque")
    if _NOTHING.fullmatch(plain):
        return Reading(key="{}", kind="other")
    if plain in ("all real numbers", "all reals", "all real values"):
        return Reading(key="(-inf;inf)", kind="other")
    if _MANY.fullmatch(plain):
        plain = "infinitely many"
    return Reading(key="t:" + plain, kind="words")


_FILLER = re.compile(r"^(?:(?:the|a|an|on|in|at|by|it is|it's|there (?:is|are|exists?)) (?=\S))+")
_NOTHING = re.compile(
    r"(?:no|the empty)(?: (?:real|integer|positive|such|possible|valid))* (?:solutions?|roots?|sets?)(?: exists?)?"
    r"|(?:the )?empty set"
)
_MANY = re.compile(r"(?:infinitely many|an? infinite number of|infinite)(?: (?:real|integer))?(?: solutions?| roots?)?")


# ---- structure -----------------------------------------------------------------------------------------------------

_CHOICE = re.compile(
    r"(?:[Oo]ption|[Cc]hoice)?\s*\(([A-J])\)(?:\s+[^-+*/=^<>,\s].*)?|(?:(?:[Oo]ption|[Cc]hoice)\s+([A-J]))[.):]?"
    r"|([A-J])[.):](?:\s+\S.*)?",
    re.DOTALL,
)
_DIGITS_BASE = re.compile(
    r"(-?)\(?([0-9A-Z]+)\)?\s*_\s*\{?\s*(?:\\text\s*\{)?\s*\(?([0-9]{1,2}|[a-z]{3,11})\)?\s*\}{0,2}"
)
_SPOKEN_BASE = re.compile(
    r"(-?)([0-9A-Z]+) *(?:\\text\{)?\s*\(?(?:in )?base[ -]?(?:\\?\}\s*)?\{?([0-9]{1,2}|[a-z]+)\}?\)?\}?"
)
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
          "eleven": 11, "twelve": 12, "sixteen": 16}  # fmt: skip
_MODULO = re.compile(r"(?:.*(?:\\equiv|=))?([^=]+?)\(?\s*(?:\\mod|\bmod(?:ulo)?\b)\s*[{(]?\s*([0-9]{1,40})\s*[})]*")
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\s*\{([pbB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\s*\{\1\}\s*[)\]]?", re.DOTALL
)
_JOINTS = re.compile(r",?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}\s*|\s*,?\s+(?:and|or)\s+(?:also\s+|maybe\s+)?")
_REPEATING = re.compile(
    r"(-?)([0-9]{0,30})\.([0-9]{0,30})(?:\\(?:overline|bar|dot)\s*\{?([0-9]{1,30})\}?|\(([0-9]{1,30})\))"
)
_GOES_ON = re.compile(r"(-?[0-9]{0,30}\.[0-9]{0,20}?)([0-9]{1,12}?)\2+\s*(?:\.\.\.|\\[lc]?dots)")  # 0.333...
_TURNED = re.compile(r"([\[\]])([^\[\]]*[,;][^\[\]]*)([\[\]])")  # ]0, 5[
_COLONS = re.compile(
    r"([0-9]{1,9}) ?(?::|to|\\text\s*\{ ?to ?\}) ?([0-9]{1,9})((?: ?: ?[0-9]{1,9})*)(?: ?([ap])\.? ?m\.?)?",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"(?:about|approximately|approx\.?|roughly|around|nearly)\s+", re.IGNORECASE)
_OR_ABOUT = re.compile(
    r"\s*[,(]?\s*(?:or|which is|i\.e\.)?\s*(?<![\\a-z])(?:about|approximately|approx\.?|roughly)\s+([^()]{1,80})\)?"
)
_APPROX = re.compile(r"\\approx(?![a-zA-Z])|\\simeq|\\cong(?![a-zA-Z])")
_RELATION = re.compile(r"<=|>=|!=|<|>|=|\\in(?![a-zA-Z])")
_NAME = re.compile(
    r"(?:[a-zA-Z]|\\[a-zA-Z]+|[A-Z]{2,4}|[a-zA-Z]{3,20})(?:_\{?\w{1,9}\}?)?'{0,3}(?:\s*\(\s*[^()]{0,20}\))?"
)
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R|\\text\{all real numbers\}|R")


def _structure(text: str, depth: int) -> Reading:
    """Peel one layer: special notations, then lists and brackets, then relations, then an expression."""
    text = text.strip()
    if depth > 8 or not text:
        raise Unparsed("nested too deeply, or empty")
    for special in (_rounded, _choice, _based, _residue, _matrix, _union, _plus_minus, _colons, _compound):
        reading = special(text, depth)
        if reading is not None:
            return reading
    if re.fullmatch(r"[a-zA-Z]{3,}(?: [a-zA-Z]+)*|no|yes|No|Yes|NO", text) and text not in ("infinity", "inf"):
        return _words(text)
    if re.fullmatch(r"-?[0-9]{1,3}(?: [0-9]{3})+", text):
        return _scalar(text.replace(" ", ""))
    if text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return Reading(key="{}", kind="other")
    if _REALS.fullmatch(text) and text != "R":
        return Reading(key="(-inf;inf)", kind="other")
    if (turned := _TURNED.fullmatch(text)) and (turned[1] == "]" or turned[3] == "["):
        text = ("(" if turned[1] == "]" else "[") + turned[2] + (")" if turned[3] == "[" else "]")
    reading = _brackets(text, depth) or _list(text, depth) or _relation(text, depth)
    return reading or _scalar(text)


def _scalar(text: str) -> Reading:
    repeating = _REPEATING.fullmatch(_GOES_ON.sub(r"\1(\2)", text) if text.endswith(("...", "dots")) else text)
    if repeating:  # 0.1\overline{6} = 0.1(6) = 0.1666... = 1/6
        sign, whole, start = repeating.groups()[:3]
        block = repeating[4] or repeating[5]
        value = Fraction(int((whole + start + block) or 0) - int((whole + start) or 0), 10 ** len(start))
        node: Node = ("num", value / (10 ** len(block) - 1) * (-1 if sign else 1))
    else:
        node = parse(text)
    return Reading(key=fingerprint(node), node=node)


def _rounded(text: str, depth: int) -> Reading | None:
    """\\sqrt{2} \\approx 1.41 and \\sqrt{2} (about 1.41): the exact side, but a problem may ask for the other one."""
    if depth:
        return None
    stated = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    exact_side, *others = _APPROX.split(_OR_ABOUT.sub(r"\\approx \1", stated).replace(r"(\approx", r"\approx"))
    if not others:
        return _structure(stated, 1) if stated != text else None
    others = [other.rstrip(")") if "(" not in other else other for other in others]
    if not exact_side.strip() or _NAME.fullmatch(exact_side.strip()):
        return _structure(others[0], depth + 1)
    sides = tuple(_structure(side, depth + 1) for side in (exact_side, *others))
    return replace(sides[0], sides=sides)


def _colons(text: str, depth: int) -> Reading | None:
    """3:4 = 6:8 is a ratio, 3:45 PM = 15:45 a time of the day; what may be either is read as the target is."""
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
        key = ":".join(map(str, (hour, *numbers[1:])))
        return Reading(key=f"clock:{key}", kind="other", shape="clock")
    return Reading(key=ratio_key(numbers), kind="other", shape="ratio")


def ratio_key(numbers: list[int]) -> str:
    divisor = math.gcd(*numbers) or 1
    return "ratio:" + ":".join(str(number // divisor) for number in numbers)


_PIECE = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?)\s*([a-zA-Z]+)\.?")


def _compound(text: str, depth: int) -> Reading | None:
    """2 hours 30 minutes = 150 minutes, 5 ft 6 in = 66 inches: quantities of one kind, each smaller than the last."""
    if not text[:1].isdigit() or len(text) > 120:
        return None
    pieces = re.split(
        r"(?<=[a-zA-Z.])\s*,?\s*(?:and\s+)?(?=[0-9])",
        re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", text).strip(),
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
    node: Node = ("mul", ("num", total / last_scale), ("unit", unit))
    return Reading(key=fingerprint(node), node=node)


def _choice(text: str, depth: int) -> Reading | None:
    match = _CHOICE.fullmatch(text) if depth == 0 else None
    return _scalar(match[1] or match[2] or match[3]) if match else None


def _based(text: str, depth: int) -> Reading | None:
    """2516_8, 11 base 2, 0x1F: digits and base, written with capital letters and no leading zeros."""
    prefixed = re.fullmatch(r"(-?)0([bx])([0-9a-fA-F]+)", text)
    if prefixed:
        sign, digits, base = prefixed[1], prefixed[3].upper(), 2 if prefixed[2] == "b" else 16
    else:
        match = _DIGITS_BASE.fullmatch(text) or _SPOKEN_BASE.fullmatch(text)
        if match is None or not (match[2][0].isdigit() or (len(match[2]) > 1 and match[3] in ("16", "sixteen"))):
            return None
        sign, digits = match[1], match[2]
        base = int(match[3]) if match[3].isdigit() else _BASES.get(match[3], 0)
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits):
        return None
    if base == 10:
        return _scalar(sign + digits)
    return Reading(key=f"base:{base}:{sign}{digits.lstrip('0') or '0'}", kind="other")


def _residue(text: str, depth: int) -> Reading | None:
    match = _MODULO.fullmatch(text) if "mod" in text else None
    if match is None:
        return None
    modulus = int(match[2])
    value = exact(parse(match[1].strip()))
    if value is None or modulus == 0 or value.denominator != 1:
        raise Unparsed("a residue that is no whole number")
    return Reading(key=f"mod:{int(value) % modulus}:{modulus}", kind="other")


def _matrix(text: str, depth: int) -> Reading | None:
    match = _MATRIX.fullmatch(text)
    if match is None or r"\begin" in match[2]:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr", match[2]) if row.strip()]
    return _rows([row.split("&") for row in rows], depth)


def _rows(cells: list[list[str]], depth: int) -> Reading:
    if not cells or len({len(row) for row in cells}) != 1:
        raise Unparsed("a matrix with rows of several lengths")
    parts = tuple(_structure(cell, depth + 1) for row in cells for cell in row)
    if len(cells[0]) == 1:  # a column is a vector
        return group("()", parts)
    return Reading(key=f"m:{len(cells)}:" + ";".join(part.key for part in parts), kind="other", parts=parts)


def _union(text: str, depth: int) -> Reading | None:
    """Intervals joined by \\cup or `or`, and the reals without some points."""
    if re.search(r"\\cup(?![a-zA-Z]).*(?<![<>!])=", text):  # |A \cup B| = 6
        return None
    joint = r"\\cup(?![a-zA-Z])"
    pieces = _split(text, joint + r"|,?\s+or\s+|,?\s*\\text\s*\{\s*,?\s*or\s*\}" if _RELATION.search(text) else joint)
    if len(pieces) > 1:
        parts = [_structure(piece, depth + 1) for piece in pieces]
        if all(part.shape == "{}" or part.kind == "scalar" for part in parts):
            return _set(parts)
        names = {part.name for part in parts if part.name}
        if len(names) > 1:
            raise Unparsed("a union over several variables")
        return _join(parts)
    without = _split(text, r"\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])")
    if len(without) == 2 and _REALS.fullmatch(without[0].strip()):
        holes = _structure(without[1], depth + 1)
        return _without(holes.parts if holes.shape == "{}" else (holes,))
    return None


def _join(parts: list[Reading]) -> Reading:
    keys = sorted({key for part in parts for key in part.key.removeprefix("u:").split("|")})
    key = keys[0] if len(keys) == 1 else "u:" + "|".join(keys)
    return Reading(key=key, kind="other", name=parts[0].name, parts=tuple(parts))


def _without(holes: tuple[Reading, ...], name: str = "") -> Reading:
    """All real numbers but some."""
    if any(hole.node is None or magnitude(hole.node) is None for hole in holes):
        raise Unparsed("the reals without something that is no number")
    ends = sorted({hole.key: real_part(hole.node) for hole in holes if hole.node}.items(), key=lambda end: end[1])
    keys = ["-inf", *(key for key, _ in ends), "inf"]
    key = "u:" + "|".join(sorted(f"({low};{high})" for low, high in pairwise(keys)))
    return Reading(key=key, kind="other", name=name)


def _plus_minus(text: str, depth: int) -> Reading | None:
    if r"\pm" not in text and r"\mp" not in text:
        return None
    signs = [("+", "-"), ("-", "+")]
    both = [re.sub(r"\\mp(?![a-z])", minus, re.sub(r"\\pm(?![a-z])", plus, text)) for plus, minus in signs]
    return _set(_structure(one.removeprefix("+"), depth + 1) for one in both)


def _brackets(text: str, depth: int) -> Reading | None:
    """(a, b), [a, b), \\{a, b\\}, \\langle a, b\\rangle, [[1,2],[3,4]]."""
    text = re.sub(r"^\\langle(?![a-z])(.*)\\rangle$", r"(\1)", text, flags=re.DOTALL)
    is_set = text.startswith((r"\{", "{"))
    inner = text.replace(r"\{", "{").replace(r"\}", "}") if is_set else text
    if len(inner) < 2 or inner[0] not in "([{" or not _encloses(inner):
        return None
    inside = inner[1:-1].strip()
    if is_set:
        condition = _split(inside, r"\||:")
        if len(condition) == 2:  # {x | x > 2}
            return _structure(condition[1], depth + 1)
        if not inside:
            return Reading(key="{}", kind="other")
    members = _members(inside)
    if is_set and len(members) == 1 and not text.startswith("\\{"):  # braces that only group
        return _structure(inside, depth + 1)
    if is_set and (len(members) > 1 or text.startswith(r"\{")):
        return _set(_structure(member, depth + 1) for member in members)
    if len(members) < 2:
        return None
    if inner[0] == "[" and all(member.strip().startswith("[") and member.strip().endswith("]") for member in members):
        return _rows([_members(member.strip()[1:-1]) for member in members], depth)
    parts = tuple(_structure(member, depth + 1) for member in members)
    shape = inner[0] + inner[-1]
    return group(_open_at_infinity(shape, parts) if len(parts) == 2 else "()", parts)


def _open_at_infinity(shape: str, ends: tuple[Reading, ...]) -> str:
    """[2, inf] is [2, inf): an end at infinity is open, however it is written."""
    return ("(" if ends[0].key == "-inf" else shape[0]) + (")" if ends[1].key == "inf" else shape[1])


def _encloses(text: str) -> bool:
    """The first bracket closes at the very end; round and square ones may be mixed, as in [2,5)."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _members(text: str) -> list[str]:
    """Split at commas or semicolons; 1,000 stays whole where the other commas are followed by a space."""
    if ";" in text:
        return _split(text, ";")
    if re.search(r",\s", text):
        return _split(text, r",(?!\d{3}(?!\d))")
    return _split(text, ",")


def _split(text: str, separator: str) -> list[str]:
    """Split at a pattern outside all brackets."""
    pieces, depth, start = [], 0, 0
    places = {match.start(): match.end() for match in re.finditer(separator, text)}
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if place in places and depth == 0 and place >= start:
            pieces.append(text[start:place])
            start = places[place]
    return [*pieces, text[start:]]


def _list(text: str, depth: int) -> Reading | None:
    """Members without brackets: a set, or a tuple in the order of their names (x = 1, y = 2)."""
    text = _JOINTS.sub(", ", text)
    if re.fullmatch(r"[^,]*\d{1,3}(?:,\d{3})+(?!\d)[^,]*", text):
        return None  # 1,234 is a number
    members = [member for member in _members(text) if member.strip()]
    if len(members) < 2:
        return None
    parts = [_structure(member, depth + 1) for member in members]
    if len({part.kind == "words" for part in parts}) > 1:
        raise Unparsed("words among numbers")
    names = {part.name for part in parts}
    if len(names) == 2 and "" in names and parts[0].name:  # x = 1, 2
        names.discard("")
        if any(part.name for part in parts[1:]):
            raise Unparsed("statements and values")
    if len(names) == len(parts) and "" not in names:
        return group("()", tuple(sorted(parts, key=lambda part: part.name)))
    if len(names) > 1:
        raise Unparsed("several statements about several variables")
    return group("{}", tuple(parts))


def _set(parts: Iterable[Reading]) -> Reading:
    """A set has no member twice, a plain list may: the angles 45, 45, 90."""
    members = {member.key: member for part in parts for member in (part.parts if part.shape == "{}" else (part,))}
    return group("{}", tuple(members.values()))


def group(shape: str, parts: tuple[Reading, ...]) -> Reading:
    if shape == "{}":
        parts = tuple(sorted(parts, key=lambda part: part.key))
        if len(parts) == 1:
            return parts[0]
    key = shape[0] + ";".join(part.key for part in parts) + shape[1]
    return Reading(key=key, kind="group", shape=shape, parts=parts)


def _relation(text: str, depth: int) -> Reading | None:
    found = _RELATION.finditer(text)
    signs = [sign for sign in found if text.count("(", 0, sign.start()) == text.count(")", 0, sign.start())]
    if not signs:
        return None
    starts = [0, *(sign.end() for sign in signs)]
    ends = [*(sign.start() for sign in signs), len(text)]
    sides = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    operators = [sign[0] for sign in signs]
    if operators[0] == r"\in":
        inner = _structure(text[signs[0].end() :], depth + 1)
        return replace(inner, name=sides[0])
    if all(operator == "=" for operator in operators):
        return _equation(sides, depth)
    if "=" in operators or r"\in" in operators:
        raise Unparsed("a mixed chain of relations")
    return _inequality(sides, operators)


def _equation(sides: list[str], depth: int) -> Reading:
    """x = 5 is 5 and f(x) = 2x is 2x; y = 2x+1 stays an equation; of a = b = 5 the last side counts."""
    left, right = sides[0], sides[-1]
    value = _structure(right, depth + 1)
    is_name = _NAME.fullmatch(left) is not None
    symbols = symbols_of(value)
    if _DERIVATIVE.match(left):
        return replace(value, name=left)
    if is_name and ("(" in left or not symbols or (len(left) > 2 and left[0] != "\\")):
        return replace(value, name=left)
    if not left and value.node is not None:
        return value
    try:
        node = parse(left)
    except Unparsed:  # \angle ABC, |S| of a set, (x, y), \lim f(x): a name of what was asked
        if len(left) > _LONGEST_NAME or is_prose(left):
            raise
        return replace(value, name=left)
    if value.kind != "scalar" or value.node is None:
        raise Unparsed("an equation between other things than expressions")
    if not symbols and all(leaf[0] != "sym" for leaf in leaves(node)):
        return value  # 3 + 4 = 7 claims 7
    if len(sides) > 2:  # m + n = 2 + 3 = 5
        return replace(value, name=left)
    key, _ = ratios(("add", node, ("neg", value.node)))
    is_explicit = node[0] == "sym" and node[1] not in symbols
    asked = (value,) if not is_explicit and _may_be_asked(node, value) else ()
    return Reading(key="eq:" + key, kind="equation", node=value.node, name=left if is_explicit else "", sides=asked)


def _has_factor(node: Node) -> bool:
    """A number that is no exponent."""
    if node[0] in ("num", "sym", "const", "unit"):
        return node[0] == "num"
    return any(_has_factor(child) for child in (node[1:2] if node[0] == "pow" else node[1:]))


_LONGEST_NAME = 60
_IN_TEXT = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CONNECTIVES = frozenset(
    "so thus hence therefore then since because when if that this it is are was we get have find where let".split()
)
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)\b|\\frac\s*\{\s*d\w?\^?[\w{}]*\s*\}\s*\{\s*d|[a-zA-Z]'+")


def is_prose(text: str) -> bool:
    """A sentence and no formula: several words outside \\text, or one that joins sentences."""
    return not _CONNECTIVES.isdisjoint(_words_of(text)) or sum(len(word) > 2 for word in _words_of(text)) > 1


def joins_sentences(text: str) -> bool:
    """Mathematics inside a sentence, behind whose beginning (So, We get) more words follow."""
    text = _LEAD.sub("", text)
    return re.search(r"[0-9\\^=]", text) is not None and not _CONNECTIVES.isdisjoint(_words_of(text))


def _words_of(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_IN_TEXT.sub(" ", text))]


def _may_be_asked(left: Node, value: Reading) -> bool:
    """Does m + n = 5 say what m + n is? Not 2x + 3y = 6 and x^2 + y^2 = 9, which are lines and circles."""
    names = {leaf[1] for leaf in leaves(left) if leaf[0] == "sym"}
    if not names or value.key == "n:0":
        return False
    is_sum = left[0] in ("add", "neg")
    is_curve = names <= {"x", "y", "z"} and (_has_factor(left) or (is_sum and any(n[0] == "num" for n in leaves(left))))
    return not is_curve and names.isdisjoint(symbols_of(value))


def symbols_of(reading: Reading) -> set[str]:
    found = {leaf[1] for leaf in leaves(reading.node) if leaf[0] == "sym"} if reading.node else set()
    return found.union(*(symbols_of(part) for part in reading.parts)) if reading.parts else found


def _inequality(sides: list[str], operators: list[str]) -> Reading:
    """x > 2 and 2 <= x < 5 are intervals; anything else is known up to a positive factor."""
    if operators[0] in (">", ">=") and len(operators) == 2:  # 5 > x > 2, read from the other end
        sides = sides[::-1]
        operators = [operator.replace(">", "<") for operator in reversed(operators)]
    constants = ("e", "i", r"\pi", r"\infty")
    names = [place for place, side in enumerate(sides) if _NAME.fullmatch(side) and side not in constants]
    if len(names) == 1 and len(sides) == 2:
        place, operator = names[0], operators[0]
        bound = _scalar(sides[1 - place])
        if not symbols_of(bound):
            if operator == "!=":
                return _without((bound,), name=sides[place])
            low = (operator[0] == ">") == (place == 0)
            ends = (bound, Reading(key="inf")) if low else (Reading(key="-inf"), bound)
            closed = "=" in operator
            shape = ("[" if closed and low else "(") + ("]" if closed and not low else ")")
            return replace(group(shape, ends), name=sides[place])
    if len(sides) == 2 and operators[0] != "!=":
        around = _around(sides, operators[0])
        if around is not None:
            return around
    if names == [1] and len(sides) == 3 and all(operator in ("<", "<=") for operator in operators):
        shape = ("[" if "=" in operators[0] else "(") + ("]" if "=" in operators[1] else ")")
        ends = (_scalar(sides[0]), _scalar(sides[2]))
        return replace(group(_open_at_infinity(shape, ends), ends), name=sides[1])
    if len(sides) > 2:
        keys = [_scalar(side).key for side in sides]
        if any(operator[0] != operators[0][0] for operator in operators):
            raise Unparsed("a chain in two directions")
        if operators[0][0] == ">":
            keys, operators = keys[::-1], [operator.replace(">", "<") for operator in reversed(operators)]
        links = "".join(operator + key for operator, key in zip(operators, keys[1:], strict=True))
        return Reading(key=f"chain:{keys[0]}{links}", kind="other")
    difference = ("add", parse(sides[0]), ("neg", parse(sides[1])))
    key, is_positive = ratios(difference)
    operator = operators[0]
    if operator[0] == ">":
        operator, is_positive = operator.replace(">", "<"), not is_positive
    sign = "" if operator == "!=" else "+" if is_positive else "-"
    return Reading(key=f"rel:{operator}:{sign}:{key}", kind="other")


def _around(sides: list[str], operator: str) -> Reading | None:
    """|x| < 2 and |x - 1| >= 3: an interval around a point, or the two beyond it."""
    if len(sides[0]) < 3 or sides[0][0] != "|" or sides[0][-1] != "|":
        return None
    node, bound = parse(sides[0]), _scalar(sides[1])
    inside = node[1] if node[0] == "abs" else node
    names = [leaf for leaf in leaves(inside) if leaf[0] == "sym"]
    is_shifted = inside[0] == "add" and inside[1][0] == "sym"
    if node[0] != "abs" or len(names) != 1 or not (is_shifted or inside[0] == "sym") or bound.node is None:
        return None
    if magnitude(bound.node) is None or real_part(bound.node) <= 0:
        return None
    middle: Node = ("neg", inside[2]) if is_shifted else ("num", Fraction(0))
    low, high = (
        Reading(key=fingerprint(end), node=end)
        for end in (("add", middle, ("neg", bound.node)), ("add", middle, bound.node))
    )
    closed = "=" in operator
    if operator[0] == "<":
        return replace(group("[]" if closed else "()", (low, high)), name=names[0][1])
    outer = (
        group("(]" if closed else "()", (Reading(key="-inf"), low)),
        group("[)" if closed else "()", (high, Reading(key="inf"))),
    )
    return replace(_join(list(outer)), name=names[0][1])
