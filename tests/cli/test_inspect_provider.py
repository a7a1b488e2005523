"""ponder's models in Inspect, over a double of the few classes of it that the provider fills in."""

from __future__ import annotations

import asyncio
import sys
import tomllib
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine


@dataclass
class Wishes:
    """GenerateConfig."""

    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_tokens: int | None = None
    seed: int | None = None
    num_choices: int | None = None
    top_p: float | None = None


@dataclass
class Said:
    """A chat message."""

    role: str
    content: Any

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)


def record(name: str) -> type:
    return type(name, (), {"__init__": lambda self, **fields: self.__dict__.update(fields)})


class InspectModel:
    def __init__(self, model_name, base_url, api_key, api_key_vars, config) -> None:
        self.model_name = model_name


@pytest.fixture
def provider(monkeypatch):
    names = ("ChatCompletionChoice", "ChatMessageAssistant", "ModelOutput", "ModelUsage")
    model = types.ModuleType("inspect_ai.model")
    vars(model).update({name: record(name) for name in names})
    model.GenerateConfig, model.ModelAPI = Wishes, InspectModel
    model.modelapi = lambda name: lambda function: function
    package = types.ModuleType("inspect_ai")
    package.model = model
    monkeypatch.setitem(sys.modules, "inspect_ai", package)
    monkeypatch.setitem(sys.modules, "inspect_ai.model", model)
    monkeypatch.delitem(sys.modules, "ponder.cli.inspect_provider", raising=False)
    import ponder.cli.inspect_provider as found

    yield found
    sys.modules.pop("ponder.cli.inspect_provider", None)


@dataclass
class Part:
    type: str
    text: str = field(default="")


def asked(provider, monkeypatch, messages, tools=(), **wishes):
    engine = ScriptedEngine(lambda text, seed: ("HIDDEN " + text, "42"))
    monkeypatch.setattr("ponder.cli.loading.open_engine", lambda *given, **named: engine)
    model = provider.ponder()("nano")
    return asyncio.run(model.generate(messages, list(tools), "auto", Wishes(**wishes)))


def test_inspect_finds_the_provider_by_its_entry_point():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["inspect_ai"] == {"ponder": "ponder.cli.inspect_provider"}


def test_an_answer_comes_without_its_reasoning_which_is_counted(provider, monkeypatch):
    output = asked(provider, monkeypatch, [Said("system", "Be short."), Said("user", [Part("text", "6*7?")])])
    (choice,) = output.choices
    assert choice.message.content == "42" and choice.stop_reason == "stop"
    assert 0 < output.usage.reasoning_tokens < output.usage.output_tokens
    assert "HIDDEN" not in str([vars(choice.message), vars(output.usage)])


def test_the_limits_and_the_number_of_samples_are_inspects(provider, monkeypatch):
    output = asked(provider, monkeypatch, [Said("user", "x" * 300)], reasoning_tokens=5, num_choices=3)
    assert len(output.choices) == 3 and output.usage.reasoning_tokens <= 15
    params = provider.params_of(Wishes(temperature=0.0, max_tokens=7, seed=-3), 1.0)
    assert (params.temperature, params.max_answer_tokens, params.max_reasoning_tokens, params.seed) == (0.0, 7, 256, 3)


def test_without_a_seed_every_call_has_its_own(provider):
    seeds = {provider.params_of(Wishes(), 1.0).seed for _ in range(20)}
    assert len(seeds) == 20


@pytest.mark.parametrize("messages, wishes, tools, why", [
    ([Said("user", "x")], {"top_p": 0.9}, (), "top_p is not taken"),
    ([Said("user", "x")], {}, ("tool",), "Inspect's tools"),
    ([Said("tool", "x")], {}, (), "a message of a tool"),
    ([Said("user", [Part("image")])], {}, (), "more than text"),
])  # fmt: skip
def test_what_would_not_be_kept_to_is_refused(provider, monkeypatch, messages, wishes, tools, why):
    with pytest.raises(ConfigError, match=why):
        asked(provider, monkeypatch, messages, tools, **wishes)


def test_an_unknown_model_argument_is_named(provider, monkeypatch):
    monkeypatch.setattr("ponder.cli.loading.open_engine", lambda *given, **named: None)
    with pytest.raises(ConfigError, match="-M temprature"):
        provider.PonderModel("nano", temprature=1)
