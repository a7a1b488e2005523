"""A judge compares pairs in both orders: what holds is a preference, what flips a tie, the unread no number."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank
from ponder.evals.judged_pairs import (
    AnswerPair,
    judge_pairs,
    judged_of,
    leanings,
    order_lines,
    pairs_of,
    pairs_of_bank,
    rows_of,
)
from ponder.evals.preference import summarise
from ponder.files import append_jsonl
from ponder.tasks.preferences import load_comparisons
from ponder.types import SamplingParams
from tests.evals.test_overoptimisation import ANSWERS, fill
from tests.evals.test_preference_exam import a_set, comparison
from tests.helpers import user

PARAMS = SamplingParams(temperature=0.0, max_answer_tokens=16)


def shown_first(text: str) -> str:
    return min(("good", "poor"), key=text.find)


def judged(respond, pairs):
    return asyncio.run(judge_pairs(pairs, ScriptedEngine(respond), params=PARAMS))


def fair(text: str, seed: int) -> str:
    return "A" if shown_first(text) == "good" else "B"


PAIRS = [
    AnswerPair(id="0", prompt=user("p"), a="good", b="poor"), AnswerPair(id="1", prompt=user("q"), a="poor", b="good"),
]  # fmt: skip


def test_what_holds_in_both_orders_is_the_preference_whichever_side_it_is_on():
    assert [each.preferred for each in judged(fair, PAIRS)] == ["a", "b"]
    likes_first = judged(lambda text, seed: "A", PAIRS)
    assert [each.preferred for each in likes_first] == ["tie", "tie"]  # the order decided
    assert [each.preferred for each in judged(lambda text, seed: "C", PAIRS)] == ["tie", "tie"]
    half_read = judged(lambda text, seed: "A" if shown_first(text) == "good" else "Hm.", PAIRS)
    assert [each.preferred for each in half_read] == [None, None]


def test_the_order_of_the_answers_is_reported_and_the_unread_are_counted():
    assert order_lines(judged(fair, PAIRS)) == [
        "the order of the answers decided 0.0% (0.0% to 65.8%) of 2 pairs; each is a tie",
        "the answer shown first was preferred in 50.0% of 4 replies that choose",
    ]
    told = order_lines(judged(lambda text, seed: "A", PAIRS))
    assert "100.0%" in told[0] and "preferred in 100.0% of 4 replies" in told[1]
    told = order_lines(judged(lambda text, seed: "A" if "\np\n" in text else "Hm.", PAIRS))
    assert told[0] == "1 of 2 pairs are undecided: a reply is not A, B or C"
    assert "take another model" in order_lines(judged(lambda text, seed: "Hm.", PAIRS))[1]


def test_a_judge_sits_the_exam_without_seeing_what_people_said():
    rows = [comparison(i, f"good {i}", f"poor {i}", "a" if i % 4 else "b") for i in range(40)]
    asked = []
    found = judged(lambda text, seed: asked.append(text) or fair(text, seed), pairs_of(rows))
    said = leanings(rows, found)
    assert said.tolist() == [1.0] * 40 and not any("preferred" in text for text in asked)
    report = summarise("judge j", said, a_set(rows))
    assert report.rows[0].accuracy.value == pytest.approx(0.75)
    flips = leanings(rows, judged(lambda text, seed: "A", pairs_of(rows)))
    assert summarise("judge j", flips, a_set(rows)).rows[0].accuracy.value == 0.5  # a tie is half right
    deaf = leanings(rows, judged(lambda text, seed: "A" if "good 1" in text else "Hm.", pairs_of(rows)))
    assert sum(map(math.isnan, deaf)) == 40 - 11 and summarise("j", deaf, a_set(rows)).unread == 29


def test_what_a_judge_writes_is_read_back_as_comparisons(tmp_path: Path):
    found = judged(lambda text, seed: "C" if "\nq\n" in text else fair(text, seed), PAIRS)
    undecided = judged(lambda text, seed: "Hm.", [AnswerPair(id="2", prompt=user("r"), a="x", b="y")])
    append_jsonl(tmp_path / "votes.jsonl", rows_of([*found, *undecided], name="j"))
    loaded = load_comparisons(f"file:{tmp_path / 'votes.jsonl'}").comparisons
    assert {c.annotator for c in loaded} == {"judge j"} and len(loaded) == 2
    by_prompt = {c.prompt[0].content: c for c in loaded}
    assert by_prompt["q"].preferred == "tie"
    won = by_prompt["p"].a if by_prompt["p"].preferred == "a" else by_prompt["p"].b
    assert won == "good"  # wherever the hash of its id put it
    rows = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert [judged_of(row) for row in rows] == list(found)


def test_pairs_of_a_bank_are_different_answers_to_one_problem_and_none_comes_twice(tmp_path: Path):
    bank = fill(tmp_path / "bank", {**ANSWERS, "same": ["7", "7"], "blank": ["", "8"]})
    pairs = pairs_of_bank(bank, size=1000)
    assert len(pairs) == 2 * 15 and len({frozenset((p.prompt, p.a, p.b)) for p in pairs}) == 30
    assert {p.prompt[0].content for p in pairs} == {"one+2?", "two+2?"} and all(p.a != p.b for p in pairs)
    assert pairs_of_bank(bank, size=4) == pairs[:4] and pairs_of_bank(bank, size=4, seed=1) != pairs[:4]
    with pytest.raises(ConfigError, match="two different answers"):
        pairs_of_bank(fill(tmp_path / "other", {"same": ["7", "7"]}), size=3)
    assert isinstance(bank, Bank)
