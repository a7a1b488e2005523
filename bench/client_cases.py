"""The cases of `bench/clients.py`: what each client asks of a server, and what it should read. Needs no ponder.

A case is a function of a server's address that raises where something is wrong; `@case(CLIENT)` registers it.
"""

from __future__ import annotations

import asyncio
import json
import os
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


def _litellm(url: str, text: str = "2+2?", **more: Any) -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices
    import litellm

    litellm.suppress_debug_info = True
    where = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1"} | more
    return litellm.completion(**where, api_key=KEY, messages=[{"role": "user", "content": text}], num_retries=0)


@case("litellm")
def litellm_chat(url: str) -> None:
    made = _litellm(url)
    hidden(made)
    same(made.choices[0].message.content, SAYS)


@case("litellm")
def litellm_stream(url: str) -> None:
    same("".join(c.choices[0].delta.content or "" for c in _litellm(url, stream=True)), SAYS)


@case("litellm")
def litellm_tools(url: str) -> None:
    made = _litellm(url, "weather?", tools=[CHAT_TOOL])
    same(json.loads(made.choices[0].message.tool_calls[0].function.arguments), {"city": "Paris"})


@case("litellm")
def litellm_reasoning_effort(url: str) -> None:
    same(_litellm(url, reasoning_effort="low", allowed_openai_params=["reasoning_effort"]).choices[0].message.content,
         SAYS)  # fmt: skip


@case("litellm")
def litellm_max_tokens(url: str) -> None:
    same(_litellm(url, max_tokens=900).choices[0].message.content, SAYS)


@case("litellm")
def litellm_temperature_0(url: str) -> None:
    same(_litellm(url, temperature=0).choices[0].message.content, SAYS)


@case("litellm")
def litellm_anthropic(url: str) -> None:
    made = _litellm(url, model=f"anthropic/{MODEL}", api_base=url, max_tokens=2000)
    hidden(made)
    same(made.choices[0].message.content, SAYS)


def _agent(url: str, text: str, api: str, **settings: Any) -> Any:
    import agents
    import openai

    agents.set_tracing_disabled(True)

    @agents.function_tool
    def weather(city: str) -> str:
        """Tells it."""
        return f"sun in {city}"

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
    kind = agents.OpenAIResponsesModel if api == "responses" else agents.OpenAIChatCompletionsModel
    agent = agents.Agent(
        name="a", instructions="Help.", tools=[weather], model=kind(model=MODEL, openai_client=client),
        model_settings=agents.ModelSettings(**settings),
    )  # fmt: skip
    return asyncio.run(agents.Runner.run(agent, text)).final_output


@case("openai-agents")
def openai_agents_responses_with_a_tool(url: str) -> None:
    same(_agent(url, "weather?", "responses"), "It is sunny.")


@case("openai-agents")
def openai_agents_chat_with_a_tool(url: str) -> None:
    same(_agent(url, "weather?", "chat"), "It is sunny.")


@case("openai-agents")
def openai_agents_stateless_with_sealed_reasoning(url: str) -> None:
    more = {"store": False, "response_include": ["reasoning.encrypted_content"]}
    same(_agent(url, "weather?", "responses", **more), "It is sunny.")


@case("openai-agents")
def openai_agents_chat_max_tokens(url: str) -> None:
    same(_agent(url, "2+2?", "chat", max_tokens=900), SAYS)


@case("openai-agents")
def openai_agents_temperature_0(url: str) -> None:
    same(_agent(url, "2+2?", "responses", temperature=0.0), SAYS)


