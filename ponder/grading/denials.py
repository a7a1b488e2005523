r"""Denials: what is said around a number that keeps it from being the answer.

    is_denied("It is not ")             -> True       also "more than ", "outside ", "the reciprocal of "
    is_refuted("12 is too small", 2)    -> True       also "12 or so", "12 doubled", "12 R 3"

What a writer takes back in a sentence of its own is in `corrections.py`.
"""

from __future__ import annotations

import re

from ponder.grading.units import MULTIPLIERS

NUMBER_WORD = r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|a\s+(?:half|third|quarter))"
_OPERATION = (  # what it makes of the number behind it is not that number
    r"twice|thrice|double|triple|half(?:\s+of)?|(?:quarter|third|fifth|sixth|eighth|tenth)s?\s+of|divisible\s+by|(?:square|cube|cubic)\s+(?:root\s+)?of|root"
    r"|(?:multiples?|powers?|factorial|percent|per\s+cent|%|double|negative|negation|opposite|reciprocal|inverse|complement|conjugate"
    r"|successor|predecessor|log(?:arithm)?|(?:co)?sine|tangent|absolute\s+value|interior|exterior|boundary|closure|eve)\s+of|times"
    r"|(?:number|integer|prime|multiple|power|square|cube|letter|digit|value|(?:day|week|month|year)s?)"
    r"\s+(?:(?:right|just|immediately)\s+)?(?:after|before|following|preceding)"
)
_DENIED = re.compile(
    r"(?:(?:\bnot|n't|\bcannot|\bnever|\bno\s+longer)\s+(?:[a-z]+ly\s+|quite\s+)?(?:equal(?:\s+to)?\s+|be\s+|the\s+answer\s+"
    r"|(?:(?:be|lie|lies|fall|belong|contained|included)\s+)?(?:in(?:side)?|within|to|between)\s+)?"
    r"|\b(?:nicht|kein|keine|niet|não|non|не|нет|nie)\s+(?:è\s+|é\s+|jest\s+|равно\s+|равен\s+)?|\bn['’]est\s+pas\s+|\bpas\s+"
    r"|\bno\s+(?:es|son|sea)\s+|(?:不是|不等于|不为|不|超过|少于|多于|大于|小于|至少|至多)\s*"
    r"|\b(?:almost|such\s+as|short\s+of|nothing\s+like|without)\s+|\bno\s+way\s+(?:that\s+)?(?:it|this|that|the\s+answer)(?:['’]s|\s+(?:is|was|can\s+be|could\s+be|equals))\s+|[✗✘❌✖∉]\s*"
    r"|\b(?:suppose|supposing|assum(?:e|ing)|imagine|pretend)\s+(?:that\s+)?(?:(?:the\s+)?[a-z]+\s+(?:is|was|were)\s+)?"
    r"|\bwhether\s+(?:[a-z]+\s+){1,4}"
    r"|\b(?:doubt|(?:don['’]t|do\s+not|never)\s+(?:think|believe)|(?:false|untrue|unlikely|impossible|not\s+(?:true|clear|certain|sure|the\s+case))(?=\s+that\b))\s+(?:that\s+)?(?:it|this|that|the\s+answer)\s+(?:is|was)\s+"
    r"|\b(?:except(?:\s+for)?|(?:all|any|every)(?:thing)?(?:\s+(?!(?:is|are|was|were|wrong)\b)[a-z]+){0,2}\s+but|save\s+for|besides|(?:apart|aside)\s+from|than(?:\s+or\s+equal\s+to)?|up\s+to|under|over|below|above|near"
    r"|outside(?:\s+of)?|beyond|avoid(?:s|ing)?|close\s+to|exceed(?:s|ed|ing)?|instead\s+of|impossible\s+to\s+(?:be|get|have|reach)"
    r"|differ(?:s|ent)?\s+from|(?:rul\w+\s+out|exclud\w+|reject\w*|eliminat\w+|discard\w*|dismiss\w*|disregard\w*|retract\w*)(?:\s+the)?)\s+"
    r"|(?:^|\b(?:is|are|be)\b|:)\s*(?:at\s+(?:least|most)|a\s+(?:minimum|maximum)\s+of)\s+"  # "need at least 5" says 5
    rf"|\b(?:{_OPERATION})\s+|(?:[<>!]=|[≤≥≠]|\\(?:leq?|geq?|neq?|notin|lt|gt)(?![a-zA-Z]))\s*)"
    r"(?:(?:the|an?|open|closed|interval|set|range|number|value|point)\s+){0,3}[$*]*$",
    re.IGNORECASE,
)
_DENYING = frozenset(  # the last word of what _DENIED finds; looking for it first is ten times as fast
    "not cannot never longer equal to be answer except for but than under over below above near from out the of by get"
    " quite nicht kein keine niet não non не нет nie è é jest равно равен pas es son sea almost as suppose supposing"
    " assume assuming imagine pretend that were are"
    " like without equals is was have reach exceed exceeds exceeded exceeding least most twice thrice double triple"
    " half root times in inside within between outside beyond besides avoid avoids avoiding after before"
    " following preceding an open closed interval set range number value point".split()
)
_DENYING_STARTS = ("exclud", "reject", "eliminat", "discard", "dismiss", "disregard", "retract", "\\")
_DENYING_ENDS = (
    "n't", "'s", "’s", "✗", "✘", "❌", "✖", "∉", "<=", ">=", "!=", "≤", "≥", "≠", "ly",
    "不是", "不等于", "不为", "不", "超过", "少于", "多于", "大于", "小于", "至少", "至多",
)  # fmt: skip
_WRONG = (
    r"(?:wrong|incorrect|false|impossible|invalid|excluded|rejected|eliminated|discarded|dismissed|disregarded|extraneous|out"
    r"|forbidden|prohibited|disallowed|avoided|removed|omitted|skipped|left\s+out"
    r"|spurious|inadmissible|unacceptable|ruled\s+out|out\s+of\s+(?:range|the\s+question)|too\s+[a-z]+"
    r"|an?\s+(?:[a-z]+\s+)?(?:mistake|error|trap)|not\b|(?:right|correct|possible|the\s+answer)\s+(?:only\s+)?if)\b"
)
_OPEN = (  # the end of a range
    r"(?:,?\s*(?:or|and|if\s+not)|,(?=\s*(?:perhaps|maybe|possibly)\b))\s+(?:(?:even|perhaps|maybe|possibly|an?|little|bit|few)\s+)*"
    r"(?:so|more|less|fewer|greater|higher|lower|above|up|below|thereabouts|counting|something|another)\b"
    r"|give\s+or\s+take\b|if\s+not\b"
)
_CHANGED = (  # doubled, R 3, less two, point five
    rf"(?P<multiplied>(?:{'|'.join(sorted(MULTIPLIERS))})s?)\s*(?:[.,;:!?)\]}}]|\n|$)"
    r"|R\s?[0-9]|,?\s*(?:with\s+)?(?:an?\s+)?rem(?:ainder|\.)"
    rf"|point\s+(?:{NUMBER_WORD}\b|[0-9])|(?:plus|minus|less|over|times|by|upon|into)\s+{NUMBER_WORD}\b|and\s+{NUMBER_WORD}\s*(?:[.,;!)]|$)"
    r"|plus\s*(?:[.!]|$)|(?:decreased|increased|reduced|raised|multiplied|divided)\s+by\b"
)
_THERE_ARE = re.compile(r"\bthere\s+(?:are|were|exist)\b[^.!?\n]*$|\bhow\s+many\b", re.IGNORECASE)
_REFUTED = re.compile(  # called wrong, or only the end of a range
    r"[*_$\"'\s]*(?:\?\s*[*_]*no\b|[✗✘❌✖]|,?\s*but\s+(?:no\b|(?:I\s+am|I['’]m|(?:that|this|it)(?:\s+is|['’]s))\s+(?:wrong|incorrect|mistaken|not\s+(?:right|correct|it)\b))"
    r"|(?:is|was|are|were|do|does|did|wo|would|ca|could|can)n['’]t\b|(?:does|do|did|will|would|can|could)\s+not\b|cannot\b"
    r"|(?:fails|failed|contradicts|violates|tens|halves|thirds|fourths|fifths|sixths|eighths|tenths|hundredths)\b|[,:;–—-]+\s*(?:wrong|incorrect|false)\b|(?:не|ist\s+nicht|n['’]est\s+pas|no\s+es|non\s+è|não\s+é)(?!\w)|(?:ではありません|ではない|じゃない|不是|不对)"
    rf"|{_OPEN}|{_CHANGED}"
    r"|,?\s*but\s+only\s+one\b|,?\s*(?:etc|and\s+so\s+on)\b|is\s+(?:only\s+|just\s+)?an?\s+(?:lower|upper|example|estimate|guess|candidate|typo)|\.\.\s?[0-9]"
    r"|\((?:sorry|oops|wait|actually|correction|no)\b|\+(?!\s*[\w\\(])|at\s+(?:least|most|(?:the\s+)?(?:minimum|maximum|worst|best))\b|(?:squared|cubed|factorial|times\s+itself|(?:raised\s+)?to\s+the)\b"
    rf"|(?:,\s*which\s+|[a-z]+\s+)?(?:is|are|was|(?:would|must|can|could|ha[sd]\s+to)\s+(?:be|have\s+been))\s+(?:[a-z]+ly\s+)?{_WRONG}"
    r")",
    re.IGNORECASE,
)


def is_denied(before: str) -> bool:
    """Does a text end in something that says what the answer is not?"""
    word = before.rstrip("$* \n\t").replace("\n", " ").rpartition(" ")[2].lower()
    may_be = word in _DENYING or word.endswith(_DENYING_ENDS) or word.startswith(_DENYING_STARTS)
    return may_be and _DENIED.search(before) is not None


def is_refuted(text: str, index: int) -> bool:
    """Is the number that ends at an index called wrong, only the end of a range, or made another by what follows?"""
    refuted = _REFUTED.match(text, index, index + 60)
    if refuted is None:
        return False
    is_counted = refuted["multiplied"] and _THERE_ARE.search(text, max(0, index - 60), index)  # there are 48 pairs
    return not is_counted
