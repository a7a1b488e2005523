r"""Extraction: where in a text its answer stands.

    extract("So the answer is \boxed{\frac12}.")   -> "\frac12"

What the answer says, and whether two say the same, is in `equality.py`. Every search here is linear in the text, and
only its last MAX_TEXT characters are looked at.
"""

from __future__ import annotations

import json
import re

from ponder.grading.atoms import after_item_number, atoms, is_money, stated
from ponder.grading.clauses import SENTENCE_END, SHORT, between, claimed, headed, is_answer, leading, reasoned
from ponder.grading.corrections import IS, alternative, has_cue, is_supposed, last_word, replacements, standing
from ponder.grading.denials import is_refuted
from ponder.grading.equality import MAX_ANSWER, read
from ponder.grading.frames import key_in
from ponder.grading.labelled import labelled
from ponder.grading.number_words import with_digits
from ponder.grading.readings import ParsedAnswer, symbols_of
from ponder.grading.visible import visible
from ponder.grading.wording import is_prose

MAX_TEXT = 20_000  # characters of an answer text that are looked at, from its end
_MAX_MARKERS = 20  # empty markers that are passed over, from the end
_MAX_LINES = 50  # lines that are tried as answers, from the end
_MAX_WORDS = 12  # of an answer; a text with more is one that holds an answer
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")

_NUMBER = (
    r"[-+]?(?:\$|\\\$|€|£|¥)?\s?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"(?:\s?/\s?[0-9]+|(?::[0-9]+)+)?(?:\s?\\?%)?"
)
_MARKER = re.compile(
    r"####|(?<![^\W_])(?:(?:final|correct|right|best)\s+)?answers?(?![^\W_])[*_\s]*(?:\([^()\n]{0,40}\)\s*)?"
    rf"(?:{IS}\s*[:=]?|[:=])[*_]*"
    rf"|\b(?:correct|right|best)\s+(?:option|choice|letter|statement)\s+(?:{IS})\s*[:=]?[*_]*"
    r"|\b(?:final\s+)?answer\b[*_\s]*(?:[-–—](?=\s)|→|->|=>|⇒|⟶)[*_]*"
    r"|\bfinal\s+answer\b[*_#:\s]*\n|^[*_# \t]*answer[*_# \t]*\n",
    re.IGNORECASE | re.MULTILINE,
)
_RESULT = re.compile(rf"(?:(?<![<>!])=|→|->|⇒)\s*({_NUMBER})((?:\s+[A-Za-z]+){{0,4}})\s*[.!]?$")
_WORKING = re.compile(r"[0-9]\s*[-+*/×÷]\s*[$€£¥]?\s*[0-9]")
_ALGEBRA = re.compile(r"[\\^_{}]|(?<![A-Za-z])[B-HJ-Zb-z](?![A-Za-z])")  # a lone letter but a, A, I; any TeX
_DELIMITED = re.compile(
    r"\$\$(.{1,500}?)\$\$|(?<!\\)\$((?:[^$\\]|\\.){1,500})\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL
)
_FENCE = re.compile(r"\s*```[a-zA-Z]*\n(.{1,500}?)\n?```", re.DOTALL)
_ITEM = re.compile(r"\d{1,2}[.)]\s+(?=\S)")
_BULLET = re.compile(r"(?:[-–•]\s+|\d{1,2}[.)]\s+(?=\S))(?!\s)")
_OPENING = re.compile(r"(?:[-–•*]\s+|\d{1,2}[.)]\s+(?=\S)|(?:or|and)\s+)(?!\s)", re.IGNORECASE)
_SQUARE = re.compile(r"\[((?:or|alternatively|perhaps|maybe|possibly)\b[^\[\]\n]{1,60})\]", re.IGNORECASE)  # 48 [or 50]
_ANSWER_NAMES = ("answer", "final_answer", "Answer", "result", "solution", "value")
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_REMARK = re.compile(  # 5000 (in 2024), 6 (not 5); but "5 (or 6)" is no answer
    r"\s+\((?:not|exact(?:ly)?(?=\))|in|as|since|because|see|for|with|at|on|by|from|given|when|where|which|rounded|that\s+is|i\.e)\b[^()]{0,100}\)$",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"(?<=[0-9$%}])\s+\((?!or\b|and\b|mod\b)([A-Za-z]{3,}(?: [A-Za-z]{2,}){0,4})\)$")  # 7 (total)
