"""The numbers of a report as tables of text: results in, `Table` and `Card` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ponder.evals.plots import order_of_ways
from ponder.evals.results import BankSummary, CheckpointResult, Curves, Matched, Strategies, WayCount
from ponder.evals.stats import Estimate, in_percent


@dataclass(frozen=True)
class Card:
    """One headline number."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Table:
    """What a terminal, a page and Markdown show alike. Cells are shown by `str`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


def accuracy_tables(result: BankSummary) -> list[Table]:
    """The tables of one exam: by k, and by level and subject where there is more than one."""
    found = result.metrics
    rows: list[Sequence[Any]] = [(k, cell(found.pass_at[k]), cell(found.cons_at[k])) for k in found.pass_at]
    tables = [Table("Accuracy", ("k", "pass@k", "cons@k"), rows)]
    for title, groups in (("By level", result.levels), ("By subject", result.subjects)):
        if len(groups) > 1:
            rows = [
                (name, group.num_problems, *map(cell, [*group.pass_at.values(), *group.cons_at.values()]))
                for name, group in groups.items()
            ]
            tables.append(Table(title, ("", "problems", "pass@1", "vote of all samples"), rows))
    return tables


def ways_table(checkpoints: Sequence[CheckpointResult]) -> Table:
    """A row a checkpoint, a column a way of thinking."""
    names = order_of_ways(checkpoints)

    def count(way: WayCount | None) -> str:
        return f"{way.samples} ({100 * way.correct / way.samples:.0f}% right)" if way else "0"

    rows = [(each.step, *(count(each.ways.get(name)) for name in names)) for each in checkpoints if each.ways]
    return Table("Ways of thinking: samples, and how many of them are right", ("step", *names), rows)


def checkpoints_table(checkpoints: Sequence[CheckpointResult], k: int) -> Table:
    """A row a checkpoint: what it cost, and how it did. k: of cons@k."""
    head = ("step", "train FLOPs", "rollout tokens", "samples", "pass@1", f"cons@{k}", "reasoning tokens", "no answer",
            "truncated", "undecided")  # fmt: skip
    rows = [
        (
            each.step,
            short(each.train_flops),
            short(each.rollout_tokens),
            f"{each.num_problems} × {each.num_samples}",
            cell(each.pass_at[1]),
            cell(each.cons_at[k]),
            f"{each.reasoning_per_sample:.1f}",
            *(f"{in_percent(rate)}%" for rate in (each.no_answer_rate, each.truncated_rate, each.undecided_rate)),
        )
        for each in checkpoints
    ]
    return Table("Checkpoints", head, rows)


def test_table(curves: Curves) -> Table:
    """A row for each k of each vote curve."""
    rows = [
        (f"{line.role} (step {line.step})", p.k, short(p.flops), f"{p.tokens:.0f}", cell(p.cons_at_k),
         cell(p.pass_at_k))
        for line in curves.test
        for p in line.points
    ]  # fmt: skip
    head = ("checkpoint", "k", "FLOPs a problem", "tokens a problem", "cons@k", "pass@k")
    return Table("Test-time compute: votes", head, rows)


def budget_table(curves: Curves) -> Table:
    """A row a cap on reasoning tokens, the smallest first."""
    k = curves.k
    rows = [
        (row.max_reasoning_tokens, f"{row.reasoning_per_sample:.1f}", short(row.flops),
         f"{in_percent(row.truncated_rate)}%", cell(row.pass_at[1]), cell(row.cons_at[k]))
        for row in sorted(curves.budgets, key=lambda row: row.max_reasoning_tokens)
    ]  # fmt: skip
    head = ("cap on reasoning tokens", "tokens used", "FLOPs a sample", "truncated", "pass@1", f"cons@{k}")
    return Table("Test-time compute: length of reasoning, last checkpoint", head, rows)


def strategies_table(found: Strategies) -> Table:
    """Every strategy at a few k; in points, with intervals, how it differs from a plain vote."""
    shown = {4, 16, 64, 256, found.num_samples}
    rows: list[Sequence[Any]] = [
        (row.strategy, row.scorer or "", p.k, cell(p.accuracy),
         "exact" if row.exact else f"±{100 * p.mc_sd:.2f}",
         points(p.gain) if p.gain else "–", _matched(p.matched),
         f"{p.samples:.1f}", f"{p.tokens:.0f}", f"{p.scorer_tokens:.0f}", short(p.flops))
        for row in found.rows
        for p in row.points
        if p.k in shown
    ]  # fmt: skip
    head = ("strategy", "scorer", "k", "accuracy", "computed", "gain over a vote of k",
            "gain over a vote of equal cost", "samples", "tokens", "scorer tokens", "FLOPs a problem")  # fmt: skip
    return Table(f"Ways of choosing, {found.model}: differences in points, with paired 95 % intervals", head, rows)


def narrow_strategies_table(found: Strategies) -> Table:
    """The same for a terminal of 80 columns: the largest k of every strategy, and what it costs."""
    rows = [
        (f"{row.strategy} {row.scorer or ''}".strip(), p.k, cell(p.accuracy), points(p.gain) if p.gain else "–",
         f"{p.tokens:.0f}")
        for row in found.rows
        for p in row.points[-1:]
    ]  # fmt: skip
    head = ("strategy", "k", "accuracy", "gain over a vote of k", "tokens")
    return Table(f"Ways of choosing, {found.model}", head, rows)


def _matched(same: Matched | None) -> str:
    return "–" if same is None else f"{points(same)}, cons@{same.k}" + (" (all)" if same.is_all else "")


def points(difference: Estimate) -> str:
    """A difference of two rates in points, with its interval."""
    value, low, high = (in_percent(end, sign="+") for end in (difference.value, difference.low, difference.high))
    return f"{value} ({low} to {high})"


def gain_line(curves: Curves) -> str:
    """What a run gained, in one line; "" where its base or its last checkpoint was not evaluated."""
    if curves.gain is None:
        return ""
    first, last, gain = curves.checkpoints[0], curves.checkpoints[-1], curves.gain.pass_at[1]
    return (
        f"pass@1: {in_percent(first.pass_at[1].value)} % -> {in_percent(last.pass_at[1].value)} %, "
        f"{in_percent(gain.value, sign='+')} points ({in_percent(gain.low, sign='+')} to "
        f"{in_percent(gain.high, sign='+')}), base to step {last.step}, {curves.gain.num_problems} problems"
    )


def sizes_note(curves: Curves) -> str:
    """What to know where checkpoints sat exams of different sizes, as a smaller --limit leaves them; "" otherwise."""
    sizes = [each.num_problems for each in curves.checkpoints]
    if len(set(sizes)) < 2:
        return ""
    return (
        f"The checkpoints were examined on {min(sizes)} to {max(sizes)} problems, so their points are not of the same "
        f"ones (a gain is, by pairs): the same command with --limit {max(sizes)} draws what is missing."
    )


def truncation_hint(result: BankSummary) -> str:
    """What to raise where more than a tenth of the samples was cut; "" otherwise."""
    drawn = sum(result.finish_reasons.values())
    if not drawn or not result.truncated_rate > 0.1:
        return ""
    in_answer, in_window = (result.finish_reasons.get(name, 0) / drawn for name in ("length", "window"))
    closed = result.truncated_rate - in_answer - in_window  # the reasoning was closed at its cap, then answered
    causes = {
        "the reasoning was closed at its cap: raise --max-reasoning-tokens": closed,
        "the answer was cut: raise --max-answer-tokens": in_answer,
        "the model's window was full: ask shorter, or lower --max-reasoning-tokens": in_window,
    }
    cause = max(causes, key=lambda name: causes[name])
    return f"{in_percent(result.truncated_rate, 0)} % of the samples were cut; mostly {cause}"


def group_tables(first: CheckpointResult, last: CheckpointResult) -> list[Table]:
    """Base and last checkpoint by level and by subject, where there is more than one subject."""
    tables = []
    for name, before, after in (("level", first.levels, last.levels), ("subject", first.subjects, last.subjects)):
        rows = [
            (group, found.num_problems, cell(before[group].pass_at[1]), cell(found.pass_at[1]))
            for group, found in after.items()
            if group in before
        ]
        if rows and (name == "level" or len(rows) > 1):
            head = (name, "problems", "pass@1, base", f"pass@1, step {last.step}")
            tables.append(Table(f"By {name}", head, rows))
    return tables


def percent(estimate: Estimate) -> str:
    return f"{in_percent(estimate.value)}%"


def span(estimate: Estimate) -> str:
    return f"95 % interval {in_percent(estimate.low)} to {in_percent(estimate.high)}"


def cell(estimate: Estimate) -> str:
    """ "61.5% (58.1–64.9)": the value with the ends of its interval."""
    return f"{percent(estimate)} ({in_percent(estimate.low)}–{in_percent(estimate.high)})"


def short(value: float | None) -> str:
    """Whole below 10,000, as 1.23e4 from there on; – for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value < 1e4 else f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
