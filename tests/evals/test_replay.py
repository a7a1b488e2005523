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
    top_m,
    top_vote,
    vote_shares,
    weighted_vote,
)
from ponder.strategies import select
from ponder.strategies.sampling import vote_weights
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
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans(), st.sampled_from([0.123, 0.271, 0.389, 0.777])),
    min_size=1, max_size=5,
).map(lambda samples: [(key, right and key is not None, score) for key, right, score in samples])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(drawn, st.data())
def test_votes_equal_brute_force_over_all_subsets(samples: list[Sample], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    replay = in_every_order(samples)
    scores = replay.samples.scores["s"]
    weighted = brute(samples, k, lambda s: vote(s, lambda sample: sample[2]))
    assert weighted_vote(replay, k, scores).mean() == pytest.approx(weighted)
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

    def first_of_the_largest(ranked: list[Sample]) -> float:
        keys = [key for key, _, _ in ranked]
        return vote([sample for sample in ranked if sample[0] == max(keys, key=keys.count)])

    of_the_best = brute(samples, k, lambda s: first_of_the_largest(best(s)[:m]) if best(s) else 0.0)
    assert top_vote(replay, k, scores, m).mean() == pytest.approx(of_the_best)
    assert best_of(replay, k, scores) == pytest.approx(brute(samples, k, lambda s: vote(best(s)[:1])))


@settings(max_examples=40, deadline=None)
@given(drawn, st.data())
def test_replay_and_live_selection_agree_on_average_over_all_orders(samples: list[Sample], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    m = data.draw(st.integers(1, k))
    replay = in_every_order(samples)
    scores, classes = replay.samples.scores["s"], replay.samples.classes
    right = [float(y) for y in replay.samples.correct]
    # a class may be partly right here, and the live strategies show one sample of it: then they need not agree
    for key in set(classes.tolist()):
        members = [place for place in range(len(samples)) if classes[place] == key]
        for place in members:
            right[place] = right[members[0]]
    replay = in_every_order([(key, bool(y), score) for (key, _, score), y in zip(samples, right, strict=True)])

    def live(choose: Callable[[Any, Any], int]) -> float:
        firsts = [order[:k] for order in replay.orders]
        return float(np.mean([right[first[choose(classes[first], scores[first])]] for first in firsts]))

    assert live(lambda c, s: select.vote(c)) == pytest.approx(replay.consensus(k))
    assert live(select.weighted_vote) == pytest.approx(weighted_vote(replay, k, scores).mean())
    assert live(lambda c, s: select.best_of(s, c)) == pytest.approx(best_of(replay, k, scores))
    assert live(lambda c, s: select.rerank_vote(c, s, m)) == pytest.approx(top_vote(replay, k, scores, m).mean())
    np.testing.assert_array_equal(adaptive_vote(replay, k).used, select.stops_at(replay.classes[:, :k]))


@settings(max_examples=40, deadline=None)
@given(drawn, st.sampled_from([(1.0, 0.0), (1.0, -0.5), (-3.0, -0.1), (5.0, 0.0)]), st.data())
def test_votes_by_confidence_and_by_any_scores_weigh_as_the_live_ones(
    samples: list[Sample], scale: tuple[float, float], data: st.DataObject
) -> None:
    """The live ones know only the k samples that were drawn: also which of them are the more confident half."""
    k = data.draw(st.integers(1, len(samples)))
    of_class = {key: right for key, right, _ in samples}
    replay = in_every_order(  # no two scores are the same: which of equal classes wins is another question
        [(key, of_class[key], scale[0] * (score + 0.011 * i) + scale[1]) for i, (key, _, score) in enumerate(samples)]
    )
    stored = replay.samples
    classes, scores, logprobs = stored.classes, stored.scores["s"], stored.mean_logprob

    def shown(weigh: Callable[[Any], Any], values: Any) -> float:
        firsts = [order[:k] for order in replay.orders]
        chosen = [first[select.weighted_vote(classes[first], weigh(values[first]))] for first in firsts]
        return float(np.mean(stored.correct[chosen]))

    by_score = shown(lambda values: vote_weights(values, has_scorer=True), scores)
    by_confidence = shown(lambda values: select.confidence(values, keep=select.KEEP), logprobs)
    assert SCORED["weighted vote"](replay, k, scores).rates.mean() == pytest.approx(by_score)
    assert CONFIDENT["confidence-weighted vote"](replay, k, scores).rates.mean() == pytest.approx(by_confidence)


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.5, 0.3, 0.2], [0.35, 0.33, 0.32], [0.02] * 50])
def test_the_adaptive_vote_stops_where_the_live_one_does(shares: list[float]) -> None:
    rng = np.random.default_rng(0)
    keys = rng.choice(len(shares), 120, p=np.array(shares) / sum(shares))
    replay = Replay(table([(None if i % 9 == 0 else str(key), key == 0, 0.5) for i, key in enumerate(keys)]), draws=30)
    for k in (1, 3, 4, 30, 120):
        played = adaptive_vote(replay, k)
        assert played.used is not None
        np.testing.assert_array_equal(played.used, select.stops_at(replay.classes[:, :k]))
        for rate, used, order in zip(played.rates, played.used, replay.orders, strict=True):
            assert rate == pytest.approx(vote([sample_of(replay, place) for place in order[:used]]))


def sample_of(replay: Replay, place: int) -> Sample:
    key = int(replay.samples.classes[place])
    return (None if key < 0 else str(key), bool(replay.samples.correct[place]), 0.0)


def test_an_adaptive_vote_stops_early_where_samples_agree_and_never_passes_k() -> None:
    agreed = adaptive_vote(Replay(table([("a", True, 0.5)] * 100)), 100)
    assert agreed.used is not None and agreed.used.max() < 30 and set(agreed.rates) == {1.0}
    split = adaptive_vote(Replay(table([("a", True, 0.5), ("b", False, 0.5)] * 50)), 100)
    assert split.used is not None and split.used.mean() > 60 and split.used.max() <= 100


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
