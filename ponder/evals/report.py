"""Reports: one self-contained page from a folder, and its pictures as PNG and SVG. Reads files only; no model, no task.

    report("runs/demo")    -> runs/demo/report.html, runs/demo/figures/*.png and *.svg

Three kinds of folder: a run with scale results (both curves, ways of thinking, samples behind the points), one without
(training curves, samples), and the folder of one exam. The page asks the network for nothing, reads in light and dark,
and treats every text from a model or a file as text: jinja2 escapes it, and the page forbids itself scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponder import files
from ponder.evals import ladder, plots
from ponder.evals.accuracy_at_compute import headline_lines
from ponder.evals.axes import lay_out, png, svg, themed
from ponder.evals.bank import Bank, SampleRow
from ponder.evals.browser import Browser, browser
from ponder.evals.codec import encode
from ponder.evals.contamination import details, sentence
from ponder.evals.exams import up_to_date
from ponder.evals.ladder import Ladder
from ponder.evals.logs import ProblemSamples, SampleColumn, ShownSample, clip, logged_metrics, logged_samples
from ponder.evals.results import CheckpointResult, Contamination, Curves, ExamResult, Strategies
from ponder.evals.scaling import CURVES, STRATEGIES
from ponder.evals.stats import in_percent
from ponder.evals.tables import (
    Card,
    Table,
    accuracy_tables,
    budget_table,
    checkpoints_table,
    group_tables,
    percent,
    sizes_note,
    span,
    strategies_table,
    test_table,
    ways_table,
)
from ponder.evals.trajectories import Tree, trees
from ponder.types import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAM_FACTS = ("command", "task", "split", "model", "prompting", "fingerprint", "seed", "params", "grader", "seconds",
              "revision", "machine")  # fmt: skip


@dataclass(frozen=True)
class Picture:
    svg: str
    caption: str
    name: str
    wide: bool


@dataclass(kw_only=True)
class Page:
    """What report.html.jinja shows, in its order."""

    title: str
    subtitle: str = ""
    notes: list[str] = field(default_factory=list)
    headline: list[Card] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    picked: str = ""  # how the problems of `groups` were
    groups: list[ProblemSamples] = field(default_factory=list)
    browser: Browser | None = None
    trees: list[Tree] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    config: str = ""


def report(folder: str | Path) -> Path:
    """Write report.html and the figures of a run or exam folder; return the page's path."""
    folder = Path(folder)
    if (folder / "bank.json").exists():
        page = _exam_page(folder)
    elif (folder / "run.json").exists():
        page = _run_page(folder)
    else:
        raise ValueError(f"{folder} is neither a run nor an exam: it has no run.json and no bank.json")
    path = folder / "report.html"
    files.write_atomic(path, _render(page))
    return path


def _run_page(folder: Path) -> Page:
    facts: dict[str, Any] = files.read_object(folder / "run.json")
    config = folder / "config.toml"
    metrics, samples = (list(files.read_jsonl(folder / name)) for name in ("metrics.jsonl", "samples.jsonl"))
    page = Page(title=f"{facts.get('kind', 'run')} run {folder.resolve().name}")
    page.facts["run"] = _lines(facts)
    page.config = config.read_text(encoding="utf-8", errors="replace") if config.exists() else ""
    curves_path = folder / "scale" / CURVES
    if curves_path.exists():
        _add_curves(page, folder, Curves.read(curves_path))
    else:
        page.notes.append(_next_step(facts.get("kind"), folder))
        page.groups, page.picked = logged_samples(samples), "The last samples that training logged."
    page.trees = trees(samples, clip)
    if found := logged_metrics(metrics):
        caption = f"Training, {len(metrics)} steps. Faint: each step; strong: running mean."
        page.figures.append(_picture(folder, "training", plots.training(found), caption, wide=True))
        if not curves_path.exists():
            last = f"last of {len(metrics)} steps"
            page.headline = [Card(metric.title, f"{metric.points[-1][1]:.3g}", last) for metric in found[:4]]
    return page


def _next_step(kind: str | None, folder: Path) -> str:
    """What measures a run that has no curves."""
    if kind == "sft":
        return f"How good it is, `ponder eval --task TASK --model {folder}` says."
    if kind == "scorer":
        return f"How good it is, result.json says; `ponder score BANK --scorer {folder}` uses it."
    return f"No scaling curves yet: `ponder scale {folder}` examines its checkpoints."


