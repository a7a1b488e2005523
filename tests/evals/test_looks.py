"""Who looked at report problems is written down."""

from __future__ import annotations

from ponder.evals.looks import note_look
from ponder.files import read_jsonl


def test_every_look_is_kept_and_the_second_model_is_told_of_the_first(tmp_path):
    file = tmp_path / "runs" / "looks.jsonl"
    assert "no other model" in note_look("gsm8k", "a", "f1", file=file)
    assert "no other model" in note_look("gsm8k", "a", "f1", file=file)  # more samples of one choose nothing
    assert "no other model" in note_look("svamp", "a", "f1", file=file)
    assert "2 times before, for 1 other models" in note_look("gsm8k", "b", "f2", file=file)
    # b's own look is no other's
    assert "2 times before, for 1 other models" in note_look("gsm8k", "b", "f2", file=file)
    assert [(row["task"], row["model"]) for row in read_jsonl(file)] == [
        ("gsm8k", "a"), ("gsm8k", "a"), ("svamp", "a"), ("gsm8k", "b"), ("gsm8k", "b"),
    ]  # fmt: skip


def test_another_spelling_of_the_same_problems_is_the_same_look(tmp_path):
    file = tmp_path / "looks.jsonl"
    note_look("gsm8k", "a", "f1", file=file)
    for spelling in ("gsm8k:size=1319", "gsm8k:verifier=math", "gsm8k:size=3,verifier=math"):
        assert "for 1 other models" in note_look(spelling, "b", "f2", file=file)
    assert "no other model" in note_look("gsm8k_hard:size=3", "b", "f2", file=file)
