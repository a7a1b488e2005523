"""Letters: which of the lettered options a text chooses.

    chosen("(A) is wrong since it melts. So it must be (C).", "ABCD")   -> "C"
    chosen("A or B", "ABCD")                                            -> None

The last *chosen* letter counts, not the first discussed. A mention is chosen after `so`, `is`, `choose`, ..., in bold,
on a line of its own, or where its own clause calls it right; it is rejected where its clause calls it wrong.
Where none is chosen, the one letter that is mentioned and not rejected counts. A and I alone are words, not letters,
unless something says otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_MENTION = re.compile(
    r"\*\*\s*(?:option\s+|choice\s+)?\(?(?P<bold>[A-Z])\)?(?:[.:)](?:[^*\n]{0,120})?|\s*)\*\*"
    r"|\((?P<round>[A-Za-z])\)|\[(?P<square>[A-Z])\]"
    r"|\b(?:[Aa]ns(?:wer)?|ANS(?:WER)?)\s*[.:]?\s*(?P<answered>[A-Z])(?![\w'’])"
    r"|\b(?:[Aa]ns(?:wer)?|ANS(?:WER)?)(?:\s+is)?\s*[.:]?\s*\(?(?P<small>[a-z])(?:\)|(?=\s*\.?\s*$))"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter|OPTION|CHOICE)s?\s+[\"'`*]{0,2}(?P<named>[A-Za-z])\b(?!')"
    r"|(?<![\w'’.-])(?P<marked>[A-Z])(?=[.:)](?:\s|$|\*))|^\s*(?P<lower>[a-z])(?=[.:)]\s|\)?\s*$)"
    r"|(?<![\w'’.\-])(?P<alone>[A-Z])(?![\w'’]|-\w)",
    re.MULTILINE,
)
_CUE = re.compile(
    r"(?:\b(?:so|hence|thus|therefore|consequently|choose|chose|choosing|chosen|pick|picks|picked|select|selects|selected|with|is|be"
    r"|it's|that's|remains|leaves|leaving|left|gives|answer|answers|option|choice|go\s+for|opt\s+for|say|guess|now)\b|\b(?:actually|on\s+reflection|on\s+second\s+thoughts?|correction|wait)(?:[,:]|(?=\s*$))|[是为選选]|答案|->|→|=>|⇒|∴|=)"
    r"(?:\s*(?::|\b(?:the|option|choice|letter|answer|correct|right|only|must|be|it|is|likely|probably|definitely|clearly"
    r"|indeed|we|I|have|get|choose|pick|select|can|conclude|that)\b))*[\s*_\"'`:]*$",
    re.IGNORECASE,
)
_WRONG = (
    r"wrong|incorrect|false|not|no|isn't|aren't|can't|cannot|doesn't|don't|didn't|won't|never|eliminated?|excluded?|rejected?"
    r"|ruled\s+out|too|impossible|neither|fails?|(?<!odd\sone\s)out|untrue|unlikely|irrelevant|invalid|contradicts?|violates?|overlooks?"
    r"|worst\s+(?:option|choice|answer)|traps?|distractors?|decoys?"
)
_WRONG_BEHIND = re.compile(rf"\b(?:{_WRONG})\b|[✗✘❌]", re.IGNORECASE)
_WRONG_BEFORE = re.compile(
    r"(?:(?i:\b(?:not|cannot|n't|neither|nor|none(?!\s+of\s+(?:the\s+above|these))|eliminat\w*|exclud\w*|reject\w*|rul\w+\s+out|discard\w*|dismiss\w*|drop(?:s|ped|ping)?|unlike|instead\s+of"
    r"|rather\s+than|except|than|(?:all|(?:any|every)(?:thing|\s+one)?)\s+but|grade|torn\s+between"
    r"|was\s+(?:going|about)\s+to\s+(?:say|choose|pick)"
    r"|(?:first|initially|originally|almost|nearly)\s+(?:thought|chose|said|picked|guessed)"
    r"|nicht|pas|niet|не|no\s+es|não|non)\b|n't\b|不是|不选|不|(?<![):.] )\bno(?=[ ]\(?$)))"
    r"(?:(?!\b(?:so|hence|thus|therefore|but)\b)[^A-Z]){0,30}$",
)
_FORMULA_BEFORE = re.compile(r"\\(?!therefore|implies|Rightarrow|rightarrow|to\b)[a-zA-Z]+\s*$|\^\{?\w{1,3}\}?\s*=\s*$")
_DENIES_NEXT = re.compile(
    r"\b(?:not|rather\s+than|instead\s+of|unlike|than|over)\s*(?:option\s+)?[(*\"']*$", re.IGNORECASE
)
_RIGHT_BEHIND = re.compile(
    r"^[^.;!?\n]{0,40}?(?:\b(?:correct|right|best|better|yes|true|fits|works|matches|holds|(?:my|the|final)\s+answer)\b|[✓✔✅])",
    re.IGNORECASE,
)
_IF_ONLY = re.compile(r"\bwould\b.*\bif\b", re.IGNORECASE)  # "B would be right if the mass were constant"
_ASKED = re.compile(r"[)\]*]*\s*\?(?!\s*(?:yes|right|correct|indeed)\b)", re.IGNORECASE)  # "A? B?"
_EXPLAINED = re.compile(r"\n\s*[*_#]*(?:explanation|reason(?:ing)?|rationale|justification)[*_]*:", re.IGNORECASE)
_LINE_OF_ONE = re.compile(r"[\s*_#>-]*\(?([A-Z])\)?[.:)]?[\s*_]*")
_REASON = re.compile(r"\b(?:since|because|as)\b", re.IGNORECASE)  # after "the answer is D" other letters explain
_WITH_OTHERS = re.compile(
    r"[\s)*]*,?\s*\b(?:and|or)\s+(?:also\s+)?(?:all|any|every|the\s+others?|others|some)\b", re.IGNORECASE
)
_NAME_BEFORE = re.compile(
    r"(?:[0-9]\s?°?|°|\b(?:vitamins?|plan|hepatitis|type|group|phase|class|grade|protein|influenza"
    r"|let|suppose|denote|points?|lines?|segments?|angles?))\s?$",
    re.IGNORECASE,
)
_NAME_BEHIND = re.compile(r"\+|#|\.[A-Za-z]|\s(?:vitamins?|cells?|flat|sharp|major|minor)\b")
_CLAUSE_END = re.compile(
    r"[.;!?](?=\s|$)|\n|\b(?:so|hence|thus|therefore|but|because|since|while|whereas|although|though|as)\b",
    re.IGNORECASE,
)
_JOINED = re.compile(
    r"[\s)*]*(?:,|/|&|\bto\b|\bor\b|\band\b|\bnor\b|,\s*(?:and|or)\b)(?:\s+(?:perhaps|maybe|possibly)\b)?[\s(*]*(?:option\s+|choice\s+)?[(*]*",
    re.IGNORECASE,
)


_AFTER_CJK = re.compile(r"(?<=[\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af])(?=[A-Z](?![A-Za-z]))")


@dataclass
class _Mention:
    letter: str
    start: int
    end: int
    is_word: bool  # A or I standing alone
    is_cued: bool
    is_wrong: bool = False
    is_right: bool = False
    joint: str = ""  # "A or B": what joins it to the next one


_MARK_FIRST = re.compile(r"[\s*_-]*[✗✘❌✓✔✅]")
_MARKED_BEFORE = re.compile(r"([✗✘❌✓✔✅])\ufe0f?[\s*_]*(\(?[A-Z]\)?(?![A-Za-z])[.:)]?)")  # ❌ A ✅ B


def plain(text: str) -> str:
    """The text with full-width and circled letters as plain ones and without markup of TeX."""
    if not text.isascii():
        text = _AFTER_CJK.sub(" ", unicodedata.normalize("NFKC", text))
    return re.sub(r"\\(?:text|mathrm|mathbf|textbf|boxed)\s*\{([^{}]*)\}|[$`]", lambda m: m[1] or "", text)


def chosen(text: str, letters: str, *, leads: bool = False) -> str | None:
    """The letter that a text chooses; `leads`: it stands after a marker, so that its first letter is chosen."""
    text = _MARKED_BEFORE.sub(r"\2 \1", plain(text)) if _MARK_FIRST.match(plain(text)) else plain(text)
    found = _mentions(text, letters)
    if 1 < len(found) < 10 and len(text) < 200:
        lines = [_LINE_OF_ONE.fullmatch(line) for line in text.split("\n") if line.strip()]
        if all(lines) and len({line[1] for line in lines if line}) > 1:
            return None  # a letter a line, and none of them chosen
    explained = _EXPLAINED.search(text)
    if explained and (before_it := chosen(text[: explained.start()], letters, leads=leads)):
        return before_it
    if leads and found:
        found[0].is_cued, found[0].is_word = True, False
        reason = _REASON.search(text, found[0].end)
        found = [mention for mention in found if reason is None or mention.start < reason.start()]
    picked = [i for i, mention in enumerate(found) if (mention.is_cued or mention.is_right) and not mention.is_wrong]
    if picked:
        last = picked[-1]
        partner = found[last + 1] if found[last].joint and last + 1 < len(found) else None
        before = found[last - 1] if last and found[last - 1].joint else None
        if (
            found[last].is_right
            and not found[last].joint
            and any(mention.letter == found[last].letter for mention in found[:last])
        ):
            before = None  # "Between B and C, B is better"
        for other in (partner, before):
            if other is not None and other.letter != found[last].letter and not other.is_wrong:
                return None  # "A or B" names two
        return None if _WITH_OTHERS.match(text, found[last].end) else found[last].letter
    open_ones = {mention.letter for mention in found if not mention.is_wrong and not mention.is_word}
    open_ones -= {mention.letter for mention in found if mention.is_wrong}
    if any(_WITH_OTHERS.match(text, mention.end) for mention in found if mention.letter in open_ones):
        return None  # "A and all of the others"
    return open_ones.pop() if len(open_ones) == 1 else None


def _mentions(text: str, letters: str) -> list[_Mention]:
    found = []
    for match in _MENTION.finditer(text):
        kind = match.lastgroup or ""
        letter = match[kind].upper()
        if letter not in letters:
            continue
        line = text[text.rfind("\n", 0, match.start()) + 1 : (text.find("\n", match.end()) + 1 or len(text) + 1) - 1]
        is_line = re.fullmatch(rf"[\s*_#>-]*\(?{letter}\)?[.:)]?[\s*_]*", line) is not None
        before = text[max(0, match.start() - 80) : match.start()]
        if _FORMULA_BEFORE.search(before[-20:]):
            continue
        ends_sentence = kind == "marked" and text[match.end()] == "."
        is_name = (kind == "alone" or ends_sentence) and _NAME_BEFORE.search(before[-20:]) is not None
        if is_name or (kind == "alone" and _NAME_BEHIND.match(text, match.end())):
            continue  # vitamin B, B cells, C++, 25 °C
        answers_itself = before.rstrip().endswith("?") and re.fullmatch(r"[.!]?\s*", text[match.end() :]) is not None
        is_cued = kind in ("bold", "answered", "small") or is_line or answers_itself or _CUE.search(before) is not None
        is_word = (
            kind == "alone"
            and letter in "AI"
            and not is_cued
            and not re.match(r"\s*(?:[.,;!?*)]|$)", text[match.end() :])
        )
        if kind == "alone" and letter in "AI" and re.match(r"\s+[a-z]", text[match.end() :]):
            goes_on = re.match(
                r"\s+(?:is|are|was|because|since|as|and|or|so|but|fits|works|seems|which)\b", text[match.end() :]
            )
            is_word, is_cued = goes_on is None, is_cued and goes_on is not None
        is_wrong = _WRONG_BEFORE.search(before[-40:]) is not None
        found.append(_Mention(letter, match.start(), match.end(), is_word, is_cued, is_wrong))
    denied = [index for index, mention in enumerate(found) if mention.is_wrong]
    for mention, following in zip(reversed(found), [None, *reversed(found)], strict=False):
        stop = following.start if following else len(text)
        after = text[mention.end : stop][:200]
        if following and _JOINED.fullmatch(after):
            mention.joint, mention.is_word = after, False
            mention.is_wrong = mention.is_wrong or following.is_wrong
            continue
        clause = after[: end.start()] if (end := _CLAUSE_END.search(after)) else after
        clause = (
            clause.lstrip(".:) ")
            if end is None or end.start() > 1
            else after[end.end() :].split("\n")[0].split(". ")[0]
        )
        if following and end is None:  # "B, not A" denies the next one
            clause = _DENIES_NEXT.sub("", clause)
        if _WRONG_BEHIND.search(clause) or _ASKED.match(after):
            mention.is_wrong = True
        elif _IF_ONLY.search(clause):
            mention.is_right = False
        elif _RIGHT_BEHIND.match(clause):
            mention.is_right = True
    for index in denied:  # eliminating A, C and D
        last = index
        while last + 1 < len(found) and found[last].joint:
            last += 1
        while last > index and not re.search(r"\b(?:and|or|nor)\b", found[last - 1].joint, re.IGNORECASE):
            last -= 1
        for mention in found[index:last]:
            mention.is_wrong = True
        found[last].is_wrong = True
    return found
