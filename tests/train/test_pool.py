"""The pool: what is practised follows what was measured, deterministically."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.tasks import load_task
from ponder.train.pool import Pool
from ponder.types import Completion, Group, Rollout, Turn, Verdict
from tests.helpers import LowercaseTask


def group(pool: Pool, index: int, correct: int, tried: int = 8) -> Group:
    completion = Completion(
        prompt_ids=(1,), token_ids=(2,), sampler_logprobs=(0.0,), sampled=(True,), finish_reason="stop",
        reasoning="", answer="", num_reasoning_tokens=0,
    )  # fmt: skip
    problem = pool.problems[index]
    rollouts = []
    for i in range(tried):
        good = i < correct
        verdict = Verdict(outcome="correct" if good else "wrong", reward=float(good))
        rollouts.append(
            Rollout(problem=problem, turns=(Turn(completion=completion),), verdict=verdict, reward=verdict.reward)
        )
    return Group(problem=problem, rollouts=tuple(rollouts))


def make(selection: str = "adaptive", size: int = 40) -> Pool:
    return Pool(LowercaseTask(size=size), size, seed=0, selection=selection)


def test_uniform_goes_through_the_whole_pool_before_repeating():
    pool = make("uniform", size=12)
    seen = [problem.id for step in range(4) for problem in pool.choose(step, 3)]
    assert len(set(seen)) == 12
    again = [problem.id for step in range(4, 8) for problem in pool.choose(step, 3)]
    assert set(again) == set(seen)
    assert again != seen


def test_a_choice_never_repeats_a_problem_and_depends_on_seed_and_step_alone():
    pool = make()
    first = [p.id for p in pool.choose(3, 10)]
    assert len(set(first)) == 10
    assert first == [p.id for p in make().choose(3, 10)]
    assert first != [p.id for p in pool.choose(4, 10)]


def test_problems_of_half_success_are_chosen_far_more_often_than_all_same_ones():
    pool = make()
    pool.learn(0, [group(pool, i, 4) for i in range(0, 10)])  # mixed
    pool.learn(0, [group(pool, i, 8) for i in range(10, 20)])  # all good
    pool.learn(0, [group(pool, i, 0) for i in range(20, 30)])  # all bad
    counts = np.zeros(40)
    for step in range(1, 200):
        pool.updated[:] = step - 1  # as if measured just now
        for problem in pool.choose(step, 4):
            counts[int(problem.id.split("/")[1])] += 1
    assert counts[:10].sum() > 2 * counts[10:20].sum()
    assert counts[:10].sum() > 2 * counts[20:30].sum()
    assert counts[10:30].min() > 0  # nothing is given up for ever


def test_a_problem_never_tried_is_judged_by_its_bucket():
    pool = make()
    pool.learn(0, [group(pool, i, 8) for i in range(0, 20, 2)])  # level 0 looks easy
    rates = pool.pass_rates(1)
    assert rates[22] > 0.8  # level 0, never tried
    assert rates[23] == pytest.approx(0.5)  # level 1, nothing known


def test_what_was_seen_fades_so_that_old_failures_are_tried_again():
    pool = make()
    pool.learn(0, [group(pool, 0, 0), *(group(pool, i, 8) for i in range(2, 20, 2))])
    assert pool.pass_rates(1)[0] < pool.pass_rates(40)[0]


def test_further_rounds_take_what_the_first_did_not():
    pool = make()
    first = [p.id for p in pool.choose(0, 20)]
    second = [p.id for p in pool.choose(0, 20, round=1, exclude=first)]
    assert not set(first) & set(second)
    assert pool.choose(0, 5, round=2, exclude=[*first, *second]) == []


def test_the_state_survives_json_bit_for_bit():
    pool = make()
    for step in range(5):
        pool.learn(step, [group(pool, (7 * step + i) % 40, (step + i) % 9) for i in range(6)])
    other = make()
    other.restore(json.loads(json.dumps(pool.state())))
    assert np.array_equal(pool.weights(6), other.weights(6))
    assert [p.id for p in pool.choose(6, 9)] == [p.id for p in other.choose(6, 9)]
    with pytest.raises(ValueError, match="the saved pool has 40 problems"):
        make(size=12).restore(pool.state())


def test_ids_that_are_not_unique_are_refused():
    class Twins(LowercaseTask):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), id="same")

    with pytest.raises(ValueError, match="ids must be unique"):
        Pool(Twins(size=3), 3, seed=0)


def test_of_a_mixture_every_task_and_level_has_its_own_rate_and_the_choice_follows():
    task = load_task("arithmetic:level=1-2,size=40+words:level=1-2,size=40", split="train")
    pool = Pool(task, 80, seed=0, selection="adaptive")
    known = {("arithmetic", 1): 8, ("arithmetic", 2): 4, ("words", 1): 0, ("words", 2): 0}  # of 8 rollouts right
    for step in range(3):
        groups = [group(pool, i, known[p.task, p.level]) for i, p in enumerate(pool.problems) if i % 2 == step % 2]
        pool.learn(step, groups)
    rates = pool.by_level(3)
    assert set(rates) == {f"pool/{name}/level_{level}" for name in ("arithmetic", "words") for level in (1, 2)}
    assert rates["pool/arithmetic/level_1"] > 0.9 and abs(rates["pool/arithmetic/level_2"] - 0.5) < 0.1
    assert rates["pool/words/level_1"] < 0.1
    chosen = [(p.task, p.level) for step in range(3, 40) for p in pool.choose(step, 10)]
    assert chosen.count(("arithmetic", 2)) > 0.5 * len(chosen)


def test_of_one_task_the_rates_keep_their_short_names():
    assert set(make().by_level(0)) == {"pool/level_0", "pool/level_1"}


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.data())
def test_in_turn_no_step_repeats_a_problem_and_no_pass_leaves_one_out(size, data):
    count = data.draw(st.integers(1, size))
    pool = make("uniform", size)
    steps = [[problem.id for problem in pool.choose(step, count)] for step in range(3 * size // count + 3)]
    assert all(len(set(ids)) == count for ids in steps)
    drawn = [one for ids in steps for one in ids]
    for begin in range(0, len(drawn) - size + 1, size):
        assert len(set(drawn[begin : begin + size])) == size
    later = data.draw(st.integers(0, len(steps) - 1))
    assert [problem.id for problem in make("uniform", size).choose(later, count)] == steps[later]  # as a resumed run


def test_estimates_are_never_laid_on_other_problems():
    class Other(LowercaseTask):
        def __getitem__(self, index):
            problem = super().__getitem__(index)
            return replace(problem, target="b") if index == 7 else problem

    pool = make()
    pool.learn(0, [group(pool, 3, 4)])
    state = json.loads(json.dumps(pool.state()))
    with pytest.raises(ValueError, match="of other problems"):
        Pool(Other(size=40), 40, seed=0).restore(state)
    make().restore({name: value for name, value in state.items() if name != "problems"})  # saved before this was kept
