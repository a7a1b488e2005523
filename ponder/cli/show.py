"""What verbs print: plans, tables, the last line, and what Ctrl-C leaves behind."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from ponder.config import dumps, to_dict
from ponder.files import printable

if TYPE_CHECKING:
    from ponder.evals.results import Curves, ExamResult, Strategies


class stoppable:
    """Turn Ctrl-C into a sentence that says what is left."""

    def __init__(self, left: str) -> None:
        self.left = left

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            print(f"stopped; {self.left}", file=sys.stderr)
            raise SystemExit(130) from None


def resumable() -> stoppable:
    """For work that is kept while it is done."""
    return stoppable("what was done is kept, and the same command goes on from there")


def print_plan(config: Any, cost: dict[str, Any], as_json: bool) -> None:
    """A config and what it will cost. cost: of train/estimate.py; it warns where `fits` is false."""
    if as_json:
        print_json({"config": to_dict(config), "estimate": cost})
        return
    print(dumps(config, explain=True))
    print("\n# estimated: " + ", ".join(f"{name} {value}" for name, value in cost.items()))
    if not cost.get("fits", True):
        print(
            f"# this does NOT fit: about {cost['memory_gib']} GiB are needed, {cost['free_gib']} GiB are free; take a "
            "smaller model, fewer workers (num_workers), slots (num_slots) or tokens (max_tokens_per_batch)"
        )


def shown(text: str, stream: TextIO | None = None) -> str:
    """A model's or a file's text for stdout: on a terminal without what would steer it, else as it is."""
    return printable(text) if (stream or sys.stdout).isatty() else text


_as_python_does = warnings.showwarning


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    """A warning of ponder's as one line: the place in the code, which Python adds, helps its authors only."""
    if not issubclass(category, UserWarning):
        return _as_python_does(message, category, filename, lineno, file, line)
    print(f"warning: {shown(str(message), sys.stderr)}", file=sys.stderr)


def finish(result: dict[str, Any], sentence: str, as_json: bool) -> None:
    """What a verb prints last: the result as one line of JSON, or the sentence."""
    if as_json:
        print_json(result)
    else:
        print(shown(sentence))


def print_json(value: Any) -> None:
    """One line that every reader of JSON takes: what is no finite number is null."""
    from ponder.evals.codec import encode

    print(json.dumps(encode(value), allow_nan=False))


def finish_scale(page: Path, found: Curves | Strategies, as_json: bool) -> None:
    """The headline, the table of strategies, and where the report is."""
    from ponder.evals.accuracy_at_compute import headline_lines
    from ponder.evals.codec import encode
    from ponder.evals.results import Curves
    from ponder.evals.tables import gain_line, narrow_strategies_table, sizes_note, strategies_table

    if as_json:
        print(json.dumps({"report": str(page), "curves": encode(found)}, ensure_ascii=False))
        return
    curves = found if isinstance(found, Curves) else None
    strategies = found.strategies if isinstance(found, Curves) else found
    if strategies:
        print_fitting(strategies_table(strategies), narrow_strategies_table(strategies))
        print("\n".join(headline_lines(strategies.headline)))
    for line in (
        gain_line(curves) if curves else "", levels_line(page.parent / "scale" / "efforts.json"),
        f"note: {note}" if curves and (note := sizes_note(curves)) else "",
    ):  # fmt: skip
        if line:
            print(line)
    print(f"the report is {page}")


def levels_line(path: Path) -> str:
    """What each effort of a served model costs and gives."""
    from ponder.efforts import Efforts, Point
    from ponder.evals.stats import in_percent

    if not path.exists():
        return ""
    names_of: dict[Point, list[str]] = {}
    for name, point in Efforts.read(path).levels.items():
        names_of.setdefault(point, []).append(name)
    cap = lambda point: f"up to {point.max_reasoning_tokens} reasoning tokens"
    how = lambda point: f"a vote of {point.n}" if point.n > 1 else cap(point)
    return "effort levels: " + "; ".join(
        f"{', '.join(names)} = {how(point)}: {in_percent(point.accuracy)} % at {point.tokens:.0f} tokens a problem"
        for point, names in names_of.items()
    )


def print_metrics(result: ExamResult) -> None:
    """The numbers of an exam as a small table, then those of its levels and subjects."""
    from rich.markup import escape
    from rich.table import Table

    from ponder.evals.accuracy_at_compute import headline_lines
    from ponder.evals.contamination import sentence
    from ponder.evals.stats import in_percent
    from ponder.evals.tables import accuracy_tables, truncation_hint

    drawn = f"{result.num_problems} problems, {result.num_samples} samples each"
    table = Table(title=escape(shown(f"{result.model} on {result.task}: {drawn}")),
                  caption="pass@k: one of k is right; cons@k: the vote of k is")  # fmt: skip
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for metric, by_k in (("pass", result.metrics.pass_at), ("cons", result.metrics.cons_at)):
        for k, estimate in by_k.items():
            value, low, high = (f"{in_percent(end)}%" for end in (estimate.value, estimate.low, estimate.high))
            table.add_row(f"{metric}@{k}", value, f"{low} to {high}")
    for name, rate in (
        ("no answer", result.no_answer_rate), ("truncated", result.truncated_rate),
        ("undecided", result.undecided_rate), ("failed", result.failed_rate),
    ):  # fmt: skip
        table.add_row(f"{name} rate", f"{in_percent(rate)}%", "")
    Console().print(table)
    if result.verifier_errors:
        samples, why = sum(result.finish_reasons.values()), result.verifier_error or "see the bank"
        print(shown(f"do not trust this: the verifier failed on {result.verifier_errors} of {samples} samples ({why})"))
    if result.metrics.pass_at:
        print_tables(accuracy_tables(result)[1:])
        print("\n".join(headline_lines(result.headline)))
    if result.contamination:
        print(shown(sentence(result.contamination)))
    if hint := truncation_hint(result):
        print(f"warning: {hint}", file=sys.stderr)


def print_fitting(wide: Any, narrow: Any) -> None:
    """The wide table where the terminal has room for it, else the narrow one."""
    console = Console()
    if console.is_terminal and console.measure(_grid(wide)).maximum > console.width:
        print_tables([narrow])
        print("(a wider terminal, the report and --json have every k, FLOPs and the comparison at equal cost)")
    else:
        print_tables([wide])


def print_tables(tables: Iterable[Any]) -> None:
    """Tables of text on the terminal; names from models and files are text, not markup."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file or a pipe takes long lines; nothing is cut out of a number
    for table in tables:
        console.print(_grid(table))


def _grid(table: Any) -> Any:
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=escape(shown(table.title)))
    for name in table.head:
        grid.add_column(escape(shown(str(name))), overflow="fold")
    for row in table.rows:
        grid.add_row(*(escape(shown(str(value))) for value in row))
    return grid
