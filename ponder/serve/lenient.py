"""`ponder serve --lenient`: field names of other servers, in ponder's words, with a note on each that has no effect.

    {"enable_thinking": false}              Qwen, vLLM in chat_template_kwargs      reasoning_effort "none"
    {"thinking_token_budget": 100}          vLLM; thinking_budget: Qwen, SGLang     compute.max_reasoning_tokens
    {"reasoning_budget": 100, "reasoning_format": "auto"}   llama.cpp               the same
    {"max_tokens": 500, "temperature": 0}   everybody                               max_completion_tokens; a note

What means the same is mapped, what changes nothing that the client relies on is dropped with a note (the header
`x-ponder-note`), and what asks for something else is refused by name: raw reasoning in the answer, two budgets that
differ. ponder's own fields have no precedence: a request that says two different things is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ponder.serve.errors import ApiError

# token caps of the reasoning alone; -1 and null mean no cap
BUDGETS = (
    "thinking_token_budget", "thinking_budget", "thinking_budget_tokens", "reasoning_budget", "reasoning_max_tokens",
    "max_thinking_tokens", "max_reasoning_tokens",
)  # fmt: skip
SWITCHES = ("enable_thinking", "thinking")  # a switch, here or among chat_template_kwargs
SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "typical_p", "top_a", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "length_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "dynatemp_range",
)  # fmt: skip
DROPPED = (
    "logprobs", "top_logprobs", "logit_bias", "prediction",
    # how a server works, and not what it answers
    "cache_prompt", "id_slot", "timings_per_token", "return_progress", "priority", "request_id", "rid", "cache_salt",
    "skip_special_tokens", "spaces_between_special_tokens", "add_generation_prompt", "no_stop_trim", "provider",
    "transforms", "route", "stream_reasoning", "preserve_thinking",
)  # fmt: skip
CHAT_ONLY = (
    *BUDGETS, *SWITCHES, "chat_template_kwargs", "reasoning_format", "include_reasoning", "separate_reasoning",
    "custom_params", "reasoning",
)  # fmt: skip


# of Anthropic's API: what a server does with a conversation's memory and speed
MESSAGES_ONLY = ("context_management", "speed", "diagnostics")


def message_request(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same for Anthropic's Messages API."""
    kept, notes = without_sampling(data)
    notes += [f"{name} ignored" for name in MESSAGES_ONLY if kept.pop(name, None)]
    return kept, notes