_BY_CASES = re.compile(  # 10 for the first and 20 for the second; 2x if x > 0 and 0 otherwise
    r"(?:it(?:['’]s| is) )?\S{1,30},? (?:for|if|when|where)\b[^.!?\n]{1,60}?(?:\band|[,;]|\bor) \S{1,30} "
    r"(?:(?:for|if|when|where)\b[^.!?\n=]{1,60}|otherwise|elsewhere|else)[.]?",
    re.IGNORECASE,
)
_COUNTED = re.compile(  # there are 3 such values: 1, 2, 5
    r"(?:(?:so|thus|hence|therefore),? )?(?:there are |we (?:get|have|find) )?(?:exactly |only )?([1-9][0-9]?)"
    r"(?: (?:such |distinct |real |integer |possible |valid |positive )?[a-z]{3,20})?(?:: ?|,? namely:? )"
    r"([^:.]{3,200})[.]?",
    re.IGNORECASE,
)
_FOREIGN = re.compile(
    r"[^\W\d_a-zA-Z\u0370-\u03ff]{2,}|\b(?:es|est|ist|é|è|respuesta|r[ée]ponse|antwort|resposta|risposta)\b",
    re.IGNORECASE,
)


def extract(text: str) -> str | None:
    """The answer in a text, None where there is none. In this order, the first that is there counts:

    1. the last <answer>...</answer> that is not empty, read by what follows; what stands in <think> is no answer;
    2. the last \\boxed{...} that is closed and not empty; boxes that only `and`, `or` or commas join are one answer;
    3. what follows the last marker: `####`, `Answer:`, `the answer is`, to the end of its sentence or formula, or
       what corrects it ("The answer is 12. Wait, it is 13." says 13);
    4. the whole text where it reads as one answer (a number, an expression, a few words), worked arithmetic by its
       result ("12 * 5 = 60. 60 + 4 = 64." says 64);
    5. the last thing that is stated as a result: after `=`, `is`, `equals`, `gives` ("It is 42. I used 7 steps."),
       or the last line that is one answer and nothing else, whichever comes later;
    6. the last number or formula (see `atoms.py`), unless the text says that it has no answer.
    Only the last MAX_TEXT characters before the blanks at the end are looked at.
    """
    text = text.rstrip()
    if len(text) > MAX_TEXT:
        cut = re.search(r"\s", text[-MAX_TEXT:])
        if cut is None:
            return None
        text = text[len(text) - MAX_TEXT + cut.end() :]
    text = _SQUARE.sub(r"(\1)", standing(_inside(text)))
    marked = _in_parts(text) or _marked(text)
    if marked:
        return _counted_in_words(marked) or marked
    if len(text) < 200 and _BY_CASES.fullmatch(text):
        return None
    text = claimed(text)
    corrected = last_word(text) if has_cue(text) else ""
    if re.search("[0-9]", corrected) and is_answer(corrected):
        return _worked(corrected) or corrected
    return between(text.rpartition(". ")[2]) or headed(text) or _worked(text) or _whole(text) or _stated(text)


def ends_in_answer(text: str) -> bool:
    """Does a number or formula that answers run up to the text's end, so that more tokens could have changed it?

    True for "12", "It is 3.1", "Answer: 12," and r"\frac{1}{2": what a budget cut there may be half a number. False
    where something stands after the answer (a closed box, tag or formula, a full stop and a space, a line end, a
    sentence), and where there is none.
    """
    text = text[-MAX_TEXT:]
    closed = next((mark for mark in ("$", "**", "`") if text.endswith(mark) and text.count(mark) % 2 == 0), None)
    if closed or re.search(r"(?:[.!?]\s+|\n\s*|\\[\])])$", text):
        return False
    found = extract(text)
    if found is None or not re.search(r"[\d\\]", found):  # a word or a letter: what is there is compared as it stands
        return False
    return found != extract(text.rstrip() + "7")  # one more digit: is it part of the answer?


