"""`ponder mcp`: what agents can do with it, and what they cannot; `ponder ask --mcp`: what a user reads."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from ponder.cli.agents import INSTRUCTIONS, AgentTools, OpenedModel, check_task
from ponder.cli.loading import ModelInfo
from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.serve.mcp import make_server
from tests.cli.typed import SHORT, fails_with, ponder

SERVER = Path(__file__).parent.parent / "serve" / "plain_mcp_server.py"


def used(calls, tmp_path, *, tasks=(), opened=None):
    """The results of calls by the SDK's own client, in this process: (is_error, text) each."""
    import mcp

    engine = ScriptedEngine(lambda prompt, seed: (f"HIDDEN {prompt}", ("7", "8", "8")[seed % 3]))

    def open_model():
        if opened is not None:
            opened.append(True)
        return OpenedModel(engine=engine, info=ModelInfo(name="scripted"))

    async def run():
        tools = AgentTools(open_model, out=tmp_path, tasks=tasks)
        server = make_server("ponder", [tools.ask, tools.grade, tools.eval], instructions=INSTRUCTIONS)
        found = []
        async with mcp.Client(server) as client:
            for name, arguments in calls:
                result = await client.call_tool(name, arguments)
                found.append((result.is_error, "\n".join(part.text for part in result.content), result))
            return found, await client.list_tools()

    return asyncio.run(run())


def test_agents_are_told_of_three_tools_with_their_parameters(tmp_path):
    _, listed = used([], tmp_path)
    tools = {tool.name: tool for tool in listed.tools}
    assert set(tools) == {"ask", "grade", "eval"}
    assert tools["ask"].input_schema["required"] == ["question"]
    assert set(tools["grade"].input_schema["properties"]) == {"target", "answer", "verifier"}
    assert all(tool.description for tool in tools.values())


def test_an_answer_comes_without_its_reasoning(tmp_path):
    calls = [("ask", {"question": "6+1?"}), ("ask", {"question": "6+1?", "samples": 9, "seed": 3})]
    (one, many), _ = used(calls, tmp_path)
    assert not one[0] and json.loads(one[1])["answer"] in ("7", "8")
    found = json.loads(many[1])
    assert found["samples"] == 9 and 0 < found["agreement"] <= 1
    for _, text, result in (one, many):
        assert "HIDDEN" not in text and "HIDDEN" not in result.model_dump_json()


def test_grading_needs_no_model(tmp_path):
    opened: list[bool] = []
    calls = [
        ("grade", {"target": "1/2", "answer": "0.5"}), ("grade", {"target": "1/2", "answer": "2"}),
        ("grade", {"target": "B", "answer": "(B)", "verifier": "choice"}),
    ]  # fmt: skip
    found, _ = used(calls, tmp_path, opened=opened)
    assert [json.loads(text)["verdict"] for _, text, _ in found] == ["correct", "wrong", "correct"]
    assert not opened


def test_a_task_whose_name_is_longer_than_that_of_a_folder_may_be_is_evaluated(tmp_path):
    path = tmp_path / ("a" * 150) / ("b" * 150) / "p.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"problem": "6+1?", "answer": "7"}\n')
    call = ("eval", {"task": f"file:{path}", "limit": 1, "samples": 1})
    ((is_error, text, _),), _ = used([call], tmp_path, tasks=[f"file:{path}"])
    assert not is_error and json.loads(text)["problems"] == 1, text


def test_an_evaluation_has_intervals_and_keeps_its_samples(tmp_path):
    call = ("eval", {"task": "arithmetic", "limit": 3, "samples": 2})
    ((is_error, text, result),), _ = used([call], tmp_path)
    assert not is_error, text
    found = json.loads(text)
    value, low, high = found["pass_at"]["1"]
    assert low <= value <= high and found["problems"] == 3 and (Path(found["folder"]) / "bank.json").exists()
    assert "HIDDEN" not in result.model_dump_json()


