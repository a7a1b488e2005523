r"""Extraction: where in a text its answer stands.

    extract("So the answer is \boxed{\frac12}.")   -> "\frac12"

What the answer says, and whether two say the same, is in `equality.py`. Every search here is linear in the text, and
only its last MAX_TEXT characters are looked at.
"""

from __future__ import annotations

import re

from ponder.grading.atoms import is_money, stated
from ponder.grading.equality import MAX_ANSWER, read
from ponder.grading.wording import is_prose, joins_sentences

MAX_TEXT = 20_000  # characters of an answer text that are looked at, from its end
_MAX_MARKERS = 20  # empty markers that are passed over, from the end
_MAX_LINES = 50  # lines that are tried as answers, from the end
_SHORT = 60  # a text without markers up to here may be an answer as a whole
_MAX_WORDS = 12  # of an answer; a text with more is one that holds an answer
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")

_NUMBER = (
    r"[-+]?(?:\$|\\\$|€|£)?\s?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"(?:\s?/\s?[0-9]+|(?::[0-9]+)+)?(?:\s?\\?%)?"
)
_BE = (
    r"(?:(?:is|are|was|would\s+be|will\s+be|must\s+be|should\s+be|equals)\b"
    r"(?:\s+(?:therefore|thus|then|just|simply|indeed))?"
)
_MARKER = re.compile(
    r"####|\b(?:(?:final|correct|right|best)\s+)?answers?\b[*_\s]*(?:\([^()\n]{0,40}\)\s*)?"
    rf"{_BE}\s*[:=]?|[:=])[*_]*"
    rf"|\b(?:correct|right|best)\s+(?:option|choice|letter|statement)\s+{_BE})\s*[:=]?[*_]*"
    r"|\b(?:final\s+)?answer\b[*_\s]*(?:[-–—](?=\s)|→|->|=>|⇒|⟶)[*_]*"
    r"|\bfinal\s+answer\b[*_#:\s]*\n|^[*_# \t]*answer[*_# \t]*\n",
    re.IGNORECASE | re.MULTILINE,
)
_RESULT = re.compile(rf"=\s*({_NUMBER})((?:\s+[A-Za-z]+){{0,4}})\s*[.!]?$")
_WORKING = re.compile(r"[0-9]\s*[-+*/×÷]\s*[$€£]?\s*[0-9]")
_ALGEBRA = re.compile(r"[\\^_{}]|(?<![A-Za-z])[B-HJ-Zb-z](?![A-Za-z])")  # a lone letter but a, A, I; any TeX
_DELIMITED = re.compile(r"\$\$(.{1,500}?)\$\$|\$([^$]{1,500})\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)(?<!\s[A-Za-z]\.)|;\s|\s[-–—]\s(?=[A-Za-z]{3})")
_FENCE = re.compile(r"\s*```[a-zA-Z]*\n(.{1,500}?)\n?```", re.DOTALL)
_BULLET = re.compile(r"(?:[-–•]\s+|\d{1,2}[.)]\s+(?=\S))(?!\s)")
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSED_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BECAUSE = re.compile(
    r",?\s+(?:because|since|which|so|as|where|when|for|hence|thus|therefore)\b|,\s+(?:but|and)\b|\s\("
)


def extract(text: str) -> str | None:
    """The answer in a text, None where there is none. In this order, the first that is there counts:

    1. the last <answer>...</answer> that is not empty, read by what follows; what stands in <think> is no answer;
    2. the last \\boxed{...} that is closed and not empty; boxes that only `and`, `or` or commas join are one answer;
    3. what follows the last marker: `####`, `Answer:`, `the answer is`, to the end of its sentence or formula;
    4. the whole text where it reads as one answer (a number, an expression, a few words), worked arithmetic by its
       result ("12 * 5 = 60. 60 + 4 = 64." says 64);
    5. the last thing that is stated as a result: after `=`, `is`, `equals`, `gives` ("It is 42. I used 7 steps."),
       or the last line that is one answer and nothing else, whichever comes later;
    6. the last number or formula (see `atoms.py`), unless the text says that it has no answer.
    Only the last MAX_TEXT characters are looked at.
    """
    if len(text) > MAX_TEXT:
        cut = re.search(r"\s", text[-MAX_TEXT:])
        if cut is None:
            return None
        text = text[len(text) - MAX_TEXT + cut.end() :]
    text = _inside(text)
    return _marked(text) or _worked(text) or _whole(text) or _stated(text)


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
    text = text[-MAX_TEXT:]
    inside = _inside(text)
    return _marked(inside) or (inside or None if _TAG.search(_without_thoughts(text)) else None)


