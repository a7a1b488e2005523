"""The figure of over-optimisation: gold above, proxy below, over the root of the KL; best of n left, learning right.

    save_figure(curves, Path("overoptimisation.png"))

A line is the mean over seeds, its band the lowest and the highest of them. Colours and markers tell the labels apart;
the right-hand pictures hold the algorithms side by side, so that they can be compared at equal KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ponder.evals.axes import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION, figure, titled
from ponder.evals.overoptimisation import PressedCurve, band, by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (VERMILLION, BLUE, ORANGE, SKY, GREEN, PURPLE, INK)
MARKERS = "osD^vPX"
BEST_OF = "best of n"  # how labels of a bank begin


def overoptimisation(curves: Sequence[PressedCurve]) -> Figure:
    """Gold above, proxy below, against √KL: a column for best of n, one for training. Bands are over seeds."""
    groups = by_label(curves)
    sides = [[name for name in groups if name.startswith(BEST_OF)], [n for n in groups if not n.startswith(BEST_OF)]]
    sides = [names for names in sides if names]
    drawing, _ = figure(4.9 * len(sides), 6.4)
    drawing.clear()  # the panels of two rows are laid out here
    for column, names in enumerate(sides):
        for row, what in enumerate(("gold", "proxy")):
            ax = _panel(drawing, 2, len(sides), row * len(sides) + column + 1)
            for i, name in enumerate(names):
                _draw(ax, groups[name], what, COLORS[i], MARKERS[i])
            pressed = BEST_OF if names[0].startswith(BEST_OF) else "reinforcement learning"
            unit = "gold reward" if what == "gold" else "proxy, as rewarded (0 to 1)"
            titled(ax, f"{what.capitalize()}, {pressed}", "√KL from the start (√nats)", unit)
            if row == 0:
                legend = ax.legend(frameon=False, fontsize=8, loc="best")
                for text in legend.get_texts():
                    text.set_color(INK)
    return drawing


def _panel(drawing: Figure, rows: int, columns: int, number: int) -> Axes:
    ax = drawing.add_subplot(rows, columns, number)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(colors=INK, labelsize=8.5)
    ax.grid(True, color="#d9d9e0", linewidth=0.7)
    return ax


def _draw(ax: Axes, curves: Sequence[PressedCurve], what: str, color: str, marker: str) -> None:
    found = band(curves, what)
    name = found.label.removeprefix(f"{BEST_OF}, ")
    seeds = f" ({found.seeds} seeds)" if found.seeds > 1 else ""
    ax.plot(found.distances, found.mean, color=color, lw=1.8, label=name + seeds)
    if found.seeds > 1:
        ax.fill_between(found.distances, found.low, found.high, color=color, alpha=0.14, linewidth=0)
    for curve in curves:
        ax.plot(
            [point.kl**0.5 for point in curve.points], [getattr(point, what) for point in curve.points],
            color=color, marker=marker, ms=3.2, lw=0, alpha=0.55,
        )  # fmt: skip


def save_figure(curves: Sequence[PressedCurve], path: Path, *, dpi: int = 96) -> None:
    drawing = overoptimisation(curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=dpi, facecolor="white", pil_kwargs={"optimize": True})
