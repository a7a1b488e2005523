"""Wording: an answer in one spelling, without delimiters, markup and closing punctuation; and what is prose."""

from __future__ import annotations

import re

from ponder.grading.notation import clean
from ponder.grading.number_words import with_digits
from ponder.grading.spoken import with_signs

_WRAPPED = re.compile(
    r"\\(?:text(?:rm|normal|bf|it)?|mbox|mathrm|mathbf|boxed|f(?:rame)?box|hbox|underline)\s*\{(.*)\}", re.DOTALL
)
_LEAD = re.compile(
    r"^\s*(?:(?:[=-]>|[→⇒⟹])\s*)?(?:(?:(?:a|in)\s+total(?:\s+of)?|so|thus|hence|therefore|then|finally|in\s+conclusion|we\s+(?:get|have|find|obtain|conclude)|it\s+follows)"
    r"(?:\s*[,:])?\s+(?:that\s+)?(?=\S))*",
    re.IGNORECASE,
)
_COUNTRY = re.compile(r"(?<![A-Za-z$])(?:US\s?|(?:AU?|CA?|NZ|HK|S)(?=\\?\$[0-9]))(?=\\?\$)")  # US$5, A$5
_SHORT_SCALE = re.compile(r"((?:\$|€|£)\s?[0-9][0-9,]*(?:\.[0-9]+)?)\s?([kKMB]|bn)(?![A-Za-z0-9])")  # $1.25k
_SCALE_NAMES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion"}
_ANSWER_LABEL = re.compile(
    r"^\s*\\text(?:bf|rm)?\s*\{\s*(?:the\s+)?(?:final\s+)?ans(?:wer)?\.?(?:\s+is)?\s*[:=]?\s*\}\s*[:=]?\s*(?=\S)",
    re.IGNORECASE,
)
_END_MARK = re.compile(r"\s*(?:[✓✔✅☑□■∎◻◼]\ufe0f?|\\(?:blacksquare|square|checkmark|qed|Box|surd)(?![a-zA-Z]))$")
_BOLD = re.compile(r"(?<![\w)*])\*\*(?=\S)([^*]{1,80})\*\*(?![\w(*])")


def unwrap(answer: str) -> str:
    """The answer in one spelling, without delimiters, boxes, markup, quotes and closing punctuation."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", answer)
    text = _LEAD.sub("", text)
    if text.startswith("* "):  # the bullet of a list
        text = re.sub(r"^\*\s+(?=[-+]?[0-9.$\\]+[^*]*$)", "", text)
    if "**" in text:
        text = _BOLD.sub(r"\1", re.sub(r"^\s*[-•]\s+(?=\*\*)", "", text))
    text = re.sub(r"(?<=[0-9])(,?)\s?(?:\.\.\.|…)", r"\1\\ldots", text)
    if "$" in text:
        text = _COUNTRY.sub("", text.replace("$$", "$"))
        text = re.sub(r"^(\\?\$)\s?[-−]\s?(?=[0-9.]+$)", r"-\1", text.strip())  # $-20
    if "/-" in text:
        text = re.sub(r"(?<=[0-9])/-(?=$|\s)", "", text)  # Rs 45/-
    if text.lstrip().startswith("\\text"):
        text = _ANSWER_LABEL.sub("", text)
    if "$" in text or "€" in text or "£" in text:
        text = _SHORT_SCALE.sub(lambda m: f"{m[1]} {_SCALE_NAMES[m[2].lower()]}", text)
    dollars = len(re.findall(r"(?<!\\)\$", text))
    text = re.sub(r"(?<!\\)\$", " " if dollars % 2 == 0 else r" \\dollar ", text)
    text = re.sub(r"\\(?:text(?:bf|rm)?|math(?:bf|rm))\s*\{\s*(\([A-J]\))\s*\}", r"\1 ", clean(text))
    for _ in range(6):
        before = text
        text = _END_MARK.sub("", text.strip().rstrip(".,;:\\")).strip()
        for mark in ("**", "__", "`", '"', "'", "*", "_"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
        match = _WRAPPED.fullmatch(text)
        if match and _is_balanced(match[1]):
            text = match[1]
        if text == before:
            break
    return with_signs(with_digits(text))


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


_IN_TEXT = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CONNECTIVES = frozenset(
    "assume assuming suppose supposing imagine"
    " so thus hence therefore then since because when if that this it is are was we get have find where let".split()
)


def is_prose(text: str) -> bool:
    """A sentence and no formula: several words outside \\text, or one that joins sentences."""
    return not _CONNECTIVES.isdisjoint(_words_of(text)) or sum(len(word) > 2 for word in _words_of(text)) > 1


def joins_sentences(text: str) -> bool:
    """Mathematics inside a sentence, after whose beginning (So, We get) more words follow."""
    text = _LEAD.sub("", text)
    return re.search(r"[0-9\\^=]", text) is not None and not _CONNECTIVES.isdisjoint(_words_of(text))


def _words_of(text: str) -> list[str]:
    # 2wE is a product of letters: words are written we, We or WE
    found = _WORD.findall(_IN_TEXT.sub(" ", text))
    return [word.lower() for word in found if word[1:].islower() or word.isupper()]
