"""Answers of a given form: whatever is drawn fits, ends in time, costs bounded work, and the reasoning has no form."""

from __future__ import annotations

import asyncio
import json
import random
import sys

import jsonschema
import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.engine.form import Answers, FormError, form_problem, grammar, matches
from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.helpers import takes_at_most, tiny_model, user

BYTES = ByteTokenizer()
NESTED = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 4},
        "tags": {"type": "array", "items": {"enum": ["é", 'b"', 3]}, "minItems": 1, "maxItems": 3},
        "next": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]},
        "n": {"type": ["integer", "boolean"]},
    },
    "required": ["tags", "next"],
    "additionalProperties": False,
    "$defs": {"leaf": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {
        "type": "object", "required": ["v"], "additionalProperties": False,
        "properties": {"v": {"type": "integer"}, "l": {"$ref": "#/$defs/node"}, "r": {"$ref": "#/$defs/node"}},
    }},
}  # fmt: skip
SCHEMAS = [
    {"type": "integer"}, {"type": "string"}, {"type": "object"}, {"const": {"a": [1, "é"]}}, {}, NESTED, TREE,
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2}, {"type": "null"}, {"enum": ["a", "ab", "b"]},
    {"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "string", "pattern": "^(a|b)+c$"},
    {"oneOf": [{"type": "integer", "minimum": 7}, {"type": "string", "maxLength": 3}]},
]  # fmt: skip


class Pieces:
    """A vocabulary of a few long tokens, every byte, and an end mark."""

    LONG = (b'{"', b'": ', b'", "', b'"}', b"true", b"12", b'a"', "é".encode(), b"[[[[", b'{"v": ')

    def __init__(self):
        self.pieces = [bytes([byte]) for byte in range(256)] + [*self.LONG, None]
        self.end_id = len(self.pieces) - 1

    def encode(self, text):
        ids, left = [], text.encode()
        while left:
            longest = max((i for i, p in enumerate(self.pieces[:-1]) if left.startswith(p)), key=self._length)
            ids, left = [*ids, longest], left[self._length(longest) :]
        return ids

    def byte_pieces(self):
        return self.pieces

    def _length(self, token):
        return len(self.pieces[token])


def form(schema, before="", after=""):
    return json.dumps([{"before": before, "schema": schema, "after": after}])


def spelled(tokenizer, text, *, rng, room):
    """A sample of a model that knows nothing: (what it said, whether it ended itself)."""
    answers, ids = Answers(tokenizer), []
    for left in range(room, 0, -1):
        mask = answers.mask((0, 0), text, ids)
        allowed = np.flatnonzero(mask).tolist()
        token = answers.steered((0, 0), rng.choice(allowed), room=left)
        assert mask[token]
        if token == tokenizer.end_id:
            return b"".join(tokenizer.byte_pieces()[each] for each in ids).decode(), True
        ids.append(token)
    return b"".join(tokenizer.byte_pieces()[each] for each in ids).decode(errors="replace"), False


