"""The pictures of a report: the only file that imports matplotlib (extra `report`).

Each function takes results (results.py) and returns a Figure. Colours are
Okabe and Ito's, told apart by the colour-blind; every line is labelled where it ends and has its own marker; bands are
the 95 % intervals. `themed` swaps the colours for CSS variables: a page shows the same picture on a dark ground.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ponder.evals.logs import Series
from ponder.evals.results import Accuracy, AccuracyAtCompute, BudgetPoint, Curves, Rung, VotePoint
from ponder.evals.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK, FAINT, GRID = "#1b1b1f", "#6b6b76", "#d9d9e0"
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#b0508c", "#56b4e9"
CSS = {
    INK: "currentColor", FAINT: "var(--faint)", GRID: "var(--grid)", BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)", GREEN: "var(--green)", ORANGE: "var(--orange)", PURPLE: "var(--purple)",
    SKY: "var(--sky)",
}  # fmt: skip
ROLES = {"base": (FAINT, "o"), "middle": (ORANGE, "s"), "final": (BLUE, "D")}
WAYS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, FAINT)
STRATEGIES = {
    "consensus": (VERMILLION, "s"), "adaptive consensus": (ORANGE, "D"), "rerank": (BLUE, "o"),
    "weighted vote": (GREEN, "^"), "vote of the best": (PURPLE, "v"), "most confident": (SKY, "P"),
    "confidence-weighted vote": (INK, "X"),
}  # fmt: skip
BOUNDS = ("pass@k",)  # rows of a table of strategies that no strategy reaches
Point = tuple[float, Estimate]


def figure(width: float = 6.6, height: float = 4.4, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side in the house style, drawn without a display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "ponder[report]"') from None
    columns = panels if panels <= 4 else min(4, math.ceil(panels / 2))
    rows = math.ceil(panels / columns)
    drawing = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = [drawing.add_subplot(rows, columns, i + 1) for i in range(panels)]
    for ax in axes:
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_color(FAINT)
        ax.tick_params(colors=INK, which="both", labelsize=9)
        ax.tick_params(which="minor", length=0)
        ax.grid(True, color=GRID, linewidth=0.7)
        ax.set_axisbelow(True)
    return drawing, axes


def titled(ax: Axes, title: str, x: str, y: str) -> None:
    ax.set_title(title, color=INK, fontsize=11.5, fontweight="bold", loc="left", pad=18, parse_math=False)
    ax.set_xlabel(x, color=INK, fontsize=9.5)
    ax.set_ylabel(y, color=INK, fontsize=9.5)


def train_compute(curves: Curves) -> Figure:
    """Accuracy against cumulative train FLOPs. The base has spent none: it stands left of a break in the log axis."""
    drawing, [ax] = figure()
    rungs, k = curves.rungs, curves.k
    xs, unspent, has_flops = _train_xs(rungs)
    lines = []
    passes, votes = [rung.pass_at[1] for rung in rungs], [rung.cons_at[k] for rung in rungs]
    for metric, ys, color, marker in (("pass@1", passes, BLUE, "o"), (f"cons@{k}", votes, VERMILLION, "s")):
        points = list(zip(xs, ys, strict=True))
        trained = points[unspent:]
        _curve(ax, trained, color, marker)
        for point in points[:unspent]:
            _error_bar(ax, point, color, marker)
            if trained:  # the way from nothing to the first rung has no place on a log axis
                ends = [point, trained[0]]
                ax.plot([x for x, _ in ends], [100 * y.value for _, y in ends], color=color, lw=1.2, ls=":")
        x, y = points[-1]
        lines.append((y.value, x, f"{metric} {_percent(y.value)}", color))
    _percent_axis(ax, _ends([*passes, *votes]))
    ax.set_xscale("log")
    _label_ends(ax, lines)
    if 0 < unspent < len(xs):
        _break_axis(ax, xs, unspent)
    else:
        _log_ticks(ax, xs)
    _name_steps(ax, xs, rungs)
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
        _curve(ax, points, color, marker)
        max_k = line.points[-1].k
        has_votes = line.role == "final" and max_k > 1
        name = f"{line.role} (step {line.step})" + (f", k={max_k}" if has_votes else "")
        lines.append((points[-1][1].value, name, color))
        found += points
        if has_votes:
            notes.append(_note(ax, points[0][0], points[0][1].value, "k=1", BLUE, (0, 10), "center"))
    budgets = sorted(curves.budgets, key=lambda row: row.max_reasoning_tokens)
    if len(budgets) > 1:
        points = [(cost(row), row.pass_at[1]) for row in budgets]
        _curve(ax, points, GREEN, "^", style="--")
        found += points
        for i, (x, y) in enumerate(points[:-1]):  # the last one is k=1 of the final rung
            cap = str(budgets[i].max_reasoning_tokens)
            notes.append(_note(ax, x, y.value, f"cap {cap}" if i == 0 else cap, GREEN, (8, -8), "left"))
    _percent_axis(ax, _ends([y for _, y in found]))
    ax.set_xscale("log")
    xs = [cost(p) for line in curves.test for p in line.points] + [cost(row) for row in budgets]
    _log_ticks(ax, xs)
    _label_ends(ax, [(share, max(xs), name, color) for share, name, color in lines])
    handles = [
        ax.plot([], [], color=FAINT, marker="D", ms=5, label="consensus of k = 1, 2, 4, … samples")[0],
        ax.plot([], [], color=GREEN, marker="^", ms=5, ls="--", label="one sample, reasoning capped (final)")[0],
    ]
    legend = ax.legend(handles=handles[: 2 if len(budgets) > 1 else 1], frameon=False, fontsize=8.5, loc="best")
    for text in legend.get_texts():
        text.set_color(INK)
    unit = "test-time compute (FLOPs a problem, log scale)" if has_flops else "tokens a problem (log scale)"
    titled(ax, "Accuracy against test-time compute", unit, "accuracy (%)")
    _untangle(ax, notes)
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
            _curve(ax, points, color, marker, style=style, alpha=0.07)
            bounds += _ends([y for _, y in points])
        lines.append((points[-1][1].value, name, color))
        xs += [x for x, _ in points]
    _percent_axis(ax, bounds)
    ax.set_xscale("log")
    _log_ticks(ax, xs)
    _label_ends(ax, [(share, max(xs), text, color) for share, text, color in lines])
    unit = "FLOPs" if found.unit == "flops" else "tokens"
    titled(ax, "Ways of choosing", f"{unit} a problem, scorer included (log scale)", "accuracy (%)")
    return drawing


def accuracy_by_k(found: Accuracy) -> Figure:
    """pass@k and cons@k of one exam."""
    drawing, [ax] = figure()
    lines = []
    for name, ys, color, marker in (("pass@k", found.pass_at, BLUE, "o"), ("cons@k", found.cons_at, VERMILLION, "s")):
        points = [(float(k), y) for k, y in ys.items()]
        _curve(ax, points, color, marker)
        lines.append((points[-1][1].value, points[-1][0], name, color))
    _percent_axis(ax, _ends([*found.pass_at.values(), *found.cons_at.values()]))
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(found.cons_at), [str(k) for k in found.cons_at])
    _label_ends(ax, lines)
    titled(ax, "Accuracy against samples a problem", "k samples (log scale)", "accuracy (%)")
    return drawing


def ways_of_thinking(rungs: Sequence[Rung]) -> Figure:
    """The share of each way of thinking, stacked over the checkpoints."""
    drawing, [ax] = figure()
    names = order_of_ways(rungs)
    counted = [(rung.step, rung.ways) for rung in rungs if rung.ways]
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
    _label_ends(ax, labels)
    titled(ax, "Ways of thinking over training", "training step", "share of samples (%)")
    return drawing


def reasoning_length(rungs: Sequence[Rung]) -> Figure:
    """Mean reasoning tokens of a sample at each checkpoint."""
    drawing, [ax] = figure()
    steps, lengths = [rung.step for rung in rungs], [rung.reasoning_per_sample for rung in rungs]
    ax.plot(steps, lengths, color=GREEN, marker="^", ms=5, lw=1.8)
    ax.set_ylim(0, 1.15 * max([1.0, *lengths]))
    _note(ax, steps[-1], lengths[-1], f"{lengths[-1]:.0f} tokens", GREEN, (9, 0), "left", scale=1.0)
    titled(ax, "Length of reasoning over training", "training step", "reasoning tokens a sample (mean)")
    return drawing


def training(metrics: Sequence[Series]) -> Figure:
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


def order_of_ways(rungs: Sequence[Rung]) -> list[str]:
    """Ways by how common they are over all rungs, the most common first."""
    totals: Counter[str] = Counter()
    for rung in rungs:
        for name, way in (rung.ways or {}).items():
            totals[name] += way.samples
    return sorted(totals, key=lambda name: (-totals[name], name))


def png(drawing: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=160, facecolor="white")


def svg(drawing: Figure, name: str) -> str:
    """The picture as SVG text: same bytes for the same data, ids of its own, text that stays text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def themed(svg_text: str) -> str:
    """The same SVG with colours from the page's CSS variables."""
    for color, variable in CSS.items():
        svg_text = svg_text.replace(color, variable)
    return svg_text


