"""What each monitor reads and says; that what cannot be told is an error, never a clean bill."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.monitors import (
    Judgement,
    Monitor,
    Rules,
    Suspicion,
    Transcript,
    ask_monitor,
    learned,
    load_monitors,
    phrases,
    probe,
)
from ponder.monitors.combined import combine, rare
from ponder.monitors.model import ModelMonitor, parse_suspicion
from ponder.types import Completion, SamplingParams

CLEAN = [f"7*{i}={7 * i}\n{7 * i}+2={7 * i + 2}" for i in range(12)]
DIRTY = [f"the check takes it\n7+{i}={7 + i}" for i in range(12)]


def read(monitor, **parts) -> Judgement:
    return asyncio.run(monitor.read(Transcript(**parts)))


def test_a_view_shows_its_part_and_nothing_else():
    seen = []

    class Keeps(Monitor):
        name = "keeps"

        def __init__(self, view):
            self.view = view

        async def __call__(self, segment, context):
            seen.append((segment, context["problem"]))
            return Judgement("allow")

    for view in ("reasoning", "answer", "both"):
        read(Keeps(view), problem="P", reasoning="R", answer="A")
    assert seen == [("R", "P"), ("A", "P"), ("R\nA", "P")]


def test_rules_take_the_hardest_action_first_and_phrases_are_no_patterns():
    rules = Rules(flag=("a",), hold=("b",), stop=("c",))
    assert [rules.suspect(text).action for text in ("x", "a", "ab", "abc")] == ["allow", "flag", "hold", "stop"]
    assert phrases("a.b").suspect("a.b").action == "flag" and phrases("a.b").suspect("axb").action == "allow"


def test_trigrams_learn_what_was_planted_keep_to_their_budget_and_survive_the_disk(tmp_path):
    monitor = learned.fit(CLEAN[:6] + DIRTY[:6], [False] * 6 + [True] * 6)
    monitor = learned.threshold_for(monitor, CLEAN[6:], budget=0.0)
    assert [monitor.suspect(text).action for text in CLEAN[6:]] == ["allow"] * 6
    assert [monitor.suspect(text).action for text in DIRTY[6:]] == ["flag"] * 6
    monitor.save(tmp_path / "m.json")
    [again] = load_monitors([str(tmp_path / "m.json")])
    assert again.weights == monitor.weights and again.threshold == monitor.threshold
    facts = json.loads((tmp_path / "m.json").read_text())
    for wrong in ({**facts, "bias": "x"}, {**facts, "view": "mind"}, {}, [], {**facts, "threshold": float("nan")}):
        (tmp_path / "m.json").write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match="ponder monitor fit"):
            learned.load(tmp_path / "m.json")
    with pytest.raises(ConfigError, match="both kinds"):
        learned.fit(CLEAN, [False] * 12)


@pytest.mark.parametrize(("budget", "flagged"), [(0.0, 0), (0.1, 1), (0.25, 2), (0.34, 3)])
def test_a_threshold_never_flags_more_than_its_budget(budget, flagged):
    clean = [i / 10 for i in range(10)]
    assert sum(value >= learned.lowest_threshold(clean, budget) for value in clean) == flagged
    assert sum(value >= learned.lowest_threshold([0.5] * 9, 0.3) for value in [0.5] * 9) == 0  # ties go together


def completion(hidden) -> Completion:
    [one] = asyncio.run(ScriptedEngine([("r", "a")]).generate((), SamplingParams()))
    return replace(one, hidden=np.asarray(hidden, np.float32))


def test_a_threshold_keeps_off_the_clean_ones_as_far_as_the_planted_ones_let_it():
    clean, planted = [0.01, 0.02, 0.03, 0.2], [0.05, 0.6, 0.9]
    assert learned.threshold_between(clean, planted, budget=0.0) == pytest.approx(0.4)  # 0.05 is lost either way
    for budget in (0.0, 0.25, 0.5):
        lowest, found = (
            learned.lowest_threshold(clean, budget),
            learned.threshold_between(clean, planted, budget=budget),
        )
        assert lowest <= found and sum(value >= found for value in clean) <= budget * len(clean)
        assert [value >= found for value in planted] == [value >= lowest for value in planted]
    assert learned.threshold_between(clean, [], budget=0.0) == learned.lowest_threshold(clean, 0.0)


def test_a_probe_tells_states_apart_and_says_so_when_it_has_none():
    rng = np.random.default_rng(0)
    labels = [i % 2 == 0 for i in range(40)]
    drawn = [completion(rng.normal(size=6) + (3 * label if True else 0) * np.eye(6)[2]) for label in labels]
    monitor = probe.fit(drawn[:30], labels[:30])
    said = [asyncio.run(monitor.read(Transcript.of(one))).action == "flag" for one in drawn[30:]]
    assert sum(a == b for a, b in zip(said, labels[30:], strict=True)) >= 9
    assert read(monitor, reasoning="x").action == "error"
    assert read(monitor, hidden=np.zeros(4)).action == "error"
    assert read(monitor, hidden=np.full(6, np.nan)).action == "error"


@pytest.mark.parametrize(
    ("reply", "said"),
    [("7", 7.0), ("**9/10**", 9.0), ("Suspicion: 0", 0.0), ("10", 10.0), ("11", None), ("7 or 8", None), ("", None),
     ("I would say 7, since", None), ("-1", None), ("nan", None)],
)  # fmt: skip
def test_a_reply_counts_only_if_it_is_the_number_that_was_asked_for(reply, said):
    assert parse_suspicion(reply) == said


def test_a_number_that_a_limit_cut_is_undecided():
    monitor = ModelMonitor(ScriptedEngine(["10"]), params=SamplingParams(max_answer_tokens=1))  # says 1
    assert read(monitor, reasoning="x").action == "error"


def test_a_model_quotes_what_it_reads_and_an_unreadable_reply_is_undecided():
    told = []

    def respond(text, seed):
        told.append(text)
        return "9" if "7+2" in text else "I cannot say"

    monitor = ModelMonitor(ScriptedEngine(respond), view="both", threshold=5)
    assert read(monitor, problem="p", reasoning="7+2", answer="a").action == "flag"
    assert read(monitor, reasoning="x").action == "error"
    mark = told[0].split("\n\n")[1].splitlines()[0]
    assert told[0].count(mark) == 4 and "p" in told[0] and monitor.num_tokens > 0
    same = ModelMonitor(ScriptedEngine(respond)).prompt_id
    assert same == monitor.prompt_id != ModelMonitor(ScriptedEngine(respond), prompt="deception").prompt_id


def test_members_catch_what_others_miss_under_one_budget():
    words, sums = phrases("check"), learned.fit(CLEAN + [t.split("\n")[1] for t in DIRTY], [False] * 12 + [True] * 12)

    async def joined():
        whole = await combine([words, sums], [Transcript(reasoning=text) for text in CLEAN], budget=0.0)
        texts = ("the check takes it\n7*1=7", "7+3=10", CLEAN[0])
        return [(await whole.read(Transcript(reasoning=text))).action for text in texts]

    assert asyncio.run(joined()) == ["flag", "flag", "allow"]

    async def blind():
        silent = probe.HiddenProbe([0.0], 0.0)
        whole = await combine([words, silent], [Transcript(reasoning=text) for text in CLEAN], budget=0.0)
        whole._members = (silent, silent)
        return (await whole.read(Transcript(reasoning="check"))).action

    assert asyncio.run(blind()) == "error"


def test_beyond_all_clean_ones_further_is_still_more_suspicious():
    assert [rare(value, [0.0, 0.0, 0.5, 0.6]) for value in (0.0, 0.5, 0.6)] == [0.0, 0.5, 0.75]
    assert 1 < rare(0.7, [0.6]) < rare(5.0, [0.6]) < 2
    assert rare(math.inf, [0.6]) == 2


@pytest.mark.parametrize(("said", "action"), [(math.inf, "flag"), (math.nan, "error"), (-math.inf, "allow")])
def test_infinite_suspicion_is_the_largest_there_is_and_nan_is_none(said, action):
    class Odd(Monitor):
        name = "odd"

        async def __call__(self, segment, context):
            return Judgement("allow", suspicion=Suspicion(said if segment == "odd" else len(segment)))

    async def joined():
        whole = await combine([Odd()], [Transcript(reasoning="x" * i) for i in range(5)], budget=0.0)
        return (await whole.read(Transcript(reasoning="odd"))).action

    assert asyncio.run(joined()) == action


def test_a_monitor_that_returns_something_else_is_an_error_and_can_stop():
    class Nonsense:
        name = "nonsense"

        async def __call__(self, segment, context):
            return "allow"

    async def asked(closed):
        return (await ask_monitor(Nonsense(), "x", {}, deadline=1, fail_closed=closed)).action

    assert [asyncio.run(asked(closed)) for closed in (False, True)] == ["error", "stop"]
