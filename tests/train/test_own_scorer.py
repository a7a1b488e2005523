"""The scorer that docs/scorers.md shows, in one file outside the package, is trained, estimated, opened and asked."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.config import ConfigError
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.scorers import load_scorer
from ponder.scorers.files import FACTS, fingerprint
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.pool import score_chunks
from ponder.train.estimate import estimate_scorer
from ponder.train.scorer import load_recipe, train_scorer
from tests.helpers import tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "scorers.md"
BLOCKS = re.findall(r"```python\n(# my_scorer\.py\n.*?)```", PAGE.read_text(), flags=re.DOTALL)
FAMILY = CompletionGroup.of([1, 2], [[3], [3, 4, 5, 6]])

RECIPE = """
out = "run"
kind = "my_scorer:recipe"
model = "policy"
task = "tests.helpers:LowercaseTask"
power = 2.0
num_problems = 48
num_samples = 8
max_reasoning_tokens = 3
max_answer_tokens = 4
num_workers = 0
num_slots = 32
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    save_model(tiny_model(window=64), tmp_path / "policy")
    ByteTokenizer().save(str(tmp_path / "policy"))
    (tmp_path / "my_scorer.py").write_text("\n".join(BLOCKS))
    (tmp_path / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_scorer", raising=False)
    yield tmp_path
    sys.modules.pop("my_scorer", None)


def test_a_scorer_of_ones_own_is_trained_estimated_opened_and_asked(folder):
    config = load_recipe("mine.toml")
    assert type(config).__name__ == "LengthConfig" and config.power == 2.0
    assert estimate_scorer(config)["minutes"] >= 0
    made = train_scorer(config)
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["kind"] == "my_scorer:recipe"
    assert {"held_out", "curve", "train_problems", "slope"} <= result.keys()

    scorer = load_scorer("run")
    assert (scorer.kind, scorer.name, scorer.policy) == ("my_scorer:LengthScorer", "my_scorer", result["policy"])
    (scores,) = scorer.score([FAMILY])
    assert scores.shape == (2,) and np.isfinite(scores).all()
    assert np.sign(scores[1] - scores[0]) == np.sign(result["slope"])
    by_process = score_chunks(made, [[FAMILY]], num_workers=1)  # another process finds the class by its name, too
    assert [found[0].tolist() for _, found in by_process] == [scores.tolist()]

    before = fingerprint("run")
    (made / "table.npz").write_bytes(b"more that decides")
    assert fingerprint("run") != before


def test_options_of_a_kind_are_its_own(folder):
    with pytest.raises(ConfigError, match="power"):
        load_recipe("mine.toml", ["kind=outcome"])
    with pytest.raises(ConfigError, match=r"power=-1.0 must be"):
        load_recipe("mine.toml", ["power=-1.0"])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("my_scorer:recip", "did you mean 'recipe'"), ("my_scorre:recipe", "no module"),
        ("my_scorer:train", "must be a ScorerRecipe"), ("proces", "did you mean 'process'"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_recipe_is_refused_before_anything_is_drawn(folder, kind, says):
    with pytest.raises(ConfigError, match=says):
        load_recipe("mine.toml", [f"kind={kind}"])
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("my_scorer:recipe", "must be a TokenScorer"), ("os:getcwd", "must be a TokenScorer"),
        ("ponder.scorers:TokenScorer", "must be a TokenScorer"), ("nowhere:Scorer", "no module"),
        (["outcome"], "unknown kind"), (None, "unknown kind"), ("proces", "did you mean 'process'"),
    ],
)  # fmt: skip
def test_a_folder_whose_kind_is_no_scorer_is_one_clear_error(folder, kind, says):
    made = folder / "made"
    made.mkdir()
    (made / FACTS).write_text(json.dumps({"format": 1, "kind": kind, "name": "x", "policy": ""}))
    with pytest.raises(ConfigError, match=says):
        load_scorer(made)


def test_a_figure_that_is_no_number_is_null_in_the_file_and_nan_in_the_sentence(folder):
    """An AUC where no held-out problem has both right and wrong samples; other readers of JSON refuse NaN."""
    with open("my_scorer.py", "a") as file:
        file.write(
            "\nfrom dataclasses import replace\n"
            "recipe = replace(recipe, report=lambda *_: {'auc': float('nan')}, headline='AUC {auc:.3f}'.format_map)\n"
        )
    ran = CliRunner().invoke(app, ["scorer", "mine.toml"])
    assert ran.exit_code == 0 and "AUC nan" in ran.output

    def refuse(number):
        raise AssertionError(f"{number} is no JSON")

    result = json.loads((folder / "run" / "result.json").read_text(), parse_constant=refuse)
    assert result["auc"] is None and result["kind"] == "my_scorer:recipe"