def _add_curves(page: Page, folder: Path, curves: Curves) -> None:
    """Both curves, their tables and the samples behind them."""
    checkpoints, k = curves.checkpoints, curves.k
    first, last = checkpoints[0], checkpoints[-1]
    about = f"{curves.num_problems} problems of {curves.task} ({curves.split})"
    page.subtitle = about
    page.headline = _curve_cards(curves)
    if not curves.complete:
        page.notes.append("This evaluation was stopped early: the same command draws what is missing.")
    if note := sizes_note(curves):
        page.notes.append(note)
    page.figures += [
        _picture(
            folder, "train_compute", plots.train_compute(curves),
            f"Each point is a checkpoint on the same {about}. Bands: 95 % intervals over problems and samples. The "
            "base has spent no train compute; it stands left of the break, as a log axis has no zero.",
        ),
        _picture(
            folder, "test_compute", plots.test_compute(curves),
            "Solid: the vote of k samples, exact over all subsets of the bank; a problem costs its prompt once and k "
            "samples. Dashed: one sample of the last checkpoint with a smaller cap on its reasoning.",
        ),
        _picture(
            folder, "reasoning_length", plots.reasoning_length(checkpoints),
            f"Mean over all samples of a checkpoint; the cap is {curves.params.max_reasoning_tokens} tokens.",
        ),
    ]  # fmt: skip
    if any(checkpoint.ways for checkpoint in checkpoints):
        caption = f"What kind of reasoning the samples hold: {k} samples a problem at each checkpoint."
        page.figures.append(_picture(folder, "ways", plots.ways_of_thinking(checkpoints), caption))
        page.tables.append(ways_table(checkpoints))
    page.tables += [checkpoints_table(checkpoints, k), test_table(curves), budget_table(curves)]
    page.tables += group_tables(first, last)
    if curves.strategies:
        _add_strategies(page, folder, curves.strategies)
    _add_contamination(page, curves.contamination)
    page.groups = _samples_of(folder, checkpoints)
    banks = [Bank.read(folder / "scale" / each.folder) for each in (first, last)]
    page.browser = browser(banks[1], _shown, before=None if first is last else banks[0])
    page.picked = (
        "Problems picked to be telling: the two that gained most, the most mixed, the one that gained least, the "
        "hardest. Of each, the first three samples, not picked."
    )
    page.facts["evaluation"] = _exam_facts(curves)


def _curve_cards(curves: Curves) -> list[Card]:
    first, last, k = curves.checkpoints[0], curves.checkpoints[-1], curves.k
    cards = [
        Card("pass@1, base", percent(first.pass_at[1]), span(first.pass_at[1])),
        Card(f"pass@1, step {last.step}", percent(last.pass_at[1]), span(last.pass_at[1])),
        Card(f"cons@{k}, base", percent(first.cons_at[k]), span(first.cons_at[k])),
        Card(f"cons@{k}, step {last.step}", percent(last.cons_at[k]), span(last.cons_at[k])),
        Card(
            "reasoning tokens",
            f"{first.reasoning_per_sample:.0f} → {last.reasoning_per_sample:.0f}",
            "mean a sample, base → last",
        ),
    ]
    if curves.gain:
        gain = curves.gain.pass_at[1]
        detail = f"points, same problems; {100 * gain.low:+.0f} to {100 * gain.high:+.0f}"
        cards.insert(2, Card("gain in pass@1", f"{100 * gain.value:+.0f}", detail))
    return cards


def _add_strategies(page: Page, folder: Path, found: Strategies) -> None:
    """What each way of choosing from the same samples gives for its cost."""
    caption = (
        f"{found.num_problems} problems, {found.num_samples} samples each, of {found.folder}; every line is "
        "k = 1, 2, 4, … of the same samples, and its scorer is in its cost. Dotted: what a perfect judge would pick. "
        "Bands: 95 % intervals; for differences see the paired ones in the table."
    )
    page.figures.append(_picture(folder, "strategies", plots.strategies(found), caption))
    page.tables.append(strategies_table(found))
    page.notes += headline_lines(found.headline)
    page.notes += [f"not shown: {name}, {why}" for name, why in found.left_out.items()]


def _add_contamination(page: Page, found: Contamination | None) -> None:
    if found:
        page.notes.append(sentence(found))
        page.facts["contamination"] = details(found)


def _exam_page(folder: Path) -> Page:
    bank, result = Bank.read(folder), up_to_date(folder)
    n = result.num_samples
    page = Page(title=f"{result.model} on {result.task}")
    page.subtitle = f"{result.num_problems} problems ({result.split}), {n} samples each"
    page.facts["exam"] = _exam_facts(result) | _lines({"data": _data(result)})
    if not result.metrics.pass_at:
        page.notes.append("The bank holds no sample yet.")
        return page
    if not result.complete:
        page.notes.append("This exam was stopped early: the same command draws what is missing.")
    page.headline = _exam_cards(result)
    _add_contamination(page, result.contamination)
    caption = "Exact over all subsets of the stored samples; bands: 95 % intervals over problems and samples."
    page.figures.append(_picture(folder, "accuracy", plots.accuracy_by_k(result.metrics), caption))
    page.tables += accuracy_tables(result)
    if (folder / STRATEGIES).exists():
        _add_strategies(page, folder, Strategies.read(folder / STRATEGIES))
    page.tables += [ladder.table(Ladder.read(path)) for path in sorted(folder.glob("ladder_*.json"))]
    page.picked = "A few problems, with the most mixed and the hardest. Of each, the first samples, not picked."
    page.groups = [
        _problem_samples(problem, [SampleColumn("", [_shown(row) for row in bank.rows(problem.id)[:4]])])
        for problem in _instructive_problems(bank, bank)
    ]
    page.browser = browser(bank, _shown)
    return page


