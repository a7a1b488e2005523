"""The pictures of a report: each function takes results (results.py) and returns a Figure, drawn with axes.py."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ponder.evals.axes import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    annotate,
    bounds_of,
    break_axis,
    curve,
    error_bar,
    figure,
    label_ends,
    log_ticks,
    percent_axis,
    titled,
    untangle,
    whole_percent,
)
from ponder.evals.logs import LoggedMetric
from ponder.evals.results import Accuracy, AccuracyAtCompute, BudgetPoint, CheckpointResult, Curves, VotePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = {"base": (FAINT, "o"), "middle": (ORANGE, "s"), "final": (BLUE, "D")}
WAYS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, FAINT)
STRATEGIES = {
    "consensus": (VERMILLION, "s"), "adaptive consensus": (ORANGE, "D"), "rerank": (BLUE, "o"),
    "weighted vote": (GREEN, "^"), "vote of the best": (PURPLE, "v"), "most confident": (SKY, "P"),
    "confidence-weighted vote": (INK, "X"),
}  # fmt: skip
BOUNDS = ("pass@k",)  # rows of a table of strategies that no strategy reaches


def train_compute(curves: Curves) -> Figure:
    """Accuracy against cumulative train FLOPs. The base has spent none: it stands left of a break in the log axis."""
    drawing, [ax] = figure()
    checkpoints, k = curves.checkpoints, curves.k
    xs, unspent, has_flops = _train_xs(checkpoints)
    lines = []
    passes, votes = [each.pass_at[1] for each in checkpoints], [each.cons_at[k] for each in checkpoints]
    for metric, ys, color, marker in (("pass@1", passes, BLUE, "o"), (f"cons@{k}", votes, VERMILLION, "s")):
        points = list(zip(xs, ys, strict=True))
        trained = points[unspent:]
        curve(ax, trained, color, marker)
        for point in points[:unspent]:
            error_bar(ax, point, color, marker)
            if trained:  # the way from nothing to the first checkpoint has no place on a log axis
                ends = [point, trained[0]]
                ax.plot([x for x, _ in ends], [100 * y.value for _, y in ends], color=color, lw=1.2, ls=":")
        x, y = points[-1]
        lines.append((y.value, x, f"{metric} {whole_percent(y.value)}", color))
    percent_axis(ax, bounds_of([*passes, *votes]))
    ax.set_xscale("log")
    label_ends(ax, lines)
    if 0 < unspent < len(xs):
        break_axis(ax, xs, unspent)
    else:
        log_ticks(ax, xs)
    _name_steps(ax, xs, checkpoints)
    unit = "train-time compute (FLOPs, log scale)" if has_flops else "training step (log scale)"
    titled(ax, "Accuracy against train-time compute", unit, "accuracy (%)")
    return drawing


def test_compute(curves: Curves) -> Figure:
    """Accuracy against test-time compute: votes of 1, 2, 4, ... samples, and one sample with less room to reason."""
    drawing, [ax] = figure()
    has_flops = all(p.flops is not None for line in curves.test for p in line.points)

    def cost(point: VotePoint | BudgetPoint) -> float:
        return point.flops if has_flops and point.flops is not None else point.tokens

    lines, found, notes = [], [], []
    for line in curves.test:
        color, marker = ROLES[line.role]
        points = [(cost(p), p.cons_at_k) for p in line.points]
        curve(ax, points, color, marker)
        max_k = line.points[-1].k
        has_votes = line.role == "final" and max_k > 1
        name = f"{line.role} (step {line.step})" + (f", k={max_k}" if has_votes else "")
        lines.append((points[-1][1].value, name, color))
        found += points
        if has_votes:
            notes.append(annotate(ax, points[0][0], points[0][1].value, "k=1", BLUE, (0, 10), "center"))
    budgets = sorted(curves.budgets, key=lambda row: row.max_reasoning_tokens)
    if len(budgets) > 1:
        points = [(cost(row), row.pass_at[1]) for row in budgets]
        curve(ax, points, GREEN, "^", style="--")
        found += points
        for i, (x, y) in enumerate(points[:-1]):  # the last one is k=1 of the final checkpoint
            cap = str(budgets[i].max_reasoning_tokens)
            notes.append(annotate(ax, x, y.value, f"cap {cap}" if i == 0 else cap, GREEN, (8, -8), "left"))
    percent_axis(ax, bounds_of([y for _, y in found]))
    ax.set_xscale("log")
    xs = [cost(p) for line in curves.test for p in line.points] + [cost(row) for row in budgets]
    log_ticks(ax, xs)
    label_ends(ax, [(share, max(xs), name, color) for share, name, color in lines])
    handles = [
        ax.plot([], [], color=FAINT, marker="D", ms=5, label="consensus of k = 1, 2, 4, … samples")[0],
        ax.plot([], [], color=GREEN, marker="^", ms=5, ls="--", label="one sample, reasoning capped (final)")[0],
    ]
    legend = ax.legend(handles=handles[: 2 if len(budgets) > 1 else 1], frameon=False, fontsize=8.5, loc="best")
    for text in legend.get_texts():
        text.set_color(INK)
    unit = "test-time compute (FLOPs a problem, log scale)" if has_flops else "tokens a problem (log scale)"
    titled(ax, "Accuracy against test-time compute", unit, "accuracy (%)")
    untangle(ax, notes)
    return drawing


def strategies(found: AccuracyAtCompute) -> Figure:
    """Accuracy against test-time compute of every strategy that only selects; a perfect judge's bound is dotted."""
    drawing, [ax] = figure(8.6, 5.4)
    lines, bounds, xs = [], [], []
    scorers = [None, *found.scorers]
    for row in found.rows:
        if not row.points:
            continue
        color, marker = STRATEGIES.get(row.strategy, (FAINT, "."))
        style = ("-", "--", "-.", ":")[max(0, scorers.index(row.scorer) - 1) % 4]  # a scorer has its own dashes
        points = [(p.cost(found.unit), p.accuracy) for p in row.points]
        name = row.strategy + (f" ({row.scorer})" if row.scorer else "")
        if row.strategy in BOUNDS:
            ax.plot([x for x, _ in points], [100 * y.value for _, y in points], color=color, lw=1.2, ls=":")
            bounds += [y.value for _, y in points]
        else:
            curve(ax, points, color, marker, style=style, alpha=0.07)
            bounds += bounds_of([y for _, y in points])
        lines.append((points[-1][1].value, name, color))
        xs += [x for x, _ in points]
    percent_axis(ax, bounds)
    ax.set_xscale("log")
    log_ticks(ax, xs)
    label_ends(ax, [(share, max(xs), text, color) for share, text, color in lines])
    unit = "FLOPs" if found.unit == "flops" else "tokens"
    titled(ax, "Ways of choosing", f"{unit} a problem, scorer included (log scale)", "accuracy (%)")
    return drawing


