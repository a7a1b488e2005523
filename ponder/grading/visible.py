"""Visible text: what a reader is shown of an answer.

    visible("<think>12?</think>~~13~~ It is 14.")   -> " It is 14."

Thoughts, tool calls, comments, hidden elements, struck-out text, addresses of the web and HTML tags are no part of it.
A number beside Chinese, Japanese or Korean letters is set apart from them. One equation in an environment of TeX is one
formula on one line: \\begin{equation*} x = 5 \\end{equation*} is \\[x = 5\\].
"""

from __future__ import annotations

import re

_THOUGHT = re.compile(r"<(think|thinking|reasoning|tool_call|tool_response)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSED_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_STRUCK = re.compile(
    r"(?<![\w~])~~(?=[^\s~])[^~\n]{1,200}(?<=\S)~~(?![\w~])|<(del|strike)>[^<]{0,400}</\1>"
    r"|<(\w{1,10})\s[^<>]{0,100}?(?:\bhidden\b|display:\s?none)[^<>]{0,100}>[^<]{0,400}</\2>",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.{0,2000}?-->", re.DOTALL)
_HTML = re.compile(
    r"</?(?:(p|div|h[1-6]|[uo]l|li|table|t[rdh])|b|i|u|em|strong|mark|span|center|font|code)(?:\s[^<>]{0,200})?>|<(br)\s*/?>",
    re.IGNORECASE,
)
_MARKS = re.compile(  # of a calculator, as in 48+24 = <<48+24=72>>72, and of the end of a turn
    r"<<[^<>\n]{1,100}>>|<\|[a-z_]{2,20}\|>|</s>"
)
_RAISED = re.compile(r"<sup>([^<]{1,40})</sup>", re.IGNORECASE)
_LINK = re.compile(r"(?<!!)\[([^\[\]\n]{1,80})\]\(https?://[^\s()]*\)")
_ADDRESS = re.compile(r"\bhttps?://[^\s()<>\]]+", re.IGNORECASE)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_CJK = r"\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af"
_COUNTED = "十百千万亿億兆만억分之第"  # a number that goes on in letters: 3万 is 30000
_BESIDE_CJK = re.compile(rf"(?<=[{_CJK}])(?<![{_COUNTED}])(?=[-−]?[0-9])|(?<=[0-9])(?=[{_CJK}])(?![{_COUNTED}])")
_OR_IN_CJK = re.compile(r"(?<=[0-9]) ?(?:或者?|または|또는|もしくは) ?(?=[-−]?[0-9])")


_MATRIX = re.compile(r"\\begin\s*\{([a-zA-Z]*matrix|array|cases)\}.{0,1000}?\\end\s*\{\1\}", re.DOTALL)
_EQUATION = re.compile(
    r"\\begin\s*\{(aligned|gathered|split|(?:equation|align|gather|multline|displaymath|math)\*?)\}"
    r"((?:(?!\\begin\s*\{(?:align|gather|split)).){0,1000}?)\\end\s*\{\1\}",
    re.DOTALL,
)
_NEXT_SIDE = re.compile(r"\\\\\s*&?\s*(?==)")  # x &= 2 + 3 \\ &= 5
_ZEROS = "\u0660\u06f0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\u1040\u17e0"
DIGITS = {ord(zero) + digit: str(digit) for zero in _ZEROS for digit in range(10)}  # of other scripts: ٤٢ is 42
_SEPARATORS = {0x066B: ".", 0x066C: ","}  # of decimals and of thousands, in Arabic
_UNSEEN_OR_DIGITS: dict[int, str | None] = {**DIGITS, **_SEPARATORS, **_UNSEEN}
_UNDERSCORED = re.compile(r"(?<![\w\\])__(?=[^\s_])([^_\n]{1,80})(?<=\S)__(?!\w)")


def without_thoughts(text: str) -> str:
    """Without <think>...</think> and its like. An unclosed one ends the text; a lone </think> drops all before it."""
    if "<" not in text:
        return text
    text = _THOUGHT.sub("", text)
    closed = list(_CLOSED_THOUGHT.finditer(text))
    return text[closed[-1].end() :] if closed else text


def visible(text: str) -> str:
    if "<" in text:
        text = _MARKS.sub("", without_thoughts(text))
        if "-->" in text:
            text = _COMMENT.sub("", text)
        if "</" in text or "<br" in text:
            text = _RAISED.sub(r"^{\1}", _STRUCK.sub("", text))
            text = _HTML.sub(lambda match: "\n" if match[1] or match[2] else "", text)
    if r"\begin" in text:
        text = _EQUATION.sub(_on_a_line, _EQUATION.sub(_on_a_line, _MATRIX.sub(lambda m: " ".join(m[0].split()), text)))
    if "~~" in text:
        text = _STRUCK.sub("", text)
    if "__" in text:
        text = _UNDERSCORED.sub(r"**\1**", text)
    if "://" in text:
        text = _ADDRESS.sub("", _LINK.sub(r"\1", text))
    return text if text.isascii() else _spaced(text)


def _on_a_line(match: re.Match[str]) -> str:
    """The one equation of an environment as a formula; several of them as they are."""
    body = " ".join(match[2].split())
    if r"\begin" not in body:
        body = _NEXT_SIDE.sub("", body).replace("&", "")
        if r"\\" in body:
            return match[0]
    return body if match[1] in ("aligned", "gathered", "split") else rf"\[{body}\]"


def _spaced(text: str) -> str:
    return _BESIDE_CJK.sub(" ", _OR_IN_CJK.sub(" or ", text.translate(_UNSEEN_OR_DIGITS)))
