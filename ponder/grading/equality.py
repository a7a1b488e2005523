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
What an answer is read into is in `readings.py`, equations and inequalities in `statements.py`, notations that are no
expressions in `special.py`; what a target leaves unsaid is in `frames.py`; where in a text the answer stands, in
`extract.py`. Nothing here needs a library or can hang; what it does not understand is marked, for `symbolic.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from ponder.grading.expressions import FUNCTION_NAMES, GREEK, parse
from ponder.grading.labelled import labelled
from ponder.grading.readings import ParsedAnswer, all_but, group, join, open_at_infinity, scalar, set_of, words
from ponder.grading.special import (
    based,
    choice,
    chosen_of,
    compound,
    date,
    length,
    molecule,
    ratio_or_time,
    residue,
)
from ponder.grading.statements import NAME, equation, inequality
from ponder.grading.tree import Node, TooLarge, Unparsed
from ponder.grading.values import digest, fingerprint, magnitude, real_part
from ponder.grading.wording import unwrap

MAX_ANSWER = 2_000  # characters of an extracted answer that are read as mathematics


def canonical(answer: str) -> str | None:
    """The canonical key of an answer text that was extracted already; None where there is no answer."""
    reading = read(answer)
    return None if reading is None else reading.key


def read(answer: str) -> ParsedAnswer | None:
    """The reading of an extracted answer, outside any problem; None for an empty one. Never raises."""
    if len(answer) > MAX_ANSWER:
        return _long(answer)
    return _read(answer)


def _long(answer: str) -> ParsedAnswer | None:
    digits = answer.strip()
    match = re.fullmatch(r"([+-]?)0*([0-9]+)", digits)
    if match:  # a number of thousands of digits needs no arithmetic
        return ParsedAnswer(key=f"n:{'-' if match[1] == '-' and match[2] != '0' else ''}{match[2]}")
    return ParsedAnswer(key="t:" + digest(" ".join(digits.split())), kind="words") if digits else None


_DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")


@lru_cache(maxsize=8_192)
def _read(answer: str) -> ParsedAnswer | None:
    if _DECIMAL.fullmatch(answer):  # most answers are
        return scalar(answer)
    text = unwrap(answer)
    if not text:
        return None
    try:
        return _structure(text, 0)
    except TooLarge:
        return ParsedAnswer(key="t:" + re.sub(r"\s", "", text), kind="opaque", is_huge=True)
    except (Unparsed, RecursionError):  # the caller may be deep in the stack already
        return words(text)


# ---- structure -----------------------------------------------------------------------------------------------------

_JOINTS = re.compile(
    r",?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}\s*|\s*,?\s+(?:and|or),?\s+(?:also\s+|equivalently,?\s+)?"
)
_MIXED = re.compile(r"([0-9]{1,9}) and ([0-9]{1,9}/[0-9]{1,9})")
_NAMES_IN_ORDER = {"r": 0, r"\rho": 0, r"\theta": 1, r"\phi": 2, r"\varphi": 2, "z": 3}  # of polar coordinates
_TURNED = re.compile(r"([\[\]])([^\[\]]*[,;][^\[\]]*)([\[\]])")  # ]0, 5[
_RELATION = re.compile(r"<=|>=|!=|<|>|=|\\in(?![a-zA-Z])")
_PLAIN_WORDS = re.compile(r"[a-zA-Z]{3,}(?: [a-zA-Z]+)*|[Ii]t (?:is|was) [a-z ]+|no|yes|No|Yes|NO")
_REALS = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R|\\text\{all real numbers\}|R")

_HALF_LINES = re.compile(  # \\mathbb{R}^+, \\mathbb{R}_{>0}, all positive real numbers
    r"\\mathbb ?\{? ?R ?\}? ?[\^_] ?\{? ?(\+|-|[<>]=? ?0) ?\}?"
    r"|(?:the )?(?:set of )?(?:all )?((?:non-?)?(?:positive|negative)) (?:reals|real numbers)",
    re.IGNORECASE,
)
_HALVES = {"+": ">0", "-": "<0", "positive": ">0", "negative": "<0", "nonnegative": ">=0", "nonpositive": "<=0"}
_NUMBER_SETS = re.compile(r"\\mathbb\s*\{?\s*([ZNQC])\s*\}?")


def _structure(text: str, depth: int) -> ParsedAnswer:
    """Peel one layer: special notations, then lists and brackets, then relations, then an expression."""
    text = text.strip()
    if depth > 8 or not text:
        raise Unparsed("nested too deeply, or empty")
    for special in (
        _parts,
        _with_condition,
        _restated,
        _rounded,
        choice,
        based,
        residue,
        _matrix,
        _union,
        _plus_minus,
        date,
        molecule,
        ratio_or_time,
        length,
        compound,
        chosen_of,
        _for_all,
        _two_names,
        _counted,
    ):
        reading = special(text, depth)
        if reading is not None:
            return reading
    if half := _HALF_LINES.fullmatch(text):
        sign = (half[1] or half[2].replace("-", "")).replace(" ", "").lower()
        return replace(_structure("x" + _HALVES.get(sign, sign), 1), name="")
    if text in GREEK:
        return scalar("\\" + text)
    if (
        _PLAIN_WORDS.fullmatch(text)
        and text not in ("infinity", "inf", "Infinity")
        and text.partition(" ")[0] not in FUNCTION_NAMES
    ):
        return words(text)
    if re.fullmatch(r"-?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?", text):
        return scalar(text.replace(" ", ""))
    if text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return ParsedAnswer(key="{}", kind="other")
    if numbers := _NUMBER_SETS.fullmatch(text):
        return ParsedAnswer(key="set:" + numbers[1], kind="other")
    if _REALS.fullmatch(text) and text != "R":
        return ParsedAnswer(key="(-inf;inf)", kind="other")
    if (turned := _TURNED.fullmatch(text)) and (turned[1] == "]" or turned[3] == "["):
        text = ("(" if turned[1] == "]" else "[") + turned[2] + (")" if turned[3] == "[" else "]")
    if r"\langle" in text:
        text = _TEX_ANGLES.sub(r"(\1)", text)
    reading = _brackets(text, depth) or _list(text, depth) or _relation(text, depth)
    return reading or scalar(text)


def _parts(text: str, depth: int) -> ParsedAnswer | None:
    """(a) 3 (b) 4: the answers to the parts of a question, in order."""
    parts = labelled(text) if depth == 0 else None
    if parts is None:
        return None
    return replace(group("()", tuple(_structure(unwrap(part), 1) for part in parts)), shape="parts")


_FOR_ALL = re.compile(
    r"(.*[a-zA-Z] ?\([a-z]\) ?=.*?)(?:,? ?(?:\\text ?\{ ?)?for (?:all|every|each|any)\b|,? ?\\forall(?![a-z])"
    r"|, ?(?=[a-z] ?\\in ?\\))[^=<>;]{0,40}"
)


def _for_all(text: str, depth: int) -> ParsedAnswer | None:
    """f(x) = 2x for all real x."""
    match = _FOR_ALL.fullmatch(text) if depth == 0 and "=" in text else None
    return _structure(match[1].rstrip(" ,"), 1) if match else None


_INTEGER = re.compile(r"[kmn]")
_CONDITION = re.compile(  # 1/x, x \neq 0; 2\pi k, k \in \mathbb{Z}; 2\pi k for any integer k
    r" ?, ?[a-z] ?!= ?[^<>=;!]{1,30}$"
    r"| ?,? ?(?:\\text ?\{ ?)?(?:(?:(?:where|for) )?(?:\} ?)?[kmn] ?\\in ?\\mathbb ?\{? ?[ZN] ?\}?"
    r"|where [kmn] is an integer|for (?:any |all |some )?integers? \}?[kmn])$"
)


def _with_condition(text: str, depth: int) -> ParsedAnswer | None:
    """An expression and for which values it holds."""
    may_be = depth == 0 and ("!=" in text or "\\in" in text or "integer" in text)
    match = _CONDITION.search(text, max(0, len(text) - 100)) if may_be else None
    head = text[: match.start()] if match else ""
    letters = re.compile("[a-z]") if match and "!=" in match[0] else _INTEGER
    return _structure(head, 1) if letters.search(head) and not re.search("[<>]|!=", head) else None


_RESTATED = re.compile(r"(.{1,60}?) (?:\\text ?\{ ?)?\((?:or |i\.e\.,? |that is,? |= ?)?([^()]{1,60})\) ?\}?")


def _restated(text: str, depth: int) -> ParsedAnswer | None:
    """3/4 (75%): the same number twice, not the product of the two."""
    match = _RESTATED.fullmatch(text) if depth == 0 and text[-1:] in ")}" and "(" in text else None
    if match is None or match[1] == match[2]:
        return None
    try:
        first, second = _structure(match[1], 1), _structure(match[2], 1)
    except Unparsed:
        return None
    return first if first.key == second.key and first.node is not None else None


_TWO_NAMES = re.compile(r"(?:\\(?:text|mathrm)\{)?([A-Z]{3,6})\}? ?= ?(?:\\(?:text|mathrm)\{)?([A-Z]{3,6})\}?")


def _two_names(text: str, depth: int) -> ParsedAnswer | None:
    """SRMC = LRMC is LRMC = SRMC."""
    match = _TWO_NAMES.fullmatch(text) if depth == 0 and "=" in text else None
    return ParsedAnswer(key="t:" + "=".join(sorted(match.groups())), kind="words") if match else None


_COUNTED = re.compile(r"([1-9][0-9]?) \((.{3,200})\)")


def _counted(text: str, depth: int) -> ParsedAnswer | None:
    """3 (1, 2 and 5): the number of the members, and the members."""
    match = _COUNTED.fullmatch(text) if depth == 0 and text.endswith(")") else None
    members = _list(match[2], 1) if match else None
    if match is None or members is None or members.shape != "{}" or len(members.parts) != int(match[1]):
        return None
    return replace(members, sides=(members, scalar(match[1])))


_ABOUT = re.compile(r"(?:about|approximately|approx\.?|roughly|around|nearly)\s+", re.IGNORECASE)
_OR_ABOUT = re.compile(
    r"\s*[,(]?\s*(?:or|which is|i\.e\.)?\s*(?<![\\a-z])(?:about|approximately|approx\.?|roughly)\s+([^()]{1,80})\)?"
)
_APPROX = re.compile(r"\\approx(?![a-zA-Z])|^\\sim(?![a-zA-Z])|\\simeq|\\cong(?![a-zA-Z])")


def _rounded(text: str, depth: int) -> ParsedAnswer | None:
    """\\sqrt{2} \\approx 1.41 and \\sqrt{2} (about 1.41): the exact side, but a problem may ask for the other one."""
    if depth:
        return None
    stated = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    exact_side, *others = _APPROX.split(_OR_ABOUT.sub(r"\\approx \1", stated).replace(r"(\approx", r"\approx"))
    if not others:
        return _structure(stated, 1) if stated != text else None
    others = [other.rstrip(")") if "(" not in other else other for other in others]
    if not exact_side.strip() or NAME.fullmatch(exact_side.strip()):
        return _structure(others[0], depth + 1)
    side = _structure(exact_side, depth + 1)
    rounded = _structure(others[-1], depth + 1)
    return replace(side, sides=(side, rounded) if _is_rounded(side, rounded) else (side,))


def _is_rounded(side: ParsedAnswer, rounded: ParsedAnswer) -> bool:
    """11 is not rounded to 12: or one answer could name many numbers."""
    if side.node is None or rounded.node is None:
        return True
    if magnitude(side.node) is None or magnitude(rounded.node) is None:
        return True
    value, other = real_part(side.node), real_part(rounded.node)
    is_whole = all(re.fullmatch("n:-?[0-9]+", reading.key) for reading in (side, rounded))
    return side.key == rounded.key or (not is_whole and abs(value - other) <= abs(value) / 10)


_MATRIX = re.compile(
    r"(?P<factor>(?:[^&=,(\[]|\([^&=,]{1,30}\)){0,60}?)"  # 2 or -\frac{1}{2}
    r"[(\[]?\s*\\begin\s*\{(?P<kind>(?:[pbB]|small)?matrix|array)\}(?:\{[lcr| ]*\})?"
    r"(?P<inside>.*)\\end\s*\{(?P=kind)\}\s*[)\]]?",
    re.DOTALL,
)


_CASES = re.compile(r"\\begin\s*\{cases\}([^&]*)\\end\s*\{cases\}")  # of a system, and not of a function


_COLUMN = re.compile(r"\\[dt]?binom ?\{([^{}]+)\} ?\{ ?(-[^{}]+)\}")  # nothing is chosen -1 times out of 3


def _matrix(text: str, depth: int) -> ParsedAnswer | None:
    if "binom" in text and (column := _COLUMN.fullmatch(text)):
        return _rows([[column[1]], [column[2]]], depth)
    system = _CASES.fullmatch(text) if r"\begin" in text else None
    if system:
        return _list(",".join(row for row in system[1].split(r"\\") if row.strip()), depth)
    match = _MATRIX.fullmatch(text) if r"\begin" in text else None
    if match is None or r"\begin" in match["inside"]:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr", match["inside"]) if row.strip()]
    factor = match["factor"].removesuffix("*").strip()
    return _rows([row.split("&") for row in rows], depth, parse("-1" if factor == "-" else factor) if factor else None)


def _rows(cells: list[list[str]], depth: int, factor: Node | None = None) -> ParsedAnswer:
    if not cells or len({len(row) for row in cells}) != 1:
        raise Unparsed("a matrix with rows of several lengths")
    parts = tuple(_structure(cell, depth + 1) for row in cells for cell in row)
    if factor is not None:
        nodes = [("mul", factor, part.node) for part in parts if part.node is not None]
        if len(nodes) < len(parts):
            raise Unparsed("a factor of something that is no number")
        parts = tuple(ParsedAnswer(key=fingerprint(node), node=node) for node in nodes)
    if len(cells[0]) == 1:  # a column is a vector
        return group("()", parts)
    return ParsedAnswer(key=f"m:{len(cells)}:" + ";".join(part.key for part in parts), kind="other", parts=parts)


_EXCEPT = re.compile(
    r"(?:\\text\s*\{)?(?:all )?(?:real numbers|reals|real values)(?: of [a-z]| [a-z])?,?"
    r" (?:except|but|other than)(?: for)? ?\}? ?(.+)"
)


def _union(text: str, depth: int) -> ParsedAnswer | None:
    """Intervals joined by \\cup or `or`, and the reals without some points."""
    if re.search(r"\\cup(?![a-zA-Z]).*(?<![<>!])=", text):  # |A \cup B| = 6
        return None
    joint = r"\\cup(?![a-zA-Z])"
    pieces = _split(text, joint + r"|,?\s+or\s+|,?\s*\\text\s*\{\s*,?\s*or\s*\}" if _RELATION.search(text) else joint)
    if len(pieces) > 1:
        parts = [_structure(piece, depth + 1) for piece in pieces]
        if all(piece.count("=") > 1 and "<" not in piece and ">" not in piece for piece in pieces):
            return set_of(parts)  # x = 1, y = 2 or x = 3, y = 4
        if all(part.shape == "{}" or part.kind == "scalar" for part in parts):
            if len({part.name for part in parts if part.name and " " not in part.name}) > 1:
                raise Unparsed("a choice between several variables")
            return set_of(parts)
        names = {part.name for part in parts if part.name}
        if parts[0].name.startswith("(") and len(names) == 1 and all(part.shape == "()" for part in parts):
            return set_of(parts)  # (x, y) = (1, 2) or (x, y) = (3, 4); (x, y) = (1, 2) or (3, 4)
        if len(names) > 1:
            raise Unparsed("a union over several variables")
        return join(parts)
    if holes_in_words := _EXCEPT.fullmatch(text):
        holes = _structure(holes_in_words[1], depth + 1)
        return all_but(holes.parts if holes.shape == "{}" else (holes,))
    without = _split(
        text, (r"-|" if text.startswith(r"\mathbb") else "") + r"\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])"
    )
    if len(without) == 2 and _REALS.fullmatch(without[0].strip()):
        holes = _structure(without[1], depth + 1)
        if holes.shape and holes.shape in "()[]()" and len(holes.parts) == 2:  # the two ends beyond an interval
            low, high = holes.parts
            ends = (
                group("(]" if holes.shape[0] == "(" else "()", (ParsedAnswer(key="-inf"), low)),
                group("[)" if holes.shape[1] == ")" else "()", (high, ParsedAnswer(key="inf"))),
            )
            left = [end for end in ends if "inf;inf" not in end.key and "-inf;-inf" not in end.key]
            return join(left) if left else group("{}", ())
        return all_but(holes.parts if holes.shape == "{}" else (holes,))
    if len(without) == 2 and without[0].strip()[:1] in ("(", "["):
        return _without(_structure(without[0], depth + 1), _structure(without[1], depth + 1))
    return None


def _without(interval: ParsedAnswer, holes: ParsedAnswer) -> ParsedAnswer:
    """(0, 5) without {2} is (0, 2) and (2, 5)."""
    inner = sorted(holes.parts if holes.shape == "{}" else (holes,), key=_size)
    if interval.kind != "group" or len(interval.parts) != 2 or interval.shape == "{}":
        raise Unparsed("something without a point that is no interval")
    ends = [interval.parts[0], *inner, interval.parts[1]]
    if not all(_size(low) < _size(high) for low, high in pairwise(ends)):
        raise Unparsed("a hole that is not inside")
    shapes = [interval.shape[0] + ")", *["()"] * (len(inner) - 1), "(" + interval.shape[1]]
    return join([group(shape, ends_) for shape, ends_ in zip(shapes, pairwise(ends), strict=True)])


def _size(end: ParsedAnswer) -> Decimal:
    if end.key in ("inf", "-inf"):
        return Decimal(end.key)
    if end.node is None or magnitude(end.node) is None:
        raise Unparsed("an end that is no number")
    return real_part(end.node)


def _plus_minus(text: str, depth: int) -> ParsedAnswer | None:
    if r"\pm" not in text and r"\mp" not in text:
        return None
    signs = [("+", "-"), ("-", "+")]
    both = [re.sub(r"\\mp(?![a-z])", minus, re.sub(r"\\pm(?![a-z])", plus, text)) for plus, minus in signs]
    return set_of(_structure(one.removeprefix("+"), depth + 1) for one in both)


_TEX_ANGLES = re.compile(r"\\langle(?![a-z])(.*?)\\rangle(?![a-z])", re.DOTALL)
_ANGLED = re.compile(r"^<([^<>=]*,[^<>=]*)>$")
_TRANSPOSED = re.compile(r"^[\[(]([^\[\]()]*,[^\[\]()]*)[\])] ?\^ ?(?:\{ ?(?:T|\\top) ?\}|T|\\top)$")  # (1, 2)^T


def _brackets(text: str, depth: int) -> ParsedAnswer | None:
    """(a, b), [a, b), \\{a, b\\}, \\langle a, b\\rangle, [[1,2],[3,4]]."""
    text = _ANGLED.sub(r"(\1)", _TRANSPOSED.sub(r"(\1)", text))
    if re.match(r"[A-Z]\s?\([^()]*,[^()]*\)$", text):  # the point P(4, -1)
        text = text[1:].lstrip()
    is_set = text.startswith((r"\{", "{"))
    inner = text.replace(r"\{", "{").replace(r"\}", "}") if is_set else text
    if len(inner) < 2 or inner[0] not in "([{" or not _encloses(inner):
        return None
    inside = inner[1:-1].strip()
    if is_set:
        condition = _split(inside, r"\||:")
        if len(condition) > 2 and re.fullmatch(r"[a-zA-Z]\s*(?:\\in.*)?", condition[0]):  # {x : |x| > 2}
            condition = [condition[0], inside[len(condition[0]) + 1 :]]
        if len(condition) == 2:  # {x | x > 2}
            return _structure(condition[1], depth + 1)
        if not inside:
            return ParsedAnswer(key="{}", kind="other")
    members = _members(inside)
    if is_set and len(members) == 1 and not text.startswith("\\{"):  # braces that only group
        return _structure(inside, depth + 1)
    if is_set and (len(members) > 1 or text.startswith(r"\{")):
        return set_of(_structure(member, depth + 1) for member in members)
    if len(members) < 2:
        return None
    if inner[0] == "[" and all(member.strip().startswith("[") and member.strip().endswith("]") for member in members):
        return _rows([_members(member.strip()[1:-1]) for member in members], depth)
    parts = tuple(_structure(member, depth + 1) for member in members)
    shape = inner[0] + inner[-1]
    return group(open_at_infinity(shape, parts) if len(parts) == 2 else "()", parts)


def _encloses(text: str) -> bool:
    """The first bracket closes at the very end; round and square ones may be mixed, as in [2,5)."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return index == len(text) - 1
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
    separators = {match.start(): match.end() for match in re.finditer(separator, text)}
    for index, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if index in separators and depth == 0 and index >= start:
            pieces.append(text[start:index])
            start = separators[index]
    return [*pieces, text[start:]]


_SUM_OF_THOUSANDS = re.compile(r"(?:[^,]|(?<=\d),(?=\d{3}(?!\d)))*\d\s*[-+*/=]\s*\d(?:[^,]|(?<=\d),(?=\d{3}(?!\d)))*")


_GOES_ON = re.compile(r",\s*(?:(?:and so on|etc)\b.*|\\[lc]?dots)$")
_LAKHS = re.compile(r"(-?(?:[0-9]{1,2},)(?:[0-9]{2},)*[0-9]{2},[0-9]{3}(?:\.[0-9]+)?)( [a-zA-Z /]{1,40})?")


def _lakhs(match: re.Match[str], depth: int) -> ParsedAnswer:
    """12,34,567 is 1234567 in India, and a list of three elsewhere: beside either it says that."""
    number = _structure(match[1].replace(",", "") + (match[2] or ""), depth + 1)
    members = group("{}", tuple(scalar(member) for member in match[1].split(",")))
    return replace(members, sides=(members, number))


def _list(text: str, depth: int) -> ParsedAnswer | None:
    """Members without brackets: a set, or a tuple in the order of their names (x = 1, y = 2)."""
    if "," in text and _GOES_ON.search(text):
        raise Unparsed("a list that goes on")
    listed, text = text, _JOINTS.sub(", ", text)
    if text.count(",") > 1 and (lakhs := _LAKHS.fullmatch(text)):
        return _lakhs(lakhs, depth)
    if re.fullmatch(r"[^,]*\d{1,3}(?:,\d{3})+(?!\d)[^,]*", text) or _SUM_OF_THOUSANDS.fullmatch(text):
        return None  # 1,234 is a number
    cases = _split(listed, ";") if ";" in listed and listed.count("=") > 3 else []
    if len(cases) > 1 and all(case.count("=") > 1 for case in cases):  # x = 1, y = 2; x = 3, y = 4
        return set_of(_structure(case, depth + 1) for case in cases)
    members = [member for member in _members(text) if member.strip()]
    if len(members) < 2:
        return None
    parts = [_as_set(_structure(member, depth + 1), member) for member in members]
    if len({part.kind == "words" for part in parts}) > 1:
        raise Unparsed("words among numbers")
    if parts[0].key in ("t:yes", "t:no") and any(part.key not in ("t:yes", "t:no") for part in parts):
        raise Unparsed("a remark after yes or no")
    if len({part.key for part in parts}) == 1 and re.search(r"\bor\b", listed):  # 1/2, or 50%
        return parts[0]
    names = {part.name for part in parts}
    both = _between(parts) if len(parts) == 2 else None
    if both is not None:
        return both
    if len(names) == 1 and _are_intervals(parts):
        return join(parts)
    if len(names) == 2 and "" in names and parts[0].name:  # x = 1, 2
        names.discard("")
        if any(part.name for part in parts[1:]):
            raise Unparsed("statements and values")
    if len(names) == len(parts) and "" not in names:
        return group("()", tuple(sorted(parts, key=lambda part: _place(part.name, names))))
    if len(names) > 1:
        raise Unparsed("several statements about several variables")
    members_ = group("{}", tuple(parts))
    mixed = _MIXED.fullmatch(listed)
    if mixed:  # 3 and 1/4 may be 3 1/4
        whole = scalar(f"{mixed[1]} {mixed[2]}")
        return replace(members_, sides=(members_, whole)) if whole.key != scalar(mixed[2]).key else members_
    return members_


def _place(name: str, names: set[str]) -> tuple[int, str]:
    """Where a named member stands: polar coordinates in their order, others by their letters, Latin ones first."""
    place = _NAMES_IN_ORDER[name] if names <= set(_NAMES_IN_ORDER) else int(name.startswith("\\"))
    return place, name


def _as_set(part: ParsedAnswer, text: str) -> ParsedAnswer:
    """In a list of sets, a set of one is not its member: {1}, {2} is not 1, 2."""
    is_single = text.strip().startswith("\\{") and part.shape != "{}" and part.key != "{}"
    return ParsedAnswer(key=f"{{{part.key}}}", kind="other", parts=(part,)) if is_single else part


def _are_intervals(parts: list[ParsedAnswer]) -> bool:
    """Pairs of which one is half open, or has no end, are intervals and no points."""
    if not all(part.kind == "group" and len(part.parts) == 2 and part.shape != "{}" for part in parts):
        return False
    ends = {end.key for part in parts for end in part.parts}
    return any(part.shape in ("(]", "[)") for part in parts) or not ends.isdisjoint(("inf", "-inf"))


def _between(parts: list[ParsedAnswer]) -> ParsedAnswer | None:
    """x >= 1 and x < 4: what lies between the two bounds; x < 1, x > 4: what lies beyond them."""
    low, high = parts if parts[0].parts and parts[0].parts[-1].key == "inf" else parts[::-1]
    is_pair = low.name and low.name == high.name and len(low.parts) == len(high.parts) == 2
    if not is_pair or low.parts[1].key != "inf" or high.parts[0].key != "-inf":
        return None
    bottom, top = low.parts[0].node, high.parts[1].node
    are_numbers = bottom and top and magnitude(bottom) is not None and magnitude(top) is not None
    if bottom and top and are_numbers and real_part(bottom) > real_part(top):
        return join(parts)
    return replace(group(low.shape[0] + high.shape[1], (low.parts[0], high.parts[1])), name=low.name)


def _is_factorial(number: str, value: str) -> bool:
    """Is 5!=120 what 5! comes to?"""
    is_number = re.fullmatch("[0-9]{1,2}", number) is not None
    return is_number and re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", value) == str(math.factorial(int(number)))


_RESTRICTS = re.compile(
    r"\b(?:not|never|rather|instead|unless|iff|if|when|whenever|where|whereas|while|except|versus|vs)\b", re.IGNORECASE
)


def _check_chain(sides: list[str]) -> None:
    """Raise Unparsed where the numbers of x = 7 + 9 = 50 differ: it says nothing. A last one may be rounded."""
    known = []
    for side in sides[1:] if len(sides) > 2 else ():
        try:
            node = scalar(side).node
        except Unparsed:
            continue
        if node is not None and magnitude(node) is not None:
            known.append(real_part(node))
    if any(abs(value - known[-1]) > abs(known[-1]) / 50 for value in known[:-1]):
        raise Unparsed("an equation whose sides differ")


def _relation(text: str, depth: int) -> ParsedAnswer | None:
    found = _RELATION.finditer(text)
    signs = [sign for sign in found if text.count("(", 0, sign.start()) == text.count(")", 0, sign.start())]
    if not signs:
        return None
    starts = [0, *(sign.end() for sign in signs)]
    ends = [*(sign.start() for sign in signs), len(text)]
    sides = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    operators = [sign[0] for sign in signs]
    if operators[0] == "!=" and len(sides) == 2 and _is_factorial(text[: signs[0].start()], sides[1]):
        return equation([sides[0] + "!", sides[1]], scalar(sides[1]))
    if operators[0] == r"\in":
        inner = _structure(text[signs[0].end() :], depth + 1)
        return replace(inner, name=sides[0])
    if all(operator == "=" for operator in operators):
        if any(_RESTRICTS.search(side) for side in sides):
            raise Unparsed("an equation and when it holds")
        _check_chain(sides)
        if len(sides) == 2 and re.fullmatch("[a-zA-Z]", sides[1]) and not re.search(r"(?<!\\)\b[a-zA-Z]", sides[0]):
            sides.reverse()  # 5 = x
        return equation(sides, _structure(sides[-1], depth + 1))
    if "=" in operators or r"\in" in operators:
        raise Unparsed("a mixed chain of relations")
    return inequality(sides, operators)
