"""pass@1 of a bank as the Hugging Face Hub's evaluation result: a YAML file for the model's repository.

    write_hub(shared("runs/exam"), Path("my-model"), dataset="openai/gsm8k:gsm8k")
    my-model/.eval_results/gsm8k.yaml        shown on the model's page and on the benchmark's board

`dataset` is a benchmark of the Hub, with the task in it; those in `BENCHMARKS` need none. The value is in percent. The
interval, the samples and the vote stand in the notes. A number of a dev part chooses things, so it is not written.
(huggingface.co/docs/hub/eval-results)
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ponder import files
from ponder.config import ConfigError
from ponder.evals.exports.shared import SharedBank
from ponder.evals.stats import in_percent
from ponder.tasks.parts import split_part

# our name -> the data set and its task on the Hub
BENCHMARKS = {"gsm8k": "openai/gsm8k:gsm8k", "gpqa_diamond": "Idavidrein/gpqa:diamond"}


def write_hub(source: SharedBank, out: Path, *, dataset: str = "") -> list[Path]:
    """The file written, in a list. ConfigError for a dev part or the train split, and for a task whose name on the Hub
    is not known."""
    if split_part(source.task)[1] == "dev":
        raise ConfigError(
            f"{source.task} is for choosing; what is published is drawn once from the other: ponder eval --part report"
        )
    if source.bank.spec.split == "train":
        raise ConfigError(f"{source.task} was drawn from problems to train on (--split train): that is no benchmark")
    name = re.split(r"[:,]", source.task)[0]
    found = re.fullmatch(r"([\w.-]+/[\w.-]+):([\w.-]+)", dataset or BENCHMARKS.get(name, ""))
    if found is None:
        wrong = f"--dataset {dataset}" if dataset else f"the Hub's benchmark for {source.task} is not known"
        raise ConfigError(f"{wrong}; write --dataset OWNER/NAME:TASK, the task as in eval.yaml of that data set")
    path = out if out.suffix in (".yaml", ".yml") else out / ".eval_results" / f"{source.slug}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = json.dumps  # a JSON text is a YAML text
    lines = [
        "- dataset:", f"    id: {quoted(found[1])}", f"    task_id: {quoted(found[2])}",
        f"  value: {round(100 * source.summary.metrics.pass_at[1].value, 2)}",
        f"  date: {quoted(source.ended.date().isoformat())}", f"  notes: {quoted(_notes(source))}",
    ]  # fmt: skip
    files.write_atomic(path, "\n".join(lines) + "\n")
    return [path]


def _notes(source: SharedBank) -> str:
    summary, params = source.summary, source.bank.spec.params
    one, k = summary.metrics.pass_at[1], max(summary.metrics.cons_at)
    notes = [
        f"ponder {source.facts()['ponder']}",
        f"pass@1 in percent, 95 % interval {in_percent(one.low)} to {in_percent(one.high)}",
        f"{summary.num_problems} problems, {summary.num_samples} samples of each, temperature {params.temperature:g}",
        f"at most {params.max_reasoning_tokens} tokens of reasoning",
    ]
    if re.search("[:,]", source.task):
        notes.append(f"as the task {source.task}")
    if k > 1:
        notes.append(f"the vote of {k}: {in_percent(summary.metrics.cons_at[k].value)}")
    if source.summary.undecided_rate:
        notes.append(f"{in_percent(summary.undecided_rate)} % of the samples undecided, counted as not correct")
    if summary.failed_rate:
        notes.append(
            f"the verifier failed on {in_percent(summary.failed_rate)} % of the samples, counted as not correct"
        )
    if source.result is None or not source.result.complete:
        notes.append("the exam was not finished" if source.result else "whether the exam was finished is not known")
    return "; ".join(notes)
