r"""Clauses: which part of a sentence is its answer, and what only stands beside it.

    leading("12, whereas 10 counts unordered pairs")         -> "12"
    leading("48 doubled")                                    -> None
    headed("12 because there are 3 rows")                    -> "12"
    claimed("The number is 12. Check: 12/4 = 3.")            -> "The number is 12."
    claimed("The maximum is 7, attained at x = 6.")          -> "The maximum is 7."

The first value behind a marker is the answer, whatever clause follows; a clause that changes the value ("48 less two")
is no clause beside it. Left out: what takes an answer back, which is in `corrections.py`.
"""

from __future__ import annotations

import re

from ponder.grading.atoms import BOUND_SIGN, ends_stated
from ponder.grading.denials import NUMBER_WORD, is_refuted
from ponder.grading.equality import MAX_ANSWER, read
from ponder.grading.wording import joins_sentences

SHORT = 60  # a text without markers up to here may be an answer as a whole
SENTENCE_END = re.compile(r"[.!?](?=\s|$)(?<!\s[A-Za-z]\.)|;\s|\s[-–—]\s(?=[A-Za-z]{3})")
_BOUND = re.compile(r" than | such that |\bat (?:least|most) |\bbetween .{1,60}clusive", re.IGNORECASE)


def is_answer(text: str) -> bool:
    """Does the text read as one answer: mathematics, or at most four words?"""
    if not text or len(text) > MAX_ANSWER:
        return False
    reading = read(text)
    if reading is None:
        return False
    if reading.kind == "words" or not reading.is_understood:
        return len(text) <= SHORT and len(text.split()) <= 4 and not re.search(r"\d|\b(?:I|we|you)\b.", text)
    if reading.shape == "{}" and len({part.kind == "equation" for part in reading.parts}) > 1:
        return False  # p = 8/9 and m + n = 17
    if not joins_sentences(text):
        return True
    return reading.kind in ("group", "other") and _BOUND.search(text) is not None  # x is greater than 3


# ---- a sentence that begins with its answer ------------------------------------------------------------------------

_BEHIND = re.compile(
    r",?\s+(?:(?P<why>because|since|as(?!\s+(?:well|much|many)\b)|given|when|where|if|(?:from\s+)?which)"
    r"|for|(?<!together )(?<!combined )with|after|before)\b",
    re.IGNORECASE,
)
_NEW_RESULT = re.compile(
    r"(?<![A-Za-z])(?<![A-Za-z]\s)=|[?;]|\b(?:is|are|equals?|gives?|makes?|totals?|leaves?|leaving|yields?|so|thus|hence|therefore)\b"
)
_ELSE = re.compile(r"\b(?:else|otherwise|unless|wait|actually|sorry|oops|no|not|or)\b", re.IGNORECASE)


def headed(text: str) -> str | None:
    """The answer that a sentence begins with: 12 of "12 because there are 3 rows"."""
    behind = _BEHIND.search(text) if len(text) <= 200 and "\n" not in text else None
    if behind is None or _ELSE.search(text) or SENTENCE_END.search(text.rstrip(". ")):
        return None
    head = text[: behind.start()].strip()
    if not re.search("[0-9]", head) or not is_answer(head) or _is_narrowed(head, behind[0]):
        return None
    if is_refuted(text, behind.start()):
        return None
    return head if behind["why"] or not _NEW_RESULT.search(text, behind.end()) else None


def _is_narrowed(head: str, word: str) -> bool:
    """x < 5 with x prime is not x < 5."""
    return word.lower().strip(" ,") in ("with", "where") and BOUND_SIGN.search(head) is not None


_REASON = re.compile(r",?\s+(?:because|since|provided|assuming|unless)\b")
_VALUE = rf"(?:[-+−$€£¥\\(\[{{]*[0-9\\]|[a-zA-Z]\s*[=<>]|{NUMBER_WORD}\b)"
_CLAUSE = re.compile(
    r",?\s+(?:(?:of\s+)?(?:which|whom|whose)|because|since|so|as(?!\s+(?:well|much|many)\b)|where|when|if(?!\s+not\b)|unless|hence|thus"
    r"|therefore|(?:even\s+|al)?though|while|whereas|despite|provided|assuming|once|under|using|rather\s+than|instead\s+of"
    r"|obtained|compared|(?:up|down)\s+from|in\s+(?:the|this|that|each)\s+case)\b"
    rf"|,?\s+(?P<setting>for|(?<!together )(?<!combined )(?<!along )with|after|before|by|from)\b(?!\s+{NUMBER_WORD}\b)"
    rf"|,?\s+(?:and|but)\s+(?!{_VALUE}|(?:also|perhaps|maybe|possibly|counting|up|above|more|over)\b|(?:it|that|this)\s+(?:could|may|might)\b)"
    rf"|,\s+(?!(?:or|and|but|perhaps|maybe|possibly|alternatively|plus|minus|less|times|{NUMBER_WORD})\b)(?=[a-zA-Z]{{2,}})"
    r"|,\s+(?=[-$\\(]*[0-9][0-9.,/]*\s+(?:of\s+(?:which|whom|them|these|those)|being|(?:[a-z]+\s+)?(?:after|before))\b)"
    r"|:\s+(?=[a-z]{2,})|\s?[—–]\s?(?=[a-z]{2,})|\s\(",
)
_CONCLUDES = re.compile(r"\b(?:so|thus|hence|therefore|making|giving|total\w*|altogether)\b")


def reasoned(sentence: str) -> str | None:
    """The answer before a reason, whatever the reason works out."""
    reason = _REASON.search(sentence)
    head = sentence[: reason.start()].strip() if reason else ""
    return head if is_answer(head) else None


