"""The closed forms equal the average over all subsets; the intervals cover what they claim."""

import itertools
import math
import time
from collections import Counter
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.evals.stats import (
    cons_at,
    in_percent,
    interval,
    paired_difference,
    pass_at,
    powers_up_to,
    sampling_sd,
)
from ponder.scorers.calibration import rerank_at


def vote(samples: list[tuple[str | None, int]]) -> float:
    """The expected correctness of a vote, ties shared, the answer shown a random one of the winning class."""
    votes = Counter(label for label, _ in samples if label is not None)
    if not votes:
        return 0.0
    winners = [label for label, count in votes.items() if count == max(votes.values())]
    rights = [[y for label, y in samples if label == winner] for winner in winners]
    return sum(sum(right) / len(right) for right in rights) / len(winners)


def brute(samples: list, k: int, value) -> float:  # type: ignore[no-untyped-def,type-arg]
    subsets = list(itertools.combinations(samples, k))
    return sum(value(list(subset)) for subset in subsets) / len(subsets)


banks = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.integers(0, 1)), min_size=1, max_size=8)


def cons_of(samples: list[tuple[str | None, int]], k: int) -> float:
    labels = sorted({label for label, _ in samples if label is not None})
    counts = [sum(label == other for other, _ in samples) for label in labels]
    correct = [sum(y for other, y in samples if label == other) for label in labels]
    return cons_at(counts, correct, k, blank=len(samples) - sum(counts))


@settings(max_examples=60, deadline=None)
@given(banks, st.data())
def test_consensus_equals_the_average_over_all_subsets(
    samples: list[tuple[str | None, int]], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(samples)))
    assert cons_of(samples, k) == pytest.approx(brute(samples, k, vote), abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(banks, st.data())
def test_consensus_equals_first_seen_wins_over_all_orders(
    samples: list[tuple[str | None, int]], data: st.DataObject
) -> None:
    samples = samples[:5]
    k = data.draw(st.integers(1, len(samples)))

    def first_seen(order: tuple[tuple[str | None, int], ...]) -> int:
        votes = Counter(label for label, _ in order if label is not None)  # most_common keeps the order of insertion
        winner = votes.most_common(1)[0][0] if votes else None
        return next((y for label, y in order if label is not None and label == winner), 0)

    orders = list(itertools.permutations(samples, k))
    assert cons_of(samples, k) == pytest.approx(sum(map(first_seen, orders)) / len(orders), abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=9), st.data())
def test_pass_equals_the_average_over_all_subsets(correct: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(correct)))
    assert pass_at(len(correct), sum(correct), k) == pytest.approx(brute(correct, k, max), abs=1e-12)


def slow_consensus(counts: list[int], correct: list[int], k: int, blank: int) -> float:
    """The same with whole numbers only: ways to draw, by class."""
    total = 0.0
    for place, good in enumerate(correct):
        for m in range(1, min(counts[place], k) + 1):
            ways = {(j, 0): math.comb(blank, j) for j in range(blank + 1)}  # (drawn, classes tied at m)
            for other, count in enumerate(counts):
                if other != place:
                    grown: Counter[tuple[int, int]] = Counter()
                    for (drawn, ties), number in ways.items():
                        for j in range(min(count, m) + 1):
                            grown[drawn + j, ties + (j == m)] += number * math.comb(count, j)
                    ways = grown
            won = sum(Fraction(number, ties + 1) for (drawn, ties), number in ways.items() if drawn == k - m)
            total += good / counts[place] * float(math.comb(counts[place], m) * won / math.comb(sum(counts) + blank, k))
    return total


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=7), st.integers(0, 9), st.data())
def test_consensus_equals_counting_with_whole_numbers(counts: list[int], blank: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, sum(counts) + blank))
    correct = [data.draw(st.integers(0, count)) for count in counts]
    slow = slow_consensus(counts, correct, k, blank)
    assert cons_at(counts, correct, k, blank=blank) == pytest.approx(slow, abs=1e-11)


@pytest.mark.parametrize("k", [1, 7, 64, 300, 999, 1000])
def test_consensus_of_a_thousand_samples_gives_all_classes_together_one(k: int) -> None:
    for counts, blank in (([400, 350, 150, 60, 30, 10], 0), ([1] * 1000, 0), ([20] * 46 + [80], 0), ([3] * 300, 100)):
        everything = cons_at(counts, counts, k, blank=blank)
        assert everything == pytest.approx(1.0 if blank < k else everything, abs=1e-11)
        first = cons_at(counts, [counts[0], *[0] * (len(counts) - 1)], k, blank=blank)
        assert 0 <= first <= everything + 1e-12
        if len(set(counts)) == 1:
            assert first == pytest.approx(everything / len(counts), rel=1e-9)


