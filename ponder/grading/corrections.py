"""Corrections: what a writer puts in the place of an answer, takes back, or leaves open.

replacements("12. Wait, it is 13.")             -> ["13"]
standing("The answer is 22. That's wrong. 23")  -> "23"
alternative("12. Or perhaps 13.", 2)            -> "13"
"""

from __future__ import annotations

import re

IS = (  # what stands between an answer and its name
    r"(?:is|are|was|would\s+be|will\s+be|must\s+be|should\s+be|equals)\b"
    r"(?:\s+(?:therefore|thus|then|just|simply|indeed))?"
)
_CUE = (
    r"(?:wait|actually|sorry|oops|hmm+|correction|edit(?=\s*:)|scratch\s+that|i\s+meant?|no(?=\s*[,:;—–])"
    r"|on\s+(?:second\s+thought|reflection)|let\s+me\s+re\w+(?:\s+(?:it|this|that))?)\b"
)
_PAUSE = r"(?:[\s,:;!—–]|\.(?!\d)|-(?![\d\\.]))*"
_CUES = re.compile(rf"\b{_CUE}", re.IGNORECASE)
_CORRECTED = re.compile(  # "Wait, it is 13."
    rf"\b{_CUE}(?:{_PAUSE}{_CUE})*{_PAUSE}"
    rf"(?:(?:it|that|this)(?:['’]s|\s+is|\s+was)\s+(?:wrong|incorrect|a\s+mistake|not\s+(?:right|correct|true)){_PAUSE})?"
    rf"(?:(?:it|that|this|(?:the|my)\s+(?:\w+\s+)?(?:answer|result|value|number))(?:['’]s\b|\s+{IS})\s*:?\s*)?"
    r"(?P<new>[*_$(]{0,3}(?:[-+−]?\s?[\d\\{\[(][^\n]{0,200}?|(?-i:[A-HJ-Z])\)?)[*_$]*)(?:[.!](?=\s|$)|\s*(?:\n|\Z))",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(  # "3. Or 4.", "3 (alternatively 4)"
    r"[*_$)]*(?:\s*\([^()\n]{1,60}\))?(?:[.…,;!]|\s*\()*\s*\b(?:or|alternatively|perhaps|maybe|possibly)\b[,:]?\s+(?:else\s+|is\s+it\s+"
    r"|(?:it\s+)?(?:is|(?:could|may|might)\s+(?:also\s+)?be)\s+|maybe\s+|perhaps\s+|possibly\s+)*"
    r"([^\n]{1,80}?)\s*[*_$]*(?:[.?!)](?=[\s).?!]|$)|\n|$)",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:suppos(?:e|ing)|assum(?:e|ing)|imagine|pretend|if|whether|(?:do\s+not|don['’]t|never)\s+(?:think|believe)|doubt|deny"
    r"|(?:false|untrue|wrong|incorrect|unlikely|impossible|not\s+(?:true|certain|sure|clear|the\s+case|correct)))\s+(?:that\s+)?(?:the\s+)?$",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(  # "The answer is 22. That's wrong."
    r"(?:\\boxed\s*\{[^{}]{1,60}\}|\banswer\s*(?:is|was|:|=)(?:(?:[^\n.!?,;]|[.,](?=\d)){1,60}?"
    r"|(?:[^\n.!?]|\.(?=\d)){1,60}?(?=[\s$*_.!,;]{0,8}\b(?:but|however|hmm+|no|oh|oops|wait|that|this|it)\b)))[\s$*_.!]{0,8}"
    r"(?:\b(?:but|however|hmm+|no|oh|oops|wait)[,.!\s]{1,4}){0,3}(?:\b(?:that|this|it)(?:['’]s|\s+is|\s+was)|\b(?:is|was))\s+"
    r"(?:clearly\s+|obviously\s+|actually\s+|just\s+)?(?:wrong|incorrect|a\s+mistake|not\s+(?:right|correct|true))\b"
    r"(?=\s*(?:[.!,;:\n]|$|because|since))[.!,;:]*",
    re.IGNORECASE,
)


_TAKEN_BACK = re.compile(  # "9. Hmm, that is wrong.", "Tom says 12. Tom is wrong.", "9... Actually no."
    r"(?:[.!?…,;—–]+|\n)[\s*_$]*(?:(?:but|however|hmm+|no|oh|oops|wait|actually)[,.!…\s]{1,5}){0,3}"
    r"(?:(?P<who>[A-Za-z]+)(?:['’]s|\s+(?:is|was|(?:ca|could)n['’]t\s+be|can\s?not\s+be|seems|must\s+be))\s+"
    r"(?:clearly\s+|obviously\s+|actually\s+|just\s+|definitely\s+)?(?:(?:wrong|incorrect|mistaken|a\s+mistake)\b"
    r"|(?:not\s+|(?<=be ))(?:right|correct|true|it)\b)(?=\s*(?:[.!,;:\n]|$|because|since))"
    r"|I\s+take\s+(?:that|it|this)\s+back\b|(?<=ctually )no(?=[.!]*\s*$))[.!,;:]*",
    re.IGNORECASE,
)
_OF_WHAT_WAS_SAID = ("that", "this", "it", "he", "she")


def has_cue(text: str) -> bool:
    """Does the writer think again?"""
    return _CUES.search(text) is not None


def replacements(rest: str) -> list[str]:
    """What corrects the answer that `rest` begins with."""
    return [match["new"].strip("*_ ") for match in _CORRECTED.finditer(rest)]


def last_word(text: str) -> str:
    """The correction that a text ends with: 12 of "It is 10. Correction: 12."; "" where it ends otherwise."""
    found = list(_CORRECTED.finditer(text))
    is_last = (
        found and re.search("[0-9]", text[: found[-1].start()]) and not re.search("[0-9]", text[found[-1].end() :])
    )
    return found[-1]["new"].strip("*_ ") if is_last else ""


def alternative(rest: str, end: int) -> str:
    """The other answer that is left open behind the one that ends at an index; "" where there is none."""
    match = _ALTERNATIVE.match(rest, end)
    return "" if match is None else match[1].partition(" (")[0].strip()


def is_supposed(text: str, index: int) -> bool:
    """Is what begins at an index only supposed: after "if the", "suppose that"?"""
    return index > 4 and _SUPPOSED.search(text, max(0, index - 40), index) is not None


def standing(text: str) -> str:
    """The text behind an answer that its writer takes back."""
    if not any(sign in text for sign in _SIGNS_OF_WITHDRAWAL):
        return text
    withdrawn = list(_WITHDRAWN.finditer(text))
    return _without_taken_back(text[withdrawn[-1].end() :].strip() if withdrawn else text)


_SIGNS_OF_WITHDRAWAL = ("wrong", "correct", "mistake", "not ", "n't be ", "n’t be ", " back", "ctually no")


def _without_taken_back(text: str) -> str:
    """The text without the sentences whose numbers are taken back by the next one."""
    kept, start = "", 0
    for match in _TAKEN_BACK.finditer(text):
        begin = max((end.end() for end in _SENTENCE_END.finditer(text, start, match.start())), default=start)
        said = text[begin : match.start()]
        who = (match["who"] or "it").lower()
        if re.search("[0-9]", said) and (who in _OF_WHAT_WAS_SAID or re.search(rf"\b{who}\b", said, re.IGNORECASE)):
            kept, start = kept + text[start:begin], match.end()
    return (kept + text[start:]).strip() if start else text


_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