def leading(sentence: str) -> str | None:
    """The answer that a marked sentence begins with, where a clause of its own follows."""
    for clause in _CLAUSE.finditer(sentence[:400]):
        head = sentence[: clause.start()].strip("*_ ")
        if not is_answer(head):
            continue
        is_beside = clause["setting"] is None or not _CONCLUDES.search(sentence, clause.end())
        is_named = re.search(r"[0-9\\]", head) or not clause[0].startswith(", ")  # Paris, the capital
        is_right = not is_refuted(sentence, clause.start()) and not _is_narrowed(head, clause[0])
        return head if is_beside and is_named and is_right else None
    return None


_BETWEEN = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the\s+)?(?:solution|answer|domain|range|interval)(?:\s+set|\s+of\s+\w+)?\s+(?:is|are|consists\s+of)\s+)?"
    r"(?:the\s+)?(?:set\s+of\s+)?(?:all\s+)?(?:(?:real\s+)?(?:numbers|values|reals)(?:\s+of)?\s+)?(?:[a-z]\s+)?(?:(?:is|are|lies|lie|lying|that\s+are)\s+)?"
    r"(between\s+-?[\d./]+\s+and\s+-?[\d./]+(?:,?\s+|\s\()(?:in|ex)clusive\)?)\.?",
    re.IGNORECASE,
)


def between(sentence: str) -> str | None:
    """The interval that a sentence names: "The solution is between 2 and 5, inclusive." """
    match = _BETWEEN.fullmatch(sentence) if "clusive" in sentence and len(sentence) < 200 else None
    return match[1] if match else None


# ---- a text that ends in something else than its answer ------------------------------------------------------------

_EXTREME = r"(?:min|max|minim\w+|maxim\w+|least|greatest|largest|smallest|highest|lowest)"
_REACHED = (
    r"(?:attained|achieved|reached|obtained|occurs?|occurring|happens)\s+(?:only\s+)?(?:at|when|for|if|where|by)\b"
)
_SETTING = re.compile(
    rf"(?P<main>.*\b(?:{_EXTREME}|[Ii]t|answer|value|result)\b"
    r"(?:.{0,80}?(?:\b(?:is|of|equals)|=)\s+(?:exactly\s+|only\s+)?|,?\s+(?:values?,?\s+)?)[$*(\\-]*[0-9\\][^,;]*?)(?<!\sis)(?<!\sare)"
    r"(?:,?\s+(?:at|when|for|if|where|unless|(?:assuming|provided)(?:\s+that)?)\s+"
    r"(?:[$(\\]*[a-zA-Z(].*=.*|\$?\([^()]*\)\$?)"  # at x = 2; at (1, 2)
    rf"|,?\s+(?:(?:which|that|and)\s+)?(?:it\s+)?(?:(?:is|are)\s+)?{_REACHED}.*)"
)
_WHERE = re.compile(  # a sentence of its own: "It occurs at x = 6."
    rf"(?:it|this|that|the\s+{_EXTREME}(?:\s+value)?)\s+(?:is\s+)?{_REACHED}", re.IGNORECASE
)
_LAST_SENTENCE = re.compile(r"(?:[.!?]\s+|\n)(?=\S[^\n]{0,200}$)(?!.*[.!?]\s+\S)")
_CHECKED = re.compile(  # a paragraph behind the answer
    r"\n[*_#( \t]*(?:check|verification|verify|proof|explanation|reason(?:ing)?|justification|note|confidence|why)"
    r"(?:ing|s)?\b[^\n:]{0,30}:",
    re.IGNORECASE,
)
_CHECK = re.compile(  # a sentence behind it
    r"(?:(?<=[.!?;✓*])\s+|\n\s*|\s\()[*_#\s]*(?:(?:[a-z]+\s+){0,3}(?:(?:double|cross|sanity)[-\s]?)?"
    r"(?:check(?:ing)?|verify(?:ing)?|verification|proof|confirm(?:ing)?|explanation|reason(?:ing)?|justification)\b[^.\n]{0,30}?[:,]"
    r"|indeed\b|why\?|because\b|(?:this|that|it)(?:['’]s|\s+is)\s+(?:[a-z]+\s+)?(?:because|since)\b|the\s+reason\s+is\b)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\b(?:so|thus|hence|therefore|then|answer|total|final(?:ly)?|result|wait|actually|but|however|instead|no|not|wrong"
    r"|correct(?:ion|ed)|should|must|which\s+(?:gives|leaves|makes)|conclude)\b|n['’]t\b",
    re.IGNORECASE,
)
_LONGEST_CHECK = 300


def claimed(text: str) -> str:
    """The text without its end, where that only checks or explains what is stated before it, or says where it is so."""
    checked = _CHECKED.search(text)
    if checked and is_answer(text[: checked.start()].strip()):
        text = text[: checked.start()].strip()
    return _without_setting(_without_check(text))


def _without_check(text: str) -> str:
    for check in _CHECK.finditer(text, max(0, len(text) - _LONGEST_CHECK)):
        before = text[: check.start()].rstrip(" ;*")
        if ends_stated(before) and not _GOES_ON.search(text, check.end()):
            return before
    return text


def _without_setting(text: str) -> str:
    """ "The minimum is 4, attained at x = 2." says 4, and where; "The minimum is at x = 2." is left as it is."""
    text = text.rstrip()
    before = _LAST_SENTENCE.search(text, max(0, len(text) - 400))
    start = before.end() if before else 0
    if len(text) - start > 200 or "\n" in text[start:]:
        return text
    if _WHERE.match(text, start) and re.search(rf"\b{_EXTREME}\b", text[max(0, start - 200) : start], re.IGNORECASE):
        return text[:start].rstrip()
    setting = _SETTING.fullmatch(text[start:].rstrip("."))
    return text if setting is None else f"{text[:start]}{setting['main']}."
