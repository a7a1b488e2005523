"""Schemas of strangers: they reach nothing, cost little, and what cannot be answered is refused before it is paid."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve import planning, schemas, tools
from ponder.serve.errors import ApiError
from ponder.serve.schema_tools import NamespaceTool
from ponder.serve.schemas import MOST_SUBSCHEMAS, check_schema, schema_problem
from ponder.serve.tools import Call, CallParser, Tool, json_problem, unfenced
from ponder.serve.values import mismatch
from tests.helpers import takes_at_most
from tests.serve.serving import KEY, Served

AUTH = {"Authorization": f"Bearer {KEY}"}
ANSWER = {"a": 1}


@pytest.fixture(scope="module")
def served():
    """Answers with what the question says behind "Say "."""
    with Served(ScriptedEngine(lambda text, seed: ("t", text.partition("Say ")[2]), window=100_000)) as server:  # noqa: SIM117
        with httpx.Client(base_url=server.url, headers=AUTH, timeout=30) as server.client:
            yield server


def doors(served, schema, answer='{"a": 1}', *, num=6):
    """(status, error's message, calls of the engine) through each place that takes a schema."""
    call = f'<tool_call>{{"name": "f", "arguments": {answer}}}</tool_call>'
    spec = {"name": "f", "schema": schema, "strict": True}
    tool = {"name": "f", "parameters": schema, "strict": True}
    bodies = (
        ("responses", answer, {"text": {"format": {"type": "json_schema", **spec}}}),
        ("chat/completions", answer, {"response_format": {"type": "json_schema", "json_schema": spec}}),
        ("responses", call, {"tools": [{"type": "function", **tool}]}),
        ("responses", call, {"tools": [{"type": "function", **tool}], "tool_choice": "required"}),
        ("chat/completions", call, {"tools": [{"type": "function", "function": tool}]}),
        ("responses/input_tokens", answer, {"text": {"format": {"type": "json_schema", **spec}}}),
    )
    for path, said, more in bodies[:num]:
        asked = f"Say {said}"
        body = {"messages": [{"role": "user", "content": asked}]} if "chat" in path else {"input": asked}
        before = len(served.engine.calls)
        answered = served.client.post(f"/v1/{path}", json={"model": "scripted", **body, **more})
        error = answered.json().get("error") or {}
        yield answered.status_code, error.get("message", ""), len(served.engine.calls) - before


@pytest.fixture
def listener():
    """(port, connections): whoever comes is counted, and hung up on."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    came.append(server.accept()[1])

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], came


def outward(target):
    """Schemas that might have somebody open a target."""
    inner = {"$id": target, "$ref": "#/y"}
    yield {"$ref": target}
    yield {"$id": target, "$ref": "other"}
    yield {"$ref": "#/x", "y": {"type": "integer"}, "x": {"required": ["a"], "properties": {"a": inner}}}
    yield {"properties": {"a": {"$id": target, "allOf": [{"$ref": "#/y"}]}}, "y": {}}
    yield {"properties": {"a": {"$schema": target, "type": "integer"}}}
    yield {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": target}}}
    yield {"$schema": target}
    yield {"$dynamicRef": target}
    yield {"$recursiveRef": target}
    yield {"$defs": {"s": {"$anchor": "x", "$id": target}}, "properties": {"a": {"$ref": "#/$defs/s"}}}
    yield {"definitions": {"s": {"$id": target}}, "properties": {"a": {"$ref": target + "#/y"}}}
    yield {"properties": {"a": {"$ref": "#/mine/deep"}}, "mine": {"$id": target, "deep": {"$ref": "#/y"}}}
    yield {"properties": {"a": {"$ref": "#/mine/0"}}, "mine": [{"$ref": target}]}
    yield {"allOf": [{"anyOf": [{"not": {"$ref": target}}]}]}
    yield {"if": {"$ref": target}, "then": {}, "else": {}}
    yield {"dependentSchemas": {"a": {"$ref": target}}}
    yield {"unevaluatedProperties": {"$ref": target}}
    yield {"patternProperties": {"a": {"$ref": target}}}
    yield {"additionalProperties": {"$ref": target}}
    yield {"contentMediaType": "application/json", "contentSchema": {"$ref": target}}
    yield {"$vocabulary": {target: True}, "$ref": "#/$vocabulary"}
    yield {"default": {"$id": target, "$ref": "#/y"}, "properties": {"a": {"$ref": "#/default"}}}
    yield {"const": {"$id": target, "$ref": "#/y"}}
    yield {"enum": [ANSWER, {"$ref": target}]}
    yield {"$id": target, "properties": {"a": {"type": "integer"}}}
    yield {"$id": target, "$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}
    yield {"format": "uri", "$comment": target, "examples": [{"$ref": target}]}
    yield {"properties": {"$ref": {"type": "string"}, "$id": {"const": target}}}


def test_no_schema_makes_the_server_open_an_address(served, listener):
    port, came = listener
    for schema in outward(f"http://127.0.0.1:{port}/x"):
        for status, _, _ in doors(served, schema):
            assert status in (200, 400, 422)
        mismatch(ANSWER, schema)  # nor would the check of an answer, were it taken
    for scheme in ("ftp", "https"):
        for schema in outward(f"{scheme}://127.0.0.1:{port}/x"):
            schema_problem(schema), mismatch(ANSWER, schema)
    assert came == []


def test_no_schema_tells_what_is_in_a_file(served, tmp_path):
    """Whether a file exists, or says true or false, changes no answer."""
    contents = {"file1": "true", "file2": "false", "file3": '{"y": {"type": "integer"}}', "file4": None}
    told = {}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / f"{name}.json").write_text(content)
        schemas = [*outward(f"file://{tmp_path}/{name}.json"), *outward(f"file://{tmp_path}/{name}.json#/y")]
        told[name] = [
            *(mismatch(ANSWER, schema) for schema in schemas),
            *((status, message.replace(name, "")) for schema in schemas[2:12]
              for status, message, _ in doors(served, schema, num=1)),
        ]  # fmt: skip
    for name in contents:
        assert told[name] == told["file1"]


IMPOSSIBLE = [
    {"$ref": "#/$defs/missing"}, {"$ref": "#"}, {"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}},
    {"allOf": [{"$ref": "#"}]}, {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}, {"not": {"$ref": "#"}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
    {"type": "object", "required": ["x"], "additionalProperties": {"$ref": "#"}},
    {"type": "object", "properties": {"a": False}, "required": ["a"]},
    {"enum": []}, {"allOf": [True, False]}, {"anyOf": [False, False]},
    {"properties": {"a": {"$ref": "#/properties/b"}}}, {"items": 5}, {"type": "nonsense"}, {"type": []},
    {"required": "a"}, {"minLength": -1}, {"minItems": 1.5}, {"maximum": "9"}, {"multipleOf": 0}, {"properties": []},
    {"anyOf": []}, {"allOf": {}}, {"pattern": 5}, {"pattern": "("}, {"pattern": "(?=a)"}, {"pattern": r"(a)\1"},
    {"uniqueItems": 1}, {"$ref": 5}, {"$ref": "x"}, {"$ref": "#anchor"}, {"enum": {}}, {"$schema": "draft-99"},
    {"type": ["string", "text"]}, {"dependentRequired": {"a": "b"}}, {"$ref": "#/default", "default": [1]},
]  # fmt: skip


@pytest.mark.parametrize("schema", IMPOSSIBLE, ids=str)
def test_a_schema_that_is_none_or_that_nothing_can_fit_is_refused_at_the_door(schema):
    assert schema_problem(schema)


def test_what_is_refused_costs_no_sample(served):
    contradiction = {"allOf": [{"type": "object"}, {"type": "string"}]}
    for schema in ({"$ref": "#/$defs/missing"}, {"$ref": "#"}, IMPOSSIBLE[6]):
        for status, message, calls in doors(served, schema):
            assert (status, calls) == (400, 0) and "Invalid schema" in message
    for (status, message, calls), _ in zip(doors(served, contradiction), range(2), strict=False):
        assert (status, calls) == (400, 0) and "Unsatisfiable" in message


TREE = {
    "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/tree", "title": "Tree",
    "type": "object", "$ref": "#/$defs/node",
    "$defs": {"node": {
        "type": "object", "required": ["v"], "additionalProperties": False,
        "properties": {"v": {"type": "integer"}, "left": {"$ref": "#/$defs/node"},
                       "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    }},
}  # fmt: skip
TAKEN = [
    (TREE, {"v": 1, "left": {"v": 2}, "next": None}, {"v": 1, "left": {}}),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}}, {"a": {"a": {}}}, {"a": 1}),
    ({"type": "array", "items": {"$ref": "#"}}, [[], [[]]], [1]),
    ({"properties": {"a": {"pattern": "^a+$"}}}, {"a": "aaa"}, {"a": "b"}),
    ({"properties": {"pattern": {"type": "string"}, "$ref": {"type": "integer"}, "$id": {}}}, {"$ref": 1},
     {"$ref": ""}),
    ({"properties": {"a": {"$ref": "#/components/schemas/A"}}, "components": {"schemas": {"A": {"type": "null"}}}},
     {"a": None}, {"a": 1}),
    ({"properties": {"a": {"$ref": "#/$defs/a~1b%20c"}}, "$defs": {"a/b c": {"const": 1}}}, {"a": 1}, {"a": 2}),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
    ({"not": {"type": "integer"}}, {}, 1), ({"items": {"minimum": 3}, "uniqueItems": True}, [3, 4], [4, 4]),
    ({"enum": [1, "a", {"$id": "http://127.0.0.1:9/"}]}, {"$id": "http://127.0.0.1:9/"}, 2),
    ({"type": "number", "multipleOf": 0.5, "maximum": 1e300}, 1.5, 1.2), ({}, [1], None),
    ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, 2, 7),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "right", "wrong"), TAKEN, ids=lambda value: str(value)[:40])
def test_what_schemas_are_for_works(schema, right, wrong):
    assert schema_problem(schema) is None
    assert mismatch(right, schema) is None
    assert wrong is None or mismatch(wrong, schema)


def test_recursion_works_through_every_door(served):
    for status, message, _ in doors(served, TREE, json.dumps({"v": 1, "next": {"v": 2, "next": None}})):
        assert (status, message) == (200, "")


WIDE = {
    "empty alternatives": {"anyOf": [{} for _ in range(24_000)]}, "booleans": {"prefixItems": [True] * 16_000},
    "properties": {"properties": {f"p{i}": {"type": "string"} for i in range(6000)}},
    "enum": {"enum": [f"x{i}" for i in range(9000)]}, "one long text": {"const": "x" * 3_000_000},
    "deep": json.loads('{"items":' * 300 + "{}" + "}" * 300),
    "references": {"$ref": "#/$defs/a0", "$defs": {
        **{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}, {"$ref": f"#/$defs/a{i + 1}"}]} for i in range(300)},
        "a300": {},
    }},
    "patterns": {"anyOf": [{"pattern": f"^a{{{i},500}}$"} for i in range(100)]},
    "patterns for one value": {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{i}}}c"} for i in range(12)]},
    "backwards": {"$defs": {"a0": {"type": "null"}, **{
        f"a{i}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/a{i - 1}"}}, "required": ["x"]}
        for i in range(1, 900)}}, "$ref": "#/$defs/a899"},
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_a_schema_that_would_take_long_is_refused_in_a_moment(name):
    schema_problem({"pattern": "a"})
    with takes_at_most(0.5):
        assert schema_problem(WIDE[name])


def test_as_much_as_is_taken_is_checked_in_a_moment_and_the_same_again_is_cheap(monkeypatch):
    schema = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(MOST_SUBSCHEMAS - 2)}}
    with takes_at_most(0.5):
        assert schema_problem(schema) is None
    seen = check_schema(schema)
    monkeypatch.setattr(schemas, "_Schema", None)
    assert check_schema(json.loads(json.dumps(schema))) == seen


def test_the_functions_of_a_request_are_counted_together(served):
    small = {"type": "object", "properties": {f"p{i}": {} for i in range(12)}}
    tools = [{"type": "function", "name": f"f{i}", "parameters": small} for i in range(128)]
    for body in ({"tools": tools}, {"tools": tools, "tool_choice": "required"}):
        answered = served.client.post("/v1/responses", json={"input": "Say x", **body})
        assert answered.status_code == 400 and "together" in answered.json()["error"]["message"]
    assert served.client.post("/v1/responses", json={"input": "Say x", "tools": tools[:40]}).status_code == 200


def test_a_prompt_that_does_not_fit_is_told_before_its_schema_is_read(monkeypatch):
    monkeypatch.setattr(planning, "check_schema", lambda schema: pytest.fail("read"))
    with Served(ScriptedEngine(lambda text, seed: "x", window=50)) as small:
        body = {"input": "Say x", "text": {"format": {"type": "json_schema", "name": "f", "schema": TREE}}}
        answered = httpx.post(f"{small.url}/v1/responses", headers=AUTH, json=body, timeout=30)
    assert answered.json()["error"]["code"] == "context_length_exceeded"


def test_checking_an_answer_ends_whatever_the_schema():
    doubling = {"$ref": "#/$defs/a0", "$defs": {
        **{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}, "a40": {},
    }}  # fmt: skip
    inside = {"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}
    cases = [
        (1, doubling), (1, {"$ref": "#"}), (1, {"$ref": "#/nowhere"}),
        (json.loads('{"a":' * 60 + "1" + "}" * 60), inside),
        ([899] * 8000, {"items": {"enum": list(range(900))}}), ([{"a": i} for i in range(8000)], {"uniqueItems": True}),
        ("x" * 100_000, {"anyOf": [{"type": "integer"}] * 900}), ("a" * 200_000, {"pattern": "(a+)+$"}),
        ([[]] * 9000, {"contains": {"anyOf": [{"type": "null"}] * 50}}),
    ]  # fmt: skip
    for value, schema in cases:
        with takes_at_most(2):
            assert "cannot be applied" in str(mismatch(value, schema))


def test_an_answer_that_is_nested_as_deep_as_it_is_long_fits_nothing_and_breaks_nothing():
    value = []
    for _ in range(5_000):  # newer versions of Python read such a text
        value = [value]
    assert mismatch(value, {"type": "array"}) == "it is nested too deeply"


def test_a_namespace_and_a_server_may_not_both_have_a_function_of_one_name():
    read = {"type": "function", "name": "read"}
    given = NamespaceTool.model_validate({"type": "namespace", "name": "desk", "tools": [read]})
    with pytest.raises(ApiError, match=r"Two tools are called 'desk\.read'"):
        planning.tools_of([given], None, "tools", [Tool(name="desk.read")])
    assert [tool.name for tool in planning.tools_of([given], None, "tools", [Tool(name="desk.drop")])[0]] == [
        "desk.read", "desk.drop",
    ]  # fmt: skip


def test_a_part_that_names_another_dialect_does_not_leave_the_counted_one():
    nested = {"$schema": "http://json-schema.org/draft-07/schema#", "allOf": [{"$ref": "#/d"}] * 2}
    assert schema_problem({"properties": {"a": nested}, "d": {}})


def test_schemas_and_answers_are_checked_beside_the_event_loop(served, monkeypatch):
    ran = set()

    def noted(function):
        def call(*arguments):
            ran.add((function.__name__, threading.current_thread() is served._thread))
            return function(*arguments)

        return call

    monkeypatch.setattr(planning, "check_schema", noted(planning.check_schema))
    monkeypatch.setattr(planning, "form_problem", noted(planning.form_problem))
    monkeypatch.setattr(tools, "mismatch", noted(tools.mismatch))
    assert {status for status, _, _ in doors(served, TREE, '{"v": 1}')} == {200}
    assert ran == {("check_schema", False), ("form_problem", False), ("mismatch", False)}


def test_a_fence_is_taken_off_in_linear_time():
    for text in ("```" + "\n" * 20_000, "```json\n" + "\n" * 20_000, "\n" * 20_000 + "```", "```\n" * 20_000 + "x",
                 " " * 20_000 + "```json" + " " * 20_000 + "\n{}\n" + " " * 20_000 + "x"):  # fmt: skip
        with takes_at_most(0.05):
            unfenced(text)
    inside = '{"a": "```"}'
    for text in (f"```json\n{inside}\n```", f"  ```\n\n{inside}\n\n``` \n", f"```JSON \n{inside}\n  ```"):
        assert json.loads(unfenced(text)) == {"a": "```"}
    for text in (inside, f"```python\n{inside}\n```", f"```{inside}```", "```", "", f"```\n{inside}"):
        assert unfenced(text) == text


def test_calls_are_read_in_time_linear_in_the_text():
    for text in ("<tool_call></tool_call>" * 30_000, "<tool_call>" * 60_000, "<" * 600_000, "</tool_call>" * 60_000):
        parser = CallParser([Tool(name="f")])
        with takes_at_most(1):
            assert "".join(map(str, parser.feed(text) + parser.finish())) == text


def test_a_number_that_cannot_be_written_down_again_is_in_no_call():
    parser = CallParser([Tool(name="f")])
    text = '<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>'
    assert not any(isinstance(part, Call) for part in parser.feed(text) + parser.finish())
    assert json_problem('{"a": NaN}', None)


@pytest.mark.parametrize(
    ("path", "more", "param", "told"),
    [
        ("chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
         "response_format.json_schema.name", "match pattern"),
        ("chat/completions", {"response_format": {"type": "json"}}, "response_format.type",
         "'text' or 'json_object' or 'json_schema'"),
        ("chat/completions", {"response_format": 5}, "response_format", "an object"),
        ("chat/completions", {"stop": [""]}, "stop[0]", "at least 1 character"),
        ("chat/completions", {"stop": ["a"] * 5}, "stop", "at most 4"),
        ("chat/completions", {"stop": 5}, "stop", "a valid string or a valid list"),
        ("responses", {"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing"),
        ("responses", {"tool_choice": {"type": "function", "name": "a b"}}, "tool_choice.name", "match pattern"),
        ("responses", {"tool_choice": {"type": "function"}}, "tool_choice.name", "Missing"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools[0].type", "'function'"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "input[0].content[0]", "Images are not supported"),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_tells_of_the_kind_of_value_that_was_meant(served, path, more, param, told):
    asked = {"messages": [{"role": "user", "content": "x"}]} if "chat" in path else {"input": "x"}
    answered = served.client.post(f"/v1/{path}", json={"model": "scripted", **asked, **more})
    error = answered.json()["error"]
    assert (answered.status_code, error["param"]) == (400, param) and told in error["message"]