def _curve(
    ax: Axes, points: Sequence[Point], color: str, marker: str, *, style: str = "-", alpha: float = 0.14
) -> None:
    """A line with markers and its band."""
    if not points:
        return
    xs = [x for x, _ in points]
    if len(points) > 1:
        low, high = [100 * y.low for _, y in points], [100 * y.high for _, y in points]
        ax.fill_between(xs, low, high, color=color, alpha=alpha, linewidth=0)
    else:
        _error_bar(ax, points[0], color, marker)
    ax.plot(xs, [100 * y.value for _, y in points], color=color, marker=marker, ms=5, lw=1.8, ls=style)


def _error_bar(ax: Axes, point: Point, color: str, marker: str) -> None:
    x, y = point
    ax.plot([x, x], [100 * y.low, 100 * y.high], color=color, lw=1.4, alpha=0.6)
    ax.plot([x], [100 * y.value], color=color, marker=marker, ms=5)


def _ends(estimates: Sequence[Estimate]) -> list[float]:
    return [end for estimate in estimates for end in (estimate.low, estimate.high)]


def _percent_axis(ax: Axes, bounds: Sequence[float]) -> None:
    """From 0 to a little above the highest band: accuracy is never drawn on a cut axis."""
    top = max(10.0, 100 * min(1.0, 1.05 * max(bounds, default=1.0)))
    ax.set_ylim(-0.01 * top, 1.06 * top)