def test_at_k_1_every_metric_is_the_share_of_correct_samples() -> None:
    assert pass_at(1000, 130, 1) == pytest.approx(0.13)
    assert cons_at([400, 130, 70], [0, 130, 0], 1, blank=400) == pytest.approx(0.13)
    assert rerank_at([1] * 130 + [0] * 870, [0.0] * 1000, 1) == pytest.approx(0.13)


def test_samples_without_an_answer_take_draws_but_never_win() -> None:
    assert cons_at([1], [1], 9, blank=8) == pytest.approx(1.0)
    assert cons_at([1], [1], 3, blank=8) == pytest.approx(3 / 9)
    assert cons_at([], [], 2, blank=3) == 0.0


def test_more_samples_than_there_are_is_an_error_that_says_so() -> None:
    for call in (lambda: pass_at(4, 1, 8), lambda: cons_at([4], [4], 8), lambda: rerank_at([1], [1.0], 2)):
        with pytest.raises(ValueError, match="draw more, or lower k"):
            call()
    with pytest.raises(ValueError):
        pass_at(4, 1, 0)


def test_a_thousand_samples_keep_their_digits() -> None:
    from fractions import Fraction

    counts, k = [300, 280, 200] + [25] * 2, 64
    exact = exact_consensus(counts, 1, k, blank=170)
    correct = [0, 280, 0, 0, 0]
    assert cons_at(counts, correct, k, blank=170) == pytest.approx(float(exact), rel=1e-9)
    assert pass_at(1000, 1, 64) == float(Fraction(64, 1000))
    everything = [cons_at([c], [c], k, blank=1000 - c) for c in (1, 500, 999) for k in (1, 500, 999, 1000)]
    assert all(0 <= value <= 1 for value in everything)
    assert 0.9999 < cons_at([1200, 800], [1200, 0], 400) < 1


def exact_consensus(counts: list[int], good: int, k: int, blank: int):  # type: ignore[no-untyped-def]
    """The same number by another road: whole numbers, the draw filled class by class."""
    from fractions import Fraction

    total = Fraction(0)
    for m in range(1, min(counts[good], k) + 1):
        ways = {(0, 0): 1}
        for place, count in [*enumerate(counts), (-1, blank)]:
            if place == good:
                continue
            new: dict[tuple[int, int], int] = {}
            top = count if place == -1 else min(count, m)
            for (drawn, ties), way in ways.items():
                for j in range(min(top, k - m - drawn) + 1):
                    key = (drawn + j, ties + (place >= 0 and j == m))
                    new[key] = new.get(key, 0) + way * math.comb(count, j)
            ways = new
        share = sum(Fraction(way, 1 + ties) for (drawn, ties), way in ways.items() if drawn == k - m)
        total += math.comb(counts[good], m) * share
    return total / math.comb(sum(counts) + blank, k)


def test_a_curve_of_64_samples_takes_under_50_ms_a_problem() -> None:
    rng = Random(0)
    worst = 0.0
    for spread in (2, 8, 60):
        counts = list(Counter(min(rng.randrange(spread), rng.randrange(spread)) for _ in range(64)).values())
        correct = [counts[0]] + [0] * (len(counts) - 1)
        times = []
        for _ in range(3):
            start = time.process_time()
            for k in powers_up_to(64):
                cons_at(counts, correct, k)
            times.append(time.process_time() - start)
        worst = max(worst, min(times))
    assert worst < 0.05


def test_the_k_of_a_curve_are_powers_of_two_and_the_last() -> None:
    assert powers_up_to(8) == [1, 2, 4, 8]
    assert powers_up_to(12) == [1, 2, 4, 8, 12]
    assert powers_up_to(1) == [1] and powers_up_to(0) == []


