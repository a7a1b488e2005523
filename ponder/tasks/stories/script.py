"""Stories as data: the notation of the `.story` files, and what tells them.

    dozens:
      p = person(); things, thing = thing(BAKED, PICKED); k = some(2, 9); day = pick(WEEKDAYS)
      say {p} [<buys/bought>|<gets/got>] {k} dozen {things}[| for a party| on {day}].
      v = k * 12 | {k} dozen are # {things}
      -> things | How many {things} does {p} have [now|in total]?

An entry is a name and the lines below it, followed in order; a line that is deeper goes on with the one above,
and one that begins with # is a comment.

    a, b = some(2, 9), person()   draws and values, several with ";" between; CAPITALS are lists of wordbook.py
    x, y = one of A / B | C / D   one of the rows, a name for each of its columns
    v = a * b | The rent is #     a step of the solution: one operation, its result, and what it gives
    say ...  ask ...              a sentence; the question, unless another one comes later
    -> KIND | ...                 what kind of thing `v` is now, which decides what can happen next; its question
    need X                        gives the story up where X is not so
    done if X                     leaves out all that follows
    if X: else if X: else:        lines for one case
    while X:                      lines as long as X
    turns a, b:                   draws a or b while steps are left. `turns once`: each at most once;
                                  `turns a, b while X`: as long as X. Lines before the turns come first in each.
                                  Inside, `only if X` gives the turn up where X is not so; after `not again`, it is
                                  drawn no more

Templates are those of template.py, with ${price} for dollars; a name that holds a piece of template is put in first.
At the top of a file:

    story NAME: a, b              NAME begins with one of these entries; an entry of that name begins by itself
    moves KIND: a b/2 c!          what can happen to it: in one step, in two (/2), as the end (!)
    NAME = ...                    a question that several entries ask

What stands twice in a list, or is twice an alternative, is drawn twice as often. The order of draws, even of those that
decide nothing, is part of the problems, which must not change (tests/tasks/test_golden_words.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.expressions import Expression, expression, operation
from ponder.tasks.stories.story import Again, Story

Statement = Callable[[Story], str | None]  # a signal where the lines after it are left out: skip, done, not again
_NAME, _NOTATION = re.compile(r"\{(\w+)\}"), re.compile(r"[\[<{]")


@dataclass
class Line:
    """A line of a file and the lines that belong to it."""

    text: str
    block: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Move:
    """An entry as something that can happen."""

    name: str
    steps: int
    is_last: bool

    @classmethod
    def read(cls, text: str) -> Move:
        """ "name/2!" -> two steps, and only as the last move; "name" -> one step."""
        return cls(name=text.rstrip("!").partition("/")[0], steps=2 if "/2" in text else 1, is_last=text.endswith("!"))


@dataclass
class Script:
    """What the files say."""

    entries: dict[str, Statement] = field(default_factory=dict)
    stories: dict[str, list[str]] = field(default_factory=dict)
    moves: dict[str, list[Move]] = field(default_factory=dict)

    def add(self, lines: Sequence[Line], file: str) -> None:
        """Add a file's stories, moves and entries. ValueError for an entry that is there already or cannot be read."""
        questions: dict[str, str] = {}
        for line in lines:
            if match := re.fullmatch(r"([A-Z_]+) = (.*)", line.text):
                questions[match[1]] = match[2]
            elif match := re.fullmatch(r"story (\w+): (.*)", line.text):
                self.stories[match[1]] = match[2].split(", ")
            elif match := re.fullmatch(r"moves (\w+): (.*)", line.text):
                self.moves[match[1]] = [Move.read(text) for text in match[2].split()]
            else:
                self._add_entry(line.text.removesuffix(":"), line.block, questions, file)

    def _add_entry(self, name: str, lines: Sequence[Line], questions: dict[str, str], file: str) -> None:
        if name in self.entries:
            raise ValueError(f"{file}: there are two entries {name}")
        try:
            self.entries[name] = _block(lines, questions)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}, entry {name}: {error}") from error


def tell(s: Story, name: str) -> None:
    """A story of the files, from its first entry through moves to the question."""
    script = stories()
    script.entries[s.pick(script.stories[name]) if name in script.stories else name](s)
    used: list[str] = []
    while s.left and s.kind:
        possible = [
            move.name for move in script.moves.get(s.kind, [])
            if (move.steps == s.left or (move.steps < s.left and not move.is_last))
            and move.name not in used[-1:] and used.count(move.name) < 2
        ]  # fmt: skip
        if not possible:
            raise Again
        used.append(s.pick(possible))
        script.entries[used[-1]](s)
    s.ask(_filled(s, s.asked, _NAME.findall(s.asked)), **s.names)


@cache
def stories() -> Script:
    """All files, read once."""
    script = Script()
    for file in files(__package__).iterdir():
        if file.name.endswith(".story"):
            script.add(read(file.read_text(encoding="utf-8")), file.name)
    named = {name for names in script.stories.values() for name in names}
    named |= {move.name for moves in script.moves.values() for move in moves}
    if missing := named - script.entries.keys():
        raise ValueError(f"no .story file has the entries {', '.join(sorted(missing))}")
    return script


