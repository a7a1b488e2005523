"""What an answer says: a number, a group of them, words; and the key by which two answers are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from ponder.grading.expressions import parse
from ponder.grading.tree import Node, Unparsed, leaves
from ponder.grading.values import fingerprint, magnitude, real_part


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """What an answer says. `key` is all that equality looks at; the rest is for frames."""

    key: str
    kind: str = "scalar"  # scalar, equation, group, other, words, opaque (mathematics that is not understood)
    node: Node | None = None  # scalar: its tree; equation y = ...: the right-hand side
    name: str = ""  # the variable of x = 5 or 2 < x < 5
    shape: str = ""  # group: "()", "[]", "(]", "[)", "{}"; other: "ratio", "clock"
    parts: tuple[ParsedAnswer, ...] = ()
    sides: tuple[ParsedAnswer, ...] = ()  # what each side of m + n = 5 and of \\sqrt{2} \\approx 1.41 says by itself
    is_huge: bool = False  # a number beyond computing, so not equal to any other

    @property
    def is_understood(self) -> bool:
        """Whether another key surely means another answer: False where it, or a part of it, is opaque."""
        return self.is_huge or (self.kind != "opaque" and all(part.is_understood for part in self.parts))


_REPEATING = re.compile(
    r"(-?)([0-9]{0,30})\.([0-9]{0,30})(?:\\(?:overline|bar|dot)\s*\{?([0-9]{1,30})\}?|\(([0-9]{1,30})\))"
    r"(\s*\\?%)?"
)
_TWO_DOTS = re.compile(r"\\dot\s*\{?([0-9])\}?([0-9]{0,20})\\dot\s*\{?([0-9])\}?")
_GOES_ON = re.compile(r"(-?[0-9]{0,30}\.[0-9]{0,20}?)([0-9]{1,12}?)\2+\s*(?:\.\.\.|\\[lc]?dots)")  # 0.333...


def scalar(text: str) -> ParsedAnswer:
    """A number or an expression, repeating decimals included (0.1(6) = 1/6, 33.(3)% = 1/3); raises Unparsed."""
    if text.count("\\dot") == 2:
        text = _TWO_DOTS.sub(r"\\overline{\1\2\3}", text)
    repeating = _REPEATING.fullmatch(_GOES_ON.sub(r"\1(\2)", text) if text.endswith(("...", "dots")) else text)
    if repeating:  # 0.1\overline{6} = 0.1(6) = 0.1666... = 1/6
        sign, whole, start = repeating.groups()[:3]
        block = repeating[4] or repeating[5]
        value = Fraction(int((whole + start + block) or 0) - int((whole + start) or 0), 10 ** len(start))
        node: Node = ("num", value / (10 ** len(block) - 1) * (-1 if sign else 1))
        node = ("mul", node, ("unit", "%")) if repeating[6] else node
    else:
        node = parse(text)
    return ParsedAnswer(key=fingerprint(node), node=node)


_FILLER = re.compile(
    r"^(?:(?:(?:the|this) (?:equation|system|inequality|problem) has"
    r"|(?:it|(?:the|this) (?:series|sequence|integral|limit|function|product))(?= (?:(?:con|di)verges|do(?:es)?\b))"
    r"|the|a|an|on|in|at|by|it(?:'s| is| was| will be| must be| falls on)|there (?:is|are|exists?)) (?=\S))+"
)
_SENTENCE = re.compile(
    r"(?!.*\b(?:not|no|none|never|neither|nobody|hardly|if|whether|wrong|incorrect|i|we|you)\b)"
    r"(?:[\w'-]+ ){1,4}(?:is|was|will be|must be) (?:an? |the )?((?!(?:that|as|in|at|on|by|of|to)\b)[a-z]{2,})"
)
_MOST = r"(?:most|least|fewest|[a-z]{2,}est)\b(?: [\w'’-]+){0,8}"
_NAMED = re.compile(  # Evelyn is the fastest, has the most cards, is the girl with the highest mark, won
    r"(?!.*\b(?:not|never|no|nobody|none|second|third|fourth|2nd|3rd|next|last|except|but|or|nor|and|than|while|whereas|if"
    r"|whether|when|might|may|could|would|should|almost|nearly|unless|until|wrong|incorrect|doubts?|after|behind|before"
    r"|besides|apart|like|as|says?|said|thinks?|thought|claims?|claimed|believes?|guess|whose|losers?)\b)(?!.*n['’]t\b)"
    r"(?:(?:so|thus|hence|therefore),? )?(?P<who>[\w'’.-]+(?: [\w'’.-]+){0,2}?) "
    rf"(?:(?:is|was|has|had) the (?:[a-z]+ (?:with|that|who) (?:[a-z]+ )?the )?{_MOST}"
    r"|(?:is|was) the (?:winner|champion|culprit|(?:(?:correct|right) )?answer|only (?:one|1)"
    r"|(?:one|1) (?:who|that|with))\b(?: [\w'’-]+){0,8}|(?:is|was|came|finished|finishes) first"
    r"|(?:won|wins)(?: the [a-z]+)?"
    r"|(?:ate|eats|got|gets|sold|made|makes|read|reads|drank|took|takes|bought|spent|spends|scored|earned|earns|collected"
    r"|paid|pays|ran|runs|jumped|jumps|walked|drove|swam|swims|flew|threw|received|picked|saved|found|caught|baked|planted"
    rf"|weighs|weighed|traveled|travels) the {_MOST})"
)
_YES_NO = re.compile(
    r"(?:(?:so|thus|hence|therefore),? )?(yes|no)(?:\s?[,.;:!—–]|(?= (?:it|they|he|she|this|that) )) "
    r"(?!.*\b(?:yes|no|wait|actually)\b).{1,100}"
)
_NOTHING = re.compile(
    r"none|(?:solution )?set is empty"
    r"|(?:no|the empty)(?: (?:real|integer|positive|such|possible|valid))* (?:solutions?|roots?|sets?)(?: exists?)?"
    r"|(?:the )?empty set"
)
_ALL_REALS = re.compile(
    r"(?:set of )?(?:(?:all|any|every) )?(?:reals|real numbers?(?: [a-z])?|real values?(?: (?:of|for) [a-z])?)"
    r"|all real [a-z]"
)
_UNDEFINED = re.compile(r"dne|(?:the )?(?:(?:it|limit|value|sum) )?(?:does not|doesn't|do not|don't) exist")
_TWO_CLAIMS = re.compile(r"=.*\b(?:not|never|rather than|instead of|unless|iff|when|whereas)\b.*=")  # no formula
_FACTORIAL = re.compile(r"(?<![A-Za-z])[a-z]!|\)!")
_MANY = re.compile(r"(?:infinitely many|an? infinite number of|infinite)(?: (?:real|integer))?(?: solutions?| roots?)?")


_SHORT_NAMES = {
    name: full for full in "monday tuesday wednesday thursday friday".split() for name in (full[:3], full[:4])
}
_SHORT_NAMES |= {name[:3]: name for name in "january february april august september october november december".split()}
_SHORT_NAMES |= {"thurs": "thursday", "sept": "september"}


def words(text: str) -> ParsedAnswer:
    """Plain words, or mathematics that this file does not understand."""
    plain = re.sub(r"\\(?:text(?:rm|bf|it|normal)?|mbox|math(?:rm|bf|it))\s*\{([^{}]*)\}", r"\1", text)
    plain = _FILLER.sub("", " ".join(plain.split()).strip().rstrip(".!").casefold())
    if said := _YES_NO.fullmatch(plain):
        return ParsedAnswer(key="t:" + said[1], kind="words")
    if _TWO_CLAIMS.search(plain):
        return ParsedAnswer(key="t:" + plain, kind="words")
    if re.search(r"[\\^_{}=<>*/+|]|\d\s*[-(]", plain) or _FACTORIAL.search(text):
        return ParsedAnswer(key="t:" + re.sub(r"\s", "", text), kind="opaque")
    if _NOTHING.fullmatch(plain):
        return ParsedAnswer(key="{}", kind="other")
    if _ALL_REALS.fullmatch(plain):
        return ParsedAnswer(key="(-inf;inf)", kind="other")
    if plain in ("all integers", "integers", "set of integers", "set of all integers"):
        return ParsedAnswer(key="set:Z", kind="other")
    if _UNDEFINED.fullmatch(plain):
        plain = "does not exist"
    elif _MANY.fullmatch(plain):
        plain = "infinitely many"
    elif best := _NAMED.fullmatch(plain):
        plain = best["who"]
    elif said := _SENTENCE.fullmatch(plain):
        plain = said[1]
    if plain in ("infinity", "positive infinity"):
        return scalar("\\infty")
    plain = _SHORT_NAMES.get(plain.rstrip("."), plain)
    return ParsedAnswer(key="t:" + plain, kind="words")


def group(shape: str, parts: tuple[ParsedAnswer, ...]) -> ParsedAnswer:
    """A tuple, list, interval or set, by its two brackets. A set is sorted, and a set of one is its member."""
    if shape == "{}":
        parts = tuple(sorted(parts, key=lambda part: part.key))
        if len(parts) == 1 and parts[0].key != "{}":
            return parts[0]
    key = shape[0] + ";".join(part.key for part in parts) + shape[1]
    return ParsedAnswer(key=key, kind="group", shape=shape, parts=parts)


def set_of(parts: Iterable[ParsedAnswer]) -> ParsedAnswer:
    """A set has no member twice, a plain list may: the angles 45, 45, 90."""
    members = {member.key: member for part in parts for member in (part.parts if part.shape == "{}" else (part,))}
    return group("{}", tuple(members.values()))


def join(parts: list[ParsedAnswer]) -> ParsedAnswer:
    """The union of intervals and points; their order does not matter, and a union of one is that one."""
    keys = sorted({key for part in parts for key in part.key.removeprefix("u:").split("|")})
    key = keys[0] if len(keys) == 1 else "u:" + "|".join(keys)
    return ParsedAnswer(key=key, kind="other", name=parts[0].name, parts=tuple(parts))


def all_but(holes: tuple[ParsedAnswer, ...], name: str = "") -> ParsedAnswer:
    """All real numbers but some."""
    if any(hole.node is None or magnitude(hole.node) is None for hole in holes):
        raise Unparsed("the reals without something that is no number")
    ends = sorted({hole.key: real_part(hole.node) for hole in holes if hole.node}.items(), key=lambda end: end[1])
    keys = ["-inf", *(key for key, _ in ends), "inf"]
    key = "u:" + "|".join(sorted(f"({low};{high})" for low, high in pairwise(keys)))
    return ParsedAnswer(key=key, kind="other", name=name)


def open_at_infinity(shape: str, ends: tuple[ParsedAnswer, ...]) -> str:
    """[2, inf] is [2, inf): an end at infinity is open, however it is written."""
    return ("(" if ends[0].key == "-inf" else shape[0]) + (")" if ends[1].key == "inf" else shape[1])


def ratio_key(numbers: list[int]) -> str:
    """In lowest terms: [6, 8] -> "ratio:3:4"."""
    divisor = math.gcd(*numbers) or 1
    return "ratio:" + ":".join(str(number // divisor) for number in numbers)


def symbols_of(reading: ParsedAnswer) -> set[str]:
    """The names of the variables in its tree and in its parts."""
    found = {leaf[1] for leaf in leaves(reading.node) if leaf[0] == "sym"} if reading.node else set()
    return found.union(*(symbols_of(part) for part in reading.parts)) if reading.parts else found
