"""Engines, tasks and scorers have all that is declared of them, whatever is wrapped around them."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from ponder.cli.loading import SharedEngine
from ponder.config import ConfigError
from ponder.engine.base import BaseEngine, EngineWrapper, ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.engine.remote import RemoteEngine
from ponder.evals.scaling import LazyEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.rollouts.deliberate import Deliberating, DeliberationConfig
from ponder.rollouts.grade import grade
from ponder.serve.generation import Count, MeteredEngine
from ponder.strategies import STRATEGIES
from ponder.strategies.deliberation_environment import render_step
from ponder.strategies.deliberation_strategy import PlainTextEngine
from ponder.tasks import BaseTask, Mixture, as_task, load_task
from ponder.tasks.prompting import Prompted
from ponder.types import Completion, Engine, Message, Problem, SamplingParams, Task
from tests.helpers import tiny_model, user

DECLARED = sorted(name for name in vars(Engine) if not name.startswith("_"))
PROMPT = (Message(role="user", content="2+2?"),)


@pytest.fixture(params=["scripted", "local", "remote"])
def engine(request):
    if request.param == "scripted":
        yield ScriptedEngine([("because", "4")], window=77)
    elif request.param == "remote":
        yield RemoteEngine("http://127.0.0.1:9/v1", "m")
    else:
        with LocalEngine(tiny_model(), ByteTokenizer(), num_workers=0, num_slots=4, keep_hidden=True) as local:
            yield local


WRAPPERS = {
    "plain": EngineWrapper,
    "shared": SharedEngine,
    "lazy": lambda engine: LazyEngine(lambda checkpoint: engine, Path("checkpoint")),
    "meter": lambda engine: MeteredEngine(engine, Count()),
    "plain text": PlainTextEngine,
    "deliberating": lambda engine: Deliberating(engine, DeliberationConfig().environment()),
}
CHANGED = {  # what a wrapper says it cannot do, though its engine can
    "meter": {"streaming": False}, "plain text": {"streaming": False},
    "deliberating": {"streaming": False, "hidden_states": False},
}  # fmt: skip


def test_the_declaration_is_the_whole_of_it():
    asked = {"generate", "stream", "tokenizer", "window", "capabilities", "failure", "outstanding_tokens"}
    assert asked | {"encode", "prompt_ids", "supports_form", "aclose"} == set(DECLARED)
    for cls in (BaseEngine, EngineWrapper):
        assert set(DECLARED) - set(dir(cls)) == set()


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_keeps_every_capability_of_every_engine(engine, name):
    wrapped = WRAPPERS[name](engine)
    assert isinstance(engine, Engine) and isinstance(wrapped, Engine)
    assert wrapped.capabilities == replace(engine.capabilities, **CHANGED.get(name, {}))
    for attribute in ("tokenizer", "window", "failure", "outstanding_tokens"):
        assert getattr(wrapped, attribute) == getattr(engine, attribute)
    assert wrapped.supports_form("{}") == engine.supports_form("{}")
    for method in DECLARED:
        ours, theirs = getattr(wrapped, method), getattr(engine, method)
        assert callable(ours) == callable(theirs)
        if callable(theirs):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    if engine.capabilities.token_ids:
        assert list(wrapped.encode("ab")) == list(engine.encode("ab"))
        assert wrapped.prompt_ids(PROMPT) == engine.prompt_ids(PROMPT)
    else:
        for refused in (engine, wrapped):
            with pytest.raises(ConfigError, match="no token ids"):
                refused.prompt_ids(PROMPT)
            with pytest.raises(ConfigError, match="no token ids"):
                refused.encode("ab")


def test_a_failure_shows_through_every_wrapper_when_it_comes():
    engine = ScriptedEngine(["4"])
    wrapped = [make(engine) for make in WRAPPERS.values()]
    engine.failure = "the workers died"
    assert {one.failure for one in wrapped} == {"the workers died"}


@pytest.mark.parametrize("name", ["plain", "shared", "lazy", "meter"])
def test_a_wrapper_streams_what_it_generates(name):
    engine = ScriptedEngine([("because", "4")])

    async def both():
        wrapped = WRAPPERS[name](engine)
        (whole,) = await wrapped.generate(PROMPT, SamplingParams())
        stream = wrapped.stream(PROMPT, SamplingParams())
        text = "".join([piece.answer async for piece in stream])
        return whole, text, stream.completion

    whole, text, streamed = asyncio.run(both())
    assert whole == streamed and text == whole.answer == "4"


def test_closing_a_wrapper_closes_its_engine_unless_it_is_shared_or_was_never_opened():
    closed = []

    class Closing(ScriptedEngine):
        async def aclose(self):
            closed.append(1)

    for name, make in WRAPPERS.items():
        closed.clear()
        asyncio.run(make(Closing(["4"])).aclose())
        assert bool(closed) == (name not in ("shared", "lazy")), name
    lazy = WRAPPERS["lazy"](Closing(["4"]))
    asyncio.run(lazy.generate(PROMPT, SamplingParams()))
    asyncio.run(lazy.aclose())
    assert closed


def test_the_policy_can_choose_in_a_deliberation_that_is_metered():
    """The meter of the server is the engine that a strategy sees: its model must still say how it spells a list."""

    def steps(text: str, seed: int):
        if text.endswith("Best: "):
            return "1\n", "-"
        return ("", "9") if text.count("A:") > 1 else (render_step(f"q{seed % 2}", "1"), "-")

    def solve(engine):
        call = STRATEGIES["deliberate"](PROMPT, engine, params=SamplingParams(), key=lambda answer: answer, m=2)
        return asyncio.run(call)

    plain, metered = solve(ScriptedEngine(steps)), solve(MeteredEngine(ScriptedEngine(steps), Count()))
    assert metered == plain and plain.answer == "9"


# ---- tasks


class Minimal:
    """No more than a task must have; its verifier answers with a bool."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Problem(id=f"minimal/{index}", prompt=user(str(index)), target=str(index), task="")

    def verify(self, problem, answer):
        return answer == problem.target


