"""A bank as records of Every Eval Ever, schema 0.3.0 (evalevalai.com): an aggregate, and a line a sample beside it.

    write_eee(shared("runs/exam", model_id="me/my-model"), Path("out"))
    out/data/TASK/me/my-model/UUID.json              pass@k and cons@k with intervals, each a result of its own
    out/data/TASK/me/my-model/UUID_samples.jsonl     every sample; they belong to the result pass@1

The folders are those of their data store, so OUT can be copied into a clone of it. The UUID is made from the content:
the same bank gives the same record. The schema asks for a score of every sample: one that was not decided has 0 and
`is_correct` false, as pass@1 counts it, and its `metadata.outcome` says "undecided" or "failed".
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ponder import __version__, files
from ponder.evals.bank import SampleRow
from ponder.evals.exports.shared import HUB_NAME, Metric, SharedBank
from ponder.types import Problem

SCHEMA = "0.3.0"
INTERVAL = "Wilson's interval with an effective number of problems, Student's t"


def write_eee(source: SharedBank, out: Path) -> list[Path]:
    """The files written below `out`, at the paths that the data store gives them."""
    model = _model_id(source)
    evaluation = f"{source.slug}/{model.replace('/', '_')}/{_stamp(source)}"
    lines = [
        json.dumps(_sample(source, problem, row, model, evaluation), allow_nan=False)
        for problem in source.problems for row in source.samples(problem)
    ]  # fmt: skip
    samples = "\n".join(lines) + "\n"
    record = uuid.UUID(bytes=hashlib.sha256((evaluation + samples).encode()).digest()[:16], version=4)
    place = Path("data", source.slug, *model.split("/"), f"{record}_samples.jsonl")
    detail = {
        "format": "jsonl", "file_path": place.as_posix(), "hash_algorithm": "sha256",
        "checksum": hashlib.sha256(samples.encode()).hexdigest(), "total_rows": len(lines),
    }  # fmt: skip
    whole = json.dumps(_aggregate(source, model, evaluation, detail), indent=1, allow_nan=False)
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(out / place, samples)
    files.write_atomic(out / place.with_name(f"{record}.json"), whole + "\n")
    return [out / place.with_name(f"{record}.json"), out / place]


def _model_id(source: SharedBank) -> str:
    """Owner and name; an owner that is not known is "unknown", of which their validator warns."""
    if HUB_NAME.fullmatch(source.model):
        return source.model
    return f"unknown/{re.sub(r'[^A-Za-z0-9._-]', '_', source.model)}"


def _stamp(source: SharedBank) -> str:
    return str(int(source.ended.timestamp()))


def _result_id(metric_name: str) -> str:
    return metric_name.replace("@", "_at_")


def _aggregate(source: SharedBank, model: str, evaluation: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation,
        "evaluation_timestamp": source.ended.isoformat(),
        "retrieved_timestamp": _stamp(source),
        "source_metadata": {
            "source_name": "ponder", "source_type": "evaluation_run", "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "ponder", "version": __version__},
        "model_info": {
            "name": source.model, "id": model, "developer": model.split("/")[0],
            "additional_details": {
                "deployment_type": "self_deployed" if source.bank.spec.fingerprint else "unknown",
                "model_availability": "unknown", "fingerprint": source.bank.spec.fingerprint,
            },
        },
        "evaluation_results": [_result(source, metric) for metric in source.metrics()],
        "detailed_evaluation_results": dict(detail),
    }  # fmt: skip


def _result(source: SharedBank, metric: Metric) -> dict[str, Any]:
    found, params = metric.estimate, source.bank.spec.params
    error = {} if math.isnan(metric.standard_error) else {"standard_error": {"value": metric.standard_error}}
    what = "at least one of k samples is correct" if metric.kind == "pass" else "the vote of k samples is correct"
    return {
        "evaluation_result_id": _result_id(metric.name),
        "evaluation_name": source.task,
        "source_data": _source_data(source),
        "metric_config": {
            "evaluation_description": f"{what}: the exact average over all subsets of k of the stored samples",
            "metric_id": metric.name, "metric_name": metric.name,
            "metric_kind": "pass_rate" if metric.kind == "pass" else "majority_vote", "metric_unit": "proportion",
            "metric_parameters": {"k": metric.k}, "lower_is_better": False, "score_type": "continuous",
            "min_score": 0, "max_score": 1,
        },
        "score_details": {
            "score": found.value,
            "details": {"samples_per_problem": str(source.summary.num_samples)},
            "uncertainty": {
                "confidence_interval": {"lower": found.low, "upper": found.high, "confidence_level": 0.95,
                                        "method": INTERVAL},
                "num_samples": source.summary.num_problems, **error,
            },
        },
        "generation_config": {
            "generation_args": {
                "temperature": params.temperature, "top_p": params.top_p, "reasoning": params.max_reasoning_tokens > 0,
                **({"max_tokens": params.max_tokens} if params.max_tokens else {}),
            },
            "additional_details": _texts(source.facts()),
        },
    }  # fmt: skip


def _source_data(source: SharedBank) -> dict[str, Any]:
    """Where the problems came from: a data set of the hub where all of them did."""
    rows = source.result.data if source.result else ()
    name = source.task
    hubs = {str(row["hub"]).rsplit("/", 2)[0] for row in rows if row.get("hub")}
    if len(hubs) == 1 and all(row.get("hub") for row in rows):
        return {
            "dataset_name": name, "source_type": "hf_dataset", "hf_repo": hubs.pop(),
            "hf_split": str(rows[0]["hub"]).rsplit("/", 1)[1], "samples_number": source.summary.num_problems,
        }  # fmt: skip
    hashes = ", ".join(str(row["sha256"]) for row in rows if row.get("sha256"))
    details = _texts({"problems": source.summary.num_problems, "sha256": hashes})
    return {"dataset_name": name, "source_type": "other", "additional_details": details}


def _sample(source: SharedBank, problem: Problem, row: SampleRow, model: str, evaluation: str) -> dict[str, Any]:
    correct = row.outcome == "correct"
    asked = problem.text + problem.target
    formatted = "\n\n".join(f"{message.role}: {message.content}" for message in problem.prompt)
    reference = [problem.target] if problem.target else []
    trace = {"reasoning_trace": [row.reasoning]} if row.reasoning else {}
    answers = [] if row.extracted is None else [{
        "turn_idx": 0, "source": "output.raw", "extracted_value": row.extracted, "is_terminal": True,
        "extraction_method": f"ponder verifier {source.verifier}".rstrip(),
    }]  # fmt: skip
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation,
        "model_id": model,
        "evaluation_name": source.task,
        "evaluation_result_id": _result_id("pass@1"),
        "sample_id": problem.id,
        "sample_hash": hashlib.sha256(asked.encode(errors="backslashreplace")).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": problem.text, "formatted": formatted if len(problem.prompt) > 1 else None,
                  "reference": reference, "choices": list(problem.choices) or None},
        "output": {"raw": [row.answer], **trace},
        "messages": None,
        "answer_attribution": answers,
        "evaluation": {"score": float(correct), "is_correct": correct, "num_turns": 1},
        "token_usage": {
            "input_tokens": row.prompt_tokens, "output_tokens": row.tokens,
            "total_tokens": row.prompt_tokens + row.tokens, "reasoning_tokens": row.reasoning_tokens,
        },
        "error": row.error,
        "metadata": _texts({
            "sample": row.sample, "outcome": row.outcome, "class": row.answer_class, "level": problem.level,
            "subject": problem.subject, "finish_reason": row.finish_reason, "note": row.note,
        }),
    }  # fmt: skip


def _texts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Values as the schema has them: texts; what is not known is left out."""
    known = {name: value for name, value in facts.items() if value not in (None, "") and value == value}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}