def without_sampling(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A request without what is ignored, and the notes on it. The default value is no wish, so it has no note."""
    kept, notes = dict(data), []
    for name in (*SAMPLING, *DROPPED):
        if name in kept and kept.pop(name) not in _NO_WISH.get(name, (None, False)):
            notes.append(f"{name} ignored")
    return kept, notes


_NO_WISH: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1), "top_p": (None, 1), "presence_penalty": (None, 0), "frequency_penalty": (None, 0),
    "top_k": (None, -1, 0), "min_p": (None, 0), "repetition_penalty": (None, 1), "logit_bias": (None, {}),
    "top_logprobs": (None, 0), "cache_prompt": (None, True, False), "skip_special_tokens": (None, True),
    "add_generation_prompt": (None, True),
}  # fmt: skip


def chat_request(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A chat completion's fields in ponder's words, and the notes."""
    kept, notes = without_sampling(data)
    requested = RequestedReasoning()
    for name in BUDGETS:
        if name in kept:
            requested.cap(name, kept.pop(name))
    for name in SWITCHES:
        if name in kept:
            requested.switch(name, kept.pop(name))
    for name in ("chat_template_kwargs", "custom_params"):
        if name in kept:
            notes += requested.among(name, kept.pop(name))
    if "reasoning" in kept:
        requested.openrouter(kept.pop("reasoning"))
    notes += _where_reasoning_goes(kept)
    _rename_limit(kept, "max_completion_tokens")
    requested.write(kept)
    return kept, notes + requested.notes


class RequestedReasoning:
    """How much reasoning a request asks for, in whichever fields."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._budget: tuple[str, int] | None = None
        self._effort: tuple[str, str] | None = None
        self._is_on: tuple[str, bool] | None = None

    def cap(self, name: str, value: Any) -> None:
        """A cap in tokens: None is no wish, -1 adds a note and sets nothing. Raises ApiError for any other value that
        is no count, and for one that differs from an earlier cap."""
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < -1:
            message = f"Invalid value for '{name}': Input should be a number of tokens, or -1 for no limit of its own."
            raise ApiError(400, message, code="invalid_value", param=name)
        if value == -1:
            self.notes.append(f"{name}=-1: the effort's own limit holds")
            return
        if self._budget is not None and self._budget[1] != value:
            raise _contradiction(name, self._budget[0])
        self._budget = name, value

    def switch(self, name: str, value: Any) -> None:
        """true, false, or an object as DeepSeek and GLM have it: {"type": "enabled", "budget_tokens": 100}."""
        if isinstance(value, Mapping):
            kind = value.get("type")
            if kind not in ("enabled", "disabled", "auto", "adaptive"):
                raise ApiError(400, f"Invalid value for '{name}.type': Input should be 'enabled' or 'disabled'.",
                               code="invalid_value", param=f"{name}.type")  # fmt: skip
            self.cap(f"{name}.budget_tokens", value.get("budget_tokens"))
            value = kind != "disabled"
        if value is None:
            return
        if not isinstance(value, bool):
            message = f"Invalid value for '{name}': Input should be true or false."
            raise ApiError(400, message, code="invalid_value", param=name)
        if self._is_on is not None and self._is_on[1] != value:
            raise _contradiction(name, self._is_on[0])
        self._is_on = name, value

    def effort(self, name: str, value: Any) -> None:
        """An effort, whose value is not checked here; None is no wish. Raises ApiError where it differs from an earlier
        one."""
        if value is None:
            return
        if self._effort is not None and self._effort[1] != value:
            raise _contradiction(name, self._effort[0])
        self._effort = name, value

    def among(self, name: str, given: Any) -> list[str]:
        """The same fields inside another; the others have no meaning here."""
        if given is None:
            return []
        if not isinstance(given, Mapping):
            message = f"Invalid value for '{name}': Input should be an object."
            raise ApiError(400, message, code="invalid_value", param=name)
        notes = []
        for field, value in given.items():
            if field in SWITCHES:
                self.switch(f"{name}.{field}", value)
            elif field in BUDGETS:
                self.cap(f"{name}.{field}", value)
            elif field == "reasoning_effort":
                self.effort(f"{name}.{field}", value)
            else:
                notes.append(f"{name}.{field[:60]} ignored")
        return notes

    def openrouter(self, given: Any) -> None:
        """{"effort", "max_tokens", "enabled", "exclude"}: reasoning is left out of answers whatever `exclude` says."""
        if given is None:
            return
        known = ("effort", "max_tokens", "enabled", "exclude", "summary")
        if not isinstance(given, Mapping) or (strange := next((name for name in given if name not in known), None)):
            param = "reasoning" if not isinstance(given, Mapping) else f"reasoning.{str(strange)[:60]}"
            raise ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)
        self.effort("reasoning.effort", given.get("effort"))
        self.cap("reasoning.max_tokens", given.get("max_tokens"))
        self.switch("reasoning.enabled", given.get("enabled"))
        if given.get("exclude") is False:
            self.notes.append("reasoning.exclude=false: reasoning stays hidden")

    def write(self, data: dict[str, Any]) -> None:
        """Into reasoning_effort and compute, where nothing else stands."""
        if self._effort is not None:
            if data.get("reasoning_effort") not in (None, self._effort[1]):
                raise _contradiction(self._effort[0], "reasoning_effort")
            data["reasoning_effort"] = self._effort[1]
        if self._is_on is not None and not self._is_on[1]:
            if data.get("reasoning_effort") not in (None, "none"):
                raise _contradiction(self._is_on[0], "reasoning_effort")
            data["reasoning_effort"] = "none"
            if self._budget is not None and self._budget[1]:
                self.notes.append(f"{self._budget[0]} ignored: {self._is_on[0]} is off")
            return
        if self._is_on is not None and data.get("reasoning_effort") == "none":
            raise _contradiction(self._is_on[0], self._effort[0] if self._effort else "reasoning_effort")
        if self._budget is None:
            return
        if self._is_on is not None and self._budget[1] == 0:
            raise _contradiction(self._is_on[0], self._budget[0])
        if self._budget[1] and data.get("reasoning_effort") == "none":  # the budget would think all the same
            raise _contradiction(self._budget[0], self._effort[0] if self._effort else "reasoning_effort")
        compute = data.get("compute") or {}
        if not isinstance(compute, Mapping):
            return  # refused by its own name
        if compute.get("max_reasoning_tokens") not in (None, self._budget[1]):
            raise _contradiction(self._budget[0], "compute.max_reasoning_tokens")
        data["compute"] = {**compute, "max_reasoning_tokens": self._budget[1]}


def _rename_limit(data: dict[str, Any], ours: str) -> None:
    """max_tokens under the name that this API has for it."""
    if "max_tokens" in data:
        limit = data.pop("max_tokens")
        if data.get(ours) is None:
            data[ours] = limit
        elif limit not in (None, data[ours]):
            raise _contradiction("max_tokens", ours)


def _where_reasoning_goes(data: dict[str, Any]) -> list[str]:
    """Fields that say where thoughts are to appear. Here they do so nowhere; only who counts on them is refused."""
    notes = []
    if "reasoning_format" in data:
        value = data.pop("reasoning_format")
        if value in ("none", "raw"):
            raise _raw("reasoning_format", value)
        if value not in (None, "auto", "hidden"):
            notes.append("reasoning_format ignored: reasoning stays hidden")
    if "separate_reasoning" in data and data.pop("separate_reasoning") is False:
        raise _raw("separate_reasoning", False)
    if data.pop("include_reasoning", None):
        notes.append("include_reasoning ignored: reasoning stays hidden")
    return notes


def _raw(name: str, value: Any) -> ApiError:
    message = f"'{name}': {value!r} asks for the reasoning inside the answer, and it stays hidden here. Leave it out."
    return ApiError(400, message, code="unsupported_value", param=name)


def _contradiction(name: str, other: str) -> ApiError:
    return ApiError(400, f"'{name}' and '{other}' say different things; send one of them.",
                    code="mutually_exclusive_parameters", param=name)  # fmt: skip


def response_request(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same for the Responses API: sampling, and tools of kinds that are not run here where none must be called."""
    from ponder.serve.tool_kinds import is_known

    kept, notes = without_sampling(data)
    _rename_limit(kept, "max_output_tokens")
    tools = kept.get("tools")
    if isinstance(tools, list) and kept.get("tool_choice") in (None, "auto", "none"):
        is_run = [not isinstance(tool, dict) or is_known(tool.get("type")) for tool in tools]
        kept["tools"] = [tool for tool, runs in zip(tools, is_run, strict=True) if runs]
        kinds = (str(tool.get("type"))[:60] for tool, runs in zip(tools, is_run, strict=True) if not runs)
        notes += [f"tools: {kind} is not run here and was left out" for kind in kinds]
    return kept, notes


BY_REQUEST: Mapping[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[str]]]] = {
    "ChatRequest": chat_request,
    "ResponseRequest": response_request,
    "CountRequest": response_request,
}


def hint(name: str, request: str) -> str:
    """The part of a field's refusal that names the flag that lifts it."""
    taken = {*SAMPLING, *DROPPED}
    if request == "ChatRequest":
        taken |= {"max_tokens", *CHAT_ONLY}
    elif request in ("ResponseRequest", "CountRequest"):
        taken.add("max_tokens")
    elif request in ("MessagesRequest", "MessagesCountRequest"):
        taken |= {*MESSAGES_ONLY}
    return " `ponder serve --lenient` takes it." if name in taken else ""
