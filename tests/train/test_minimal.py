"""docs/minimal_rl.py, the loop in plain lines, takes the step that `ponder rl` takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from ponder.files import read_jsonl
from ponder.models import hub
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl

SOURCE = Path(__file__).parents[2] / "docs" / "minimal_rl.py"


@pytest.mark.slow
def test_the_minimal_loop_takes_the_same_first_step(tmp_path):
    spec = importlib.util.spec_from_file_location("minimal_rl", SOURCE)
    minimal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minimal)
    model, [reward] = minimal.main(num_steps=1)

    params = minimal.PARAMS
    rl(
        RLConfig(
            out=str(tmp_path / "run"), num_steps=1, seed=minimal.SEED, pool_size=minimal.POOL, selection="uniform",
            problems_per_step=minimal.PROBLEMS, group_size=minimal.GROUP, lr=minimal.LR, warmup_steps=minimal.WARMUP,
            max_norm=minimal.MAX_NORM, temperature=minimal.TEMPERATURE, num_workers=0,
            max_reasoning_tokens=params.max_reasoning_tokens, max_answer_tokens=params.max_answer_tokens,
        )
    )  # fmt: skip
    [row] = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert row["reward/mean"] == reward and 0 < reward < 1
    before, after = (hub.load(name, dtype=torch.float32)[0] for name in ("nano", tmp_path / "run"))

    def moved(to):
        return torch.cat([(b - a).flatten() for a, b in zip(before.parameters(), to.parameters(), strict=True)])

    here, there = moved(model).detach(), moved(after).detach()
    # Adam's first step is the sign of the gradient, whose smallest entries differ with the order of sums
    assert torch.nn.functional.cosine_similarity(here, there, dim=0) > 0.999
    assert ((here - there).abs() < 0.01 * minimal.LR / minimal.WARMUP).double().mean() > 0.99
    assert here.abs().max() == pytest.approx(minimal.LR / minimal.WARMUP, rel=0.01)  # weights are float32


def test_the_minimal_loop_stays_minimal():
    assert len(SOURCE.read_text().splitlines()) <= 110
