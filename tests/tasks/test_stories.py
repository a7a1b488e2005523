"""The notation of stories: everything in the files can come up, and nothing else can be written."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.tasks.stories import FUNCTIONS, STORIES, Story
from ponder.tasks.stories.expressions import expression
from ponder.tasks.stories.script import Script, read, stories
from ponder.tasks.stories.template import template


def one_by_one(text: str, pick) -> str:
    """Alternatives the slow way: the first innermost bracket is replaced until there is none."""
    while found := re.search(r"\[([^\[\]]*)\]", text):
        text = text[: found.start()] + pick(found[1].split("|")) + text[found.end() :]
    return text


nested = st.recursive(
    st.text("ab ,", max_size=4),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda options: f"x[{'|'.join(options)}]y"),
    max_leaves=12,
)


@given(nested, st.integers(0, 1_000))
def test_a_template_read_once_gives_what_one_bracket_after_another_gives(text, seed):
    slow, fast = Random(seed), Random(seed)
    assert template(text, False).written(fast.choice) == one_by_one(text, slow.choice)
    assert slow.random() == fast.random()


def test_a_template_has_two_tenses():
    text = "{p} <buys/bought> [a hat|one that <is/was> new]."
    assert template(text, True).written(lambda options: options[1]) == "{p} bought one that was new."
    assert template(text, False).written(lambda options: options[0]) == "{p} buys a hat."


def test_every_entry_can_come_up():
    script = stories()
    begins = {name for name in STORIES if name not in FUNCTIONS | script.stories}
    begins |= {name for story in STORIES for name in script.stories.get(story, [])}
    happens = {move.name for moves in script.moves.values() for move in moves}
    assert script.entries.keys() == begins | happens


@pytest.mark.parametrize(("text", "value"), [("7 // 2 + 1", 4), ("some(3, 3) * 2", 6), ('"a" in ("a", "b")', True)])
def test_values_are_worked_out(text, value):
    assert expression(text)(Story(Random(0), 1)) == value


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "s.rng", "'a'.upper()", "[1 for x in (1, 2)]", "lambda: 1", "2 ** 9", "open('x')", ""],
)
def test_nothing_but_names_draws_and_arithmetic_is_read(text):
    with pytest.raises(ValueError, match="cannot be"):
        expression(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("k = some(1", "'some(1' cannot be read"),
        ("sing a song", "'sing a song' is no line of a story"),
        ("v = 3 | It is #", "'3' is not one operation"),
    ],
)
def test_an_error_in_a_file_names_the_entry(line, message):
    with pytest.raises(ValueError, match=re.escape(f"x.story, entry bad: {message}")):
        Script().add(read(f"bad:\n  {line}"), "x.story")


def test_an_entry_has_one_place():
    script = Script()
    script.add(read("one:\n  k = 1"), "x.story")
    with pytest.raises(ValueError, match="y.story: there are two entries one"):
        script.add(read("one:\n  k = 2"), "y.story")


def test_a_deeper_line_goes_on_and_one_after_a_colon_begins():
    lines = read("one:\n  say [a\n    |b] c\n    d.\n  if x:\n    k = 1\n# a comment\ntwo:\n  k = 2\n")
    assert [line.text for line in lines] == ["one:", "two:"]
    assert [line.text for line in lines[0].block] == ["say [a|b] c d.", "if x:"]
    assert lines[0].block[1].block[0].text == "k = 1"
