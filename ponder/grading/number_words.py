"""Number words: "two hundred and five" -> 205, "minus eight" -> -8, "three quarters" -> 3/4, inside any text.

English cardinals up to trillions, halves to tenths after a cardinal, `a dozen`; digits with a scale word (5 million)
are for the parser of `expressions.py`. An ordinal alone is its number: 7th, seventh. Left out: ordinals in a text, and
words inside hyphens ("one-to-one").
"""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = {name: value for value, name in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split()
)}  # fmt: skip
_SMALL |= {name: 10 * value for value, name in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
)}  # fmt: skip
_LARGE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
          "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8,
          "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10, "twelfth": 12, "twelfths": 12,
          "twentieth": 20, "twentieths": 20, "hundredth": 100, "hundredths": 100, "thousandth": 1000,
          "thousandths": 1000, "millionth": 10**6, "millionths": 10**6}  # fmt: skip
_UNIT = "|".join(_SMALL)
_WORD = f"(?:{_UNIT}|{'|'.join(_LARGE)})"
_AFTER_LARGE = r"(?:(?<=hundred)|(?<=thousand)|(?<=million)|(?<=billion))"
_RUN = re.compile(
    rf"(?<![\w\\-])(?:(minus|negative)\s+)?(?:(half\s+)?(an?)\s+(?=hundred|thousand|million|billion|trillion|dozen|half)"
    rf"(half\b)?)?({_WORD}?(?:(?:\s+|-|{_AFTER_LARGE}\s+and\s+(?=(?:{_UNIT})\b)"
    rf"|(?:(?<=thousand)|(?<=million)|(?<=billion)),\s+(?=(?:{_UNIT})\s+hundred\b))(?={_WORD}\b){_WORD})*)"
    rf"(?:[\s-]+({'|'.join(_PARTS)}))?(?![\w-])",
    re.IGNORECASE,
)
_AND_A_PART = re.compile(r"(?<![\w.])(\d{1,9})\s+and\s+(1/2|[13]/4|[12]/3)(?!\w)")
_AND_ONE_PART = re.compile(rf"(?<![\w.])(\d{{1,9}})\s+and\s+(?:an?|one)\s+({'|'.join(_PARTS)})(?![\w-])", re.IGNORECASE)
_HOUR_AND_HALF = re.compile(
    r"(an?|one|\d{1,9}) ([a-z]{3,12}) and (?:an? )?(half|quarter|1/[24])", re.IGNORECASE
)  # an hour and a half
_POINT = re.compile(
    rf"(?<![\w-])({_WORD}(?:[\s-]+{_WORD})*)\s+point\s+((?:{_UNIT})(?:[\s-]+(?:{_UNIT}))*)(?![\w-])", re.IGNORECASE
)
_OF_A = re.compile(r"^(\d+/\d+) of an? (?=[a-z]+$)")  # three quarters of an hour
_DIGIT_PARTS = re.compile(  # 7 twelfths; 3 quarters may be coins
    rf"^(-?[0-9]{{1,9}}) ({'|'.join(name for name in _PARTS if name.endswith(('ths', 'rds')))})(?=$| of an? [a-z]+$)"
)
_ONE_AND = re.compile(r"^an? (?=(?:hour|minute|day|week|year|dollar|foot) and [0-9])")
_HALF_A = re.compile(r"^half (?:of )?an? (?=[a-z]+$)", re.IGNORECASE)
_SIGNED = re.compile(r"^\s*(?:minus|negative)\s+(?=[$\\\d]|infinity$)", re.IGNORECASE)
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
             "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12}  # fmt: skip
_ORDINAL = re.compile(
    rf"(?:the )?(?:([0-9]{{1,9}})(?:\^?\{{?(?:\\text\{{)?(?:st|nd|rd|th)\}}*)|({'|'.join(_ORDINALS)}))", re.IGNORECASE
)
_TO_THE_NTH = re.compile(rf"(?<= to the )({'|'.join(_ORDINALS)})(?= power$|$)", re.IGNORECASE)
_SPELT = re.compile(  # 7 (seven), seven (7)
    rf"(?P<digits>-?[0-9][0-9,.]*)\s*\((?P<words>(?:(?:{_WORD}|and|minus|negative)[\s-]*)+)\)(?=\s|$)"
    rf"|\b(?P<first>(?:{_WORD})(?:[\s-]+(?:{_WORD}|and))*)\s*\((?P<second>[0-9][0-9,.]*)\)(?=\s|$)",
    re.IGNORECASE,
)
_ONE_PART = re.compile(rf"half|(?:an?|one)[\s-]({'|'.join(_PARTS)})", re.IGNORECASE)
_ANY = re.compile(rf"\b(?:{_WORD}|half)\b", re.IGNORECASE)


