"""Field names of other servers, in ponder's words."""

from __future__ import annotations

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve.errors import ApiError
from ponder.serve.lenient import chat_request, response_request
from ponder.serve.schema import ChatRequest, ResponseRequest
from ponder.serve.validation import read
from tests.serve.serving import KEY, Served, script

BASE = {"model": "m", "messages": [{"role": "user", "content": "2+2?"}]}
CAP = {"compute": {"max_reasoning_tokens": 100}}
SAME = [  # vLLM, Qwen, SGLang, llama.cpp, OpenRouter, DeepSeek
    ({"thinking_token_budget": 100}, CAP),
    ({"thinking_budget": 100}, CAP),
    ({"thinking_budget_tokens": 100}, CAP),
    ({"reasoning_budget": 100}, CAP),
    ({"reasoning_max_tokens": 100, "compute": {"seed": 1}}, {"compute": {"seed": 1, "max_reasoning_tokens": 100}}),
    ({"custom_params": {"thinking_budget": 100}}, CAP),
    ({"reasoning": {"max_tokens": 100, "exclude": True}}, CAP),
    ({"thinking": {"type": "enabled", "budget_tokens": 100}}, CAP),
    ({"reasoning_budget": 0}, {"compute": {"max_reasoning_tokens": 0}}),
    ({"enable_thinking": False}, {"reasoning_effort": "none"}),
    ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}),
    ({"chat_template_kwargs": {"thinking": False}}, {"reasoning_effort": "none"}),
    ({"chat_template_kwargs": {"reasoning_effort": "high"}}, {"reasoning_effort": "high"}),
    ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
    ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
    ({"enable_thinking": True}, {}),
    ({"max_tokens": 50}, {"max_completion_tokens": 50}),
    ({"max_tokens": 50, "max_completion_tokens": 50}, {"max_completion_tokens": 50}),
    ({"temperature": 1, "top_p": 1.0, "presence_penalty": 0, "logprobs": False}, {}),
    ({"separate_reasoning": True, "reasoning_format": "auto", "include_reasoning": False}, {}),
]  # fmt: skip
NOTED = [
    ({"temperature": 0}, "temperature ignored"),
    ({"top_k": 20}, "top_k ignored"),
    ({"logprobs": True}, "logprobs ignored"),
    ({"reasoning_format": "deepseek"}, "reasoning_format ignored: reasoning stays hidden"),
    ({"include_reasoning": True}, "include_reasoning ignored: reasoning stays hidden"),
    ({"reasoning_budget": -1}, "reasoning_budget=-1: the effort's own limit holds"),
    ({"chat_template_kwargs": {"tone": "x"}}, "chat_template_kwargs.tone ignored"),
    ({"enable_thinking": False, "thinking_budget": 9}, "thinking_budget ignored: enable_thinking is off"),
]  # fmt: skip
REFUSED = [
    ({"reasoning_format": "none"}, "reasoning_format"),
    ({"separate_reasoning": False}, "separate_reasoning"),
    ({"thinking_budget": 5, "reasoning_budget": 6}, "reasoning_budget"),
    ({"thinking_budget": 5, "compute": {"max_reasoning_tokens": 6}}, "thinking_budget"),
    ({"enable_thinking": False, "reasoning_effort": "high"}, "enable_thinking"),
    ({"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}},
     "chat_template_kwargs.enable_thinking"),
    ({"thinking_budget": "many"}, "thinking_budget"),
    ({"thinking_budget": True}, "thinking_budget"),
    ({"enable_thinking": "no"}, "enable_thinking"),
    ({"chat_template_kwargs": 5}, "chat_template_kwargs"),
    ({"thinking": {"type": "sometimes"}}, "thinking.type"),
    ({"reasoning": {"depth": 3}}, "reasoning.depth"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"enable_thinking": True, "reasoning_effort": "none"}, "enable_thinking"),
    ({"enable_thinking": True, "chat_template_kwargs": {"reasoning_effort": "none"}}, "enable_thinking"),
    ({"enable_thinking": True, "thinking_budget": 0}, "enable_thinking"),
    ({"thinking_budget": 100, "reasoning_effort": "none"}, "thinking_budget"),
    ({"reasoning": {"effort": "none", "max_tokens": 100}}, "reasoning.max_tokens"),
]  # fmt: skip


@pytest.mark.parametrize("given, meant", SAME)
def test_what_means_the_same_is_mapped_without_a_note(given, meant):
    assert chat_request({**BASE, **given}) == ({**BASE, **meant}, [])
    read(ChatRequest, {**BASE, **meant})


@pytest.mark.parametrize("given, note", NOTED)
def test_what_has_no_effect_is_dropped_with_a_note(given, note):
    data, notes = chat_request({**BASE, **given})
    assert notes == [note]
    read(ChatRequest, data)


@pytest.mark.parametrize("given, param", REFUSED)
def test_what_asks_for_something_else_is_refused_by_name(given, param):
    with pytest.raises(ApiError) as error:
        chat_request({**BASE, **given})
    assert (error.value.status, error.value.param) == (400, param)


@pytest.mark.parametrize(
    "given, limit",
    [({}, 5), ({"max_output_tokens": None}, 5), ({"max_output_tokens": 5}, 5), ({"max_output_tokens": 6}, None)],
)
def test_a_limit_of_a_response_by_its_other_name_is_never_lost(given, limit):
    if limit is None:
        with pytest.raises(ApiError, match="'max_tokens' and 'max_output_tokens' say different things"):
            response_request({"max_tokens": 5, **given})
    else:
        assert response_request({"max_tokens": 5, **given}) == ({"max_output_tokens": limit}, [])


@pytest.mark.parametrize(
    "given", [{"max_tokens": 5}, {"temperature": 0.5}, {"enable_thinking": False}, {"thinking_budget": 9}, {"top_k": 1}]
)
def test_a_strict_server_names_the_flag(given):
    with pytest.raises(ApiError, match="`ponder serve --lenient` takes it"):
        read(ChatRequest, {**BASE, **given})


def test_a_strict_server_promises_the_flag_only_where_it_helps():
    for model, name in ((ResponseRequest, "enable_thinking"), (ChatRequest, "frobnicate")):
        with pytest.raises(ApiError) as error:
            read(model, {"model": "m", name: 1})
        assert "--lenient" not in error.value.message


def test_tools_of_other_kinds_are_left_out_of_a_response_where_none_must_be_called():
    tools = [{"type": "web_search"}, {"type": "function", "name": "f"}]
    data, notes = response_request({"tools": tools, "max_tokens": 7, "temperature": 0})
    assert data == {"tools": tools[1:], "max_output_tokens": 7}
    assert notes == ["temperature ignored", "tools: web_search is not run here and was left out"]
    data, _ = response_request({"tools": tools, "tool_choice": "required"})
    assert data["tools"] == tools


def test_the_server_takes_them_and_says_so_in_a_header():
    with Served(ScriptedEngine(script), strict_params=False) as served:
        body = {**BASE, "model": "scripted", "temperature": 0, "thinking_budget": 5, "bad\r\nname": 1}
        url, auth = f"{served.url}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}
        refused = httpx.post(url, headers=auth, json=body)
        assert refused.status_code == 400  # nobody's field is still refused
        del body["bad\r\nname"]
        body["chat_template_kwargs"] = {"bad\r\nx: y": 1, "é": 2}
        told = httpx.post(url, headers=auth, json=body)
        assert told.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
        note = "temperature ignored; chat_template_kwargs.bad??x: y ignored; chat_template_kwargs.? ignored"
        assert told.headers["x-ponder-note"] == note and "x" not in told.headers
