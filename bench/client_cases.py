"""Cases of `bench/clients.py`: what the clients of OpenAI and Anthropic ask of a server, and what they should read.

A case is a function of a server's address that raises where something is wrong; `@case(CLIENT)` registers it. Needs no
ponder. The cases of libraries over these clients are in `framework_cases.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

KEY, MODEL = "sk-bench", "scripted"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS}}
TOOL = {"type": "function", "name": "weather", "description": "Tells it.", "parameters": PARAMETERS}
CLAUDE_TOOL = {"name": "weather", "description": "Tells it.", "input_schema": PARAMETERS}
SAYS, JSON, HIDDEN = "The answer is 42.", {"answer": 42}, "HIDDENTHOUGHT"
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"],
          "additionalProperties": False}  # fmt: skip

Case = Callable[[str], Any]
CASES: dict[str, dict[str, Case]] = {}


def case(client: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES.setdefault(client, {})[function.__name__.removeprefix(client.replace("-", "_") + "_")] = function
        return function

    return add


def same(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}"[:300])


def hidden(found: Any) -> None:
    if HIDDEN in str(found):
        raise AssertionError("reasoning is in what the client got")


def _openai(url: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, _strict_response_validation=True)


def _chat(url: str, text: str = "2+2?", **more: Any) -> Any:
    made = _openai(url).chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more)
    hidden(made)
    return made


@case("openai")
def openai_models(url: str) -> None:
    same([model.id for model in _openai(url).models.list()], [MODEL])


@case("openai")
def openai_chat(url: str) -> None:
    same(_chat(url).choices[0].message.content, SAYS)


@case("openai")
def openai_chat_stream(url: str) -> None:
    same("".join(c.choices[0].delta.content or "" for c in _chat(url, stream=True)), SAYS)


@case("openai")
def openai_chat_tool_round_trip(url: str) -> None:
    asked: list[Any] = [{"role": "user", "content": "weather?"}]
    client = _openai(url)
    first = client.chat.completions.create(model=MODEL, messages=asked, tools=[CHAT_TOOL]).choices[0].message
    same(json.loads(first.tool_calls[0].function.arguments), {"city": "Paris"})
    asked += [first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sun"}]
    after = client.chat.completions.create(model=MODEL, messages=asked, tools=[CHAT_TOOL])
    same(after.choices[0].message.content, "It is sunny.")


@case("openai")
def openai_chat_json_schema(url: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    same(json.loads(_chat(url, "structure", response_format=form).choices[0].message.content), JSON)


@case("openai")
def openai_chat_max_tokens(url: str) -> None:
    same(_chat(url, max_tokens=900).choices[0].message.content, SAYS)


@case("openai")
def openai_chat_temperature_0(url: str) -> None:
    same(_chat(url, temperature=0).choices[0].message.content, SAYS)


@case("openai")
def openai_chat_top_p(url: str) -> None:
    same(_chat(url, top_p=0.9).choices[0].message.content, SAYS)


@case("openai")
def openai_chat_vllm_thinking_off(url: str) -> None:
    made = _chat(url, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    same(made.usage.completion_tokens_details.reasoning_tokens, 0)


@case("openai")
def openai_chat_vllm_budget(url: str) -> None:
    made = _chat(url, extra_body={"thinking_token_budget": 5})
    same(made.usage.completion_tokens_details.reasoning_tokens, 5)


@case("openai")
def openai_chat_qwen_budget(url: str) -> None:
    made = _chat(url, extra_body={"enable_thinking": True, "thinking_budget": 5})
    same(made.usage.completion_tokens_details.reasoning_tokens, 5)


@case("openai")
def openai_chat_llama_cpp_budget(url: str) -> None:
    made = _chat(url, extra_body={"reasoning_budget": 5, "reasoning_format": "auto"})
    same(made.usage.completion_tokens_details.reasoning_tokens, 5)


@case("openai")
def openai_responses(url: str) -> None:
    made = _openai(url).responses.create(model=MODEL, input="2+2?", reasoning={"effort": "low"})
    hidden(made)
    same(made.output_text, SAYS)


@case("openai")
def openai_responses_stream_and_again(url: str) -> None:
    client = _openai(url)
    with client.responses.stream(model=MODEL, input="2+2?") as stream:
        list(stream)
        same(stream.get_final_response().output_text, SAYS)
        same(client.responses.retrieve(stream.get_final_response().id).output_text, SAYS)


@case("openai")
def openai_responses_tool_round_trip(url: str) -> None:
    client = _openai(url)
    first = client.responses.create(model=MODEL, input="weather?", tools=[TOOL])
    output = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sun"}
    after = client.responses.create(model=MODEL, input=[output], previous_response_id=first.id)
    same(after.output_text, "It is sunny.")


@case("codex")
def codex_custom_tool(url: str) -> None:
    made = _codex(url, "patch it", [{"type": "custom", "name": "apply_patch"}])
    same([item["type"] for item in made["output"]], ["reasoning", "custom_tool_call"])


@case("codex")
def codex_round_trip_without_ids(url: str) -> None:
    tools = [{"type": "custom", "name": "apply_patch"}]
    made = _codex(url, "patch it", tools)
    back = [{k: v for k, v in item.items() if k not in ("id", "status")} for item in made["output"]]
    call = {"type": "custom_tool_call_output", "call_id": back[1]["call_id"], "output": "ok"}
    after = _codex(url, "patch it", tools, *back, call)
    same((after["output"][-1]["content"][0]["text"], after.get("input_transformations")), ("It is sunny.", None))


@case("codex")
def codex_namespace(url: str) -> None:
    made = _codex(url, "2+2?", [{"type": "namespace", "name": "mcp__x", "description": "d", "tools": [TOOL]}])
    same(made["output"][-1]["content"][0]["text"], SAYS)


@case("codex")
def codex_web_search(url: str) -> None:
    made = _codex(url, "2+2?", [{"type": "web_search", "external_web_access": False}])
    same(made["output"][-1]["content"][0]["text"], SAYS)


class Refused(Exception):
    """A 4xx, for clients that have no exception of their own."""


def _codex(url: str, text: str, tools: list[Any], *more: Any) -> Any:
    """A request with the fields that Codex sends, read as it reads: events that end with response.completed."""
    import httpx

    body = {
        "model": MODEL, "instructions": "You are a coding agent.", "tools": tools, "tool_choice": "auto",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}, *more],
        "parallel_tool_calls": True, "reasoning": {"effort": "medium", "summary": "auto"}, "store": False,
        "stream": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread",
        "text": {"verbosity": "medium"}, "client_metadata": {"x-codex-installation-id": "1"},
    }  # fmt: skip
    answer = httpx.post(f"{url}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
    if 400 <= answer.status_code < 500:
        raise Refused(answer.text)
    hidden(answer.text)
    last = json.loads(answer.text.strip().split("\n\n")[-1].partition("data: ")[2])
    same(last["type"], "response.completed")
    return last["response"]


def _anthropic(url: str) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, _strict_response_validation=True)


def _message(url: str, text: str = "2+2?", **more: Any) -> Any:
    asked = {"model": MODEL, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **more}
    made = _anthropic(url).messages.create(**asked)
    hidden(made)
    return made


@case("anthropic")
def anthropic_message(url: str) -> None:
    made = _message(url, system="Be brief.")
    same((made.content[0].text, made.stop_reason), (SAYS, "end_turn"))


@case("anthropic")
def anthropic_models(url: str) -> None:
    same([model.id for model in _anthropic(url).models.list()], [MODEL])


@case("anthropic")
def anthropic_thinking(url: str) -> None:
    made = _message(url, thinking={"type": "enabled", "budget_tokens": 1024})
    same([block.type for block in made.content], ["thinking", "text"])
    same(made.usage.output_tokens_details.thinking_tokens, len(f"{HIDDEN} about it"))


@case("anthropic")
def anthropic_adaptive_with_effort(url: str) -> None:
    made = _message(url, thinking={"type": "adaptive", "display": "omitted"}, output_config={"effort": "high"})
    same((made.content[0].thinking, made.content[1].text), ("", SAYS))


@case("anthropic")
def anthropic_stream(url: str) -> None:
    asked = {"model": MODEL, "max_tokens": 2000, "messages": [{"role": "user", "content": "2+2?"}]}
    with _anthropic(url).messages.stream(**asked, thinking={"type": "adaptive"}) as stream:
        same("".join(stream.text_stream), SAYS)
        final = stream.get_final_message()
    hidden(final)
    same([block.type for block in final.content], ["thinking", "text"])
    same(len(final.content[0].signature) > 100, True)


@case("anthropic")
def anthropic_tool_round_trip(url: str) -> None:
    asked: list[Any] = [{"role": "user", "content": "weather?"}]
    more: dict[str, Any] = {"tools": [CLAUDE_TOOL], "thinking": {"type": "adaptive"}}
    first = _message(url, messages=asked, **more)
    same((first.stop_reason, first.content[-1].input), ("tool_use", {"city": "Paris"}))
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "sun"}
    asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    same(_message(url, messages=asked, **more).content[-1].text, "It is sunny.")


@case("anthropic")
def anthropic_tool_stream(url: str) -> None:
    asked = {"model": MODEL, "max_tokens": 2000, "messages": [{"role": "user", "content": "weather?"}]}
    with _anthropic(url).messages.stream(**asked, tools=[CLAUDE_TOOL]) as stream:
        same(stream.get_final_message().content[-1].input, {"city": "Paris"})


@case("anthropic")
def anthropic_stop_sequence(url: str) -> None:
    made = _message(url, stop_sequences=[" is"])
    same((made.content[0].text, made.stop_reason, made.stop_sequence), ("The answer", "stop_sequence", " is"))


@case("anthropic")
def anthropic_json_schema(url: str) -> None:
    made = _message(url, "structure", output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    same(json.loads(made.content[0].text), JSON)


@case("anthropic")
def anthropic_count_tokens(url: str) -> None:
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "2+2?"}]}
    same(_anthropic(url).messages.count_tokens(**asked).input_tokens, _message(url).usage.input_tokens)


@case("anthropic")
def anthropic_errors_are_its_own(url: str) -> None:
    import anthropic

    try:
        _message(url, model="claude")
    except anthropic.NotFoundError as error:
        same((error.body["error"]["type"], error.request_id[:4]), ("not_found_error", "req_"))  # type: ignore[index]
    else:
        raise AssertionError("an unknown model was answered for")


@case("anthropic")
def anthropic_temperature_0(url: str) -> None:
    same(_message(url, extra_body={"temperature": 0.0}).content[0].text, SAYS)


@case("anthropic")
def anthropic_web_search(url: str) -> None:
    _message(url, tools=[{"type": "web_search_20250305", "name": "web_search"}])


@case("anthropic")
def anthropic_image(url: str) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    _message(url, messages=[{"role": "user", "content": [image]}])