@pytest.mark.parametrize(
    "name, arguments, why",
    [
        ("ask", {"question": " "}, "question must have at least 1 characters that are not blank"),
        ("ask", {"question": "x" * 30_000}, "1 to 20000"),
        ("ask", {"question": "x", "samples": 1000}, "samples=1000 must be between 1 and 64"),
        ("ask", {"question": "x", "temperature": -1}, "temperature=-1"),
        ("eval", {"task": "file:/etc/passwd"}, "--task SPEC"),
        ("eval", {"task": "os:getcwd"}, "--task SPEC"),
        ("eval", {"task": "arithmetic+file:/etc/passwd"}, "--task SPEC"),
        ("eval", {"task": "2*json:loads"}, "--task SPEC"),
        ("eval", {"task": "arithmetik"}, "did you mean 'arithmetic'"),
        ("eval", {"task": "arithmetic:lvel=3"}, "did you mean 'level'"),
        ("grade", {"target": "1", "answer": "1", "verifier": "os:system"}, "'exact', 'integer', 'choice' or 'math'"),
    ],
)
def test_what_an_agent_may_not_do_is_refused_with_the_reason(name, arguments, why, tmp_path):
    ((is_error, text, _),), _ = used([(name, arguments)], tmp_path)
    assert is_error and why in text and "Traceback" not in text


@pytest.mark.parametrize(
    "spec",
    [
        "openenv:http://127.0.0.1:9/latest/meta-data/*arithmetic", "this:x*arithmetic", "math:factorial",
        "os:system:command=id*arithmetic", "file:/etc/passwd,verifier=this:x*arithmetic", "verifiers:x*arithmetic",
        "stdio:/etc/passwd:reward=*arithmetic", "arithmetic+this:x*arithmetic", "hub:a/b,config=*gsm8k",
        "arithmetic:words:level=1", "cms:/tmp/x,only=a+arithmetic", "arithmetic*" + "9" * 300, "pyproject.toml",
        "file:x.jsonl", "2*file:x.jsonl", " openenv:http://127.0.0.1:9/ ", "0.5*this:x+0.5*arithmetic",
    ],
)  # fmt: skip
def test_no_spelling_of_a_task_leads_an_agent_to_a_module_a_file_or_an_address(spec):
    with pytest.raises(ConfigError, match="is not one that agents may use|task has 3"):
        check_task(spec, ["file:mine.jsonl"])


@pytest.mark.parametrize("spec", ["arithmetic", "arithmetic:level=3-6", "0.5*words+2*pipes:level=1", "gym:chain_sum"])
def test_ponders_own_tasks_are_the_agents_to_name(spec):
    check_task(spec, [])


def test_a_task_that_the_operator_allows_is_used(tmp_path):
    problems = tmp_path / "mine.jsonl"
    problems.write_text('{"id": "1", "problem": "6+1?", "answer": "7"}\n')
    call = ("eval", {"task": f"file:{problems}", "limit": 1, "samples": 1})
    ((is_error, text, _),), _ = used([call], tmp_path, tasks=[f"file:{problems}"])
    assert not is_error, text


@pytest.mark.slow
def test_ask_offers_the_tools_of_a_server_and_says_what_was_called(tiny, tmp_path):
    words = ["ask", "hi", "--model", tiny, *SHORT, "--approve", "--mcp"]
    done = ponder(*words, f"plain:add={sys.executable} {SERVER}", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["tool_calls"] == []  # a model that has learned nothing calls nothing
    fails_with(ponder(*words, "/no/such/program", cwd=tmp_path), "there is no program '/no/such/program'")
    fails_with(ponder(*words, "x", "--mode", "search", cwd=tmp_path), "--mcp works with modes that draw whole answers")
    fails_with(ponder(*words, "x", "--budget-tokens", 60, cwd=tmp_path), "--budget-tokens")
    words.remove("--approve")
    fails_with(ponder(*words, "x", cwd=tmp_path), "stdin is no terminal; --approve makes them all unasked")