def extract_marked(text: str) -> str | None:
    """Steps 1 to 3 of `extract`: only what the text itself marks as its answer."""
    text = text.rstrip()[-MAX_TEXT:]
    inside = _inside(text)
    return _marked(inside) or (inside or None if _TAG.search(visible(text)) else None)


def extract_text(text: str) -> str | None:
    """The same where words are asked for: what is marked, else the whole text if it is one line; no guess."""
    text = _inside(text.rstrip()[-MAX_TEXT:])
    return _marked(text) or (text if 0 < len(text) <= MAX_ANSWER and "\n" not in text else None)


def _inside(text: str) -> str:
    """What the last answer tag holds, the whole text where there is none; without thoughts."""
    text = visible(text)
    held = [match[1].strip() for match in _TAG.finditer(text)] if "<" in text else []
    text = next((inside for inside in reversed(held) if inside), text.strip())
    return _of_object(text) if '"' in text and text.endswith(("}", "`")) else text


def _of_object(text: str) -> str:
    """The answer of a JSON object, an empty text where the object has none; any other text as it is."""
    fence = re.fullmatch(r"```(?:json)?\s*(\{.{1,2000}\})\s*```", text, re.DOTALL)
    try:
        value = (
            json.loads(fence[1] if fence else text, parse_float=str, parse_int=str, parse_constant=str)
            if len(text) < 2_100
            else None
        )
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict):
        return text
    found = next((value[name] for name in _ANSWER_NAMES if name in value), "")
    return str(found) if isinstance(found, str | bool) else ""


def _in_parts(text: str) -> str | None:
    """The labelled parts that the text ends in, where each is one answer: (a) 3 (b) 4."""
    parts = labelled(text)
    if parts is None or not all(is_answer(_last_boxed(part) or part) for part in parts):
        return None
    return " ".join(f"({index}) {_last_boxed(part) or part};" for index, part in enumerate(parts, 1)).removesuffix(";")


def _marked(text: str) -> str | None:
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    for marker in list(_MARKER.finditer(text))[: -1 - _MAX_MARKERS : -1]:
        if is_supposed(text, marker.start()):
            continue
        rest = text[marker.end() : marker.end() + MAX_ANSWER]
        found = _after_marker(rest)
        if found:
            return _corrected(rest) or _listed(rest) or _with_alternative(found, rest)
    return None


_IN_WORDS = re.compile(r"\\(?:text(?:rm|bf|it|normal)?|mbox|mathrm)\s*\{([^{}]*)\}|\\[ ,;:]|~")
_NO_STATEMENT = re.compile(
    r"[?]|n['’]t\b|\b(?:not|no|none|never|if|or|but|except|without|unless|until|maybe|perhaps|possibly|minus|twice|half|what"
    r"|too|least|most|rather|instead|than|wrong|incorrect|fails?|rejected|squared|cubed|factorial|halved|doubled|tripled)\b",
    re.IGNORECASE,
)


def _counted_in_words(marked: str) -> str | None:
    """The one number of a box that holds a sentence: \\boxed{\\text{They need } 48 \\text{ chairs}}."""
    if len(marked) > 200 or not re.search("[A-Za-z]{2}", marked) or is_answer(marked):
        return None
    sentence = _IN_WORDS.sub(lambda match: match[1] or " ", marked).replace("\\$", "$")
    found = atoms(sentence)
    if len(found) != 1 or not is_answer(found[0]) or _NO_STATEMENT.search(sentence):
        return None
    return found[0] if not re.search(r"[0-9\\]", sentence.replace(found[0], "", 1)) else None


def _with_alternative(found: str, rest: str) -> str:
    """The answer after a marker, with the other one that the writer leaves open behind it: that is no answer."""
    other = alternative(rest, rest.find(found) + len(found))
    if not re.search("[0-9]", other) or not is_answer(other):
        return found
    first, second = key_in(found, found), key_in(other, found)
    return found if first is None or second is None or first.key == second.key else f"{found} or {other}"


