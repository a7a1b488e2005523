r"""Atoms: the numbers and formulas of running text, each read as a whole and never from its inside.

    atoms(r"So $\frac{5}{36}$ of the 36 pairs (about 14 %).")   -> [r"\frac{5}{36}", "36"]

An atom is a delimited formula, a tuple or an interval in brackets, a run of TeX or of algebra, or a number with its
scale word (5 million) or its compound (2 hours 30 minutes). `1 and 3` and `1, 3` are one atom of two members. Left out:
remarks in brackets, labels (Step 3, Question 5), what is denied ("not 42"), and lone letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ponder.grading.denials import is_denied, is_refuted
from ponder.grading.units import SCALES, UNITS

_WINDOW = 3_000  # characters that are looked at, from the end; where they hold no atom, as many before them
_LAST = 300  # of these, first
_LONGEST = 400  # characters of one atom

_AMOUNT = r"[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?![0-9])|[0-9]{1,3}(?:[,'][0-9]{3})+(?![0-9])|[0-9]+"
_NUMBER = re.compile(
    rf"[-+−–]?(?:\$|\\\$|€|£|¥)?\s?(?:(?:{_AMOUNT})(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"(?:\s?/\s?[0-9]+|(?::[0-9]+)*\s?[apAP]\.?[mM]\b|(?::[0-9]+)+|\s[0-9]+/[0-9]+)?(?:\s?\\?%|\s?°)?"
)
_START = re.compile(
    r"\$\$?|\\[(\[]|\\[a-zA-Z{]|[(\[{|√∛]|(?<![\w.\\])[-+−–]?(?:[€£¥]|\\\$)?\.?[0-9]"
    r"|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])(?=\s?(?:[\^_=+*/(<>≤≥]|\\(?:leq?|geq?|lt|gt)(?![a-z])))"
)
_FORMULA = re.compile(
    r"\$\$(.{1,500}?)\$\$|(?<!\\)\$((?:[^$\\]|\\.){1,500})\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL
)
_PIECE = re.compile(
    r"\\[a-zA-Z]+|\\[{}|,;!%$ ]|[0-9]+(?:[.,][0-9]+)*|\.[0-9]+|[a-zA-Z](?![a-zA-Z])"
    r"|(?:sin|cos|tan|ln|log|sqrt|exp|pi)\b|[-+*/^_=<>!'|°%×÷·−≤≥≠πθ√∛∞¹²³⁰⁴-⁹½¼¾⅓⅔]"
)
_GAP = re.compile(  # white space around an operator, inside a run
    r"\s{1,3}(?=(?:[-+*/=×÷·−≤≥]|[<>]=?)\s|\\(?:cdot|times|div|le|ge|leq|geq|frac|sqrt|pi|cup|pm|approx)\b)"
    r"|(?<=[-+*/=<>×÷·−≤≥])\s{1,3}|(?<=cdot|imes)\s{1,3}"
)
_SCALE = re.compile(rf"\s+(?:{'|'.join(SCALES)})\b(?:\s+(?:{'|'.join(SCALES)})\b)*", re.IGNORECASE)
_MONEY_SCALE = re.compile(r"\s?(?:[kKMB]|bn)(?![A-Za-z0-9])")  # $1.25k
_UNIT = re.compile(r"\s?([a-zA-Z]{1,12})\b\.?")
_JOINT = re.compile(
    r"\s*(?:,\s*(?:and|or)?|\band\b|\bor\b|&|\bvs\b\.?|\bversus\b|,?\s*\b(?:as\s+well\s+as|(?:along|together|combined)\s+with|alongside|besides|in\s+addition\s+to)\b"
    r"|,?\s*\b(?:but|though|unless)\s+(?:it|that|this)\s+(?:(?:might|could|may)\s+(?:also\s+)?be|(?<=unless it )is)\b)"
    r"\s*(?:also\s+|maybe\s+|perhaps\s+|possibly\s+|else\s+)?",
    re.IGNORECASE,
)
BOUND_SIGN = re.compile(r"[<>≤≥]|\\[lg]eq?(?![a-z])")
_MINUS = re.compile(r"(?<![0-9]\s)\b(?:minus|negative)\s+$", re.IGNORECASE)
_NEGATED = re.compile(r"[0-9.,]+|\\[dt]?frac\{\d+\}\{\d+\}")
_LABEL = re.compile(
    r"(?:\b(?:step|part|question|problem|exercise|task|case|option|eq|equation|figure|fig|table|example|section|chapter|page"
    r"|method|hint|attempt|lemma|theorem|version)s?|\bno)\.?[\s*_]*#?\s*$|#$|\b(?:reward|verdict|grade|confidence|certainty)\s*[:=]\s*$"
    r"|\"(?!(?:[a-z]+_)?(?:answer|ans|result|solution|value|total|output|sum|x|y)\")\w{1,40}\"\s*:\s*\"?$",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:=|≈|\\approx|:|\b(?:is|are|was|were|be|equals?|gives?|makes?|gets?|totals?|becomes?|yields?|takes?|at|as)\b)\s*:?[\s*]*"
    r"(?:(?:exactly|about|only|now|then|just|approximately|a\s+total\s+of|equal\s+to|therefore|thus|at|either|simply)\s+){0,2}[*_]*$",
    re.IGNORECASE,
)
_CONCLUDED = re.compile(  # "so she has 72"
    r"\b(?:so|thus|hence|therefore)\b,? (?:(?:he|she|it|they|we|I|there|you|the|[A-Z][a-z]+)\b[^.!?,;:\n0-9]{0,40} )?$"
)
_BOLD = re.compile(r"(?![.):])[^*\n]{0,40}\*\*")
_WEAK = re.compile(
    r"(?::|\b(?:takes?|at|as)\b)\s*:?[\s*]*(?:(?!(?:is|are|was|equals?|gives?)\b)\w+\s+){0,2}[*_]*$", re.IGNORECASE
)
_GOES_ON = re.compile(r"\s*[-+*/×÷]\s*[$€£¥]?[0-9]|[.,][0-9]")
_COMPARED = re.compile(r"\s+(?:more|less|fewer|times|greater|higher|larger|smaller|longer|shorter|bigger)\b")
_NO_ANSWER = re.compile(
    r"(?:not|n't|\bunable\s+to|\bfail(?:ed)?\s+to)\s+(?:\w+\s+){0,2}?(?:find|solve|determine|know|tell|figure|compute|work\s+out"
    r"|calculate|answer|finish|complete|decide|help|understand)\b|\bno\s+(?:answer|idea|clue)\b|\bg[ia]ve\s+up\b|\btoo\s+(?:hard|difficult)\b"
    r"|(?:\bnot|n't)\s+(?:enough|sufficient)\b|\binsufficient\b|\bunclear\b|n't\s+have\s+an\s+answer\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\blet(?:'s|’s|\s+(?:me|us))\s+(?!(?:\w\b))[a-z][^.!?\n]{0,60}$", re.IGNORECASE)  # "Let me try 12"
_BESIDE = re.compile(r"\b(?:after|before|within|during|every|per|out\s+of(?:\s+the)?|[0-9]\s+of)\s+$", re.IGNORECASE)
_REASON = re.compile(r"[0-9][^.!?\n]*\b(?:because|since)\b[^.!?\n]*$")  # 9 buses since 8 hold 320 students
_GIVEN = re.compile(  # the mean is 60, as the sum is 300
    r"(?:\b(?:is|are|was|were|be|equals?|gives?)\b|=)[\s$*(\\-]*[0-9\\](?:[^.!?\n]|\.(?=\d)){0,60}?,?\s+"
    r"(?:because|since|given\s+that|as\s+(?:the|there|it|we|each|this|that|they))\b"
    r"(?:(?!\b(?:so|thus|hence|therefore|then)\b)(?:[^.!?\n]|\.(?=\d)))*$",
    re.IGNORECASE,
)
_LED = re.compile(r"\b(?:since|because|given(?:\s+that)?|as)\s+[^.!?,;\n]{0,40}$", re.IGNORECASE)
_MORE_THAN = re.compile(
    r"\s+(?:[a-z]+\s+)?(?:more|less|fewer|greater|higher|larger|smaller|longer|shorter)\b[^.!?\n]{0,40}\bthan\b"
)
_ASKED = re.compile(r"[^.!?,;\n]{0,40}\?(?=\s|$)(?!\s*(?:yes|right|correct)\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Atom:
    """A piece of a text that may be its answer. It stands at start:end of the text, which `text` need not equal."""

    text: str
    start: int
    end: int
    is_number: bool


def stated(text: str, lines: list[tuple[int, str]] | None = None) -> str | None:
    """The last atom that is stated as a result, or a line that is an answer if it comes later; else the last atom.

    `lines`: indices and texts of lines that are one answer and nothing else.
    """
    end, size = len(text), _LAST
    while end > 0:
        begin = max(0, end - size)
        if begin:
            begin = next((match.end() for match in re.finditer(r"\s", text[begin:end])), 0) + begin
        found = _atoms(text, begin, end)
        results = [
            (atom.start, atom.text)
            for atom in found
            if _is_stated(text, atom) and ("=" in atom.text or not _ASKED.match(text, atom.end))
        ]
        results += [line for line in lines or () if begin <= line[0]]
        if results:
            return max(results)[1]
        if size == _LAST and begin:  # nothing is stated in the last lines: look further
            size = _WINDOW
            continue
        if found:
            if _NO_ANSWER.search(text[-_WINDOW:]):
                return None
            claimed = [atom for atom in found if not _is_idle(text, atom)]
            firm = [atom for atom in claimed if not _is_beside(text, atom)]
            return (firm or claimed)[-1].text if claimed else None
        end = begin if begin < end else 0
    return None


def ends_stated(text: str) -> bool:
    """Is the last atom stated as a result?"""
    found = _atoms(text, max(0, len(text) - _LAST), len(text))
    return bool(found) and _is_stated(text, found[-1])


def atoms(text: str) -> list[str]:
    """The atoms of a text, in order."""
    return [atom.text for atom in _atoms(text, 0, len(text))]


def _is_idle(text: str, atom: Atom) -> bool:
    """Is it asked about or announced, and not claimed?"""
    return (
        _ASIDE.search(text[max(0, atom.start - 80) : atom.start]) is not None
        or _ASKED.match(text, atom.end) is not None
    )


def _is_beside(text: str, atom: Atom) -> bool:
    """Does it only say after how much, why, or how much more than something else?"""
    before = text[max(0, atom.start - 120) : atom.start]
    return (
        _BESIDE.search(before[-20:]) is not None
        or (("because" in before or "since" in before) and _REASON.search(before) is not None)
        or _MORE_THAN.match(text, atom.end) is not None
    )


def _is_stated(text: str, atom: Atom) -> bool:
    before = text[max(0, atom.start - 60) : atom.start]
    if before.rstrip("$").endswith("**") and _BOLD.match(text, atom.end):
        return True
    is_compared = before.rstrip("$ ")[-1:] != "=" and _COMPARED.match(text, atom.end)  # "= 5 more" says 5
    if _is_reason(text, atom):
        return False
    is_said = _STATED.search(before) or _CONCLUDED.search(before)
    if not is_said or is_compared or _GOES_ON.match(text, atom.end):
        return "=" in atom.text
    return not (_WEAK.search(before) and atom.is_number)


def _is_reason(text: str, atom: Atom) -> bool:
    """Does it stand in a reason for what is stated before it?"""
    before = text[max(0, atom.start - 200) : atom.start]
    return any(word in before for word in ("ecause", "ince", "iven that", " as ")) and _GIVEN.search(before) is not None


def _atoms(text: str, index: int, end: int) -> list[Atom]:
    found: list[Atom] = []
    while start := _START.search(text, index, end):
        index = start.start()
        atom, index = _atom(text, index, end)
        if atom is None:
            continue
        before = text[max(0, atom.start - 40) : atom.start]
        if atom.is_number and (_is_item(text, atom) or _is_heading(text, atom)):
            continue
        if BOUND_SIGN.search(atom.text) and _NARROWED.match(text, atom.end):
            continue
        is_number = atom.is_number or (atom.text[0] == "(" and atom.text[1:-1].isdigit())
        if atom.is_number and len(atom.text) < 14 and (day := _date(text, atom, end)):
            atom, index = day, max(index, day.end)
            before = text[max(0, atom.start - 40) : atom.start]
            if _BESIDE_A_DAY.search(before):
                continue
        if is_denied(before) or (is_number and _LABEL.search(before)) or is_refuted(text, atom.end):
            continue
        if atom.is_number and (minus := _MINUS.search(before)):
            atom = Atom("-" + atom.text.lstrip(), atom.start - len(before) + minus.start(), atom.end, True)
        if not atom.is_number and _MINUS.search(before):
            if not _NEGATED.fullmatch(atom.text):  # less something that was not read
                continue
            atom = Atom("-" + atom.text, atom.start, atom.end, False)
        last = found[-1] if found else None
        between = text[last.end : atom.start] if last else ""
        if last and len(between) < 30 and _JOINT.fullmatch(between) and not _are_apart(text, last, between, atom):
            is_open = re.search(r"\b(?:maybe|perhaps|possibly|might|could|may)\b", between)
            joint = (
                " or maybe "
                if is_open
                else " or "
                if re.search(r"\bor\b", between)
                else " and "
                if "and" in between
                else ", "
            )
            found[-1] = Atom(last.text + joint + atom.text, last.start, atom.end, False)
        elif (
            last
            and between
            and not between.strip(" ")
            and _is_row(last.text + atom.text, text[atom.end : atom.end + 1])
        ):
            found[-1] = Atom(last.text + " " + atom.text, last.start, atom.end, False)  # 1 2 3 4
        else:
            found.append(atom)
    return found


_EQUALS = re.compile(r"(?<![<>!])=")
_NAME = re.compile(r"\\?[a-zA-Z]{1,8}(?:_\{?\w+\}?)?'*(?:\s?\([^()]*\))?|\([a-z, ]+\)")


def _are_apart(text: str, last: Atom, between: str, atom: Atom) -> bool:
    """A value or a condition, and the equation that follows: the probability is 8/9 and m + n = 17; x > 0, x = 6."""
    if not _EQUALS.search(atom.text) or re.search(r"\bor\b", between):
        return False
    has_comma_only = not re.search(r"[a-z&]", between)
    if has_comma_only and _LED.search(text[max(0, last.start - 60) : last.start]):
        return True
    if not _EQUALS.search(last.text):
        return has_comma_only or not re.search(r"[<>≤≥]|\\[lg][et]", last.text)
    own, others = (_NAME.fullmatch(_EQUALS.split(text)[0].strip()) is None for text in (atom.text, last.text))
    return own != others


_NARROWED = re.compile(r",?\s+(?:with|where)\b")  # x < 5 with x prime
_BESIDE_A_DAY = re.compile(r"\b(?:after|before|eve\s+of|until|since)\s+$", re.IGNORECASE)
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)(?:[a-z]{2,6})?\.?"
_MONTH_BEFORE = re.compile(rf"\b{_MONTH} $")
_DATE_FROM_MONTH = re.compile(rf"{_MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?(?:,? [12][0-9]{{3}}\b)?(?![\w/]|\.[0-9])")
_DATE_FROM_DAY = re.compile(
    rf"[0-9]{{1,2}} {_MONTH}(?:,? [12][0-9]{{3}})?(?!\w)|[0-9]{{1,2}}/[0-9]{{1,2}}/[0-9]{{4}}\b"
)


def _date(text: str, atom: Atom, end: int) -> Atom | None:
    """March 14, 2023 and 14 March 2023 are one atom, not two numbers."""
    if text[atom.start - 1 : atom.start] == " " and (
        month := _MONTH_BEFORE.search(text, max(0, atom.start - 11), atom.start)
    ):
        date = _DATE_FROM_MONTH.match(text, month.start(), end)
    else:
        date = _DATE_FROM_DAY.match(text, atom.start, end)
    return Atom(date[0], date.start(), date.end(), False) if date else None


def _is_row(numbers: str, behind: str) -> bool:
    """1 2 3 4, but not 100 3-digit numbers."""
    return re.fullmatch("[0-9., ]+", numbers) is not None and not behind.isalnum() and behind not in ("-", "–")


_NUMBERED = re.compile(  # "31. First item", but not "31. I used 7 steps."
    r"[*_#>\s-]*[0-9]{1,3}(?:\)[*_]*\s+(?=[A-Za-z])|\.[*_]*\s+(?=[A-Za-z])(?!.*\b(?:is|are|was|were|am|has|have|had|be|I|we|you|it"
    r"|she|he|they|there|this|that|these|because|since|as|so|hence|thus|therefore|hope|check|verify|note|answer|result|done"
    r"|explanation|reason|proof|solution|used|using|wait|actually|no|or|sorry|oops|correction|however|but)\b))",
    re.IGNORECASE,
)


def after_item_number(text: str) -> int:
    """Where the text of a list item begins whose number the text begins with; 0 where it begins with none."""
    match = _NUMBERED.match(text)
    return match.end() if match else 0


def _is_heading(text: str, atom: Atom) -> bool:
    """Does it only count lines: 31. First item, 77: a label?"""
    if text[atom.end : atom.end + 1] == ":":
        is_label = re.compile(r":\s*(?:$|[A-Za-z])").match(text, atom.end) is not None
        return is_label and not _VALUE_BEFORE.search(text[max(0, atom.start - 30) : atom.start])
    if text[atom.end : atom.end + 1] not in (".", ")") or not atom.text.isdigit():
        return False
    line = text.rfind("\n", 0, atom.start) + 1
    if text[line : atom.start].strip(" *_#>-"):
        return False
    return after_item_number(text[line : (text.find("\n", line) + 1 or len(text) + 1) - 1][:300]) > 0


_VALUE_BEFORE = re.compile(r"(?:[=:]|\b(?:is|are|was|equals?|gives?|get|answer|obtain|have))\s*[$*_]*$", re.IGNORECASE)


def _is_item(text: str, atom: Atom) -> bool:
    """Is it the number of a list item, after the one before?"""
    if text[atom.end : atom.end + 1] not in (".", ")") or not atom.text.isdigit() or len(atom.text) > 2:
        return False
    head = text[max(0, atom.start - 2_000) : atom.start].rstrip(" ")
    return head.endswith("\n") and re.search(rf"^ *{int(atom.text) - 1}[.)]", head, re.MULTILINE) is not None


def _atom(text: str, index: int, end: int) -> tuple[Atom | None, int]:
    """The atom that begins at an index, None where there is none, and where to go on."""
    formula = _FORMULA.match(text, index, end)
    if formula and not is_money(formula):
        inside = next(group for group in formula.groups() if group is not None).strip()
        if re.fullmatch(r"[A-Za-z]?(?:_\w)?|\\[a-z]+", inside):  # a name that is spoken of
            return None, formula.end()
        unit = _UNIT.match(text, formula.end(), end)
        is_unit = unit is not None and unit[1] in UNITS and re.search("[0-9]", inside) and len(unit[1]) > 1
        stop = unit.end() if unit is not None and is_unit else formula.end()
        return Atom(text[index:stop] if is_unit else inside, index, stop, False), stop
    if text[index] == "(" and index > 1 and text[index - 2 : index].replace("_", "a").isalpha():  # print(12)
        return None, _closed(text, index, end) or index + 1
    if text[index] in "([{" or text.startswith(r"\{", index):
        closed = _closed(text, index, end)
        if closed is None:  # what is inside an open bracket is no answer: go on after its line
            line = text.find("\n", index, end)
            return None, end if line < 0 else line
        stop = closed
        inside = text[index:stop]
        is_remark = re.search(
            r"(?<!\\)\b[A-Za-z]{2,}\b", re.sub(r"\\(?:text|mathrm)\{[^{}]*\}|\b(?:inf|infinity|sqrt|pi)\b", "", inside)
        )
        if is_remark or not re.search(r"[0-9A-Za-z]", inside):
            return None, stop
        if re.search("[,;]", inside):
            stop = _run(text, stop, end) if text[stop : stop + 5].lstrip().startswith((r"\cup", "∪")) else stop
            return Atom(text[index:stop], index, stop, False), stop
        return _expression(text, index, end, stop)
    number = _NUMBER.match(text, index, end)
    if number:
        return _quantity(text, index, end, number.end())
    if (text[index] == "\\" and text[index + 1 : index + 2].isalpha()) or text[index] in "√∛|" or text[index].isalpha():
        return _expression(text, index, end, index)
    return None, index + 1


def _expression(text: str, index: int, end: int, at: int) -> tuple[Atom | None, int]:
    stop = _run(text, at, end)
    if stop <= index:
        return None, index + 1
    inside = text[index:stop].rstrip(" .,;:=+-*/<>!'|")
    if not re.search(r"[0-9√π∞]|\\(?:pi|infty|sqrt|frac|emptyset)\b|[A-Za-z].*[\^+*/=-].*[A-Za-z0-9]", inside):
        return None, stop
    return Atom(inside, index, index + len(inside), False), stop


def _quantity(text: str, index: int, end: int, stop: int) -> tuple[Atom | None, int]:
    """A number with what belongs to it: more algebra, a scale word, or smaller units in a compound."""
    run = _run(text, stop, end)
    inside = text[index:run].rstrip(" .,;:!'|=<>")
    if index + len(inside) > stop and inside[-1] not in "+-*/":
        return Atom(inside, index, index + len(inside), False), run
    if text[index] in "$€£¥\\" and (money := _MONEY_SCALE.match(text, stop, end)):
        return Atom(text[index : money.end()], index, money.end(), True), money.end()
    if text[stop : stop + 1].isalnum() and not _UNIT.match(text, stop, end):  # 3rd, 7up
        return None, stop + 1
    if re.match(r"(?:st|nd|rd|th)\b", text[stop : stop + 3]):
        return None, stop
    scale = _SCALE.match(text, stop, end)
    if scale:
        return Atom(text[index : scale.end()], index, scale.end(), True), scale.end()
    if (
        text[stop : stop + 1] in ("'", '"')
        and text[index - 1 : index] != text[stop]
        and not text[stop + 1 : stop + 2].isalnum()
    ):
        return Atom(text[index : stop + 1], index, stop + 1, True), stop + 1  # 12', 12"
    last = _base(text, stop, end)
    at = stop
    while last is not None:
        more = re.compile(r"\s*,?\s*(?:and\s+)?([0-9][0-9,]*(?:\.[0-9]+)?)(?=\s?[a-zA-Z])").match(text, last[1], end)
        following = _base(text, more.end(), end) if more else None
        if following is None or following[0] != last[0]:
            break
        at, last = following[1], following
    return Atom(text[index:at].strip(), index, at, True), at


def _base(text: str, index: int, end: int) -> tuple[str, int] | None:
    unit = _UNIT.match(text, index, end)
    if unit is None or unit[1] not in UNITS or UNITS[unit[1]][1] is None:
        return None
    return UNITS[unit[1]][0], unit.end()


def _run(text: str, index: int, end: int) -> int:
    """Where a run of mathematics that goes on at an index ends."""
    limit = min(end, index + _LONGEST)
    while index < limit:
        if text[index] in "([{" or text.startswith(r"\{", index):
            stop = _closed(text, index, limit)
            if stop is None or (
                re.search(r"[A-Za-z]{4,}|\s[A-Za-z]{2,}\s", re.sub(r"\\[a-zA-Z]+", "", text[index:stop]))
                and text[index] != "{"
            ):
                return limit if stop is None else index
            index = stop
            continue
        gap = _GAP.match(text, index, limit)
        piece = _PIECE.match(text, gap.end() if gap else index, limit)
        if piece is None:
            return index
        index = piece.end()
    return index


def _closed(text: str, index: int, end: int) -> int | None:
    """Where the bracket that opens at an index is closed; round and square ones may be mixed."""
    depth = 0
    for at in range(index, min(end, index + _LONGEST)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
            if depth <= 0:
                return at + 1
    return None


def is_money(formula: re.Match[str]) -> bool:
    """The text between the dollars of "$5 + $6" is no formula: it ends in a sign, or in the words of a sentence."""
    inside = next(group for group in formula.groups() if group is not None).strip()
    return (
        formula[0][0] == "$"
        and re.search(r"[-+*/=×÷]$|(?s:[0-9].*)\b[a-z]{2,}$|^[0-9.,]+\s+[a-z]{3,}\b|\n\s*\n", inside) is not None
    )
