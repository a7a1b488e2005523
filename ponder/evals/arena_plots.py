"""Pictures of an arena: ratings by domain, or with two models how often one is preferred, as o1's preference chart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ponder.evals.arena import ArenaResult, Standing
from ponder.evals.axes import BLUE, FAINT, INK, figure, titled
from ponder.evals.plots import WAYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vPX"


def picture(found: ArenaResult) -> Figure:
    """The picture that suits the number of models."""
    return preferences(found) if found.duels else ratings(found)


def ratings(found: ArenaResult) -> Figure:
    """A row a domain, a point a model with its interval; a hollow point has an end that the votes do not set."""
    groups = [("all", found.standings), *((each.domain, each.standings) for each in found.domains if each.standings)]
    models = [row.model for row in found.standings]
    step = 0.75 / max(1, len(models))
    drawing, [ax] = figure(7.4, 1.6 + max(1.2, len(groups) * max(0.6, 0.24 * len(models))))
    for index, (_, rows) in enumerate(groups):
        for row in rows:
            number = models.index(row.model)
            color, marker = WAYS[number % len(WAYS)], MARKERS[number % len(MARKERS)]
            y = index + (number - (len(models) - 1) / 2) * step
            _point(ax, row, y, color, marker, label=row.model if index == 0 else None)
    ax.axvline(1000, color=FAINT, lw=1.0, ls=":")
    ax.set_yticks(range(len(groups)), [name for name, _ in groups])
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(False, axis="y")
    for index in range(1, len(groups)):
        ax.axhline(index - 0.5, color=FAINT, lw=0.4)
    legend = ax.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for text in legend.get_texts():
        text.set_color(INK)
    titled(ax, "Ratings by domain", f"rating, 95 % intervals over questions and voters ({found.num_votes} votes)", "")
    return drawing


def _point(ax: Axes, row: Standing, y: float, color: str, marker: str, *, label: str | None) -> None:
    ends = [end if math.isfinite(end) else row.rating.value for end in (row.rating.low, row.rating.high)]
    is_open = not all(map(math.isfinite, (row.rating.low, row.rating.high)))
    ax.plot(ends, [y, y], color=color, lw=1.6, alpha=0.7)
    ax.plot([row.rating.value], [y], color=color, marker=marker, ms=6, ls="", label=label,
            markerfacecolor="white" if is_open else color)  # fmt: skip
    if row.is_marked:
        ax.annotate("*", (ends[1], y), xytext=(3, 0), textcoords="offset points", color=color, fontsize=11,
                    ha="left", va="center")  # fmt: skip


def preferences(found: ArenaResult) -> Figure:
    """A bar a domain: how often the first model is preferred to the second, ties half, with its number of votes."""
    first, second = (row.model for row in found.standings[:2])
    known = [duel for duel in found.duels if duel.rate is not None]
    drawing, [ax] = figure(7.4, 1.6 + 0.6 * max(1, len(known)))
    for index, duel in enumerate(known):
        rate = duel.rate
        assert rate is not None
        ax.barh(index, 100 * rate.value, height=0.6, color=BLUE if duel.domain else FAINT, alpha=0.8)
        ax.plot([100 * rate.low, 100 * rate.high], [index, index], color=INK, lw=1.6)
        words = f"{'* ' if duel.is_marked else ''}{duel.num_votes} votes"
        ax.annotate(words, (1, index), xytext=(-4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color=INK, fontsize=8.5, ha="right", va="center")  # fmt: skip
    ax.axvline(50, color=INK, lw=1.0, ls="--")
    ax.set_yticks(range(len(known)), [duel.domain or "all" for duel in known])
    ax.set_ylim(len(known) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    ax.grid(False, axis="y")
    titled(ax, f"{first} against {second}", f"{first} is preferred, ties half (%); 95 % intervals", "")
    return drawing
