r"""Notation: one spelling for the many ways of writing a sign. Meaning is kept; layout commands go.

clean(r"\dfrac{1}{2} \leq x")  -> r"\frac{1}{2} <= x"
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from ponder.grading.visible import DIGITS

_SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "‒": "-", "∶": ":", "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*",
    "÷": "/", "⁄": "/", "∕": "/", "‰": r"\text{ permille}", "∎": " ",
    "π": r"\pi ", "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "∴": " ",
    "∞": r"\infty ", "≤": "<=", "≥": ">=", "⩽": "<=", "⩾": ">=", "≠": "!=",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "≡": r"\equiv ", "≈": r"\approx ",
    "±": r"\pm ", "°": r"^\circ ", "º": r"^\circ ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "μ": r"\mu ", "ω": r"\omega ", "φ": r"\phi ",
    "∠": r"\angle ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "“": '"', "”": '"', "’": "'", "′": "'", "\u00a0": " ", "\u2009": " ",
}  # fmt: skip
_SIGNS |= {chr(code): digit for code, digit in DIGITS.items()}
_SIGNS |= {char: f" {char_fraction} " for char, char_fraction in zip(
    "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒",
    "1/2 1/3 2/3 1/4 3/4 1/5 2/5 3/5 4/5 1/6 5/6 1/7 1/8 3/8 5/8 7/8 1/9 1/10".split(), strict=True
)}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LAYOUT = re.compile(
    r"\\(?:left|right)\s*\.(?!\d)|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|rm|bf|it|sf|tt|mathopen|mathclose|tiny"
    r"|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge|boldmath|therefore|implies|Rightarrow"
    r"|rightarrow|to(?=\s*-?\d)|blacksquare|qed|checkmark)(?![a-zA-Z])\s*"
    r"|\\(?:text)?color\s*\{[^{}]*\}\s*|\\[hm]s(?:pace|kip)\*?\s*\{[^{}]*\}"
    r"|\\(?:[hv]?phantom|tag\*?|label|[bx]?cancel|sout)\s*\{(?:[^{}]|\{[^{}]*\})*\}"  # not seen, struck out, numbering
)
_SPACES = re.compile(r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])|\\enspace(?![a-zA-Z])|~|&nbsp;")
_RENAMED = (
    (re.compile(r"\\(?:leqslant|leqq|leq|le)(?![a-zA-Z])"), "<="),
    (re.compile(r"\\(?:geqslant|geqq|geq|ge)(?![a-zA-Z])"), ">="),
    (re.compile(r"\\(?:neq|ne)(?![a-zA-Z])"), "!="),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:[dtc]|nice|s|x|flat)frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\(?:mid|lvert|rvert|vert)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\colon(?![a-zA-Z])"), ":"),
    (re.compile(r"\\(?:lbrace)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\lbrack(?![a-zA-Z])"), "["),
    (re.compile(r"\\rbrack(?![a-zA-Z])"), "]"),
    (re.compile(r"\\surd(?![a-zA-Z])"), r"\\sqrt "),
    (re.compile(r"\\root\s*(\d)\s*\\of(?![a-zA-Z])"), r"\\sqrt[\1]"),
    (re.compile(r"\\(?:operatorname|mathrm|text)\s*\{\s*(sin|cos|tan|arc(?:sin|cos|tan)|cis|ln|log)\s*\}"), r"\\\1 "),
    (re.compile(r"\\(?:varnothing)(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])|\\degree(?![a-zA-Z])"), r"\\deg "),
    (re.compile(r"\\(?:text|mathrm)\s*\{\s*\(?\s*mod\s*([0-9]+)\s*\)?\s*\}"), r"\\mod \1 "),
    (re.compile(r"\\(?:text|mathrm)\s*\{\s*mod\s*\}|\\[pb]?mod(?![a-zA-Z])"), r"\\mod "),
)


# commands whose argument means what it means without them; \\text and \\mathrm are left for words and units
_STYLED = re.compile(
    r"\\(?:boldsymbol|bm|pmb|math(?:bf|sf|it|tt|cal|scr|bin|ord|op)|emph|text(?:sf|tt|sc|sl|up|md)|ensuremath"
    r"|underline|colorbox\s*\{[^{}]*\})(?![a-zA-Z])\s*(?=[{0-9])"
)
_SIGN_IN_TEXT = re.compile(r"\\(?:text(?:rm|bf|it)?|mathrm|mbox)\s*\{\s*(\\[$%]|[-$%°€£¥])\s*\}")
_SQUARED_UNIT = re.compile(r"\\(?:text|mathrm)\s*\{([^{}/]*)/([^{}/]*)\}\s*\^\s*\{?([23])\}?")  # \text{m/s}^2
_SPACE_IN_UNIT = re.compile(r"(?<=[a-zA-Z])\s*(?:\\[,;. ]|\\cdot|~)\s*(?=[a-zA-Z]{1,3}\s*\^)")
_POWER_BEHIND = re.compile(
    r"\\(?:mathrm|text)\s*\{~?\s*([^{}^]{1,20})\}\s*\^\s*\{\s*-\s*([123])\s*\}$"
)  # \text{m s}^{-2}
_PER = re.compile(
    r"(?:\\(?:mathrm|text)\s*\{~?)?\s*\b([a-zA-Z]{1,3})[ *]+([a-zA-Z]{1,3})\s*\^\s*\{\s*-\s*([123])\s*\}\s*\}?$"
)
_FOREIGN = re.compile(r"[^\x00-\x7f\u2460-\u24ff]+")  # but the circled digits: ①② is not 12
_NESTED_TEXT = re.compile(r"\\(?:mathrm|text)\s*\{([^{}]*\^\s*\{[^{}]*\}[^{}]*)\}")  # \mathrm{m s^{-2}}
_SUBSCRIPTED_TEXT = re.compile(r"\\(?:mathrm|text)\s*\{([A-Z][A-Za-z]*|\d+)\}(?=\s*_)")  # \text{CO}_2
_TEXT_BEHIND_SUBSCRIPT = re.compile(r"(_\s*(?:\d|\{\d+\}))\s*\\(?:mathrm|text)\{([A-Z][a-z]?)\}")
_TEMPERATURE = re.compile(r"\\deg\s*(?:\\(?:text|mathrm)\s*\{\s*([CF])\s*\}|([CF])\b)")
_LOGIC = {"=": "!=", "<": ">=", ">": "<=", "lor": r"\text{ or }", "vee": r"\text{ or }"}
_LOGIC |= {"land": r"\text{ and }", "wedge": r"\text{ and }"}
_LOGICAL = re.compile(r"\\not\s*([=<>])|\\(lor|vee|land|wedge)(?![a-zA-Z])")
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\s*\{(?:equation|align(?:ed)?|gather(?:ed)?|multline|displaymath|math|split|center)\*?\}"
)
_SMALL_FRACTION = re.compile(r"[⁰¹²³⁴-⁹]+⁄[₀-₉]+")  # ³⁄₇
_PRIME = re.compile(r"\s*\^\s*(?:\{\s*(?:\\prime\s*)+\}|\\prime(?![a-zA-Z]))")
_SHORT_DEGREE = re.compile(r"(?<=\d)\s*\^\s*\{?\s*(?:\\(?:text|mathrm)\s*\{\s*o\s*\}|o(?![a-zA-Z]))\s*\}?")  # 90^o
_UNIT_VECTOR = re.compile(
    r"\\(?:(?:wide)?hat|vec|mathbf|boldsymbol|bm)\s*(?:\{\s*(?:\\(?:mathbf|boldsymbol|bm)\s*)?\{?\s*)?\\?([ijk])(?:math)?(?![a-zA-Z])"
    r"(?:\s*\}){0,2}"
)
_ROOT_SIGNS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
# one of what a text must hold, asked first since it is far quicker than a pattern; the pattern; what it becomes
_REWORDED: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (("or", "+"), re.compile(r"\+\s?/\s?-|\bplus[- ]or[- ]minus\b"), r"\\pm "),
    ((" a",),  # $5 a day
     re.compile(r"(?<=[0-9]) an? (?=(?:second|minute|hour|day|night|week|month|year|person|piece)\b)"), " per "),
    (("U",), re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])"), r"\\cup "),
    (("_", "."),  # 1_000, 1.234.567
     re.compile(r"(?<![\w.,])[0-9]{1,3}(?:(?:\.[0-9]{3}){2,}|(?:_[0-9]{3})+)(?![\w.,])"),
     lambda m: re.sub(r"[._]", "", m[0])),
    ((",",), re.compile(r"(?<![\w.,])([0-9]{1,3}(?:\.[0-9]{3})+),([0-9]{1,2})(?![\w.,])"),  # 1.234,56
     lambda m: m[1].replace(".", "") + "." + m[2]),
    ((",",), re.compile(r"(?<![\w.,])[0-9]{1,3}(?: [0-9]{3})+,[0-9]{1,2}(?![\w.,])"),  # 1 234,56
     lambda m: m[0].replace(" ", "").replace(",", ".")),
    ((": ",), re.compile(r"(?<![\w:] )(?<![\w:\\{])([a-z]): (?=[-+]?[\d\\(])"), r"\1 = "),  # x: 3, y: 4
    (("equal",), re.compile(r"(?<=[a-z0-9)}$] )(?:equals|is equal to)(?= )"), "="),
    (("oot", "mult", "ouble", "epeated"),
     re.compile(r"\s*\((?:(?:a )?(?:double|repeated|triple)(?: root)?|(?:with )?multiplicity \d)\)", re.I), ""),
    (("%", "\\deg"),  # 1/2% is half of 1%
     re.compile(r"(?<![\w.,)}/])(?<!\d )(\d{1,9}/\d{1,9})\s?(?=%|\\%|\\deg)"), r"(\1)"),
    (("egree",), re.compile(r"(\bdegrees? )(?:(celsius|centigrade)|(fahrenheit))\b", re.I),
     lambda m: m[1] + ("C" if m[2] else "F")),
    (("all ",), re.compile(
        r"^(?:the set of )?all (?:real )?(?:numbers |values |points )?(?:of )?(?:[a-z] )?"
        r"(?:such that|for which|where|with|satisfying) "
        r"|^(?:the set of )?all (?:real )?numbers (?=(?:greater|less|more|smaller|larger) than )"), ""),
    (("ll ",), re.compile(r"^all (?:real )?(?:numbers |values of )?(?=[a-z] ?[<>])", re.I), ""),  # all x > 3
    (("clusive",), re.compile(  # x between 2 and 5 inclusive
        r"^(?:([a-z]) )?(?:is |lies )?between (-?[\d./]+) and (-?[\d./]+)(?:,? | \()(?:(inclusive)|exclusive)\)?\.?$",
        re.I),
     lambda m: f"{m[2]} {'<=' if m[4] else '<'} {m[1] or 'x'} {'<=' if m[4] else '<'} {m[3]}"),
    ((" pairs ", " triples "),  # 4 ordered pairs (x, y)
     re.compile(r"(?<= )(pairs|triples) \([a-z](?:, ?[a-z]){1,2}\)$"), r"\1"),
    (("t least ", "t most ", "o more ", "o less ", "o fewer "), re.compile(
        r"^(?:([a-z]) (?:is |must be )?)?(?:at (?:(least)|most)|no (?:(less|fewer)|more) than) (?=[-\d\\])", re.I),
     lambda m: f"{m[1] or ''}{'>' if m[2] or m[3] else '<'}= "),
    (("oo",), re.compile(r"(?<![a-zA-Z])oo(?=\s*[)\],]|$)"), r"\\infty"),
    (("np.", "math."), re.compile(r"(?<![\w.])(?:np|math)\.(?=[a-z])"), ""),
    (("cbrt",), re.compile(r"(?<![a-zA-Z\\])cbrt\("), r"\\sqrt[3]("),
    (("€", "EUR", "euro"), re.compile(r"(?<![\w.,])([0-9]{1,3}(?: [0-9]{3})*),([0-9]{2})(?![\w.,])"),  # 45,00 €
     lambda m: m[1].replace(" ", "") + "." + m[2]),
    ((" than ",), re.compile(
        r"^((?:[a-z]|\\[a-z]+) )?(?:is |are )?(?:(greater|more|larger|bigger)|(less|smaller)) than (or equal to )?"
        r"(?=[-\d\\])"), lambda m: f"{m[1] or 'x '}{'>' if m[2] else '<'}{'=' if m[4] else ''} "),
)  # fmt: skip


def _unstyled(text: str) -> str:
    """Without commands of colour, weight and size; a wholly wrapped text without its braces too."""
    plain = _STYLED.sub("", text)
    if plain != text and plain.startswith("{") and plain.endswith("}"):
        depth = 0
        for index, char in enumerate(plain):
            depth += (char == "{") - (char == "}")
            if depth == 0:
                return plain[1:-1] if index == len(plain) - 1 else plain
    return plain


def _with_coordinates(text: str) -> str:
    """3\\hat{i} - 4\\hat{j} is (3, -4); 3 + 4\\mathbf{i} is no vector."""
    head, equals, vector = text.rpartition("=")
    names = [name.lower() for name in _UNIT_VECTOR.findall(vector)]
    factors = [factor.strip() for factor in _UNIT_VECTOR.sub("\0", vector).split("\0")]
    is_hat = "hat" in vector or "vec" in vector
    if len(names) < 1 + (not is_hat) or len(set(names)) < len(names) or factors.pop().strip(" .$") or len(vector) > 200:
        return text
    values = dict.fromkeys("ijk" if "k" in names else "ij", "0")
    for name, factor in zip(names, factors, strict=True):
        plain = factor.lstrip(" $").removeprefix("+").strip()
        is_term = not re.search(r"[-+,]", re.sub(r"\([^()]*\)|\{[^{}]*\}", "", plain.removeprefix("-")))
        if not is_term or (name != names[0] and factor[:1] not in ("+", "-")):
            return text
        values[name] = f"{plain}1" if plain in ("", "-") else plain
    return f"{head}{equals}({', '.join(values.values())})"


def clean(text: str) -> str:
    """One spelling for the many ways of writing a sign; layout commands removed. Meaning is kept."""
    if "\\hat" in text or "\\vec" in text or "\\mathbf" in text or "\\bold" in text:
        text = _with_coordinates(text)
    if not text.isascii():
        if "⁄" in text:
            text = _SMALL_FRACTION.sub(lambda m: unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"), text)
        text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
        text = re.sub(r"([√∛∜])\s*(\d+(?:\.\d+)?)", lambda m: _ROOT_SIGNS[m[1]] + "{" + m[2] + "}", text)
        text = re.sub(r"[₀-₉]+", lambda m: "_{" + m[0].translate(_SUBSCRIPTS) + "}", text)
        text = "".join(_SIGNS.get(char, char) for char in text)
        text = _FOREIGN.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
        text = "".join(_SIGNS.get(char, char) for char in text)  # π of another typeface
    if "\\" in text:
        if "-" in text and "^" in text and ("\\text" in text or "\\mathrm" in text):
            text = (
                _PER.sub(r" \1/\2^\3", _POWER_BEHIND.sub(r" \1^{-\2}", _SPACE_IN_UNIT.sub(" ", text)))
                .replace("^1}", "}")
                .removesuffix("^1")
            )
        text = _SQUARED_UNIT.sub(r"\\text{\1/\2^\3}", text)
        if "{" in text and ("^" in text or "_" in text):
            text = _SUBSCRIPTED_TEXT.sub(r"\1", _NESTED_TEXT.sub(r" \1", text))
            text = _TEXT_BEHIND_SUBSCRIPT.sub(r"\1\2", text)
        text = _SIGN_IN_TEXT.sub(r"\1", _LAYOUT.sub("", text).strip())
        text = re.sub(r"\s*\\!\s*", "", _unstyled(text))
        text = _ENVIRONMENT.sub("", text) if "&" not in text else text
    text = re.sub(r"(?<![\\_^}a-z])\{([-+=,:]|\\[pm][pm])\}", r"\1", text) if "{" in text else text
    if "{\\frac" in text:
        text = re.sub(r"(?<=\d)\s?\{(\\frac\s?(?:\{\d+\}\{\d+\}|\d\d))\}", r"\1", text)  # 2{\frac{3}{5}} is 2 3/5
    text = (
        re.sub(r"(?<![\d'])\d{1,3}(?:'\d{3})+(?![\d'])", lambda m: m[0].replace("'", ""), text) if "'" in text else text
    )
    text = re.sub(r"(?<=\d)\\,(?=\d{3}(?!\d))", "", text)
    text = _SPACES.sub(" ", text)
    if " times 10" in text:
        text = re.sub(r"(?<=\d) times (?=10\s?\^)", "*", text)
    if "log" in text:
        text = re.sub(r"(?<![a-zA-Z\\])log(2|10)(?=\()", r"\\log_{\1}", text)
    if "\\" in text:
        for pattern, sign in _RENAMED:
            text = pattern.sub(sign, text)
        if "prime" in text:
            text = _PRIME.sub(lambda m: "'" * m[0].count("prime"), text)
        text = _LOGICAL.sub(lambda m: _LOGIC[m[1] or m[2]], text)
        if "Omega" in text:
            text = re.sub(r"(?<=\d)\s*(k?)\\Omega$", r" \1ohm", text)
        if r"\deg" in text:
            text = _TEMPERATURE.sub(lambda m: rf" \text{{degrees {m[1] or m[2]}}}", text)
    if "^" in text:
        if "o" in text:
            text = _SHORT_DEGREE.sub(r"\\deg ", text)
        text = re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s?\^)", "*", text)
    for needles, pattern, plain in _REWORDED:
        for needle in needles:  # not any(), which would take longer than all the rest
            if needle in text:
                text = pattern.sub(plain, text)
                break
    return re.sub(r"\s+", " ", text.replace(r"\%", "%").replace(r"\$", r"\dollar ").replace("\u200b", "")).strip()