def _exam_cards(result: ExamResult) -> list[Card]:
    one, vote = result.metrics.pass_at[1], result.metrics.cons_at[result.num_samples]
    return [
        Card("pass@1", percent(one), span(one)),
        Card(f"cons@{result.num_samples}", percent(vote), span(vote)),
        Card("no answer", f"{in_percent(result.no_answer_rate)}%", "of samples; they never vote"),
        Card("truncated", f"{in_percent(result.truncated_rate)}%", "of samples, by a budget or the window"),
        Card("undecided", f"{in_percent(result.undecided_rate)}%", f"{result.verifier_errors} verifier crashes"),
        Card("reasoning tokens", f"{result.tokens.reasoning_per_sample:.0f}", "mean a sample"),
    ]


def _samples_of(folder: Path, checkpoints: Sequence[CheckpointResult]) -> list[ProblemSamples]:
    """A few problems with the first samples of the base, the middle and the last checkpoint side by side."""
    chosen = [(each, Bank.read(folder / "scale" / each.folder)) for each in checkpoints if each.role]
    groups = []
    for problem in _instructive_problems(chosen[0][1], chosen[-1][1]):
        columns = []
        for checkpoint, bank in chosen:
            if bank.num_samples(problem.id):
                right, drawn = int(bank.samples(problem.id).correct.sum()), bank.num_samples(problem.id)
                title = f"{checkpoint.role}, step {checkpoint.step}: {right} of {drawn} right"
                columns.append(SampleColumn(title, [_shown(row) for row in bank.rows(problem.id)[:3]]))
        groups.append(_problem_samples(problem, columns))
    return groups


def _problem_samples(problem: Problem, columns: Sequence[SampleColumn]) -> ProblemSamples:
    return ProblemSamples(problem.text, f"target {problem.target}" if problem.target else "", columns)


def _instructive_problems(before: Bank, after: Bank) -> list[Problem]:
    """Up to five problems: the two that gained most, the most mixed, the one that gained least, and the hardest."""

    def rate(bank: Bank, name: str) -> float:
        return bank.pass_rate(name) if bank.num_samples(name) else 0.0

    problems = after.problems
    gain = {problem.id: rate(after, problem.id) - rate(before, problem.id) for problem in problems}
    by_gain = sorted(problems, key=lambda problem: -gain[problem.id])
    mixed = sorted(problems, key=lambda problem: abs(rate(after, problem.id) - 0.5))
    hard = sorted(problems, key=lambda problem: rate(after, problem.id))
    wanted = [*by_gain[:2], *mixed[:1], *by_gain[-1:], *hard[:1]]
    return list({problem.id: problem for problem in wanted}.values())


def _shown(row: SampleRow) -> ShownSample:
    detail = f"{row.reasoning_tokens} reasoning tokens"
    if row.answer_class is None:
        detail += ", no answer found"
    if row.was_cut:
        detail += ", cut"
    if row.note:
        detail += f"; {row.note}"
    return ShownSample(row.outcome, clip(row.reasoning), clip(row.answer), detail)


def _picture(folder: Path, name: str, drawing: Figure, caption: str, *, wide: bool = False) -> Picture:
    """Save a picture as PNG and SVG, and return what the page needs to show it."""
    lay_out(drawing)
    text = svg(drawing, name)
    png(drawing, folder / "figures" / f"{name}.png")
    files.write_atomic(folder / "figures" / f"{name}.svg", text)
    return Picture(themed(text), caption, name, wide)


def _render(page: Page) -> str:
    import jinja2

    folder = resources.files("ponder.evals")
    names = ("report.html.jinja", "samples.html.jinja", "browser.html.jinja", "trajectories.html.jinja")
    templates = jinja2.DictLoader({name: folder.joinpath(name).read_text(encoding="utf-8") for name in names})
    environment = jinja2.Environment(
        loader=templates, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(names[0]).render(vars(page))


def _exam_facts(result: Curves | ExamResult) -> dict[str, str]:
    facts = encode(result)
    return _lines({name: facts.get(name) for name in EXAM_FACTS})


def _lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as lines of text, what is missing left out."""
    result = {}
    for name, value in facts.items():
        if value in (None, "", {}, []):
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items() if inner not in (None, "", [], ()))
        elif isinstance(value, float):
            value = f"{value:.4g}"
        result[name] = str(value)
    return result


def _data(result: ExamResult) -> str:
    """Where the problems of a benchmark came from."""
    return "; ".join(", ".join(f"{key} {value}" for key, value in part.items()) for part in result.data)
