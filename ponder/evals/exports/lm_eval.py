"""A bank as results and samples of lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness).

    write_lm_eval(shared("runs/exam"), Path("out"))
    out/MODEL/results_DATE.json            "pass@1,none", "cons@8,none", ... with standard errors
    out/MODEL/samples_TASK_DATE.jsonl      one line a problem: all of its answers in `resps`, as `repeats` gives them

The harness has one score a problem where it has several responses, so the verdicts of single samples, their answer
classes and costs stand in `doc.samples`, one object a response; the scores of a line are the problem's pass@k and
cons@k. Standard errors come from the spread over problems, as the harness has them; ponder's intervals, which hold
at the ends too, are in `configs.TASK.metadata.intervals`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ponder import __version__, files
from ponder.evals.bank import SampleRow
from ponder.evals.codec import encode
from ponder.evals.exports.shared import Metric, SharedBank
from ponder.types import Problem

FILTER = "none"


def write_lm_eval(source: SharedBank, out: Path) -> list[Path]:
    """The files written into the folder of the model below `out`."""
    metrics = list(source.metrics())
    date = source.ended.replace(tzinfo=None).isoformat().replace(":", "-")
    folder = out / _folder(source.model)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        _line(source, index, problem, source.samples(problem), {metric.name: metric.rates[index] for metric in metrics})
        for index, problem in enumerate(source.problems)
    ]
    hashes = _hash("".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines))
    results, samples = folder / f"results_{date}.json", folder / f"samples_{source.slug}_{date}.jsonl"
    files.write_atomic(samples, "".join(json.dumps(line) + "\n" for line in lines))
    whole = _results(source, metrics) | {"task_hashes": {source.slug: hashes}}
    files.write_atomic(results, json.dumps(whole, indent=2) + "\n")
    return [results, samples]


def _folder(model: str) -> str:
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model).strip(".") or "model"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _line(
    source: SharedBank, index: int, problem: Problem, rows: list[SampleRow], scores: Mapping[str, float]
) -> dict[str, Any]:
    prompt = [{"role": message.role, "content": message.content} for message in problem.prompt]
    context = problem.text if len(prompt) == 1 else json.dumps(prompt, ensure_ascii=False)
    doc = {"id": problem.id, "question": problem.text, "choices": list(problem.choices), "level": problem.level,
           "subject": problem.subject}  # fmt: skip
    params = source.bank.spec.params
    drawn = {"temperature": params.temperature, "top_p": params.top_p, "max_gen_toks": params.max_tokens,
             "do_sample": params.temperature > 0, "until": list(params.stop)}  # fmt: skip
    return {
        "doc_id": index,
        "doc": doc | {"samples": [_sample(row) for row in rows]},
        "target": problem.target,
        "arguments": {"gen_args_0": {"arg_0": context, "arg_1": drawn}},
        "resps": [[row.answer for row in rows]],
        "filtered_resps": [[row.extracted or "" for row in rows]],
        "filter": FILTER,
        "metrics": list(scores),
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False)),
        "prompt_hash": _hash(context),
        "target_hash": _hash(problem.target),
        **scores,
    }


def _sample(row: SampleRow) -> dict[str, Any]:
    said = {
        "sample": row.sample, "outcome": row.outcome, "class": row.answer_class, "extracted": row.extracted,
        "finish_reason": row.finish_reason, "was_cut": row.was_cut, "prompt_tokens": row.prompt_tokens,
        "reasoning_tokens": row.reasoning_tokens, "tokens": row.tokens, "seed": row.seed, "note": row.note,
        "error": row.error, "mean_logprob": None if math.isnan(row.mean_logprob) else row.mean_logprob,
    }  # fmt: skip
    return said | ({"reasoning": row.reasoning} if row.reasoning else {})


def _results(source: SharedBank, metrics: list[Metric]) -> dict[str, Any]:
    task, summary, spec = source.slug, source.summary, source.bank.spec
    scores: dict[str, Any] = {"name": task, "alias": source.task, "sample_len": summary.num_problems}
    for metric in metrics:
        scores[f"{metric.name},{FILTER}"] = metric.estimate.value
        error = metric.standard_error
        scores[f"{metric.name}_stderr,{FILTER}"] = "N/A" if math.isnan(error) else error
    intervals = {metric.name: [metric.estimate.low, metric.estimate.high] for metric in metrics}
    count = {"original": summary.num_problems, "effective": summary.num_problems}
    return {
        "results": {task: scores},
        "group_subtasks": {task: []},
        "configs": {task: {
            "task": task, "output_type": "generate_until", "repeats": summary.num_samples, "num_fewshot": 0,
            "test_split": spec.split, "metadata": _facts(source) | {"intervals": intervals},
        }},
        "versions": {task: spec.grader},
        "n-shot": {task: 0},
        "higher_is_better": {task: {metric.name: True for metric in metrics}},
        "n-samples": {task: count},
        "config": {"model": "ponder", "model_args": {"pretrained": source.model}, "gen_kwargs": encode(spec.params),
                   "limit": None, "random_seed": spec.seed},
        "date": source.began.timestamp(),
        "model_source": "ponder", "model_name": source.model, "model_name_sanitized": _folder(source.model),
        "ponder_version": __version__,
        "total_evaluation_time_seconds": str(source.result.seconds if source.result else ""),
    }  # fmt: skip


def _facts(source: SharedBank) -> dict[str, Any]:
    """What the numbers depend on; a number that is none is null, as JSON has it."""
    return {name: None if value != value else value for name, value in source.facts().items()}