@pytest.mark.parametrize("alpha, beta", [(0.2, 2), (1, 1), (0.3, 0.3), (3, 1)])
@pytest.mark.parametrize("num, n", [(20, 1), (20, 8), (100, 8)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(alpha: float, beta: float, num: int, n: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        rates = rng.binomial(n, rng.beta(alpha, beta, num)) / n
        estimate = interval(list(rates), draws=n)
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= alpha / (alpha + beta) <= estimate.high
    assert covered / 400 >= 0.90


@pytest.mark.parametrize(
    "num, n, rate, alike", [(10, 64, 0.05, 1.5), (48, 64, 0.01, 1.5), (48, 64, 0.02, 0.25), (30, 16, 0.02, 1.5)]
)
def test_a_few_lucky_problems_are_no_proof_that_problems_are_alike(num: int, n: int, rate: float, alike: float) -> None:
    """Rare successes, nearly all of a few problems (rates of a beta distribution, the rarer the less `alike`)."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        estimate = interval(list(rng.binomial(n, rng.beta(rate * alike, (1 - rate) * alike, num)) / n), draws=n)
        covered += estimate.low <= rate <= estimate.high
    assert covered / 400 >= 0.92
    lucky = interval([1 / 64] + [0.0] * 9, draws=64)
    assert lucky.high > 0.15 and interval([1 - 1 / 64] + [1.0] * 9, draws=64).low < 0.85


@pytest.mark.parametrize("num, n", [(20, 1), (20, 8), (100, 1), (100, 8)])
@pytest.mark.parametrize("gain", [0.0, 0.05, 0.3])
def test_paired_intervals_cover_the_truth_and_use_the_pairing(num: int, n: int, gain: float) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        base = rng.beta(0.5, 0.5, num) * (1 - gain)
        first, second = rng.binomial(n, base) / n, rng.binomial(n, base + gain) / n
        estimate = paired_difference(list(first), list(second))
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= gain <= estimate.high
    assert covered / 300 >= 0.92


def test_nothing_right_is_not_certainly_zero() -> None:
    assert interval([0.0] * 20, draws=4).low == 0 and 0.1 < interval([0.0] * 20, draws=4).high < 0.25
    assert interval([1.0] * 20).high == 1 and interval([1.0] * 20).low < 0.9
    assert interval([0.5]).low == 0 and interval([0.5]).high == 1
    assert interval([0.5] * 10, draws=8).low < 0.45
    assert math.isnan(interval([]).value)
    same = paired_difference([0.5] * 5, [0.5] * 5)
    assert same.value == 0 and same.low < -0.1
    lucky = paired_difference([0.0] * 10, [1 / 64] + [0.0] * 9)
    assert lucky.low < -0.1 and lucky.high > 0.1


def test_rounding_makes_nothing_of_all_right_but_all_right() -> None:
    for n, k in [(64, 2), (64, 8), (24, 4), (1000, 32)]:
        rate = rerank_at([1] * n, np.arange(n), k)
        assert rate == 1
        assert interval([rate] * 10, draws=n // k) == interval([1.0] * 10)
    assert interval([1 - 2e-16] * 10, draws=12) == interval([1.0] * 10)
    assert interval([2e-16] * 10, draws=12) == interval([0.0] * 10)


def test_rounding_is_no_difference_and_gives_no_certainty() -> None:
    same = paired_difference([0.0, 1.0, 1.0] * 8, [1e-17, 1.0, 1.0 - 1e-16] * 8)
    assert same.value == 0 and same.low < -0.05 and same.high > 0.05


def test_pairing_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([1.0], [1.0, 0.0])


def test_sampling_noise_of_pass_at_1_is_the_binomial_one() -> None:
    n, c = 16, 4
    noise = sampling_sd(lambda kinds: pass_at(sum(kinds), kinds[0], 1), [c, n - c])
    assert noise == pytest.approx(math.sqrt(c / n * (1 - c / n) / (n - 1)))


def test_sampling_noise_of_a_vote_agrees_with_drawing_again() -> None:
    rng = np.random.default_rng(0)
    truth, k, n = np.array([0.5, 0.35, 0.15]), 4, 40
    drawn = [rng.multinomial(n, truth) for _ in range(300)]
    spread = np.std([cons_at(list(map(int, d)), [int(d[0]), 0, 0], k) for d in drawn])
    metric = lambda kinds: cons_at(kinds, [kinds[0], 0, 0], k)
    noise = np.mean([sampling_sd(metric, list(map(int, d))) for d in drawn[:40]])
    assert noise == pytest.approx(spread, rel=0.2)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=9), st.integers(0, 30))
def test_a_vote_of_one_is_one_sample_to_the_last_digit(classes: list[tuple[int, bool]], blank: int) -> None:
    counts = [size for size, _ in classes]
    correct = [size if right else 0 for size, right in classes]
    n = sum(counts) + blank
    assert cons_at(counts, correct, 1, blank=blank) == pass_at(n, sum(correct), 1)


def test_two_numbers_that_are_the_same_are_shown_the_same() -> None:
    assert in_percent(0.5625) == in_percent(0.5625 - 1e-14) == in_percent(0.5625 + 1e-14) == "56.3"
    assert in_percent(0.17630208333333333) == in_percent(0.17630208333332656)
    assert [in_percent(x, sign="+") for x in (0.104, -0.0312, 0.0)] == ["+10.4", "-3.1", "+0.0"]
    assert in_percent(float("nan")) == "nan" and in_percent(1.0, 0) == "100"
