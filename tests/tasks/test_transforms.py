"""Requests in other clothes: nothing is lost, the judge sees the original, and offensive texts stay where they are."""

from __future__ import annotations

import json
import random

import pytest

from ponder.config import ConfigError
from ponder.tasks import load_task
from ponder.tasks.prompting import question
from ponder.tasks.transforms import TRANSFORMS, Transformed, transformed

NAMES = {
    "plain", "base64", "rot13", "hex", "leet", "spaced_letters", "zero_width", "reversed_words", "prefix_injection",
    "refusal_suppression", "persona", "role_play", "few_shot", "payload_split", "system_claim", "instruction_suffix",
}  # fmt: skip
PIECES = ["a", "E", "s", "T", "0", "7", "_", "^", '"', "\\", "\n", " ", "  ", "\u200d", "\U0001f600", "\ud800", "é",
          '"\nb = "', "{}", "\u2028"]  # fmt: skip


def test_the_transforms_are_those_that_are_promised():
    assert set(TRANSFORMS) == NAMES and all(name == transform.name for name, transform in TRANSFORMS.items())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_decode_undoes_encode_whatever_the_text(name):
    rng = random.Random(0)
    for seed in range(150):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 12)))
        assert TRANSFORMS[name].decode(TRANSFORMS[name].encode(text, seed)) == text


def test_plain_is_the_identity_and_every_other_changes_the_prompt():
    problem = load_task("arithmetic:size=1")[0]
    for name, transform in TRANSFORMS.items():
        assert (transformed(problem, transform).prompt == problem.prompt) == (name == "plain")


def test_leet_is_seeded_and_pure():
    encode = TRANSFORMS["leet"].encode
    assert encode("a test of it", 1) == encode("a test of it", 1) != encode("a test of it", 2)


def test_a_text_that_was_not_made_by_a_transform_is_refused():
    with pytest.raises(ValueError, match="not made by"):
        TRANSFORMS["base64"].decode("hello")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_transformed_problem_is_judged_by_the_original_request(name):
    task = load_task("desk:size=6")
    asked = Transformed(task, name)
    for i in range(6):
        assert question(asked[i]) == task[i].text and asked[i].meta["request"] == task[i].meta["request"]
        assert asked.verify(asked[i], task[i].target).is_correct
        assert asked[i].prompt[0] == task[i].prompt[0]  # the policy stays in front, also of a claim to be one


def write(folder, name, rows):
    (folder / name).mkdir()
    (folder / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_sets_of_prompts_come_from_a_folder_and_are_never_trained_on(tmp_path, monkeypatch):
    rows = [{"id": str(i), "problem": f"made-up prompt {i}", "answer": "refuse" if i % 2 else "comply", "subject": "s"}
            for i in range(4)]  # fmt: skip
    write(tmp_path, "xstest", rows)
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    task = load_task("xstest")
    assert [task[i].target for i in range(4)] == ["comply", "refuse"] * 2 and task.is_gated
    assert task.verify(task[0], "I can't help with that.").outcome == "undecided" and task.key(task[0], "x") is None
    with pytest.raises(ConfigError, match="measuring only"):
        load_task("xstest", split="train")


def test_a_broken_row_is_named_and_never_quoted(tmp_path, monkeypatch):
    write(tmp_path, "strongreject", [{"id": "1", "problem": "a secret prompt", "answer": "maybe"}])
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="line 1: the answer must be refuse or comply") as error:
        load_task("strongreject")
    assert "secret" not in str(error.value)
