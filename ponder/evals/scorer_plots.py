"""The pictures of a scorer: is a score the probability it claims to be, and what is choosing by it worth?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponder.evals.plots import BLUE, FAINT, INK, VERMILLION, figure, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scorer_page(result: Mapping[str, Any]) -> Figure:
    """Reliability, and rerank@k beside cons@k, of a scorer's result.json."""
    drawing, [left, right] = figure(width=10.0, panels=2)
    rows = result["held_out"]["reliability"]
    left.plot([0, 100], [0, 100], color=FAINT, lw=1, ls=":")
    most = max(row["count"] for row in rows)
    for row in rows:  # the area of a point is the share of the samples that it stands for
        x, y = 100 * row["predicted"], 100 * row["correct"]
        left.plot(x, y, "o", color=BLUE, ms=4 + 10 * (row["count"] / most) ** 0.5, alpha=0.8)
    ece = result["held_out"]["ece"]
    titled(left, f"Reliability (ECE {ece:.3f})", "score (%), in bins of ten", "samples that are correct (%)")
    curve = result["curve"]
    for key, color, marker in (("rerank", BLUE, "D"), ("cons", VERMILLION, "s"), ("pass", FAINT, "o")):
        points = [(row["k"], 100 * row[key]) for row in curve if key in row]
        if points:
            right.plot(*zip(*points, strict=True), color=color, marker=marker, ms=5, lw=1.6, label=f"{key}@k")
    right.set_xscale("log", base=2)
    right.set_xticks([row["k"] for row in curve], [str(row["k"]) for row in curve])
    right.minorticks_off()
    for text in right.legend(frameon=False, fontsize=8.5, loc="best").get_texts():
        text.set_color(INK)
    titled(right, "Choosing among k samples", "k (log scale)", "accuracy (%), held-out problems")
    return drawing


def save_page(result: Mapping[str, Any], folder: Path) -> Path:
    path = folder / "scorer.png"
    scorer_page(result).savefig(path, dpi=130)
    return path