def _listed(text: str, *, is_all: bool = False) -> str | None:
    """The members that stand on lines of their own, "- x = 2\n- x = 3"; None where there are not at least two.

    `is_all`: where the text has other lines behind them there is no list.
    """
    members: dict[str, str] = {}
    names = []
    lines = [line.strip(" \t*_#:$") for line in text.strip().split("\n")[:_MAX_LINES]]
    for index, line in enumerate(lines):
        line = _OPENING.sub("", line, count=1)
        reading = _member(line)
        if reading is None:
            is_between = 0 < index < len(lines) - 1 and line in ("", "or", "and", "\\text{or}", "\\text{and}")
            is_joined = is_between and (line or any(_OPENING.match(lines[index + step]) for step in (-1, 1)))
            if is_joined or (is_between and lines[index + 1] in ("or", "and")):
                continue
            if is_all:
                return None
            break
        members.setdefault(reading.key + reading.name, line)
        names.append(reading.name)
    is_list = len(set(names)) == 1 or all(re.fullmatch(r"[a-zA-Z](?:_\{?\w\}?)?", name) for name in names)
    return ", ".join(members.values()) if is_list and len(members) > 1 else None


def _member(line: str) -> ParsedAnswer | None:
    """The reading of a line that is a number, a tuple or the value of a name, and nothing else."""
    reading = read(line) if 0 < len(line) <= SHORT else None
    if reading is None or symbols_of(reading) or ("=" in line and not reading.name):
        return None
    if "=" not in line and re.search(r"(?<![\\A-Za-z])[A-Za-z]{2,}", line):  # - 5 apples
        return None
    return reading if reading.shape == "()" or reading.node is not None else None


def _last_list(text: str) -> str | None:
    """The list that a text ends in: values of one name, items with bullets, or values behind a colon."""
    lines = text.rstrip().split("\n")[-_MAX_LINES:]
    start = len(lines)
    while start and (_member(_OPENING.sub("", lines[start - 1].strip(" \t*_$"), count=1)) is not None):
        start -= 1
    block = [line.strip(" \t") for line in lines[start:]]
    lead = next((line.strip(" *_") for line in reversed(lines[:start]) if line.strip()), "")
    is_list = all(_OPENING.match(line) for line in block) or lead.endswith(":") or all("=" in line for line in block)
    found = _listed("\n".join(block)) if len(block) > 1 and is_list else None
    if found is None or ("=" in found and len({line.partition("=")[0] for line in found.split(", ")}) > 1):
        return None
    return found


def _corrected(rest: str) -> str | None:
    """The answer that the writer puts in the place of the one after the last marker."""
    for new in reversed(replacements(rest)):
        if len(new.strip("()$")) == 1 or is_answer(new):
            return new
    return None


_BETWEEN_BOXES = re.compile(
    r"[\s$.;()\\]*(?:\\text\s*\{\s*)?(?:,|;|\band\b|\bor\b|,\s*(?:and|or)\b)(?:\s*\})?[\s$(\\]*"
)


_BOX = re.compile(r"\\(?:boxed|f(?:rame)?box)\s*(\{|-?[0-9][0-9,]*(?:\.[0-9]+)?|[A-Za-z])")  # \boxed 17 too


def _last_boxed(text: str) -> str | None:
    closers: dict[int, int] | None = None
    found: list[str] = []
    start = -1
    for match in reversed(list(_BOX.finditer(text))):
        end, inside = match.end(), match[1]
        if match[1] == "{":
            closers = _closers(text) if closers is None else closers
            end = closers.get(match.end() - 1, match.end() - 1) + 1
            inside = text[match.end() : end - 1].strip()
        if found and (end > start or not _BETWEEN_BOXES.fullmatch(text[end:start][:40])):
            break
        if inside:
            found, start = [inside, *found], match.start()
    return ", ".join(found) or None


def _closers(text: str) -> dict[int, int]:
    """Where each opened brace closes, found in one pass: a text of thousands of open boxes must not take long."""
    closers, opened = {}, []
    for match in re.finditer(r"(?<!\\)[{}]", text):
        if match[0] == "{":
            opened.append(match.start())
        elif opened:
            closers[opened.pop()] = match.start()
    return closers