def accuracy_by_k(found: Accuracy) -> Figure:
    """pass@k and cons@k of one exam."""
    drawing, [ax] = figure()
    lines = []
    for name, ys, color, marker in (("pass@k", found.pass_at, BLUE, "o"), ("cons@k", found.cons_at, VERMILLION, "s")):
        points = [(float(k), y) for k, y in ys.items()]
        curve(ax, points, color, marker)
        lines.append((points[-1][1].value, points[-1][0], name, color))
    percent_axis(ax, bounds_of([*found.pass_at.values(), *found.cons_at.values()]))
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(found.cons_at), [str(k) for k in found.cons_at])
    label_ends(ax, lines)
    titled(ax, "Accuracy against samples a problem", "k samples (log scale)", "accuracy (%)")
    return drawing


def ways_of_thinking(checkpoints: Sequence[CheckpointResult]) -> Figure:
    """The share of each way of thinking, stacked over the checkpoints."""
    drawing, [ax] = figure()
    names = order_of_ways(checkpoints)
    counted = [(checkpoint.step, checkpoint.ways) for checkpoint in checkpoints if checkpoint.ways]
    steps = [step for step, _ in counted]
    base = [0.0] * len(counted)
    labels = []
    for name, color in zip(names, _cycle(len(names)), strict=True):
        shares = [
            100 * (ways[name].samples if name in ways else 0) / max(1, sum(way.samples for way in ways.values()))
            for _, ways in counted
        ]
        top = [b + share for b, share in zip(base, shares, strict=True)]
        if len(counted) > 1:
            ax.fill_between(steps, base, top, color=color, alpha=0.75, linewidth=0)
        else:
            ax.bar(steps, [t - b for t, b in zip(top, base, strict=True)], bottom=base, color=color, alpha=0.75)
        labels.append(((top[-1] + base[-1]) / 200, steps[-1], f"{name} {top[-1] - base[-1]:.0f}%", color))
        base = top
    ax.set_ylim(0, 100)
    ax.margins(x=0)
    label_ends(ax, labels)
    titled(ax, "Ways of thinking over training", "training step", "share of samples (%)")
    return drawing