def extract_text(text: str) -> str | None:
    """The same where words are asked for: what is marked, else the whole text if it is one line; no guess."""
    text = _inside(text[-MAX_TEXT:])
    return _marked(text) or (text if 0 < len(text) <= MAX_ANSWER and "\n" not in text else None)


def _without_thoughts(text: str) -> str:
    if "<" not in text:
        return text
    text = _THOUGHT.sub("", text)
    closed = list(_CLOSED_THOUGHT.finditer(text))
    return text[closed[-1].end() :] if closed else text


def _inside(text: str) -> str:
    """What the last answer tag holds, the whole text where there is none; without thoughts."""
    text = _without_thoughts(text)
    held = [match[1].strip() for match in _TAG.finditer(text)] if "<" in text else []
    return next((inside for inside in reversed(held) if inside), text.strip())


def _marked(text: str) -> str | None:
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    for marker in list(_MARKER.finditer(text))[: -1 - _MAX_MARKERS : -1]:
        found = _after_marker(text[marker.end() :])
        if found:
            return found
    return None


_BETWEEN_BOXES = re.compile(r"[\s$.;()\\]*(?:,|;|\band\b|\bor\b|,\s*(?:and|or)\b)[\s$(\\]*")


def _last_boxed(text: str) -> str | None:
    closers: dict[int, int] | None = None
    found: list[str] = []
    start = -1
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*(\{|[0-9A-Za-z])", text))):
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
    rest = rest[:MAX_ANSWER]
    fence = _FENCE.match(rest)
    if fence:
        return fence[1].strip() or None
    line = next((line.strip() for line in rest.split("\n") if line.strip(" *_#:`")), "").lstrip(" *_#:")
    line = _BULLET.sub("", line, count=1) if rest[:1] == "\n" or not rest.split("\n", 1)[0].strip(" *_#:`") else line
    formula = _DELIMITED.match(rest.lstrip(" *_#:\n"))
    end = _SENTENCE_END.search(line)
    sentence = (line[: end.start()] if end else line).strip().rstrip("*_").strip()
    if formula and not is_money(formula):
        is_longer = len(sentence) > len(formula[0].strip()) and "\n" not in formula[0].strip()
        if not (is_longer and _is_answer(sentence)):
            return next(group for group in formula.groups() if group is not None).strip() or None
    worked = _worked(sentence)
    if worked:
        return worked
    if not sentence or _is_answer(sentence):
        return sentence or None
    reason = _BECAUSE.search(sentence)
    if reason and _is_answer(sentence[: reason.start()].strip()):
        return sentence[: reason.start()].strip()
    return stated(sentence) or sentence


def _worked(text: str) -> str | None:
    """The result of arithmetic that is written out, where the text holds nothing but that and words."""
    result = _RESULT.search(text) if len(text) <= MAX_ANSWER else None
    if result is None:
        return None
    working = re.sub(r"(?<=[0-9])\s*[xX]\s*(?=[$€£]?\s*[0-9])", "*", text[: result.start()].replace("\\$", "$"))
    if not _WORKING.search(working) or _ALGEBRA.search(working):
        return None
    quantity = (result[1] + result[2]).strip()
    reading = read(quantity)
    return quantity if reading is not None and reading.node is not None else result[1].strip()


def _is_answer(text: str) -> bool:
    """Does the text read as one answer: mathematics, or at most four words?"""
    if not text or len(text) > MAX_ANSWER:
        return False
    reading = read(text)
    if reading is None:
        return False
    if reading.kind == "words" or not reading.is_understood:
        return len(text) <= _SHORT and len(text.split()) <= 4 and not re.search(r"\d|\b(?:I|we|you)\b.", text)
    return not joins_sentences(text)


def _whole(text: str) -> str | None:
    if not text or len(text) > MAX_ANSWER:
        return text if re.fullmatch(r"[-+]?[0-9]+", text) else None
    if len(text) > _SHORT and len(_WORD.findall(text, 0, 600)) > _MAX_WORDS:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text) or _is_answer(text):
        return text
    reading = read(text)
    looks_formal = reading is not None and reading.kind == "opaque" and not is_prose(text)
    if not looks_formal or "\n" in text or _SENTENCE_END.search(text.rstrip(". ")):
        return None
    result = _RESULT.search(text)
    return result[1].strip() if result else text


def _stated(text: str) -> str | None:
    """Steps 5 and 6 of `extract`."""
    lines, index = [], len(text) + 1
    for line in text.split("\n")[: -1 - _MAX_LINES : -1] if "\n" in text else ():
        index -= len(line) + 1
        if len(line) < 200 and re.search("[0-9]", line) and "=" not in line and _is_answer(line.strip()):
            lines.append((index, line.strip()))
            break
    return stated(text, lines)
