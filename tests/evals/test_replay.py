"""Replayed strategies equal their plain-Python selves over every order of a few samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.evals.bank import Samples
from ponder.evals.replay import (
    ADAPTIVE,
    CONFIDENT,
    PLAIN,
    SCORED,
    Replay,
    adaptive_vote,
    best_of,
    leader_is_safe,
    top_m,
    top_vote,
    vote_shares,
    waves,
    weighted_vote,
)
from ponder.types import Message, Problem

Sample = tuple[str | None, bool, float]  # its class, whether it is correct, its score


def table(samples: Sequence[Sample], name: str = "p", **changes: Any) -> Samples:
    keys = tuple(dict.fromkeys(key for key, _, _ in samples if key is not None))
    scores = np.array([score for _, _, score in samples])
    fields: dict[str, Any] = {
        "problem": Problem(id=name, prompt=(Message(role="user", content="?"),), target="a", task="t"),
        "outcomes": np.array(["correct" if right else "wrong" for _, right, _ in samples]),
        "classes": np.array([-1 if key is None else keys.index(key) for key, _, _ in samples]),
        "keys": keys,
        "prompt_tokens": 10,
        "tokens": np.arange(1, len(samples) + 1),
        "reasoning_tokens": np.zeros(len(samples), dtype=np.int64),
        "was_cut": np.zeros(len(samples), dtype=bool),
        "finish_reasons": np.array(["stop"] * len(samples)),
        "errors": 0,
        "mean_logprob": np.log(np.maximum(scores, 1e-3)),
        "worst_logprob": np.log(np.maximum(scores, 1e-3)),
        "scores": {"s": scores},
    }
    return Samples(**{**fields, **changes})


def in_every_order(samples: Sequence[Sample]) -> Replay:
    replay = Replay(table(samples))
    replay.orders = np.array(list(itertools.permutations(range(len(samples)))))
    return replay


def brute(samples: Sequence[Sample], k: int, choose: Callable[[Sequence[Sample]], float]) -> float:
    chosen = [choose(order[:k]) for order in itertools.permutations(samples)]
    return sum(chosen) / len(chosen)


def vote(samples: Sequence[Sample], weight: Callable[[Sample], float] = lambda sample: 1.0) -> float:
    totals: dict[str, float] = {}
    for sample in samples:
        if sample[0] is not None:
            totals[sample[0]] = totals.get(sample[0], 0.0) + weight(sample)
    winners = [key for key, total in totals.items() if math.isclose(total, max(totals.values()))]
    shares = [[right for key, right, _ in samples if key == winner] for winner in winners]
    return sum(sum(rights) / len(rights) for rights in shares) / max(1, len(winners))


drawn = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans(), st.sampled_from([0.125, 0.25, 0.5, 0.75])),
    min_size=1, max_size=5,
).map(lambda samples: [(key, right and key is not None, score) for key, right, score in samples])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(drawn, st.data())
def test_votes_equal_brute_force_over_all_subsets(samples: list[Sample], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    replay = in_every_order(samples)
    scores = replay.samples.scores["s"]
    assert weighted_vote(replay, k, scores).mean() == pytest.approx(brute(samples, k, lambda s: vote(s, lambda x: x[2])))
    assert replay.plain(k).mean() == pytest.approx(replay.consensus(k)) == pytest.approx(brute(samples, k, vote))


@settings(max_examples=40, deadline=None)
@given(drawn, st.data())
def test_rerank_and_the_vote_of_the_best_equal_brute_force(samples: list[Sample], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    m = data.draw(st.integers(1, k))
    replay = in_every_order(samples)
    scores = replay.samples.scores["s"]

    def best(order: Sequence[Sample]) -> list[Sample]:
        return sorted((sample for sample in order if sample[0] is not None), key=lambda sample: -sample[2])

    assert top_vote(replay, k, scores, m).mean() == pytest.approx(brute(samples, k, lambda s: vote(best(s)[:m])))
    assert best_of(replay, k, scores) == pytest.approx(brute(samples, k, lambda s: vote(best(s)[:1])))


@settings(max_examples=25, deadline=None)
@given(drawn.filter(lambda samples: len(samples) > 2), st.data())
def test_the_adaptive_vote_equals_brute_force_in_accuracy_and_in_samples(
    samples: list[Sample], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(samples)))

    def stop(order: Sequence[Sample]) -> int:
        for stop in waves(k):
            keys = [key for key, _, _ in order[:stop] if key is not None]
            votes = sorted((keys.count(key) for key in set(keys)), reverse=True) + [0, 0]
            if stop == k or leader_is_safe(votes[0], votes[1]):
                return stop
        raise AssertionError

    played = adaptive_vote(in_every_order(samples), k)
    assert played.used is not None
    assert played.used.mean() == pytest.approx(brute(samples, len(samples), stop))
    assert played.rates.mean() == pytest.approx(brute(samples, len(samples), lambda s: vote(s[: stop(s)])))


def test_an_adaptive_vote_stops_early_where_samples_agree_and_never_passes_k() -> None:
    agreed = adaptive_vote(Replay(table([("a", True, 0.5)] * 100)), 100)
    assert agreed.used is not None and set(agreed.used) == {4} and set(agreed.rates) == {1.0}
    split = adaptive_vote(Replay(table([("a", True, 0.5), ("b", False, 0.5)] * 50)), 100)
    assert split.used is not None and split.used.mean() > 30 and split.used.max() == 100


def test_waves_grow_and_end_at_k() -> None:
    assert waves(1) == [1] and waves(4) == [4] and waves(20) == [4, 6, 9, 14, 20]
    assert leader_is_safe(4, 0) and not leader_is_safe(3, 0) and not leader_is_safe(0, 0) and leader_is_safe(600, 500)


def test_the_same_bank_gives_the_same_numbers_and_other_problems_other_orders() -> None:
    samples = [("a", True, 0.3), ("b", False, 0.6), ("c", False, 0.5)] * 5
    first, again, other = (Replay(table(samples, name)) for name in ("p", "p", "q"))
    np.testing.assert_array_equal(first.orders, again.orders)
    assert (first.orders != other.orders).any()
    assert sorted(first.orders[0]) == list(range(15))


@pytest.mark.parametrize("samples", [[(None, False, 0.5)] * 6, [("a", False, 0.5), ("b", False, 0.2)] * 3])
def test_a_problem_without_a_right_or_any_answer_is_an_honest_zero(samples: list[Sample]) -> None:
    replay = Replay(table(samples, mean_logprob=np.full(6, np.nan if samples[0][0] is None else -1.0)))
    for rule in (PLAIN | CONFIDENT | SCORED | ADAPTIVE).values():
        for k in (1, 3, 6):
            assert rule(replay, k, replay.samples.scores["s"]).rates.tolist() in ([0.0], [0.0] * replay.draws)


def test_ties_of_sums_in_another_order_are_ties() -> None:
    classes = np.array([[0, 1, 0, 1, 0, 1]])
    weights = np.array([[0.1, 0.3, 0.2, 0.2, 0.3, 0.1]])
    assert vote_shares(classes, np.array([[True, False] * 3]), weights).tolist() == [0.5]


def test_the_best_few_are_the_square_root() -> None:
    assert [top_m(k) for k in (1, 2, 4, 64, 1000)] == [1, 1, 2, 8, 32]