def with_digits(text: str) -> str:
    """The text with its number words as digits."""
    text = _SIGNED.sub("-", text)
    if len(text) < 24 and (part := _ONE_PART.fullmatch(text)):
        return f"1/{_PARTS[(part[1] or 'half').lower()]}"
    if len(text) < 24 and (ordinal := _ORDINAL.fullmatch(text)):
        return ordinal[1] or str(_ORDINALS[ordinal[2].lower()])
    if " to the " in text:  # two to the fifth power
        text = _TO_THE_NTH.sub(lambda match: str(_ORDINALS[match[0].lower()]), text)
    if "ths" in text or "thirds" in text:
        text = _DIGIT_PARTS.sub(lambda match: f"{match[1]}/{_PARTS[match[2].lower()]}", text)
    if " of a" in text:
        text = _OF_A.sub(r"\1 ", text)
    if text.startswith(("a ", "an ")):
        text = _ONE_AND.sub("1 ", text)
    if not _ANY.search(text) and " and a" not in text:
        return text
    if " point " in text:
        text = _POINT.sub(_with_point, text)
    if " and a" in text and (hours := _HOUR_AND_HALF.fullmatch(_RUN.sub(_digits, text))):
        whole, rest = "1" if hours[1].isalpha() else hours[1], ".5" if hours[3].lower() in ("half", "1/2") else ".25"
        return f"{whole}{rest} {hours[2]}"
    text = _SPELT.sub(_once, _HALF_A.sub("1/2 ", text))
    return _OF_A.sub(r"\1 ", _AND_A_PART.sub(r"\1 \2", _with_parts(_RUN.sub(_digits, text))))


def _with_parts(text: str) -> str:
    return (
        _AND_ONE_PART.sub(lambda match: f"{match[1]} 1/{_PARTS[match[2].lower()]}", text) if " and " in text else text
    )


def _with_point(match: re.Match[str]) -> str:
    """three point two five: the digits after the point are read one by one, or as one number below a hundred."""
    whole = _value(re.split(r"[\s-]+", match[1].lower()), has_article=False)
    names = re.split(r"[\s-]+", match[2].lower())
    decimals = [_SMALL[name] for name in names]
    number = _value(names, has_article=False)
    if whole is None or whole.denominator != 1:
        return match[0]
    if all(digit < 10 for digit in decimals):
        return f"{whole}.{''.join(map(str, decimals))}"
    return match[0] if number is None else f"{whole}.{number}"


def _once(match: re.Match[str]) -> str:
    """A number that stands there in words too is one number: the words again where they say another."""
    digits, spelt = match["digits"] or match["second"], match["words"] or match["first"]
    return digits if _RUN.sub(_digits, spelt).strip() == digits.replace(",", "") else match[0]


def _digits(match: re.Match[str]) -> str:
    sign, half, article, whole_half, run, part = match.groups()
    words = [word for word in re.split(r"[\s,-]+", run.lower()) if word and word != "and"]
    if not words and not (whole_half or (part and part.lower() == "half")):
        return match[0]
    value = Fraction(1, 2) if not words else _value(words, has_article=article is not None)
    if value is None:
        return match[0]
    if half:
        value /= 2
    if part and words:
        value /= _PARTS[part.lower()]
    return f"{'-' if sign else ''}{value}"


def _value(words: list[str], *, has_article: bool) -> Fraction | None:
    """None where the words are no number: "two three", "hundred" alone."""
    total, group, last = 0, 1 if has_article else 0, 0
    is_open = has_article  # a scale may follow
    for word in words:
        if word in _SMALL:
            value = _SMALL[word]
            fits = last == 0 or last >= 100 or (last >= 20 and value < 10 and value > 0)
            if not fits or (has_article and not total and last == 0):
                return None
            group, last, is_open = group + value, value, True
        elif not is_open:
            return None
        elif word in ("hundred", "dozen"):
            group, last = group * _LARGE[word], 100
        else:
            total, group, last = total + group * _LARGE[word], 0, 1000
    return Fraction(total + group)