@pytest.mark.parametrize("tokenizer", [BYTES, Pieces()], ids=["bytes", "pieces"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_whatever_is_drawn_within_a_budget_is_whole_and_fits(schema, tokenizer):
    for room in (40, 150):
        for seed in range(3):
            said, has_ended = spelled(tokenizer, form(schema), rng=random.Random(f"{room}/{seed}"), room=room)
            assert has_ended, said
            jsonschema.validate(json.loads(said), schema)


def test_a_budget_that_no_answer_fits_into_cuts_it():
    said, has_ended = spelled(BYTES, form({"const": "a" * 50}), rng=random.Random(0), room=20)
    assert not has_ended and len(said) == 20


def test_the_last_token_of_the_budget_is_the_end_mark_and_not_one_earlier_than_needed():
    _, has_ended = spelled(BYTES, form({"type": "string", "pattern": "^a+$"}), rng=random.Random(1), room=9)
    assert has_ended
    widest = max(len(spelled(BYTES, form({"type": "integer"}), rng=random.Random(i), room=9)[0]) for i in range(40))
    assert widest == 8  # eight digits and the end mark


def test_alternatives_share_their_beginning():
    choices = [{"before": f"<{name}>", "schema": {"type": "integer"}, "after": "!"} for name in ("ab", "ac")]
    answers, text = Answers(BYTES), json.dumps(choices)
    for place, byte in enumerate(b"<ac>-12!"):
        assert answers.mask((0, 0), text, list(b"<ac>-12!")[:place])[byte]
    assert np.flatnonzero(answers.mask((0, 0), text, list(b"<ac>-12!"))).tolist() == [BYTES.end_id]
    assert not answers.mask((0, 1), text, [])[ord("x")]


def test_text_around_a_value_is_itself_whatever_it_holds():
    before = '<tool_call>{"name": "a\\"b", "arguments": '
    said, _ = spelled(BYTES, form({"type": "integer"}, before, "}\n</x>é"), rng=random.Random(0), room=200)
    assert said.startswith(before) and said.endswith("}\n</x>é")


@pytest.mark.parametrize(
    "schema",
    [False, {"allOf": [{"type": "object"}, {"type": "string"}]}, {"$ref": "#/nowhere"}, {"$ref": "#"},
     {"type": "integer", "minimum": 5, "maximum": 4}, {"type": 5}, {"$ref": 5}, {"$ref": "http://127.0.0.1:9/x"},
     {"type": "string", "pattern": "(?=a)b"}],
)  # fmt: skip
def test_what_cannot_be_held_to_is_known_before_the_first_token(schema):
    assert isinstance(form_problem(form(schema)), FormError)


def test_that_nothing_fits_is_told_apart_from_what_is_not_read():
    assert form_problem(form({"allOf": [{"type": "object"}, {"type": "string"}]})).is_empty
    assert not form_problem(form({"type": "string", "pattern": "(?=a)b"})).is_empty
    assert form_problem(form({"not": {"type": "string"}, "if": {}, "uniqueItems": True, "x-mine": 1})) is None


def test_options_of_the_library_cannot_be_set_by_a_schema():
    assert "mine" not in grammar(form({"type": "object", "x-guidance": {"whitespace_pattern": "mine"}}))


def test_masks_of_longer_tokens_are_those_of_their_bytes():
    pieces = Pieces()
    answers, text = Answers(pieces), form({"type": ["integer", "boolean", "string"]})

    def told(ids):
        return {pieces.pieces[i] for i in np.flatnonzero(answers.mask((0, sum(ids)), text, ids))}

    assert {b"1", b"12", b'"', b"true", b"t"} <= told([]) and not told([]) & {b'{"', b"[[[[", b"e", None}
    digits = {b"%d" % digit for digit in range(10)}
    assert told([ord("1")]) == digits | {b"12", None}  # more digits, or the end
    assert told([ord("0")]) == {None}


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(tiny_model(window=600), BYTES, num_workers=0, num_slots=8) as engine:
        yield engine


@pytest.mark.parametrize("schema", [{"type": "string"}, NESTED], ids=["string", "nested"])
def test_a_model_that_knows_nothing_answers_in_the_form_and_thinks_without_one(engine, schema):
    params = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=120, form=form(schema), seed=1)
    free = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=120, seed=1)

    async def work():
        return await asyncio.gather(
            engine.generate(user("hi"), params, n=6), engine.generate(user("hi"), free, n=6),
            engine.generate(user("hi"), params, n=2, first=3),
        )  # fmt: skip

    formed, plain, again = asyncio.run(work())
    for one, other in zip(formed, plain, strict=True):
        assert one.reasoning == other.reasoning and one.finish_reason == "stop"
        if BYTES.unthink_id in one.token_ids:  # it may end in the middle of a thought
            jsonschema.validate(json.loads(one.answer), schema)
        assert np.isfinite(one.sampler_logprobs).all()
    assert any(one.answer for one in formed)
    assert [one.token_ids for one in again] == [one.token_ids for one in formed[3:5]]  # whatever the batch