def reasoning_length(checkpoints: Sequence[CheckpointResult]) -> Figure:
    """Mean reasoning tokens of a sample at each checkpoint."""
    drawing, [ax] = figure()
    steps, lengths = [each.step for each in checkpoints], [each.reasoning_per_sample for each in checkpoints]
    ax.plot(steps, lengths, color=GREEN, marker="^", ms=5, lw=1.8)
    ax.set_ylim(0, 1.15 * max([1.0, *lengths]))
    annotate(ax, steps[-1], lengths[-1], f"{lengths[-1]:.0f} tokens", GREEN, (9, 0), "left", scale=1.0)
    titled(ax, "Length of reasoning over training", "training step", "reasoning tokens a sample (mean)")
    return drawing


def training(metrics: Sequence[LoggedMetric]) -> Figure:
    """Small pictures of training metrics over steps, with a running mean where steps are many."""
    drawing, axes = figure(10.5, 2.7, len(metrics))
    for ax, metric in zip(axes, metrics, strict=True):
        steps, values = [step for step, _ in metric.points], [value for _, value in metric.points]
        smooth = len(values) > 12
        ax.plot(steps, values, color=BLUE, lw=1.0 if smooth else 1.6, alpha=0.35 if smooth else 1.0)
        if smooth:
            ax.plot(steps, running_mean(values, max(3, len(values) // 12)), color=BLUE, lw=1.8)
        ax.margins(x=0.02)
        ax.set_title(metric.title, color=INK, fontsize=9.5, loc="left", parse_math=False)
        ax.set_xlabel("step", color=INK, fontsize=8.5)
    return drawing


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and up to width - 1 before it."""
    return [sum(window) / len(window) for i in range(len(values)) if (window := values[max(0, i - width + 1) : i + 1])]


def order_of_ways(checkpoints: Sequence[CheckpointResult]) -> list[str]:
    """Ways by how common they are over all checkpoints, the most common first."""
    totals: Counter[str] = Counter()
    for checkpoint in checkpoints:
        for name, way in (checkpoint.ways or {}).items():
            totals[name] += way.samples
    return sorted(totals, key=lambda name: (-totals[name], name))


def _train_xs(checkpoints: Sequence[CheckpointResult]) -> tuple[list[float], int, bool]:
    """The x of each checkpoint, how many of the first have spent nothing, and whether the axis is FLOPs or steps."""
    has_flops = any(checkpoint.train_flops for checkpoint in checkpoints)
    values = [float((checkpoint.train_flops if has_flops else checkpoint.step) or 0) for checkpoint in checkpoints]
    positive = [value for value in values if value > 0]
    if not positive:
        return [1.0 for _ in values], len(values), has_flops
    # a log axis has no 0: the base stands left of the first checkpoint by a fifth of the axis
    span = max(2.0, (max(positive) / min(positive)) ** 0.25)
    xs = [value if value > 0 else min(positive) / span for value in values]
    return xs, len(values) - len(positive), has_flops


def _name_steps(ax: Axes, xs: Sequence[float], checkpoints: Sequence[CheckpointResult]) -> None:
    """The steps of some checkpoints along the top, so that a point can be found in the tables."""
    left, right = math.log(min(xs)), math.log(max(xs))
    last = -math.inf
    for x, checkpoint in zip(xs, checkpoints, strict=True):
        position = (math.log(x) - left) / max(1e-9, right - left)
        if position - last > 0.09:
            ax.annotate(
                f"step {checkpoint.step}" if last < 0 else str(checkpoint.step), (x, 1.0), xytext=(0, 3), color=FAINT,
                xycoords=ax.get_xaxis_transform(), textcoords="offset points", fontsize=7.5, ha="center", va="bottom",
            )  # fmt: skip
            last = position


def _cycle(count: int) -> list[str]:
    return [WAYS[i % len(WAYS)] for i in range(count)]
