"""Reports: one self-contained page from a folder, and its pictures as PNG and SVG. Reads files only; no model, no task.

    report("runs/demo")    -> runs/demo/report.html, runs/demo/figures/*.png and *.svg

Three kinds of folder: a run with scale results (both curves, ways of thinking, samples behind the points), one without
(training curves, samples), and the folder of one exam. The page asks the network for nothing, reads in light and dark,
and treats every text from a model or a file as text: jinja2 escapes it, and the page forbids itself scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponder import runs
from ponder.evals.bank import Bank
from ponder.evals.contamination import details, sentence
from ponder.evals.exams import dumps, summarise
from ponder.evals.spending import trio_lines
from ponder.evals.stats import in_percent
from ponder.evals.tables import (
    Card,
    accuracy_tables,
    budget_table,
    group_tables,
    percent,
    rungs_table,
    span,
    strategies_table,
    test_table,
    ways_table,
)
from ponder.evals.trajectories import trees

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# the training metrics worth a picture: those of these that the run has logged
PANELS = (
    ("reward/mean", "reward (mean)"),
    ("rollout/correct", "correct rollouts (share)"),
    ("rollout/reasoning_tokens", "reasoning tokens"),
    ("thinking/checks", "checks in a piece of reasoning"),
    ("group/frac_mixed", "groups with a gradient (share)"),
    ("rollout/truncated_frac", "truncated rollouts (share)"),
    ("policy/entropy", "entropy (nats a token)"),
    ("policy/mismatch_kl", "engine/trainer mismatch (KL)"),
    ("loss", "loss"),
)
EXAM_FACTS = ("command", "task", "split", "model", "prompting", "fingerprint", "seed", "params", "grader", "seconds",
              "revision", "machine")  # fmt: skip
LONGEST_TEXT = 4000  # characters of one model text on the page; the bank has the rest


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
    runs.write_atomic(path, _render(page))
    return path


def _run_page(folder: Path) -> dict[str, Any]:
    facts = json.loads((folder / "run.json").read_text())
    config = folder / "config.toml"
    rows = list(runs.read_jsonl(folder / "metrics.jsonl"))
    page: dict[str, Any] = {
        "title": f"{facts.get('kind', 'run')} run {folder.resolve().name}",
        "figures": [],
        "facts": {"run": _told(facts)},
        "config": config.read_text(errors="replace") if config.exists() else "",
        "tables": [],
        "groups": [],
        "headline": [],
        "notes": [],
    }
    curves_path = folder / "scale" / "curves.json"
    if curves_path.exists():
        _add_curves(page, folder, json.loads(curves_path.read_text()))
    else:
        page["notes"].append(_next_step(facts.get("kind"), folder))
        page["groups"], page["picked"] = _training_samples(folder), "The last samples that training logged."
    page["trees"] = trees(list(runs.read_jsonl(folder / "samples.jsonl")), _clip)
    panels = [(key, title) for key, title in PANELS if any(_is_number(row.get(key)) for row in rows)]
    if panels:
        from ponder.evals import plots

        caption = f"Training, {len(rows)} steps. Faint: each step; strong: running mean."
        page["figures"].append(_figure(folder, "training", plots.training(rows, panels), caption, wide=True))
        if not curves_path.exists():
            page["headline"] = [
                Card(title, f"{_last(rows, key):.3g}", f"last of {len(rows)} steps") for key, title in panels[:4]
            ]
    return page


def _next_step(kind: str | None, folder: Path) -> str:
    """What measures a run that has no curves."""
    if kind == "sft":
        return f"How good it is, `ponder eval --task TASK --model {folder}` says."
    if kind == "scorer":
        return f"How good it is, result.json says; `ponder score BANK --scorer {folder}` uses it."
    return f"No scaling curves yet: `ponder scale {folder}` examines its checkpoints."


def _add_curves(page: dict[str, Any], folder: Path, curves: Mapping[str, Any]) -> None:
    """Both curves, their tables and the samples behind them."""
    from ponder.evals import plots

    rungs, k = curves["rungs"], curves["k"]
    first, last = rungs[0], rungs[-1]
    about = f"{curves['num_problems']} problems of {curves['task']} ({curves['split']})"
    page["subtitle"] = about
    page["headline"] = [
        Card("pass@1, base", percent(first["pass@1"]), span(first["pass@1"])),
        Card(f"pass@1, step {last['step']}", percent(last["pass@1"]), span(last["pass@1"])),
        Card(f"cons@{k}, base", percent(first[f"cons@{k}"]), span(first[f"cons@{k}"])),
        Card(f"cons@{k}, step {last['step']}", percent(last[f"cons@{k}"]), span(last[f"cons@{k}"])),
        Card(
            "reasoning tokens",
            f"{first['reasoning_per_sample']:.0f} → {last['reasoning_per_sample']:.0f}",
            "mean a sample, base → last",
        ),
    ]
    if "gain" in curves:
        gain = curves["gain"]["pass@1"]
        detail = f"points, same problems; {100 * gain['low']:+.0f} to {100 * gain['high']:+.0f}"
        page["headline"].insert(2, Card("gain in pass@1", f"{100 * gain['value']:+.0f}", detail))
    if not curves.get("complete", True):
        page["notes"].append("This evaluation was stopped early: the same command draws what is missing.")
    page["figures"] += [
        _figure(
            folder, "train_compute", plots.train_compute(curves),
            f"Each point is a checkpoint on the same {about}. Bands: 95 % intervals over problems and samples. The "
            "base has spent no train compute; it stands left of the break, as a log axis has no zero.",
        ),
        _figure(
            folder, "test_compute", plots.test_compute(curves),
            "Solid: the vote of k samples, exact over all subsets of the bank; a problem costs its prompt once and k "
            "samples. Dashed: one sample of the last checkpoint with a smaller cap on its reasoning.",
        ),
    ]  # fmt: skip
    length, cap = plots.reasoning_length(curves), curves["params"]["max_reasoning_tokens"]
    caption = f"Mean over all samples of a checkpoint; the cap is {cap} tokens."
    page["figures"].append(_figure(folder, "reasoning_length", length, caption))
    if any(rung.get("ways") for rung in rungs):
        caption = f"What kind of reasoning the samples hold: {k} samples a problem at each checkpoint."
        page["figures"].append(_figure(folder, "ways", plots.ways_of_thinking(curves), caption))
        page["tables"].append(ways_table(rungs))
    page["tables"] += [rungs_table(rungs, k), test_table(curves), budget_table(curves, k)]
    page["tables"] += group_tables(first, last)
    if curves.get("strategies"):
        _add_strategies(page, folder, curves["strategies"])
    if curves.get("contamination"):
        page["notes"].append(sentence(curves["contamination"]))
        page["facts"]["contamination"] = details(curves["contamination"])
    page["groups"] = _samples_behind(folder, rungs)
    page["picked"] = (
        "Problems picked to be telling: the two that gained most, the most mixed, the one that gained least, the "
        "hardest. Of each, the first three samples, not picked."
    )
    page["facts"]["evaluation"] = _told({name: curves.get(name) for name in EXAM_FACTS})


def _add_strategies(page: dict[str, Any], folder: Path, spent: Mapping[str, Any]) -> None:
    """What each way of choosing from the same samples gives for its cost."""
    from ponder.evals import plots

    caption = (
        f"{spent['num_problems']} problems, {spent['num_samples']} samples each, of {spent['folder']}; every line is "
        "k = 1, 2, 4, … of the same samples, and its scorer is in its cost. Dotted: what a perfect judge would pick. "
        "Bands: 95 % intervals; for differences see the paired ones in the table."
    )
    page["figures"].append(_figure(folder, "strategies", plots.strategies(spent), caption))
    page["tables"].append(strategies_table(spent))
    page["notes"] += trio_lines(spent["trio"])
    page["notes"] += [f"not shown: {name}, {why}" for name, why in spent["left_out"].items()]


def _exam_page(folder: Path) -> dict[str, Any]:
    from ponder.evals import plots

    bank = Bank.read(folder)
    stored = folder / "result.json"
    # the numbers come from the bank, what only the exam knew (FLOPs, seconds, command) from its result
    known = json.loads(stored.read_text()) if stored.exists() else {}
    result = {**known, **json.loads(dumps(summarise(bank)))}
    result["flops"] = known.get("flops", result["flops"])
    n, values = result["num_samples"], result["metrics"]
    page: dict[str, Any] = {
        "title": f"{result['model']} on {result['task']}",
        "subtitle": f"{result['num_problems']} problems ({result['split']}), {n} samples each",
        "headline": [],
        "figures": [],
        "tables": [],
        "groups": [],
        "notes": [],
        "config": "",
        "facts": {"exam": _told({name: result.get(name) for name in EXAM_FACTS} | {"data": _data(result)})},
    }
    if not values:
        page["notes"].append("The bank holds no sample yet.")
        return page
    if not result.get("complete", True):
        page["notes"].append("This exam was stopped early: the same command draws what is missing.")
    page["headline"] = [
        Card("pass@1", percent(values["pass@1"]), span(values["pass@1"])),
        Card(f"cons@{n}", percent(values[f"cons@{n}"]), span(values[f"cons@{n}"])),
        Card("no answer", f"{in_percent(result['no_answer_rate'])}%", "of samples; they never vote"),
        Card("truncated", f"{in_percent(result['truncated_rate'])}%", "of samples, by a budget or the window"),
        Card("undecided", f"{in_percent(result['undecided_rate'])}%", f"{result['verifier_errors']} verifier crashes"),
        Card("reasoning tokens", f"{result['tokens']['reasoning_per_sample']:.0f}", "mean a sample"),
    ]
    if result.get("contamination"):
        page["notes"].append(sentence(result["contamination"]))
        page["facts"]["contamination"] = details(result["contamination"])
    caption = "Exact over all subsets of the stored samples; bands: 95 % intervals over problems and samples."
    page["figures"].append(_figure(folder, "accuracy", plots.accuracy_by_k(result), caption))
    page["tables"] += accuracy_tables(result)
    spent = folder / "strategies.json"
    if spent.exists():
        _add_strategies(page, folder, json.loads(spent.read_text()))
    page["picked"] = "A few problems, with the most mixed and the hardest. Of each, the first samples, not picked."
    page["groups"] = [
        Group(
            problem.text,
            f"target {problem.target}" if problem.target else "",
            [Column("", [_shown(row) for row in bank.rows(problem.id)[:4]])],
        )
        for problem in _telling_problems(bank, bank)
    ]
    return page


@dataclass(frozen=True)
class Shown:
    """One sample on the page."""

    outcome: str
    reasoning: str
    answer: str
    detail: str


@dataclass(frozen=True)
class Column:
    """Samples of one checkpoint, beside those of another."""

    title: str
    samples: Sequence[Shown]


@dataclass(frozen=True)
class Group:
    """One problem with its samples."""

    text: str
    target: str
    columns: Sequence[Column]


def _samples_behind(folder: Path, rungs: Sequence[Mapping[str, Any]]) -> list[Group]:
    """A few problems with the first samples of the base, the middle and the last checkpoint side by side."""
    chosen = [rung for rung in rungs if rung["role"]]
    banks = [Bank.read(folder / "scale" / rung["folder"]) for rung in chosen]
    groups = []
    for problem in _telling_problems(banks[0], banks[-1]):
        columns = []
        for rung, bank in zip(chosen, banks, strict=True):
            if bank.num_samples(problem.id):
                right, drawn = int(bank.samples(problem.id).correct.sum()), bank.num_samples(problem.id)
                title = f"{rung['role']}, step {rung['step']}: {right} of {drawn} right"
                columns.append(Column(title, [_shown(row) for row in bank.rows(problem.id)[:3]]))
        groups.append(Group(problem.text, f"target {problem.target}" if problem.target else "", columns))
    return groups


def _telling_problems(before: Bank, after: Bank) -> list[Any]:
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


def _shown(row: Mapping[str, Any]) -> Shown:
    detail = f"{row['reasoning_tokens']} reasoning tokens"
    if row["class"] is None:
        detail += ", no answer found"
    if row["was_cut"]:
        detail += ", cut"
    if row.get("note"):
        detail += f"; {row['note']}"
    return Shown(row["outcome"], _clip(row["reasoning"]), _clip(row["answer"]), detail)


def _training_samples(folder: Path) -> list[Group]:
    """The last samples that training logged, as far as their rows have the fields."""
    rows = [row for row in runs.read_jsonl(folder / "samples.jsonl") if "answer" in row and not row.get("turns")][-8:]
    groups = []
    for row in rows:
        reward = row.get("reward")
        outcome = row.get("outcome") or ("correct" if isinstance(reward, int | float) and reward > 0 else "wrong")
        text = row.get("problem_text") or row.get("text") or row.get("prompt") or row.get("problem") or ""
        shown = Shown(str(outcome), _clip(row.get("reasoning", "")), _clip(row["answer"]), f"reward {reward}")
        target = f"target {row['target']}" if row.get("target") else ""
        groups.append(Group(_clip(text), target, [Column(f"step {row.get('step', '?')}", [shown])]))
    return groups


def _figure(folder: Path, name: str, drawing: Figure, caption: str, *, wide: bool = False) -> dict[str, Any]:
    """Save a picture as PNG and SVG, and return what the page needs to show it."""
    from ponder.evals import plots

    text = plots.svg(drawing, name)
    plots.png(drawing, folder / "figures" / f"{name}.png")
    runs.write_atomic(folder / "figures" / f"{name}.svg", text)
    return {"svg": plots.themed(text), "caption": caption, "wide": wide, "name": name}


def _render(page: Mapping[str, Any]) -> str:
    import jinja2

    folder = resources.files("ponder.evals")
    names = ("report.html.jinja", "trajectories.html.jinja")
    templates = jinja2.DictLoader({name: folder.joinpath(name).read_text() for name in names})
    environment = jinja2.Environment(
        loader=templates, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(names[0]).render({"subtitle": "", "picked": "", "trees": [], **page})


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
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


def _data(result: Mapping[str, Any]) -> str:
    """Where the problems of a benchmark came from."""
    parts = result.get("data") or []
    return "; ".join(", ".join(f"{key} {value}" for key, value in part.items()) for part in parts)


def _clip(text: Any) -> str:
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    # half a surrogate pair cannot be written to a file
    text = text.encode(errors="replace").decode()
    rest = len(text) - LONGEST_TEXT
    return text if rest <= 0 else f"{text[:LONGEST_TEXT]} … ({rest} more characters)"


def _last(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return next(float(row[key]) for row in reversed(rows) if _is_number(row.get(key)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
