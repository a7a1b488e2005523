"""Cases of `bench/clients.py` as in `client_cases.py`, of libraries that speak to any provider and of agent frameworks.

`CASES` has those of both files.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from client_cases import CASES as CASES
from client_cases import CHAT_TOOL, JSON, KEY, MODEL, PARAMETERS, SAYS, SCHEMA, case, hidden, same


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
