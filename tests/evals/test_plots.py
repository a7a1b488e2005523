"""Pictures stay readable on short axes and with many lines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from test_spending import FREE, FULL, tables

from ponder.evals import plots
from ponder.evals.spending import play


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
