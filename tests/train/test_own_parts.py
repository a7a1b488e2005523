"""The parts that docs/extend.md shows, in one file outside the package, are trained and asked with by `module:attr`."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from ponder.config import ConfigError, lookup
from ponder.engine.base import ScriptedEngine
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.strategies import STRATEGIES
from ponder.train.losses import LossConfig
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl
from ponder.types import Message, SamplingParams
from tests.helpers import tiny_model

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
BLOCKS = re.findall(r"```python\n(# my_parts\.py\n.*?)```", PAGE.read_text(), flags=re.DOTALL)
ROWS = [{"id": str(i), "problem": f"Say anything, {i}.", "answer": "abcdefghijklmnopqrstuvwxyz"} for i in range(6)]
PROBLEMS = "\n".join(map(json.dumps, ROWS))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    save_model(tiny_model(), tmp_path / "base")
    ByteTokenizer().save(str(tmp_path / "base"))
    (tmp_path / "my_parts.py").write_text("\n".join(BLOCKS))
    (tmp_path / "problems.jsonl").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


def watch(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the parts that were called."""
    module, called = importlib.import_module("my_parts"), set[str]()

    def watched(name: str, part):
        @functools.wraps(part)
        def call(*arguments):
            called.add(name)
            return part(*arguments)

        return call

    for name in ("advantage", "objective", "environment", "brevity", "check", "backend"):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return called


def config(folder: Path, **changes) -> RLConfig:
    values = {
        "out": str(folder / "run"), "model": str(folder / "base"), "num_steps": 2, "problems_per_step": 3,
        "group_size": 4, "pool_size": 6, "max_reasoning_tokens": 4, "max_answer_tokens": 4, "num_workers": 0,
        "task": "file:problems.jsonl,verifier=my_parts:check",
    }  # fmt: skip
    return RLConfig(**{**values, **changes})


def test_every_part_of_training_may_come_from_one_file_outside_the_package(folder, monkeypatch):
    parts = {
        "advantage": "my_parts:advantage", "environment": "my_parts:environment",
        "backend": "my_parts:backend", "reward_terms": ("my_parts:brevity",),
        "loss": LossConfig(clip="my_parts:objective"),
    }  # fmt: skip
    called = watch(monkeypatch)
    rl(config(folder, **parts))
    assert called == {"advantage", "objective", "environment", "brevity", "check", "backend"}
    rows = list(read_jsonl(folder / "run" / "samples.jsonl"))
    assert all("my_parts:brevity" in row["parts"] for row in rows)
    assert all(" ok" in row["reasoning"] for row in rows if row["answer"])
    first = next(iter(read_jsonl(folder / "run" / "metrics.jsonl")))
    assert {"deliberation/turns", "ended/answer", "reward/my_parts:brevity"} <= first.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"advantage": "my_parts:advantag"}, {"environment": "deliberat"}, {"reward_terms": ("my_parts:no",)},
        {"advantage": "nowhere:mine"},
    ],
)  # fmt: skip
def test_a_part_that_is_not_there_is_refused_before_anything_is_loaded(folder, wrong):
    with pytest.raises(ConfigError):
        config(folder, **wrong)
    with pytest.raises(ConfigError, match="objective"):
        LossConfig(clip="my_parts:nothing")


def test_a_strategy_from_a_file_is_asked_with(folder):
    longest = lookup(STRATEGIES, "my_parts:longest", what="mode")
    engine = ScriptedEngine(lambda prompt, seed: ("x" * (seed % 50), str(seed % 50)))
    prompt = (Message(role="user", content="how long?"),)
    found = asyncio.run(longest(prompt, engine, params=SamplingParams(), key=lambda answer: answer, n=8))
    assert int(found.answer) == max(len(completion.reasoning) for completion in found.completions) > 0
