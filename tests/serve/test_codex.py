"""The Responses API as Codex uses it: its request's shape, custom tools, namespaces, and what is refused by name."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from openai import OpenAI

from ponder.engine.base import ScriptedEngine
from ponder.serve.errors import ApiError
from ponder.serve.schema import ChatRequest, ResponseRequest
from ponder.serve.tool_kinds import echoed, functions_of, kinds_of
from ponder.serve.validation import read
from ponder.serve.vault import Binding, Vault, item_of
from tests.serve.serving import KEY, Served

PATCH = "*** Begin Patch\n*** Add File: a.py\n+print('é')\n*** End Patch"
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /(.|\\n)+/"}
TOOLS = [
    {"type": "function", "name": "exec_command", "description": "Runs a command.", "strict": False,
     "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
    {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": GRAMMAR},
    {"type": "namespace", "name": "mcp__docs", "description": "The docs.", "tools": [
        {"type": "function", "name": "search", "description": "Finds.", "strict": False,
         "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}]},
]  # fmt: skip
CALLS = {
    "patch": ("apply_patch", {"input": PATCH}),
    "search": ("mcp__docs.search", {"q": "serve"}),
    "run": ("exec_command", {"cmd": "ls"}),
}


def say(text, seed):
    if "<tool_response>" in text:
        return "THOUGHT done", "It is done."
    for word, (name, arguments) in CALLS.items():
        if word in text:
            call = json.dumps({"name": name, "arguments": arguments})
            return f"THOUGHT {word}", f"<tool_call>{call}</tool_call>"
    return "THOUGHT", "Hello."


@pytest.fixture(scope="module")
def codex():
    with Served(ScriptedEngine(say, portions=(5,), window=20_000)) as served:
        yield served


@pytest.fixture(scope="module")
def client(codex):
    return OpenAI(base_url=f"{codex.url}/v1", api_key=KEY, _strict_response_validation=True, max_retries=0)


def said(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def body(*items, **more):
    """A request with the fields that Codex sends."""
    return {
        "model": "scripted", "instructions": "You are a coding agent.", "input": list(items), "tools": TOOLS,
        "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {"effort": "high", "summary": "auto"},
        "store": False, "stream": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199-thread",
        "text": {"verbosity": "low"}, "client_metadata": {"x-codex-installation-id": "1"}, "service_tier": "priority",
        **more,
    }  # fmt: skip


def events(codex, *items, **more):
    headers = {"Authorization": f"Bearer {KEY}", "accept": "text/event-stream", "originator": "codex_exec"}
    answer = httpx.post(f"{codex.url}/v1/responses", json=body(*items, **more), headers=headers)
    assert answer.status_code == 200, answer.text
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [json.loads(block.partition("data: ")[2]) for block in blocks], answer


@pytest.mark.parametrize("word", CALLS)
def test_a_turn_with_a_tool_goes_on_with_its_reasoning(codex, word):
    found, answer = events(codex, said(f"please {word}"))
    assert "apply_patch: its grammar is in the prompt, and not enforced" in answer.headers["x-ponder-note"]
    assert found[-1]["type"] == "response.completed" and found[-1]["response"]["service_tier"] == "default"
    reasoning, call = (event["item"] for event in found if event["type"] == "response.output_item.done")
    assert found[-1]["response"]["output"] == [reasoning, call] and "THOUGHT" not in answer.text
    name, arguments = CALLS[word]
    if word == "patch":
        assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "apply_patch", PATCH)
        assert [e["delta"] for e in found if e["type"] == "response.custom_tool_call_input.delta"] == [PATCH]
        assert [e["input"] for e in found if e["type"] == "response.custom_tool_call_input.done"] == [PATCH]
    else:
        space, _, short = name.rpartition(".")
        assert (call["type"], call["name"], call.get("namespace", "")) == ("function_call", short, space)
        assert json.loads(call["arguments"]) == arguments
    # Codex sends items back without ids, and `content: null` with the reasoning
    back = [{**{k: v for k, v in item.items() if k not in ("id", "status")}} for item in (reasoning, call)]
    back[0]["content"] = None
    output = {"type": call["type"] + "_output", "call_id": call["call_id"],
              "output": [{"type": "input_text", "text": "ok"}]}  # fmt: skip
    found, _ = events(codex, said(f"please {word}"), *back, output)
    assert found[-1]["response"]["output"][-1]["content"][0]["text"] == "It is done."
    assert "input_transformations" not in found[-1]["response"]


def test_the_official_client_reads_calls_of_all_kinds_strictly(client):
    for word, kind in (("patch", "custom_tool_call"), ("search", "function_call")):
        with client.responses.stream(model="scripted", input=f"please {word}", tools=TOOLS) as stream:
            list(stream)
            final = stream.get_final_response()
        assert final.output[1].type == kind and [tool.type for tool in final.tools] == [t["type"] for t in TOOLS]
        kept = client.responses.retrieve(final.id)
        told = [[item.model_dump(exclude={"parsed_arguments"}) for item in each.output] for each in (kept, final)]
        assert told[0] == told[1]
        output = {"type": f"{kind}_output", "call_id": final.output[1].call_id, "output": "ok"}
        after = client.responses.create(model="scripted", input=[output], tools=TOOLS, previous_response_id=final.id)
        assert after.output_text == "It is done." and not after.model_dump().get("input_transformations")
        (item,) = client.responses.input_items.list(after.id)
        assert item.type == f"{kind}_output"


def test_a_custom_tool_can_be_chosen(client):
    choice = {"type": "custom", "name": "apply_patch"}
    made = client.responses.create(model="scripted", input="please patch", tools=TOOLS, tool_choice=choice)
    assert made.output[1].input == PATCH and made.tool_choice.type == "custom"


def test_the_model_sees_functions_only():
    request = read(ResponseRequest, {"tools": TOOLS})
    run, patch, search = functions_of(request.tools)
    assert [each.name for each in (run, patch, search)] == ["exec_command", "apply_patch", "mcp__docs.search"]
    assert GRAMMAR["definition"] in patch.description and search.description == "The docs. Finds."
    assert kinds_of(request.tools).keys() == {"apply_patch", "mcp__docs.search"}


@pytest.mark.filterwarnings("error")
def test_a_response_repeats_tools_of_every_kind_as_they_were_given():
    schema = {"type": "object", "properties": {"q": {"type": "string", "default": None}}}
    function = {"type": "function", "name": "f", "description": "Finds.", "parameters": schema, "strict": False,
                "defer_loading": True}  # fmt: skip
    custom = {"type": "custom", "name": "c", "description": "Edits.", "format": GRAMMAR, "defer_loading": True}
    tools = [function, custom, {"type": "namespace", "name": "n", "tools": [custom, function]}]
    assert [echoed(tool) for tool in read(ResponseRequest, {"tools": tools}).tools] == tools


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "local_shell", "mcp", "image_generation"])
def test_tools_that_a_server_would_run_are_refused_by_name(client, kind):
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="scripted", input="x", tools=[{"type": kind}])
    told = error.value.body
    assert f"'{kind}' is not run here" in told["message"] and told["param"] == "tools[0].type"


REFUSED = [
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context", "reasoning ends with its turn"),
    ({"include": ["message.output_text.logprobs"]}, "include[0]", "Invalid value"),
    ({"tools": [{"type": "namespace", "name": "n", "tools": []}]}, "tools[0].tools", "at least 1 item"),
    ({"tools": [{"type": "custom"}]}, "tools[0].name", "Missing required parameter"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "Missing required parameter"),
    ({"input": [{"type": "web_search_call", "id": "ws"}]}, "input[0].type", "'web_search_call' is not supported"),
    ({"input": [{"type": "custom_tool_call", "call_id": "c", "name": "n"}]}, "input[0].input", "Missing"),
]  # fmt: skip


@pytest.mark.parametrize("data, param, words", REFUSED)
def test_the_rest_is_refused_with_its_path(data, param, words):
    with pytest.raises(ApiError) as error:
        read(ResponseRequest, data)
    assert error.value.param == param and words in error.value.message


def test_chat_completions_take_functions_only(client):
    with pytest.raises(openai.BadRequestError, match="'custom' is not supported in chat completions"):
        client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "x"}],
            tools=[{"type": "custom", "custom": {"name": "f"}}],
        )  # fmt: skip


def test_two_tools_of_one_name_are_refused(client):
    tools = [{"type": "custom", "name": "f"}, {"type": "function", "name": "f", "parameters": {}}]
    with pytest.raises(openai.BadRequestError, match="Two tools are called 'f'"):
        client.responses.create(model="scripted", input="x", tools=tools)


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "scale", "priority"])
def test_both_apis_take_the_same_service_tiers(tier):
    read(ResponseRequest, {"service_tier": tier})
    read(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": "x"}], "service_tier": tier})


def test_fields_that_fit_are_taken():
    for more in ({"reasoning": {"context": "current_turn"}}, {"prompt_cache_retention": "24h"},
                 {"include": ["web_search_call.action.sources"]}):  # fmt: skip
        read(ResponseRequest, more)


def test_sealed_reasoning_says_whose_it_is_and_lies_about_it_in_vain():
    vault, at = Vault(b"x" * 32), Binding(owner="o", model="m", prefix="p", item="rs_1")
    sealed = vault.seal({"text": "t"}, at)
    assert item_of(sealed) == "rs_1" and vault.open(sealed, at) == ({"text": "t"}, None)
    assert vault.unseal(sealed, owner="o", item="rs_1") == {"text": "t"}
    import base64

    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(sealed).replace(b"rs_1", b"rs_2")).decode()
    assert item_of(forged) == "rs_2"
    for item in ("rs_1", "rs_2"):
        with pytest.raises(ApiError, match="could not be verified"):
            vault.open(forged, Binding(owner="o", model="m", prefix="p", item=item))
    for nonsense in ("", "é", "AAAA", "cHYyLg==", sealed[:40]):
        assert item_of(nonsense) in (None, "")