def _label_ends(ax: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of lines, pushed apart where they would touch. Lines: share, x, text, colour."""
    low, high = ax.get_ylim()
    gap = min(0.055 * (high - low), (high - low) / max(1, len(lines)))
    ys: list[float] = []
    for share, *_ in sorted(lines):
        ys.append(max(100 * share, ys[-1] + gap if ys else -math.inf))
    limit = high
    for i in reversed(range(len(ys))):  # and down again, where they would leave the picture
        ys[i] = min(ys[i], limit)
        limit = ys[i] - gap
    for y, (_, x, text, color) in zip(ys, sorted(lines), strict=True):
        _note(ax, x, y, text, color, (9, 0), "left", scale=1.0)


def _note(
    ax: Axes, x: float, y: float, text: str, color: str, offset: tuple[int, int], align: str, *, scale: float = 100.0
) -> Annotation:
    """A few words beside a point; y is a share unless scale says otherwise."""
    return ax.annotate(
        (text if len(text) <= 28 else f"{text[:27]}…").replace("$", r"\$"),
        (x, y * scale),
        xytext=offset,
        textcoords="offset points",
        color=color,
        fontsize=8.5,
        fontweight="bold",
        ha=align,
        va="center",
        annotation_clip=False,
    )


def _untangle(ax: Axes, notes: Sequence[Annotation]) -> None:
    """Move notes that would touch another text, above or below their point; one that still does is left out."""
    drawing = ax.get_figure()
    assert drawing is not None
    drawing.draw_without_rendering()  # type: ignore[union-attr]  # texts have their positions only then
    legend = ax.get_legend()
    others = [text for text in ax.texts if text not in notes] + ([legend] if legend else [])
    taken = [other.get_window_extent() for other in others]
    for note in notes:
        aside, beside = note.xyann
        for height in (beside, 10, -13, 22, -25, 34, -37):
            note.xyann = (aside, height)
            box = note.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            note.set_visible(False)


def _train_xs(rungs: Sequence[Rung]) -> tuple[list[float], int, bool]:
    """The x of each rung, how many of the first have spent nothing, and whether the axis is FLOPs or only steps."""
    has_flops = any(rung.train_flops for rung in rungs)
    values = [float((rung.train_flops if has_flops else rung.step) or 0) for rung in rungs]
    positive = [value for value in values if value > 0]
    if not positive:
        return [1.0 for _ in values], len(values), has_flops
    # a log axis has no 0: the base stands left of the first rung by a fifth of the axis
    span = max(2.0, (max(positive) / min(positive)) ** 0.25)
    xs = [value if value > 0 else min(positive) / span for value in values]
    return xs, len(values) - len(positive), has_flops


def _break_axis(ax: Axes, xs: Sequence[float], unspent: int) -> None:
    """Mark the gap between the base, which has spent nothing, and the first point of the log axis."""
    base, first = xs[0], xs[unspent]
    middle = math.sqrt(base * first)
    ax.axvspan(middle / 1.03, middle * 1.03, color=GRID, alpha=0.8, linewidth=0)
    ax.text(
        middle, 0, "//", color=FAINT, fontsize=11, ha="center", va="center", transform=ax.get_xaxis_transform(),
        clip_on=False,
    )  # fmt: skip
    # ticks left of the break would claim FLOPs that nobody spent
    _log_ticks(ax, xs[unspent:], {base: "base\n(0)"})


def _log_ticks(ax: Axes, xs: Sequence[float], more: Mapping[float, str] | None = None) -> None:
    """A few ticks on a log axis, each with its label: the automatic ones overlap where an axis is short."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    low, high = min(xs) * 0.9, max(xs) * 1.1
    ticks: list[float] = []
    for parts in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [tick for tick in LogLocator(subs=parts).tick_values(low, high) if low <= tick <= high]
        if len(ticks) >= 2:
            break
    ticks = ticks[:: math.ceil(len(ticks) / 8)] if ticks else []
    labels = {**(more or {}), **{tick: _power(tick) for tick in ticks}}
    ax.xaxis.set_major_locator(FixedLocator(list(labels)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(list(labels), list(labels.values()))


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = f"{value / 10**exponent:.2g}"
    return f"$10^{{{exponent}}}$" if digit == "1" else f"${digit}\\times10^{{{exponent}}}$"


def _name_steps(ax: Axes, xs: Sequence[float], rungs: Sequence[Rung]) -> None:
    """The steps of some rungs along the top, so that a point can be found in the tables."""
    left, right = math.log(min(xs)), math.log(max(xs))
    last = -math.inf
    for x, rung in zip(xs, rungs, strict=True):
        position = (math.log(x) - left) / max(1e-9, right - left)
        if position - last > 0.09:
            ax.annotate(
                f"step {rung.step}" if last < 0 else str(rung.step), (x, 1.0), xytext=(0, 3), color=FAINT,
                xycoords=ax.get_xaxis_transform(), textcoords="offset points", fontsize=7.5, ha="center", va="bottom",
            )  # fmt: skip
            last = position


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _cycle(count: int) -> list[str]:
    return [WAYS[i % len(WAYS)] for i in range(count)]