def _after_marker(rest: str) -> str | None:
    """The first line after a marker: the whole sentence if it is one answer, else its formula, else what it states."""
    fence = _FENCE.match(rest)
    if fence:
        return fence[1].strip() or None
    line = next((line.strip() for line in rest.split("\n") if line.strip(" *_#:`=-")), "").lstrip(" *_#:")
    line = _BULLET.sub("", line, count=1) if rest[:1] == "\n" or not rest.split("\n", 1)[0].strip(" *_#:`") else line
    behind = rest.lstrip(" *_#:\n")
    formula = _DELIMITED.match(behind)
    end = SENTENCE_END.search(line)
    sentence = (line[: end.start()] if end else line).strip().rstrip("*_").strip()
    if len(line) < 200 and _BY_CASES.fullmatch(line):
        return line
    if formula and not is_money(formula) and not is_refuted(behind, formula.end()):
        is_longer = len(sentence) > len(formula[0].strip()) and "\n" not in formula[0].strip()
        if not (is_longer and is_answer(sentence)):
            return next(group for group in formula.groups() if group is not None).strip() or None
    if found := reasoned(sentence):
        return found
    if not sentence or is_answer(sentence):
        return _worked(sentence) or sentence or None
    return between(sentence) or leading(sentence) or _worked(sentence) or stated(sentence) or sentence


def _worked(text: str) -> str | None:
    """The result of arithmetic that is written out, where the text holds nothing but that and words."""
    result = _RESULT.search(text) if len(text) <= MAX_ANSWER else None
    if result is None:
        return None
    working = re.sub(r"(?<=[0-9])\s*[xX]\s*(?=[$€£¥]?\s*[0-9])", "*", text[: result.start()].replace("\\$", "$"))
    if not _WORKING.search(working) or _ALGEBRA.search(working):
        return None
    quantity = (result[1] + result[2]).strip()
    reading = read(quantity)
    return quantity if reading is not None and reading.node is not None else result[1].strip()


def _whole(text: str) -> str | None:
    if not text or len(text) > MAX_ANSWER:
        return text if re.fullmatch(r"[-+]?[0-9]+", text) else None
    if len(text) > SHORT and len(_WORD.findall(text, 0, 600)) > _MAX_WORDS:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text):
        return text
    if text[-1:].isalpha() and after_item_number(text):  # 31. First item
        return None
    listed = _listed(text, is_all=True) if "\n" in text else None
    if listed or is_answer(text):
        return listed or text
    counted = _COUNTED.fullmatch(text)
    both = f"{counted[1]} ({counted[2]})" if counted else ""
    members = read(both) if counted else None
    if members is not None and members.sides:  # as many members as are counted
        return both
    plain = _REMARK.sub("", text)
    aside = _ASIDE.search(plain) if plain[-1:] == ")" else None
    if aside and not re.search("[0-9]", with_digits(aside[1])):
        plain = plain[: aside.start()]
    if plain != text and re.search("[0-9]", plain) and is_answer(plain):
        return plain
    reading = read(text)
    looks_formal = reading is not None and reading.kind == "opaque" and not is_prose(text) and not has_cue(text)
    looks_formal = looks_formal and not _FOREIGN.search(text)
    if not looks_formal or "\n" in text or SENTENCE_END.search(text.rstrip(". ")):
        return None
    if "$" in text and _WORD.search(_DELIMITED.sub("", text)):  # words around a formula
        return None
    result = _RESULT.search(text)
    return result[1].strip() if result else text


def _stated(text: str) -> str | None:
    """Steps 5 and 6 of `extract`."""
    listed = _last_list(text) if "\n" in text else None
    if listed:
        return listed
    lines, index = [], len(text) + 1
    for line in text.split("\n")[: -1 - _MAX_LINES : -1] if "\n" in text else ():
        index -= len(line) + 1
        line = _ITEM.sub("", line.strip(), count=1)
        if len(line) < 200 and re.search("[0-9]", line) and "=" not in line and is_answer(line):
            if not re.fullmatch(r"\d{1,2}[.)]", line):  # the number of a list item without its text
                lines.append((index, line))
            break
    return stated(text, lines)
