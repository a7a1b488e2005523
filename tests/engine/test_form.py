"""Answers of a given form: whatever is drawn fits, and the reasoning has no form."""

from __future__ import annotations

import asyncio
import json
import random

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.engine.form import Form, FormError, Masks, is_done
from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.helpers import tiny_model, user

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
SCHEMAS = [
    {"type": "integer"}, {"type": "string"}, {"type": "object"}, {"const": {"a": [1, "é"]}}, True, NESTED,
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2}, {"type": "null"}, {"enum": ["a", "ab", "b"]},
    {"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "number"},
]  # fmt: skip


def form(schema, before="", after=""):
    return json.dumps([{"before": before, "schema": schema, "after": after}])


def spell(automaton, rng, most=400):
    """A random walk that ends as soon as it may, now and then."""
    state, said = automaton.start, bytearray()
    while not (is_done(state) and (rng.random() < 0.3 or not automaton.allowed(state))):
        wanted = sorted(automaton.allowed(state))
        closing = [byte for byte in wanted if byte in b'"}]' or len(wanted) < 12]
        said.append(rng.choice(closing if closing and len(said) > 60 else wanted))
        state = automaton.advance(state, said[-1])
        assert state and len(said) < most
    return said.decode()


@settings(max_examples=300, deadline=None)
@given(schema=st.sampled_from(SCHEMAS), seed=st.integers(0, 10**9))
def test_every_walk_through_a_form_is_json_of_its_schema(schema, seed):
    text = spell(Form(form(schema)), random.Random(seed))
    jsonschema.validate(json.loads(text), schema)


def test_alternatives_share_their_beginning():
    choices = [{"before": f"<{name}>", "schema": {"type": "integer"}, "after": "!"} for name in ("ab", "ac")]
    automaton = Form(json.dumps(choices))
    state = automaton.start
    for byte in b"<ac>-12!":
        assert byte in automaton.allowed(state)
        state = automaton.advance(state, byte)
    assert is_done(state) and not automaton.allowed(state)
    assert not automaton.advance(automaton.start, ord("x"))


@pytest.mark.parametrize(
    "schema",
    [False, {"allOf": [{"type": "object"}, {"type": "string"}]}, {"$ref": "#/nowhere"}, {"$ref": "#"},
     {"type": "object", "properties": {"a": {"not": {}}}}, {"type": "object", "required": ["a"]}],
)  # fmt: skip
def test_what_cannot_be_followed_is_known_before_the_first_token(schema):
    with pytest.raises(FormError):
        Form(form(schema))


def test_masks_of_longer_tokens_are_those_of_their_bytes():
    pieces = [b"1", b"12", b'"', b'"a', b"}", b"true", b"tr", b" 1", "é".encode(), b"\xc3", None]
    masks = Masks(pieces, end_id=10)
    text = form({"type": ["integer", "boolean", "string"]})
    state = masks.start(text)
    told = {pieces[i] for i in masks.mask(text, state).nonzero()[0]}
    assert told == {b"1", b"12", b'"', b'"a', b"true", b"tr"}
    state = masks.after(text, state, 1)
    told = {pieces[i] for i in masks.mask(text, state).nonzero()[0]}
    assert told == {b"1", b"12", None}  # more digits, or the end


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(tiny_model(window=600), BYTES, num_workers=0, num_slots=8) as engine:
        yield engine


@pytest.mark.parametrize("schema", SCHEMAS[:1] + SCHEMAS[3:4] + SCHEMAS[5:9])
def test_a_model_that_knows_nothing_answers_in_the_form_and_thinks_without_one(engine, schema):
    params = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=300, form=form(schema), seed=1)
    free = SamplingParams(max_reasoning_tokens=12, max_answer_tokens=300, seed=1)

    async def work():
        formed, plain = await asyncio.gather(
            engine.generate(user("hi"), params, n=6), engine.generate(user("hi"), free, n=6)
        )
        return formed, plain

    formed, plain = asyncio.run(work())
    for one, other in zip(formed, plain, strict=True):
        assert one.reasoning == other.reasoning
        if one.finish_reason == "stop" and one.answer:
            jsonschema.validate(json.loads(one.answer), schema)
    assert any(one.finish_reason == "stop" for one in formed)


def test_a_form_that_cannot_be_followed_is_refused_at_the_door(engine):
    assert not engine.supports_form(form(False))
    with pytest.raises(ValueError, match="cannot be held"):
        asyncio.run(engine.generate(user("hi"), SamplingParams(form=form(False))))


def test_a_long_string_needs_no_new_mask_for_every_character(monkeypatch):
    masks = Masks([bytes([byte]) for byte in range(256)] + [b"ab" * 3, None], end_id=257)
    text = form({"type": "string", "minLength": 50, "maxLength": 300})
    state, walked = masks.start(text), []
    walk = masks._walk

    def counted(automaton, node, *rest):
        walked.append(node is masks._trie)
        walk(automaton, node, *rest)

    monkeypatch.setattr(masks, "_walk", counted)
    for token in [ord('"'), *[ord("x")] * 299]:
        state = masks.after(text, state, token)
        exact = np.zeros(258, bool)
        walk(masks._forms[text], masks._trie, state, exact)
        assert masks.mask(text, state)[:257].tolist() == exact[:257].tolist()
    assert 0 < sum(walked) < 30


def test_a_schema_that_refers_to_what_is_no_schema_cannot_be_followed():
    for junk in (5, {"properties": 5}, {"$ref": 5}, {"enum": 5}, {"type": 5}, {"anyOf": {"a": 1}}, [1]):
        with pytest.raises(FormError):
            Form(form({"$ref": "#/default", "default": junk}))
