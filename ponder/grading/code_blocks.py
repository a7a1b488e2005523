r"""Code blocks: the program in a model's answer.

    extract_code("Sure:\n```python\ndef f(x):\n    return x\n```\nThis returns x.")   -> "def f(x):\n    return x\n"
    extract_code("It cannot be done.")                                               -> None

The first of these that is there counts:

1. the last complete fenced block of the language, by its tag; with `defines`, the last one that defines that name;
2. the last complete fenced block without a tag that reads like code of the language;
3. a block that was opened and never closed, as far as it goes;
4. code without a fence: from the first line that reads like code to the first that reads like prose.

A transcript (`>>> f(1)`) and a block of another language are no program. A fence inside a docstring does not end its
block. Reading is by lines and in linear time; nothing is parsed or run here, so a program may be returned that does not
compile. Left out: a program that is spread over several blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

MAX_TEXT = 400_000  # characters of an answer that are looked at, from its end
MAX_CODE = 100_000  # characters of a program; a longer one is none
MAX_UNENDED = 4  # blocks whose docstrings never end, each read to the end of the text; a further one is read without

_TAGS = {
    "python": {"python", "python3", "py", "py3", "python2"},
    "c++": {"c++", "cpp", "cc", "cxx", "c++11", "c++14", "c++17", "c++20", "cpp17", "cpp20", "c"},
}
_NO_TAGS = {"", "text", "txt", "plaintext", "code", "plain"}
_FENCE = re.compile(r"(?P<fence>`{3,}|~{3,})[ \t]*\{?\.?(?P<tag>[\w+#-]*)")  # matches without a step back
_ONE_LINE = re.compile(r"[ \t]*```(?P<code>[^`]+)```[ \t]*\Z")
_QUOTES = re.compile(r'"""|\'\'\'')
_TRANSCRIPT = re.compile(r"\s*(?:>>>|In \[\d+\]:)")
_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"\s*<(?:think|thinking|reasoning)>", re.IGNORECASE)

_NAME = r"[A-Za-z_]\w*"
_DOTTED = rf"{_NAME}(?:\.{_NAME})*"
_CODE_LINE = {  # unindented lines that are code, whatever stands around them
    "python": re.compile(
        rf"(?:from [\w.]+ import |import {_NAME}(?:[ ,.]|\Z)(?!.*[.!?]\Z)|(?:async )?def {_NAME}\s*\("
        rf"|class {_NAME}\s*[(:]|@{_NAME}"
        rf"|{_NAME}(?:\.{_NAME}|\[[^\]]*\])*(?:\s*,\s*{_NAME})*\s*(?::\s*+[\w\[\], .|]*+(?<=[\w\[\], .|]))?"
        r"[-+*/%&|^]?=(?!=)"
        rf"|{_DOTTED}\(.*\)\s*(?:#.*)?\Z|{_DOTTED}\(\Z"
        r"|(?:if|elif|for|while|with|try|except|else|finally|match)\b.*:\s*(?:#.*)?\Z"
        r"|assert |raise |pass\Z|return\b|[)\]}]+[,:]?\Z)"
    ),
    "c++": re.compile(
        r"(?:#\s*(?:include|define|pragma|if|ifdef|ifndef|else|endif|undef)\b|using |namespace |template\s*<|struct "
        rf"|class |typedef |[A-Za-z_][\w:<>,*& ]* \**&?{_NAME}\s*[(=;\[{{]"
        r"|[{}]|//|/\*|\*)"
    ),
}
_STARTS = {  # what an answer without fences must hold to be taken for a program at all
    "python": re.compile(r"(?:from [\w.]+ import |import |(?:async )?def |class |@|print\(|for |while |if |\w+\s*=)"),
    "c++": re.compile(r"(?:#\s*include|using namespace|int main|template\s*<)"),
}
_COMMENT = {"python": "#", "c++": "//"}


@dataclass(frozen=True, kw_only=True)
class FencedBlock:
    """A fenced block; `is_closed` where its end was there."""

    tag: str
    code: str
    is_closed: bool


def extract_code(answer: str, language: str = "python", *, defines: str = "") -> str | None:
    """The program in an answer, None where there is none. language: as in `sandbox.base`; `defines` prefers the blocks
    that define this function or class."""
    kind = "python" if language == "python" else "c++"
    blocks = list(fenced_blocks(_visible(answer), kind))
    own = [block for block in blocks if block.tag in _TAGS[kind] and not _TRANSCRIPT.match(block.code)]
    plain = [block for block in blocks if block.tag in _NO_TAGS and _reads_like(block.code, kind)]
    order = [
        [block for block in own if block.is_closed],
        [block for block in plain if block.is_closed],
        [block for block in own + plain if not block.is_closed],
    ]
    found = next((some[-1].code for some in order if some), None)
    if defines:
        named = [[block for block in some if defines_name(block.code, defines)] for some in order]
        found = next((some[-1].code for some in named if some), found)
    if found is None and not blocks:
        found = _unfenced(_visible(answer), kind)
    if found is None or not found.strip() or len(found) > MAX_CODE:
        return None
    return found


