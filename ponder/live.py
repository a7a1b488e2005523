"""What a person sees while a run goes on: one line of progress, the curves so far, a best and a worst sample.

Only the CLI uses this; loops report through callbacks and know nothing of terminals. Without a terminal (a log file,
CI) it prints one plain line a step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ponder.files import printable
from ponder.train.ledger import Step
from ponder.types import Rollout, Solution

_BARS = "▁▂▃▄▅▆▇█"
_ROWS = (  # metric, label, format
    ("rollout/correct", "correct", ".1%"),
    ("reward/mean", "reward", ".3f"),
    ("rollout/reasoning_tokens", "reasoning tokens", ".0f"),
    ("thinking/guess_frac", "guesses", ".0%"),
    ("thinking/steps_frac", "works in steps", ".0%"),
    ("thinking/checked_frac", "checks its steps", ".0%"),
    ("thinking/tried_frac", "tries programs", ".0%"),
    ("group/frac_mixed", "groups that teach", ".0%"),
    ("policy/entropy", "entropy (nats)", ".3f"),
)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The last values as bars, scaled between their extremes."""
    values = [value for value in values if value == value][-width:]
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, int((value - low) / span * 8))] for value in values)


class RLView:
    """A live view of reinforcement learning; use as a context manager and call with every Step."""

    def __init__(self, console: Console, *, num_steps: int) -> None:
        self.console, self.num_steps = console, num_steps
        self.history: dict[str, list[float]] = {key: [] for key, _, _ in _ROWS}
        self.progress = Progress(
            TextColumn("learning"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            console=console,
        )  # fmt: skip
        self.bar = self.progress.add_task("", total=num_steps)
        self.live = Live(self.progress, console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> RLView:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, step: Step) -> None:
        for key, _, _ in _ROWS:
            self.history[key].append(step.metrics.get(key, float("nan")))
        if self.live:
            self.progress.update(self.bar, completed=step.step)
            self.live.update(self._render(step))
        else:
            m = step.metrics
            self.console.print(
                f"step {step.step}/{self.num_steps}  correct {m.get('rollout/correct', 0):.1%}  "
                f"reasoning {m.get('rollout/reasoning_tokens', 0):.0f} tokens  "
                f"checks {m.get('thinking/checked_frac', 0) + m.get('thinking/tried_frac', 0):.0%}  "
                f"mixed {m.get('group/frac_mixed', 0):.0%}  "
                + (f"dev {m['eval/accuracy']:.1%}  " if "eval/accuracy" in m else "")
                + f"{m['seconds']:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    def _render(self, step: Step) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for key, label, form in _ROWS:
            value = self.history[key][-1]
            table.add_row(
                label, format(value, form) if value == value else "-", Text(sparkline(self.history[key]), "cyan")
            )
        samples = Table.grid(expand=True, padding=(0, 1))
        samples.add_row(*(_panel(title, r) for title, r in (("best", step.best), ("worst", step.worst)) if r))
        return Group(self.progress, table, samples)


def _panel(title: str, rollout: Rollout) -> Panel:
    completion = rollout.completion
    text = Text(printable(rollout.problem.text) + "\n", "bold")
    lines = printable(completion.reasoning).splitlines() or ["(no reasoning)"]
    text.append("\n".join(lines[:9] + (["..."] if len(lines) > 9 else [])) + "\n", "dim")
    answer = printable(completion.answer) or "(no answer)"
    text.append(answer, "green" if rollout.verdict.is_correct else "red")
    text.append(f"   target {printable(rollout.problem.target)}", "dim")
    return Panel(text, title=f"{title}: reward {rollout.reward:g}", height=14)


class Leader:
    """The best answer so far while a strategy spends; a context manager to be given as its `watch`."""

    def __init__(self, console: Console, key: Callable[[str], str | None]) -> None:
        self.key = key
        self.best: Solution | None = None
        self.status = console.status("thinking") if console.is_terminal else None

    def __enter__(self) -> Leader:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While something else is shown, or typed."""
        if self.status:
            self.status.stop()
        try:
            yield
        finally:
            if self.status:
                self.status.start()

    def __call__(self, solution: Solution) -> None:
        self.best = solution
        if self.status:
            self.status.update(Text(self.line(solution)))  # Text: an answer is no markup

    def line(self, solution: Solution) -> str:
        """What was spent, the leading answer, cut to 60 characters, and the share of samples that agree with it."""
        keys = [self.key(completion.answer) for completion in solution.completions]
        mine = self.key(solution.answer)
        share = f", {keys.count(mine) / len(keys):.0%} agree" if keys and mine is not None else ""
        usage = solution.usage
        answer = " ".join(printable(solution.answer).split())[:60] or "(no answer)"
        return f"{usage.samples} samples, {usage.completion_tokens} tokens; leading: {answer}{share}"


class Bar:
    """A progress bar with a running figure, for exams; a line every few seconds without a terminal."""

    def __init__(self, console: Console, what: str, *, unit: str = "problems", figure: str = "correct") -> None:
        self.console, self.what, self.last = console, what, 0.0
        self.unit, self.figure = unit, figure
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[figure]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.tasks: dict[str, int] = {}

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, name: str, done: int, total: int, figure: float) -> None:
        label = f"{self.what} {name}".strip()
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(label, total=total, figure="")
        self.progress.update(self.tasks[name], completed=done, total=total, figure=f"{self.figure} {figure:.1%}")  # type: ignore[arg-type]
        now = time.monotonic()
        if not self.console.is_terminal and (done == total or now - self.last > 10):
            self.last = now
            self.console.print(f"{label}: {done}/{total} {self.unit}, {self.figure} {figure:.1%}", highlight=False)
