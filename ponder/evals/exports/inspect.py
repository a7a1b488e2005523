"""A bank as a log of Inspect (inspect.aisi.org.uk): one `.eval` file, every sample of a problem an epoch of it.

    write_inspect(shared("runs/exam"), Path("exam.eval"))      then   inspect view --log-dir .

The zip holds `header.json` (the task, the model, the numbers), `summaries.json` and `samples/ID_epoch_N.json`. A
correct sample has the score "C", a wrong one "I". One that could not be decided has nan, which Inspect takes for not
scored: where it counts anew it leaves such samples out, while ponder's own pass@1, which the header has, counts them as
not correct. The metadata of a score have the answer class, so that votes can be computed from the log too.

Left out: events and timings of single samples, which a bank does not have.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ponder import __version__
from ponder.config import ConfigError
from ponder.evals.bank import SampleRow
from ponder.evals.exports.shared import Metric, SharedBank
from ponder.types import Problem

SCORER = "verdict"
STOP = {"stop": "stop", "length": "max_tokens", "window": "model_length"}
VALUE = {"correct": "C", "wrong": "I"}
SHORT = 1_000  # characters of a text in a summary, which a viewer reads for all samples at once


def write_inspect(source: SharedBank, out: Path) -> list[Path]:
    """The log written, in a list. ConfigError for a name that does not end in .eval."""
    if out.suffix != ".eval":
        raise ConfigError(f"{out}: logs of Inspect are files that end in .eval")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    summaries = []
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as log:
            for problem in source.problems:
                for row in source.samples(problem):
                    sample = _sample(source, problem, row)
                    log.writestr(_entry(f"samples/{problem.id}_epoch_{sample['epoch']}.json"), json.dumps(sample))
                    summaries.append(_summary(sample))
            log.writestr(_entry("summaries.json"), json.dumps(summaries))
            log.writestr(_entry("header.json"), json.dumps(_header(source)))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk
    return [out]


def _entry(name: str) -> zipfile.ZipInfo:
    """A file of the zip without the time of writing, so that the same bank gives the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _sample(source: SharedBank, problem: Problem, row: SampleRow) -> dict[str, Any]:
    prompt = [{"role": message.role, "content": message.content} for message in problem.prompt]
    usage = _usage(row.prompt_tokens, row.tokens, row.reasoning_tokens)
    content: Any = row.answer
    if row.reasoning:
        content = [{"type": "reasoning", "reasoning": row.reasoning}, {"type": "text", "text": row.answer}]
    reply = {"role": "assistant", "content": content, "model": source.model, "source": "generate"}
    return {
        "id": problem.id,
        "epoch": row.sample + 1,
        "input": problem.text if len(prompt) == 1 else prompt,
        "choices": list(problem.choices) or None,
        "target": problem.target,
        "messages": [*prompt, reply],
        "output": {
            "model": source.model,
            "choices": [{"message": reply, "stop_reason": STOP.get(row.finish_reason, "unknown")}],
            "completion": row.answer,
            "usage": usage,
        },
        "scores": {SCORER: _score(row)},
        "metadata": {"level": problem.level, "subject": problem.subject},
        "store": {},
        "events": [],
        "model_usage": {source.model: usage},
        "attachments": {},
    }


def _score(row: SampleRow) -> dict[str, Any]:
    known = {
        "outcome": row.outcome, "class": row.answer_class, "was_cut": row.was_cut, "finish_reason": row.finish_reason,
        "seed": row.seed, "mean_logprob": None if math.isnan(row.mean_logprob) else row.mean_logprob,
    }  # fmt: skip
    why = {} if row.outcome in VALUE else {"reason": "scoring_failed"}
    return {
        "value": VALUE.get(row.outcome, math.nan), "answer": row.extracted, "explanation": row.error or row.note,
        "metadata": known, **why,
    }  # fmt: skip


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    question = sample["input"]
    kept = {key: sample[key] for key in ("id", "epoch", "choices", "target", "metadata", "scores", "model_usage")}
    return {
        **kept, "input": question[:SHORT] if isinstance(question, str) else question, "completed": True,
        "message_count": len(sample["messages"]),
    }  # fmt: skip


def _usage(prompt: int, completion: int, reasoning: int) -> dict[str, int]:
    return {
        "input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion,
        "reasoning_tokens": reasoning,
    }  # fmt: skip


def _header(source: SharedBank) -> dict[str, Any]:
    summary, spec = source.summary, source.bank.spec
    tables = [source.bank.samples(problem.id) for problem in source.problems]
    total, facts = sum(map(len, tables)), source.facts()
    metrics = list(source.metrics())
    began, ended = source.began.isoformat(), source.ended.isoformat()
    usage = _usage(sum(t.prompt_tokens * len(t) for t in tables), summary.tokens.completion, summary.tokens.reasoning)
    decided = sum(int((table.outcomes == name).sum()) for table in tables for name in VALUE)
    drawn = {"temperature": spec.params.temperature, "top_p": spec.params.top_p, "max_tokens": spec.params.max_tokens,
             "reasoning_tokens": spec.params.max_reasoning_tokens}  # fmt: skip
    return {
        "version": 2,
        "status": "cancelled" if facts["complete"] is False else "success",
        "eval": {
            "eval_id": _id(source, "eval"), "run_id": _id(source, "run"), "created": began, "task": source.task,
            "task_id": _id(source, "task"), "task_version": 0, "task_args": {},
            "dataset": {"name": source.task, "samples": len(tables), "sample_ids": [p.id for p in source.problems],
                        "shuffled": False},
            "model": source.model, "model_generate_config": drawn, "model_args": {},
            "config": {"epochs": max(map(len, tables)), "epochs_reducer": ["mean"]},
            "packages": {"ponder": __version__}, "metadata": facts,
            "scorers": [{"name": SCORER, "options": {}, "metrics": [{"name": "accuracy"}]}],
        },
        "plan": {"name": "plan", "steps": [{"solver": "ponder", "params": {"prompting": spec.prompting}}],
                 "config": drawn},
        "results": {
            "total_samples": total, "completed_samples": total,
            "scores": [_eval_score(metric, decided, total - decided) for metric in metrics],
        },
        "stats": {"started_at": began, "completed_at": ended, "model_usage": {source.model: usage}},
    }  # fmt: skip


def _eval_score(metric: Metric, decided: int, undecided: int) -> dict[str, Any]:
    """pass@1 is what Inspect calls the mean of the epochs, pass@k its reducer pass_at_k; it has no cons@k."""
    reducer = f"{metric.kind}_at_{metric.k}" if metric.k > 1 else "mean"
    error = metric.standard_error
    values = {"accuracy": metric.estimate.value, "low_95": metric.estimate.low, "high_95": metric.estimate.high,
              **({} if math.isnan(error) else {"stderr": error})}  # fmt: skip
    return {
        "name": SCORER, "scorer": SCORER, "reducer": reducer, "scored_samples": decided,
        "unscored_samples": undecided, "params": {},
        "metrics": {name: {"name": name, "value": value, "params": {}} for name, value in values.items()},
        "metadata": {"ponder": metric.name},
    }  # fmt: skip


def _id(source: SharedBank, kind: str) -> str:
    parts = [kind, source.task, source.model, source.bank.spec.fingerprint, source.began.isoformat()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:22]
