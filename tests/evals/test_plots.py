"""Pictures stay readable on short axes and with many lines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_accuracy_at_compute import FREE, FULL, tables

from ponder.evals import plots
from ponder.evals.accuracy_at_compute import accuracy_at_compute
from ponder.evals.axes import spaced, svg
from ponder.evals.results import BudgetPoint, CheckpointResult, Curves, Flops, VoteCurve, VotePoint
from ponder.evals.stats import Estimate
from ponder.types import SamplingParams

pytestmark = pytest.mark.slow


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05)


def curves_of(test: list[VoteCurve], budgets: list[BudgetPoint], checkpoints: list[CheckpointResult]) -> Curves:
    return Curves(task="t", split="test", seed=0, params=SamplingParams(), grader="g", num_problems=9, revision="",
                  machine={}, k=4, test=tuple(test), budgets=tuple(budgets),
                  checkpoints=tuple(checkpoints))  # fmt: skip


def vote_point(k: int, flops: float, tokens: float, cons: float, best: float) -> VotePoint:
    return VotePoint(k=k, flops=flops, tokens=tokens, cons_at_k=estimate(cons), pass_at_k=estimate(best))


@given(st.lists(st.floats(-50, 150), max_size=8), st.floats(0.5, 30))
def test_names_stand_apart_and_as_near_to_their_lines_as_that_allows(wanted, gap):
    wanted = sorted(wanted)
    found = spaced(wanted, gap)
    assert len(found) == len(wanted)
    assert all(b - a > gap - 1e-6 for a, b in itertools.pairwise(found))
    assert sum(found) == pytest.approx(sum(wanted), abs=1e-6)  # none is pushed aside for another
    apart = all(b - a >= gap for a, b in itertools.pairwise(wanted))
    assert not apart or found == pytest.approx(wanted)


def curves(cheapest: float, factor: float, count: int) -> Curves:
    costs = [cheapest * factor ** (i / max(1, count - 1)) for i in range(count)]
    points = tuple(vote_point(i + 1, cost, cost, 0.3 + 0.01 * i, 0.5) for i, cost in enumerate(costs))
    return curves_of([VoteCurve(role="final", step=80, points=points)], [], [])


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 3.5, 9.0, 70.0, 1e4, 1e9])
@pytest.mark.parametrize("cheapest", [4.1e9, 9.7e10, 3.0])
def test_labels_of_a_log_axis_never_overlap_and_there_is_at_least_one(cheapest: float, factor: float) -> None:
    drawing = plots.test_compute(curves(cheapest, factor, 6))
    drawing.canvas.draw()
    [ax] = drawing.axes
    left, right = ax.get_xlim()
    labels = [
        tick.label1.get_window_extent()
        for tick in [*ax.xaxis.get_major_ticks(), *ax.xaxis.get_minor_ticks()]
        if tick.label1.get_text() and left <= tick.get_loc() <= right
    ]
    labels.sort(key=lambda box: box.x0)
    assert len(labels) >= 1
    assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(labels))


def test_every_strategy_has_its_line_and_its_name() -> None:
    found = accuracy_at_compute(tables(), {"s": FULL}, per_token=(100.0, 0.0))
    drawing = plots.strategies(found)
    texts = {text.get_text() for text in drawing.axes[0].texts}
    assert {"pass@k", "consensus", "rerank (s)", "weighted vote (s)", "adaptive consensus"} <= texts
    assert len(drawing.axes[0].lines) == len(found.rows)
    assert "<svg" in svg(plots.strategies(accuracy_at_compute(tables(), {"s": FREE})), "strategies")


def run_of(*, votes: int, lengths: tuple[float, ...], skill: tuple[float, float, float], caps: int) -> Curves:
    """Curves of a run as `ponder scale` writes them: three checkpoints that vote, and caps on reasoning."""
    test, checkpoints = [], []
    for (role, step), length, share in zip((("base", 0), ("middle", 30), ("final", 60)), lengths, skill, strict=True):
        points = tuple(
            vote_point(k, 3e6 * (20 + k * length), 20 + k * length, min(0.95, share + 0.02 * i), 0.9)
            for i, k in enumerate(2**j for j in range(votes))
        )
        test.append(VoteCurve(role=role, step=step, points=points))
        checkpoints.append(CheckpointResult(
            step=step, train_flops=1e12 * step, pass_at={1: estimate(share)}, cons_at={4: estimate(share)},
            num_samples=4, num_problems=9, flops=Flops(), no_answer_rate=0, truncated_rate=0, undecided_rate=0,
            folder="", role=role, reasoning_per_sample=length,
        ))  # fmt: skip
    budgets = [
        BudgetPoint(max_reasoning_tokens=256 >> i, flops=3e6 * size, tokens=size, folder="", truncated_rate=0,
                    reasoning_per_sample=size, pass_at={1: estimate(max(0.05, skill[2] - 0.1 * i))})
        for i in range(caps) for size in [20 + lengths[2] / 1.2**i]
    ]  # fmt: skip
    return curves_of(test, budgets, checkpoints)


RUNS = {
    "votes of 64": run_of(votes=7, lengths=(30, 60, 80), skill=(0.2, 0.5, 0.72), caps=4),
    "all alike": run_of(votes=7, lengths=(80, 80, 80), skill=(0.7, 0.7, 0.7), caps=4),
    "one sample": run_of(votes=1, lengths=(10, 60, 80), skill=(0.2, 0.5, 0.7), caps=3),
    "two samples, no caps": run_of(votes=2, lengths=(80, 40, 20), skill=(0.1, 0.12, 0.14), caps=1),
    "the base thinks longest": run_of(votes=5, lengths=(200, 60, 20), skill=(0.75, 0.72, 0.7), caps=4),
    "nothing is right": run_of(votes=4, lengths=(20, 30, 40), skill=(0.05, 0.05, 0.05), caps=4),
    "everything is": run_of(votes=4, lengths=(20, 30, 40), skill=(0.95, 0.95, 0.95), caps=4),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("picture", [plots.test_compute, plots.train_compute])
def test_no_two_texts_of_a_picture_overlap(name: str, picture: Any) -> None:
    drawing = picture(RUNS[name])
    drawing.canvas.draw()
    [ax] = drawing.axes
    texts = [text for text in (*ax.texts, ax.title, ax._left_title) if text.get_visible() and text.get_text()]
    legend = ax.get_legend()
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    boxes |= {"the legend": legend.get_window_extent()} if legend else {}
    overlaps = [(a, b) for (a, x), (b, y) in itertools.combinations(boxes.items(), 2) if x.overlaps(y)]
    assert overlaps == []
    outside = [name for name, box in boxes.items() if box.x1 > drawing.bbox.x1 + 1 or box.x0 < -1]
    assert outside == []
