"""Parts of one's own, each from one file outside the package, trained with by `module:attr`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.runs import read_jsonl
from ponder.train.losses import LossConfig
from ponder.train.rl import RLConfig, rl
from tests.helpers import tiny_model

MINE = '''
"""Everything of my own in one file."""

import torch

CALLED = set()

def advantage(groups):                                   # over all groups, one number a rollout
    CALLED.add("advantage")
    return [rewards - rewards.mean() for rewards in groups]

def objective(ratio_BT, A, logprobs_BT, config):         # REINFORCE: nothing is bounded
    CALLED.add("objective")
    return A * logprobs_BT, torch.zeros_like(ratio_BT, dtype=torch.bool)

async def environment(walk):                             # one step of at most two tokens, then an answer
    CALLED.add("environment")
    for turn in await walk.draw(1, max_reasoning_tokens=2, max_tokens=2):
        walk.keep(turn)
        if turn.completion.answer:
            return "answer"
    return "answer" if await walk.finish() else "window"

def brevity(problem, trajectories, verdicts):            # a reward term
    CALLED.add("brevity")
    return [-0.01 * trajectory.whole.num_tokens for trajectory in trajectories]

def check(problem, answer):                              # a verifier may be a plain function
    CALLED.add("check")
    return 0.5 if answer.islower() else 0.0
'''
PROBLEMS = "\n".join(f'{{"id": "{i}", "problem": "Say anything, {i}.", "answer": "a"}}' for i in range(6))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    save_model(tiny_model(), tmp_path / "base")
    ByteTokenizer().save(str(tmp_path / "base"))
    (tmp_path / "my_parts.py").write_text(MINE)
    (tmp_path / "problems.jsonl").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(folder: Path, **changes) -> RLConfig:
    values = {
        "out": str(folder / "run"), "model": str(folder / "base"), "num_steps": 2, "problems_per_step": 3,
        "group_size": 4, "pool_size": 6, "max_reasoning_tokens": 4, "max_answer_tokens": 4, "num_workers": 0,
        "task": "file:problems.jsonl,verifier=my_parts:check",
    }  # fmt: skip
    return RLConfig(**{**values, **changes})


def test_an_advantage_an_objective_a_reward_term_an_environment_and_a_verifier_from_one_file_are_trained_with(folder):
    parts = {
        "advantage": "my_parts:advantage", "environment": "my_parts:environment",
        "reward_terms": ("my_parts:brevity",), "loss": LossConfig(clip="my_parts:objective"),
    }  # fmt: skip
    rl(config(folder, **parts))
    import my_parts

    assert {"advantage", "objective", "environment", "brevity", "check"} == my_parts.CALLED
    rows = list(read_jsonl(folder / "run" / "samples.jsonl"))
    assert all(row["parts"]["my_parts:brevity"] < 0 for row in rows)
    assert {"deliberation/turns", "ended/answer"} <= next(iter(read_jsonl(folder / "run" / "metrics.jsonl"))).keys()


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