def read(text: str) -> list[Line]:
    """The lines of a file as a tree by their indentation."""
    root = Line(":")
    stack = [(-1, root)]
    for raw in text.splitlines():
        piece, indent = raw.strip(), len(raw) - len(raw.lstrip())
        if not piece or piece.startswith("# "):
            continue
        while stack[-1][0] >= indent:
            stack.pop()
        above = stack[-1][1]
        if above.text.endswith(":"):
            above.block.append(Line(piece))
            stack.append((indent, above.block[-1]))
        else:  # the line above goes on
            above.text += piece if piece[0] == "|" else f" {piece}"
    return root.block


# ---- lines ---------------------------------------------------------------------------------------------------------


def _block(lines: Sequence[Line], questions: dict[str, str]) -> Statement:
    statements: list[Statement] = []
    otherwise = _all([])
    for line in reversed(lines):  # from below, so that an "if" finds its "else" made
        match = re.fullmatch(r"(else ?)?(?:if (.*))?:", line.text)
        if match is None:
            statements.insert(0, _statement(line, questions))
            continue
        inner = _block(line.block, questions)
        chosen = _either(expression(match[2]), inner, otherwise) if match[2] else inner
        if match[1]:
            otherwise = chosen
        else:
            statements.insert(0, chosen)
            otherwise = _all([])
    return _all(statements)


def _either(is_so: Expression, one: Statement, other: Statement) -> Statement:
    return lambda s: one(s) if is_so(s) else other(s)


def _statement(line: Line, questions: dict[str, str]) -> Statement:
    verb, _, rest = line.text.partition(" ")
    if verb == "turns":
        return _turns(line, questions)
    if verb == "while":
        return _while(expression(rest[:-1]), _block(line.block, questions))
    if verb == "say":
        return _say(rest)
    if verb == "ask":
        return lambda s: s.will_ask(questions.get(rest, rest))
    if verb == "->":
        kind, _, question = rest.partition(" | ")
        return lambda s: s.will_ask(questions.get(question, question), kind)
    if line.text == "not again":
        return lambda s: line.text
    if verb == "need":
        return _need(expression(rest))
    if line.text.startswith("only if "):
        return _signal("skip", expression(f"not ({line.text[8:]})"))
    if line.text.startswith("done if "):
        return _signal("done", expression(line.text[8:]))
    return _all([_assignment(part) for part in line.text.split("; ")])


def _say(text: str) -> Statement:
    names = _NAME.findall(text)
    return lambda s: s.sentences.append(s.words(_filled(s, text, names), s.names))


def _assignment(text: str) -> Statement:
    names, equals, value = text.partition(" = ")
    if not equals:
        raise ValueError(f"{text!r} is no line of a story")
    if value.startswith("one of "):
        return _assign(names, _rows(value.removeprefix("one of ")))
    if " | " in value:
        return _step(names, *value.split(" | ", 1))
    return _assign(names, expression(value))


def _all(parts: Sequence[Statement]) -> Statement:
    if len(parts) == 1:
        return parts[0]

    def run(s: Story) -> str | None:
        for part in parts:
            if signal := part(s):
                return signal
        return None

    return run


def _need(is_so: Expression) -> Statement:
    def run(s: Story) -> None:
        if not is_so(s):
            raise Again

    return run


def _signal(signal: str, is_so: Expression) -> Statement:
    return lambda s: signal if is_so(s) else None


def _assign(names: str, value: Expression) -> Statement:
    targets = names.split(", ")

    def one(s: Story) -> None:
        s.names[names] = value(s)

    def several(s: Story) -> None:
        s.names.update(zip(targets, value(s), strict=True))

    return one if len(targets) == 1 else several


def _rows(text: str) -> Expression:
    rows = [[_cell(cell) for cell in row.split(" / ")] for row in text.split(" | ")]
    options = rows if len(rows[0]) > 1 else [row[0] for row in rows]
    return lambda s: s.pick(options)


def _cell(text: str) -> Any:
    return int(text) if text.isdigit() else getattr(book, text) if text.isupper() else text


def _step(name: str, text: str, note: str) -> Statement:
    sign, left, right = operation(text)

    def run(s: Story) -> None:
        s.names[name] = s.step(sign, left(s), right(s), note.format_map(s.names))

    return run


def _while(goes_on: Expression, block: Statement) -> Statement:
    def run(s: Story) -> str | None:
        while goes_on(s):
            if signal := block(s):
                return signal
        return None

    return run


def _turns(line: Line, questions: dict[str, str]) -> Statement:
    match = re.fullmatch(r"turns (once )?(.*?)(?: while (.*))?:", line.text)
    assert match is not None, line.text
    names, goes_on = match[2].split(", "), expression(match[3] or "left")
    first = _block([one for one in line.block if one.text[:-1] not in names], questions)
    turns = {one.text[:-1]: _block(one.block, questions) for one in line.block if one.text[:-1] in names}

    def run(s: Story) -> str | None:
        remaining = list(names)
        while goes_on(s):
            if not remaining:
                raise Again
            name = remaining.pop(s.rng.randrange(len(remaining))) if match[1] else s.pick(remaining)
            s.names["turn"] = name
            signal = first(s) or turns[name](s)
            if signal == "done":
                return signal
            if signal == "not again":
                remaining.remove(name)
        return None

    return run


def _filled(s: Story, text: str, names: Sequence[str]) -> str:
    """The template with those names put in that hold a piece of template themselves."""
    for name in names:
        value = s.names.get(name)
        if isinstance(value, str) and _NOTATION.search(value):
            text = text.replace(f"{{{name}}}", value)
    return text