def test_tokens_that_a_budget_put_there_are_not_sampled_ones(engine):
    params = SamplingParams(max_reasoning_tokens=4, max_answer_tokens=12, form=form({"type": "string"}), seed=3)
    for one in asyncio.run(engine.generate(user("hi"), params, n=6)):
        assert one.finish_reason == "stop"
        if len(one.answer.encode()) == 11:  # it wanted to go on
            assert not one.sampled[-2]


def test_max_tokens_is_a_budget_too(engine):
    params = SamplingParams(max_reasoning_tokens=4, max_answer_tokens=300, max_tokens=30, form=form({}), seed=3)
    for one in asyncio.run(engine.generate(user("hi"), params, n=6)):
        assert one.finish_reason == "stop"
        if BYTES.unthink_id in one.token_ids:
            json.loads(one.answer)


def test_a_form_that_cannot_be_followed_is_refused_at_the_door(engine):
    assert not engine.supports_form(form(False))
    with pytest.raises(ValueError, match="cannot be held"):
        asyncio.run(engine.generate(user("hi"), SamplingParams(form=form(False))))


def test_without_the_library_the_error_names_the_extra(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"ponder\[form\]"):
        asyncio.run(engine.generate(user("hi"), SamplingParams(form=form({"maxLength": 12345}))))


NASTY = {
    "strings": {"anyOf": [{"type": "string", "maxLength": 20 + place} for place in range(300)]},
    "multiples": {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (97, 89, 83, 1000003)]},
    "literal": {"const": "lorem ipsum " * 5000},
    "patterns": {"type": "string", "pattern": "((a|b)*a(a|b){200})+$"},
    "objects": {"anyOf": [{"properties": {"a": {"const": i}, "b": {"maxLength": i}}} for i in range(200)]},
    "counts": {"type": "array", "items": {"type": "string", "minLength": 900, "maxLength": 1000}, "minItems": 900},
}


@pytest.mark.parametrize("name", NASTY)
def test_no_schema_takes_a_worker_more_than_a_moment_a_token(name):
    answers, rng, ids = Answers(BYTES), random.Random(0), []
    answers.mask((0, 0), form({"type": "null"}), [])  # the vocabulary is read once
    with takes_at_most(50 * 0.06):
        for left in range(300, 250, -1):
            mask = answers.mask((1, 0), form(NASTY[name]), ids)
            if mask is None:  # more than is followed: nothing is ruled out, the answer is checked
                break
            ids.append(answers.steered((1, 0), rng.choice(np.flatnonzero(mask).tolist()), room=left))
            if ids[-1] == BYTES.end_id:
                break


def test_a_sample_that_is_over_leaves_nothing_behind():
    answers = Answers(BYTES)
    answers.mask((7, 0), form({"type": "null"}), [])
    answers.forget(7)
    assert not answers._samples


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [("^a+$", "aaa", True), ("^a+$", "aab", False), ("b", "abc", True), (r"^\d{4}$", "2020", True), ("^$", "", True),
     ("^[^a]$", '"', True), ("^.$", "\\", True), ("^é😀$", "é😀", True), ("^a$", "\ud800", False),
     ("\n", "a\nb", True)],
)  # fmt: skip
def test_patterns_are_found_as_json_schema_finds_them(pattern, text, fits):
    assert matches(pattern, text) == fits


@pytest.mark.parametrize("pattern", ["(a+)+$", "(x+x+)+y", "(a|aa)*b", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_patterns_take_time_that_is_linear_in_the_text(pattern):
    matches(pattern, "")
    with takes_at_most(0.5):
        assert not matches(pattern, "a" * 20_000 + "!")
