"""Pictures stay readable on short axes and with many lines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from test_spending import FREE, FULL, tables

from ponder.evals import plots
from ponder.evals.spending import play

pytestmark = pytest.mark.slow


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def curves(cheapest: float, factor: float, count: int) -> dict[str, Any]:
    costs = [cheapest * factor ** (i / max(1, count - 1)) for i in range(count)]
    points = [
        {"k": i + 1, "flops": cost, "tokens": cost, "cons": estimate(0.3 + 0.01 * i), "pass": estimate(0.5)}
        for i, cost in enumerate(costs)
    ]
    return {"test": [{"role": "final", "step": 80, "points": points}], "budgets": [], "k": 4, "rungs": []}


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
    spent = play(tables(), {"s": FULL}, per_token=(100.0, 0.0))
    drawing = plots.strategies(spent)
    texts = {text.get_text() for text in drawing.axes[0].texts}
    assert {"pass@k", "consensus", "rerank (s)", "weighted vote (s)", "adaptive consensus"} <= texts
    assert len(drawing.axes[0].lines) == len(spent["rows"])
    assert "<svg" in plots.svg(plots.strategies(play(tables(), {"s": FREE})), "strategies")


def ladder(*, votes: int, lengths: tuple[float, ...], skill: tuple[float, float, float], caps: int) -> dict[str, Any]:
    """Curves of a run as `ponder scale` writes them: three checkpoints that vote, and caps on reasoning."""
    test, rungs = [], []
    for (role, step), length, share in zip((("base", 0), ("middle", 30), ("final", 60)), lengths, skill, strict=True):
        points = [
            {"k": k, "flops": 3e6 * (20 + k * length), "tokens": 20 + k * length,
             "cons": estimate(min(0.95, share + 0.02 * i)), "pass": estimate(0.9)}
            for i, k in enumerate(2**j for j in range(votes))
        ]  # fmt: skip
        test.append({"role": role, "step": step, "points": points})
        rungs.append({"step": step, "train_flops": 1e12 * step, "pass@1": estimate(share), "cons@4": estimate(share)})
    budgets = [
        {"max_reasoning_tokens": 256 >> i, "flops": 3e6 * size, "tokens": size,
         "pass@1": estimate(max(0.05, skill[2] - 0.1 * i))}
        for i in range(caps) for size in [20 + lengths[2] / 1.2**i]
    ]  # fmt: skip
    return {"test": test, "budgets": budgets, "k": 4, "rungs": rungs}


LADDERS = {
    "votes of 64": ladder(votes=7, lengths=(30, 60, 80), skill=(0.2, 0.5, 0.72), caps=4),
    "all alike": ladder(votes=7, lengths=(80, 80, 80), skill=(0.7, 0.7, 0.7), caps=4),
    "one sample": ladder(votes=1, lengths=(10, 60, 80), skill=(0.2, 0.5, 0.7), caps=3),
    "two samples, no caps": ladder(votes=2, lengths=(80, 40, 20), skill=(0.1, 0.12, 0.14), caps=1),
    "the base thinks longest": ladder(votes=5, lengths=(200, 60, 20), skill=(0.75, 0.72, 0.7), caps=4),
    "nothing is right": ladder(votes=4, lengths=(20, 30, 40), skill=(0.05, 0.05, 0.05), caps=4),
    "everything is": ladder(votes=4, lengths=(20, 30, 40), skill=(0.95, 0.95, 0.95), caps=4),
}


@pytest.mark.parametrize("name", LADDERS)
@pytest.mark.parametrize("picture", [plots.test_compute, plots.train_compute])
def test_no_two_texts_of_a_picture_overlap(name: str, picture: Any) -> None:
    drawing = picture(LADDERS[name])
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
