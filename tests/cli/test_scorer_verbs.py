"""`ponder scorer` and `ponder score`, as a user types them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ponder.cli.measure import _scoring
from ponder.config import ConfigError
from ponder.evals.bank import Bank
from tests.cli.typed import SHORT, fails_with, ponder

pytestmark = pytest.mark.slow

RECIPE = """
out = "run"
task = "tests.helpers:LowercaseTask"
num_problems = 12
num_samples = 6
max_reasoning_tokens = 8
max_answer_tokens = 4
num_epochs = 2
problems_per_step = 4
num_workers = 0
"""


def test_a_scorer_is_trained_and_scores_a_bank(tiny, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    trained = ponder("scorer", "r.toml", f"model={tiny}", "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["kind"] == "outcome"
    assert (tmp_path / "run" / "scorer.png").exists()
    (tmp_path / "p.jsonl").write_text('{"id": "a", "problem": "What is 1+1?", "answer": "2"}\n')
    asked = ["eval", "--task", "file:p.jsonl", "--model", tiny, "--samples", 3, "--out", "bank", "--json", *SHORT]
    assert ponder(*asked, cwd=tmp_path).returncode == 0
    for expected in (3, 0):
        scored = ponder("score", "bank", "--scorer", "run", "--workers", 1, "--json", cwd=tmp_path)
        assert scored.returncode == 0, scored.stderr
        assert json.loads(scored.stdout)["scored_now"] == expected
        assert "trained for the policy" not in scored.stderr
    bank = Bank.read(tmp_path / "bank")
    assert np.isfinite(bank.samples(bank.problems[0].id).scores["outcome"]).all()


def test_mistakes_are_one_clear_line_each(tmp_path):
    planned = ponder("scorer", "scorer_nano_cpu", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(planned.stdout)["estimate"]["memory_gib"] > 0
    fails_with(ponder("scorer", "scorer_nano_cpu", "num_sample=3", cwd=tmp_path), "num_samples")
    fails_with(ponder("scorer", "none.toml", cwd=tmp_path), "no recipe at none.toml")
    fails_with(ponder("score", "nowhere", "--scorer", "nowhere", cwd=tmp_path), "nowhere")


@pytest.mark.parametrize("kind", ["probe", "features"])
def test_an_exam_with_a_scorer_ends_with_what_choosing_by_it_gives(kind, tiny, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    assert ponder("scorer", "r.toml", f"model={tiny}", f"kind={kind}", cwd=tmp_path).returncode == 0
    (tmp_path / "p.jsonl").write_text('{"id": "a", "problem": "What is 1+1?", "answer": "2"}\n')
    asked = ["eval", "--task", "file:p.jsonl", "--model", tiny, "--scorer", "run", "--out", "bank", "--json", *SHORT]
    for samples in (3, 5):  # the second goes on with the first
        result = ponder(*asked, "--samples", samples, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert list(json.loads(result.stdout)["trio"][f"rerank@{samples}"]) == [kind]
        assert json.loads((tmp_path / "bank" / "result.json").read_text()) == json.loads(result.stdout)
    again = ponder("scorer", "r.toml", f"model={tiny}", f"kind={kind}", "seed=1", "out=other", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    asked[asked.index("run")] = "other"
    fails_with(ponder(*asked, cwd=tmp_path), "holds scores of another scorer")  # before anything is drawn
    refused = ponder(*asked, "--base-url", "http://127.0.0.1:1/v1", cwd=tmp_path)
    fails_with(refused, "--scorer reads token ids")


def test_a_scorer_beside_a_gated_exam_is_refused_before_anything_is_drawn(tmp_path):
    gated = SimpleNamespace(name="secret", is_gated=True)
    with pytest.raises(ConfigError, match="samples of secret are kept without their tokens"):
        _scoring(tmp_path, gated, tmp_path / "bank", "")