def _pydantic_ai(url: str, text: str, kind: str, **more: Any) -> Any:
    import pydantic_ai
    from pydantic_ai.providers.openai import OpenAIProvider

    if kind == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        model: Any = AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=_async_anthropic(url)))
    else:
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

        provider = OpenAIProvider(base_url=f"{url}/v1", api_key=KEY)
        model = (OpenAIChatModel if kind == "chat" else OpenAIResponsesModel)(MODEL, provider=provider)
    agent = pydantic_ai.Agent(model, **more)

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tells it."""
        return f"sun in {city}"

    return agent.run_sync(text).output


def _async_anthropic(url: str) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0)


@case("pydantic-ai")
def pydantic_ai_chat_with_a_tool(url: str) -> None:
    same(_pydantic_ai(url, "weather?", "chat"), "It is sunny.")


@case("pydantic-ai")
def pydantic_ai_responses_with_a_tool(url: str) -> None:
    same(_pydantic_ai(url, "weather?", "responses"), "It is sunny.")


@case("pydantic-ai")
def pydantic_ai_anthropic_with_a_tool(url: str) -> None:
    same(_pydantic_ai(url, "weather?", "anthropic"), "It is sunny.")


@case("pydantic-ai")
def pydantic_ai_anthropic_thinking(url: str) -> None:
    settings = {"anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000}
    same(_pydantic_ai(url, "weather?", "anthropic", model_settings=settings), "It is sunny.")


@case("pydantic-ai")
def pydantic_ai_chat_temperature_0(url: str) -> None:
    same(_pydantic_ai(url, "2+2?", "chat", model_settings={"temperature": 0.0}), SAYS)


def _instructor(url: str, mode: str) -> Any:
    import instructor
    import openai
    from pydantic import BaseModel

    class Answer(BaseModel):
        answer: int

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
    asked: Any = [{"role": "user", "content": "structure; the tool named Answer "}]
    if mode != "TOOLS":
        asked = [{"role": "user", "content": "structure"}]
    wrapped = instructor.from_openai(client, mode=getattr(instructor.Mode, mode))
    return wrapped.chat.completions.create(model=MODEL, messages=asked, response_model=Answer, max_retries=0).answer


@case("instructor")
def instructor_tools(url: str) -> None:
    same(_instructor(url, "TOOLS"), 42)


@case("instructor")
def instructor_json(url: str) -> None:
    same(_instructor(url, "JSON"), 42)


@case("instructor")
def instructor_json_schema(url: str) -> None:
    same(_instructor(url, "JSON_SCHEMA"), 42)


def _llm(url: str, **options: Any) -> str:
    from llm.default_plugins.openai_models import Chat

    model = Chat("ponder", model_name=MODEL, api_base=f"{url}/v1")
    model.key = KEY
    return str(model.prompt("2+2?", stream=options.pop("stream", False), **options).text())


@case("llm")
def llm_prompt(url: str) -> None:
    same(_llm(url), SAYS)


@case("llm")
def llm_stream(url: str) -> None:
    same(_llm(url, stream=True), SAYS)


@case("llm")
def llm_temperature(url: str) -> None:
    same(_llm(url, temperature=0.2), SAYS)


@case("llm")
def llm_max_tokens(url: str) -> None:
    same(_llm(url, max_tokens=900), SAYS)


def _langchain(url: str, **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=KEY, max_retries=0, **more)


@case("langchain-openai")
def langchain_openai_chat(url: str) -> None:
    made = _langchain(url).invoke("2+2?")
    hidden(made)
    same(made.text, SAYS)


@case("langchain-openai")
def langchain_openai_stream(url: str) -> None:
    same("".join(part.text for part in _langchain(url).stream("2+2?")), SAYS)


@case("langchain-openai")
def langchain_openai_responses_and_their_reasoning_sent_back(url: str) -> None:
    model = _langchain(url, use_responses_api=True, output_version="responses/v1")
    first = model.invoke("2+2?")
    hidden(first)
    same(model.invoke([("human", "2+2?"), first, ("human", "and again?")]).text, SAYS)


@case("langchain-openai")
def langchain_openai_tool_round_trip(url: str) -> None:
    from langchain_core.messages import ToolMessage

    model = _langchain(url).bind_tools([CHAT_TOOL])
    first = model.invoke("weather?")
    same([(call["name"], call["args"]) for call in first.tool_calls], [("weather", {"city": "Paris"})])
    result = ToolMessage("sun", tool_call_id=first.tool_calls[0]["id"])
    same(model.invoke([("human", "weather?"), first, result]).text, "It is sunny.")


@case("langchain-openai")
def langchain_openai_structured_output(url: str) -> None:
    schema = {"title": "structure", **SCHEMA}
    same(_langchain(url).with_structured_output(schema, method="json_schema").invoke("structure?"), JSON)


@case("langchain-openai")
def langchain_openai_reasoning_effort(url: str) -> None:
    same(_langchain(url, reasoning_effort="low").invoke("2+2?").text, SAYS)


@case("langchain-openai")
def langchain_openai_max_tokens(url: str) -> None:
    same(_langchain(url, max_tokens=900).invoke("2+2?").text, SAYS)


@case("langchain-openai")
def langchain_openai_temperature_0(url: str) -> None:
    same(_langchain(url, temperature=0).invoke("2+2?").text, SAYS)


def _inspect(
    url: str, text: str = "2+2?", *, responses: bool = False, tools: list[Any] | None = None, **more: Any
) -> Any:
    from inspect_ai.model import GenerateConfig, get_model

    model = get_model(f"openai-api/ponder/{MODEL}", base_url=f"{url}/v1", api_key=KEY, responses_api=responses,
                      memoize=False)  # fmt: skip
    made = asyncio.run(model.generate(text, tools=tools or [], config=GenerateConfig(max_retries=0, **more)))
    hidden(made)
    return made


@case("inspect")
def inspect_chat(url: str) -> None:
    same(_inspect(url).completion, SAYS)


@case("inspect")
def inspect_responses(url: str) -> None:
    same(_inspect(url, responses=True).completion, SAYS)


@case("inspect")
def inspect_a_tool(url: str) -> None:
    from inspect_ai.tool import ToolInfo, ToolParams

    params = ToolParams(**{"type": "object", "properties": PARAMETERS["properties"], "required": ["city"]})
    tool = ToolInfo(name="weather", description="Tells it.", parameters=params)
    made = _inspect(url, "weather?", tools=[tool])
    same(made.message.tool_calls[0].arguments, {"city": "Paris"})


@case("inspect")
def inspect_max_tokens(url: str) -> None:
    same(_inspect(url, max_tokens=900).completion, SAYS)


@case("inspect")
def inspect_temperature_0(url: str) -> None:
    same(_inspect(url, temperature=0.0).completion, SAYS)
