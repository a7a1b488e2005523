r"""Spoken operations: "the square root of 5" -> \sqrt{5}, "5 squared" -> (5)^{2}, "3 out of 4" -> (3)/(4).

Only where the whole answer is one such operation on numbers, letters or pi; numbers are in digits already (see
`number_words.py`). Left out: operations inside one another, and inside a sentence.
"""

from __future__ import annotations

import re

_NUMBER = r"(-?[0-9][0-9,]*(?:\.[0-9]+)?)"
_VALUE = r"(-?[0-9][0-9,]*(?:\.[0-9]+)?|[a-zA-Z]|\\?pi)"
_LONGEST = 60
_OPERATIONS = [
    (re.compile(rf"(?:the )?{pattern}", re.IGNORECASE), result)
    for pattern, result in (
        (rf"(?:square )?root (?:of )?{_VALUE}", r"\\sqrt{\1}"),
        (rf"cube root of {_VALUE}", r"\\sqrt[3]{\1}"),
        (rf"{_VALUE} (?:times )?(?:the )?(?:square )?root (?:of )?{_VALUE}", r"\1\\sqrt{\2}"),
        (rf"(?:square of {_VALUE}|{_VALUE} squared)", r"(\1\2)^{2}"),
        (rf"(?:cube of {_VALUE}|{_VALUE} cubed)", r"(\1\2)^{3}"),
        (rf"(?:factorial of {_VALUE}|{_VALUE} factorial)", r"(\1\2)!"),
        (rf"{_VALUE} (?:raised )?to the (?:power(?: of)? )?{_VALUE}(?:st|nd|rd|th)?(?: power)?", r"(\1)^{\2}"),
        (rf"(?:twice|double) {_VALUE}", r"2*(\1)"),
        (rf"(?:negative|opposite|additive inverse) of {_VALUE}", r"-(\1)"),
        (rf"(?:reciprocal|multiplicative inverse) of (?:{_VALUE}|([0-9]+/[0-9]+))", r"1/(\1\2)"),
        (rf"half (?:of )?{_VALUE}", r"(\1)/2"),
        (rf"{_VALUE} (?:over|divided by) {_VALUE}", r"(\1)/(\2)"),
        (rf"{_NUMBER} (?:out of|in|of)(?: every| the)? {_NUMBER}", r"(\1)/(\2)"),
        (rf"{_NUMBER}(?: ?%| percent| per cent) of {_NUMBER}", r"(\1)/100*(\2)"),
        (rf"{_NUMBER}/{_NUMBER} of {_NUMBER}", r"(\1)/(\2)*(\3)"),
        (rf"{_VALUE} (?:times|multiplied by) {_VALUE}", r"(\1)*(\2)"),
        (rf"{_VALUE} plus {_VALUE}", r"(\1)+(\2)"),
        (rf"{_VALUE} minus {_VALUE}", r"(\1)-(\2)"),
        (rf"{_VALUE} more than {_VALUE}", r"(\2)+(\1)"),
        (rf"{_VALUE} (?:less|fewer) than {_VALUE}", r"(\2)-(\1)"),
        (rf"{_NUMBER} choose {_NUMBER}", r"\\binom{\1}{\2}"),
    )
]


def with_signs(text: str) -> str:
    """The text as a formula where it is one spoken operation, else as it is."""
    if len(text) > _LONGEST or " " not in text:
        return text
    for pattern, result in _OPERATIONS:
        match = pattern.fullmatch(text)
        if match:
            return match.expand(result)
    return text
