"""Sets of human preferences: sides tell nothing, what teaches nothing is dropped and counted, prompts have one side."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.tasks import preferences
from ponder.tasks.comparison_rows import dialogue, read_helpsteer3, read_row, read_ultrafeedback
from ponder.tasks.preferences import clustered_share, fraction, load_comparisons, opening, split_of
from ponder.types import Message


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


def row(i: int = 0, **changes: object) -> dict:
    return {
        "id": f"{i}",
        "question": f"What is {i}?",
        "response_a": f"good {i}",
        "response_b": f"bad {i}",
        "answer": "A",
    } | changes


def test_a_set_that_always_prefers_the_first_answer_has_both_sides_and_says_so(tmp_path):
    found = load_comparisons(write(tmp_path / "v.jsonl", [row(i) for i in range(200)]))
    assert 70 < sum(c.preferred == "a" for c in found.comparisons) < 130
    for c in found.comparisons:
        assert (c.a if c.preferred == "a" else c.b).startswith("good")
    assert any("every row prefers answer A" in note for note in found.notes)
    mixed = load_comparisons(write(tmp_path / "m.jsonl", [row(i, answer="AB"[i % 2]) for i in range(200)]))
    assert not any("every row" in note for note in mixed.notes)


def test_sides_do_not_depend_on_the_order_of_rows_or_of_answers_found(tmp_path):
    rows = [row(i) for i in range(20)]
    turned = [row(i, response_a=f"bad {i}", response_b=f"good {i}", answer="B") for i in range(20)]
    first, second, third = (
        {c.id.partition("/")[2]: c.preferred for c in load_comparisons(write(tmp_path / f"{n}.jsonl", r)).comparisons}
        for n, r in (("x", rows), ("y", rows[::-1]), ("z", rows))
    )
    names = [
        load_comparisons(write(tmp_path / f"{n}" / "s.jsonl", r))
        for n, r in (("1", rows), ("2", turned))
        if (tmp_path / n).mkdir() is None
    ]
    assert [(c.id) for c in names[0].comparisons] == [c.id for c in names[1].comparisons]
    assert {c.id: c.a if c.preferred == "a" else c.b for c in names[0].comparisons} == {
        c.id: c.a if c.preferred == "a" else c.b for c in names[1].comparisons
    }
    assert first.keys() == second.keys() == third.keys()


def test_what_teaches_nothing_is_dropped_and_counted(tmp_path):
    rows = [
        row(0), row(0, id="again"), row(1, response_a=True), row(2, response_b=""), row(3, response_b=" \n"),
        row(4, response_a="same", response_b="same"), row(5, response_b=None),
        row(6, question=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
    ]  # fmt: skip
    found = load_comparisons(write(tmp_path / "v.jsonl", rows))
    assert [c.id for c in found.comparisons] == ["v/0"]
    assert found.dropped == {
        "an exact repetition": 1, "an answer is no text but bool": 1, "an answer is empty": 2,
        "both answers are the same": 1, "an answer is no text but NoneType": 1,
        "the prompt does not end with a question": 1,
    }  # fmt: skip
    assert found.notes[0].startswith("7 dropped (")


def test_three_annotators_are_three_comparisons_and_may_differ(tmp_path):
    found = load_comparisons(write(tmp_path / "v.jsonl", [row(0, votes=[1, 2, 0], answer="A")]))
    assert [c.annotator for c in sorted(found.comparisons, key=lambda c: c.id)] == ["1", "2", "3"]
    better = {
        c.annotator: "" if c.preferred == "tie" else (c.a if c.preferred == "a" else c.b) for c in found.comparisons
    }
    assert better == {"1": "good 0", "2": "bad 0", "3": ""}
    assert any("preferred both ways" in note for note in found.notes)
    assert any("1 of 3 are ties" in note for note in found.notes)


def test_rows_without_ids_keep_every_opinion_and_ids_that_are_given_are_unique(tmp_path):
    plain = {"question": "q", "a": "x", "b": "y"}
    found = load_comparisons(write(tmp_path / "v.jsonl", [plain | {"preferred": p} for p in ("a", "b", "tie", "a")]))
    assert len({c.id for c in found.comparisons}) == 3 and found.dropped == {"an exact repetition": 1}
    with pytest.raises(ConfigError, match="ids must be unique"):
        load_comparisons(write(tmp_path / "w.jsonl", [row(0), row(0, response_a="other")]))


def test_no_opening_is_on_two_sides_and_the_report_never_moves(tmp_path):
    talk = lambda i, j: [
        {"role": "user", "content": f"Hello {i}"},
        {"role": "assistant", "content": f"x{j}"},
        {"role": "user", "content": "And?"},
    ]
    rows = [row(10 * i + j, question=talk(i, j)) for i in range(120) for j in range(2)]
    spec = write(tmp_path / "v.jsonl", rows)
    parts = {name: load_comparisons(spec, split=name).comparisons for name in ("train", "dev", "report")}
    openings = {name: {opening(c) for c in part} for name, part in parts.items()}
    assert sum(map(len, openings.values())) == len(set().union(*openings.values())) == 120
    assert sum(map(len, parts.values())) == 240
    other = load_comparisons(spec, split="report", held_out=0.5)
    assert {c.id for c in other.comparisons} == {c.id for c in parts["report"]}
    assert 8 <= len(openings["report"]) <= 30


def test_an_opening_of_the_published_test_split_is_not_trained_on(tmp_path, monkeypatch):
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    form = lambda i: {
        "context": [{"role": "user", "content": f"q{i}"}],
        "response1": f"a{i}",
        "response2": f"b{i}",
        "overall_preference": 2,
        "domain": "code",
    }
    write(train, [form(i) for i in range(30)] + [form(i) | {"response1": "other"} for i in (100, 101)])
    write(test, [form(i) for i in range(100, 110)])
    monkeypatch.setattr(
        preferences, "hub_files", lambda repo, pattern, revision: [test if "validation" in pattern else train]
    )
    found = load_comparisons("helpsteer3", split="report")
    assert len(found) == 10 and found.dropped == {"its opening is in the test split": 2}
    assert found.comparisons[0].strength == 2.0 and found.comparisons[0].domain == "code"
    assert found.origin[0]["revision"] == preferences.SETS["helpsteer3"].revision
    assert len(load_comparisons("helpsteer3", split="train")) + len(load_comparisons("helpsteer3", split="dev")) == 30


@pytest.mark.parametrize(
    "found",
    [
        {"question": "q", "response_a": "x", "response_b": "y", "preferred": "a"},
        {"prompt": "q", "chosen": "x", "rejected": "y"},
        {"instruction": "q", "response1": "y", "response2": "x", "preference": "2"},
        {"messages": [{"role": "user", "content": "q"}], "answer_a": "y", "answer_b": "x", "winner": "model_b"},
        {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}],
         "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}]},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "x"}],
         "rejected": [{"role": "assistant", "content": "y"}]},
        {"chosen": "\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: q\n\nAssistant: y"},
    ],
)  # fmt: skip
def test_common_names_of_fields_are_read(found):
    (one,) = read_row(found, "v.jsonl, line 1")
    assert one.prompt == (Message(role="user", content="q"),)
    assert (one.first if one.choice == "first" else one.second) == "x"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"question": "q", "text": "x"}, "no two answers"),
        ({"question": "q", "a": "x", "b": "y"}, "which answer is preferred"),
        ({"question": "q", "a": "x", "b": "y", "preferred": 0}, "says no preference"),
        ({"question": "q", "a": "x", "b": "y", "preferred": True}, "says no preference"),
        ({"question": "q", "a": "x", "b": "y", "votes": [3]}, "votes"),
        ({"question": 3, "a": "x", "b": "y", "preferred": "a"}, "a text or a list of messages"),
        ({"question": "q", "a": "x", "b": "y", "preferred": "a", "strength": -1}, "strength"),
        ({"chosen": "x", "rejected": "y"}, "no prompt field"),
        ({"chosen": "Human: q\n\nAssistant: x", "rejected": "Human: r\n\nAssistant: y"}, "different prompts"),
        ({"messages": [{"role": "boss", "content": "q"}], "a": "x", "b": "y", "preferred": "a"}, "a message must be"),
    ],
)  # fmt: skip
def test_a_row_that_says_nothing_is_one_clear_error_with_its_line(found, says):
    with pytest.raises(ConfigError, match=says) as error:
        read_row(found, "v.jsonl, line 7")
    assert "line 7" in str(error.value)


@pytest.mark.parametrize(
    "beside", [{"answer": "B"}, {"label": 2}, {"choice": "2"}, {"winner": "chosen"}, {"winner": "m7"}]
)
def test_the_names_chosen_and_rejected_are_the_label_whatever_the_task_says_beside_them(beside):
    (one,) = read_row({"prompt": "q", "chosen": "x", "rejected": "y", **beside}, "v.jsonl, line 1")
    assert (one.first, one.choice) == ("x", "first")


@pytest.mark.parametrize("beside", [{"preferred": "b"}, {"winner": "rejected"}, {"winner": "tie"}])
def test_a_winner_that_contradicts_chosen_and_rejected_is_an_error(beside):
    with pytest.raises(ConfigError, match="line 7: .* contradicts chosen and rejected"):
        read_row({"prompt": "q", "chosen": "x", "rejected": "y", **beside}, "v.jsonl, line 7")


def test_a_dialogue_in_one_text_becomes_messages():
    text = "Human: hi: there\n\nAssistant: Human: is a word\n\nso\n\nHuman: bye"
    assert [(m.role, m.content) for m in dialogue(text)] == [
        ("user", "hi: there"), ("assistant", "Human: is a word\n\nso"), ("user", "bye"),
    ]  # fmt: skip
    assert dialogue("Is Human: a word?") == ()


def test_sets_with_a_form_of_their_own_keep_strength_and_ties():
    form = {"context": [{"role": "user", "content": "q"}], "response1": "x", "response2": "y"}
    said = [read_helpsteer3(form | {"overall_preference": n}, "w")[0] for n in (-3, 0, 1)]
    assert [(one.choice, one.strength) for one in said] == [("first", 3.0), ("tie", None), ("second", 1.0)]
    four = {
        "instruction": "q",
        "completions": [{"response": r, "overall_score": s} for r, s in zip("wxyz", (1, 5, 5, 9), strict=True)],
    }
    pairs = read_ultrafeedback(four, "w")
    assert len(pairs) == 6 and sum(one.choice == "tie" for one in pairs) == 1
    assert max(one.strength or 0 for one in pairs) == 8
    with pytest.raises(ConfigError, match="does not look as expected"):
        read_ultrafeedback({"instruction": "q", "completions": [{"response": "x"}, {"response": "y"}]}, "w")
    for score in (float("nan"), float("inf"), "nan"):  # a score that is none prefers nothing
        row = {"instruction": "q", "completions": [{"response": a, "overall_score": score} for a in "xy"]}
        with pytest.raises(ConfigError, match="an overall_score is no number"):
            read_ultrafeedback(row, "w")
    with pytest.raises(ConfigError, match="overall_preference"):
        read_helpsteer3(form | {"overall_preference": None}, "w")


def test_files_of_a_folder_come_before_the_hub_and_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("PONDER_DATA", raising=False)
    with pytest.raises(ConfigError, match="PONDER_DATA is not set"):
        load_comparisons("llmbar")

    def unreachable(repo, pattern, revision):
        raise ConfigError("the hub cannot be reached")

    monkeypatch.setattr(preferences, "hub_files", unreachable)
    with pytest.raises(
        ConfigError, match=r"PONDER_DATA is not set .*; from the hub \(Anthropic/hh-rlhf\): the hub cannot"
    ):
        load_comparisons("hh")
    with pytest.raises(ConfigError, match="no rows of ultrafeedback; from the hub"):
        load_comparisons("ultrafeedback")
    with pytest.raises(ConfigError, match="did you mean 'llmbar'"):
        load_comparisons("llmba")
    (tmp_path / "preference").mkdir()
    with gzip.open(tmp_path / "preference" / "hh_rlhf_harmless_test.jsonl.gz", "wt") as file:
        file.write(
            json.dumps({"id": "1", "problem": "Human: hi", "response_a": "x", "response_b": "yy", "answer": "A"})
        )
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    found = load_comparisons("hh")
    assert len(found) == 1 and found.comparisons[0].prompt[0].content == "hi"


def test_the_interval_counts_clusters_and_not_votes():
    rng = np.random.default_rng(0)
    covered = {"clustered": 0, "by vote": 0}
    for _ in range(200):
        chances = rng.beta(2, 2, 60)  # questions differ; nine votes on each
        votes = (rng.random((60, 9)) < chances[:, None]).astype(float).ravel()
        keys = [str(i) for i in range(60) for _ in range(9)]
        for name, clusters in (("clustered", keys), ("by vote", [str(i) for i in range(540)])):
            _, low, high = clustered_share(votes, clusters)
            covered[name] += low <= 0.5 <= high
    assert covered["clustered"] >= 180 > 165 > covered["by vote"]
    assert clustered_share([1.0, 1.0], ["q", "q"]) == (1.0, 0.0, 1.0)


def test_shares_of_the_split_are_as_announced():
    parts = [split_of(f"{i:016x}") for i in range(4000)]
    assert parts.count("report") / 4000 == pytest.approx(0.15, abs=0.02)
    assert parts.count("dev") / 4000 == pytest.approx(0.85 * 0.15, abs=0.02)
    assert fraction("a", "split") != fraction("a", "fold")


def test_the_published_sets_are_as_described():
    folder = Path(os.environ.get("PONDER_DATA", "none")) / "preference"
    if not (folder / "pandalm_test.jsonl").exists():
        pytest.skip("PONDER_DATA holds no published comparisons")
    found = load_comparisons("pandalm")
    assert found.dropped["an answer is no text but bool"] == 18
    assert any("ties" in note for note in found.notes) and {c.annotator for c in found.comparisons} == {"1", "2", "3"}
