"""JSON has whole numbers of any size, Python reads them, and no float holds one of 400 digits."""

from __future__ import annotations

import json

import pytest

from ponder.config import ConfigError
from ponder.evals.codec import decode
from ponder.monitors.learned import fit, load
from ponder.scorers.files import number
from ponder.tasks.comparison_rows import read_ultrafeedback
from ponder.tasks.preferences import load_comparisons
from ponder.train.sft import read_solutions

HUGE = 10**400


def test_an_answer_that_is_a_huge_number_is_learned_as_it_is_written(tmp_path):
    """200! has 375 digits."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"problem": "10^400?", "reasoning": "a one and zeros", "answer": HUGE}) + "\n")
    [row] = read_solutions(path)
    assert row["answer"] == str(HUGE)


def test_where_a_number_must_fit_into_a_float_a_huge_one_is_an_error_that_says_so(tmp_path):
    votes = tmp_path / "votes.jsonl"
    votes.write_text(json.dumps({"question": "q", "chosen": "a", "rejected": "b", "strength": HUGE}) + "\n")
    with pytest.raises(ConfigError, match="strength = 1000"):
        load_comparisons(f"file:{votes}")
    rated = [{"response": text, "overall_score": score} for text, score in (("a", HUGE), ("b", 1))]
    with pytest.raises(ConfigError, match="does not look as expected"):
        read_ultrafeedback({"instruction": "q", "completions": rated}, "row 1")
    with pytest.raises(ConfigError, match="scale is too large"):
        number({"scale": HUGE}, "scale", 1.0, tmp_path)
    with pytest.raises(ValueError, match="seconds is a number of more than 308 digits"):
        decode(float, HUGE, "seconds")
    fit(["yes", "no"], [True, False]).save(tmp_path / "m.json")
    facts = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps({**facts, "bias": HUGE}))
    with pytest.raises(ConfigError, match="is no learned monitor"):
        load(tmp_path / "m.json")
