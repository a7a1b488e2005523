"""The pictures of a scorer: is a score the probability it claims to be, and what is choosing by it worth?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ponder.evals.axes import BLUE, FAINT, INK, VERMILLION, figure, titled
from ponder.evals.results import ScorerResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scorer_page(result: ScorerResult) -> Figure:
    """Reliability, and rerank@k beside cons@k."""
    drawing, [left, right] = figure(width=10.0, panels=2)
    bins = result.held_out.reliability
    left.plot([0, 100], [0, 100], color=FAINT, lw=1, ls=":")
    max_count = max(each.count for each in bins)
    for each in bins:  # the area of a point is the share of the samples that are in it
        size = 4 + 10 * (each.count / max_count) ** 0.5
        left.plot(100 * each.predicted, 100 * each.correct, "o", color=BLUE, ms=size, alpha=0.8)
    title = f"Reliability (ECE {result.held_out.ece:.3f})"
    titled(left, title, "score (%), in bins of ten", "samples that are correct (%)")
    ks = [point.k for point in result.curve]
    for name, shares, color, marker in (
        ("rerank@k", [point.rerank_at_k for point in result.curve], BLUE, "D"),
        ("cons@k", [point.cons_at_k for point in result.curve], VERMILLION, "s"),
        ("pass@k", [point.pass_at_k for point in result.curve], FAINT, "o"),
    ):
        points = [(k, 100 * share) for k, share in zip(ks, shares, strict=True) if share is not None]
        if points:
            right.plot(*zip(*points, strict=True), color=color, marker=marker, ms=5, lw=1.6, label=name)
    right.set_xscale("log", base=2)
    right.set_xticks(ks, list(map(str, ks)))
    right.minorticks_off()
    for text in right.legend(frameon=False, fontsize=8.5, loc="best").get_texts():
        text.set_color(INK)
    titled(right, "Choosing among k samples", "k (log scale)", "accuracy (%), held-out problems")
    return drawing


def save_page(folder: Path) -> Path:
    """The picture of a scorer's run folder, beside its result.json."""
    path = folder / "scorer.png"
    scorer_page(ScorerResult.read(folder / "result.json")).savefig(path, dpi=130)
    return path