def fenced_blocks(text: str, kind: str = "python") -> Iterator[FencedBlock]:
    """The fenced blocks of a text, in their order; the last may be unclosed."""
    lines = text.split("\n")
    at = num_unended = 0
    while at < len(lines):
        one_line = _ONE_LINE.match(lines[at])
        start = _fence_start(lines[at])
        opened = _FENCE.match(lines[at], start) if start >= 0 else None
        before = lines[at][: max(start, 0)]
        at += 1
        if one_line:
            tag, _, rest = one_line["code"].strip().partition(" ")
            is_tag = tag.lower() in _TAGS[kind] and bool(rest)
            code = rest if is_tag else one_line["code"].strip()
            yield FencedBlock(tag=tag.lower() if is_tag else "", code=code + "\n", is_closed=True)
        elif opened and (not before.strip() or opened["tag"]):
            tag, end = opened["tag"].lower(), None
            if kind == "python" and tag in _TAGS[kind] and num_unended < MAX_UNENDED:
                end = _end(lines, at, opened["fence"], kind)
                num_unended += end is None
            end = end if end is not None else _end(lines, at, opened["fence"], "")
            content, last = (lines[at:], "") if end is None else (lines[at : end[0]], end[1])
            indent = len(before) if not before.strip() else 0
            yield FencedBlock(
                tag=tag, code=_joined([*content, *([last] if last else [])], indent), is_closed=end is not None
            )
            at = len(lines) if end is None else end[0] + 1


def _fence_start(line: str) -> int:
    """Where a fence begins that no backtick follows: the last backticks, or tildes after them; -1 where none does."""
    last = line.rfind("`") + 1
    start = len(line[:last].rstrip("`"))
    return start if last - start >= 3 else line.find("~~~", last)


def _end(lines: Sequence[str], start: int, fence: str, kind: str) -> tuple[int, str] | None:
    """The line that closes a block, and the code before the fence on it. In Python not inside a docstring."""
    quotes = ""
    for number in range(start, len(lines)):
        line = lines[number]
        stripped = line.rstrip()
        if not quotes and stripped.endswith(fence):
            code = stripped.rstrip(fence[0])
            if not code.strip() or fence[0] not in code:
                return number, code if code.strip() else ""
        if kind == "python":
            for found in _QUOTES.findall(line):
                quotes = found if not quotes else "" if found == quotes else quotes
    return None


def _joined(lines: Sequence[str], indent: int) -> str:
    """Lines as code, without the indentation that their fence has."""
    if indent:
        lines = [line[min(indent, len(line) - len(line.lstrip())) :] for line in lines]
    return "\n".join(lines).rstrip() + "\n"


def defines_name(code: str, name: str) -> bool:
    """Whether a program has a line that defines the name."""
    escaped = re.escape(name)
    return bool(re.search(rf"^[ \t]*(?:(?:async )?def|class)[ \t]+{escaped}\b|^{escaped}\s*=", code, re.MULTILINE))


def _visible(answer: str) -> str:
    """The text that is looked at: without a thought in front, with plain line ends, and so that UTF-8 can spell it."""
    text = answer[-MAX_TEXT:].replace("\r\n", "\n").replace("\r", "\n")
    ends = [*_THOUGHT.finditer(text[: text.find("```") + 1 or None])]  # one inside a program is its own
    if not ends and _OPEN_THOUGHT.match(text):
        ends = [*islice(_THOUGHT.finditer(text), 1)]
        if not ends:
            return ""
    text = text[ends[-1].end() :] if ends else text
    return text.encode("utf-8", "replace").decode("utf-8")


def _reads_like(code: str, kind: str) -> bool:
    """Some line reads like code of the language."""
    return not _TRANSCRIPT.match(code) and any(_CODE_LINE[kind].match(line.strip()[:500]) for line in code.split("\n"))


def _unfenced(text: str, kind: str) -> str | None:
    """The first stretch of lines that reads like a program."""
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        return None
    first = filled[0]
    if not (lines[first][0] in " \t" and _CODE_LINE[kind].match(lines[first].strip()[:500])):  # the body of a function
        first = next((n for n in filled if _is_start(lines[n], kind)), -1)
    if first < 0:
        return None
    end, quotes = len(lines), ""
    for number in range(first, len(lines)):
        line = lines[number]
        is_code = not line.strip() or line[0] in " \t" or line.startswith(_COMMENT[kind])
        if not (is_code or quotes or _CODE_LINE[kind].match(line[:500])):
            end = number
            break
        for found in _QUOTES.findall(line) if kind == "python" else ():
            quotes = found if not quotes else "" if found == quotes else quotes
    return "\n".join(lines[first:end]).rstrip() + "\n"


def _is_start(line: str, kind: str) -> bool:
    return bool(_STARTS[kind].match(line) and _CODE_LINE[kind].match(line[:500]))
