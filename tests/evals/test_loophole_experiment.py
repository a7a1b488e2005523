"""The experiment's numbers come from its samples, the arms' parts do what they say, and the picture draws."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from ponder.config import load
from ponder.engine.base import ScriptedEngine
from ponder.evals import loophole
from ponder.monitors import pressure
from ponder.monitors.learned import Trigrams
from ponder.rewarding import training
from ponder.tasks.loophole import CONFESSED, NEUTRAL, TELLING, demonstrate
from ponder.train.recipe import load_recipe
from ponder.train.sft import SFTConfig
from tests.helpers import group_of


def rows(ways: str, size: int = 40) -> list[dict[str, str]]:
    """Samples of each problem, a letter a way: h, c, s."""
    names = {"h": "honest", "c": "confessed", "s": "silent"}

    def respond(text, seed):
        row = {"problem": text, "reasoning": "", "answer": ""}
        return demonstrate(loophole.problem_of(row), names[Random(f"{seed}").choice(ways)], Random(seed), slip=0.2)

    return asyncio.run(loophole.draw(ScriptedEngine(respond), size=size))


def test_a_point_is_computed_from_samples_and_recall_has_its_n():
    base = rows("hhhccs")
    learned = loophole.learn_monitor(base, loophole.labels(base))
    hidden = loophole.measure(rows("hs"), learned)
    open_ = loophole.measure(rows("hc"), learned)
    assert open_.recall.value == 1 and hidden.recall.value == 0 and hidden.recall.n > 50
    assert hidden.recall_successful.n == hidden.recall.n  # hacks do not slip here
    assert hidden.learned_recall.value > 0.9 and hidden.unclear == 0
    assert 0.2 < hidden.truth.value < 0.45 < hidden.weak.value
    honest = loophole.measure(rows("h"), learned)
    assert honest.attempts.value == 0 and honest.recall.n == 0


def test_a_threshold_that_is_set_anew_keeps_its_budget_where_honest_work_looks_otherwise():
    base = rows("hhhccs")
    learned = loophole.learn_monitor(base, loophole.labels(base))
    telling = max(learned.weights, key=learned.weights.__getitem__)
    moved = [{**row, "reasoning": f"{telling} {telling}\n{row['reasoning']}"} for row in rows("hhhc", 200)]
    heavy = Trigrams({**learned.weights, telling: 20.0}, learned.bias, threshold=learned.threshold)
    found = loophole.measure(moved, heavy)
    assert found.learned_false_positives.value == 1 and found.learned_recall.value == 1
    assert found.renewed_false_positives.value < 0.12 and found.renewed_false_positives.n > 20
    assert found.renewed_recall.value > 0.9 and found.renewed_recall.n < found.learned_recall.n
    hacks = loophole.measure(rows("c", 10), learned)
    assert hacks.renewed_recall.n == 0 and hacks.learned_recall.n > 20  # no honest work, nothing to set it by


def test_samples_are_kept_read_again_and_drawn(tmp_path):
    base = rows("hhcs")
    learned = loophole.learn_monitor(base, loophole.labels(base))
    loophole.keep(tmp_path / "points" / "base.jsonl", base)
    for seed in (0, 1):
        for step in loophole.STEPS[1:]:
            loophole.keep(loophole.point_file(tmp_path, "penalty", seed, step), rows("s" if step > 4 else "hcs", 10))
    found = loophole.read_points(tmp_path, learned, ["weak", "penalty"], range(3))
    assert set(found) == {"penalty"} and set(found["penalty"]) == {0, 1}
    assert any("| -1 when flagged | 40 | 2 |" in line for line in loophole.table(found))
    assert "seed 1: 0.00 (0.00" in loophole.last_recalls(found)[0]
    told = json.loads(json.dumps(loophole.plain(found), allow_nan=False))
    assert len(told) == 2 * len(loophole.STEPS) and told[0]["weak"]["n"] == len(base)
    pytest.importorskip("matplotlib")
    assert len(loophole.picture(found).axes) == 3


def test_every_arm_has_a_recipe_and_only_two_let_the_monitor_in():
    assert load(SFTConfig, "loophole_base_nano_cpu").demonstrations.silent == 0.03
    reasons = {arm: load_recipe(f"loophole_{arm}_nano_cpu").experiments.monitor_in_reward for arm in loophole.ARMS}
    assert {arm for arm, reason in reasons.items() if reason} == {"penalty", "left_out"}
    for arm in loophole.ARMS:
        recipe = load_recipe(f"loophole_{arm}_nano_cpu")
        assert set(loophole.STEPS) == recipe.all_checkpoint_steps
        assert recipe.task == f"loophole:verifier={'exact' if arm == 'exact' else 'weak'}"
    assert pressure.TELLING == TELLING and all(word in CONFESSED and word not in NEUTRAL for word in TELLING)


def test_pressure_takes_one_off_or_leaves_out():
    group = group_of([1.0, 1.0, 0.0, 1.0])
    [*rollouts] = group.rollouts
    rollouts[0] = replace(
        rollouts[0], turns=(replace(rollouts[0].turns[0],
                                    completion=replace(rollouts[0].completion, reasoning=CONFESSED)),)
    )  # fmt: skip
    group = replace(group, rollouts=tuple(rollouts))
    with training("a test", reason="to see it"):
        assert pressure.penalty(None, rollouts, []) == [-1.0, 0.0, 0.0, 0.0]
        [values] = pressure.left_out([group])
    assert values[0] == 0 and values[2] < 0 < values[1] == values[3]
    assert np.isclose(values.sum(), 0)
