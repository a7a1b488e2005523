"""Results are read as they were written, older files too, and a damaged one says where and what to do."""

from __future__ import annotations

import ast
import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import fingerprint, make_run, open_engine, way_of
from test_exams import exam

from ponder import evals
from ponder.engine.base import ScriptedEngine
from ponder.evals.codec import ResultError, decode, encode
from ponder.evals.results import BankSpec, Curves, ExamResult, Flops, ScorerFacts, ScorerResult, Strategies
from ponder.evals.scaling import compare_strategies, scale
from ponder.types import SamplingParams


@pytest.fixture
def result(tmp_path: Path, make_task: Callable[..., Any]) -> Path:
    exam(make_task(), ScriptedEngine(["1", "?", "2"]), tmp_path / "exam")
    return tmp_path / "exam" / "result.json"


def test_what_is_written_is_what_is_read(tmp_path: Path, result: Path, make_task: Callable[..., Any]) -> None:
    asyncio.run(
        scale(make_run(tmp_path / "run", (0, 7)), task=make_task(3), open_engine=open_engine, fingerprint=fingerprint,
              params=SamplingParams(max_reasoning_tokens=96), num_samples=4, checkpoint_samples=2, way_of=way_of)
    )  # fmt: skip
    compare_strategies(result.parent).write(tmp_path / "strategies.json")
    for kind, path in ((ExamResult, result), (Curves, tmp_path / "run/scale/curves.json"),
                       (Strategies, tmp_path / "strategies.json")):  # fmt: skip
        before = path.read_text()
        kind.read(path).write(path)  # type: ignore[attr-defined]
        assert path.read_text() == before


def test_a_number_that_is_none_is_null_in_the_file(tmp_path: Path) -> None:
    assert encode(Flops(total=math.nan)) == {"total": None, "prompt": None, "sample": None, "per_token": None}
    assert math.isnan(decode(Flops, {"total": None}).total)


def test_a_file_of_an_earlier_version_lacks_what_came_later(result: Path) -> None:
    facts = json.loads(result.read_text())
    later = ("contamination", "verifier", "verifier_error", "data", "prompting", "failed_rate", "trio", "complete")
    for name in later:
        del facts[name]
    del facts["flops"]["per_token"], facts["params"]["form"]
    result.write_text(json.dumps(facts | {"unheard of": [1]}))
    old = ExamResult.read(result)
    assert (old.contamination, old.verifier, old.prompting, old.complete) == (None, "", "none", True)
    assert old.flops.per_token is None and old.params.form == "" and not old.headline.pass_at


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        (["metrics", "pass@1", "low"], "x", 'metrics.pass@1.low is "x", not a number'),
        (["metrics", "cons@2"], 3, "metrics.cons@2 is 3, not a table"),
        (["num_problems"], 1.5, "num_problems is 1.5, not a whole number"),
        (["complete"], 1, "complete is 1, not true or false"),
        (["levels", "0", "num_problems"], None, "levels.0.num_problems is null, not a whole number"),
        (["data"], {}, "data is {}, not a list"),
        (["model"], ..., "model is missing"),
        (["tokens", "prompt"], ..., "tokens.prompt is missing"),
        (["params", "temperature"], -1, "temperature=-1"),
        (["flops", "total"], 10**400, "flops.total is a number of more than 308 digits"),
        (["flops", "per_token"], [1.0], "flops.per_token is [1.0], not a list"),
    ],
)
def test_a_damaged_file_names_itself_the_key_and_the_fix(
    result: Path, key: list[str], value: Any, complaint: str
) -> None:
    facts = json.loads(result.read_text())
    inner = facts
    for name in key[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[key[-1]]
    else:
        inner[key[-1]] = value
    result.write_text(json.dumps(facts))
    with pytest.raises(ResultError) as error:
        ExamResult.read(result)
    assert all(part in str(error.value) for part in (str(result), complaint, "delete it"))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", "\xff", "[" * 99_999])
@pytest.mark.parametrize("kind", [ExamResult, Curves, Strategies, ScorerFacts, ScorerResult])
def test_a_file_of_something_else_is_one_clear_error(tmp_path: Path, kind: Any, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ResultError, match=r"x\.json"):
        kind.read(tmp_path / "x.json")


def test_sampling_params_are_written_without_their_seed_and_with_a_pause_where_there_is_one() -> None:
    spec = BankSpec(task="t", split="test", model="m", params=SamplingParams(seed=3, stop=("x",)))
    params = encode(spec)["params"]
    assert params["stop"] == ["x"] and not {"seed", "pause"} & set(params)
    assert encode(SamplingParams(pause=("\n",)))["pause"] == ["\n"]


# what is read by words there: Parquet tables and their columns, training.json, lines of logs and of data that people
# bring, files of contests that others wrote, and tables of labels
BY_WORDS = {"card.py", "cms_runner.py", "columns.py", "contamination.py", "contest_submissions.py", "contests.py",
            "entries.py", "executions.py", "faithfulness.py", "judged_pairs.py", "loophole.py", "monitoring.py",
            "overoptimisation.py", "program_runners.py", "regrading.py", "rubric.py", "safety.py", "votes.py",
            "written_inputs.py"}  # fmt: skip


def reads_by_words(source: str) -> list[str]:
    """The `x["..."]` of a source that are read."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
        if isinstance(node.slice, ast.JoinedStr)
        or (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str))
    ]


def test_results_are_read_by_their_fields() -> None:
    assert reads_by_words('a["b"] + c[f"{k}"] + d[e] + f[0]; g["h"] = 1') == ["a['b']", "c[f'{k}']"]
    [folder] = evals.__path__
    found = {path.name: reads_by_words(path.read_text()) for path in Path(folder).glob("*.py")}
    assert {name for name, reads in found.items() if reads} == BY_WORDS