class Waiting(Minimal):
    name, split, is_gated, grader_version, verifier = "waiting", "train", True, "mine 2", "exact"
    origin = [{"file": "a.jsonl", "sha256": "0", "problems": 3}]

    async def verify(self, problem, answer):
        await asyncio.sleep(0)
        return 0.5

    def __getitem__(self, index):
        return replace(super().__getitem__(index), task=self.name)

    def key(self, problem, answer):
        return answer or None


def completion(answer: str) -> Completion:
    return Completion(
        prompt_ids=(1,), token_ids=(1, 2), sampler_logprobs=(0.0, 0.0), sampled=(True, True), finish_reason="stop",
        reasoning="", answer=answer, num_reasoning_tokens=0,
    )  # fmt: skip


FACTS = [name for name in Task.__annotations__ if not name.startswith("_")]


def facts(task):
    return {name: getattr(task, name) for name in FACTS}


def test_every_task_has_every_fact():
    made = [load_task("arithmetic"), load_task("arithmetic+cipher"), Prompted(load_task("words"), "direct"),
            as_task(Minimal()), load_task(f"{__name__}:Mine")]  # fmt: skip
    for task in made:
        assert isinstance(task, BaseTask) and facts(task).keys() == set(FACTS)
    assert facts(as_task(Minimal())) | {"grader_version": ""} == {
        "name": "Minimal", "split": "test", "origin": (), "is_gated": False, "prompting": "none",
        "grader_version": "", "verifier": "math", "patience": 0.0,
    }  # fmt: skip


def Mine(*, split, seed):
    return Minimal()


def test_the_facts_of_a_task_show_through_a_prompting_and_a_mixture():
    own = facts(as_task(Waiting()))
    assert own["origin"] == Waiting.origin and (own["is_gated"], own["verifier"]) == (True, "exact")
    assert facts(Prompted(Waiting(), "direct")) == own | {"prompting": "direct"}
    mixed = facts(Mixture([Waiting(), load_task("arithmetic", split="train")]))
    assert mixed["origin"] == Waiting.origin and mixed["is_gated"] and mixed["verifier"] == ""
    assert "mine 2" in mixed["grader_version"]


def test_a_minimal_task_is_graded_with_what_its_verifier_returns():
    task = load_task(f"{__name__}:Mine+arithmetic", split="train")
    assert (task[0].task, task.split) == ("Mine", "train")
    said = asyncio.run(grade(task, task[0], [completion("0"), completion("0.0"), completion("2")], keys=True))
    assert [(v.outcome, v.reward) for v in said] == [("correct", 1.0), ("wrong", 0.0), ("wrong", 0.0)]
    assert said[0].key == said[1].key != said[2].key
    task = as_task(Waiting())
    (half,) = asyncio.run(grade(task, task[1], [completion("1")]))
    assert (half.outcome, half.reward) == ("wrong", 0.5)
