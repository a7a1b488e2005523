"""How pictures look: colours, axes, labels and files; the only file that imports matplotlib (extra `report`).

Colours are Okabe and Ito's, which the colour-blind tell apart; every line is labelled where it ends and has its own
marker; bands are the 95 % intervals. `themed` swaps the colours for CSS variables: a page shows the same picture on a
dark ground.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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


def lay_out(drawing: Figure) -> None:
    """Give every text its room, once and for all. Else each file is laid out anew, in a draw of its own."""
    engine = drawing.get_layout_engine()
    if engine is not None:
        engine.execute(drawing)
        drawing.set_layout_engine(None)


def png(drawing: Figure, path: Path) -> None:
    """At 160 dots an inch, on white; the folder is made where it is missing."""
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


def curve(ax: Axes, points: Sequence[Point], color: str, marker: str, *, style: str = "-", alpha: float = 0.14) -> None:
    """A line with markers and its band."""
    if not points:
        return
    xs = [x for x, _ in points]
    if len(points) > 1:
        low, high = [100 * y.low for _, y in points], [100 * y.high for _, y in points]
        ax.fill_between(xs, low, high, color=color, alpha=alpha, linewidth=0)
    else:
        error_bar(ax, points[0], color, marker)
    ax.plot(xs, [100 * y.value for _, y in points], color=color, marker=marker, ms=5, lw=1.8, ls=style)


def error_bar(ax: Axes, point: Point, color: str, marker: str) -> None:
    """One point with its interval. Its value is a share, and is drawn in percent."""
    x, y = point
    ax.plot([x, x], [100 * y.low, 100 * y.high], color=color, lw=1.4, alpha=0.6)
    ax.plot([x], [100 * y.value], color=color, marker=marker, ms=5)


def bounds_of(estimates: Sequence[Estimate]) -> list[float]:
    return [end for estimate in estimates for end in (estimate.low, estimate.high)]


def percent_axis(ax: Axes, bounds: Sequence[float]) -> None:
    """From 0 to a little above the highest band: accuracy is never drawn on a cut axis."""
    top = max(10.0, 100 * min(1.0, 1.05 * max(bounds, default=1.0)))
    ax.set_ylim(-0.01 * top, 1.06 * top)


def label_ends(ax: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of lines, pushed apart where they would touch. Lines: share, x, text, colour."""
    low, high = ax.get_ylim()
    gap = min(0.055 * (high - low), (high - low) / max(1, len(lines)))
    ys = spaced([100 * share for share, *_ in sorted(lines)], gap)
    for i in range(len(ys)):  # none leaves the picture
        ys[i] = max(ys[i], low + i * gap)
    for i in range(len(ys)):
        ys[i] = min(ys[i], high - (len(ys) - 1 - i) * gap)
    for y, (_, x, text, color) in zip(ys, sorted(lines), strict=True):
        annotate(ax, x, y, text, color, (9, 0), "left", scale=1.0)


def spaced(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart, as near to the wanted ones (rising) as that allows: a crowd keeps its mean.

    spaced([30, 31, 60], 4)    -> [28.5, 32.5, 60]
    """
    crowds: list[tuple[float, int]] = []  # (where its middle is, how many it has), from below
    for place in wanted:
        middle, size = place, 1
        while crowds and middle - crowds[-1][0] < gap * (size + crowds[-1][1]) / 2:
            other, count = crowds.pop()
            middle, size = (middle * size + other * count) / (size + count), size + count
        crowds.append((middle, size))
    return [middle + gap * (i - (size - 1) / 2) for middle, size in crowds for i in range(size)]


def annotate(
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


def untangle(ax: Axes, notes: Sequence[Annotation]) -> None:
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


def break_axis(ax: Axes, xs: Sequence[float], unspent: int) -> None:
    """Mark the gap between the base, which has spent nothing, and the first point of the log axis."""
    base, first = xs[0], xs[unspent]
    middle = math.sqrt(base * first)
    ax.axvspan(middle / 1.03, middle * 1.03, color=GRID, alpha=0.8, linewidth=0)
    ax.text(
        middle, 0, "//", color=FAINT, fontsize=11, ha="center", va="center", transform=ax.get_xaxis_transform(),
        clip_on=False,
    )  # fmt: skip
    # ticks left of the break would claim FLOPs that nobody spent
    log_ticks(ax, xs[unspent:], {base: "base\n(0)"})


def log_ticks(ax: Axes, xs: Sequence[float], more: Mapping[float, str] | None = None) -> None:
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


def whole_percent(share: float) -> str:
    return f"{100 * share:.0f}%"
